/*
 * What the watchdog decides from the log, case by case: challenge_jobs.watchdog(at) at moments of 2030 over
 * rows that stand here. The job is fired at midnight, by pg_cron, from 2030-01-01 10:00 on; grace is 15 minutes,
 * retry_delay 1 minute, max_retries 3.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
SET TIME ZONE 'UTC';
SET LOCAL DateStyle = 'ISO';
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
UPDATE challenge_jobs.job_override SET engine = 'pg_cron', scheduled_at = '2030-01-01 10:00';

CREATE FUNCTION t.configure(VARIADIC changes text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE challenge_jobs.job_override
       SET engine = 'pg_cron', scheduled_at = '2030-01-01 10:00', schedule = NULL, enabled = NULL, grace = NULL,
           catch_up = NULL, max_retries = NULL, retry_delay = NULL;
    IF changes[1] <> '' THEN
        EXECUTE 'UPDATE challenge_jobs.job_override SET ' || array_to_string(changes, ', ');
    END IF;
END
$$;

/* Puts runs into the log, oldest first: "status as_of [column=value ...]", the date without the year. */
CREATE FUNCTION t.log(VARIADIC runs text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part    text[];
    given   jsonb;
BEGIN
    DELETE FROM challenge_jobs.job_run;
    FOR i IN 1 .. cardinality(runs) LOOP
        CONTINUE WHEN runs[i] = '';
        part := string_to_array(runs[i], ' ');
        SELECT COALESCE(jsonb_object_agg(split_part(p, '=', 1), replace(split_part(p, '=', 2), '_', ' ')), '{}')
          INTO given
          FROM unnest(part[4:]) p;
        given := jsonb_build_object('as_of', '2030-' || part[2] || ' ' || part[3]) || given;
        INSERT INTO challenge_jobs.job_run (job, status, triggered_by, dry_run, as_of, started_at, finished_at, attempt,
                                            scheduled_for, sqlstate, result, role_name, pid)
        VALUES ('auto_complete_challenges', part[1], replace(COALESCE(given->>'by', 'pg_cron'), ' ', '_'), COALESCE((given->>'dry')::boolean, false),
                (given->>'as_of')::timestamptz,
                COALESCE((given->>'started')::timestamptz, (given->>'as_of')::timestamptz),
                CASE WHEN part[1] <> 'running' THEN COALESCE((given->>'started')::timestamptz, (given->>'as_of')::timestamptz) + interval '10 s' END,
                COALESCE((given->>'attempt')::int, 1), (given->>'for')::timestamptz, given->>'sqlstate',
                CASE WHEN given ? 'left' THEN jsonb_build_object('locked', (given->>'left')::int) END, 'nobody', 1);
    END LOOP;
END
$$;

/* What is decided: "overdue", what is to be started, for which scheduled time and as which attempt; "later" if not yet. */
CREATE FUNCTION t.decision(at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', CASE WHEN overdue THEN 'overdue' END, action,
                     to_char(scheduled_for, 'MM-DD HH24:MI'), CASE WHEN attempt > 1 THEN '#' || attempt END,
                     CASE WHEN action_at > decision.at THEN 'later' END)
      FROM challenge_jobs.watchdog(decision.at)
     WHERE job = 'auto_complete_challenges'
$$;

CREATE FUNCTION t.case(name text, at text, wanted text, configuration text, VARIADIC runs text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.configure(VARIADIC string_to_array(configuration, '; '));
    PERFORM t.log(VARIADIC runs);
    RETURN is(t.decision(('2030-' || at)::timestamptz), wanted, name);
END
$$;

/* ---- what covers a scheduled time ---- */
SELECT t.case('before the first scheduled time nothing is missed', '01-01 23:59', '', '', '');
SELECT t.case('scheduled times before schedule() never count', '01-01 23:59', '', 'grace = ''0''', '');
SELECT t.case('within the grace nothing is missed', '01-02 00:14:59', '', '', '');
SELECT t.case('after it, something is', '01-02 00:15', 'overdue catch_up 01-02 00:00', '', '');
SELECT t.case('a run that succeeded serves', '01-02 23:00', '', '', 'succeeded 01-02 00:00:00');
SELECT t.case('one before the scheduled time does not', '01-02 23:00', 'overdue catch_up 01-02 00:00', '', 'succeeded 01-01 23:59:59.9');
SELECT t.case('nor one as of before the scheduled time, whenever it ran', '01-02 23:00', 'overdue catch_up 01-02 00:00', '',
              'succeeded 01-01 20:00 started=2030-01-02_12:00 by=function');
SELECT t.case('nor a dry run', '01-02 23:00', 'overdue catch_up 01-02 00:00', '', 'succeeded 01-02 00:01 dry=true');
SELECT t.case('a job function serves', '01-02 23:00', '', '', 'succeeded 01-02 09:00 by=function');
SELECT t.case('a job function that failed does not, and is not repeated', '01-02 00:10', '', '', 'failed 01-02 00:01 by=function');
SELECT t.case('nor one that was rolled back', '01-02 23:00', 'overdue catch_up 01-02 00:00', '', 'rolled_back 01-02 00:01 by=function');
SELECT t.case('nor a run that was cancelled', '01-02 23:00', 'overdue catch_up 01-02 00:00', '', 'cancelled 01-02 00:00');
SELECT t.case('nor one that found rows locked, and is not repeated', '01-02 23:00', 'overdue catch_up 01-02 00:00', '', 'succeeded 01-02 00:01 by=function left=3');
SELECT t.case('nor one of run(), after as many attempts as there may be', '01-02 00:15', 'overdue catch_up 01-02 00:00', '', 'succeeded 01-02 00:08 by=retry left=3 attempt=4');
SELECT t.case('a run at work does not, but nothing is started beside it', '01-02 23:00', 'overdue', '', 'running 01-02 00:00');
SELECT t.case('a late one covers all scheduled times before it', '01-09 00:01', '', '', 'succeeded 01-08 12:00');
SELECT t.case('a disabled job is never overdue', '01-02 23:00', '', 'enabled = false', '');
SELECT t.case('nor one that is not scheduled', '01-02 23:00', '', 'engine = NULL; scheduled_at = NULL', '');

/* ---- catching up ---- */
SELECT t.case('one run for however many scheduled times', '01-09 12:00', 'overdue catch_up 01-09 00:00', '', 'succeeded 01-02 00:00');
SELECT t.case('which is started once', '01-09 12:00', 'overdue', '', 'cancelled 01-09 11:00 by=catch_up for=2030-01-09_00:00');
SELECT t.case('and again for the next scheduled time', '01-10 12:00', 'overdue catch_up 01-10 00:00', '',
              'cancelled 01-09 11:00 by=catch_up for=2030-01-09_00:00');
SELECT t.case('not where catch_up is "skip"', '01-09 12:00', 'overdue', 'catch_up = ''skip''', 'succeeded 01-02 00:00');
SELECT t.case('not while a retry is to come', '01-02 00:15', 'overdue retry #2 later', 'retry_delay = ''1 hour''', 'failed 01-02 00:00');
SELECT t.case('a grace longer than the period: the older scheduled time counts', '01-02 00:40', 'overdue catch_up 01-02 00:30',
              'schedule = ''*/15 * * * *''; grace = ''20 min''', 'succeeded 01-02 00:00:01');
SELECT t.case('and it is not missed before', '01-02 00:34', '', 'schedule = ''*/15 * * * *''; grace = ''20 min''', 'succeeded 01-02 00:00:01');
SELECT t.case('a scheduled time that will not come', '01-02 00:34', '', 'schedule = ''0 0 30 2 *''', '');
SELECT t.case('nobody knows when: as good as missed', '01-02 00:34', 'overdue', 'schedule = ''whenever''', '');
SELECT t.case('whatever stands there', '01-02 00:15', 'overdue retry #2 later', 'retry_delay = ''178000000 years''', 'failed 01-02 00:00');
SELECT t.case('whatever stands there', '01-02 00:15', 'overdue catch_up 01-02 00:00', 'grace = ''-178000000 years''', '');

/* ---- the worker fires ---- */
SELECT t.case('on the scheduled time', '01-02 00:00', 'worker 01-02 00:00', 'engine = ''worker''', 'succeeded 01-01 12:00');
SELECT t.case('not before it', '01-01 23:59:59.999', '', 'engine = ''worker''', 'succeeded 01-01 12:00');
SELECT t.case('once, whatever becomes of it', '01-02 00:00:05', '', 'engine = ''worker''', 'cancelled 01-02 00:00 by=worker for=2030-01-02_00:00');
SELECT t.case('though somebody else has tried', '01-02 00:00:05', 'worker 01-02 00:00', 'engine = ''worker''', 'cancelled 01-02 00:00 by=manual');
SELECT t.case('unless somebody else has succeeded', '01-02 00:00:05', '', 'engine = ''worker''', 'succeeded 01-02 00:00:01 by=manual');
SELECT t.case('and left nothing over: whoever holds a lock keeps the worker from nothing', '01-02 00:00:05', 'worker 01-02 00:00', 'engine = ''worker''', 'succeeded 01-02 00:00:01 by=function left=3');
SELECT t.case('not beside a run', '01-02 00:00:05', '', 'engine = ''worker''', 'running 01-01 23:50 by=manual');
SELECT t.case('the new scheduled time comes before the retry of the old one', '01-02 00:15:01', 'worker 01-02 00:15',
              'engine = ''worker''; schedule = ''*/15 * * * *''; retry_delay = ''1 h''; grace = ''20 min''',
              'succeeded 01-01 23:50', 'failed 01-02 00:00:00 by=worker for=2030-01-02_00:00');
SELECT t.case('after the grace it catches up', '01-02 00:15', 'overdue catch_up 01-02 00:00', 'engine = ''worker''', 'succeeded 01-01 12:00');
SELECT t.case('or does not', '01-02 00:15', 'overdue', 'engine = ''worker''; catch_up = ''skip''', 'succeeded 01-01 12:00');
SELECT t.case('another engine fires by itself', '01-02 00:00:05', '', 'engine = ''external''', 'succeeded 01-01 12:00');

/* ---- retries ---- */
SELECT t.case('a run that failed is repeated', '01-02 00:01:30', 'retry #2', '', 'failed 01-02 00:00');
SELECT t.case('after retry_delay', '01-02 00:01:09', 'retry #2 later', '', 'failed 01-02 00:00');
SELECT t.case('for the scheduled time that it was for', '01-02 00:01:30', 'retry 01-02 00:00 #2', 'engine = ''worker''', 'failed 01-02 00:00 by=worker for=2030-01-02_00:00');
SELECT t.case('which doubles', '01-02 00:02:08', 'retry #3 later', '', 'failed 01-02 00:00 attempt=2');
SELECT t.case('and doubles', '01-02 00:05:11', 'retry #4', '', 'failed 01-02 00:00 by=retry attempt=3');
SELECT t.case('until max_retries', '01-02 00:14', '', '', 'failed 01-02 00:00 by=retry attempt=4');
SELECT t.case('which may be 0', '01-02 00:14', '', 'max_retries = 0', 'failed 01-02 00:00');
SELECT t.case('a run that crashed is repeated', '01-02 00:01:30', 'retry #2', '', 'crashed 01-02 00:00');
SELECT t.case('one that was cancelled is not', '01-02 00:10', '', '', 'cancelled 01-02 00:00');
SELECT t.case('nor if something has succeeded since', '01-02 00:10', '', '', 'failed 01-02 00:00', 'succeeded 01-02 00:01 by=function');
SELECT t.case('a dry run is not something', '01-02 00:10', 'retry #2', '', 'failed 01-02 00:00', 'succeeded 01-02 00:01 by=function dry=true');
SELECT t.case('nor what was before schedule()', '01-01 10:20', '', '', 'failed 01-01 09:59');
SELECT t.case('a run at work comes first', '01-02 00:10', '', '', 'failed 01-02 00:00', 'running 01-02 00:05');
SELECT t.case('of a run that found rows locked, the rest is done', '01-02 00:01:30', 'retry #2', '', 'succeeded 01-02 00:00 left=3');
SELECT t.case('not if it left none', '01-02 00:01:30', '', '', 'succeeded 01-02 00:00 left=0');
SELECT t.case('nor for ever', '01-02 00:14', '', '', 'succeeded 01-02 00:00 by=retry left=3 attempt=4');
SELECT t.case('a run that was skipped is repeated', '01-02 00:01:30', 'retry #2', '', 'skipped 01-02 00:00');
SELECT t.case('unless its scheduled time is covered', '01-02 00:05', '', '', 'succeeded 01-02 00:00', 'skipped 01-02 00:00:01 by=manual');
SELECT t.case('a delay that is longer than an hour stays', '01-02 08:00', 'overdue retry #4 later', 'retry_delay = ''8 hours''', 'failed 01-02 00:00 attempt=3');

/* a quarter more at most, and the same whenever asked */
SELECT t.configure(''), t.log('failed 01-02 00:00') \g /dev/null
CREATE TEMPORARY TABLE retry AS
SELECT action_at FROM challenge_jobs.watchdog('2030-01-02 00:00:10') WHERE job = 'auto_complete_challenges';
SELECT ok(action_at BETWEEN '2030-01-02 00:01:10' AND '2030-01-02 00:01:25', 'the first retry comes after one minute, or a quarter more')
  FROM retry;
SELECT is(w.action_at, r.action_at, 'and is not put off by asking again')
  FROM challenge_jobs.watchdog('2030-01-02 00:00:55') w, retry r WHERE w.job = 'auto_complete_challenges';
SELECT t.configure('max_retries = 100'), t.log('failed 01-02 00:00 attempt=90') \g /dev/null
SELECT ok(action_at BETWEEN '2030-01-02 01:00:10' AND '2030-01-02 01:15:10', 'no retry waits for much longer than an hour')
  FROM challenge_jobs.watchdog('2030-01-02 00:00:10') WHERE job = 'auto_complete_challenges';

/* what repeating cannot mend */
SELECT t.configure('') \g /dev/null
SELECT is((SELECT t.decision('2030-01-02 00:05') FROM t.log('failed 01-02 00:00 sqlstate=' || state)), wanted, 'SQLSTATE ' || state)
  FROM (VALUES ('42P01', ''), ('42501', ''), ('42703', ''), ('0A000', ''), ('28000', ''), ('22023', ''), ('3F000', ''), ('54000', ''), ('55000', ''),
               ('40001', 'retry #2'), ('40P01', 'retry #2'), ('55P03', 'retry #2'), ('53100', 'retry #2'), ('53300', 'retry #2'), ('57P01', 'retry #2'),
               ('58030', 'retry #2'), ('23503', 'retry #2'), ('22012', 'retry #2'), ('P0001', 'retry #2'), ('XX000', 'retry #2'), ('38000', 'retry #2'))
       AS v(state, wanted);
SELECT matches(reason, 'SQLSTATE 42P01: .* repeating cannot mend', 'why a run is not repeated is notified')
  FROM t.log('failed 01-02 00:00 sqlstate=42P01'), challenge_jobs.watchdog('2030-01-02 00:05')
 WHERE job = 'auto_complete_challenges';
SELECT t.case('a permanent error does not keep from catching up', '01-02 00:15', 'overdue catch_up 01-02 00:00', '', 'failed 01-02 00:00 sqlstate=42P01');

/* ---- clocks that jump ---- */
SELECT t.case('forward: one run', '12-24 12:00', 'overdue catch_up 12-24 00:00', '', 'succeeded 01-02 00:00');
SELECT t.case('back: what was served stays served', '01-02 12:00', '', '', 'succeeded 01-08 00:00');
SELECT t.case('back: the worker does not fire twice', '01-02 00:00:05', '', 'engine = ''worker''', 'failed 01-08 00:00 by=worker for=2030-01-08_00:00 sqlstate=42P01');
SELECT t.case('back: nothing is caught up twice', '01-02 12:00', 'overdue', '', 'cancelled 01-08 12:00 by=catch_up for=2030-01-08_00:00');
SELECT t.case('back: a retry does not wait for the clock', '01-02 00:00:05', 'retry #2', '', 'failed 01-08 00:00');

/* ---- scheduled_at ---- */
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
CREATE FUNCTION t.counts_anew(change text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE challenge_jobs.job_override SET scheduled_at = '2020-01-01';
    EXECUTE 'SELECT challenge_jobs.' || change;
    RETURN (SELECT scheduled_at > '2020-01-01' FROM challenge_jobs.job WHERE job = 'auto_complete_challenges');
END
$$;
SELECT t.configure('engine = ''external''') \g /dev/null
SELECT ok(t.counts_anew('alter_job(''auto_complete_challenges'', schedule => ''5 0 * * *'')'), 'a new schedule: its scheduled times of the past do not count');
SELECT ok(NOT t.counts_anew('alter_job(''auto_complete_challenges'', schedule => ''5 0 * * *'')'), 'the same schedule changes nothing');
SELECT ok(NOT t.counts_anew('alter_job(''auto_complete_challenges'', grace => ''1 hour'')'), 'nor does another setting');
SELECT ok(t.counts_anew('alter_job(''auto_complete_challenges'', schedule => ''0 0 * * *'')'), 'back to the default');
SELECT ok(NOT t.counts_anew('alter_job(''auto_complete_challenges'', enabled => true)'), 'enabled, and enabled again');
SELECT ok(NOT t.counts_anew('alter_job(''auto_complete_challenges'', enabled => false)'), 'disabling a job does not have its scheduled times counted anew');
SELECT ok(t.counts_anew('alter_job(''auto_complete_challenges'', enabled => true)'), 'enabled again: scheduled times meanwhile do not count');
SELECT ok(NOT t.counts_anew('reset_job(''auto_complete_challenges'')'), 'reset without a change');
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '@hourly') \g /dev/null
SELECT ok(t.counts_anew('reset_job(''auto_complete_challenges'')'), 'reset of the schedule');

SELECT * FROM finish();
ROLLBACK;
