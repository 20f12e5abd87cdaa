/*
 * Who may do what: nobody but the owner, until it is granted.
 */
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_cj_operator;
CREATE ROLE "regress_cj api";
CREATE ROLE regress_cj_viewer;
CREATE ROLE regress_cj_app;
CREATE ROLE regress_cj_greedy;

/* The script is run by a superuser: what others have planted in the schema of the job functions is not called. */
CREATE FUNCTION public.planted(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
CREATE FUNCTION public.planted(oid, regnamespace) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
CREATE FUNCTION public.planted(oid, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
CREATE OPERATOR public.= (FUNCTION = public.planted, LEFTARG = oid, RIGHTARG = regclass);
CREATE OPERATOR public.= (FUNCTION = public.planted, LEFTARG = oid, RIGHTARG = regnamespace);
CREATE OPERATOR public.= (FUNCTION = public.planted, LEFTARG = oid, RIGHTARG = integer);
CREATE EXTENSION challenge_jobs SCHEMA public;
DROP EXTENSION challenge_jobs;
DROP OPERATOR public.= (oid, regclass), public.= (oid, regnamespace), public.= (oid, integer);
DROP FUNCTION public.planted(oid, regclass), public.planted(oid, regnamespace), public.planted(oid, integer);

/* Hosted platforms do this; nothing of it may reach the extension. */
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, regress_cj_greedy, "regress_cj api" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, regress_cj_greedy, "regress_cj api";
CREATE EXTENSION challenge_jobs;
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');

CREATE VIEW anyone AS
WITH member AS (
    SELECT classid, objid FROM pg_depend
     WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
       AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'challenge_jobs')
), acl AS (
    SELECT n.oid::regnamespace::text AS object, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace n, member WHERE objid = n.oid AND classid = 'pg_namespace'::regclass
    UNION ALL
    SELECT c.oid::regclass::text, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) FROM pg_class c, member WHERE objid = c.oid AND classid = 'pg_class'::regclass
    UNION ALL
    SELECT p.oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p, member WHERE objid = p.oid AND classid = 'pg_proc'::regclass
)
SELECT object, grantee::regrole AS grantee, privilege_type FROM acl, aclexplode(acl) WHERE grantee <> owner;
SELECT * FROM anyone ORDER BY object COLLATE "C", grantee::text COLLATE "C", privilege_type;
SELECT status, finding FROM challenge_jobs.doctor() WHERE check_name = 'execute';

ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM PUBLIC, regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_cj_greedy, "regress_cj api";
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM PUBLIC, regress_cj_greedy, "regress_cj api";

/* ---- an app ---- */
CREATE SCHEMA app AUTHORIZATION regress_cj_app;
SET ROLE regress_cj_app;
CREATE TABLE app.challenges (id int PRIMARY KEY, status text DEFAULT 'active', end_date date DEFAULT '2024-01-31');
CREATE TABLE app.challenge_members (challenge_id int, user_id int);
CREATE TABLE app.challenge_member_stats (challenge_id int, completion_rate numeric);
INSERT INTO app.challenge_member_stats VALUES (0, 0);
CREATE TABLE app.notifications (user_id int, decided_by text DEFAULT current_user);
INSERT INTO app.challenges VALUES (1), (2);
INSERT INTO app.challenge_members VALUES (1, 1), (2, 2);
/* the owner of the tables has no rights in the extension, either */
SELECT challenge_jobs.bind('challenges', 'app.challenges');
RESET ROLE;

/* bind() is for the owner of the table, also for one who may execute it */
GRANT USAGE ON SCHEMA challenge_jobs TO regress_cj_operator, regress_cj_app;
GRANT EXECUTE ON FUNCTION challenge_jobs.bind(text, text, jsonb, jsonb) TO regress_cj_operator, regress_cj_app;
GRANT USAGE ON SCHEMA app TO regress_cj_operator;
\set VERBOSITY default
SET ROLE regress_cj_operator;
SELECT challenge_jobs.bind('challenges', 'app.challenges');
RESET ROLE;
GRANT ALL ON app.challenges TO regress_cj_operator;
SET ROLE regress_cj_operator;
SELECT challenge_jobs.bind('challenges', 'app.challenges');
RESET ROLE;
REVOKE ALL ON app.challenges FROM regress_cj_operator;
REVOKE ALL ON SCHEMA app FROM regress_cj_operator;
SET ROLE regress_cj_operator;
SELECT challenge_jobs.bind('challenges', 'app.challenges');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION challenge_jobs.bind(text, text, jsonb, jsonb) FROM regress_cj_operator;
\set VERBOSITY terse
SET ROLE regress_cj_app;
SELECT challenge_jobs.bind('challenges', 'app.challenges');
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats');
SELECT challenge_jobs.bind('notifications', 'app.notifications');
SELECT * FROM challenge_jobs.binding;
RESET ROLE;

