/*
 * Bad input to the job function and to run(): what the errors say, what is left in job_run, what else is done.
 */
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION challenge_jobs;
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');
\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try
CREATE ROLE regress_cj_app;
CREATE ROLE regress_cj_else;
GRANT CREATE, USAGE ON SCHEMA public TO regress_cj_app;
SET ROLE regress_cj_app;
CREATE TABLE public.challenges (id int PRIMARY KEY, name text, status text DEFAULT 'active', end_date date DEFAULT '2024-01-31');
CREATE TABLE public.challenge_members (challenge_id int, user_id int);
CREATE TABLE public.challenge_member_stats (challenge_id int, completion_rate numeric);
INSERT INTO public.challenge_member_stats VALUES (0, 0);
CREATE TABLE public.notifications (user_id int, type text, title text, body text, data jsonb, created_at timestamptz);
RESET ROLE;
INSERT INTO public.challenges (id, name) SELECT n, 'challenge ' || n FROM generate_series(1, 3) n;
INSERT INTO public.challenge_members SELECT n, n FROM generate_series(1, 3) n;
/* what a run has left: no ids, times or pids */
CREATE VIEW last_run AS
SELECT job, triggered_by, dry_run, attempt, status, rows_affected, result, sqlstate, message, detail, hint, role_name = current_user AS by_me,
       finished_at >= started_at AS finished
  FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1;

/* ---- arguments ---- */
\a \x
SELECT * FROM try('SELECT public.auto_complete_challenges(NULL)');
SELECT * FROM try('SELECT public.auto_complete_challenges(dry_run => NULL)');
SELECT * FROM try('SELECT public.auto_complete_challenges(''infinity'')');
SELECT * FROM try('SELECT public.auto_complete_challenges(''-infinity'', true)');
SELECT * FROM try('SELECT public.auto_complete_challenges(''2999-12-31 23:59+00'')');
SELECT * FROM try('SELECT public.auto_complete_challenges(''294276-12-31 23:59:59.999999+00'', true)');
SELECT * FROM try('SELECT challenge_jobs.report_html(NULL)');
SELECT * FROM try('SELECT challenge_jobs.report_html(''0'')');
\a \x
CALL challenge_jobs.run('auto_complete');
CALL challenge_jobs.run(NULL);
CALL challenge_jobs.run('auto_complete_challenges', NULL);
CALL challenge_jobs.run('auto_complete_challenges', 'retry');
SELECT count(*) AS runs FROM challenge_jobs.job_run;

/* ---- run() inside a transaction ---- */
BEGIN;
CALL challenge_jobs.run('auto_complete_challenges');
ROLLBACK;
DO $$
BEGIN
    CALL challenge_jobs.run('auto_complete_challenges');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING '% %', SQLSTATE, SQLERRM;
END
$$;
CREATE FUNCTION run_it() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL challenge_jobs.run('auto_complete_challenges'); END $$;
SELECT run_it();
CREATE FUNCTION run_it_sql() RETURNS void LANGUAGE sql AS $$ CALL challenge_jobs.run('auto_complete_challenges') $$;
SELECT run_it_sql();
CREATE PROCEDURE run_it_with_path() LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN CALL challenge_jobs.run('auto_complete_challenges'); END $$;
CALL run_it_with_path();
CREATE PROCEDURE run_it_as_owner() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CALL challenge_jobs.run('auto_complete_challenges'); END $$;
CALL run_it_as_owner();
SELECT count(*) AS runs FROM challenge_jobs.job_run;
SELECT id, status FROM public.challenges ORDER BY id;
/* a DO block and a plain procedure are not inside a transaction */
DO $$ BEGIN CALL challenge_jobs.run('auto_complete_challenges', 'a DO block'); END $$;
CREATE PROCEDURE run_it_plainly() LANGUAGE plpgsql AS $$ BEGIN CALL challenge_jobs.run('auto_complete_challenges', 'a procedure'); END $$;
CALL run_it_plainly();
SELECT triggered_by, status, result FROM challenge_jobs.job_run ORDER BY run_id;
SELECT id, status FROM public.challenges ORDER BY id;
SELECT user_id, body, data FROM public.notifications ORDER BY user_id;
/* read only, disabled */
SET default_transaction_read_only = on;
CALL challenge_jobs.run('auto_complete_challenges');
RESET default_transaction_read_only;
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false);
\a \x
SELECT * FROM try('SELECT public.auto_complete_challenges()');
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false);
SET client_min_messages = notice;
CALL challenge_jobs.run('auto_complete_challenges');
SET client_min_messages = warning;
TABLE last_run;
SELECT challenge_jobs.reset_job('auto_complete_challenges');
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');

