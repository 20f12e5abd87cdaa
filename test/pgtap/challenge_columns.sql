/*
 * What challenges may have for themselves, where bind() names it: a threshold, a creator who is notified as well.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
ALTER TABLE app.challenges ADD threshold numeric, ADD creator_id integer;

\if :{?seed}
\else
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
SELECT diag('seed: ' || :'seed');
SELECT setseed(:seed / 1000000.0) \g /dev/null

/* Users 1 to 5 are members; a creator may be one of them, or not, or nobody. Some have no members, some two rows of one user. */
CREATE FUNCTION t.fill() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.challenges; DELETE FROM app.challenge_members; DELETE FROM app.challenge_member_stats; DELETE FROM app.notifications;
    PERFORM t.add('c' || n, VARIADIC ARRAY(SELECT (50 + random() * 50)::integer::numeric FROM generate_series(1, floor(random() * 5 * sign(n))::integer)))
       FROM generate_series(1, 200) n;
    INSERT INTO app.challenge_members SELECT id, 1 FROM app.challenges WHERE random() < 0.2 AND id IN (SELECT challenge_id FROM app.challenge_members);
    UPDATE app.challenges SET threshold = (ARRAY[NULL, 0, 60, 75.5, 80, 100])[1 + floor(random() * 6)], creator_id = (ARRAY[NULL, 1, 2, 9, 10])[1 + floor(random() * 5)];
END
$$;
/* The oracle. */
CREATE FUNCTION t.expected(has_threshold boolean) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', c.id, CASE WHEN avg(s.completion_rate) >= COALESCE(CASE WHEN has_threshold THEN c.threshold END, 80) THEN 'completed' ELSE 'failed' END)
      FROM app.challenges c LEFT JOIN app.challenge_member_stats s ON s.challenge_id = c.id GROUP BY c.id
$$;
CREATE FUNCTION t.people(has_creator boolean) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', challenge_id, user_id) COLLATE "C" FROM app.challenge_members
    UNION
    SELECT concat_ws(' ', id, creator_id) COLLATE "C" FROM app.challenges WHERE has_creator AND creator_id IS NOT NULL
