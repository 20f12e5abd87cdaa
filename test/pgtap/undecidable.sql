/*
 * Nothing is decided on data that is not there: statistics without any row while there are members, and tables that had
 * rows when challenges were last decided and have none now. Otherwise no row for a challenge means that it has failed.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

SELECT t.set('{"decide_without_statistics": null}') \g /dev/null
CREATE FUNCTION t.result() RETURNS text LANGUAGE sql AS
    $$ SELECT concat_ws(' ', status, nullif(result ->> 'undecidable', '0'), result ->> 'sources')
         FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1 $$;

/* ---- no statistics at all ---- */
INSERT INTO app.challenges (id, name) VALUES (1, 'a'), (2, 'b');
INSERT INTO app.challenge_members VALUES (1, 1), (2, 2);
SELECT is(t.run(dry_run => true), '0 0 0', 'without any statistics, a dry run says that nothing would be decided');
SELECT is(t.run(), '0 0 0', 'and a run decides nothing');
SELECT is(t.result(), 'succeeded 2', 'it counts what it has left alone');
SELECT is((SELECT count(*) FROM app.challenges WHERE status = 'active'), 2::bigint, 'the challenges are still active');
SELECT is((SELECT count(*) FROM app.notifications), 0::bigint, 'and nobody is notified');
SELECT is((SELECT reason FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), 'the job is not scheduled', 'the job need not be scheduled for that');
SELECT t.set('{"decide_without_statistics": true}') \g /dev/null
SELECT is(t.run(dry_run => true), '0 2 2', 'with the setting they would be decided');
SELECT t.set('{"decide_without_statistics": null}') \g /dev/null

INSERT INTO app.challenge_member_stats VALUES (3, 1, 90);
SELECT is(t.run(), '0 2 2', 'with statistics of another challenge, no row means failed');
SELECT is(t.result(), 'succeeded ["app.challenge_member_stats"]', 'what had rows is noted');

DELETE FROM app.challenge_members;
DELETE FROM app.challenge_member_stats;
DELETE FROM challenge_jobs.job_run;
INSERT INTO app.challenges (id, name) VALUES (4, 'd');
SELECT is(t.run(), '0 1 0', 'where there are no members either, no row means failed');

/* ---- a view whose tables are loaded anew ---- */
SET ROLE cj_app;
CREATE TABLE app.people (id integer PRIMARY KEY);
CREATE TABLE app.days (challenge_id integer, user_id integer, done boolean);
CREATE VIEW app.done AS SELECT * FROM app.days;
CREATE MATERIALIZED VIEW app.stats AS
SELECT m.challenge_id, m.user_id, 100 * avg(CASE WHEN p.id IS NOT NULL AND d.done THEN 1 ELSE 0 END)::numeric AS completion_rate
  FROM app.challenge_members m
  LEFT JOIN app.people p ON p.id = m.user_id
  LEFT JOIN app.done d ON d.challenge_id = m.challenge_id AND d.user_id = m.user_id
 GROUP BY 1, 2;
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
INSERT INTO app.people VALUES (1);
INSERT INTO app.challenges (id, name) VALUES (5, 'e'), (6, 'f');
INSERT INTO app.challenge_members VALUES (5, 1), (6, 1);
INSERT INTO app.days VALUES (5, 1, true), (6, 1, false);
UPDATE app.challenges SET end_date = '2024-03-31' WHERE id = 6;
SELECT is(t.run(), '1 0 1', 'a challenge is decided by a view');
SELECT is(t.result(), 'succeeded ["app.challenge_members", "app.days", "app.people"]', 'the tables that it reads, also by way of a view, are noted');
DELETE FROM app.people;
SELECT is(t.run('2024-04-30'), '0 0 0', 'while one of them is empty, nothing is decided');
SELECT is(t.result(), 'succeeded 1', 'though the view has rows');
SELECT is(t.run('2024-04-30', dry_run => true), '0 0 0', 'a dry run says so, too');
SELECT alike((SELECT status || ': ' || finding FROM challenge_jobs.doctor() WHERE check_name = 'undecidable'),
             'error: due challenges left undecided at %, since the statistics were empty: 1', 'and so does the doctor');
INSERT INTO app.people VALUES (1);
SELECT is(t.run('2024-04-30'), '0 1 1', 'when it is filled again, the challenge is decided');
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE check_name = 'undecidable'), 0::bigint, 'and the doctor has nothing to say');
DELETE FROM app.people;
UPDATE app.challenges SET status = 'active' WHERE id = 6;
SET ROLE cj_app;
CREATE OR REPLACE VIEW app.done AS SELECT * FROM app.days WHERE true;
DROP MATERIALIZED VIEW app.stats;
CREATE MATERIALIZED VIEW app.stats AS SELECT challenge_id, user_id, 100 * avg(done::int) AS completion_rate FROM app.done GROUP BY 1, 2;
RESET ROLE;
SELECT is(t.run('2024-04-30'), '0 1 1', 'a table that is not read any more may be empty');

SELECT * FROM finish();
ROLLBACK;
