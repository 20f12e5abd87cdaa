# Nobody's view or function takes all the time there is: a view has a limit of its own, one whose refresh did not come to
# an end goes last the next time, and a run that does not heed being cancelled is ended from outside.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $REFRESH = 'refresh_challenge_stats';

my $node = create_node('time_limits', <<'CONF');
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
CONF
create_app($node, $db, 3);
# stubborn() catches so many cancellations, each in a sleep that would not end, and then sleeps on. What the views
# show is when they were refreshed.
$node->safe_psql($db, <<"SQL");
SET ROLE app_owner;
CREATE TABLE stubbornness (n integer NOT NULL);
INSERT INTO stubbornness VALUES (0);
CREATE FUNCTION stubborn() RETURNS integer LANGUAGE plpgsql AS \$\$
BEGIN
    -- by which nobody is to take the session for one of a client
    PERFORM set_config('application_name', 'psql', false);
    FOR i IN 1 .. (SELECT n FROM public.stubbornness) LOOP
        BEGIN
            PERFORM pg_sleep(1000);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
    PERFORM pg_sleep(1000);
    RETURN 1;
END \$\$;
CREATE TABLE tick (n integer NOT NULL);
INSERT INTO tick VALUES (1);
CREATE MATERIALIZED VIEW a_slow AS SELECT stubborn() WITH NO DATA;
CREATE MATERIALIZED VIEW b_quick AS SELECT n FROM tick;
CREATE MATERIALIZED VIEW c_quick AS SELECT n FROM tick;
RESET ROLE;
SELECT challenge_jobs.add_stats_view(v) FROM unnest(ARRAY['public.a_slow', 'public.b_quick', 'public.c_quick']) v;
SELECT challenge_jobs.alter_job('$REFRESH', max_runtime => '3 s', grace => '0');
SQL

# ---- a limit for each view ----

set_limit('100 ms');
my ($status, undef, $error) = $node->psql($db, "CALL challenge_jobs.run('$REFRESH')");
like($error, qr/ERROR:  it took longer than the view_time_limit of 100 ms\nDETAIL:  Not done \(1\): view public.a_slow\.\nHINT:  Run: SELECT challenge_jobs.alter_job\('$REFRESH', settings => '\{"view_time_limit": "200 ms"\}'\);/,
	'a view that takes too long fails, with a hint that can be typed in');
is(last_refresh('status, sqlstate'), 'failed|57014', 'and so does the run');
is(views(), 'a_slow failed, b_quick full, c_quick full, challenge_member_stats none', 'the others are refreshed');
is(query("action IS NULL, reason LIKE '%a limit of time was exceeded%' FROM challenge_jobs.watchdog() WHERE job = '$REFRESH'"),
	't|f', 'what is not scheduled is not repeated');
like($node->safe_psql($db, "SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'refresh:public.a_slow'"),
	qr/^the refresh of public.a_slow that began at .* did not finish, so it goes last$/m, 'the doctor says so');

is(query("views FROM (SELECT string_agg(view_name || ' ' || method, ', ') AS views FROM refresh_challenge_stats()) v"),
	'public.b_quick full, public.c_quick full, public.challenge_member_stats none, public.a_slow failed',
	'the job function has the limit, too, and does the view last');

set_limit('0');
is(refresh(), 'failed', 'without a limit of its own a view has half of max_runtime');
like(last_refresh('message'), qr/^it took longer than the view_time_limit of 1500 ms$/, 'which the message says');

# ---- what was cancelled goes last ----

