/*
 * When alerts are raised: on a change of a job's state, and then once. What would be wrong otherwise: a pager
 * that rings at every failure is switched off; one that does not ring at the first is useless.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* Every new row of notifications with one of these users fails. */
CREATE TABLE t.bad (user_id integer);
GRANT SELECT ON t.bad TO cj_app;
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM t.bad b WHERE b.user_id = NEW.user_id) THEN
        RAISE EXCEPTION 'user % cannot be notified', NEW.user_id
            USING errcode = '23514', detail = E'a "quoted"\ndetail with ü and 日本', hint = 'have a look';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON app.notifications FOR EACH ROW EXECUTE FUNCTION t.refuse();

/* t.fail: a run that fails in part. (One that fails as a whole raises, and nothing of it stays.) */
CREATE FUNCTION t.fail(dry_run boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.challenges;
    DELETE FROM app.challenge_members;
    DELETE FROM t.bad;
    INSERT INTO app.challenges (id, name) VALUES (1, 'good'), (2, 'bad');
    INSERT INTO app.challenge_members VALUES (1, 1), (2, 2);
    INSERT INTO t.bad VALUES (2);
    PERFORM t.run(dry_run => fail.dry_run), challenge_jobs.settle_alerts();
    RETURN (t.last_run()).status;
END
$$;
CREATE FUNCTION t.succeed(as_of timestamptz DEFAULT now(), dry_run boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM t.bad;
    PERFORM t.run(as_of, dry_run), challenge_jobs.settle_alerts();
    RETURN (t.last_run()).status;
END
$$;
/* A run whose backend was found to be gone, just now. */
CREATE FUNCTION t.crash() RETURNS void LANGUAGE sql AS $$
    WITH run AS (
        INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, finished_at, status, role_name, pid)
        VALUES ('auto_complete_challenges', 'test', clock_timestamp(), clock_timestamp(), 'crashed', 'postgres', 1)
        RETURNING run_id)
    INSERT INTO challenge_jobs.unsettled_run SELECT run_id FROM run
$$;
CREATE FUNCTION t.kinds(job text DEFAULT 'auto_complete_challenges') RETURNS text LANGUAGE sql AS $$
    SELECT COALESCE(string_agg(a.kind, ' ' ORDER BY a.alert_id), '') FROM challenge_jobs.alert a WHERE a.job = kinds.job
$$;
CREATE FUNCTION t.last_alert() RETURNS challenge_jobs.alert LANGUAGE sql AS $$
    SELECT a FROM challenge_jobs.alert a ORDER BY a.alert_id DESC LIMIT 1
$$;

/* ---- failed, recovered ---- */
SELECT is(t.succeed(), 'succeeded', 'the first run of a job succeeds');
SELECT is(t.kinds(), '', 'a first success raises no alert');
SELECT is(t.fail(true), 'succeeded', 'a dry run succeeds where the run would fail');
SELECT is(t.fail(), 'failed', 'the first run that fails is recorded as failed');
SELECT is(t.kinds(), 'failed', 'the first failure raises an alert');
SELECT is((t.last_alert()).run_id, (t.last_run()).run_id, 'the alert of a failure has the run that failed');
SELECT is(t.fail(), 'failed', 'a second run in a row fails');
SELECT is(t.kinds(), 'failed', 'a second failure in a row raises no further alert');
SELECT is(t.succeed(dry_run => true), 'succeeded', 'a dry run that works');
SELECT is(t.kinds(), 'failed', 'a dry run that succeeds is no recovery');
SELECT is(t.succeed(), 'succeeded', 'a run succeeds after failures');
SELECT is(t.kinds(), 'failed recovered', 'a success after failures raises the alert of a recovery');
SELECT is((t.last_alert()).run_id, (t.last_run()).run_id, 'the alert of a recovery has the run that succeeded');
SELECT is((t.last_alert()).payload ->> 'consecutive_failures', '2', 'after as many failures');
SELECT is(t.succeed(), 'succeeded', 'a second run in a row succeeds');
SELECT is(t.kinds(), 'failed recovered', 'a second success in a row raises no further alert');
SELECT is(t.fail(), 'failed', 'a run fails after the recovery');
SELECT is(t.kinds(), 'failed recovered failed', 'a failure after a recovery raises an alert again');

/* ---- what an operator needs ---- */
SELECT is((SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys((t.last_alert()).payload) k),
          'attempt cluster_name consecutive_failures database detail duration_seconds finished_at hint host job '
          'kind message port previous_success raised_at role_name run_id sqlstate started_at status triggered_by',
          'the keys of a payload');
SELECT is((t.last_alert()).payload ->> 'sqlstate', '23514', 'the payload has the SQLSTATE of the failure');
SELECT is((t.last_alert()).payload ->> 'message', 'user 2 cannot be notified', 'the payload has the message of the failure');
SELECT is((t.last_alert()).payload ->> 'detail', (t.last_run()).detail, 'detail, with quotes, newlines and non-ASCII');
SELECT is((t.last_alert()).payload ->> 'hint', 'have a look', 'the payload has the hint of the failure');
SELECT is((t.last_alert()).payload ->> 'database', current_database()::text, 'the payload has the name of the database');
SELECT is(((t.last_alert()).payload ->> 'started_at')::timestamptz, (t.last_run()).started_at, 'started_at, to the microsecond');
SELECT is((t.last_alert()).payload ->> 'previous_success',
          (SELECT to_char(max(finished_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
             FROM challenge_jobs.job_run WHERE status = 'succeeded' AND NOT dry_run),
          'the previous success, in UTC');
SET LOCAL TimeZone = 'Pacific/Kiritimati';
SET LOCAL DateStyle = 'German';
SELECT is(t.succeed(), 'succeeded', 'whatever the settings of the session');
SELECT matches((t.last_alert()).payload ->> 'raised_at', '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$', 'moments look the same');
RESET TimeZone;
RESET DateStyle;

SELECT t.fail(), t.succeed() \g /dev/null
CREATE OR REPLACE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM t.bad b WHERE b.user_id = NEW.user_id) THEN
        RAISE EXCEPTION '%', repeat('日', 1000000);
    END IF;
    RETURN NEW;
END
$$;
SELECT is(t.fail(), 'failed', 'a failure with a message of megabytes');
SELECT is(length((t.last_alert()).payload ->> 'message'), 4000, 'has an alert with the beginning of it');
SELECT is(t.succeed(), 'succeeded', 'the run after that failure succeeds');

/* ---- crashed ---- */
DELETE FROM challenge_jobs.alert;
CREATE OR REPLACE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM t.bad b WHERE b.user_id = NEW.user_id) THEN
        RAISE EXCEPTION 'no';
    END IF;
    RETURN NEW;
END
$$;
SELECT t.crash() \g /dev/null
SELECT is(t.succeed(), 'succeeded', 'a run after one that crashed');
SELECT is(t.kinds(), 'crashed recovered', 'raises both, in their order');
SELECT is((SELECT payload ->> 'status' FROM challenge_jobs.alert WHERE kind = 'crashed'), 'crashed', 'with the status of the run that crashed');
SELECT t.crash() \g /dev/null
SELECT is(t.fail(), 'failed', 'a failure after a crash');
SELECT is(t.kinds(), 'crashed recovered crashed', 'a failure right after a crash raises no further alert');
SELECT t.crash() \g /dev/null
SELECT is(t.fail(), 'failed', 'nor is another crash');
SELECT is(t.kinds(), 'crashed recovered crashed', 'a second crash in a row raises no further alert');
SELECT t.succeed() \g /dev/null
SELECT is(t.fail(), 'failed', 'a run after the recovery fails');
SELECT t.crash() \g /dev/null
SELECT is(t.fail(), 'failed', 'a run after a crash that followed a failure fails');
SELECT is(t.kinds(), 'crashed recovered crashed recovered failed crashed', 'a crash after failures is something else than they are');
SELECT t.crash(), t.crash() \g /dev/null
SELECT is(t.succeed(), 'succeeded', 'two crashes at once');
SELECT is(t.kinds(), 'crashed recovered crashed recovered failed crashed recovered', 'failures and crashes in a row share one alert and one recovery');

SELECT is(t.fail(), 'failed', 'a run after the recovery from two crashes fails');
WITH run AS (
    INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid, result)
    VALUES ('auto_complete_challenges', 'test', now(), clock_timestamp(), clock_timestamp(), 'succeeded', 'x', pg_backend_pid(), '{"locked": 1}')
    RETURNING run_id)
