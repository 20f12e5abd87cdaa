# The statistics right after challenges were decided: the worker refreshes the tracked views, or all, once for however many
# runs, also where a caller commits late; and a refresh that is due in the same minute waits. The worker sleeps for
# an hour, so that whatever happens here, happens since it was woken.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';
my $refresh = 'refresh_challenge_stats';

start_clock('2030-01-01 12:00:20');
my $node = create_node('refresh_after', <<'CONF');
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1h'
log_min_messages = debug1
CONF
create_app($node, $db, 30);
$node->safe_psql($db, <<'SQL');
SET ROLE app_owner;
CREATE FUNCTION wait_in_view() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711);
    RETURN 0;
END $$;
CREATE MATERIALIZED VIEW leaderboard AS SELECT id AS challenge_id, status FROM challenges;
CREATE MATERIALIZED VIEW summary AS SELECT status, count(*) + wait_in_view() AS challenges FROM challenges GROUP BY status;
CREATE UNIQUE INDEX ON leaderboard (challenge_id);
CREATE UNIQUE INDEX ON summary (status);
RESET ROLE;
SELECT challenge_jobs.add_stats_view('leaderboard'), challenge_jobs.add_stats_view('summary');
SELECT * FROM challenge_jobs.track('leaderboard');
SELECT * FROM challenge_jobs.schedule('auto_complete_challenges', 'external');
SELECT * FROM challenge_jobs.schedule('refresh_challenge_stats', 'external');
SQL
my $active = "count(*) FROM leaderboard WHERE status = 'active'";
my $active_in_summary = "COALESCE(sum(challenges), 0) FROM summary WHERE status = 'active'";

# ---- tracked views ----

