# Schedules kept by a real pg_cron, and runs that it fires by itself, in both of its modes: over
# connections and in background workers; in its own database and in others of the same server.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $home = 'postgres';
my %nodes;

# One server for each mode, both waiting for the same minute.
foreach my $mode ('off', 'on')
{
	my $node = PostgreSQL::Test::Cluster->new("pg_cron_$mode");

	$node->init;
	# pg_cron connects like any client: by the socket, as there is nothing else
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron, challenge_jobs'
cron.database_name = '$home'
cron.use_background_workers = $mode
cron.host = '@{[ $node->host ]}'
max_worker_processes = 20
CONF
	plan skip_all => 'pg_cron is not installed'
	  unless -f $node->config_data('--sharedir') . '/extension/pg_cron.control';
	$node->start;
	$nodes{$mode} = $node;
}

my $node = $nodes{off};

# ---- before pg_cron is there ----

create_app($node, $home, 30);
my ($status, $out, $err) = $node->psql($home, "SELECT challenge_jobs.schedule('$JOB')");
like(
	$err,
	qr/ERROR:  extension "pg_cron" is not installed in this database\nHINT:  Run: CREATE EXTENSION pg_cron;/,
	'without the extension pg_cron, schedule() says what to type');
is( $node->safe_psql($home, 'SELECT count(*) FROM challenge_jobs.job_override WHERE engine IS NOT NULL'),
	'0', 'and has scheduled nothing');

# ---- schedules ----

$node->safe_psql($home, 'CREATE EXTENSION pg_cron');
is( $node->safe_psql($home, "SELECT * FROM challenge_jobs.schedule('$JOB')"),
	"$JOB|pg_cron|0 0 * * *|CALL challenge_jobs.run('$JOB', 'pg_cron')",
	'schedule() says what it has scheduled');
my $job =
  'SELECT jobname, schedule, command, database, username = current_user, active FROM cron.job';
my $line = "challenge_jobs:$JOB|%s|CALL challenge_jobs.run('$JOB', 'pg_cron')|$home|t|%s";
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'there is a cron job for it');

my $id = $node->safe_psql($home, 'SELECT jobid FROM cron.job');
my $scheduled_at = "SELECT scheduled_at FROM challenge_jobs.job WHERE job = '$JOB'";
my $since = $node->safe_psql($home, $scheduled_at);
$node->safe_psql($home, "SELECT challenge_jobs.schedule('$JOB', 'pg_cron')");
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'schedule() again: still one');
is( $node->safe_psql($home, 'SELECT jobid FROM cron.job'), $id, 'and it is the same one');
is( $node->safe_psql($home, $scheduled_at),
	$since, 'and scheduled since the first time');

$node->safe_psql($home, <<'SQL');
CREATE ROLE operator LOGIN;
GRANT USAGE ON SCHEMA challenge_jobs TO operator;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA challenge_jobs TO operator;
SQL
$node->safe_psql($home, "SELECT challenge_jobs.schedule('$JOB')", extra_params => [ '-U', 'operator' ]);
is( $node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'),
	'another role that calls schedule() makes no second cron job, though it has no right on cron.job');

$node->safe_psql($home, "SELECT challenge_jobs.alter_job('$JOB', schedule => '5 1 * * 1')");
is($node->safe_psql($home, $job), sprintf($line, '5 1 * * 1', 't'), 'alter_job moves the cron job');
$node->safe_psql($home, "SELECT challenge_jobs.alter_job('$JOB', enabled => false)");
is( $node->safe_psql($home, $job), sprintf($line, '5 1 * * 1', 'f'),
	'a disabled job has a cron job that is not active');
($status, $out, $err) = $node->psql($home, "CALL challenge_jobs.run('$JOB')");
is($status, 0, 'run() of a disabled job is no error');
is(last_run($node, $home, 'status, message'), 'skipped|the job is disabled', 'a cron job that fires a disabled job leaves a row of status skipped');
$node->safe_psql($home, "SELECT challenge_jobs.alter_job('$JOB', max_retries => 7)");
is($node->safe_psql($home, $job), sprintf($line, '5 1 * * 1', 'f'), 'it stays so with other changes');
$node->safe_psql($home, "SELECT challenge_jobs.reset_job('$JOB')");
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'reset_job resets the cron job');

$node->safe_psql($home, "BEGIN; SELECT challenge_jobs.alter_job('$JOB', schedule => '1 1 1 1 *'); ROLLBACK");
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'what is rolled back leaves no trace');

is( doctor($node, $home, "schedule:$JOB"), 'ok', 'the doctor is content');
$node->safe_psql($home, "SELECT cron.alter_job($id, schedule => '0 12 * * *')");
is(doctor($node, $home, "schedule:$JOB"), 'error', 'a cron job changed by hand: the doctor sees it');
mend($node, $home, "schedule:$JOB");
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'and what it says mends it');
$node->safe_psql($home, "SELECT cron.unschedule($id)");
is(doctor($node, $home, "schedule:$JOB"), 'error', 'a cron job removed by hand: the doctor sees it');
mend($node, $home, "schedule:$JOB");
is($node->safe_psql($home, $job), sprintf($line, '0 0 * * *', 't'), 'and what it says mends it');

