/*
 * Refreshing: what is refreshed, in which order, by which method, what is said of it, and that what
 * goes wrong with one view touches no other.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* What the job function says of each view: name=method:rows, in the order of refreshing. */
CREATE FUNCTION t.refresh(force_full boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s=%s:%s', view_name, method, rows_changed), ' ') FROM public.refresh_challenge_stats(force_full)
$$;
/* What the run row says: status, figures, and the list. */
CREATE FUNCTION t.last() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ', r.job, r.status, r.rows_affected, r.result->>'refreshed', r.result->>'rows_changed', r.result->>'locked', r.result->>'errors',
                     (SELECT string_agg(format('%s=%s:%s', v->>'view', v->>'method', v->>'rows_changed'), ' ' ORDER BY n)
                        FROM jsonb_array_elements(r.result->'views') WITH ORDINALITY l(v, n)))
      FROM t.last_run() r
$$;
/* What the doctor says: check=status, or with what it found. */
CREATE FUNCTION t.doctor(pattern text DEFAULT '^refresh:') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s=%s: %s', substr(check_name, 9), status, finding), '; ') FROM challenge_jobs.doctor() WHERE check_name ~ pattern
$$;
/* Types the remedies of what is not ok. */
CREATE FUNCTION t.mend() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r   text;
BEGIN
    FOR r IN SELECT remedy FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh' AND status <> 'ok' LOOP
        EXECUTE r;
    END LOOP;
END
$$;
/* That a view holds what its definition gives. */
CREATE FUNCTION t.differs(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    result  bigint;
BEGIN
    EXECUTE format('WITH now AS (%s), stored AS (SELECT * FROM %s)
                    SELECT (SELECT count(*) FROM (TABLE now EXCEPT ALL TABLE stored) a) + (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE now) b)',
                   rtrim(pg_get_viewdef(view), ';'), view) INTO result;
    RETURN result;
END
$$;

/* ---- a table, a plain view: nothing to refresh ---- */
INSERT INTO app.challenge_member_stats SELECT c, u, c + u FROM generate_series(1, 20) c, generate_series(1, 5) u;
SELECT is(t.refresh(), 'app.challenge_member_stats=none:0', 'a table is not refreshed, and that is said');
SELECT is(t.last(), 'refresh_challenge_stats, succeeded, 0, 0, 0, 0, 0, app.challenge_member_stats=none:0', 'nor is it an error');
SELECT is(t.doctor(), 'app.challenge_member_stats=ok: app.challenge_member_stats is not a materialized view, so there is nothing to refresh', 'the doctor says so, too');
SET ROLE cj_app;
CREATE VIEW app.plain AS SELECT * FROM app.challenge_member_stats;
ALTER TABLE app.challenge_member_stats ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT is(count(*), 0::bigint, 'row security is forced') FROM app.challenge_member_stats;
RESET ROLE;
SELECT is(t.refresh(true), 'app.challenge_member_stats=none:0', 'nor where auto_complete_challenges could not use it');
ALTER TABLE app.challenge_member_stats DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.plain') \g /dev/null
SELECT is(t.refresh(), 'app.plain=none:0', 'a plain view is not refreshed');

/* ---- the method ---- */
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.stats AS SELECT challenge_id, user_id, completion_rate FROM app.challenge_member_stats;
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
SELECT is(t.refresh(), 'app.stats=full:100', 'without an index: full; all rows are written');
SELECT is(t.last(), 'refresh_challenge_stats, succeeded, 100, 1, 100, 0, 0, app.stats=full:100', 'the run row says so');
SELECT is(t.doctor(), 'app.stats=warning: method "full": readers wait while app.stats is refreshed, since it has no unique index on plain columns without WHERE',
          'the doctor says that a view without a unique index keeps readers waiting');
