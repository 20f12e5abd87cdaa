/*
 * The outcome: a wrong one says people that they failed what they have passed, or the other way.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* ---- the average against the threshold ---- */
SELECT t.add('exactly', 80), t.add('mixed', 70, 90), t.add('below', 79.99), t.add('above', 100, 61),
       t.add('none'), t.add('null', NULL), t.add('null_and_80', NULL, 80), t.add('null_and_79', NULL, 79),
       t.add('zero', 0), t.add('third', 80, 80, 79.99999) \g /dev/null
SELECT is(t.outcomes(),
          'exactly=completed mixed=completed below=failed above=completed none=failed null=failed '
          'null_and_80=completed null_and_79=failed zero=failed third=failed',
          'an average of at least 80 is completed; less, and no rates at all, is failed');
SELECT is(t.run(dry_run => true), '4 6 15', 'the dry run counts the same and who would be notified');
SELECT t.set('{"completion_threshold": 79.99}') \g /dev/null
SELECT matches(t.outcomes(), 'below=completed .*null_and_79=failed zero=failed third=completed', 'the threshold is a setting');
SELECT t.set('{"completion_threshold": 0}') \g /dev/null
SELECT matches(t.outcomes(), 'none=failed null=failed .* zero=completed', 'with threshold 0 zero is enough, and no rates are not');
SELECT t.set('{"completion_threshold": null}') \g /dev/null

/* ---- floating point, and what is no number ---- */
DELETE FROM app.challenges; DELETE FROM app.challenge_member_stats; DELETE FROM app.challenge_members;
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE float8;
SELECT t.add('float', 79.9, 80.1), t.add('tenths', 80.1, 80.2, 79.7), t.add('less', 79.9, 80.0999), t.add('nan', 'NaN', 100),
       t.add('endless', 'Infinity') \g /dev/null
SELECT matches(t.outcomes(), '^float=completed tenths=completed less=failed nan=failed', 'float8: 79.9 and 80.1 make 80; NaN is no success');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE float4;
SELECT matches(t.outcomes(), '^float=completed tenths=completed less=failed nan=failed', 'rates of type float4 are compared as decimal numbers');
DELETE FROM app.challenge_member_stats WHERE completion_rate IN ('NaN', 'Infinity');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE smallint;
SELECT matches(t.outcomes(), '^float=completed tenths=completed less=completed', 'smallint (rounded to 80)');
CREATE DOMAIN t.rate AS numeric(5, 2) CHECK (value BETWEEN 0 AND 100);
GRANT USAGE ON SCHEMA t TO cj_app;
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE t.rate;
SELECT matches(t.outcomes(), '^float=completed tenths=completed less=completed', 'rates of a domain are compared as its base type is');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE numeric;

/* ---- materialized views: live and stored ---- */
DELETE FROM app.challenges; DELETE FROM app.challenge_member_stats; DELETE FROM app.challenge_members;
SELECT t.add('a', 90), t.add('b', 70), t.add('c', 80) \g /dev/null
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.stats AS
SELECT s.challenge_id, s.user_id, s.completion_rate,
       rank() OVER (PARTITION BY s.challenge_id ORDER BY s.completion_rate DESC) AS rank
  FROM app.challenge_member_stats s
  JOIN app.challenges c ON c.id = s.challenge_id
 WHERE c.status = 'active' WITH NO DATA;
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
SELECT is(t.outcomes(), 'a=completed b=failed c=completed', 'live: a materialized view need not be populated');
SELECT t.set('{"completion_source": "stored"}') \g /dev/null
SELECT matches(t.error('SELECT t.run()'), '^55000: entity "challenge_member_stats": materialized view app.stats has not been populated', 'stored: it must be populated');
REFRESH MATERIALIZED VIEW app.stats;
UPDATE app.challenge_member_stats SET completion_rate = 160 - completion_rate;
SELECT is(t.outcomes(), 'a=completed b=failed c=completed', 'stored: what the last refresh has left');
SELECT t.set('{"completion_source": "live"}') \g /dev/null
SELECT is(t.outcomes(), 'a=failed b=completed c=completed', 'live: what is true now');
SELECT t.set('{"batch_size": 1}') \g /dev/null
SELECT is(t.outcomes(), 'a=failed b=completed c=completed', 'live, challenge by challenge');