is( $node->safe_psql($home, "SELECT job, engine FROM challenge_jobs.schedule('$JOB', 'external')"),
	"$JOB|external", 'a job can be handed to something outside');
is($node->safe_psql($home, 'SELECT count(*) FROM cron.job'), '0', 'then the cron job goes');
$node->safe_psql($home, "SELECT challenge_jobs.schedule('$JOB', 'pg_cron')");
is( $node->safe_psql($home, 'SELECT * FROM challenge_jobs.unschedule()'),
	"$JOB|pg_cron", 'unschedule() says what it has ended');
is($node->safe_psql($home, 'SELECT count(*) FROM cron.job'), '0', 'and removes the cron job');
is($node->safe_psql($home, 'SELECT * FROM challenge_jobs.unschedule()'), '', 'a second unschedule() finds nothing to remove');
is( $node->safe_psql($home, "SELECT bool_and(engine IS NULL AND scheduled_at IS NULL) FROM challenge_jobs.job"),
	't', 'the job is not scheduled any more');

# Without an argument: all jobs, each with a cron job of its own.
is( $node->safe_psql($home, 'SELECT count(*) FROM challenge_jobs.schedule()'),
	$node->safe_psql($home, 'SELECT count(*) FROM challenge_jobs.job'),
	'schedule() schedules every job');
is( $node->safe_psql($home, <<'SQL'), '', 'each with a cron job that calls it when it is due');
SELECT j.job
  FROM challenge_jobs.job j
  FULL JOIN cron.job c
    ON c.jobname = 'challenge_jobs:' || j.job
   AND c.schedule = j.schedule
   AND c.command = format('CALL challenge_jobs.run(%L, %L)', j.job, 'pg_cron')
 WHERE j.job IS NULL OR c.jobname IS NULL
SQL
is( $node->safe_psql($home, 'SELECT count(*) FROM challenge_jobs.unschedule()'),
	$node->safe_psql($home, 'SELECT count(*) FROM challenge_jobs.job'),
	'and unschedule() ends them all');

# A cron job of the same name that belongs to someone else is not ours to touch.
$node->safe_psql($home, "GRANT USAGE ON SCHEMA cron TO operator");
$node->safe_psql($home, "SELECT cron.schedule('challenge_jobs:$JOB', '1 1 1 1 *', 'SELECT 1')",
	extra_params => [ '-U', 'operator' ]);
$node->safe_psql($home, "SELECT challenge_jobs.schedule('$JOB'); SELECT challenge_jobs.unschedule()");
is( $node->safe_psql($home, 'SELECT username, schedule FROM cron.job'),
	'operator|1 1 1 1 *', 'the cron job of another role is left alone');
$node->safe_psql($home, 'DELETE FROM cron.job');

# ---- runs that pg_cron fires ----