begin_anew();
is(query($active) . ' ' . query($active_in_summary), '30 30', 'at first the leaderboard says active');
decide();
wait_for_refresh();
is(query($active), '0', 'right after the run that decided, the tracked view says what was decided');
is(query($active_in_summary), '30', 'the other view is as it was');
is(refreshes(), 'after_decisions succeeded 1', 'by a run that says how many views it has left out');
is(query("covered_until IS NULL OR covered_until < (SELECT as_of FROM challenge_jobs.job_run WHERE triggered_by = 'after_decisions')
            FROM challenge_jobs.watchdog() WHERE job = '$refresh'"), 't', 'and covers no scheduled time');
tick();
is(refreshes(), 'after_decisions succeeded 1', 'it is not done twice');

# ---- all views ----

set_refresh_after('all');
begin_anew();
decide();
wait_for_refresh();
is(query($active) . ' ' . query($active_in_summary), '0 0', 'with "all" every view says what was decided');
is(refreshes(), 'after_decisions succeeded', 'none was left out');

# ---- off ----

set_refresh_after('off');
begin_anew();
decide();
tick();
is(query($active) . ' ' . query($active_in_summary), '30 30', 'with "off" none does');
is(refreshes(), '', 'as nothing is refreshed');

# ---- a job function ----

set_refresh_after('all');
begin_anew();
$node->safe_psql($db, 'SELECT auto_complete_challenges()');
wait_for_refresh();
is(query($active), '0', 'a job function that decided is followed when it is committed');

# A refresh comes between the end of the job function and the commit, and cannot see what was decided.
begin_anew();
my $caller = $node->background_psql($db);
$caller->query_safe('BEGIN; SELECT auto_complete_challenges()');
$node->safe_psql($db, "CALL challenge_jobs.run('$refresh', 'early')");
is(query($active), '30', 'a refresh does not see what has not been committed');
$caller->query_safe('COMMIT');
wait_for_refresh();
is(query($active), '0', 'and is followed by one that does');
is(refreshes(), "early succeeded\nafter_decisions succeeded", 'one');

# ---- paused ----

begin_anew();
$caller->query_safe('BEGIN; SELECT auto_complete_challenges()');
query('challenge_jobs.pause()');
$caller->query_safe('COMMIT');
$caller->quit;
tick();
is(refreshes(), '', 'while all jobs are paused, nothing follows');
query('challenge_jobs.resume()');
tick();
wait_for_refresh();
is(query($active), '0', 'but afterwards');

# ---- two runs ----

begin_anew();
my $holder = hold_stall();
my $slow = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$refresh', 'slow')");
wait_for_stall($node, $db) or die 'the refresh has not come to the stall';
decide();
$node->safe_psql($db, "INSERT INTO challenges VALUES (31, 'one more', 'active', current_date - 3)");
decide();
release_stall($holder);
finish_sql($slow);
wait_for_refresh();
tick();
is(refreshes(), "slow succeeded\nafter_decisions succeeded", 'two runs that decided, while a refresh was at work, are followed by one');
is(query($active) . ' ' . query($active_in_summary), '0 0', 'which has seen what both decided');

# ---- due in the same minute ----

begin_anew('2030-01-02 00:00:01');
my $waiting = start_refresh('pg_cron');
is(refreshes(), '', 'a refresh waits for the run that is due in the same minute');
decide();
is(finish_sql($waiting), '', 'it goes on');
is(query("r.started_at >= a.finished_at AND r.as_of = r.started_at FROM challenge_jobs.job_run a, challenge_jobs.job_run r WHERE a.job = '$JOB' AND r.job = '$refresh' AND r.triggered_by <> 'earlier'"), 't', 'when that run has ended');
tick();
is(query($active), '0', 'and sees what was decided');
is(refreshes(), 'pg_cron succeeded', 'so that none has to follow');

begin_anew('2030-01-03 00:00:01');
$waiting = start_refresh('pg_cron');
set_clock($node, '2030-01-03 00:00:31');
is(finish_sql($waiting), '', 'where that run does not come');
is(refreshes(), 'pg_cron succeeded', 'the refresh begins after 30 s');

begin_anew('2030-01-04 00:00:01');
$waiting = start_refresh('pg_cron');
query("pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^CALL.*$refresh'");
like(finish_sql($waiting), qr/canceling statement due to user request/, 'who waits can be cancelled');
is(refreshes(), 'pg_cron cancelled', 'which is recorded');
is(query('count(*) FROM challenge_jobs.alert'), '0', 'and alarms nobody');

begin_anew('2030-01-05 00:00:01');
$node->safe_psql($db, "CALL challenge_jobs.run('$refresh')");
is(refreshes(), 'manual succeeded', 'what is called by hand is done');
is(query("started_at < '2030-01-05 00:00:20' FROM challenge_jobs.job_run WHERE triggered_by = 'manual'"), 't', 'and does not wait');

# ---- the worker fires both ----

$node->safe_psql($db, "ALTER SYSTEM SET challenge_jobs.worker_naptime = '1s'");
$node->reload;
set_clock($node, '2030-01-05 23:59:50');
begin_anew();
query("challenge_jobs.schedule('$JOB', 'worker'), challenge_jobs.schedule('$refresh', 'worker')");
set_clock($node, '2030-01-05 23:59:58');
wait_for_run("job = '$refresh' AND status = 'succeeded' AND scheduled_for = '2030-01-06 00:00'");
tick();
is(runs(), "worker succeeded 2030-01-06 00:00 #1\nworker succeeded 2030-01-06 00:00 #1", 'the worker starts each of them once');
is(query("r.started_at >= a.finished_at FROM challenge_jobs.job_run a, challenge_jobs.job_run r WHERE a.job = '$JOB' AND r.job = '$refresh' AND r.triggered_by <> 'earlier'"), 't', 'the refresh after the run that decides');
is(query($active), '0', 'whose decisions it sees');

# ---- the doctor ----

query("challenge_jobs.alter_job('$refresh', schedule => '30 * * * *')");
is(doctor_status('refresh_after'), '', 'the worker refreshes right after: the doctor has nothing to say');
query("challenge_jobs.untrack('leaderboard')");
set_refresh_after('tracked');
is(doctor_status('refresh_after'), 'warning', 'but where no view is tracked');
$node->safe_psql($db, query("remedy FROM challenge_jobs.doctor() WHERE check_name = 'refresh_after'"));
is(query("settings->>'refresh_after' FROM challenge_jobs.job WHERE job = '$JOB'") . doctor_status('refresh_after'), 'all', 'which its remedy mends');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Has all challenges be active again, also in the views; no run is left but one that has refreshed them. Then sets the clock.
sub begin_anew
{
	my ($moment) = @_;

	fill_app(undef, 30);
	$node->safe_psql($db, 'UPDATE challenge_jobs.job_override SET scheduled_at = now()');
	$node->safe_psql($db, "CALL challenge_jobs.run('$refresh', 'earlier')");
	$node->safe_psql($db, "DELETE FROM challenge_jobs.alert");
	$node->safe_psql($db, "DELETE FROM challenge_jobs.job_run WHERE run_id < (SELECT max(run_id) FROM challenge_jobs.job_run)");
	if ($moment)
	{
		# scheduled times that the clock passes over have not been missed
		$node->safe_psql($db, "UPDATE challenge_jobs.job_override SET scheduled_at = date_trunc('day', timestamptz '$moment')");
		set_clock($node, $moment);
	}
	return;
}

sub decide
{
	$node->safe_psql($db, "CALL challenge_jobs.run('$JOB', 'nightly')");
	return;
}

sub set_refresh_after
{
	my ($views) = @_;

	query(qq(challenge_jobs.alter_job('$JOB', settings => '{"refresh_after": "$views"}')));
	return;
}

# Waits for the refresh that follows.
sub wait_for_refresh
{
	wait_for_run("job = '$refresh' AND triggered_by = 'after_decisions' AND status <> 'running'");
	return;
}

# Has the worker look, twice, at what there is to do, and waits until no run is at work.
sub tick
{
	foreach my $look (1 .. 2)
	{
		my $offset = -s $node->logfile;

		$node->reload;
		$node->wait_for_log(qr/background worker "challenge_jobs worker[^"]*" \(PID \d+\) exited/, $offset);
	}
	poll("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs run'", 'a run does not end');
	return;
}

# The refreshes in the log, with the number of views that they have left out.
sub refreshes
{
	return query("concat_ws(' ', triggered_by, status, result->>'not_refreshed') FROM challenge_jobs.job_run
		WHERE job = '$refresh' AND triggered_by <> 'earlier' ORDER BY run_id");
}

# Starts a refresh in a session of its own, which waits.
sub start_refresh
{
	my ($triggered_by) = @_;
	my $session = start_sql($node, $db, "CALL challenge_jobs.run('$refresh', '$triggered_by')");

	poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^CALL.*$refresh' AND wait_event = 'Extension'
		AND backend_xmin IS NULL AND backend_xid IS NULL", 'the refresh does not wait, or not without a snapshot');
	return $session;
}
