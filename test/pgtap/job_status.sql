/*
 * The views job_status and metrics over a log that stands here, and what the doctor makes of it.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
SET TIME ZONE 'UTC';
SET LOCAL IntervalStyle = 'postgres';
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '10 days';

/* Adds a run that began so many minutes ago and took so many seconds. */
CREATE FUNCTION t.ran(minutes numeric, status text, seconds numeric DEFAULT 1, triggered_by text DEFAULT 'external', dry_run boolean DEFAULT false,
                      message text DEFAULT NULL, as_of timestamptz DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    INSERT INTO challenge_jobs.job_run (job, status, triggered_by, dry_run, as_of, started_at, finished_at, rows_affected, message, role_name, pid)
    SELECT 'auto_complete_challenges', status, triggered_by, dry_run, COALESCE(as_of, m), m,
           CASE WHEN status <> 'running' THEN m + seconds * interval '1 s' END, 7, message, 'nobody', pg_backend_pid()
      FROM (SELECT clock_timestamp() - minutes * interval '1 min') AS moment(m)
$$;
/* Columns of the job's status. */
CREATE FUNCTION t.status(columns text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT concat_ws('' '', %s) FROM challenge_jobs.job_status WHERE job = ''auto_complete_challenges''', columns) INTO found;
    RETURN found;
END
$$;
CREATE FUNCTION t.metric(name text, status text DEFAULT NULL) RETURNS double precision LANGUAGE sql AS $$
    SELECT value FROM challenge_jobs.metrics m
     WHERE m.name = metric.name
       AND m.labels = jsonb_strip_nulls(jsonb_build_object('job', 'auto_complete_challenges', 'status', metric.status))
$$;
CREATE FUNCTION t.doctor() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(split_part(finding, ':', 1), ' ' ORDER BY finding)
      FROM challenge_jobs.doctor() WHERE check_name = 'state:auto_complete_challenges'
$$;
CREATE FUNCTION t.forget() RETURNS void LANGUAGE sql AS 'DELETE FROM challenge_jobs.job_run';

SELECT results_eq('SELECT job FROM challenge_jobs.job_status ORDER BY 1', 'SELECT job FROM challenge_jobs.job ORDER BY 1', 'a row for every job');

/* ---- the state: the first that applies ---- */
UPDATE challenge_jobs.job_override SET scheduled_at = now();
SELECT is(t.status('state'), 'never_run', 'no run yet, and none was due');
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '10 days';
SELECT is(t.status('state'), 'overdue', 'none yet, and one was due');
SELECT is(t.doctor(), 'overdue', 'the doctor says so');
SELECT is(t.metric('challenge_jobs_overdue'), 1.0::float8, 'the metric challenge_jobs_overdue is 1 for a job that is overdue');
SELECT t.ran(0, 'running') \g /dev/null
SELECT is(t.status('state, last_status'), 'overdue crashed', 'nobody holds the lock: the run is dead');
SELECT is(t.metric('challenge_jobs_running'), 0.0::float8, 'the metric challenge_jobs_running is 0 for a run whose process is dead');
/* the lock is this transaction's to its end */
SELECT auto_complete_challenges() \g /dev/null
SELECT t.forget(), t.ran(0, 'running') \g /dev/null
SELECT is(t.status('state, last_status'), 'overdue running', 'a run at work has not done it yet');
SELECT t.forget(), t.ran(2, 'succeeded') \g /dev/null
SELECT is(t.status('state'), 'ok', 'a run that succeeded');
SELECT is(t.doctor(), NULL, 'the doctor is content');
SELECT is(t.metric('challenge_jobs_overdue'), 0.0::float8, 'and so is the metric');
SELECT t.ran(0, 'running') \g /dev/null
SELECT is(t.status('state, last_status'), 'running running', 'and one at work');
SELECT is(t.metric('challenge_jobs_running'), 1.0::float8, 'the metric challenge_jobs_running is 1 while a run is at work');
CREATE FUNCTION t.state_after(VARIADIC statuses text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.forget();
    FOR i IN 1 .. cardinality(statuses) LOOP
        PERFORM t.ran(cardinality(statuses) - i + 1, statuses[i]);
    END LOOP;
    RETURN t.status('state, last_status, consecutive_failures');
END
$$;
SELECT is(t.state_after('succeeded', 'failed'), 'failing failed 1', 'a failed run after a success is one failure in a row');
SELECT is(t.state_after('succeeded', 'crashed'), 'failing crashed 1', 'a crashed run after a success is one failure in a row');
SELECT is(t.state_after('succeeded', 'cancelled'), 'failing cancelled 1', 'a cancelled run after a success is one failure in a row');
SELECT is(t.state_after('succeeded', 'rolled_back'), 'ok rolled_back 0', 'what a caller takes back is no failure');
SELECT is(t.state_after('failed', 'skipped'), 'failing skipped 1', 'a run that was skipped changes nothing');
SELECT is(t.state_after('failed', 'crashed', 'failed', 'skipped', 'cancelled'), 'failing cancelled 4', 'how many in a row');
SELECT is(t.state_after('failed', 'failed', 'succeeded', 'failed'), 'failing failed 1', 'since the last success');
SELECT is(t.state_after('failed', 'failed', 'succeeded'), 'ok succeeded 0', 'a success after failures leaves no failure in a row');
SELECT is(t.state_after('failed', 'running'), 'failing running 1', 'a run at work has not mended it yet');
SELECT is(t.metric('challenge_jobs_failing'), 1.0::float8, 'the metric says so');
SELECT is(t.doctor(), 'failing overdue', 'the doctor says both');
SELECT is(t.state_after('succeeded', 'failed', 'succeeded', 'skipped'), 'ok skipped 0', 'a skipped run after a success changes nothing about the state');
SELECT t.forget(), t.ran(5, 'failed'), t.ran(4, 'succeeded') \g /dev/null
UPDATE challenge_jobs.job_run SET result = '{"locked": 1}' WHERE status = 'succeeded';
SELECT is(t.status('state, last_status, consecutive_failures'), 'failing succeeded 1', 'a success with locked rows ends no failure: what failed may have been skipped');
UPDATE challenge_jobs.job_run SET result = '{"locked": 0}' WHERE status = 'succeeded';
SELECT is(t.status('state, last_status, consecutive_failures'), 'ok succeeded 0', 'one that has not does');
SELECT t.forget(), t.ran(5, 'failed'), t.ran(4, 'succeeded', dry_run => true) \g /dev/null
SELECT is(t.status('state, last_status, consecutive_failures, last_success'), 'failing failed 1', 'a dry run is no run');
SELECT t.forget(), t.ran(5, 'succeeded', dry_run => true) \g /dev/null
SELECT is(t.status('last_run'), '', 'not even a first one');
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false) \g /dev/null
SELECT is(t.state_after('failed'), 'disabled failed 1', 'a disabled job that failed is shown as disabled');
SELECT is(t.status('next_due'), '', 'and is never due');
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => true) \g /dev/null
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '10 days';

/* ---- times ---- */
SELECT is(t.status('next_due'), (date_trunc('day', now()) + interval '1 day')::text, 'the next scheduled time');
SELECT challenge_jobs.unschedule('auto_complete_challenges') \g /dev/null
SELECT is(t.status('next_due'), '', 'none, if the job is not scheduled');
SELECT is(t.state_after('skipped'), 'never_run skipped 0', 'nor is it overdue');
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
SELECT t.forget(), t.ran(60 * 30, 'succeeded', 3, as_of => now() + interval '1 day'), t.ran(10, 'succeeded', as_of => now() - interval '1 year'),
       t.ran(5, 'failed', message => 'it rains') \g /dev/null
SELECT is(t.status('date_trunc(''minute'', clock_timestamp() - last_run), last_status, last_message, date_trunc(''minute'', clock_timestamp() - last_success)'),
          '00:05:00 failed it rains 00:09:00', 'the last run, and the last success: not the one as of a moment that has not come yet');
SELECT is(t.doctor(), 'failing the last successful run has an as_of of ' || to_char(now() + interval '1 day', 'YYYY-MM-DD HH24'),
          'a success of the future is something for the doctor');

/* ---- durations ---- */
SELECT t.forget(), t.ran(14, 'succeeded', 1000000) \g /dev/null
SELECT t.ran(12 - n / 100.0, 'succeeded', n) FROM generate_series(1, 100) n \g /dev/null
SELECT is(t.status('avg_duration, p95_duration'), '00:00:50.5 00:01:35.05', 'average and 95th percentile of the last 100');
SELECT t.ran(1, 'failed', 5000), t.ran(1, 'skipped', 5000) FROM generate_series(1, 10) \g /dev/null
SELECT is(t.status('avg_duration, consecutive_failures'), '00:00:50.5 10', 'of those that succeeded');
SELECT t.ran(1, 'skipped') FROM generate_series(1, 900) \g /dev/null
SELECT is(t.status('state, last_status'), 'failing skipped', 'however often it was skipped since');
SELECT t.ran(1, 'skipped') FROM generate_series(1, 200) \g /dev/null
SELECT is(t.status('state, last_status, consecutive_failures'), 'failing skipped 10', 'and if that is more than 1000 times');
SELECT t.ran(1, 'rolled_back'), t.ran(1, 'succeeded', dry_run => true) FROM generate_series(1, 1100) \g /dev/null
SELECT is(t.status('state, consecutive_failures'), 'failing 10', 'whatever is rolled back, whatever is dry');
SELECT t.ran(1, 'succeeded', as_of => '2001-01-01') FROM generate_series(1, 1100) \g /dev/null
SELECT is(t.status('state, consecutive_failures'), 'failing 10', 'who has it succeed as of the past ends nothing');
SELECT is(t.metric('challenge_jobs_failing'), 1.0::float8, 'nor for the metric');
SELECT t.ran(1, 'succeeded', as_of => clock_timestamp() - interval '30 s') \g /dev/null
SELECT is(t.status('state, consecutive_failures'), 'ok 0', 'as of a later moment it does');
SELECT t.ran(1, 'failed', as_of => clock_timestamp() - interval '10 s'), t.ran(0.1, 'failed', as_of => '2001-01-01'),
       t.ran(0.1, 'succeeded', as_of => '2001-01-01'), t.ran(0.1, 'succeeded', as_of => clock_timestamp() - interval '11 s') \g /dev/null
SELECT is(t.status('state'), 'failing', 'a moment before that of the failure is not enough');
SELECT t.forget() \g /dev/null
SELECT t.ran(1, 'failed') FROM generate_series(1, 1100) \g /dev/null
SELECT is(t.status('consecutive_failures'), '1000', 'failures are counted up to 1000');

/* ---- metrics ---- */
SELECT t.forget(), t.ran(90, 'succeeded', 60), t.ran(60, 'succeeded', 30), t.ran(30, 'failed', 2) \g /dev/null
SELECT is(t.metric('challenge_jobs_runs', 'succeeded'), 2.0::float8, 'the metric challenge_jobs_runs counts the runs of each status');
SELECT is(t.metric('challenge_jobs_runs', 'crashed'), 0.0::float8, 'also those that there are none of');
SELECT ok(t.metric('challenge_jobs_seconds_since_last_success') BETWEEN 3570 AND 3600, 'seconds since the last success');
SELECT is(t.metric('challenge_jobs_last_duration_seconds'), 30.0::float8, 'how long it took');
SELECT is(t.metric('challenge_jobs_last_rows_affected'), 7.0::float8, 'the metric challenge_jobs_last_rows_affected has the rows of the last run');
SELECT is(t.metric('challenge_jobs_consecutive_failures'), 1.0::float8, 'the metric challenge_jobs_consecutive_failures counts the failures since the last success');
SELECT is(array_agg(DISTINCT (SELECT string_agg(key, ' ' ORDER BY key) FROM jsonb_object_keys(labels) key)), '{job,job status}', 'labels are flat')
  FROM challenge_jobs.metrics;
SELECT is(count(*), count(DISTINCT (name, labels)), 'no sample is there twice') FROM challenge_jobs.metrics;
SELECT ok(bool_and(name ~ '^challenge_jobs_[a-z_]+$' AND value IS NOT NULL), 'names and values are what Prometheus takes') FROM challenge_jobs.metrics;
SELECT t.forget() \g /dev/null
SELECT is(t.metric('challenge_jobs_seconds_since_last_success'), NULL, 'what is not known is not there');

/* ---- whoever may look ---- */
CREATE ROLE cj_viewer;
GRANT USAGE ON SCHEMA challenge_jobs TO cj_viewer;
GRANT SELECT ON challenge_jobs.job_status, challenge_jobs.metrics TO cj_viewer;
GRANT EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.watchdog(timestamptz) TO cj_viewer;
SET LOCAL ROLE cj_viewer;
SELECT lives_ok('TABLE challenge_jobs.job_status', 'a viewer needs no rights on the tables');
SELECT lives_ok('TABLE challenge_jobs.metrics', 'nor for the metrics');
SELECT is(t.error('TABLE challenge_jobs.job_run'), '42501: permission denied for table job_run', 'a role that may read the metrics may not read job_run');
RESET ROLE;
SELECT is(t.error('SELECT * FROM challenge_jobs.watchdog(''infinity'')'), '22023: at must be finite', 'the watchdog wants a moment');
SELECT is(t.error('SELECT * FROM challenge_jobs.watchdog(NULL)'), '22004: at must not be null', 'and one that is known');

SELECT * FROM finish();
ROLLBACK;