INSERT INTO challenge_jobs.unsettled_run SELECT run_id FROM run;
SELECT challenge_jobs.settle_alerts() \g /dev/null
SELECT is((t.last_alert()).kind, 'failed', 'a success that has left something over is no recovery: what failed may have been skipped');
SELECT t.succeed() \g /dev/null
SELECT is((t.last_alert()).kind, 'recovered', 'one that has not is');

/* ---- overdue ---- */
DELETE FROM challenge_jobs.alert;
CREATE FUNCTION t.overdue(slot timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO challenge_jobs.alert (job, kind, episode, scheduled_for, raised_at, payload)
    VALUES ('auto_complete_challenges', 'overdue',
            COALESCE((SELECT max(alert_id) FROM challenge_jobs.alert WHERE kind = 'recovered'), 0),
            slot, clock_timestamp(), jsonb_build_object('scheduled_for', slot))
$$;
SELECT t.overdue(now() - interval '1 hour'), t.overdue(now() - interval '30 minutes') \g /dev/null
SELECT is(t.error(format('SELECT t.overdue(%L)', now() - interval '1 hour')),
          '23505: duplicate key value violates unique constraint "alert_once_idx"',
          'two alerts for one scheduled time are impossible');
SELECT is(t.fail(), 'failed', 'a job that is overdue can fail');
SELECT is(t.kinds(), 'overdue overdue failed', 'a failure while the job is overdue raises an alert of its own');
SELECT t.overdue(now() - interval '15 minutes') \g /dev/null
SELECT is(t.fail(), 'failed', 'a second run fails when the job has become overdue again');
SELECT is(t.kinds(), 'overdue overdue failed overdue', 'though it has become overdue since');
SELECT is(t.succeed(as_of => now() - interval '16 minutes'), 'succeeded', 'a success that does not cover the last scheduled time');
SELECT is(t.kinds(), 'overdue overdue failed overdue', 'a success that does not cover the scheduled time is no recovery from being overdue');
SELECT is(t.succeed(as_of => now() - interval '15 minutes'), 'succeeded', 'a run as of the scheduled time succeeds');
SELECT is(t.kinds(), 'overdue overdue failed overdue recovered', 'a success that covers the scheduled time is the recovery');
SELECT is(t.succeed(), 'succeeded', 'the run after the recovery succeeds');
SELECT is(t.kinds(), 'overdue overdue failed overdue recovered', 'the success after the recovery raises no further alert');

/* ---- no others' business ---- */
SELECT t.fail() \g /dev/null
SELECT is(t.kinds('send_streak_reminders'), '', 'the alerts of a job are its own');
SELECT is((SELECT count(*) FROM challenge_jobs.alert WHERE announced_at IS NOT NULL), 0::bigint,
          'a job function announces nothing in its caller''s transaction: it may be prepared, or rolled back');
SELECT throws_ok($$INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload) VALUES ('x', 'strange', 0, now(), '{}')$$,
                 '23514', NULL, 'there are four kinds');