set_limit('1 hour');
$node->safe_psql($db, 'DELETE FROM challenge_jobs.view_attempt; UPDATE tick SET n = 2');
is(refresh(), 'cancelled', 'a limit that is longer than max_runtime is none');
is(query('string_agg(view_name, $$, $$) FROM challenge_jobs.view_attempt'), 'public.a_slow', 'which view was at work is known');
is(query('(SELECT n FROM b_quick), (SELECT n FROM c_quick)'), '1|1', 'the views behind it were not refreshed');
is(refresh(), 'cancelled', 'the next run is cancelled, too');
is(query('(SELECT n FROM b_quick), (SELECT n FROM c_quick)'), '2|2', 'but not before it has refreshed them');
# Whoever owns the view may rename it before each run.
$node->safe_psql($db, 'ALTER MATERIALIZED VIEW a_slow RENAME TO a_slower; UPDATE tick SET n = 3');
is(refresh(), 'cancelled', 'the view is still at work when the time is over after it was renamed');
is(query('(SELECT n FROM b_quick), (SELECT n FROM c_quick)'), '3|3', 'it goes last under its new name');
is(query('string_agg(view_name, $$, $$) FROM challenge_jobs.view_attempt'), 'public.a_slower', 'it is known by its new name only');
$node->safe_psql($db, 'ALTER MATERIALIZED VIEW a_slower RENAME TO a_slow');
$node->safe_psql($db, "SELECT challenge_jobs.remove_stats_view('public.a_slow')");
is(refresh(), 'succeeded', 'without that view all is well');
is(query('count(*) FROM challenge_jobs.view_attempt'), '0', 'and it is forgotten');
$node->safe_psql($db, "SELECT challenge_jobs.add_stats_view('public.a_slow')");

# ---- a cancellation that is caught comes again ----

$node->safe_psql($db, "UPDATE stubbornness SET n = 2; SELECT challenge_jobs.alter_job('$REFRESH', max_runtime => '1 s', grace => '1 hour')");
is(refresh(), 'cancelled', 'max_runtime cancels again what has been caught');
$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$REFRESH', max_runtime => '1 hour')");
set_limit('1 s');
is(refresh(), 'failed', 'and so does the limit of a view');
is(views(), 'a_slow failed, b_quick full, c_quick full, challenge_member_stats none', 'after which the run goes on');

# ---- who catches it for ever is ended from outside ----

$node->safe_psql($db, "UPDATE stubbornness SET n = 1000000");
set_limit('1 hour');
$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$REFRESH', max_runtime => '1 s', grace => '0', max_retries => 0);
TRUNCATE challenge_jobs.alert;
SQL
my $offset = -s $node->logfile;
my $session = start_sql($node, $db, q(SET application_name = 'pg_cron'), "CALL challenge_jobs.run('$REFRESH')");
like(finish_sql($session), qr/FATAL:  57P01: terminating connection due to administrator command/, 'a run of pg_cron is terminated');
poll("SELECT status = 'cancelled' FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1", 'the row is not closed');
is(last_refresh('sqlstate, message'), "57P01|job \"$REFRESH\" has been running for longer than its max_runtime of 00:00:01 and a grace of 00:00:00",
	'its row says why it was cancelled');