/* ---- tables that cannot be used: the error of the job function, and of run() ---- */
UPDATE public.challenges SET status = 'active';
ALTER TABLE public.challenges RENAME TO goals;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
CALL challenge_jobs.run('auto_complete_challenges');
TABLE last_run;
SELECT challenge_jobs.bind('challenges', 'public.goals');
ALTER TABLE public.goals RENAME TO challenges;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
SELECT challenge_jobs.unbind('challenges');

UPDATE public.challenges SET status = 'active';
ALTER TABLE public.challenges RENAME end_date TO until;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
SELECT challenge_jobs.unbind('challenges');
ALTER TABLE public.challenges RENAME until TO end_date;
ALTER TABLE public.challenge_member_stats ALTER completion_rate TYPE text;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
ALTER TABLE public.challenge_member_stats ALTER completion_rate TYPE numeric USING completion_rate::numeric;
ALTER TABLE public.challenge_members ALTER challenge_id TYPE text;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
ALTER TABLE public.challenge_members ALTER challenge_id TYPE int USING challenge_id::int;

ALTER TABLE public.notifications OWNER TO regress_cj_else;
SELECT * FROM try('SELECT public.auto_complete_challenges()');
ALTER TABLE public.notifications OWNER TO regress_cj_app;
ALTER TABLE public.challenges ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT * FROM try('SELECT public.auto_complete_challenges(dry_run => true)');
SELECT relforcerowsecurity FROM pg_class WHERE oid = 'public.challenges'::regclass;

CREATE TYPE public.kind AS ENUM ('other');
ALTER TABLE public.notifications ALTER type TYPE public.kind USING NULL;
SELECT * FROM try('SELECT public.auto_complete_challenges(dry_run => true)');
/* in the same transaction the new label cannot be used yet: here it can */
ALTER TYPE public.kind ADD VALUE IF NOT EXISTS 'challenge_completed';
\a \x
SELECT * FROM public.auto_complete_challenges(dry_run => true);
UPDATE public.challenges SET status = 'failed';
ALTER TABLE public.notifications ALTER type TYPE text;

/* ---- one bad challenge ---- */
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.data->>'challenge_id' = '2' THEN
        RAISE EXCEPTION USING errcode = 'P0777', message = 'user 2 is not to be notified', detail = 'Notified too often.', hint = 'Remove user 2.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON public.notifications FOR EACH ROW EXECUTE FUNCTION public.refuse();
UPDATE public.challenges SET status = 'active';
DELETE FROM public.notifications;
BEGIN;
SELECT * FROM public.auto_complete_challenges();
SELECT id, status FROM public.challenges ORDER BY id;
SELECT user_id, data FROM public.notifications ORDER BY user_id;
ROLLBACK;
CALL challenge_jobs.run('auto_complete_challenges');
SELECT id, status FROM public.challenges ORDER BY id;
SELECT user_id, data FROM public.notifications ORDER BY user_id;
\a \x
TABLE last_run;
/* nothing but the bad one is left: the job function raises its error */
SELECT * FROM try('SELECT public.auto_complete_challenges()');
CALL challenge_jobs.run('auto_complete_challenges');
TABLE last_run;
\a \x
DROP TRIGGER refuse ON public.notifications;
SELECT * FROM public.auto_complete_challenges();

/* ---- a run that takes too long ---- */
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON public.notifications FOR EACH ROW EXECUTE FUNCTION public.slow();
SELECT challenge_jobs.alter_job('auto_complete_challenges', max_runtime => '1 s');
UPDATE public.challenges SET status = 'active';
SELECT * FROM public.auto_complete_challenges();
CALL challenge_jobs.run('auto_complete_challenges');
\a \x
TABLE last_run;
\a \x
SELECT id, status FROM public.challenges ORDER BY id;
/* rates that are fractions: a dry run warns */
INSERT INTO public.challenge_member_stats VALUES (1, 0.9), (2, 0.5);
SELECT completed, failed FROM public.auto_complete_challenges(dry_run => true);
/* the session goes on as if nothing had been */
SELECT 1 AS one;

DROP VIEW last_run;
DROP EXTENSION challenge_jobs;
DROP FUNCTION try(text), run_it(), run_it_sql(), public.slow(), public.refuse() CASCADE;
DROP PROCEDURE run_it_with_path(), run_it_as_owner(), run_it_plainly();
DROP TABLE public.challenges, public.challenge_members, public.challenge_member_stats, public.notifications;
DROP TYPE public.kind;
REVOKE ALL ON SCHEMA public FROM regress_cj_app;
DROP ROLE regress_cj_app, regress_cj_else;
