/*
 * schedule() and unschedule() in a database without pg_cron. What a server can load differs, so what
 * depends on it is compared here and not printed. With pg_cron: test/t.
 */
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION challenge_jobs;
\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try
CREATE VIEW stored AS SELECT job, engine, scheduled_at IS NOT NULL AS scheduled, schedule FROM challenge_jobs.job ORDER BY job;
/* Which of the three errors there has to be. */
CREATE FUNCTION expected(OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE sql AS $$
    SELECT '55000',
           CASE WHEN home IS NULL THEN 'pg_cron is not loaded in this server'
                WHEN home = here THEN 'extension "pg_cron" is not installed in this database'
                ELSE format('pg_cron is installed in database "%s", not in this one', home) END,
           CASE WHEN home IS NULL THEN format('To load it, add pg_cron to shared_preload_libraries, set cron.database_name = %L, restart, and CREATE EXTENSION pg_cron.', here)
                WHEN home <> here THEN format('Run the statement of the hint in database "%s", and SELECT * FROM challenge_jobs.schedule(''auto_complete_challenges'', ''external''); in this one.', home) END,
           CASE WHEN home IS NULL THEN 'To fire the job without it, run: SELECT * FROM challenge_jobs.schedule(''auto_complete_challenges'', ''worker'');'
                WHEN home = here THEN 'CREATE EXTENSION pg_cron;'
                ELSE format('SELECT cron.schedule_in_database(%L, %L, %L, %L);', 'challenge_jobs:auto_complete_challenges@' || here, '0 0 * * *',
                            'CALL challenge_jobs.run(''auto_complete_challenges'', ''pg_cron'')', here) END
      FROM (SELECT current_setting('cron.database_name', true) AS home, current_database()::text AS here) d
$$;
/* As try(), but does not do what the hint says. */
CREATE FUNCTION error_of(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    detail := nullif(detail, '');
END
$$;
/* Nothing but what differs is printed. */
CREATE FUNCTION unexpected(statement text) RETURNS TABLE (got text, wanted text) LANGUAGE sql AS $$
    SELECT e::text, x::text FROM error_of(statement) e, expected() x WHERE e IS DISTINCT FROM x
$$;

/* ---- pg_cron, which is not here ---- */
SELECT * FROM unexpected('SELECT * FROM challenge_jobs.schedule()');
SELECT * FROM unexpected('SELECT * FROM challenge_jobs.schedule(''auto_complete_challenges'')');
SELECT * FROM unexpected('SELECT * FROM challenge_jobs.schedule(engine => ''pg_cron'')');
TABLE stored;

/* ---- bad arguments ---- */
\a \x
SELECT * FROM try('SELECT * FROM challenge_jobs.schedule(''auto_complete'')');
SELECT * FROM error_of('SELECT * FROM challenge_jobs.schedule(''auto_complete_challenges'', ''cron'')');
SELECT * FROM error_of('SELECT * FROM challenge_jobs.schedule(engine => '''')');
SELECT * FROM try('SELECT * FROM challenge_jobs.unschedule(''auto_complete'')');
\a \x

/* ---- external ---- */
SELECT * FROM challenge_jobs.unschedule();
SELECT * FROM challenge_jobs.schedule('auto_complete_challenges', 'external');
TABLE stored;
CREATE TEMPORARY TABLE first AS SELECT job, scheduled_at FROM challenge_jobs.job WHERE engine IS NOT NULL;
/* again: nothing changes, not even since when */
SELECT * FROM challenge_jobs.schedule('auto_complete_challenges', 'external');
SELECT * FROM challenge_jobs.schedule(engine => 'external');
/* without an engine the one in force stays */
SELECT * FROM challenge_jobs.schedule();
SELECT j.scheduled_at = f.scheduled_at AS since_the_same FROM challenge_jobs.job j JOIN first f USING (job);
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '30 1 * * *');
SELECT * FROM challenge_jobs.schedule();
SELECT status, finding, remedy, advice, run_as FROM challenge_jobs.doctor() WHERE check_name LIKE 'schedule:%';
/* to pg_cron: refused, and external stays */
SELECT state FROM error_of('SELECT * FROM challenge_jobs.schedule(''auto_complete_challenges'', ''pg_cron'')');
TABLE stored;
SELECT * FROM challenge_jobs.unschedule('auto_complete_challenges');
SELECT * FROM challenge_jobs.unschedule('auto_complete_challenges');
TABLE stored;
SELECT status, finding, remedy, advice, run_as FROM challenge_jobs.doctor() WHERE check_name LIKE 'schedule:%';

/* ---- worker: whether there is one is another matter, which a warning reports ---- */
SET client_min_messages = error;
SELECT * FROM challenge_jobs.schedule('auto_complete_challenges', 'worker');
SELECT * FROM challenge_jobs.schedule('auto_complete_challenges');
SET client_min_messages = warning;
TABLE stored;
SELECT * FROM challenge_jobs.unschedule('auto_complete_challenges');

/* ---- a dump of a database with pg_cron, restored here ---- */
UPDATE challenge_jobs.job_override SET engine = 'pg_cron', scheduled_at = now();
SELECT status, finding, remedy, advice, run_as FROM challenge_jobs.doctor() WHERE check_name LIKE 'schedule:%';
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '31 1 * * *');
SELECT * FROM challenge_jobs.unschedule();
TABLE stored;

DROP VIEW stored;
DROP FUNCTION unexpected(text), error_of(text), expected(), try(text);
DROP EXTENSION challenge_jobs;
