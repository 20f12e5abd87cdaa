/*
 * challenge_jobs.decision: what was decided, on which average, by which run.
 */
BEGIN;
\ir app.psql
SELECT plan(14);

SELECT setseed(0.42) \g /dev/null
SELECT t.add('challenge ' || n, VARIADIC ARRAY(SELECT CASE WHEN random() < 0.8 THEN (60 + random() * 50)::numeric END
                                                 FROM generate_series(1, (random() * 5)::integer * sign(n)::integer)))
  FROM generate_series(1, 200) n \g /dev/null

/* The oracle. */
CREATE FUNCTION t.expected(digits integer, threshold numeric, nulls_as numeric DEFAULT NULL) RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT concat_ws(' ', c.id, CASE WHEN round(avg(r.rate), digits) >= threshold THEN 'completed' ELSE 'failed' END,
                     COALESCE(trim_scale(round(avg(r.rate), digits))::text, 'none'), threshold, count(r.rate))
      FROM app.challenges c
      LEFT JOIN (SELECT s.challenge_id, COALESCE(s.completion_rate, nulls_as) AS rate FROM app.challenge_member_stats s) r
             ON r.challenge_id = c.id
     GROUP BY c.id
$$;
CREATE FUNCTION t.kept() RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT concat_ws(' ', challenge_key, outcome, COALESCE(average::text, 'none'), threshold, members)
      FROM challenge_jobs.decision
     WHERE run_id = (SELECT max(run_id) FROM challenge_jobs.job_run)
$$;

SELECT t.run(dry_run => true) \g /dev/null
SELECT is_empty('SELECT FROM challenge_jobs.decision', 'a dry run keeps none');

SELECT t.run() \g /dev/null
SELECT bag_eq('SELECT t.kept()', 'SELECT t.expected(6, 80)', 'every decision is kept with its figures');
SELECT cmp_ok((SELECT count(*) FROM challenge_jobs.decision WHERE average IS NULL), '>', 0::bigint, 'some had no rate');
SELECT cmp_ok((SELECT count(*) FROM challenge_jobs.decision WHERE outcome = 'completed'), '>', 0::bigint, 'some were completed');
SELECT is((SELECT array_agg(DISTINCT d.run_id) FROM challenge_jobs.decision d), (SELECT array_agg(run_id) FROM challenge_jobs.job_run WHERE NOT dry_run AND job = 'auto_complete_challenges'),
          'they have the run_id of the row that the job function leaves');
SELECT is((SELECT array_agg(DISTINCT decided_at) FROM challenge_jobs.decision), ARRAY[now()], 'and when it was');
SELECT bag_eq($$SELECT challenge_key, outcome FROM challenge_jobs.decision$$, $$SELECT id::text, status FROM app.challenges$$,
              'outcomes are those of the challenges');

UPDATE app.challenges SET status = 'active';
SELECT t.set('{"completion_digits": 1, "completion_threshold": 90.5, "count_nulls_as_zero": true}') \g /dev/null
SELECT t.run() \g /dev/null
SELECT bag_eq('SELECT t.kept()', 'SELECT t.expected(1, 90.5, 0)', 'by the settings of that run');

/* What is not decided is not kept. */
CREATE FUNCTION t.interfere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.id % 3 WHEN 0 THEN RETURN NULL;
                    WHEN 1 THEN NEW.status := 'active'; RETURN NEW;
                    ELSE IF NEW.id = 2 THEN RAISE 'no'; END IF; RETURN NEW; END CASE;
END
$$;
UPDATE app.challenges SET status = 'active';
CREATE TRIGGER interfere BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION t.interfere();
SELECT t.run() \g /dev/null
SELECT bag_eq('SELECT split_part(t.kept(), '' '', 1)::integer', 'SELECT id FROM app.challenges WHERE id % 3 = 2 AND id <> 2',
              'challenges that a trigger kept from being decided are not there');
DROP TRIGGER interfere ON app.challenges;

/* Two challenges with the same key. */
ALTER TABLE app.challenges DROP CONSTRAINT challenges_pkey;
UPDATE app.challenges SET status = 'completed';
INSERT INTO app.challenges VALUES (1, 'same key'), (1, 'same key');
SELECT matches(t.run(), '^0 2 ', 'challenges with the same key are decided');
SELECT is((SELECT count(*) FROM t.kept()), 1::bigint, 'as one');

/* The clean-up. */
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"batch_size": 3}') \g /dev/null
CREATE TABLE t.runs AS SELECT run_id, row_number() OVER (ORDER BY run_id) AS n FROM (SELECT DISTINCT run_id FROM challenge_jobs.decision) d;
UPDATE challenge_jobs.job_run
   SET started_at = now() - interval '100 days', finished_at = now() - interval '100 days'
 WHERE run_id IN (SELECT run_id FROM t.runs WHERE n IN (1, 2));
SELECT is((SELECT job_runs FROM cleanup_expired_notifications(dry_run => true)), 2::bigint, 'two runs are old');
SELECT cleanup_expired_notifications() \g /dev/null
SELECT is((SELECT array_agg(DISTINCT run_id ORDER BY run_id) FROM challenge_jobs.decision), (SELECT array_agg(run_id ORDER BY run_id) FROM t.runs WHERE n > 2),
          'decisions go with their runs, however many they are');
SELECT is_empty('SELECT FROM challenge_jobs.job_run WHERE run_id IN (SELECT run_id FROM t.runs WHERE n <= 2)', 'and the runs go');

SELECT * FROM finish();
ROLLBACK;