/* ---- clean-up ---- */
DELETE FROM challenge_jobs.alert;
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"failed_run_retention": "30 days"}') \g /dev/null
SELECT t.fail(), t.succeed(), t.fail(), t.succeed(), t.fail() \g /dev/null
SELECT is(t.kinds(), 'failed recovered failed recovered failed', 'a job that fails again and again');
UPDATE challenge_jobs.alert SET raised_at = now() - interval '31 days';
SELECT * FROM public.cleanup_expired_notifications() \g /dev/null
SELECT is(t.kinds(), 'recovered failed', 'old alerts go, but not those that tell how the job is now');
SELECT t.fail() \g /dev/null
SELECT is(t.kinds(), 'recovered failed', 'so that nothing is reported again');
SELECT t.succeed(), t.fail(), t.succeed() \g /dev/null
UPDATE challenge_jobs.alert SET raised_at = now() - CASE kind WHEN 'failed' THEN interval '31 days' ELSE interval '29 days' END;
SELECT * FROM public.cleanup_expired_notifications() \g /dev/null
SELECT is(t.kinds(), 'recovered recovered recovered', 'alerts that are younger stay');
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"failed_run_retention": "1 day"}') \g /dev/null
UPDATE challenge_jobs.alert SET raised_at = now() - interval '3 days', delivered_at = now(), next_attempt_at = NULL
 WHERE alert_id = (SELECT min(alert_id) FROM challenge_jobs.alert);