SET ROLE cj_app;
CREATE FUNCTION app.with_index(definition text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format(definition, 'an_index ON app.stats');
    RETURN t.refresh();
END
$$;
RESET ROLE;
GRANT EXECUTE ON FUNCTION public.refresh_challenge_stats(boolean) TO cj_app;
CREATE FUNCTION t.method_with(definition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text := app.with_index(definition);
BEGIN
    DROP INDEX app.an_index;
    RETURN result;
END
$$;
SELECT is(t.method_with(definition), 'app.stats=full:100', definition)
  FROM unnest(ARRAY['CREATE INDEX %s (challenge_id, user_id)', 'CREATE UNIQUE INDEX %s (challenge_id, user_id) WHERE challenge_id > 0',
                    'CREATE UNIQUE INDEX %s (challenge_id, (user_id + 1))', 'CREATE UNIQUE INDEX %s ((challenge_id * 1000 + user_id))']) definition;
SELECT is(t.method_with(definition), 'app.stats=concurrent:0', definition)
  FROM unnest(ARRAY['CREATE UNIQUE INDEX %s (challenge_id, user_id)', 'CREATE UNIQUE INDEX %s (user_id DESC, challenge_id NULLS FIRST)',
                    'CREATE UNIQUE INDEX %s (challenge_id, user_id) INCLUDE (completion_rate)']) definition;
/* the doctor's remedy does it, for the entity with its own columns */
SELECT t.mend() \g /dev/null
SELECT is((SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'app.stats'::regclass),
          'CREATE UNIQUE INDEX stats_challenge_id_user_id_idx ON app.stats USING btree (challenge_id, user_id)', 'the remedy of the doctor is the index on challenge and user');
SELECT is(t.doctor(), 'app.stats=ok: method "concurrent"', 'then all is well');
UPDATE pg_index SET indisvalid = false WHERE indrelid = 'app.stats'::regclass;
SELECT is(t.refresh(), 'app.stats=full:100', 'an index that is not valid does not count');
UPDATE pg_index SET indisvalid = true WHERE indrelid = 'app.stats'::regclass;
SELECT is(t.refresh(true), 'app.stats=full:100', 'force_full refreshes a view in full that could be refreshed concurrently');
SELECT is(t.refresh(false), 'app.stats=concurrent:0', 'without force_full the view is refreshed concurrently again');
SELECT is(t.error('SELECT t.refresh(NULL)'), '22004: force_full must not be null', 'force_full must not be null');

/* ---- rows changed ---- */
UPDATE app.challenge_member_stats SET completion_rate = completion_rate + 1 WHERE challenge_id <= 2;
SELECT is(t.refresh(), 'app.stats=concurrent:20', '10 rows updated: 10 deleted and 10 inserted');
SELECT is(t.differs('app.stats'), 0::bigint, 'the view is what its definition gives');
INSERT INTO app.challenge_member_stats VALUES (21, 1, 1), (21, 2, NULL);
SELECT is(t.refresh(), 'app.stats=concurrent:2', 'a concurrent refresh that inserts two rows counts them');
DELETE FROM app.challenge_member_stats WHERE challenge_id >= 20;
SELECT is(t.refresh(), 'app.stats=concurrent:7', 'a concurrent refresh that deletes seven rows counts them');
SELECT is(t.differs('app.stats'), 0::bigint, 'the view is what its definition gives after that');
SELECT is(t.last(), 'refresh_challenge_stats, succeeded, 7, 1, 7, 0, 0, app.stats=concurrent:7', 'the run row says how many');
DELETE FROM app.challenge_member_stats WHERE challenge_id >= 19;
SELECT is(t.refresh(true), 'app.stats=full:90', 'a full refresh after others in the same transaction counts its own rows');
SELECT is(t.refresh(true), 'app.stats=full:90', 'a second full refresh counts all rows again');
INSERT INTO app.challenge_member_stats VALUES (20, 1, 1);
SELECT is(t.refresh(), 'app.stats=concurrent:1', 'a concurrent refresh after a full one counts only the row that has changed');
SAVEPOINT before;
INSERT INTO app.challenge_member_stats VALUES (20, 2, 1);
SELECT is(t.refresh() || ' ' || t.refresh(true) || ' ' || t.refresh(), 'app.stats=concurrent:1 app.stats=full:92 app.stats=concurrent:0', 'all of it in a subtransaction');
ROLLBACK TO before;
SELECT is(t.differs('app.stats'), 0::bigint, 'a rollback takes the refresh back');
SELECT is((SELECT count(*) FROM app.stats), 91::bigint, 'after the rollback the view has all its rows');
DELETE FROM app.challenge_member_stats WHERE challenge_id = 20;
SELECT is(t.refresh(), 'app.stats=concurrent:1', 'a refresh after a rollback counts its own rows');
SET LOCAL track_counts = off;
UPDATE app.challenge_member_stats SET completion_rate = 0 WHERE challenge_id = 1;
SELECT is(t.refresh(), 'app.stats=concurrent:', 'NULL where the server does not count');
SELECT is(t.refresh(true), 'app.stats=full:', 'rows_changed of a full refresh is null where the server does not count');
SELECT is(t.last(), 'refresh_challenge_stats, succeeded, 0, 1, 0, 0, 0, app.stats=full:', 'such a run is no failure');
SET LOCAL track_counts = on;
SELECT is((SELECT result->'views'->0->'rows_changed' FROM t.last_run()), 'null'::jsonb, 'in the result, too');
SELECT is((SELECT count(*) FROM public.refresh_challenge_stats() WHERE duration > '0' AND duration < '1 minute'), 1::bigint, 'the duration of a refresh is above 0 and plausible');
SELECT matches((SELECT result->'views'->0->>'seconds' FROM t.last_run()), '^0\.[0-9]{3}$', 'which stands in the result');

/* ---- not populated ---- */
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app."No Data" AS SELECT DISTINCT user_id FROM app.challenge_member_stats WITH NO DATA;
CREATE UNIQUE INDEX ON app."No Data" (user_id);
RESET ROLE;
SELECT challenge_jobs.add_stats_view('app."No Data"') \g /dev/null
SELECT is(t.doctor(), 'app."No Data"=warning: app."No Data" has not been populated and cannot be read until it is refreshed; app.stats=ok: method "concurrent"',
          'the doctor reports a view that has not been populated');
SELECT is(t.refresh(), 'app."No Data"=full:5 app.stats=concurrent:0', 'a view without data is refreshed in full');
SELECT is(t.refresh(), 'app."No Data"=concurrent:0 app.stats=concurrent:0', 'once a view has data it is refreshed concurrently');
REFRESH MATERIALIZED VIEW app."No Data" WITH NO DATA;
SELECT t.mend() \g /dev/null
SELECT is(t.doctor(), 'app."No Data"=ok: method "concurrent"; app.stats=ok: method "concurrent"', 'the doctor''s remedy is the refresh');
DROP MATERIALIZED VIEW app."No Data";
SELECT t.mend() \g /dev/null
SELECT is((SELECT count(*) FROM challenge_jobs.stats_view), 0::bigint, 'the remedy for a view that is gone is to remove it');

/* ---- what is registered and bound is refreshed once ---- */
SELECT challenge_jobs.add_stats_view('app.stats') \g /dev/null
SELECT is(t.refresh(), 'app.stats=concurrent:0', 'bound and registered: once');
INSERT INTO challenge_jobs.stats_view VALUES ('App . "stats"');
SELECT is(t.refresh(), 'App . "stats"=concurrent:0', 'however the name is written');
SELECT challenge_jobs.remove_stats_view('App . "stats"') \g /dev/null
SELECT is((SELECT count(*) FROM challenge_jobs.stats_view), 0::bigint, 'and removed in every spelling');

/* ---- the order ---- */
/* each reads the one before it, through more and more between them; the names are in the wrong order */
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.z1 AS SELECT count(*) AS n FROM app.challenge_member_stats;
CREATE MATERIALIZED VIEW app.y2 AS SELECT n + 1 AS n FROM app.z1;
CREATE VIEW app.over_y2 AS SELECT n FROM app.y2;
CREATE VIEW app.over_over_y2 AS SELECT n FROM app.over_y2 WHERE EXISTS (SELECT FROM app.challenges UNION SELECT) ;
CREATE MATERIALIZED VIEW app.x3 AS SELECT (SELECT n + 1 FROM app.over_over_y2) AS n;
CREATE FUNCTION app.of_x3() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT n + 1 FROM app.x3; END;
CREATE VIEW app.over_of_x3 AS SELECT app.of_x3() AS n;
CREATE MATERIALIZED VIEW app.unregistered AS SELECT n FROM app.over_of_x3;
CREATE MATERIALIZED VIEW app.w4 AS SELECT u.n - u.n + o.n AS n FROM app.unregistered u, app.over_of_x3 o;
CREATE MATERIALIZED VIEW app.a0 AS SELECT 1 AS n;
CREATE MATERIALIZED VIEW app."B0" AS SELECT 1 AS n;
RESET ROLE;
SELECT challenge_jobs.add_stats_view(v) FROM unnest(ARRAY['app.w4', 'app.x3', 'app.y2', 'app.z1', 'app.a0', 'app."B0"']) v \g /dev/null
INSERT INTO app.challenge_member_stats VALUES (100, 1, 1);
SELECT is(t.refresh(), 'app."B0"=full:1 app.a0=full:1 app.stats=concurrent:1 app.z1=full:1 app.y2=full:1 app.x3=full:1 app.w4=full:1',
          'what is read comes first, through plain views, functions and views that are not registered; else by name');
SELECT is((SELECT n FROM app.w4), (SELECT count(*) + 3 FROM app.challenge_member_stats), 'one run brings the whole chain up to date');
SELECT is(t.doctor('^refresh:app.w4'),
          'app.w4=warning: method "full": readers wait while app.w4 is refreshed, since it has no unique index on plain columns without WHERE; '
          'app.w4=warning: it reads materialized view app.unregistered, which the job does not refresh', 'the doctor says what is missing in the chain');
/* two that read each other, which only functions can bring about */
SET ROLE cj_app;
CREATE OR REPLACE FUNCTION app.of_x3() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT n + 1 - (SELECT count(*) - 1 FROM app.w4) FROM app.x3; END;
RESET ROLE;
SELECT matches(t.refresh(), 'app.z1=full:1 app.y2=full:1 app.x3=full:1 app.w4=', 'a circle does not go round for ever');
DROP MATERIALIZED VIEW app.z1, app."B0", app.a0 CASCADE;
DELETE FROM challenge_jobs.stats_view;

/* a plain view stands for the statistics, over what nobody refreshes */
SET ROLE cj_app;
CREATE VIEW app.over_stats AS SELECT * FROM app.stats;
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.over_stats') \g /dev/null
SELECT is(t.refresh(), 'app.over_stats=none:0', 'a plain view over a materialized one is not refreshed');
SELECT alike(t.doctor(), '%it reads materialized view app.stats, which the job does not refresh', 'but the doctor sees what it reads');
SELECT t.mend() \g /dev/null
SELECT is(t.refresh(), 'app.stats=concurrent:0 app.over_stats=none:0', 'and its remedy does it');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
SELECT challenge_jobs.remove_stats_view('app.stats') \g /dev/null

/* ---- one that fails ---- */
SET ROLE cj_app;
CREATE TABLE app.divisor AS SELECT 1 AS d;
CREATE MATERIALIZED VIEW app.bad AS SELECT 1 / d AS n FROM app.divisor;
CREATE MATERIALIZED VIEW app.over_bad AS SELECT n, (SELECT count(*) FROM app.challenge_member_stats) AS rows FROM app.bad;
UPDATE app.divisor SET d = 0;
RESET ROLE;
SELECT challenge_jobs.add_stats_view('app.bad'), challenge_jobs.add_stats_view('app.over_bad') \g /dev/null
SELECT is(t.refresh(), 'app.bad=failed: app.stats=concurrent:0 app.over_bad=full:1', 'one view fails: the others are refreshed, also the one that reads it');
SELECT is(t.last(), 'refresh_challenge_stats, failed, 1, 2, 1, 0, 1, app.bad=failed: app.stats=concurrent:0 app.over_bad=full:1', 'the run has failed');
SELECT is((SELECT concat_ws(' / ', sqlstate, message, detail) FROM t.last_run()), '22012 / division by zero / Not done (1): view app.bad.', 'and says which view, and why');
SELECT is((SELECT n FROM app.bad), 1, 'the view that failed is as it was');
SELECT challenge_jobs.remove_stats_view('app.over_bad') \g /dev/null
SELECT is(t.refresh(), 'app.bad=failed: app.stats=concurrent:0', 'a view in which nothing had changed has been refreshed nevertheless: no error of the job function');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats') \g /dev/null
SELECT is(t.error('SELECT t.refresh()'), '22012: division by zero', 'where nothing was refreshed the job function raises the error');
SELECT is(t.error('SELECT t.refresh(true)'), '22012: division by zero', 'with force_full an error in the query of a view comes out as well');
UPDATE app.divisor SET d = 2;
SELECT is(t.refresh(), 'app.bad=full:1 app.challenge_member_stats=none:0', 'when it is mended it is refreshed again');

/* errors that look as if they were about locks or the whole run */
SET ROLE cj_app;
CREATE FUNCTION app.raise(state text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING errcode = state, message = 'raised by the app';
END
$$;
CREATE TABLE app.state (state text);
CREATE MATERIALIZED VIEW app.raising AS SELECT app.raise(state) FROM app.state;
CREATE MATERIALIZED VIEW app.zz AS SELECT 1 AS one;
RESET ROLE;
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.raising'), challenge_jobs.add_stats_view('app.zz') \g /dev/null
CREATE FUNCTION t.refresh_with(new_state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.state;
    INSERT INTO app.state VALUES (new_state);
    RETURN t.refresh() || (t.last_run()).sqlstate;
END
$$;
SELECT is(t.refresh_with(state), 'app.challenge_member_stats=none:0 app.raising=failed: app.zz=full:1' || state, 'a view that raises ' || state || ' fails, and nothing else')
  FROM unnest(ARRAY['55P03', '40P01', '40001', '57014', '57P01', '53200', '42P01', '42501', 'XX000']) state;
/* one that would start a job from inside */
SET ROLE cj_app;
CREATE OR REPLACE FUNCTION app.raise(state text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.refresh_challenge_stats();
    RETURN 1;
END
$$;
RESET ROLE;
SELECT is(t.refresh_with('') || (t.last_run()).message,
          'app.challenge_member_stats=none:0 app.raising=failed: app.zz=full:155006job "refresh_challenge_stats" cannot be started: this session is running job "refresh_challenge_stats"',
          'a job cannot be started from inside a view');
DELETE FROM app.state;

/* an open cursor on the view */
SELECT is(t.refresh(), 'app.challenge_member_stats=none:0 app.raising=full:0 app.zz=full:1', 'all is well again');
DECLARE reader CURSOR FOR SELECT * FROM app.zz;
FETCH reader \g /dev/null
SELECT is(t.refresh() || ' ' || (t.last_run()).sqlstate, 'app.challenge_member_stats=none:0 app.raising=full:0 app.zz=failed: 55006', 'a view that the caller is reading fails, and nothing else');
CLOSE reader;
SELECT is(t.refresh(), 'app.challenge_member_stats=none:0 app.raising=full:0 app.zz=full:1', 'until the caller has read it');

/* ---- bound to what is gone ---- */
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
ALTER MATERIALIZED VIEW app.stats RENAME TO gone;
SELECT is(t.refresh(), 'app.raising=full:0 app.stats=failed: app.zz=full:1', 'what the statistics are bound to is gone: the others are refreshed');
SELECT is((SELECT message || ' / ' || hint FROM t.last_run()),
          'entity "challenge_member_stats": relation app.stats does not exist / Run: SELECT challenge_jobs.bind(''challenge_member_stats'', ''app.challenge_member_stats'');', 'it says what to type');
SELECT alike(t.doctor(), '%app.stats=error: app.stats does not exist%', 'so does the doctor');
SELECT challenge_jobs.unbind('challenge_member_stats') \g /dev/null
SELECT is(t.refresh(), 'app.raising=full:0 app.zz=full:1', 'not bound, and nothing of the default name: no error where other views are registered');
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.challenge_member_stats_2 AS SELECT 1 AS challenge_id, 1.0 AS completion_rate;
RESET ROLE;
ALTER MATERIALIZED VIEW app.challenge_member_stats_2 SET SCHEMA public;
ALTER MATERIALIZED VIEW public.challenge_member_stats_2 RENAME TO challenge_member_stats;
GRANT USAGE ON SCHEMA public TO cj_app;
SELECT is(t.refresh(), 'app.raising=full:0 app.zz=full:1 public.challenge_member_stats=full:1', 'what has the default name is refreshed');
DROP MATERIALIZED VIEW public.challenge_member_stats;
DELETE FROM challenge_jobs.stats_view;
SELECT alike(t.error('SELECT t.refresh()'), '42P01: entity "challenge_member_stats" is not bound, and relation public.challenge_member_stats does not exist',
             'nothing to refresh at all is an error');

/* ---- odd names, several owners ---- */
CREATE ROLE "Cj ""odd""";
CREATE SCHEMA "Odd ""Schema""; --" AUTHORIZATION "Cj ""odd""";
SET ROLE "Cj ""odd""";
CREATE TABLE "Odd ""Schema""; --"."select" AS SELECT n AS "the Key", 'x'::text AS "user" FROM generate_series(1, 3) n;
CREATE MATERIALIZED VIEW "Odd ""Schema""; --"."a view's; ""name""" AS SELECT "the Key", "user", current_user::text AS me FROM "Odd ""Schema""; --"."select";
RESET ROLE;
SELECT challenge_jobs.add_stats_view('"Odd ""Schema""; --"."a view''s; ""name"""'), challenge_jobs.add_stats_view('app.zz') \g /dev/null
SELECT is(t.refresh(), '"Odd ""Schema""; --"."a view''s; ""name"""=full:3 app.zz=full:1', 'names that need quoting');
SELECT is((SELECT DISTINCT me FROM "Odd ""Schema""; --"."a view's; ""name"""), 'Cj "odd"', 'each view is refreshed as its own owner');
CREATE UNIQUE INDEX ON "Odd ""Schema""; --"."a view's; ""name""" ("the Key");
INSERT INTO "Odd ""Schema""; --"."select" VALUES (4, 'y');
SELECT is(t.refresh(), '"Odd ""Schema""; --"."a view''s; ""name"""=concurrent:1 app.zz=full:1', 'names that must be quoted work in a concurrent refresh');
SELECT is((t.last_run()).result->'views'->0->>'view', '"Odd ""Schema""; --"."a view''s; ""name"""', 'the name in the result');

/* ---- rights that the owner lacks ---- */
ALTER SCHEMA "Odd ""Schema""; --" OWNER TO CURRENT_USER;
SELECT is(t.refresh() || ' ' || (SELECT message || ' / ' || hint FROM t.last_run()),
          '"Odd ""Schema""; --"."a view''s; ""name"""=failed: app.zz=full:1 the owner of "Odd ""Schema""; --"."a view''s; ""name""" lacks a privilege that the refresh needs / '
          'Run: GRANT USAGE ON SCHEMA "Odd ""Schema""; --" TO "Cj ""odd""";', 'an owner without USAGE on the schema');
SELECT alike(t.doctor(), '%=error: the owner of % lacks a privilege that the refresh needs%', 'the doctor says that the owner lacks a privilege for a concurrent refresh');
DO $$ BEGIN EXECUTE (SELECT remedy FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh' AND status = 'error'); END $$;
SELECT alike(t.refresh(), '%=concurrent:0 app.zz=full:1', 'and its remedy does it');
DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$;
SELECT alike(t.refresh() || (SELECT hint FROM t.last_run()), '%=failed: app.zz=full:1Run: GRANT TEMPORARY ON DATABASE % TO "Cj ""odd""";', 'without TEMPORARY on the database not concurrently');
SELECT alike(t.refresh(true), '%=full:4 app.zz=full:1', 'without that privilege a view is still refreshed in full');
DO $$ BEGIN EXECUTE (SELECT remedy FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh' AND status = 'error'); END $$;
SELECT alike(t.refresh(), '%=concurrent:0 app.zz=full:1', 'the doctor''s remedy does it');

/* ---- callers ---- */
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.zz') \g /dev/null
SELECT is((SELECT count(*) FROM public.refresh_challenge_stats() a, public.refresh_challenge_stats() b), 1::bigint, 'twice in one statement');
DO $$
DECLARE
    r   record;
BEGIN
    FOR r IN SELECT * FROM public.refresh_challenge_stats() LOOP
        PERFORM * FROM public.refresh_challenge_stats(true);
    END LOOP;
END
$$;
SELECT pass('in a function, and while the rows of another call are read');
SAVEPOINT before_read_only;
SET LOCAL transaction_read_only = on;
SELECT is(t.error('SELECT t.refresh()'), '25006: cannot execute refresh_challenge_stats in a read-only transaction', 'not in a read-only transaction');
ROLLBACK TO before_read_only;
SELECT challenge_jobs.alter_job('refresh_challenge_stats', enabled => false) \g /dev/null
SELECT is(t.error('SELECT t.refresh()'), '55000: job "refresh_challenge_stats" is disabled', 'a disabled job is not run');
SELECT challenge_jobs.reset_job('refresh_challenge_stats') \g /dev/null

/* ---- max_runtime ---- */
SET ROLE cj_app;
CREATE FUNCTION app.sleep(seconds float) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(seconds);
    RETURN 1;
EXCEPTION WHEN query_canceled THEN
    RETURN 2;
END
$$;
CREATE TABLE app.seconds AS SELECT 0.0 AS s;
CREATE MATERIALIZED VIEW app.slow AS SELECT pg_sleep(s)::text, 1 AS one FROM app.seconds;
CREATE MATERIALIZED VIEW app.stubborn AS SELECT app.sleep(s) FROM app.seconds;
UPDATE app.seconds SET s = 60;
RESET ROLE;
SELECT challenge_jobs.alter_job('refresh_challenge_stats', max_runtime => '50 ms', settings => '{"view_time_limit": "1 hour"}') \g /dev/null
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.slow') \g /dev/null
SELECT is(t.error('SELECT t.refresh()'), '57014: job "refresh_challenge_stats" has been running for longer than its max_runtime of 50 ms', 'max_runtime ends a refresh');
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.stubborn'), challenge_jobs.add_stats_view('app.zz') \g /dev/null
SELECT is(t.error('SELECT t.refresh()'), '57014: job "refresh_challenge_stats" has been running for longer than its max_runtime of 50 ms', 'also where the app catches it: before the next view');
SELECT challenge_jobs.reset_job('refresh_challenge_stats') \g /dev/null
UPDATE app.seconds SET s = 0;
SELECT is(t.refresh(), 'app.stubborn=full:1 app.zz=full:1', 'the session goes on as if nothing had been');

SELECT * FROM finish();
ROLLBACK;
