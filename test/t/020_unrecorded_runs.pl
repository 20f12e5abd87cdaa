# Job functions that fail, or whose work is rolled back by the caller: the row is written all the same, by the
# worker, with what is to be known of the run. Nobody waits for that, and the caller's error stays as it is.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $function = 'SELECT * FROM auto_complete_challenges()';
my ($status, $out, $err);

# With a nap of a day, whatever is written soon is written because the worker was woken.
my $node = create_node('unrecorded_runs', <<'CONF');
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1d'
max_prepared_transactions = 2
log_statement = none
CONF
create_app($node, $db, 30);
$node->safe_psql($db, 'CREATE ROLE "Gül" SUPERUSER');
# the extension was made after the first look at the database
$node->reload;
$node->wait_for_log(qr/challenge_jobs: database "postgres" is being served/);

# ---- failures ----

# What a failing job function raises, and what is recorded of it.
$node->safe_psql($db, <<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the app refuses' USING errcode = 'P0042', detail = 'a detail', hint = 'a hint'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
($status, $out, $err) = $node->psql($db, $function, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($err, qr/ERROR:  P0042: the app refuses\nDETAIL:  a detail\n.*HINT:  a hint\n/s, 'the error of the job function is the app\'s');
is( rows("status, sqlstate, message, split_part(detail, E'\\n', 1), hint, context LIKE '%refuse()%', triggered_by, role_name = current_user, finished_at >= started_at AND finished_at < now() AND started_at > now() - interval '5 min'"),
	'failed|P0042|the app refuses|a detail|a hint|t|function|t|t',
	'a job function that failed has its row, with all there is to know, at the time at which it failed');

$out = $node->safe_psql($db, "SET ROLE \"Gül\"; SELECT pg_backend_pid(); DO \$\$ BEGIN PERFORM auto_complete_challenges(); EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'swallowed'; END \$\$");
is(rows('status, sqlstate, role_name, pid'), "failed|P0042|Gül|$out", 'so has one whose error the caller swallows: role and process are the caller\'s');
($status, $out, $err) = $node->psql($db, "BEGIN; SAVEPOINT a; $function", on_error_stop => 1);
is(rows('status, message'), 'failed|the app refuses', 'and one in a transaction that then breaks off');

# Texts are cut to fit between two characters, not inside of one.
$node->safe_psql($db, <<'SQL');
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING message = 'x' || repeat('ü', 5000), detail = repeat('€', 5000), hint = repeat('𝄞', 5000); END $$;
SQL
$node->psql($db, $function);
is( rows("message = 'x' || repeat('ü', 511), detail = repeat('€', 341), hint = repeat('𝄞', 127)"),
	't|t|t', 'long texts are cut between two characters');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');

# What is not about the job is no failure of it, and leaves no row: it is counted by role and SQLSTATE. One line of the log
# says so, and none that the job has failed.
sub refused
{
	my ($sqlstate) = @_;

	$node->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.refusal WHERE sqlstate = '$sqlstate'")
	  or die "calls refused with $sqlstate are not written";
	return $node->safe_psql($db, "SELECT job, role_name = current_user, calls, message, last_at >= first_at FROM challenge_jobs.refusal WHERE sqlstate = '$sqlstate'");
}
my $runs;
my $log = -s $node->logfile;
$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', enabled => false)");
$node->psql($db, $function);
is(refused('55000'), "$JOB|t|1|job \"$JOB\" is disabled|t", 'a job function of a disabled job is counted as refused');
$node->safe_psql($db, "SELECT challenge_jobs.reset_job('$JOB')");
my $busy = $node->background_psql($db);
$busy->query_safe("BEGIN; $function");
$node->psql($db, $function);
is(refused('55P03'), "$JOB|t|1|job \"$JOB\" is running in another session|t", 'so is one whose job is running elsewhere');
$busy->query_safe('ROLLBACK');
$busy->quit;
is(rows('status, rows_affected, (result->>\'notified\')::int, message'),
	'rolled_back|120|90|the caller rolled back the work of the job function', 'a job function that was rolled back is recorded, with its figures');
$node->psql($db, "SELECT * FROM auto_complete_challenges(as_of => '2999-01-01', dry_run => false)");
is(refused('22023'), "$JOB|t|1|as_of is in the future|t", 'so is a job function with a wrong argument');
$node->psql($db, "SET default_transaction_read_only = on; $function");
like(refused('25006'), qr/^$JOB\|t\|1\|/, 'and one in a read-only transaction');
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_run'), '0', 'none of them has a row');
my $lines_of_refusals = slurp_file($node->logfile, $log);
is(scalar(() = $lines_of_refusals =~ /calls of job "$JOB" by role ".*" are being refused/g), 4, 'each kind is logged when it begins');
unlike($lines_of_refusals, qr/job "$JOB" failed/, 'and not as a failure');

# A flood of refused calls is counted to the last one, and no failure is lost with it.
$node->safe_psql($db, <<'SQL');
CREATE FUNCTION flood() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 5000 LOOP
        BEGIN
            PERFORM auto_complete_challenges(as_of => 'infinity');
        EXCEPTION WHEN invalid_parameter_value THEN NULL;
        END;
    END LOOP;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
$log = -s $node->logfile;
my @floods = map { start_sql($node, $db, 'SELECT 1', 'SELECT flood()') } 1 .. 2;
$runs = $node->safe_psql($db, "SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'failed'");
$node->psql($db, $function) for 1 .. 8;
finish_sql($_) for @floods;
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');
$node->poll_query_until($db, "SELECT count(*) = $runs + 8 FROM challenge_jobs.job_run WHERE status = 'failed'")
  or die 'failures are lost';
pass('8 of 8 failures are recorded beside 10,000 refused calls');
is(scalar(() = slurp_file($node->logfile, $log) =~ /are being refused/g), 0, 'a kind that goes on is not logged again');
# what came in last is written at the next look
$node->poll_query_until($db, "SELECT sum(calls) = 10001 FROM challenge_jobs.refusal, pg_reload_conf() WHERE sqlstate = '22023'")
  or die 'refused calls are not counted: ' . $node->safe_psql($db, 'SELECT * FROM challenge_jobs.refusal');
pass('all of the refused calls are counted');

# ---- rolled back by the caller ----

# Each: what is done, and what comes of the job functions in it. Challenges are due again each time.
my @cases = (
	[ 'commit', "BEGIN; $function; COMMIT", 'succeeded' ],
	[ 'rollback', "BEGIN; $function; ROLLBACK", 'rolled_back' ],
	[ 'two job functions, rollback', "BEGIN; $function; $function; ROLLBACK", 'rolled_back rolled_back' ],
	[ 'rollback to a savepoint', "BEGIN; SAVEPOINT a; $function; ROLLBACK TO a; COMMIT", 'rolled_back' ],
	[ 'a savepoint that is released', "BEGIN; SAVEPOINT a; $function; RELEASE a; COMMIT", 'succeeded' ],
	[ 'a savepoint that is released, then rollback', "BEGIN; SAVEPOINT a; $function; RELEASE a; ROLLBACK", 'rolled_back' ],
	[ 'released into one that is rolled back', "BEGIN; SAVEPOINT a; SAVEPOINT b; $function; RELEASE b; ROLLBACK TO a; COMMIT", 'rolled_back' ],
	[ 'a savepoint after the job function', "BEGIN; $function; SAVEPOINT a; SELECT 1; ROLLBACK TO a; COMMIT", 'succeeded' ],
	[ 'before and in a savepoint', "BEGIN; $function; SAVEPOINT a; $function; ROLLBACK TO a; COMMIT", 'succeeded rolled_back' ],
	[ 'an error after the job function', "BEGIN; $function; SELECT 1/0; COMMIT", 'rolled_back' ],
	[ 'an error in the same statement', 'SELECT completed / (completed - completed) FROM auto_complete_challenges()', 'rolled_back' ],
	[ 'a dry run', "BEGIN; SELECT * FROM auto_complete_challenges(dry_run => true); ROLLBACK", '' ],
	[ 'prepare and commit', "BEGIN; $function; PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'", 'succeeded' ],
	# nobody is notified of that; README says so
	[ 'prepare and roll back', "BEGIN; $function; PREPARE TRANSACTION 'x'; ROLLBACK PREPARED 'x'", '' ],
	[ 'prepare, then a rollback', "BEGIN; $function; PREPARE TRANSACTION 'x'; BEGIN; SELECT 1; ROLLBACK; ROLLBACK PREPARED 'x'", '' ]);
foreach my $case (@cases)
{
	my ($name, $statements, $expected) = @$case;

	make_due();
	# psql sends what -c is given in one transaction
	$node->psql($db, '', extra_params => [ map { ('-c', $_) } split /; /, $statements ], on_error_stop => 0);
	# what is pushed later is written later
	$node->psql($db, 'BEGIN; SELECT * FROM cleanup_expired_notifications(); ROLLBACK');
	$node->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE job = 'cleanup_expired_notifications'")
	  or die "$name: the worker does not write";
	is( $node->safe_psql($db, "SELECT coalesce(string_agg(status, ' ' ORDER BY started_at), '') FROM challenge_jobs.job_run WHERE job = '$JOB'"),
		$expected, $name);
}

# ---- the session ends ----

make_due();
$node->safe_psql($db, 'INSERT INTO stall VALUES (5)');
my $holder = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", $function);
wait_for_stall($node, $db) or die 'the job function has not come to the stall';
$node->safe_psql($db, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
finish_sql($run);
is(rows('status, message'), 'crashed|the session ended while the job function was running',
	'a job function whose session is terminated in the middle is recorded');
$holder->quit;
$node->safe_psql($db, 'TRUNCATE stall');

make_due();
my $gone = $node->background_psql($db);
$gone->query_safe("BEGIN; $function");
my $pid = $gone->query_safe('SELECT pg_backend_pid()');
$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
is(rows("status, pid = $pid"), 'rolled_back|t', 'a job function whose session ends before the commit is recorded as rolled back');
eval { $gone->quit };

# ---- databases that are not served ----

$node->safe_psql($db, 'CREATE DATABASE other');
create_app($node, 'other', 3);
use_app($node, $db);
$node->psql('other', "SELECT * FROM auto_complete_challenges(as_of => 'infinity')");
is($node->safe_psql('other', q(SELECT status FROM challenge_jobs.doctor() WHERE check_name = 'worker')),
	'warning', 'the doctor says that a database is not served');
$node->safe_psql('other', $node->safe_psql('other', q(SELECT split_part(remedy, ';', 1) FROM challenge_jobs.doctor() WHERE check_name = 'worker')));
$node->reload;
$node->wait_for_log(qr/challenge_jobs: database "other" is being served/);
is($node->safe_psql('other', q(SELECT status FROM challenge_jobs.doctor() WHERE check_name = 'worker')),
	'ok', 'what the doctor says to type is right');
is($node->safe_psql('other', 'SELECT count(*) FROM challenge_jobs.refusal'), '0',
	'what failed in a database before it was served is not recorded');
$node->psql('other', "SELECT * FROM auto_complete_challenges(as_of => 'infinity')");
$node->poll_query_until('other', 'SELECT count(*) = 1 FROM challenge_jobs.refusal')
  or die 'the second database is not served';
$node->safe_psql($db, 'ALTER SYSTEM RESET challenge_jobs.databases');
$node->reload;

# ---- a row that cannot be written keeps none of the others waiting ----

make_due();
$node->safe_psql($db, <<'SQL');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.role_name = 'Gül' THEN RAISE EXCEPTION 'poison %', clock_timestamp(); END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE INSERT ON challenge_jobs.job_run FOR EACH ROW EXECUTE FUNCTION poison();
ALTER TABLE challenges RENAME TO challenges_away;
SQL
my $offset = -s $node->logfile;
$node->psql($db, "SET ROLE \"Gül\"; $function");
$node->wait_for_log(qr/challenge_jobs: background task "write unrecorded runs" failed in database "postgres": poison/, $offset);
foreach my $i (1 .. 7)
{
	$node->psql($db, $function);
	$node->poll_query_until($db, "SELECT count(*) = $i FROM challenge_jobs.job_run")
	  or die 'the row that cannot be written keeps others waiting';
}
$node->poll_query_until($db, q(SELECT finding LIKE '1 job functions %' FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs'))
  or die 'the row that cannot be written is not given up';
pass('a row that cannot be written keeps no other waiting, is given up after some attempts, and counted');
$node->psql($db, $function);
$node->wait_for_log(qr/challenge_jobs: background task "write unrecorded runs" works again in database "postgres"/, $offset);
is(scalar(() = slurp_file($node->logfile, $offset) =~ /"write unrecorded runs" failed/g), 1,
	'and that is logged once, though its text was another one each time');
$node->safe_psql($db, 'DROP TRIGGER poison ON challenge_jobs.job_run; ALTER TABLE challenges_away RENAME TO challenges');

# ---- a burst ----

# While the worker is held up, the ring fills; what does not fit is counted.
make_due();
$node->safe_psql($db, 'ALTER TABLE challenges RENAME TO challenges_away');
$node->restart;
$node->poll_query_until($db, q(SELECT status = 'ok' FROM challenge_jobs.doctor() WHERE check_name = 'worker'));
# what waited to be recorded before the restart may have been written until then
$node->safe_psql($db, 'TRUNCATE challenge_jobs.job_run');
$offset = -s $node->logfile;
my $session = $node->background_psql($db);
$session->query_safe("SET log_min_messages = 'fatal'");
$pid = $session->query_safe('SELECT pg_backend_pid()');
my $fail = q(DO $$ BEGIN FOR i IN 1 .. %d LOOP BEGIN PERFORM auto_complete_challenges(); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$);
# Without the launcher no worker starts, however fast it would be.
my $launcher = $node->safe_psql($db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'");
kill('STOP', $launcher) or die "the launcher cannot be stopped: $!";
$node->poll_query_until($db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs worker'");
$session->query_safe(sprintf($fail, 1000));
my $memory = memory_of($pid);
my $launcher_memory = memory_of($launcher);
$session->query_safe(sprintf($fail, 10000));
kill('CONT', $launcher);
cmp_ok(memory_of($pid), '<', $memory + 1024, '10,000 failures in one transaction: the memory of the session does not grow by 1 MB');
cmp_ok(memory_of($launcher), '<', $launcher_memory + 1024, 'nor does that of the launcher');
$node->poll_query_until($db, q(SELECT count(*) + (SELECT split_part(finding, ' ', 1)::int FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs' AND status = 'warning') = 11000 FROM challenge_jobs.job_run))
  or diag($node->safe_psql($db, q(SELECT count(*), (SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs') FROM challenge_jobs.job_run)));
is( $node->safe_psql($db, q(SELECT count(*) + (SELECT split_part(finding, ' ', 1)::int FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs' AND status = 'warning') FROM challenge_jobs.job_run)),
	'11000', 'every one of 11,000 failures is either recorded or counted as lost');
cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_run'), '>=', 32, 'as many as one kind may have of the ring are recorded at least');
$log = slurp_file($node->logfile, $offset);
my $lines = () = $log =~ /LOG:  challenge_jobs: more job functions fail/g;
cmp_ok($lines, '>=', 1, 'that records are lost is logged');
cmp_ok($lines, '<=', 3, 'once, not for each');
$node->safe_psql($db, 'ALTER TABLE challenges_away RENAME TO challenges');
$session->query_safe("BEGIN; SELECT count(auto_complete_challenges()) FROM generate_series(1, 300); ROLLBACK");
$session->quit;
$node->poll_query_until($db, "SELECT count(*) = 128 FROM challenge_jobs.job_run WHERE status = 'rolled_back'")
  or diag($node->safe_psql($db, 'SELECT status, count(*) FROM challenge_jobs.job_run GROUP BY 1'));
is( $node->safe_psql($db, q(SELECT split_part(finding, ' ', 1)::int + (SELECT count(*) FROM challenge_jobs.job_run) FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs')),
	'11300', 'of 300 job functions in one transaction 128 are recorded one by one, the others counted');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Waits for the row of the one job function that was called, returns columns of it, and removes all rows.
sub rows
{
	my ($columns) = @_;

	$node->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run")
	  or diag($node->safe_psql($db, 'SELECT status, message FROM challenge_jobs.job_run'));
	my $row = $node->safe_psql($db, "SELECT $columns FROM challenge_jobs.job_run");
	$node->safe_psql($db, 'DELETE FROM challenge_jobs.job_run');
	return $row;
}

# Returns the memory that a process has for itself, in kB.
sub memory_of
{
	my ($process) = @_;
	my ($kb) = slurp_file("/proc/$process/status") =~ /^RssAnon:\s+(\d+)/m;

	return $kb;
}