UPDATE challenge_jobs.alert SET raised_at = now() - interval '3 days' WHERE next_attempt_at IS NOT NULL;
SELECT * FROM public.cleanup_expired_notifications() \g /dev/null
SELECT is(t.kinds(), 'recovered recovered', 'and those that may still be delivered');

/* ---- the application's own code ---- */
SELECT ok(NOT has_table_privilege('cj_app', 'challenge_jobs.alert', 'SELECT'), 'the owner of the tables cannot read alerts');

/* ---- what a caller of a job function can bring about does not hide a failure of run() ---- */
DELETE FROM challenge_jobs.alert;
CREATE FUNCTION t.failed_by(triggered_by text) RETURNS bigint LANGUAGE sql AS $$
    WITH run AS (
        INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid)
        VALUES ('auto_complete_challenges', triggered_by, now(), clock_timestamp(), clock_timestamp(), 'failed', 'x', pg_backend_pid())
        RETURNING run_id)
    INSERT INTO challenge_jobs.unsettled_run SELECT run_id FROM run RETURNING run_id
$$;
SELECT t.failed_by('function'), challenge_jobs.settle_alerts() \g /dev/null
SELECT t.failed_by('function'), challenge_jobs.settle_alerts() \g /dev/null
SELECT is(t.kinds(), 'failed', 'job functions that fail one after another raise one alert');
SELECT t.failed_by('pg_cron') AS run, challenge_jobs.settle_alerts() \gset
SELECT is(t.kinds(), 'failed failed', 'the first failure of run() after them raises another');
SELECT is((t.last_alert()).run_id, :run::bigint, 'which is of the run of run()');
SELECT t.failed_by('retry'), t.failed_by('function'), challenge_jobs.settle_alerts() \g /dev/null
SELECT is(t.kinds(), 'failed failed', 'neither a retry nor a job function that fails after run() raises an alert');
SELECT t.succeed() \g /dev/null
SELECT is(t.kinds(), 'failed failed recovered', 'a success ends both failures with one alert');

/* ---- many at once, as they come from functions that are called again and again ---- */
DELETE FROM challenge_jobs.alert;
CREATE FUNCTION t.ended(status text, age interval) RETURNS bigint LANGUAGE sql AS $$
    WITH run AS (
        INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid)
        VALUES ('auto_complete_challenges', 'test', clock_timestamp() - age, clock_timestamp(), clock_timestamp(), status, 'x', pg_backend_pid())
        RETURNING run_id)
    INSERT INTO challenge_jobs.unsettled_run SELECT run_id FROM run RETURNING run_id
$$;
SELECT t.ended('succeeded', '1 s'), t.ended('succeeded', '0'), t.ended('failed', '0'), t.ended('succeeded', '1 day'), t.ended('succeeded', '0') AS last,
       t.ended('succeeded', '1 day'), t.ended('succeeded', '2 days') \gset
SELECT challenge_jobs.settle_alerts() \g /dev/null
SELECT is(t.kinds(), 'failed recovered', 'a failure between successes is reported');
SELECT is((t.last_alert()).run_id, :last::bigint, 'and ended by the success that is as of a later moment');
SELECT is((SELECT count(*) FROM challenge_jobs.unsettled_run), 0::bigint, 'nothing is left to be settled');

SELECT * FROM finish();
ROLLBACK;
