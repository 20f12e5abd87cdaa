# Runs that are ended from outside or that go wrong on the way, and what remains in a session that
# goes on afterwards: no lock, no file, no memory, no timer.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('runtime', "log_temp_files = 0\nmax_prepared_transactions = 5\n");
create_app($node, $db, 30);
set_batch_size($node, $db, 10);

# Nothing of the extension's may be held by a session that only looks.
my $locks_held = <<'SQL';
SELECT count(*) FROM pg_locks
 WHERE pid = pg_backend_pid()
   AND locktype IN ('object', 'advisory', 'tuple')
SQL

# The stall is held by this session throughout.
my $holder = hold_stall();

# The session under test; it goes on after every error.
my $session = $node->background_psql($db, on_error_stop => 0);
$session->query_safe("SET challenge_jobs.lock_timeout = '180s'");
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# ---- max_runtime ----

fill_app(15);
alter("max_runtime => '200 ms'");
my $err = error_of("CALL challenge_jobs.run('$JOB')");
like(
	$err,
	qr/ERROR:  job "$JOB" has been running for longer than its max_runtime of 200 ms\nHINT:  Run: SELECT challenge_jobs\.alter_job\('$JOB', max_runtime => '400 ms'\);/,
	'max_runtime: run() says that it was its own limit, and how to raise it');
is( last_run($node, $db, "status, sqlstate, message ~ 'max_runtime', hint ~ '400 ms', context ~ 'run [0-9]+'"),
	'cancelled|57014|t|t|t',
	'max_runtime: the run is recorded as cancelled');
is(decided(), '10', 'max_runtime: the finished batch is kept');
goes_on('max_runtime');

fill_app(15);
alter("max_runtime => '200 ms'");
$err = error_of('SELECT * FROM auto_complete_challenges()');
like($err, qr/max_runtime of 200 ms/, 'max_runtime: so does the job function');
is(decided(), '0', 'max_runtime: nothing of the job function remains');
goes_on('max_runtime of a job function');

# A trigger of the app that swallows the cancellation does not give the run the rest of the day.
fill_app();
alter("max_runtime => '200 ms'");
$node->safe_psql($db, q{
	CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(4711);
		RETURN NEW;
	EXCEPTION WHEN query_canceled THEN
		RETURN NEW;
	END $$;
	CREATE TRIGGER swallow BEFORE UPDATE ON challenges
		FOR EACH ROW WHEN (NEW.id = 15) EXECUTE FUNCTION swallow();
});
$err = error_of("CALL challenge_jobs.run('$JOB')");
like($err, qr/max_runtime of 200 ms/, 'max_runtime: a swallowed cancellation ends the run all the same');
is(last_run($node, $db, 'status'), 'cancelled', 'max_runtime: and is recorded');
isnt(undone_work($node, $db), '', 'max_runtime: there was more to do');
$node->safe_psql($db, 'DROP TRIGGER swallow ON challenges; DROP FUNCTION swallow()');
goes_on('a swallowed cancellation');

# The timer must not go off later, in what the session does next.
fill_app();
alter("max_runtime => '50 ms'");
error_of("CALL challenge_jobs.run('$JOB')") foreach (1 .. 2);
is($session->query_safe("SELECT 'unharmed' FROM pg_sleep(0.2)"),
	'unharmed', 'max_runtime does not cancel what comes after the run');
alter("max_runtime => '0'");
fill_app();
is(error_of("CALL challenge_jobs.run('$JOB')"), '', 'max_runtime 0: no limit');
is(undone_work($node, $db), '', 'max_runtime 0: everything done');
$node->safe_psql($db, "SELECT challenge_jobs.reset_job('$JOB')");
set_batch_size($node, $db, 10);

# ---- statement_timeout, cancel, terminate ----

fill_app(15);
$session->query_safe("SET statement_timeout = '200ms'");
$err = error_of("CALL challenge_jobs.run('$JOB')");
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends a run');
is(last_run($node, $db, 'status, sqlstate, message'),
	'cancelled|57014|canceling statement due to statement timeout', 'and is recorded as what it is');
is(decided(), '10', 'the finished batch is kept');
$session->query_safe('RESET statement_timeout');
goes_on('statement_timeout');

fill_app(15);
$err = cancelled_error_of("CALL challenge_jobs.run('$JOB')");
like($err, qr/canceling statement due to user request/, 'pg_cancel_backend ends a run');
is(last_run($node, $db, "status, sqlstate, (result->>'completed')::int + (result->>'failed')::int"),
	'cancelled|57014|10', 'it is recorded as cancelled, with what it has done');
goes_on('pg_cancel_backend');

fill_app(15);
$err = cancelled_error_of('SELECT * FROM auto_complete_challenges()');
like($err, qr/canceling statement due to user request/, 'pg_cancel_backend ends a job function');
is(decided(), '0', 'nothing of the job function remains');
goes_on('pg_cancel_backend of a job function');

