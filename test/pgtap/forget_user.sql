/*
 * forget_user(): nothing of the extension names a user who has left, and nothing else is touched.
 *
 *   t.forget(key)      'reminders job_runs alerts'
 *   t.runs()           the texts of the runs that were put in here
 *   t.alerts()         those of the alerts
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION t.forget(key text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', reminders, job_runs, alerts) FROM challenge_jobs.forget_user(key)
$$;
CREATE FUNCTION t.fill() RETURNS void LANGUAGE sql AS $$
    DELETE FROM challenge_jobs.reminder;
    DELETE FROM challenge_jobs.job_run;
    DELETE FROM challenge_jobs.alert;
    INSERT INTO challenge_jobs.reminder (user_key, local_date)
    VALUES ('42', '2024-01-01'), ('42', '2024-01-02'), ('421', '2024-01-01'), ('a.b+c@x_y', '2024-01-01'), ('aXb', '2024-01-01');
    INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, finished_at, status, message, detail, hint, context, role_name, pid)
    VALUES ('j', 'manual', now(), now(), 'failed', 'duplicate key', 'Key (user_id, x)=(42, 421) already exists.', 'ask 42', 'user 42', 'r', 1),
           ('j', 'manual', now(), now(), 'failed', 'no', 'Not done (2): user 421, user x42, user 42_1.', NULL, NULL, 'r', 42),
           ('j', 'manual', now(), now(), 'failed', 'user a.b+c@x_y', 'user aXb', NULL, NULL, 'r', 1),
           ('j', 'manual', now(), now(), 'succeeded', NULL, NULL, NULL, NULL, 'r', 1);
    INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload, last_error)
    VALUES ('j', 'failed', 1, now(), '{"run_id": 42, "message": "no", "detail": "user 42", "hint": null, "raised_at": "42"}', NULL),
           ('j', 'crashed', 1, now(), '{"message": "other"}', 'exit status 1: 42!'),
           ('j', 'overdue', 1, now(), '{"message": "421"}', NULL)
$$;
CREATE FUNCTION t.runs() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws('|', message, detail, hint, context, pid), E'\n' ORDER BY run_id) FROM challenge_jobs.job_run
$$;
CREATE FUNCTION t.alerts() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws('|', payload, last_error), E'\n' ORDER BY alert_id) FROM challenge_jobs.alert
$$;

SELECT t.fill() \g /dev/null
SELECT is(t.forget('42'), '2 1 2', 'how many rows that was');
SELECT set_eq('SELECT DISTINCT user_key FROM challenge_jobs.reminder', ARRAY['421', 'a.b+c@x_y', 'aXb'], 'the reminders of others stay');
SELECT is(t.runs(), E'duplicate key|Key (user_id, x)=((forgotten), 421) already exists.|ask (forgotten)|user (forgotten)|1\n'
                    'no|Not done (2): user 421, user x42, user 42_1.|42\nuser a.b+c@x_y|user aXb|1\n1',
          'in the texts of runs the key goes where it is a word, and nothing else');
SELECT is(t.alerts(), E'{"hint": null, "detail": "user (forgotten)", "run_id": 42, "message": "no", "raised_at": "42"}\n'
                      '{"message": "other"}|exit status 1: (forgotten)!\n{"message": "421"}', 'so it does in alerts');
SELECT is(t.forget('42'), '0 0 0', 'once more: nothing is left');
SELECT is(t.forget('a.b+c@x_y'), '1 1 0', 'a key with signs that mean something in a pattern');
SELECT is((SELECT concat_ws('|', message, detail) FROM challenge_jobs.job_run WHERE message LIKE 'user%'), 'user (forgotten)|user aXb', 'a key with special characters removes only itself from messages, and nothing like it');
SELECT t.fill() \g /dev/null
SELECT is(t.forget('.*'), '0 0 0', 'a pattern is no key');
SELECT is(t.forget(''), '0 0 0', 'an empty key removes nothing');
SELECT is(t.forget(NULL), '0 0 0', 'a key that is null removes nothing');
SELECT is(t.forget('a\'), '0 0 0', 'nor does a backslash break anything');
SELECT is((SELECT count(*) FROM challenge_jobs.job_run WHERE to_jsonb(job_run)::text LIKE '%forgotten%'), 0::bigint, 'all of which change nothing');


/* ---- rights ---- */
CREATE ROLE cj_anyone;
GRANT USAGE ON SCHEMA challenge_jobs TO cj_anyone;
SELECT t.fill() \g /dev/null
GRANT EXECUTE ON FUNCTION t.forget(text), t.error(text) TO cj_anyone;
SET ROLE cj_anyone;
SELECT is(t.error($$SELECT t.forget('42')$$), '42501: permission denied for function forget_user', 'nobody may call it by default');
RESET ROLE;
GRANT EXECUTE ON FUNCTION challenge_jobs.forget_user(text) TO cj_anyone;
SET ROLE cj_anyone;
SELECT is(t.forget('42'), '2 1 2', 'who may needs no right on the tables');
/* nothing of the caller's is called on the way */
CREATE FUNCTION pg_temp.count() RETURNS bigint LANGUAGE sql AS 'SELECT 1/0';
CREATE FUNCTION pg_temp.oops(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT (1/0)::boolean';
CREATE OPERATOR pg_temp.~ (FUNCTION = pg_temp.oops, LEFTARG = text, RIGHTARG = text);
SET search_path = pg_temp, pg_catalog, public;
SELECT public.is(t.forget('421'), '1 2 1', 'whatever the caller''s search_path is');
RESET search_path;
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