is(query("string_agg(kind || ': ' || (payload ->> 'status'), ', ') FROM challenge_jobs.alert"), 'failed: cancelled', 'an alert reports it');
ok($node->log_contains(qr/LOG:  challenge_jobs: process \d+ is being terminated\n.*DETAIL:  Its run exceeded the job's max_runtime and grace\./, $offset),
	'and so does the server log');
is(refresh_by_worker(), 'cancelled|57P01', 'so is a run of the worker');

# The session of a client is not ours to end.
$node->safe_psql($db, "TRUNCATE challenge_jobs.alert");
$session = start_sql($node, $db, "CALL challenge_jobs.run('$REFRESH')");
poll("SELECT count(*) = 1 FROM challenge_jobs.alert WHERE payload ->> 'detail' LIKE '% is a client session, which is cancelled, not terminated.'",
	'there is no alert');
is(last_refresh('status'), 'running', 'a run of a client is reported while it is at work');
wait_for_checks($node, 2);
is(query("count(*), count(*) FILTER (WHERE kind = 'failed') FROM challenge_jobs.alert"), '1|1', 'the run that was cancelled raises one alert, of a failure');
my $hint = query("payload ->> 'hint' FROM challenge_jobs.alert");
like($hint, qr/^Run: SELECT pg_terminate_backend\(\d+\);$/, 'with a hint for who may');
is($node->safe_psql($db, $hint =~ s/^Run: //r), 't', 'that can be typed in');
finish_sql($session);
poll("SELECT status = 'crashed' FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1", 'the row is not closed');

# A job function of a client, whose row is not there yet.
$node->safe_psql($db, "TRUNCATE challenge_jobs.alert");
$session = start_sql($node, $db, 'SELECT * FROM refresh_challenge_stats()');
poll("SELECT count(*) = 1 FROM challenge_jobs.alert WHERE kind = 'failed' AND run_id IS NULL", 'there is no alert');
pass('a job function is reported as well');
$node->safe_psql($db, query("substr(payload ->> 'hint', length('Run: ') + 1) FROM challenge_jobs.alert"));
finish_sql($session);

# Who has another process now is not taken for the run: its row is a leftover of a server that crashed.
$node->safe_psql($db, 'UPDATE stubbornness SET n = 0');
my $idle = $node->background_psql($db);
my $pid = $idle->query_safe('SELECT pg_backend_pid()');
chomp $pid;
$node->safe_psql($db, <<"SQL");
INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, as_of, status, role_name, pid)
VALUES ('$REFRESH', 'worker', now() - interval '1 day', now() - interval '1 day', 'running', 'postgres', $pid);
SQL
poll("SELECT status = 'crashed' FROM challenge_jobs.job_run WHERE pid = $pid", 'the row is not closed');
is($idle->query_safe('SELECT 1'), '1', 'a process with the number of a run that is gone is not touched');
$idle->quit;

# Nor is one that works at another job by now.
$node->safe_psql($db, 'TRUNCATE challenge_jobs.alert');
my $busy = $node->background_psql($db);
$busy->query_safe('BEGIN; SELECT * FROM cleanup_expired_notifications()');
$pid = $busy->query_safe('SELECT pg_backend_pid()');
chomp $pid;
$node->poll_query_until($db, "SELECT backend_start < now() - interval '2 s' FROM pg_stat_activity WHERE pid = $pid");
$node->safe_psql($db, <<"SQL");
INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, as_of, status, role_name, pid)
SELECT '$REFRESH', 'worker', backend_start, backend_start, 'running', 'postgres', pid FROM pg_stat_activity WHERE pid = $pid;
SQL
poll("SELECT status = 'crashed' FROM challenge_jobs.job_run WHERE pid = $pid AND job = '$REFRESH'", 'the row is not closed');
is(query("count(*) FROM challenge_jobs.alert WHERE kind = 'failed'"), '0', 'a process that holds the lock of another job is not touched');
$busy->query_safe('COMMIT');
$busy->quit;

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

sub set_limit
{
	my ($limit) = @_;

	$node->safe_psql($db, qq(SELECT challenge_jobs.alter_job('$REFRESH', settings => '{"view_time_limit": "$limit"}')));
	return;
}

sub last_refresh
{
	my ($columns) = @_;
	return query("$columns FROM challenge_jobs.job_run WHERE job = '$REFRESH' ORDER BY run_id DESC LIMIT 1");
}

# Runs the job; returns how that ended.
sub refresh
{
	$node->psql($db, "CALL challenge_jobs.run('$REFRESH')");
	return last_refresh('status');
}

# Has the worker run the job.
sub refresh_by_worker
{
	my $before = last_refresh('run_id');

	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$REFRESH', schedule => '* * * * *'); SELECT challenge_jobs.schedule('$REFRESH', 'worker');"
		  # a time that has come already
		  . "UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '1 min' WHERE job = '$REFRESH'");
	poll("SELECT count(*) > 0 FROM challenge_jobs.job_run WHERE run_id > $before AND status = 'cancelled' AND triggered_by = 'worker'",
		'the worker does not run it');
	$node->safe_psql($db, "SELECT challenge_jobs.unschedule('$REFRESH')");
	poll("SELECT count(*) = 0 FROM challenge_jobs.job_run WHERE status = 'running'", 'a run goes on');
	return query("status, sqlstate FROM challenge_jobs.job_run WHERE run_id > $before AND triggered_by = 'worker' ORDER BY run_id LIMIT 1");
}

# What became of the views in the last run, sorted by their names.
sub views
{
	return query("string_agg(replace(v ->> 'view', 'public.', '') || ' ' || (v ->> 'method'), ', ' ORDER BY v ->> 'view')"
		  . " FROM (SELECT jsonb_array_elements(result -> 'views') AS v FROM challenge_jobs.job_run"
		  . " WHERE job = '$REFRESH' AND run_id = (SELECT max(run_id) FROM challenge_jobs.job_run)) r");
}
