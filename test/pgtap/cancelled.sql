/*
 * The label "cancelled" of challenges: where it is bound, a challenge that nobody takes part in is not called failed.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* Every third challenge has no members; of these, every second has a rate that somebody has left behind. */
SELECT t.add('c' || n, VARIADIC ARRAY(SELECT 60.0 + (n * 7 + m * 13) % 41 FROM generate_series(1, n % 3) m)) FROM generate_series(1, 60) n \g /dev/null
INSERT INTO app.challenge_member_stats SELECT id, 1, 100 FROM app.challenges WHERE id % 6 = 0;
ALTER TABLE app.challenges ADD creator_id integer;
UPDATE app.challenges SET creator_id = 9 WHERE id % 5 = 0;

/* The oracle. */
CREATE FUNCTION t.expected(without_members text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT c.id || ' ' || CASE WHEN avg(s.completion_rate) >= 80 THEN 'completed'
                               WHEN EXISTS (SELECT FROM app.challenge_members m WHERE m.challenge_id = c.id) THEN 'failed'
                               ELSE without_members END
      FROM app.challenges c LEFT JOIN app.challenge_member_stats s ON s.challenge_id = c.id GROUP BY c.id
$$;
CREATE FUNCTION t.bind_label(label text, columns jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.bind('challenges', 'app.challenges', columns, CASE WHEN label IS NULL THEN '{}' ELSE jsonb_build_object('cancelled', label) END)
$$;
CREATE FUNCTION t.again() RETURNS void LANGUAGE sql AS $$
    UPDATE app.challenges SET status = 'active';
    DELETE FROM app.notifications
$$;
CREATE FUNCTION t.check(what text, without_members text, people text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    preview text[]  := ARRAY(SELECT challenge_key || ' ' || outcome FROM challenge_jobs.preview('auto_complete_challenges'));
    dry     text    := t.run(dry_run => true);
    dry_run jsonb   := (t.last_run()).result;
    figures text    := t.run();
    run     challenge_jobs.job_run := t.last_run();
BEGIN
    RETURN NEXT bag_eq($q$SELECT id || ' ' || status FROM app.challenges$q$, format('SELECT t.expected(%L)', without_members), what || ': the outcomes');
    RETURN NEXT is(figures, (SELECT concat_ws(' ', count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status <> 'completed'), (SELECT count(*) FROM app.notifications)) FROM app.challenges),
                   what || ': those that were cancelled are among the failed');
    RETURN NEXT is(run.result -> 'cancelled', (SELECT to_jsonb(NULLIF(count(*), 0)) FROM app.challenges WHERE status NOT IN ('completed', 'failed')), what || ': and counted apart');
    RETURN NEXT is((dry, dry_run -> 'cancelled'), (figures, run.result -> 'cancelled'), what || ': the dry run says the same');
    RETURN NEXT bag_eq(format('SELECT unnest(%L::text[])', preview), format('SELECT replace(t.expected(%L), %L, ''cancelled'')', without_members, 'called off'), what || ': the preview');
    RETURN NEXT bag_eq(format('SELECT challenge_key || '' '' || outcome FROM challenge_jobs.decision WHERE run_id = %s', run.run_id), format('SELECT replace(t.expected(%L), %L, ''cancelled'')', without_members, 'called off'),
                       what || ': the decisions, by the names of the labels');
    RETURN NEXT bag_eq($q$SELECT (data->>'challenge_id')::integer, user_id, data->>'status' FROM app.notifications$q$, people, what || ': who is notified, and of what');
    PERFORM t.again();
END
$$;
\set members 'SELECT id, user_id, c.status FROM app.challenges c JOIN app.challenge_members ON challenge_id = id'

SELECT t.check('not bound', 'failed', :'members');
SELECT t.bind_label('cancelled') \g /dev/null
SELECT t.check('bound', 'cancelled', :'members');
SELECT t.set('{"batch_size": 7}') \g /dev/null
SELECT t.check('in small batches', 'cancelled', :'members');
SELECT t.bind_label('called off', '{"creator_id": "creator_id"}') \g /dev/null
SELECT t.check('by another value, with a creator', 'called off', :'members' || ' UNION SELECT id, creator_id, status FROM app.challenges WHERE creator_id IS NOT NULL');
SELECT is((SELECT count(*) FROM app.challenges WHERE creator_id IS NOT NULL AND id % 6 = 3), 2::bigint, 'some of those had a creator');

/* Without notices there is nothing else that members are looked at for. */
SELECT t.set('{"notify": false}') \g /dev/null
SELECT t.check('without notices', 'called off', 'SELECT id, 1 AS user_id, name FROM app.challenges WHERE false');
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE check_name = 'binding:challenge_members' AND status = 'ok'), 1::bigint, 'the doctor says which table the members are looked for in');
ALTER TABLE app.challenge_members RENAME TO players;
SELECT matches(t.error('SELECT t.run()'), '^42P01: ', 'which is needed then');
SELECT t.bind_label(NULL) \g /dev/null
SELECT is(t.error('SELECT t.run()'), 'no error', 'and not where the label is not bound');
SELECT is_empty($$SELECT FROM challenge_jobs.doctor() WHERE check_name LIKE 'binding:%' AND status = 'error' AND finding ~ 'auto_complete'$$, 'nor for the doctor');
ALTER TABLE app.players RENAME TO challenge_members;
SELECT t.again() \g /dev/null
SELECT t.set('{"notify": null}') \g /dev/null

