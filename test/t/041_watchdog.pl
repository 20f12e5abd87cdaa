# The worker at work: scheduled times on which it fires, scheduled times that were missed while the server was down or nobody came,
# runs that fail and are repeated, and the alerts of all that. The wall clock is set while the server runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';

start_clock('2030-01-01 12:00:00');
my $node = create_node('watchdog', <<'CONF');
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
CONF
create_app($node, $db, 30);

# ---- the worker fires ----

my ($status, $out, $err) = $node->psql($db, "SELECT challenge_jobs.schedule('$JOB', 'worker')");
is($err, '', 'no warning where the worker looks after the database');
is(doctor_status("schedule:$JOB"), 'ok', 'and the doctor is content');
set_clock($node, '2030-01-01 23:59:58');
wait_for_run("status = 'succeeded' AND scheduled_for = '2030-01-02 00:00'");
is(runs(), "worker succeeded 2030-01-02 00:00 #1", 'the worker fires at midnight');
is(undone_work($node, $db), '', 'the work is done');
is(query("role_name FROM challenge_jobs.job_run"), query('current_user'), 'as the owner of the extension');
set_clock($node, '2030-01-03 00:00:10');
wait_for_run("status = 'succeeded' AND scheduled_for = '2030-01-03 00:00'");
is(runs(), "worker succeeded 2030-01-02 00:00 #1\nworker succeeded 2030-01-03 00:00 #1", 'once for each scheduled time');
# The clock goes back over both scheduled times, and to the next one: what was fired is not fired again.
set_clock($node, '2030-01-01 23:59:59');
wait_for_checks($node, 3);
set_clock($node, '2030-01-04 00:00:01');
wait_for_run("status = 'succeeded' AND scheduled_for = '2030-01-04 00:00'");
is(query("count(*) FROM challenge_jobs.job_run"), '3', 'nothing is fired twice by a clock that is set back');
is(query("count(*) FROM challenge_jobs.alert"), '0', 'and there is nothing to tell');

# ---- down over midnight ----

forget_all();
$node->stop;
set_clock(undef, '2030-01-08 12:00:00');
$node->start;
wait_for_run("status = 'succeeded' AND triggered_by = 'catch_up'");
wait_for_checks($node, 3);
is(runs(), "catch_up succeeded 2030-01-08 00:00 #1", 'after four midnights: one run');
is(alerts(), "overdue 2030-01-08 00:00\nrecovered", 'one alert, and the recovery');
is(undone_work($node, $db), '', 'after the server was down, what was due is done, once');

# ---- an engine that does not come ----

$node->safe_psql($db, "SELECT challenge_jobs.schedule('$JOB', 'external')");
forget_all();
set_clock($node, '2030-01-09 00:10:00');
wait_for_checks($node, 2);
is(runs(), '', 'within the grace, nothing is started for others');
set_clock($node, '2030-01-09 00:15:01');
wait_for_run("status = 'succeeded'");
is(runs(), "catch_up succeeded 2030-01-09 00:00 #1", 'after it, one run');
is(alerts(), "overdue 2030-01-09 00:00", 'and an alert, which lasts: the engine has not come');

$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', catch_up => 'skip')");
forget_all();
set_clock($node, '2030-01-12 12:00:00');
$node->poll_query_until($db, 'SELECT count(*) = 1 FROM challenge_jobs.alert');
wait_for_checks($node, 3);
is(runs(), '', 'catch_up "skip": nothing is started');
is(alerts(), 'overdue 2030-01-12 00:00', 'catch_up "skip": there is one alert all the same');
$node->restart;
wait_for_checks($node, 2);
is(alerts(), 'overdue 2030-01-12 00:00', 'also after a restart');

# ---- retries ----

$node->safe_psql($db, "SELECT challenge_jobs.reset_job('$JOB'), challenge_jobs.alter_job('$JOB', settings => '{\"notify_within\": \"unlimited\"}')");
$node->safe_psql($db, <<'SQL');
UPDATE challenges SET status = 'active' WHERE id = 2;
DELETE FROM decision WHERE challenge_id = 2;
DELETE FROM notifications WHERE (data->>'challenge_id')::bigint = 2;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the app refuses'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
forget_all();
$node->psql($db, "CALL challenge_jobs.run('$JOB', 'nightly')");
foreach my $attempt (2 .. 4)
{
	set_clock($node, sprintf('2030-01-12 %02d:00:00', 11 + $attempt));
	wait_for_run("attempt = $attempt AND status = 'failed'");
}
set_clock($node, '2030-01-12 23:00:00');
wait_for_checks($node, 3);
is(runs(), "nightly failed #1\nretry failed #2\nretry failed #3\nretry failed #4", 'a run that fails is repeated max_retries times');
is(alerts(), 'failed', 'and told of once');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB', 'nightly')");
is(alerts(), "failed\nrecovered", 'the alert of the failure lasts until a run succeeds, which is an alert of its own');
is(undone_work($node, $db), '', 'and the work is done');

# What repeating cannot mend is not repeated.
forget_all();
$node->safe_psql($db, 'ALTER TABLE notifications RENAME TO messages');
$node->psql($db, "CALL challenge_jobs.run('$JOB', 'nightly')");
set_clock($node, '2030-01-12 23:10:00');
wait_for_checks($node, 3);
is(runs(), 'nightly failed #1', 'a table that is not there does not come by waiting');
$node->safe_psql($db, 'ALTER TABLE messages RENAME TO notifications');

# One that is killed is repeated.
forget_all();
$node->safe_psql($db, "UPDATE challenges SET status = 'active' WHERE id = 4; DELETE FROM decision WHERE challenge_id = 4;
                       DELETE FROM notifications WHERE (data->>'challenge_id')::bigint = 4; INSERT INTO stall VALUES (1)");
my $blocker = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$JOB', 'nightly')");
ok(wait_for_stall($node, $db), 'a run is at work');
$node->safe_psql($db, "SELECT pg_terminate_backend(pid) FROM challenge_jobs.job_run WHERE status = 'running'");
finish_sql($run);
release_stall($blocker);
wait_for_run("status = 'crashed'");
set_clock($node, '2030-01-12 23:30:00');
wait_for_run("attempt = 2 AND status = 'succeeded'");
is(runs(), "nightly crashed #1\nretry succeeded #2", 'a run whose backend has ended is repeated');
is(undone_work($node, $db), '', 'and its work is done, once');
$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Empties log and alerts, but for a success just now.
sub forget_all
{
	$node->safe_psql($db, <<"SQL");
DELETE FROM challenge_jobs.alert;
DELETE FROM challenge_jobs.job_run;
INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid)
SELECT '$JOB', 'earlier', n, n, n, 'succeeded', 'nobody', 0 FROM clock_timestamp() n
SQL
	return;
}