# ---- errors of our own bookkeeping ----

# job_run cannot be written at the beginning
fill_app();
$holder->query_safe('BEGIN; LOCK TABLE challenge_jobs.job_run');
$session->query_safe("SET challenge_jobs.lock_timeout = '50ms'");
$err = error_of("CALL challenge_jobs.run('$JOB')");
like($err, qr/canceling statement due to lock timeout/, 'run() does not wait for job_run without end');
$holder->query_safe('COMMIT');
is(decided(), '0', 'and does not work without its row');
goes_on('a locked job_run');

# ... or at the end: the row is locked by a session that goes away by itself after a while, so that a
# run that waits without end is found out, too
fill_app(15);
$session->query_safe("SET challenge_jobs.lock_timeout = '2s'");
start($session, "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db);
my $writer = $node->background_psql($db, on_error_stop => 0);
$writer->query_safe("SET idle_in_transaction_session_timeout = '15s'");
$writer->query_safe('BEGIN; UPDATE challenge_jobs.job_run SET message = message; SELECT 1');
$holder->query_safe('SELECT pg_advisory_unlock(4711)');
$err = stderr_of($session);
is(eval { $writer->query('SELECT 1') }, '1', 'run() does not wait for its own row without end, either');
like($err, qr/canceling statement due to lock timeout/, 'a run that cannot write the end of its row reports the lock timeout');
eval { $writer->query('ROLLBACK'); $writer->quit };
$holder->query_safe('SELECT pg_advisory_lock(4711)');
is(undone_work($node, $db), '', 'its work is kept');
goes_on('a locked row of job_run');

# ... and a backend that is terminated there
fill_app(15);
$session->query_safe("SET challenge_jobs.lock_timeout = '180s'");
$node->safe_psql($db, 'UPDATE stall SET n = 30');
start($session, "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db);
$writer = $node->background_psql($db);
$writer->query_safe('BEGIN; UPDATE challenge_jobs.job_run SET message = message; SELECT 1');
$holder->query_safe('SELECT pg_advisory_unlock(4711)');
$node->poll_query_until($db, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
$writer->query_safe('COMMIT');
$writer->quit;
eval { $session->quit };
is(last_run($node, $db, 'status'), 'running', 'terminated while it writes its end: the row stays');
is(undone_work($node, $db), '', 'and so does the work');
$holder->query_safe('SELECT pg_advisory_lock(4711)');
$session = $node->background_psql($db, on_error_stop => 0);
$session->query_safe("SET challenge_jobs.lock_timeout = '180s'");
$pid = $session->query_safe('SELECT pg_backend_pid()');
goes_on('pg_terminate_backend');
is( $node->safe_psql($db, "SELECT status FROM challenge_jobs.job_run ORDER BY run_id DESC OFFSET 1 LIMIT 1"),
	'crashed', 'the next run closes it');

# The extension is dropped between two batches.
fill_app(15);
start($session, "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db);
my $dropper = start_sql($node, $db, 'DROP EXTENSION challenge_jobs');
$node->poll_query_until($db,
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'DROP EXTENSION%' AND wait_event_type = 'Lock'");
$holder->query_safe('SELECT pg_advisory_unlock(4711)');
$err = stderr_of($session);
finish_sql($dropper);
like($err, qr/ERROR:  .*(does not exist|not installed)/, 'the extension dropped under a run: an error');
is($session->query_safe($locks_held), '0', 'and no lock is left');
is( $node->safe_psql($db, <<'SQL'), '0', 'and no challenge is decided without its members notified');
SELECT count(*) FROM challenges c
 WHERE (c.status <> 'active')
       <> ((SELECT count(*) FROM notifications n WHERE n.data->>'challenge_id' = c.id::text) = 3)
SQL
$node->safe_psql($db, 'CREATE EXTENSION challenge_jobs');
set_batch_size($node, $db, 10);
$holder->query_safe('SELECT pg_advisory_lock(4711)');
fill_app();
is(error_of("CALL challenge_jobs.run('$JOB')"), '', 'the same session can use it when it is back');
is(undone_work($node, $db), '', 'and everything is done');

# ---- a commit that fails ----

# An app whose trigger writes to a table with a check that is left to the commit, also where the
# caller is the owner and nothing is restricted.
$node->safe_psql($db, <<'SQL');
GRANT USAGE ON SCHEMA challenge_jobs TO app_owner;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA challenge_jobs TO app_owner;
SET ROLE app_owner;
CREATE TABLE topic (id bigint PRIMARY KEY);
INSERT INTO topic SELECT generate_series(1, 30);
DELETE FROM topic WHERE id = 17;
CREATE TABLE audit (topic bigint REFERENCES topic DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION note_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit VALUES ((NEW.data->>'challenge_id')::bigint);
    RETURN NULL;
END $$;
CREATE TRIGGER note_audit AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION note_audit();
SQL
foreach my $role ('none', 'app_owner')
{
	fill_app();
	$session->query_safe("SET ROLE $role");
	$err = error_of("CALL challenge_jobs.run('$JOB')");
	like($err, qr/violates foreign key constraint "audit_topic_fkey"/,
		"deferred check, role $role: the error comes out");
	is( last_run($node, $db, "status, sqlstate, result->>'errors', result->>'locked'"),
		'failed|23503|1|0', "deferred check, role $role: one challenge is in error");
	is(decided(), '29', "deferred check, role $role: all others are decided");
	is($session->query_safe($locks_held), '0', "deferred check, role $role: no lock is left");
	$session->query_safe('RESET ROLE');
}

# A check that the app's trigger itself puts off to the commit.
$node->safe_psql($db, <<'SQL');
CREATE OR REPLACE FUNCTION note_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL DEFERRED;
    INSERT INTO audit VALUES ((NEW.data->>'challenge_id')::bigint);
    RETURN NULL;
END $$;
SQL
fill_app(29);
set_batch_size($node, $db, 1);
$session->query_safe('SET ROLE app_owner');
start($session, "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db);
my ($status, $out);
($status, $out, $err) = $node->psql($db, 'SELECT * FROM auto_complete_challenges()');
like($err, qr/job "$JOB" is running in another session/,
	'check put off to the commit: the run still holds its lock after a commit has failed');
$holder->query_safe('SELECT pg_advisory_unlock(4711)');
$err = stderr_of($session);
$holder->query_safe('SELECT pg_advisory_lock(4711)');
like($err, qr/violates foreign key constraint "audit_topic_fkey"/,
	'check put off to the commit: the error comes out');
unlike($err, qr/WARNING/, 'check put off to the commit: nothing else comes out');
is(decided(), '29', 'check put off to the commit: all others are decided');
is($session->query_safe($locks_held), '0', 'check put off to the commit: no lock is left');
is(last_run($node, $db, "status, sqlstate, result->>'errors'"),
	'failed|23503|1', 'check put off to the commit: recorded');
$session->query_safe('RESET ROLE');
$node->safe_psql($db, 'DROP TRIGGER note_audit ON notifications; TRUNCATE stall');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, $db), '', 'check put off to the commit: the next run takes it');

# A check that the caller has pending, and that the first commit of the run brings to light.
fill_app();
$err = error_of(<<"SQL");
DO \$\$ BEGIN
    INSERT INTO audit VALUES (17);
    CALL challenge_jobs.run('$JOB');
END \$\$
SQL
like($err, qr/violates foreign key constraint "audit_topic_fkey"/, 'the caller has a check pending: it fails');
unlike($err, qr/WARNING/, 'the caller has a check pending: nothing else comes out');
is(decided(), '0', 'the caller has a check pending: nothing was done');
is(error_of("CALL challenge_jobs.run('$JOB')"), '', 'the caller has a check pending: the next run works');

# Sessions in which every transaction is serializable can fail at any commit, too.
foreach my $level ('repeatable read', 'serializable')
{
	fill_app();
	$session->query_safe("SET default_transaction_isolation = '$level'");
	is(error_of("CALL challenge_jobs.run('$JOB')"), '', "run() works where the default is $level");
	is(undone_work($node, $db), '', "and does everything where the default is $level");
}
$session->query_safe('RESET default_transaction_isolation');

# ---- temporary files ----

# What is due does not fit into memory: it goes to a file, which is gone in the end.
foreach my $end ('COMMIT', 'cancel')
{
	fill_app(15, 20_000);
	$node->safe_psql($db, qq(SELECT challenge_jobs.alter_job('$JOB', settings => '{"batch_size": 10000}')));
	$session->query_safe("SET work_mem = '64kB'");
	start($session, "CALL challenge_jobs.run('$JOB')");
	wait_for_stall($node, $db);
	cmp_ok(temporary_files(), '>', 0, "$end: what is due goes to a file");
	if ($end eq 'cancel')
	{
		$node->safe_psql($db, "SELECT pg_cancel_backend($pid)");
	}
	else
	{
		$holder->query_safe('SELECT pg_advisory_unlock(4711)');
	}
	stderr_of($session);
	is(temporary_files(), '0', "$end: the file is gone while the session goes on");
	$holder->query_safe('SELECT pg_advisory_lock(4711)') if $end ne 'cancel';
}
$session->query_safe('RESET work_mem');

# ---- memory ----

# A session in which runs and job functions come and go, with and without work, and fail: it must not grow.
fill_app();
set_batch_size($node, $db, 10);
# What is used of them: a block that a cache allocates ahead is no growth, and may be a megabyte.
my $memory = "SELECT sum(used_bytes) FROM pg_backend_memory_contexts";
my $again = <<'SQL';
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        UPDATE challenges SET status = 'active' WHERE id <= 20;
        TRUNCATE notifications;
        COMMIT;
        CALL challenge_jobs.run('auto_complete_challenges');
        CALL challenge_jobs.run('auto_complete_challenges');
        PERFORM auto_complete_challenges();
        PERFORM auto_complete_challenges(dry_run => true);
        BEGIN
            PERFORM auto_complete_challenges(as_of => 'infinity');
        EXCEPTION WHEN invalid_parameter_value THEN
        END;
    END LOOP;
END $$
SQL
$session->query_safe($again);
my $before = $session->query_safe($memory);
$session->query_safe($again) foreach (1 .. 4);
my $after = $session->query_safe($memory);
cmp_ok($after, '<', $before + 64 * 1024, "1000 runs later the session is no larger ($before, $after)");

# Errors: the trigger raises one for every notification.
$node->safe_psql($db, <<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'refused' USING errcode = 'P0042'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
fill_app();
$again = "CALL challenge_jobs.run('$JOB')";
error_of($again) foreach (1 .. 5);
$before = $session->query_safe($memory);
like(error_of($again), qr/refused/, 'every run fails while the trigger of the app refuses') foreach (1 .. 3);
error_of($again) foreach (1 .. 20);
$after = $session->query_safe($memory);
cmp_ok($after, '<', $before + 64 * 1024, "many failures later the session is no larger ($before, $after)");
is($session->query_safe($locks_held), '0', 'and holds no lock');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');

# Memory during a run, of 2000 batches: at the end it must not be larger than at the beginning.
my $early = run_memory(200);
my $late = run_memory(1990);
cmp_ok($late, '<', $early + 64 * 1024, "1790 batches later a run is no larger ($early, $late)");

$holder->quit;
$session->quit;
$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Changes the configuration of the job.
sub alter
{
	my ($change) = @_;

	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', $change)");
	return;
}

# Returns how many challenges have been decided.
sub decided
{
	return $node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status <> 'active'");
}

# Sends a statement to a session and does not wait for its end.
sub start
{
	my ($background, $statement) = @_;

	$background->query_until(qr/started/, "\\echo started\n$statement;\n");
	return;
}

# Waits for the end of what was started in a session; returns what it wrote to standard error.
sub stderr_of
{
	my ($background) = @_;

	$background->query('SELECT 1');

	my $text = $background->{stderr};
	$background->{stderr} = '';
	return $text;
}

# Runs a statement in the session under test; returns what it wrote to standard error.
sub error_of
{
	my ($statement) = @_;

	$session->query($statement);
	my $text = $session->{stderr};
	$session->{stderr} = '';
	return $text;
}

# As error_of, and cancels the statement when it has come to the stall.
sub cancelled_error_of
{
	my ($statement) = @_;

	start($session, $statement);
	wait_for_stall($node, $db);
	$node->safe_psql($db, "SELECT pg_cancel_backend($pid)");
	return stderr_of($session);
}

# After an error: the session holds nothing, and can do itself what was not done.
sub goes_on
{
	my ($what) = @_;

	is($session->query_safe($locks_held), '0', "$what: the session holds no lock");
	$node->safe_psql($db, 'TRUNCATE stall');
	is($node->safe_psql($db, "BEGIN; SELECT * FROM auto_complete_challenges(dry_run => true); ROLLBACK") ne '',
		1, "$what: another session can take the job's lock");
	alter("max_runtime => '1 hour'");
	$session->query_safe("SET challenge_jobs.lock_timeout = '180s'");
	is(error_of("CALL challenge_jobs.run('$JOB')"), '', "$what: the next run in the same session works");
	is(undone_work($node, $db), '', "$what: and does the rest");
	return;
}

# Returns the number of temporary files of the server.
sub temporary_files
{
	return $node->safe_psql($db, 'SELECT count(*) FROM pg_ls_tmpdir()');
}

# Returns the memory of a session whose run has come to a challenge, one challenge a batch.
sub run_memory
{
	my ($challenge) = @_;
	my $offset = -s $node->logfile;

	fill_app($challenge, 2000);
	set_batch_size($node, $db, 1);
	start($session, "CALL challenge_jobs.run('$JOB')");
	wait_for_stall($node, $db);
	$node->safe_psql($db, "SELECT pg_log_backend_memory_contexts($pid)");
	$holder->query_safe('SELECT pg_advisory_unlock(4711)');
	stderr_of($session);
	$holder->query_safe('SELECT pg_advisory_lock(4711)');
	my ($total) = slurp_file($node->logfile, $offset) =~ /Grand total: (\d+) bytes/;
	return $total;
}
