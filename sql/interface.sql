/*
 * What the extension consists of, and how it comes and goes.
 */
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION challenge_jobs;

/* Everything that belongs to it, without the rowtypes of tables. */
SELECT pg_describe_object(classid, objid, 0) AS object
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'challenge_jobs')
   AND deptype = 'e'
   AND classid <> 'pg_type'::regclass
 ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";

SELECT p.proname, p.prokind AS kind, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
       p.provolatile AS vol, p.proparallel AS par, p.proisstrict AS strict, p.prosecdef AS secdef, p.proconfig AS config
  FROM pg_depend d
  JOIN pg_proc p ON p.oid = d.objid
 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'challenge_jobs')
   AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
 ORDER BY p.proname COLLATE "C";

SELECT a.attrelid::regclass AS relation, a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_attribute a
 WHERE a.attrelid IN ('challenge_jobs.alert'::regclass, 'challenge_jobs.binding'::regclass, 'challenge_jobs.job'::regclass, 'challenge_jobs.job_override'::regclass,
                      'challenge_jobs.job_run'::regclass, 'challenge_jobs.stats_view'::regclass,
                      'challenge_jobs.reminder'::regclass, 'challenge_jobs.reminder_zone'::regclass)
   AND a.attnum > 0
 ORDER BY a.attrelid::regclass::text COLLATE "C", a.attnum;

/* Every object and every column has a comment. */
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
  FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'challenge_jobs')
   AND d.deptype = 'e'
   AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass)
   AND (SELECT relkind FROM pg_class c WHERE c.oid = d.objid AND d.classid = 'pg_class'::regclass) IS DISTINCT FROM 'S'
   AND obj_description(d.objid, (SELECT relname FROM pg_class WHERE oid = d.classid)::name) IS NULL
 UNION ALL
SELECT format('column %s.%s', c.oid::regclass, a.attname)
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'challenge_jobs'::regnamespace
   AND c.relkind IN ('r', 'v')
   AND a.attnum > 0
   AND NOT a.attisdropped
   AND col_description(c.oid, a.attnum) IS NULL;

/* What pg_dump takes along. */
SELECT unnest(extconfig)::regclass::text COLLATE "C" AS dumped FROM pg_extension WHERE extname = 'challenge_jobs' ORDER BY 1;

/* ---- it leaves nothing behind ---- */
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') IS NOT NULL AS scheduled;
DROP EXTENSION challenge_jobs;
SELECT count(*) AS left_behind
  FROM (SELECT oid FROM pg_namespace WHERE nspname = 'challenge_jobs'
         UNION ALL
        SELECT oid FROM pg_proc WHERE prosrc LIKE 'cj\_%' OR proname IN ('auto_complete_challenges', 'refresh_challenge_stats')
         UNION ALL
        SELECT oid FROM pg_class WHERE relname IN ('binding', 'job_run', 'job_override', 'job', 'stats_view')) o;

/* ---- the job functions' schema ---- */
CREATE SCHEMA "My Jobs";
CREATE EXTENSION challenge_jobs SCHEMA "My Jobs";
SELECT oid::regprocedure FROM pg_proc WHERE proname = 'auto_complete_challenges';
/* unbound entities resolve to their default names in the job functions' schema */
SELECT * FROM challenge_jobs.doctor() WHERE check_name = 'binding:challenges';
/* it is not relocatable */
ALTER EXTENSION challenge_jobs SET SCHEMA public;
DROP EXTENSION challenge_jobs;

/* ---- the guard: nothing of a job function's name may stand beside it ---- */
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE FUNCTION public.auto_complete_challenges() RETURNS void LANGUAGE sql AS '';
CREATE EXTENSION challenge_jobs;
/* in another schema it does not stand in the way */
CREATE EXTENSION challenge_jobs SCHEMA "My Jobs";
DROP EXTENSION challenge_jobs;
DROP FUNCTION public.auto_complete_challenges();

/*
 * try_guard makes something, shows the error, and does what its hint says: afterwards the extension
 * can be created.
 */
CREATE FUNCTION try_guard(schema text, definitions text) RETURNS TABLE (state text, message text, detail text, hint text, as_typed text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE definitions;
    BEGIN
        EXECUTE format('CREATE EXTENSION challenge_jobs SCHEMA %I', schema);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    BEGIN
        EXECUTE regexp_replace(hint, '^[^:]*: ', '');
        EXECUTE format('CREATE EXTENSION challenge_jobs SCHEMA %I', schema);
        DROP EXTENSION challenge_jobs;
        as_typed := 'worked';
    EXCEPTION WHEN OTHERS THEN
        as_typed := SQLERRM;
    END;
    RETURN NEXT;
END
$$;
\a \x
BEGIN;
SELECT * FROM try_guard('public', 'CREATE FUNCTION public.auto_complete_challenges() RETURNS void LANGUAGE sql AS ''''');
ROLLBACK;
BEGIN;
SELECT * FROM try_guard('public', 'CREATE FUNCTION public.auto_complete_challenges(timestamptz) RETURNS int LANGUAGE sql AS ''SELECT 1'';
                                   CREATE FUNCTION public.auto_complete_challenges(text, VARIADIC int[]) RETURNS int LANGUAGE sql AS ''SELECT 1''');
ROLLBACK;
BEGIN;
SELECT * FROM try_guard('public', 'CREATE PROCEDURE public.auto_complete_challenges(int) LANGUAGE sql AS ''''');
ROLLBACK;
BEGIN;
SELECT * FROM try_guard('public', 'CREATE AGGREGATE public.auto_complete_challenges(int) (sfunc = int4pl, stype = int)');
ROLLBACK;
BEGIN;
SELECT state, as_typed FROM try_guard('public', 'CREATE FUNCTION public.one(int) RETURNS int LANGUAGE sql AS ''SELECT $1 + 1'';
                                   CREATE AGGREGATE public.auto_complete_challenges(*) (sfunc = public.one, stype = int)');
ROLLBACK;
BEGIN;
SELECT state, message, as_typed FROM try_guard('My Jobs', 'CREATE TYPE "My Jobs"."a type" AS (a int);
                                    CREATE FUNCTION "My Jobs".auto_complete_challenges("My Jobs"."a type") RETURNS void LANGUAGE sql AS ''''');
ROLLBACK;
\a \x
DROP FUNCTION try_guard(text, text);
DROP SCHEMA "My Jobs";

/* a schema "challenge_jobs" of somebody else's is not taken over */
CREATE SCHEMA challenge_jobs;
CREATE EXTENSION challenge_jobs;
DROP SCHEMA challenge_jobs;
