/*
 * Averages of a tracked view: read as they are stored where the change log vouches for them, computed where it does not.
 * What comes of it is what the definition gives now.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

\if :{?seed}
\else
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
SELECT diag('seed: ' || :'seed');
SELECT setseed(:seed / 1000000.0) \g /dev/null

SET ROLE cj_app;
DROP TABLE app.challenge_member_stats;
ALTER TABLE app.challenges ADD goal integer NOT NULL DEFAULT 10;
CREATE TABLE app.users (id integer PRIMARY KEY, bonus integer NOT NULL DEFAULT 0);
CREATE TABLE app.check_ins (challenge_id integer, user_id integer);
CREATE INDEX ON app.check_ins (challenge_id);
CREATE VIEW app.now AS
SELECT m.challenge_id, m.user_id, 100.0 * (count(i.user_id) + u.bonus) / c.goal AS completion_rate
  FROM app.challenge_members m
  JOIN app.challenges c ON c.id = m.challenge_id
  JOIN app.users u ON u.id = m.user_id
  LEFT JOIN app.check_ins i ON i.challenge_id = m.challenge_id AND i.user_id = m.user_id
 GROUP BY m.challenge_id, m.user_id, u.bonus, c.goal;
SELECT format('CREATE MATERIALIZED VIEW app.challenge_member_stats AS %s', rtrim(pg_get_viewdef('app.now'), ';')) \gexec
CREATE UNIQUE INDEX ON app.challenge_member_stats (challenge_id, user_id);
RESET ROLE;
INSERT INTO app.users SELECT generate_series(1, 20);
INSERT INTO app.challenges SELECT n, 'c' || n FROM generate_series(1, 100) n;
INSERT INTO app.challenge_members SELECT c, u FROM generate_series(1, 95) c, generate_series(1, 20) u WHERE random() < 0.2;
INSERT INTO app.check_ins SELECT challenge_id, user_id FROM app.challenge_members, generate_series(1, 10) n WHERE random() < 0.8;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats') \g /dev/null

/* The oracle: what the definition gives now; of the stored rows as a fault would have it. */
CREATE FUNCTION t.expected(source text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT concat_ws('' '', c.id, trim_scale(round(avg(s.completion_rate), 6)), count(s)) FROM app.challenges c LEFT JOIN %s s ON s.challenge_id = c.id GROUP BY c.id', source);
END
$$;
CREATE FUNCTION t.decided() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', challenge_key, trim_scale(average), members) FROM challenge_jobs.decision WHERE run_id = (t.last_run()).run_id
$$;
/* Decides everything once more, of which nothing stays; says how the averages were found, and whether they are right. */
CREATE FUNCTION t.averages(settings jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    BEGIN
        PERFORM t.set(settings);
        PERFORM t.run();
        result := COALESCE((t.last_run()).result->>'averages', 'none');
        IF (SELECT count(*) FROM t.decided()) <> (SELECT count(*) FROM app.challenges) THEN result := result || ', not all decided'; END IF;
        IF EXISTS (SELECT t.decided() EXCEPT SELECT t.expected('app.now')) THEN result := result || ', not those of now'; END IF;
        IF EXISTS (SELECT t.decided() EXCEPT SELECT t.expected('app.challenge_member_stats')) THEN result := result || ', not as stored'; END IF;
        RAISE EXCEPTION USING errcode = 'P0999';
    EXCEPTION WHEN sqlstate 'P0999' THEN
        RETURN result;
    END;
END
$$;
CREATE FUNCTION t.refreshed() RETURNS void LANGUAGE sql AS $$ SELECT public.refresh_challenge_stats() $$;

SELECT is(t.averages(), 'live, not as stored', 'of a view that is not tracked they are computed');
SELECT challenge_jobs.track('app.challenge_member_stats', 'challenge_id') \g /dev/null
SELECT is(t.averages(), 'live, not as stored', 'and of one that has not been refreshed since');
SELECT t.refreshed() \g /dev/null
SELECT is(t.averages(), 'tracked', 'then they are read');
SELECT is(t.averages('{"completion_source": "stored"}'), 'none', 'a setting says otherwise');

/* What has changed is computed. */
INSERT INTO app.check_ins SELECT 3, user_id FROM app.challenge_members WHERE challenge_id = 3;
SELECT is(t.averages(), 'tracked, not as stored', 'check-ins in one challenge');
UPDATE app.users SET bonus = 3 WHERE id = 7;
SELECT is(t.averages(), 'tracked, not as stored', 'a user of many challenges');
UPDATE app.challenges SET goal = 20 WHERE id % 4 = 0;
SELECT is(t.averages(), 'tracked, not as stored', 'a quarter of the challenges');
INSERT INTO app.challenge_members VALUES (96, 1);
DELETE FROM app.challenge_members WHERE challenge_id = 5;
SELECT is(t.averages(), 'tracked, not as stored', 'a challenge that has its first member, and one that has none any more');
SELECT is(t.averages('{"batch_size": 7, "failed_body": "{my_rate}"}'), 'tracked, not as stored', 'in small batches, with own rates');
SELECT t.refreshed() \g /dev/null
SELECT is(t.averages(), 'tracked', 'all is as stored after a refresh');

/* The log is believed: what it does not tell of is not seen. That is how it is known that stored rows are read. */
UPDATE app.users SET bonus = 9 WHERE id = 3;
INSERT INTO app.check_ins SELECT 3, user_id FROM app.challenge_members WHERE challenge_id = 3;
DELETE FROM challenge_jobs.change_log WHERE key_path > 0;
SELECT is(t.averages(), 'tracked, not those of now, not as stored', 'stored rows are read, but for those of the log');
SELECT t.refreshed() \g /dev/null
SELECT public.refresh_challenge_stats(force_full => true) \g /dev/null

/* Members' own rates are those of now as well. */
UPDATE app.users SET bonus = 1 WHERE id = 2;
SAVEPOINT own;
SELECT t.set('{"completed_body": "{my_rate}", "failed_body": "{my_rate}"}'), t.run() \g /dev/null
SELECT bag_eq($$SELECT (data->>'challenge_id')::integer, user_id, body FROM app.notifications$$,
              $$SELECT challenge_id, user_id, trim_scale(trunc(completion_rate, 2))::text FROM app.now$$, 'own rates are those of now');
ROLLBACK TO own;
SELECT is(t.averages('{"count_member_statuses": ["active"]}'), 'tracked, not as stored', 'with a condition on members');

/* Where nothing can be said. */
SAVEPOINT before;
TRUNCATE app.check_ins;
SELECT is(t.averages(), 'live, not as stored', 'a table that was emptied');
ROLLBACK TO before;
ALTER TABLE app.check_ins DISABLE TRIGGER ALL;
INSERT INTO app.check_ins SELECT 8, user_id FROM app.challenge_members WHERE challenge_id = 8;
SELECT is(t.averages(), 'live, not as stored', 'changes that are not noted');
ROLLBACK TO before;
SELECT is(t.averages('{"timestamp_time_zone": "Asia/Tokyo"}'), 'live, not as stored', 'another time zone than that of the last refresh');
SELECT challenge_jobs.untrack('app.challenge_member_stats') \g /dev/null
SELECT challenge_jobs.track('app.challenge_member_stats', 'user_id') \g /dev/null
SELECT t.refreshed() \g /dev/null
SELECT is(t.averages(), 'live', 'tracked by another column');
ROLLBACK TO before;

/* Many changes at random, refreshed now and then. */
CREATE FUNCTION t.change() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c   integer := 1 + floor(random() * 100);
    u   integer := 1 + floor(random() * 20);
BEGIN
    CASE floor(random() * 8)
        WHEN 0 THEN INSERT INTO app.check_ins SELECT c, user_id FROM app.challenge_members WHERE challenge_id = c;
        WHEN 1 THEN DELETE FROM app.check_ins WHERE challenge_id = c AND random() < 0.5;
        WHEN 2 THEN UPDATE app.users SET bonus = random() * 5 WHERE id = u;
        WHEN 3 THEN UPDATE app.challenges SET goal = 5 + random() * 10 WHERE id = c;
        WHEN 4 THEN UPDATE app.challenge_members SET challenge_id = c WHERE challenge_id = 1 + floor(random() * 100) AND NOT EXISTS (SELECT FROM app.challenge_members m WHERE m.challenge_id = c);
        WHEN 5 THEN INSERT INTO app.challenge_members SELECT c, u WHERE NOT EXISTS (SELECT FROM app.challenge_members WHERE challenge_id = c AND user_id = u);
        WHEN 6 THEN DELETE FROM app.challenge_members WHERE challenge_id = c AND user_id = u;
        ELSE IF random() < 0.3 THEN PERFORM t.refreshed(); END IF;
    END CASE;
END
$$;
CREATE TABLE t.seen (averages text);
DO $$
BEGIN
    FOR i IN 1 .. 40 LOOP
        FOR j IN 1 .. random() * 6 LOOP PERFORM t.change(); END LOOP;
        INSERT INTO t.seen VALUES (t.averages());
    END LOOP;
END
$$;
SELECT is((SELECT count(*) FROM t.seen WHERE averages ~ 'now|decided'), 0::bigint, 'whatever has changed, they are those of now');
SELECT cmp_ok((SELECT count(*) FROM t.seen WHERE averages ~ '^tracked, not as stored'), '>', 10::bigint, 'of which some were stored and some were not');

SELECT * FROM finish();
ROLLBACK;
