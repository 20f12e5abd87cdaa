/*
 * PostgreSQL runs IMMUTABLE functions in the predicate of an index as soon as it prepares the predicate. The owner of a
 * materialized view became superuser by that: track() prepared it as the owner of the extension.
 */
BEGIN;
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS challenge_jobs;
SELECT no_plan();

CREATE ROLE cj_hostile;
CREATE SCHEMA h AUTHORIZATION cj_hostile;
SET ROLE cj_hostile;
CREATE TABLE h.seen (who text);
CREATE FUNCTION h.rise() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO h.seen VALUES (current_user);
    IF current_user <> 'cj_hostile' THEN
        ALTER ROLE cj_hostile SUPERUSER;
    END IF;
END $$;
CREATE FUNCTION h.imm(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE h.members (challenge_id integer NOT NULL, user_id integer NOT NULL, done integer NOT NULL);
CREATE MATERIALIZED VIEW h.stats AS
SELECT challenge_id, user_id, sum(done) AS done FROM h.members GROUP BY challenge_id, user_id;
CREATE UNIQUE INDEX ON h.stats (user_id, challenge_id) WHERE h.imm(1);
CREATE UNIQUE INDEX ON h.stats (challenge_id, user_id);
CREATE OR REPLACE FUNCTION h.imm(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM h.rise(); RETURN true; END $$;
RESET ROLE;

CREATE FUNCTION pg_temp.others() RETURNS text LANGUAGE sql AS
    $$ SELECT coalesce(string_agg(DISTINCT who, ' '), 'nobody') FROM h.seen WHERE who <> 'cj_hostile' $$;

SELECT lives_ok('SELECT * FROM challenge_jobs.track(''h.stats'', dry_run => true)', 'the view can be looked at');
SELECT is(pg_temp.others(), 'nobody', 'to look at a view runs nothing of it as anyone but its owner');
SELECT lives_ok('SELECT * FROM challenge_jobs.track(''h.stats'')', 'the view can be tracked');
SELECT lives_ok('SELECT * FROM refresh_challenge_stats()', 'a view with a hostile index is refreshed without error');
INSERT INTO h.members VALUES (1, 1, 1);
SELECT lives_ok('SELECT * FROM refresh_challenge_stats()', 'and refreshed in place');
SELECT lives_ok('SELECT * FROM challenge_jobs.doctor()', 'the doctor examines a view with a hostile index without error');
SELECT is(pg_temp.others(), 'nobody', 'nothing of all that runs the function as anyone but the owner');
SELECT isnt((SELECT count(*) FROM h.seen), 0::bigint, 'the function has run');
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'cj_hostile'), false, 'the owner of the view is no superuser');

SELECT * FROM finish();
ROLLBACK;