/* Those who count are who takes part. */
UPDATE app.challenge_members SET status = CASE WHEN challenge_id % 2 = 0 THEN 'invited' ELSE 'active' END;
SELECT t.bind_label('called off'), t.set('{"count_member_statuses": ["active"]}') \g /dev/null
SELECT t.run() \g /dev/null
SELECT bag_eq($$SELECT id FROM app.challenges WHERE status = 'called off'$$,
              $$SELECT id FROM app.challenges c WHERE NOT EXISTS (SELECT FROM app.challenge_members m WHERE m.challenge_id = c.id AND m.status = 'active')$$,
              'with count_member_statuses, a challenge that has only others is without members');
SELECT t.set('{"count_member_statuses": ["gone"]}') \g /dev/null
SELECT t.again() \g /dev/null
SELECT is(t.run(), '0 60 60', 'with a status that nobody has there are no rates');
SELECT t.set('{"count_member_statuses": null}') \g /dev/null
SELECT t.again(), t.bind_label(NULL) \g /dev/null
UPDATE app.challenge_members SET status = 'active';

/* What is refused. */
SELECT is(t.error($$SELECT t.bind_label('active')$$), '22023: entity "challenges": "active" stands for "active" and for "cancelled"', 'cancelled challenges would be due again');
CREATE TYPE app.state AS ENUM ('active', 'completed', 'failed');
ALTER TABLE app.challenges ALTER status DROP DEFAULT, ALTER status TYPE app.state USING status::app.state;
SELECT is(t.error($$SELECT t.bind_label('void')$$), '42704: entity "challenges": enum app.state of column "status" of app.challenges has no label "void"', 'an enum has the label');
SELECT is(t.error('SELECT t.run()'), 'no error', 'or does without, where it is not bound');
SELECT t.again() \g /dev/null
ALTER TABLE app.challenges ALTER status TYPE text;
CREATE TYPE app.outcome AS ENUM ('active', 'completed', 'failed', 'cancelled');
ALTER TABLE app.challenges ALTER status TYPE app.outcome USING status::app.outcome;
SELECT t.bind_label('cancelled') \g /dev/null
SELECT t.check('of an enum', 'cancelled', 'SELECT id, user_id, c.status::text FROM app.challenges c JOIN app.challenge_members ON challenge_id = id');

/* A trigger of the app that does not want it, and one that has another opinion. */
CREATE FUNCTION t.interfere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'active' AND NEW.id % 9 = 0 THEN NEW.status := 'failed'; END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER interfere BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION t.interfere();
SELECT t.run() \g /dev/null
SELECT bag_eq($$SELECT challenge_key::integer FROM challenge_jobs.decision WHERE run_id = (t.last_run()).run_id$$,
              $$SELECT id FROM app.challenges WHERE NOT (id % 9 = 0)$$, 'what has another status than ours is not counted as decided');

SELECT * FROM finish();
ROLLBACK;
