/*
 * add_stats_view() and remove_stats_view(), and what refresh_challenge_stats() says of wrong arguments,
 * of views that are gone, and of nothing to refresh at all. What it does: test/pgtap/refresh.sql.
 */
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION challenge_jobs;
CREATE ROLE regress_cj_owner;
CREATE ROLE regress_cj_member IN ROLE regress_cj_owner;
CREATE ROLE regress_cj_other;
CREATE SCHEMA app AUTHORIZATION regress_cj_owner;
CREATE SCHEMA "the App" AUTHORIZATION regress_cj_owner;
SET ROLE regress_cj_owner;
CREATE TABLE app.numbers AS SELECT n AS id, n % 3 AS kind FROM generate_series(1, 10) n;
CREATE MATERIALIZED VIEW app.kinds AS SELECT kind, count(*) AS total FROM app.numbers GROUP BY kind;
CREATE MATERIALIZED VIEW app.no_data AS SELECT * FROM app.numbers WITH NO DATA;
CREATE MATERIALIZED VIEW "the App"."Kinds; ""of"" 'numbers'" AS SELECT kind FROM app.kinds;
CREATE VIEW app.plain AS SELECT * FROM app.kinds;
RESET ROLE;

\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try
\a \x

/* ---- nothing to refresh ---- */
SELECT * FROM try('SELECT * FROM refresh_challenge_stats()');
SELECT * FROM try('SELECT * FROM refresh_challenge_stats(NULL)');
CALL challenge_jobs.run('refresh_challenge_stats');
SELECT job, status, rows_affected, result, sqlstate, message, hint FROM challenge_jobs.job_run;
SELECT * FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh';

/* ---- what is refused ---- */
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(NULL)');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view('''')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.nothing'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''nowhere.kinds'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''kinds'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.kinds; DROP TABLE app.numbers'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.numbers'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.plain'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''pg_catalog.pg_class'')');
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''challenge_jobs.stats_view'')');
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view(NULL)');
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view('''')');
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view(''app.kinds'')');
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view(''Nowhere."At all"'')');
\a \x
TABLE challenge_jobs.stats_view;

/* ---- what is accepted: names as in the caller's search_path, stored in full ---- */
SET client_min_messages = notice;
SELECT challenge_jobs.add_stats_view('app.kinds');
SELECT challenge_jobs.add_stats_view('APP.Kinds');
SELECT challenge_jobs.add_stats_view(' app . "kinds" ');
SET search_path = app;
SELECT challenge_jobs.add_stats_view('kinds');
SELECT challenge_jobs.add_stats_view('no_data');
SET search_path = "the App", public;
SELECT challenge_jobs.add_stats_view('"Kinds; ""of"" ''numbers''"');
RESET search_path;
SELECT * FROM challenge_jobs.stats_view ORDER BY view_name COLLATE "C";
SELECT view_name, method, rows_changed FROM refresh_challenge_stats();
SET search_path = app, public;
SELECT challenge_jobs.remove_stats_view('no_data');
RESET search_path;
SELECT challenge_jobs.remove_stats_view('"the App"."Kinds; ""of"" ''numbers''"');
SELECT * FROM challenge_jobs.stats_view;
SET client_min_messages = warning;
/* by hand: what cannot be a name in full */
INSERT INTO challenge_jobs.stats_view VALUES ('kinds');
INSERT INTO challenge_jobs.stats_view VALUES ('a.b.c');
INSERT INTO challenge_jobs.stats_view VALUES ('app.');

/* ---- a run that takes too long: what has been refreshed stays ---- */
SET ROLE regress_cj_owner;
CREATE MATERIALIZED VIEW app.slow AS SELECT pg_sleep(60)::text WITH NO DATA;
INSERT INTO app.numbers VALUES (11, 7);
RESET ROLE;
SELECT challenge_jobs.add_stats_view('app.slow');
SELECT challenge_jobs.alter_job('refresh_challenge_stats', max_runtime => '1 s', settings => '{"view_time_limit": "1 hour"}');
CALL challenge_jobs.run('refresh_challenge_stats');
SELECT status, rows_affected, sqlstate, (SELECT string_agg(concat_ws(' ', v->>'view', v->>'method'), ', ') FROM jsonb_array_elements(result->'views') v) AS views
  FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1;
SELECT kind, total FROM app.kinds WHERE kind = 7;
SELECT challenge_jobs.reset_job('refresh_challenge_stats');
SELECT challenge_jobs.remove_stats_view('app.slow');
DROP MATERIALIZED VIEW app.slow;

/* ---- views that are gone ---- */
SELECT challenge_jobs.add_stats_view('app.no_data');
SELECT challenge_jobs.add_stats_view('"the App"."Kinds; ""of"" ''numbers''"');
DROP MATERIALIZED VIEW "the App"."Kinds; ""of"" 'numbers'";
ALTER MATERIALIZED VIEW app.no_data RENAME TO other;
CREATE TABLE app.no_data ();
SELECT view_name, method, rows_changed FROM refresh_challenge_stats();
\a \x
CALL challenge_jobs.run('refresh_challenge_stats');
SELECT triggered_by, status, rows_affected, regexp_replace(result::text, '"seconds": [0-9.]+', '"seconds": x', 'g') AS result,
       sqlstate, message, detail, hint
  FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1;
SELECT * FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh';
/* the doctor's remedies do it */
SELECT t.* FROM challenge_jobs.doctor(), try(remedy) t WHERE check_name ~ '^refresh' AND status = 'error';
SELECT * FROM challenge_jobs.stats_view;
/* all that is registered is gone: the job function raises the error */
DROP MATERIALIZED VIEW app.kinds CASCADE;
SELECT * FROM try('SELECT * FROM refresh_challenge_stats()');
SELECT * FROM challenge_jobs.stats_view;

/* ---- for the owner of the view ---- */
SET ROLE regress_cj_owner;
CREATE MATERIALIZED VIEW app.kinds AS SELECT kind, count(*) AS total FROM app.numbers GROUP BY kind;
GRANT USAGE ON SCHEMA app TO regress_cj_other;
GRANT ALL ON app.kinds TO regress_cj_other;
RESET ROLE;
GRANT USAGE ON SCHEMA challenge_jobs TO regress_cj_other, regress_cj_member;
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.kinds'')');
RESET ROLE;
GRANT EXECUTE ON FUNCTION challenge_jobs.add_stats_view(text), challenge_jobs.remove_stats_view(text)
   TO regress_cj_other, regress_cj_member;
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.kinds'')');
RESET ROLE;
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''"the App".kinds'')');
RESET ROLE;
SET ROLE regress_cj_member;
SELECT * FROM try('SELECT challenge_jobs.add_stats_view(''app.kinds'')');
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view(''app.kinds'')');
RESET ROLE;
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT * FROM challenge_jobs.stats_view');
RESET ROLE;
SELECT * FROM challenge_jobs.stats_view;
/* nobody's any more */
DROP MATERIALIZED VIEW app.kinds;
SET ROLE regress_cj_other;
SELECT * FROM try('SELECT challenge_jobs.remove_stats_view(''app.kinds'')');
RESET ROLE;
SELECT * FROM challenge_jobs.stats_view;
\a \x

DROP EXTENSION challenge_jobs;
DROP FUNCTION try(text);
DROP SCHEMA app, "the App" CASCADE;
DROP ROLE regress_cj_owner, regress_cj_member, regress_cj_other;