$$;
CREATE FUNCTION t.bind_challenges(columns jsonb, labels jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.bind('challenges', 'app.challenges', columns, labels)
$$;
CREATE FUNCTION t.check(what text, has_threshold boolean, has_creator boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    dry     text := t.run(dry_run => true);
    figures text := t.run();
BEGIN
    RETURN NEXT is(dry, figures, what || ': the dry run says the same');
    RETURN NEXT is(figures, (SELECT concat_ws(' ', count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'), (SELECT count(*) FROM app.notifications)) FROM app.challenges),
                   what || ': the figures');
    RETURN NEXT bag_eq($q$SELECT id || ' ' || status FROM app.challenges$q$, format('SELECT t.expected(%L)', has_threshold), what || ': the outcomes');
    RETURN NEXT bag_eq($q$SELECT (data->>'challenge_id') || ' ' || user_id FROM app.notifications$q$, format('SELECT t.people(%L)', has_creator), what || ': who is notified');
END
$$;
SELECT t.fill() \g /dev/null
SELECT t.check('columns of these names, not bound', false, false);
SELECT is((SELECT status || ' ' || finding FROM challenge_jobs.doctor() WHERE check_name = 'candidate:challenges'), 'ok not used of app.challenges: threshold, creator_id', 'the doctor lists them as what could be bound');
SELECT is((SELECT advice FROM challenge_jobs.doctor() WHERE check_name = 'candidate:challenges'),
          'If threshold is the average that the challenge has to reach, and creator_id is a user who is notified like a member, run: '
          'SELECT challenge_jobs.bind(''challenges'', ''app.challenges'', columns => ''{"threshold": "threshold", "creator_id": "creator_id"}'');',
          'and says what to type');
SAVEPOINT candidates;
SELECT substring(advice FROM 'SELECT .*') AS call FROM challenge_jobs.doctor() WHERE check_name = 'candidate:challenges' \gset
:call \g /dev/null
SELECT is((SELECT columns FROM challenge_jobs.binding WHERE entity = 'challenges'), '{"threshold": "threshold", "creator_id": "creator_id"}'::jsonb, 'typed as it stands it binds all of them');
SELECT is_empty($$SELECT FROM challenge_jobs.doctor() WHERE check_name ~ '^candidate'$$, 'then they are used');
SELECT is((SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'binding:challenges'), 'app.challenges, bound; not found: start_date', 'nor is it silent about an optional column that is not there by its name');
ALTER TABLE app.challenges ADD starts_on date;
SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"start_date": "starts_on", "name": null}') \g /dev/null
SELECT is((SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'binding:challenges'), 'app.challenges, bound', 'unless bind() says which it is, or that there is none');
ROLLBACK TO candidates;
SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"threshold": null}') \g /dev/null
ALTER TABLE app.challenges ALTER creator_id TYPE point USING NULL;
SELECT is_empty($$SELECT FROM challenge_jobs.doctor() WHERE check_name ~ '^candidate'$$, 'one that bind() says is not to be used is none, nor is one of another type');
ROLLBACK TO candidates;
SELECT t.fill(), t.bind_challenges('{"threshold": "threshold"}') \g /dev/null
SELECT t.check('threshold', true, false);
SELECT is((SELECT string_agg(DISTINCT threshold::text, ' ' ORDER BY threshold::text) FROM challenge_jobs.decision WHERE run_id = (t.last_run()).run_id), '0 100 60 75.5 80', 'the decision keeps the threshold that it was made by');
SELECT t.fill(), t.bind_challenges('{"threshold": null, "creator_id": "creator_id"}') \g /dev/null
SELECT t.check('creator', false, true);
SELECT t.fill(), t.bind_challenges('{"threshold": "threshold", "creator_id": "creator_id"}') \g /dev/null
SELECT t.check('both', true, true);
SELECT t.fill(), t.set('{"batch_size": 7}') \g /dev/null
SELECT t.check('both, in small batches', true, true);
SELECT is((SELECT count(*) FROM (SELECT FROM app.notifications GROUP BY data->>'challenge_id', user_id HAVING count(*) > 1) d), 0::bigint, 'nobody is notified twice of a challenge');

/* other types of numbers and keys, domains */
CREATE DOMAIN app.percentage AS double precision CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN app.person AS bigint;
GRANT USAGE ON TYPE app.percentage, app.person TO PUBLIC;
ALTER TABLE app.challenges ALTER threshold TYPE app.percentage, ALTER creator_id TYPE app.person;
SELECT t.fill() \g /dev/null
SELECT t.check('domains', true, true);
ALTER TABLE app.challenges ALTER threshold TYPE smallint, ALTER creator_id TYPE integer;
ALTER TABLE app.challenge_members ALTER user_id TYPE text COLLATE "C";
ALTER TABLE app.challenge_member_stats ALTER user_id TYPE text;
ALTER TABLE app.notifications ALTER user_id TYPE text;
SELECT t.fill() \g /dev/null
SELECT alike(t.error('SELECT t.run()'), '42804: entity "challenges": column "creator_id" of app.challenges is of type integer, column "user_id" of app.challenge_members of type text', 'a creator is a user');
ALTER TABLE app.challenges ALTER creator_id TYPE text COLLATE "POSIX";
SELECT t.fill() \g /dev/null
SELECT t.check('texts of two collations', true, true);
ALTER TABLE app.challenges ALTER threshold TYPE text;
SELECT alike(t.error('SELECT t.run()'), '42804: entity "challenges": column "threshold" for "threshold" of app.challenges is of type text', 'a threshold is a number');
ALTER TABLE app.challenges ALTER threshold TYPE numeric USING NULL;

/* an average that is none, a threshold that is none */
SELECT t.fill() \g /dev/null
UPDATE app.challenges SET threshold = 'NaN' WHERE id = 1;
SELECT t.run() \g /dev/null
SELECT is((SELECT status FROM app.challenges WHERE id = 1), 'failed', 'no average is above NaN');

/* without notices the creator is not looked for */
SELECT t.fill(), t.set('{"notify": false}') \g /dev/null
ALTER TABLE app.challenges DROP creator_id;
SELECT lives_ok('SELECT t.run()', 'without notices the column is not needed');

SELECT * FROM finish();
ROLLBACK;