/* ---- the operator: runs, and nothing else ---- */
SET ROLE regress_cj_operator;
CALL challenge_jobs.run('auto_complete_challenges');
RESET ROLE;
GRANT EXECUTE ON PROCEDURE challenge_jobs.run(text, text) TO regress_cj_operator;
SET ROLE regress_cj_operator;
CALL challenge_jobs.run('auto_complete_challenges', 'operator');
SELECT * FROM challenge_jobs.job_run;
SELECT * FROM public.auto_complete_challenges();
SELECT * FROM app.challenges;
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false);
SELECT challenge_jobs.reset_job('auto_complete_challenges');
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');
SELECT challenge_jobs.schedule();
SELECT challenge_jobs.unschedule();
SELECT challenge_jobs.unbind('challenges');
SELECT * FROM challenge_jobs.doctor();
SELECT * FROM challenge_jobs.job;
SELECT * FROM challenge_jobs.job_default();
RESET ROLE;
SELECT triggered_by, role_name, status, result FROM challenge_jobs.job_run;
SELECT * FROM app.notifications ORDER BY user_id;

/* ---- the API: the job function only ---- */
UPDATE app.challenges SET status = 'active';
SET ROLE "regress_cj api";
SELECT * FROM public.auto_complete_challenges();
RESET ROLE;
GRANT EXECUTE ON FUNCTION public.auto_complete_challenges(timestamptz, boolean) TO "regress_cj api";
SET ROLE "regress_cj api";
SELECT * FROM public.auto_complete_challenges();
SELECT * FROM public.auto_complete_challenges(dry_run => true);
CALL challenge_jobs.run('auto_complete_challenges');
SELECT * FROM challenge_jobs.job_run;
SELECT * FROM app.challenges;
RESET ROLE;
SELECT triggered_by, role_name, dry_run, status, result FROM challenge_jobs.job_run ORDER BY run_id;

/* ---- the viewer ---- */
GRANT USAGE ON SCHEMA challenge_jobs TO regress_cj_viewer;
GRANT SELECT ON challenge_jobs.job, challenge_jobs.job_run, challenge_jobs.job_status, challenge_jobs.metrics TO regress_cj_viewer;
GRANT EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.next_runs(text, integer), challenge_jobs.watchdog(timestamptz) TO regress_cj_viewer;
SET ROLE regress_cj_viewer;
SELECT challenge_jobs.report_html();
SELECT count(*) FROM challenge_jobs.next_runs('auto_complete_challenges');
SELECT job, state FROM challenge_jobs.job_status ORDER BY job;
SELECT count(*) > 0 AS has_metrics FROM challenge_jobs.metrics;
SELECT job, schedule, enabled FROM challenge_jobs.job ORDER BY job;
SELECT count(*) FROM challenge_jobs.job_run;
DELETE FROM challenge_jobs.job_run;
UPDATE challenge_jobs.job_override SET enabled = false;
CALL challenge_jobs.run('auto_complete_challenges');
RESET ROLE;
/* the report takes EXECUTE on it alone; what the doctor says is for those who may ask */
GRANT EXECUTE ON FUNCTION challenge_jobs.report_html(interval) TO regress_cj_viewer;
REVOKE EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.watchdog(timestamptz) FROM regress_cj_viewer;
SET ROLE regress_cj_viewer;
SELECT r.html LIKE '%</html>%' AS is_complete, r.html LIKE '%may not ask%' AS without_doctor FROM challenge_jobs.report_html() r(html);
RESET ROLE;
GRANT EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.watchdog(timestamptz), challenge_jobs.doctor() TO regress_cj_viewer;
SET ROLE regress_cj_viewer;
SELECT r.html LIKE '%</html>%' AS is_complete, r.html LIKE '%may not ask%' AS without_doctor FROM challenge_jobs.report_html() r(html);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION challenge_jobs.doctor(), challenge_jobs.report_html(interval) FROM regress_cj_viewer;

SELECT * FROM anyone ORDER BY object COLLATE "C", grantee::text COLLATE "C", privilege_type;
SELECT status, finding FROM challenge_jobs.doctor() WHERE check_name = 'execute';

/* ---- what others could do with more than that, and what the doctor says of it ---- */
GRANT ALL ON challenge_jobs.binding TO regress_cj_viewer;
CREATE FUNCTION app.auto_complete_challenges() RETURNS integer LANGUAGE sql AS 'SELECT 1';
SELECT check_name, status, remedy FROM challenge_jobs.doctor() WHERE check_name IN ('tables', 'function:auto_complete_challenges') ORDER BY 1;
/* unbinding is for the owner of what is bound */
GRANT EXECUTE ON FUNCTION challenge_jobs.unbind(text) TO regress_cj_operator;
SET ROLE regress_cj_operator;
SELECT challenge_jobs.unbind('challenges');
RESET ROLE;

DROP VIEW anyone;
DROP EXTENSION challenge_jobs;
DROP SCHEMA app CASCADE;
DROP ROLE regress_cj_operator, "regress_cj api", regress_cj_viewer, regress_cj_app, regress_cj_greedy;
