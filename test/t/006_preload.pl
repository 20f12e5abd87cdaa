# Where the library is loaded from, and servers that are not to be written to: without
# shared_preload_libraries, on a hot standby, in read-only transactions; and what the server log says
# of a job function that fails.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my ($status, $out, $err);

# ---- without shared_preload_libraries ----

my $node = PostgreSQL::Test::Cluster->new('preload');
$node->init(allows_streaming => 1);
$node->start;
create_app($node, $db, 30);
is(doctor_status('preload'), 'warning', 'not preloaded: the doctor warns');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, $db), '', 'not preloaded: the job works');
# the setting is known as soon as the library is there
is( $node->safe_psql($db, "SET challenge_jobs.lock_timeout = '7s'; SELECT count(*) FROM auto_complete_challenges(); SHOW challenge_jobs.lock_timeout"),
	"1\n7s",
	'not preloaded: a setting that was made before the library came is taken over');
($status, $out, $err) = $node->psql($db,
	"SET challenge_jobs.lock_timeout = 'soon'; SELECT count(*) FROM auto_complete_challenges(); SHOW challenge_jobs.lock_timeout");
like($err, qr/WARNING:  invalid value for parameter "challenge_jobs\.lock_timeout": "soon"/,
	'not preloaded: one that makes no sense is reported');
is($out, "1\n5s", 'a setting that makes no sense leaves the default in place');

# ---- preloaded ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'challenge_jobs'\n");
$node->restart;
is(doctor_status('preload'), 'ok', 'preloaded: the doctor is content');
is($node->safe_psql($db, 'SHOW challenge_jobs.lock_timeout'), '5s', 'preloaded: the setting is there');
($status, $out, $err) = $node->psql($db, "SET challenge_jobs.lock_timeuot = '1s'");
like($err, qr/ERROR:  invalid configuration parameter name "challenge_jobs\.lock_timeuot"/,
	'preloaded: a setting that does not exist is refused');

# ---- the log of a failing job function ----

$node->safe_psql($db, <<'SQL');
UPDATE challenges SET status = 'active';
TRUNCATE notifications, decision;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the app refuses' USING errcode = 'P0042', detail = 'a detail', hint = 'a hint'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
my $swallow = <<'SQL';
DO $$
BEGIN
    PERFORM auto_complete_challenges();
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'swallowed';
END $$
SQL
my $logged = log_of($swallow);
like(
	$logged,
	qr/LOG:  challenge_jobs: job "$JOB" failed: the app refuses\n.*DETAIL:  a detail\n.*HINT:  a hint\n.*CONTEXT:  .*refuse\(\).*challenge_jobs job "$JOB" \(function\)/s,
	'a job function that fails stands in the log, with all there is to know, though the caller swallows the error');
unlike($logged, qr/ERROR:/, 'once, and not as an error of the statement, which has succeeded');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');

# A call that is refused says nothing about the job; what else goes wrong before it begins is a failure.
$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', enabled => false)");
unlike(log_of($swallow), qr/job "$JOB" failed/, 'a call that is refused, as the job is disabled, is logged as no failure');
$node->safe_psql($db, "SELECT challenge_jobs.reset_job('$JOB')");
$node->safe_psql($db, 'ALTER TABLE notifications RENAME TO messages');
like(log_of($swallow), qr/LOG:  challenge_jobs: job "$JOB" failed: .*relation public\.notifications does not exist/,
	'a job function that does not find its tables stands in the log');
$node->safe_psql($db, 'ALTER TABLE messages RENAME TO notifications');
my $busy = $node->background_psql($db);
$busy->query_safe('BEGIN; SELECT * FROM auto_complete_challenges()');
unlike(log_of($swallow), qr/job "$JOB" failed/, 'nor one that finds the job running');
$busy->query_safe('ROLLBACK');
$busy->quit;

# ---- read-only transactions, and a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);

my $dry = 'SELECT * FROM auto_complete_challenges(dry_run => true)';
my $figures = $node->safe_psql($db, $dry);
is($figures, '10|20|90|0|0|0|0', 'the figures of a dry run');
foreach my $case (
	[ 'a read-only transaction', $node, 'BEGIN READ ONLY; ', '; COMMIT' ],
	[ 'a session that is read-only', $node, 'SET default_transaction_read_only = on; ', '' ],
	[ 'a hot standby', $standby, '', '' ],
	[ 'a transaction of a hot standby', $standby, 'BEGIN; ', '; COMMIT' ])
{
	my ($name, $server, $begin, $end) = @$case;

	is($server->safe_psql($db, "$begin$dry$end"), $figures, "$name: a dry run gives the same figures");
	($status, $out, $err) = $server->psql($db, "${begin}SELECT * FROM auto_complete_challenges()$end");
	like($err, qr/ERROR:  cannot execute auto_complete_challenges(\(\))? in a read-only transaction/,
		"$name: the job function says that it cannot");
}
foreach my $case ([ 'a session that is read-only', $node, 'SET default_transaction_read_only = on' ],
	[ 'a hot standby', $standby, 'SELECT 1' ])
{
	my ($name, $server, $begin) = @$case;

	($status, $out, $err) = $server->psql($db, '',
		extra_params => [ '-c', $begin, '-c', "CALL challenge_jobs.run('$JOB')" ]);
	like($err, qr/ERROR:  cannot execute CALL challenge_jobs\.run\(\) in a read-only transaction/,
		"$name: run() says that it cannot");
}
is( $standby->safe_psql($db, "SELECT count(*) FROM challenge_jobs.doctor() WHERE status = 'error'"),
	'0', 'a hot standby: the doctor can be asked');
is($standby->safe_psql($db, "SELECT count(*) FROM pg_locks WHERE locktype = 'object'"),
	'0', 'a hot standby: no lock is left');

# A dry run is no run: it is recorded as what it is, and counts for nothing.
is(last_run($node, $db, 'status, dry_run'), 'succeeded|t', 'the dry run on the primary is recorded as one');

# After promotion it is a server like any other.
$standby->promote;
$standby->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($standby, $db), '', 'after its promotion the standby does the work');

foreach my $server ($node, $standby)
{
	$server->stop;
	check_log($server);
}
done_testing();

# ---- parts ----

# Runs a statement and returns what the server has logged meanwhile, statements left out.
sub log_of
{
	my ($statement) = @_;
	my $offset = -s $node->logfile;

	$node->safe_psql($db, "SET log_statement = 'none'; $statement");
	return slurp_file($node->logfile, $offset);
}