# In each mode: the home of pg_cron; another database, by the statement of the hint; and a database
# whose app has lost a table, where the run must fail. A name that has to be quoted is one of them.
my ($other, $broken) = ("the app's \"own\"", 'broken');
foreach my $mode ('off', 'on')
{
	my $n = $nodes{$mode};

	if ($mode eq 'on')
	{
		$n->safe_psql($home, 'CREATE EXTENSION pg_cron');
		create_app($n, $home, 30);
	}
	foreach my $database ($other, $broken)
	{
		(my $quoted = $database) =~ s/"/""/g;
		$n->safe_psql($home, qq(CREATE DATABASE "$quoted"));
		create_app($n, $database, 30);
	}
	$n->safe_psql($broken, 'DROP TABLE notifications');
	set_batch_size($n, $_, 10) foreach ($home, $other);
	foreach my $database ($home, $other, $broken)
	{
		$n->safe_psql($database, "SELECT challenge_jobs.alter_job('$JOB', schedule => '* * * * *')");
	}

	foreach my $database ($other, $broken)
	{
		($status, $out, $err) = $n->psql($database, "SELECT challenge_jobs.schedule('$JOB')");
		like(
			$err,
			qr/ERROR:  pg_cron is installed in database "$home", not in this one/,
			"$mode, $database: schedule() in another database says where pg_cron is");
		my ($statement) = $err =~ /^HINT:  Run: (.*)$/m;
		$n->safe_psql($home, $statement);
		is( $n->safe_psql($home, 'SELECT database FROM cron.job ORDER BY jobid DESC LIMIT 1'),
			$database, "$mode, $database: the statement of its hint can be typed there");
		$n->safe_psql($database, "SELECT challenge_jobs.schedule('$JOB', 'external')");
	}
	# the refresh first, so that pg_cron has no reason to fire it last
	$n->safe_psql($home, <<"SQL");
SELECT challenge_jobs.alter_job('refresh_challenge_stats', schedule => '* * * * *');
SELECT challenge_jobs.schedule('refresh_challenge_stats');
SELECT challenge_jobs.schedule('$JOB');
SQL
}
foreach my $mode ('off', 'on')
{
	my $n = $nodes{$mode};

	foreach my $database ($home, $other)
	{
		ok( $n->poll_query_until(
				$database,
				"SELECT count(*) >= 1 FROM challenge_jobs.job_run WHERE triggered_by = 'pg_cron' AND status = 'succeeded'"
			),
			"$mode, $database: pg_cron has fired the run");
		is(undone_work($n, $database), '', "$mode, $database: which did everything, once");
	}
	ok( $n->poll_query_until($broken,
			"SELECT count(*) >= 1 FROM challenge_jobs.job_run WHERE triggered_by = 'pg_cron' AND status = 'failed'"
		),
		"$mode: pg_cron has fired the run that must fail");
	ok( $n->poll_query_until(
			$home, <<"SQL", 't|t|t'), "$mode: pg_cron has seen two succeed and one fail");
SELECT bool_and(status = 'succeeded') FILTER (WHERE database = '$home'),
       bool_and(status = 'succeeded') FILTER (WHERE database LIKE 'the app%'),
       bool_and(status = 'failed') FILTER (WHERE database = '$broken')
  FROM cron.job_run_details
SQL
	like(
		$n->safe_psql($home,
			"SELECT DISTINCT return_message FROM cron.job_run_details WHERE database = '$broken'"),
		qr/relation public\.notifications does not exist/,
		"$mode: and knows why");
	is( $n->safe_psql($broken,
			"SELECT DISTINCT sqlstate, role_name = current_user FROM challenge_jobs.job_run"),
		'42P01|t',
		"$mode: as does the run's row");
	is( $n->safe_psql($broken, "SELECT DISTINCT status FROM challenges"),
		'active', "$mode: the failing run has decided nothing");
	is(doctor($n, $home, "schedule:$JOB"), 'ok', "$mode: the doctor is content");
	ok( $n->poll_query_until($home,
			"SELECT count(*) >= 1 FROM challenge_jobs.job_run WHERE job = 'refresh_challenge_stats' AND triggered_by = 'pg_cron' AND status = 'succeeded'"),
		"$mode: pg_cron has fired the refresh");
	is( $n->safe_psql($home, <<"SQL"), 't', "$mode: which has waited for the run that decides in the same minute");
SELECT bool_and(r.started_at >= a.finished_at)
  FROM challenge_jobs.job_run r
  JOIN challenge_jobs.job_run a
    ON a.job = '$JOB' AND date_trunc('minute', a.started_at) = date_trunc('minute', r.started_at)
 WHERE r.job = 'refresh_challenge_stats'
SQL
	test_prune($n, $mode);
}

foreach my $n (values %nodes)
{
	$n->stop;
	check_log($n);
}
done_testing();

# ---- parts ----

# The clean-up removes pg_cron's records of our cron jobs, and no others, where the setting says so.
sub test_prune
{
	my ($n, $mode) = @_;
	my $clean = 'cleanup_expired_notifications';
	my $records = "SELECT count(*) FILTER (WHERE jobid IN (SELECT jobid FROM cron.job WHERE jobname = 'challenge_jobs:$JOB')) > 0, count(*) FILTER (WHERE command = 'SELECT 1') FROM cron.job_run_details";

	$n->safe_psql($home, <<"SQL");
INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time, end_time)
SELECT 4711, 1000000 + i, '$home', current_user, 'SELECT 1', 'succeeded', '2020-01-01', '2020-01-01' FROM generate_series(1, 3) i;
INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time)
SELECT jobid, 2000000 + i, '$home', current_user, 'SELECT 2', 'failed', '2020-01-01' FROM cron.job, generate_series(1, 5) i
 WHERE jobname = 'challenge_jobs:$JOB';
SELECT challenge_jobs.alter_job('$clean', settings => '{"run_retention": "0", "batch_size": 2}');
CALL challenge_jobs.run('$clean');
SQL
	is($n->safe_psql($home, $records), 't|3', "$mode: pg_cron's records are not pruned without being asked to");
	$n->safe_psql($home,
		qq(SELECT challenge_jobs.alter_job('$clean', settings => '{"prune_cron_history": true}')));
	is(doctor($n, $home, 'prune_cron_history'), 'ok', "$mode: the doctor says that they can be");
	$n->safe_psql($home, "CALL challenge_jobs.run('$clean')");
	is($n->safe_psql($home, $records), 'f|3', "$mode: ours are pruned, and no others");
	is( $n->safe_psql($home,
			"SELECT (result->'cron_runs')::int >= 6 FROM challenge_jobs.job_run WHERE job = '$clean' ORDER BY run_id DESC LIMIT 1"
		),
		't',
		"$mode: the run says how many");
	return;
}

# Returns what the doctor says of something: its status.
sub doctor
{
	my ($n, $database, $check) = @_;

	return $n->safe_psql($database,
		qq(SELECT status FROM challenge_jobs.doctor() WHERE check_name = '$check'));
}

# Types what the doctor says would mend something.
sub mend
{
	my ($n, $database, $check) = @_;

	$n->safe_psql(
		$database,
		$n->safe_psql($database,
			qq(SELECT remedy FROM challenge_jobs.doctor() WHERE check_name = '$check')));
	return;
}