ALTER MATERIALIZED VIEW app.stats RENAME completion_rate TO "the ""Rate""";
ALTER MATERIALIZED VIEW app.stats RENAME challenge_id TO "the {challenges.id}";
SELECT matches(t.error('SELECT t.run()'), '^42703: entity "challenge_member_stats": column "challenge_id" for "challenge_id" not found',
               'a column renamed after binding is reported');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats',
                           '{"challenge_id": "the {challenges.id}", "completion_rate": "the \"Rate\""}') \g /dev/null
SELECT is(t.outcomes(), 'a=failed b=completed c=completed', 'live, with columns of the view renamed');
SELECT t.set('{"completion_source": "stored"}') \g /dev/null
SELECT is(t.outcomes(), 'a=completed b=failed c=completed', 'stored, with columns of the view renamed');
SELECT t.set('{"completion_source": null, "batch_size": null}') \g /dev/null

/* definitions of other shapes */
CREATE FUNCTION t.verdicts_of(definition text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    DROP MATERIALIZED VIEW IF EXISTS app.stats;
    EXECUTE 'CREATE MATERIALIZED VIEW app.stats (challenge_id, completion_rate) AS ' || definition || ' WITH NO DATA';
    ALTER MATERIALIZED VIEW app.stats OWNER TO cj_app;
    PERFORM challenge_jobs.bind('challenge_member_stats', 'app.stats');
    RETURN t.outcomes();
END
$$;
SELECT is(t.verdicts_of(d), 'a=failed b=completed c=completed', 'a definition like ' || d)
  FROM unnest(ARRAY['SELECT challenge_id, completion_rate FROM app.challenge_member_stats',
                    'WITH s AS (SELECT * FROM app.challenge_member_stats) SELECT challenge_id, completion_rate FROM s',
                    'SELECT challenge_id, completion_rate FROM app.challenge_member_stats WHERE challenge_id < 2 '
                    'UNION ALL SELECT challenge_id, completion_rate FROM app.challenge_member_stats WHERE challenge_id >= 2',
                    'VALUES (1, 70.0), (2, 90), (3, 80)',
                    'SELECT challenge_id, completion_rate FROM app.challenge_member_stats ORDER BY 1 DESC LIMIT 10 /* ; */',
                    'SELECT challenge_id, avg(completion_rate) FROM app.challenge_member_stats GROUP BY 1 HAVING count(*) > 0']) d;

/* ---- plain views ---- */
UPDATE app.challenge_member_stats SET completion_rate = 160 - completion_rate;
SET ROLE cj_app;
CREATE VIEW app.stats_view AS
SELECT s.challenge_id, s.completion_rate
  FROM app.challenge_member_stats s JOIN app.challenges c ON c.id = s.challenge_id AND c.status = 'active';
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats_view') \g /dev/null
SELECT is(t.outcomes(), 'a=completed b=failed c=completed', 'a view over active challenges: outcomes come before the update');
SELECT t.set('{"batch_size": 2, "completion_source": "stored"}') \g /dev/null
SELECT is(t.outcomes(), 'a=completed b=failed c=completed', 'the same in several batches, stored');
SELECT t.set('{"batch_size": null, "completion_source": null}') \g /dev/null

/*
 * Windows over all challenges: the rates of one depend on which others are still active. If outcomes
 * were computed after the first update, those of the later batches would be others: with nobody left
 * that is better, everyone is among the best.
 */
SELECT t.add('d', 60), t.add('e', 50), t.add('f', 40), t.add('g', 30), t.add('h', 20) \g /dev/null
SET ROLE cj_app;
CREATE VIEW app.ranked AS
SELECT s.challenge_id, 100 * cume_dist() OVER (ORDER BY s.completion_rate) AS completion_rate
  FROM app.challenge_member_stats s JOIN app.challenges c ON c.id = s.challenge_id AND c.status = 'active';
CREATE MATERIALIZED VIEW app.ranked_stored AS SELECT * FROM app.ranked WITH NO DATA;
RESET ROLE;
CREATE TEMPORARY TABLE wanted AS
SELECT string_agg(format('%s=%s', name, CASE WHEN r.completion_rate >= 80 THEN 'completed' ELSE 'failed' END), ' ' ORDER BY id) AS statuses
  FROM app.challenges c JOIN app.ranked r ON r.challenge_id = c.id;
SELECT ok(statuses LIKE '%completed%failed%', 'the case is one: some pass, some do not') FROM wanted;
CREATE FUNCTION t.verdicts_with(relation text, batch_size integer) RETURNS text
LANGUAGE sql AS $$
    SELECT challenge_jobs.bind('challenge_member_stats', relation);
    SELECT t.set(jsonb_build_object('batch_size', batch_size));
    SELECT t.outcomes();
$$;
SELECT is(t.verdicts_with(relation, size), statuses, format('a window over all challenges in %s, batches of %s', relation, size))
  FROM wanted, unnest(ARRAY['app.ranked', 'app.ranked_stored']) relation, unnest(ARRAY[1, 2, 3, 7, 8, 1000]) size;

/* the same among many that are not due, which makes reading them all look dear to the planner */
INSERT INTO app.challenges (id, name, status) SELECT 1000 + n, 'x', 'draft' FROM generate_series(1, 5000) n;
ANALYZE app.challenges, app.challenge_member_stats;
SELECT is(t.verdicts_with(relation, size), statuses, format('the same among many others, in %s, batches of %s', relation, size))
  FROM wanted, unnest(ARRAY['app.ranked', 'app.ranked_stored']) relation, unnest(ARRAY[1, 2, 7]) size;
DELETE FROM app.challenges WHERE id > 1000;

/* and where a challenge cannot be updated, so that its batch is divided */
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.name = 'h' THEN
        RAISE EXCEPTION 'not this one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.refuse();
SELECT is(t.verdicts_with(relation, 1000), replace(statuses, 'h=failed', 'h=active'),
          'dividing a batch does not change the outcomes: ' || relation)
  FROM wanted, unnest(ARRAY['app.ranked', 'app.ranked_stored']) relation;

DROP TRIGGER refuse ON app.challenges;

/* operators that SQL has no way to qualify, of a type that lives in a schema of its own */
DELETE FROM app.challenges WHERE id > 2;
CREATE SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
GRANT USAGE ON SCHEMA ext TO cj_app;
CREATE TABLE app.handles (handle ext.citext, challenge_id integer);
CREATE TABLE app.rates (handle ext.citext, completion_rate numeric);
INSERT INTO app.handles VALUES ('One', 1), ('Two', 2);
INSERT INTO app.rates VALUES ('one', 90), ('two', 10);
ALTER TABLE app.handles OWNER TO cj_app;
ALTER TABLE app.rates OWNER TO cj_app;
SET LOCAL search_path = public, ext;
SELECT is(t.verdicts_of('SELECT challenge_id, completion_rate FROM app.handles JOIN app.rates USING (handle)'), 'a=completed b=failed',
          'live: JOIN USING compares as the view does');
GRANT CREATE ON SCHEMA ext TO PUBLIC;
SELECT throws_ok('SELECT t.outcomes()', '42501', 'the definition of app.stats cannot be run safely',
                 'live: not with operators of a schema in which anybody may plant others');
REVOKE CREATE ON SCHEMA ext FROM PUBLIC;
RESET search_path;

/* what the view's own parse tree would not call must not be called either */
CREATE TYPE app.mood AS ENUM ('fine', 'bad');
CREATE TABLE app.moods AS SELECT 1 AS challenge_id, 90 AS completion_rate, 'fine'::app.mood AS mood;
ALTER TABLE app.moods OWNER TO cj_app;
ALTER TYPE app.mood OWNER TO cj_app;
CREATE FUNCTION t.view_over_enum() RETURNS text LANGUAGE sql AS
$$ SELECT t.verdicts_of('SELECT challenge_id, max(completion_rate) FROM app.moods WHERE mood = ''fine'' GROUP BY 1') $$;
SELECT is(t.view_over_enum(), 'a=completed b=failed', 'live: a view that compares enums');
CREATE FUNCTION app.planted(app.mood, app.mood) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
CREATE FUNCTION t.plant() RETURNS void LANGUAGE sql AS
$$ CREATE OPERATOR app.= (FUNCTION = app.planted, LEFTARG = app.mood, RIGHTARG = app.mood) $$;
SELECT t.plant() \g /dev/null
SELECT is(t.outcomes(), 'a=completed b=failed', 'live: an operator planted for them afterwards is not called');

SELECT * FROM finish();
ROLLBACK;
