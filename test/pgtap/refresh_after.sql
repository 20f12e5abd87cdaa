/*
 * When the statistics are refreshed since challenges were decided, and when their refresh waits for that: case by case as in
 * watchdog.sql, and against plain SQL for logs made at random. auto_complete_challenges (A) is due at midnight,
 * refresh_challenge_stats (R) at each hour, from 2030-01-01 10:00 on.
 */
BEGIN;
\ir app.psql
\ir doctor.psql
SELECT no_plan();
SET TIME ZONE 'UTC';
SET LOCAL DateStyle = 'ISO';
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
SELECT challenge_jobs.schedule('refresh_challenge_stats', 'external') \g /dev/null
UPDATE challenge_jobs.job_override SET scheduled_at = '2030-01-01 10:00';
INSERT INTO challenge_jobs.tracking VALUES ('app.v', 'challenge_id');

/* Changes of "R: …" and "A: …", each a list for SET. */
CREATE FUNCTION t.configure(configuration text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    change  text;
BEGIN
    UPDATE challenge_jobs.job_override
       SET engine = 'external', scheduled_at = '2030-01-01 10:00', schedule = NULL, enabled = NULL, grace = NULL, catch_up = NULL, max_retries = NULL,
           settings = settings - 'refresh_after';
    FOREACH change IN ARRAY string_to_array(configuration, '; ') LOOP
        EXECUTE format('UPDATE challenge_jobs.job_override SET %s WHERE job = %L', substr(change, 4),
                       CASE left(change, 1) WHEN 'A' THEN 'auto_complete_challenges' ELSE 'refresh_challenge_stats' END);
    END LOOP;
END
$$;

/* Puts runs into the log, numbered from 1: "job status as_of [column=value ...]", the date without the year; seen: a run, rows: how many. */
CREATE FUNCTION t.log(VARIADIC runs text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part    text[];
    given   jsonb;
    began   timestamptz;
BEGIN
    DELETE FROM challenge_jobs.job_run;
    FOR i IN 1 .. cardinality(runs) LOOP
        CONTINUE WHEN runs[i] = '';
        part := string_to_array(runs[i], ' ');
        SELECT COALESCE(jsonb_object_agg(split_part(p, '=', 1), split_part(p, '=', 2)), '{}') INTO given FROM unnest(part[5:]) p;
        began := ('2030-' || part[3] || ' ' || part[4])::timestamptz;
        INSERT INTO challenge_jobs.job_run (run_id, job, status, triggered_by, dry_run, as_of, started_at, finished_at, attempt, scheduled_for,
                                            rows_affected, result, role_name, pid)
        OVERRIDING SYSTEM VALUE
        VALUES (i, CASE part[1] WHEN 'A' THEN 'auto_complete_challenges' ELSE 'refresh_challenge_stats' END, part[2],
                COALESCE(given->>'by', 'pg_cron'), COALESCE((given->>'dry')::boolean, false), began, began,
                CASE WHEN part[2] <> 'running' THEN began + COALESCE((given->>'took')::int, 5) * interval '1 s' END,
                COALESCE((given->>'attempt')::int, 1), CASE WHEN given ? 'for' THEN date_trunc('hour', began) END,
                CASE WHEN part[2] = 'skipped' THEN 0 WHEN part[2] NOT IN ('running', 'crashed') THEN COALESCE((given->>'rows')::bigint, 0) END,
                CASE WHEN given ?| '{seen,left,not_refreshed}' THEN
                    jsonb_strip_nulls(jsonb_build_object('after_run', (given->>'seen')::bigint, 'locked', (given->>'left')::bigint,
                                                         'not_refreshed', (given->>'not_refreshed')::bigint)) END,
                'nobody', 1);
    END LOOP;
END
$$;

/* What is decided of R: what is to be started, for which scheduled time and as which attempt; "later" if not yet; what it waits for. */
CREATE FUNCTION t.decision(at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', action, to_char(scheduled_for, 'MM-DD HH24:MI'), CASE WHEN attempt > 1 THEN '#' || attempt END,
                     CASE WHEN action_at > decision.at THEN 'later' END, CASE WHEN waits_for IS NOT NULL THEN 'waits' END)
      FROM challenge_jobs.watchdog(decision.at)
     WHERE job = 'refresh_challenge_stats'
$$;

CREATE FUNCTION t.case(name text, at text, wanted text, configuration text, VARIADIC runs text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.configure(configuration);
    PERFORM t.log(VARIADIC runs);
    RETURN is(t.decision(('2030-' || at)::timestamptz), wanted, name);
END
$$;

/* ---- challenges were decided ---- */
SELECT t.case('nothing was decided: nothing follows', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00');
SELECT t.case('a run that decided is followed', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('at once', '01-02 00:00:05', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('once', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R succeeded 01-02 00:00:20 by=after_decisions seen=2 not_refreshed=1');
SELECT t.case('two runs that decided are followed by one', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1',
              'A succeeded 01-02 00:00:10 rows=1', 'R succeeded 01-02 00:00:20 by=after_decisions seen=3');
SELECT t.case('any refresh that has seen them will do', '01-02 00:01', '', '', 'A succeeded 01-02 00:00 rows=1', 'R succeeded 01-02 00:00:20 seen=1');
SELECT t.case('also in the transaction of a caller', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R succeeded 01-02 00:00:20 by=function seen=2');
SELECT t.case('not one that was rolled back', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R rolled_back 01-02 00:00:20 by=function seen=2');
SELECT t.case('one that was started later, and has not seen them, does not', '01-02 00:01', 'after_decisions', '',
              'A succeeded 01-02 00:00 rows=1 by=function', 'R succeeded 01-02 00:00:20 seen=0');
SELECT t.case('nor one that began in the middle', '01-02 00:01', 'after_decisions', '', 'A succeeded 01-02 00:00 rows=1 took=40', 'R succeeded 01-02 00:00:20 seen=0');
SELECT t.case('a job function that decided is followed', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1 by=function');
SELECT t.case('a dry run is not', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1 by=function dry=true');
SELECT t.case('nor one that was rolled back', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A rolled_back 01-02 00:00 rows=1 by=function');
SELECT t.case('one that failed has decided what it has', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A failed 01-02 00:00 rows=1');
SELECT t.case('or nothing', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A failed 01-02 00:00');
SELECT t.case('of one that crashed nobody knows', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A crashed 01-02 00:00');
SELECT t.case('one at work has not come to its end', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A running 01-02 00:00');
SELECT t.case('a later run that decided nothing changes nothing', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'A succeeded 01-02 00:00:30');
SELECT t.case('a clock that was set back does not matter', '01-01 12:00', 'after_decisions', '', 'R succeeded 01-08 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');

/* ---- whether ---- */
SELECT t.case('not beside a refresh', '01-02 00:01', '', '', 'A succeeded 01-02 00:00 rows=1', 'R running 01-02 00:00:30');
SELECT t.case('not with the setting "off"', '01-02 00:01', '', 'A: settings = settings || ''{"refresh_after": "off"}''', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('with "all"', '01-02 00:01', 'after_decisions', 'A: settings = settings || ''{"refresh_after": "all"}''', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('not before schedule()', '01-01 10:01', '', '', 'A succeeded 01-01 09:59 rows=1');
SELECT t.case('but from then on', '01-01 10:01', 'after_decisions', '', 'A succeeded 01-01 10:00 rows=1');
SELECT t.case('not where R is disabled', '01-02 00:01', '', 'R: enabled = false', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('not where R is not scheduled', '01-02 00:01', '', 'R: engine = NULL, scheduled_at = NULL', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('A need not be', '01-02 00:01', 'after_decisions', 'A: engine = NULL, scheduled_at = NULL', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1 by=manual');
DELETE FROM challenge_jobs.tracking;
SELECT t.case('nothing is tracked: nothing follows', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('but with "all"', '01-02 00:01', 'after_decisions', 'A: settings = settings || ''{"refresh_after": "all"}''', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
INSERT INTO challenge_jobs.tracking VALUES ('app.v', 'challenge_id');
SELECT challenge_jobs.pause() \g /dev/null
SELECT t.case('not while all jobs are paused', '01-02 00:01', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT challenge_jobs.resume() \g /dev/null
SELECT t.case('but afterwards', '01-02 00:01', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1');

/* ---- with scheduled times and retries ---- */
SELECT t.case('a run that left views out covers no scheduled time', '01-02 01:20', 'catch_up 01-02 01:00', '', 'R succeeded 01-02 00:00 seen=0', 'R succeeded 01-02 01:00:10 by=after_decisions seen=0 not_refreshed=1');
SELECT t.case('one that left out none does', '01-02 01:20', '', '', 'R succeeded 01-02 00:00 seen=0', 'R succeeded 01-02 01:00:10 by=after_decisions seen=0');
SELECT t.case('a scheduled time that has come serves for both', '01-02 01:00', 'worker 01-02 01:00', 'R: engine = ''worker''', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:59:50 rows=1');
SELECT t.case('as does one that was missed', '01-02 01:20', 'catch_up 01-02 01:00', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:59:50 rows=1');
SELECT t.case('where none is caught up, R follows', '01-02 01:20', 'after_decisions', 'R: catch_up = ''skip''', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:59:50 rows=1');
SELECT t.case('and where that did not succeed', '01-02 01:20', 'after_decisions', '', 'R cancelled 01-02 01:16 by=catch_up for=1', 'A succeeded 01-02 01:19 rows=1');
SELECT t.case('a retry serves for both', '01-02 00:00:30', 'retry #2 later', '', 'R failed 01-02 00:00', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('what followed and failed is retried as such', '01-02 00:02', 'after_decisions #2', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R failed 01-02 00:00:20 by=after_decisions seen=2');
SELECT t.case('also if it was skipped', '01-02 00:02', 'after_decisions #2', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R skipped 01-02 00:00:20 by=after_decisions');
SELECT t.case('unless whoever was in its way has seen all', '01-02 00:02', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R skipped 01-02 00:00:20 by=after_decisions',
              'R succeeded 01-02 00:00:25 by=function seen=2');
SELECT t.case('not for ever', '01-02 00:10', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R crashed 01-02 00:00:20 by=after_decisions attempt=4');
SELECT t.case('nor after it was cancelled', '01-02 00:10', '', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R cancelled 01-02 00:00:20 by=after_decisions');
SELECT t.case('but since challenges were decided again', '01-02 00:10', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R cancelled 01-02 00:00:20 by=after_decisions', 'A succeeded 01-02 00:01 rows=1');
SELECT t.case('a run that was cancelled before it looked is followed', '01-02 00:10', 'after_decisions', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-02 00:00 rows=1', 'R cancelled 01-02 00:00:02');

/* ---- due in the same minute ---- */
SELECT t.case('A has not come yet: R waits', '01-02 00:00', 'waits', '', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('the worker starts it later', '01-02 00:00', 'waits', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0');
SELECT is(reason, 'it waits for auto_complete_challenges, which is due in the same minute', 'and says why')
  FROM challenge_jobs.watchdog('2030-01-02 00:00') WHERE job = 'refresh_challenge_stats';
SELECT t.case('for 30 s', '01-02 00:00:29.9', 'waits', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('and no longer', '01-02 00:00:30', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('nor longer than half of its grace', '01-02 00:00:05', '', 'R: grace = ''10 s''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('while the worker starts A', '01-02 00:00:40', 'waits', 'R: engine = ''worker''; A: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('while A is at work', '01-02 00:00:40', 'waits', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A running 01-02 00:00:11');
SELECT t.case('for 30 s', '01-02 00:00:41', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A running 01-02 00:00:11');
SELECT t.case('also if A has begun since the clock was asked', '01-02 00:00:40', 'waits', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A running 01-02 00:00:41');
SELECT t.case('not if A began in the future', '01-02 00:00', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A running 01-02 00:01');
SELECT t.case('A is over', '01-02 00:00:06', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A succeeded 01-02 00:00 rows=1');
SELECT t.case('also if it has failed', '01-02 00:00:06', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A failed 01-02 00:00');
SELECT t.case('or was a job function', '01-02 00:00:06', 'worker 01-02 00:00', 'R: engine = ''worker''', 'R succeeded 01-01 23:00 seen=0', 'A succeeded 01-02 00:00 by=function');
SELECT t.case('not at another hour', '01-02 01:00', 'worker 01-02 01:00', 'R: engine = ''worker''', 'R succeeded 01-02 00:00 seen=0', 'A running 01-02 00:59:59');
SELECT t.case('nor where A is due a minute later', '01-02 00:00', 'worker 01-02 00:00', 'R: engine = ''worker''; A: schedule = ''1 0 * * *''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('nor where A is disabled', '01-02 00:00', 'worker 01-02 00:00', 'R: engine = ''worker''; A: enabled = false', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('nor where it is not scheduled', '01-02 00:00', 'worker 01-02 00:00', 'R: engine = ''worker''; A: engine = NULL, scheduled_at = NULL', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('nor with "off"', '01-02 00:00', 'worker 01-02 00:00', 'R: engine = ''worker''; A: settings = settings || ''{"refresh_after": "off"}''', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('both were missed: A is caught up first', '01-02 00:40', 'waits', '', 'R succeeded 01-01 23:00 seen=0');
SELECT t.case('then R', '01-02 00:40:06', 'catch_up 01-02 00:00', '', 'R succeeded 01-01 23:00 seen=0', 'A succeeded 01-02 00:40 by=catch_up rows=1');
SELECT t.case('what is to follow waits, too', '01-02 00:00', 'waits', '', 'R succeeded 01-02 00:00 seen=0', 'A succeeded 01-01 23:59:50 rows=1');

/* ---- against plain SQL ---- */
CREATE FUNCTION t.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT choices[1 + floor(random() * cardinality(choices))]';

/* A log of up to eight runs from 23:59 on; what a refresh has seen is any run before it. */
CREATE FUNCTION t.random_log() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    runs    text[] := '{}';
BEGIN
    FOR i IN 1 .. 1 + floor(random() * 8) LOOP
        runs := runs || concat_ws(' ', CASE WHEN random() < 0.5
            THEN 'A ' || t.pick('succeeded', 'succeeded', 'failed', 'crashed', 'cancelled', 'rolled_back', 'skipped')
            ELSE 'R ' || t.pick('succeeded', 'succeeded', 'cancelled', 'rolled_back', 'skipped', 'failed', 'crashed') END,
            to_char('2030-01-01 23:59'::timestamptz + i * 10 * interval '1 s', 'MM-DD HH24:MI:SS'),
            'by=' || t.pick('pg_cron', 'function', 'after_decisions', 'manual'), 'rows=' || t.pick('0', '1'),
            t.pick('dry=false', 'dry=false', 'dry=false', 'dry=true'),
            CASE WHEN random() < 0.7 THEN 'seen=' || floor(random() * i) END);
    END LOOP;
    RETURN runs || CASE WHEN random() < 0.1 THEN ARRAY['R running 01-02 00:00:31'] END || CASE WHEN random() < 0.1 THEN ARRAY['A running 01-02 00:00:31'] END;
END
$$;

/* What follows by the log alone, where no retry and no scheduled time comes between. */
CREATE FUNCTION t.expected() RETURNS text LANGUAGE sql AS $$
    WITH a AS (SELECT max(run_id) AS decided
                 FROM challenge_jobs.job_run
                WHERE job = 'auto_complete_challenges' AND NOT dry_run
                  AND (rows_affected > 0 AND status IN ('succeeded', 'failed', 'cancelled') OR rows_affected IS NULL AND status = 'crashed')),
         r AS (SELECT * FROM challenge_jobs.job_run WHERE job = 'refresh_challenge_stats' AND NOT dry_run),
         seen AS (SELECT (result->>'after_run')::bigint AS run FROM r WHERE status <> 'rolled_back' AND result ? 'after_run' ORDER BY run_id DESC LIMIT 1),
         last AS (SELECT * FROM r WHERE triggered_by <> 'function' ORDER BY run_id DESC LIMIT 1)
    SELECT 'after_decisions'
      FROM a
     WHERE NOT EXISTS (SELECT FROM r WHERE status = 'running')
       AND NOT EXISTS (SELECT FROM seen WHERE run >= a.decided)
       AND NOT EXISTS (SELECT FROM last WHERE triggered_by = 'after_decisions' AND run_id > a.decided AND (result IS NULL OR NOT result ? 'after_run'))
       AND a.decided IS NOT NULL
$$;

SELECT t.configure('R: schedule = ''0 0 30 2 *'', max_retries = 0; A: schedule = ''0 0 30 2 *''') \g /dev/null
CREATE TEMPORARY TABLE trial (log text, decided text, expected text);
SELECT setseed(0.25) \g /dev/null
DO $$
DECLARE
    runs    text[];
BEGIN
    FOR i IN 1 .. 500 LOOP
        runs := t.random_log();
        PERFORM t.log(VARIADIC runs);
        INSERT INTO trial SELECT runs::text, NULLIF(t.decision('2030-01-02 00:10'), ''), t.expected();
    END LOOP;
END
$$;
SELECT is((SELECT string_agg(log || ': ' || COALESCE(decided, 'nothing'), E'\n') FROM (SELECT * FROM trial WHERE decided IS DISTINCT FROM expected LIMIT 3) t), NULL,
    'of 500 logs made at random, the watchdog decides as plain SQL does');
SELECT ok(count(*) FILTER (WHERE expected IS NULL) > 80 AND count(expected) > 80, 'and there are enough of both kinds') FROM trial;

/* Of two jobs that are due at midnight: A begins, or does not, at a second around it, for so many seconds. */
SELECT t.configure('R: engine = ''worker''') \g /dev/null
TRUNCATE trial;
DO $$
DECLARE
    began   integer;
    took    integer;
    at      integer;
    fires   boolean;
BEGIN
    FOR i IN 1 .. 300 LOOP
        began := -20 + floor(random() * 60);
        took := floor(random() * 60);
        at := floor(random() * 90);
        fires := random() < 0.8 AND began <= at;
        PERFORM t.log('R succeeded 01-01 23:00 seen=0', CASE WHEN NOT fires THEN '' ELSE
            format('A %s %s took=%s', CASE WHEN began + took <= at THEN t.pick('succeeded', 'failed', 'skipped') ELSE 'running' END,
                   to_char('2030-01-02'::timestamptz + began * interval '1 s', 'MM-DD HH24:MI:SS'), took) END);
        INSERT INTO trial
        SELECT format('began=%s took=%s at=%s fires=%s', began, took, at, fires), t.decision('2030-01-02'::timestamptz + at * interval '1 s'),
               CASE WHEN CASE WHEN fires AND began + took > at THEN at < began + 30
                              WHEN fires AND began >= 0 THEN false
                              ELSE at < 30 END
                    THEN 'waits' ELSE 'worker 01-02 00:00' END;
    END LOOP;
END
$$;
SELECT is((SELECT string_agg(log || ': ' || decided, E'\n') FROM (SELECT * FROM trial WHERE decided IS DISTINCT FROM expected LIMIT 3) t), NULL,
    'of 300 midnights made at random, R waits as plain SQL says');
SELECT ok(count(*) FILTER (WHERE expected = 'waits') > 50 AND count(*) FILTER (WHERE expected <> 'waits') > 50, 'and there are enough of both kinds') FROM trial;

/* ---- what a refresh has seen ---- */
DELETE FROM challenge_jobs.job_run;
SELECT t.add('a', 90) \g /dev/null
SELECT public.refresh_challenge_stats() \g /dev/null
SELECT is((t.last_run()).result->'after_run', '0', 'a refresh says that it has seen no run that decided');
SELECT t.run() \g /dev/null
SELECT is((t.last_run()).job, 'auto_complete_challenges', 'challenges are decided');
CREATE TEMPORARY TABLE decided AS SELECT (t.last_run()).run_id;
SELECT t.run() \g /dev/null
SELECT public.refresh_challenge_stats() \g /dev/null
SELECT is(((t.last_run()).result->>'after_run')::bigint, run_id, 'a refresh says which is the last run it has seen that decided') FROM decided;

/* ---- the doctor: no worker, and the schedules ---- */
CREATE FUNCTION t.schedules(a text, r text) RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => a), challenge_jobs.alter_job('refresh_challenge_stats', schedule => r)
$$;
CREATE FUNCTION t.remedy() RETURNS text LANGUAGE sql AS $$ SELECT remedy FROM challenge_jobs.doctor() WHERE check_name = 'refresh_after' $$;
/* What is proposed for the schedule of R, and that it mends what was found. */
CREATE FUNCTION t.proposes(name text, a text, r text, wanted text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.schedules(a, r);
    RETURN NEXT is(t.remedy(), format('SELECT challenge_jobs.alter_job(''refresh_challenge_stats'', schedule => ''%s'');', wanted), name);
    PERFORM t.mend('^refresh_after$');
    RETURN NEXT is(t.doctor('^refresh_after$'), NULL, name || ': typed as it stands, it mends that');
    RETURN NEXT is((SELECT schedule FROM challenge_jobs.job WHERE job = 'refresh_challenge_stats'), wanted, name || ': by this schedule');
END
$$;
CREATE FUNCTION t.finds_nothing(name text, a text, r text) RETURNS text LANGUAGE sql AS $$
    SELECT is(t.doctor('^refresh_after$'), NULL, name) FROM t.schedules(a, r)
$$;
SELECT t.configure('') \g /dev/null
SELECT t.finds_nothing('due in the same minute: R waits', '0 0 * * *', '0 * * * *');
SELECT t.finds_nothing('R comes soon after A', '0 0 * * *', '15 * * * *');
SELECT t.proposes('R comes much later', '0 0 * * *', '16 * * * *', '5 * * * *');
SELECT t.proposes('A is due between', '5 0 * * *', '0 * * * *', '10 * * * *');
SELECT t.proposes('at the end of an hour', '57 23 * * *', '50 * * * *', '2 * * * *');
SELECT t.proposes('A is due more often', '*/15 * * * *', '0 * * * *', '5,20,35,50 * * * *');
SELECT t.proposes('R keeps its times', '10 0 * * *', '0,30,45 * * * *', '0,15,30,45 * * * *');
SELECT t.proposes('R is due once a day', '0 0 * * *', '0 6 * * *', '5 0,6 * * *');
SELECT t.proposes('over midnight', '58 23 * * *', '0 6 * * *', '3 0,6 * * *');
SELECT matches(finding, '^what is decided at .* is in the statistics from .* on: no worker refreshes them right after$', 'the doctor says for how long')
  FROM t.schedules('0 0 * * *', '30 * * * *'), challenge_jobs.doctor() WHERE check_name = 'refresh_after';
SELECT t.schedules('0 0 * * *', '0 6 * * mon-fri') \g /dev/null
SELECT matches(COALESCE(remedy, advice), 'challenge_jobs.databases', 'where a schedule is too special to propose another one, the worker helps')
  FROM challenge_jobs.doctor() WHERE check_name = 'refresh_after';
SELECT t.set('{"refresh_after": "off"}') \g /dev/null
SELECT is(t.doctor('^refresh_after$'), NULL, 'with "off" there is nothing to say');
SELECT t.set('{"refresh_after": null}') \g /dev/null
SELECT challenge_jobs.unschedule('auto_complete_challenges') \g /dev/null
SELECT is(t.doctor('^refresh_after$'), NULL, 'nor where A is not scheduled');
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null

/* Runs that take longer than a refresh waits. */
SELECT t.log('A succeeded 01-02 00:00 took=30') \g /dev/null
UPDATE challenge_jobs.job_run SET as_of = '2020-01-01';
SELECT t.finds_nothing('A takes as long as R waits', '0 0 * * *', '0 * * * *');
UPDATE challenge_jobs.job_run SET finished_at = started_at + interval '31 s';
SELECT t.proposes('A takes longer than R waits', '0 0 * * *', '0 * * * *', '5 * * * *');
UPDATE challenge_jobs.job_run SET finished_at = started_at + interval '20 min';
SELECT t.proposes('A takes longer than R comes later', '0 0 * * *', '10 * * * *', '22 * * * *');

SELECT * FROM finish();
ROLLBACK;
