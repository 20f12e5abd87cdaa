/*
 * challenge_jobs.preview: what would be decided is what is decided then, and nothing is changed.
 */
BEGIN;
\ir app.psql
SELECT plan(9);

SELECT t.add('challenge ' || n, VARIADIC ARRAY(SELECT 60.0 + (n * 7 + m * 13) % 41 FROM generate_series(1, n % 4) m))
  FROM generate_series(1, 60) n \g /dev/null
UPDATE app.challenges SET end_date = CASE WHEN id % 10 = 0 THEN current_date + 1 ELSE current_date - id END, name = CASE WHEN id <> 7 THEN name END;
CREATE TABLE t.preview AS SELECT * FROM challenge_jobs.preview('auto_complete_challenges');
SELECT is_empty($$SELECT FROM app.challenges WHERE status <> 'active'$$, 'nothing is decided');
SELECT is_empty('SELECT FROM app.notifications UNION ALL SELECT FROM challenge_jobs.decision UNION ALL SELECT FROM challenge_jobs.job_run', 'nobody is notified, nothing is logged');
SELECT set_eq('SELECT challenge_key::integer, challenge_name FROM t.preview', 'SELECT id, name FROM app.challenges WHERE end_date < current_date', 'all that are due, by name');
SELECT set_eq('SELECT challenge_key::integer, ended_at, age FROM t.preview',
              $$SELECT id, (end_date + 1)::timestamp AT TIME ZONE 'UTC', now() - (end_date + 1)::timestamp AT TIME ZONE 'UTC' FROM app.challenges WHERE end_date < current_date$$,
              'and how old they are');
SELECT challenge_jobs.pause() \g /dev/null
SELECT set_eq($$SELECT * FROM challenge_jobs.preview('auto_complete_challenges')$$, 'SELECT * FROM t.preview', 'the same while the jobs are paused');
SELECT challenge_jobs.resume() \g /dev/null
SELECT auto_complete_challenges() \g /dev/null
SELECT bag_eq('SELECT challenge_key, outcome, average, threshold, members FROM t.preview',
              'SELECT challenge_key, outcome, average, threshold, members FROM challenge_jobs.decision', 'and so it is decided then');

/* a moment, in a session whose zone is another one, and one that has no beginning */
UPDATE app.challenges SET status = 'active';
ALTER TABLE app.challenges ALTER end_date DROP DEFAULT, ALTER end_date TYPE timestamptz USING '2024-03-10 07:00+00'::timestamptz - id * interval '7 hours';
UPDATE app.challenges SET end_date = '-infinity' WHERE id = 3;
SET LOCAL TIME ZONE 'America/New_York';
SELECT set_eq($$SELECT challenge_key::integer, ended_at, age FROM challenge_jobs.preview('auto_complete_challenges')$$,
              'SELECT id, end_date, CASE WHEN id <> 3 THEN now() - end_date END FROM app.challenges', 'moments come as they are');
SELECT is(t.error($$SELECT challenge_jobs.preview('send_streak_reminders')$$), '22023: job "send_streak_reminders" has no preview', 'other jobs have none');
SET LOCAL transaction_read_only = on;
SELECT is((SELECT count(*) FROM challenge_jobs.preview('auto_complete_challenges')), 60::bigint, 'also in a transaction that is read-only');

SELECT * FROM finish();
ROLLBACK;
