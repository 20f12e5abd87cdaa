/*
 * Tracked views: who may track what, what is noted of changes and what is not, by which method a view is then
 * refreshed, and what becomes of triggers and notes as views and tables come and go.
 *
 * All of it in one transaction: what it has changed itself is seen by a refresh, and noted again after it.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* What the job function says of each view that is refreshed: name=method:rows. */
CREATE FUNCTION t.refresh(force_full boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s=%s:%s', replace(view_name, 'app.', ''), method, rows_changed), ' ') FROM public.refresh_challenge_stats(force_full) WHERE method <> 'none'
$$;
CREATE FUNCTION t.differs(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    result  bigint;
BEGIN
    EXECUTE format('WITH now AS MATERIALIZED (SELECT defined_row::text FROM (%s) defined_row), stored AS MATERIALIZED (SELECT stored_row::text FROM %s stored_row)
                    SELECT (SELECT count(*) FROM (TABLE now EXCEPT ALL TABLE stored) a) + (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE now) b)',
                   rtrim(pg_get_viewdef(view), ';'), view) INTO result;
    RETURN result;
END
$$;
/* What has been noted: view, key_path and number of rows of the log. */
CREATE FUNCTION t.noted() RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s: %s', name, key_path, n), ', ' ORDER BY name, key_path), '')
      FROM (SELECT coalesce(to_regclass(view_id::regclass::text)::text, 'gone') AS name, key_path, count(*) AS n FROM challenge_jobs.change_log GROUP BY 1, 2) l
$$;
CREATE FUNCTION t.triggers(source regclass) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(tgname || ' ' || tgenabled::text, ', ' ORDER BY tgname), '') FROM pg_trigger WHERE tgrelid = source AND tgfoid = 'challenge_jobs.capture_change'::regproc
$$;
CREATE FUNCTION t.tracked() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', replace(view_name, 'app.', ''), state, replace(source, 'app.', ''), column_name, key_path, via_table), '; ' ORDER BY view_name, source) FROM challenge_jobs.tracked_view
$$;
/* As somebody. */
CREATE FUNCTION t.error_as(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    result := t.error(statement);
    RESET ROLE;
    RETURN result;
END
$$;
CREATE ROLE cj_other;
CREATE ROLE cj_client;
GRANT USAGE ON SCHEMA challenge_jobs TO cj_app, cj_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA challenge_jobs TO cj_app, cj_other;
GRANT USAGE ON SCHEMA app TO cj_client, cj_other;

SET ROLE cj_app;
CREATE TABLE app.rows (key integer, value text, unused integer, wide text);
INSERT INTO app.rows SELECT i, 'v' || i FROM generate_series(1, 40) i;
CREATE TABLE app.names (key integer PRIMARY KEY, name text, unused integer);
INSERT INTO app.names SELECT i, 'n' || i FROM generate_series(1, 40) i;
CREATE MATERIALIZED VIEW app.view AS SELECT r.key AS challenge_id, count(*) AS n, min(r.value) AS value FROM app.rows r GROUP BY r.key;
CREATE UNIQUE INDEX view_index ON app.view (challenge_id);
GRANT INSERT, SELECT, UPDATE, DELETE, TRUNCATE ON app.rows TO cj_client;
RESET ROLE;

/* ---- who may ---- */
SELECT is(t.error_as('cj_other', $$SELECT challenge_jobs.track('app.view')$$), '42501: must be owner of relation app.view to track it', 'a view is for its owner to track');
SELECT is(t.error_as('cj_other', $$SELECT challenge_jobs.track('app.view', dry_run => true)$$), '42501: must be owner of relation app.view to track it', 'also for a try');
SELECT is(t.error_as('cj_client', $$SELECT challenge_jobs.track('app.view')$$), '42501: permission denied for schema challenge_jobs', 'and of whom has no right on the extension');
SELECT is(t.error($$SELECT challenge_jobs.track('app.rows')$$) ~ '^(42809|0A000):', true, 'a table cannot be tracked');
SELECT is(t.error($$SELECT challenge_jobs.track('app.view', 'nothing')$$) ~ '^(42703|0A000):', true, 'nor by a column that is not there');
SELECT is(t.error($$SELECT challenge_jobs.track(NULL)$$) ~ '^22004: ', true, 'NULL is no view');
SELECT is(t.tracked(), NULL, 'none of it has left anything');
ALTER TABLE app.rows OWNER TO cj_other;
SELECT is(t.error_as('cj_app', $$SELECT challenge_jobs.track('app.view')$$), '42501: the owner of app.view may not create triggers on app.rows', 'the tables are for their owner to have triggers made on');
GRANT cj_other TO cj_app;
SELECT is(t.error_as('cj_app', $$SELECT challenge_jobs.track('app.view')$$), 'no error', 'with the hint typed in it is possible');
SELECT is(regexp_replace(t.triggers('app.rows'), '_\d+', '', 'g'), 'challenge_jobs_capture A, challenge_jobs_capture_truncate A', 'the triggers fire always');
SELECT challenge_jobs.untrack('app.view') \g /dev/null
SELECT is(t.triggers('app.rows'), '', 'untrack() drops the triggers of its tables');
REVOKE cj_other FROM cj_app;
ALTER TABLE app.rows OWNER TO cj_app;

/* ---- what tracking says, and leaves ---- */
SET ROLE cj_app;
SELECT results_eq($$SELECT * FROM challenge_jobs.track('app.view', dry_run => true)$$, $$VALUES ('app.rows', 'key', 'direct', NULL, NULL)$$, 'a try says how changes lead to keys');
SELECT is(t.triggers('app.rows'), '', 'a dry run of track() makes no trigger');
SELECT results_eq($$SELECT * FROM challenge_jobs.track('app.view')$$, $$VALUES ('app.rows', 'key', 'direct', NULL, NULL)$$, 'track() returns the key path of each table');
RESET ROLE;
SELECT is(t.tracked(), 'view new rows key direct', 'the view tracked_view says so');
SELECT is(t.refresh(), 'view=concurrent:0', 'the first refresh recomputes');
SELECT is(t.refresh(), 'view=unchanged:0', 'the second has nothing to do');
SELECT is(t.tracked(), 'view tracked rows key direct', 'the state is tracked');
SELECT results_eq($$SELECT * FROM challenge_jobs.track('app.view')$$, $$VALUES ('app.rows', 'key', 'direct', NULL, NULL)$$, 'it may be tracked twice');
SELECT is(count(*), 2::bigint, 'with one set of triggers') FROM pg_trigger WHERE tgrelid = 'app.rows'::regclass;
SELECT is(t.refresh(), 'view=concurrent:0', 'after which it is recomputed once');
SELECT is(t.refresh(), 'view=unchanged:0', 'a view that is tracked twice is recomputed once');

/* ---- what is noted ---- */
UPDATE app.rows SET unused = 1;
SELECT is(t.noted(), '', 'the update of a column that the view does not read is not noted');
UPDATE app.rows SET value = value;
SELECT is(t.noted(), '', 'nor one that changes nothing');
SET ROLE cj_client;
UPDATE app.rows SET value = value || '!' WHERE key = 1;
UPDATE app.rows SET value = value || '!' WHERE key = 1;
INSERT INTO app.rows VALUES (1, 'a'), (1, 'b');
RESET ROLE;
SELECT is(t.noted(), 'app.view 0: 1', 'a key is noted once, for a role without any right on the extension');
SELECT is(t.refresh(), 'view=incremental:2', 'its row is updated');
SELECT is(t.noted(), '', 'and the note consumed');
UPDATE app.rows SET value = value || '?' WHERE key = 1;
SELECT is(t.noted(), 'app.view 0: 1', 'after a refresh, the same transaction''s changes of the same key are noted again');
SELECT is(t.refresh(), 'view=incremental:2', 'a change after a refresh in the same transaction is refreshed by its key');
SELECT is(t.differs('app.view'), 0::bigint, 'the view is what its definition gives');
UPDATE app.rows SET key = 100 WHERE key = 2;
SELECT is(t.noted(), 'app.view 0: 2', 'a row that moves: both keys');
SELECT is(t.refresh(), 'view=incremental:2', 'a row has gone and one has come');
UPDATE app.rows SET key = NULL WHERE key = 3;
INSERT INTO app.rows VALUES (NULL, 'null');
SELECT is(t.noted(), 'app.view 0: 2', 'NULL is a key like another one');
SELECT is(t.refresh(), 'view=incremental:2', 'rows without a key');
DELETE FROM app.rows WHERE key IS NULL OR key = 4;
SELECT is(t.refresh(), 'view=incremental:2', 'deleted rows are refreshed by their keys');
SELECT is(t.differs('app.view'), 0::bigint, 'the view is what its definition gives after all that');
SELECT is((SELECT string_agg(format('%s %s %s', v->>'view', v->>'method', v->>'keys'), ', ') FROM t.last_run(), jsonb_array_elements(result->'views') v),
          'app.challenge_member_stats none , app.view incremental 2', 'the run says how many keys were recomputed');

/* ---- savepoints ---- */
SAVEPOINT a;
UPDATE app.rows SET value = 'a' WHERE key = 5;
SAVEPOINT b;
UPDATE app.rows SET value = 'b' WHERE key IN (5, 6);
SELECT is(t.noted(), 'app.view 0: 2', 'changes in a savepoint are noted once for each key');
ROLLBACK TO b;
SELECT is(t.noted(), 'app.view 0: 1', 'keys noted in a savepoint that was rolled back are not noted');
UPDATE app.rows SET value = 'c' WHERE key = 6;
SELECT is(t.noted(), 'app.view 0: 2', 'what follows is noted again');
SELECT is(t.refresh(), 'view=incremental:4', 'a refresh inside the transaction takes what it has noted');
ROLLBACK TO a;
SELECT is(t.noted(), '', 'nothing is noted when all changes were rolled back');
UPDATE app.rows SET value = 'd' WHERE key IN (5, 6);
SAVEPOINT c;
SELECT t.refresh() \g /dev/null
UPDATE app.rows SET value = 'e' WHERE key = 5;
ROLLBACK TO c;
SELECT is(t.noted(), 'app.view 0: 2', 'a refresh that is rolled back has consumed nothing');
UPDATE app.rows SET value = 'f' WHERE key = 5;
SELECT is(t.refresh(), 'view=incremental:4', 'what follows it is seen');
SELECT is(t.differs('app.view'), 0::bigint, 'the view is as its query says after the refresh by keys');
RELEASE a;

/* ---- everything ---- */
SET ROLE cj_client;
TRUNCATE app.rows;
RESET ROLE;
SELECT is(t.noted(), 'app.view -1: 1', 'TRUNCATE is a change of everything');
INSERT INTO app.rows SELECT i, 'v' || i FROM generate_series(1, 40) i;
SELECT is(t.noted(), 'app.view -1: 1', 'after which nothing more need be noted');
SELECT matches(t.refresh(), '^view=concurrent:', 'after TRUNCATE the whole view is recomputed');
SELECT is(t.refresh(), 'view=unchanged:0', 'the refresh after the one of the whole view finds nothing to do');
INSERT INTO app.rows SELECT i, 'many' FROM generate_series(1000, 1000 + 65536 + 10) i;
SELECT is(t.noted(), 'app.view -1: 1, app.view 0: 65536', 'with more than 65536 keys in a transaction it is everything');
DELETE FROM app.rows WHERE key >= 1000;
SELECT is(t.noted(), 'app.view -1: 1, app.view 0: 65536', 'and nothing more is noted');
SELECT matches(t.refresh(), '^view=concurrent:', 'too many keys have the refresh recompute the whole view');
SELECT is(t.differs('app.view'), 0::bigint, 'the view is as its query says after it was recomputed');
SAVEPOINT many;
INSERT INTO app.rows SELECT i, 'many' FROM generate_series(1000, 1000 + 65536 + 10) i;
ROLLBACK TO many;
UPDATE app.rows SET value = 'few' WHERE key = 7;
SELECT is(t.noted(), 'app.view 0: 1', 'what was rolled back is not everything');
SELECT is(t.refresh(), 'view=incremental:2', 'nor is it recomputed');

/* ---- how many ---- */
CREATE FUNCTION t.share(share numeric) RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.alter_job('refresh_challenge_stats', settings => jsonb_build_object('incremental_share', share))
$$;
UPDATE app.rows SET value = 'x' WHERE key <= 20;
SELECT is(t.refresh(), 'view=incremental:40', 'up to half of the keys by themselves');
UPDATE app.rows SET value = 'y' WHERE key <= 21;
SELECT is(t.refresh(), 'view=concurrent:42', 'if more have changed, all');
SELECT t.share(0) \g /dev/null
UPDATE app.rows SET value = 'z' WHERE key = 1;
SELECT is(t.refresh(), 'view=concurrent:2', 'incremental_share 0: always all');
SELECT is(t.refresh(), 'view=unchanged:0', 'but for when there is nothing to do');
SELECT t.share(100) \g /dev/null
UPDATE app.rows SET value = 'w';
SELECT is(t.refresh(), 'view=incremental:80', 'incremental_share 100: never all');
SELECT is(t.error('SELECT t.share(101)') ~ '^22023|^22003', true, 'more than 100 is refused');
SELECT is(t.refresh(true), 'view=full:40', 'force_full recomputes a tracked view that has no changes');
SELECT is(t.refresh(), 'view=unchanged:0', 'after which there is nothing to do');
UPDATE app.rows SET value = 'u' WHERE key = 1;
SELECT is(t.refresh(true), 'view=full:40', 'force_full recomputes a tracked view that has changes');
SELECT is(t.refresh() || t.noted(), 'view=unchanged:0', 'which are consumed by it');
REFRESH MATERIALIZED VIEW app.view WITH NO DATA;
SELECT is(t.refresh(), 'view=full:40', 'a view that is not populated is filled');
SELECT is(t.refresh(), 'view=unchanged:0', 'and is up to date');
REFRESH MATERIALIZED VIEW app.view;
SELECT matches(t.refresh(), '^view=concurrent:', 'after a refresh by hand it is recomputed');
REFRESH MATERIALIZED VIEW CONCURRENTLY app.view;
SELECT matches(t.refresh(), '^view=concurrent:', 'also after one that is concurrent');
SELECT is(t.refresh(), 'view=unchanged:0', 'after a refresh by hand the view is recomputed once');
DROP INDEX app.view_index;
UPDATE app.rows SET value = 't' WHERE key = 1;
SELECT is(t.refresh(), 'view=full:40', 'without its index it is refreshed as a whole');
SET ROLE cj_app;
CREATE UNIQUE INDEX view_index ON app.view (challenge_id);
RESET ROLE;
SELECT t.refresh() \g /dev/null
UPDATE app.rows SET value = 's' WHERE key = 1;
SELECT is(t.refresh(), 'view=incremental:2', 'and with it again by keys');
SELECT t.share(20) \g /dev/null

/* ---- what no row trigger sees: recomputed once ---- */
CREATE FUNCTION t.once(what text, statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.refresh();
    PERFORM t.refresh();
    SET LOCAL ROLE cj_app;
    EXECUTE statement;
    RESET ROLE;
    RETURN NEXT matches(t.refresh(), 'view=(concurrent|full)', what || ': recomputed');
    RETURN NEXT is(t.differs('app.view'), 0::bigint, what || ': right');
    RETURN NEXT matches(t.refresh(), 'view=unchanged', what || ': once');
    UPDATE app.rows SET value = value || '+' WHERE key = 10;
    RETURN NEXT matches(t.refresh(), 'view=incremental', what || ': then by keys');
    RETURN NEXT is(t.differs('app.view'), 0::bigint, what || ': rightly');
END
$$;
SELECT t.once('triggers disabled and enabled', $$ALTER TABLE app.rows DISABLE TRIGGER USER; UPDATE app.rows SET value = 'unseen' WHERE key = 11; ALTER TABLE app.rows ENABLE TRIGGER USER$$);
SELECT t.once('triggers disabled', $$ALTER TABLE app.rows DISABLE TRIGGER USER; UPDATE app.rows SET value = 'unseen 2' WHERE key = 11$$);
SELECT t.once('a trigger dropped', format('DROP TRIGGER %I ON app.rows; ', 'challenge_jobs_capture_' || 'app.rows'::regclass::oid) || $$UPDATE app.rows SET value = 'unseen 3' WHERE key = 11$$);
SELECT is(regexp_replace(t.triggers('app.rows'), '_\d+', '', 'g'), 'challenge_jobs_capture A, challenge_jobs_capture_truncate A', 'the triggers are as they have to be');
SELECT t.once('a table rewritten', $$ALTER TABLE app.rows ALTER unused TYPE bigint$$);
SET ROLE cj_app;
ALTER TABLE app.rows RENAME COLUMN value TO what;
ALTER TABLE app.rows RENAME COLUMN key TO k;
RESET ROLE;
UPDATE app.rows SET what = 'renamed' WHERE k = 12;
SELECT t.refresh() \g /dev/null
SELECT is(t.differs('app.view'), 0::bigint, 'columns that are renamed do no harm');
SELECT is(t.refresh(), 'view=unchanged:0', 'and that is noticed once');
ALTER TABLE app.rows RENAME COLUMN what TO value;
ALTER TABLE app.rows RENAME COLUMN k TO key;
SET session_replication_role = replica;
UPDATE app.rows SET value = 'replica' WHERE key = 13;
RESET session_replication_role;
SELECT is(t.noted(), 'app.view 0: 1', 'what replication applies is noted, too');
SELECT t.refresh() \g /dev/null

/* ---- views over views and functions ---- */
SET ROLE cj_app;
CREATE FUNCTION app.shout(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1 || '!'; END $$;
CREATE VIEW app.nested AS SELECT key, value FROM app.rows WHERE key > 0;
DROP MATERIALIZED VIEW app.view;
SELECT is(t.error_as('postgres', 'SELECT t.refresh()') ~ 'app.view does not exist', true, 'a view that is gone is notified of');
CREATE MATERIALIZED VIEW app.view AS SELECT n.key AS challenge_id, app.shout(min(n.value)) AS value, min(m.name) AS name FROM app.nested n LEFT JOIN app.names m USING (key) GROUP BY n.key;
CREATE UNIQUE INDEX view_index ON app.view (challenge_id);
SELECT count(*) FROM challenge_jobs.track('app.view') \g /dev/null
RESET ROLE;
SELECT is(count(DISTINCT view_id), 1::bigint, 'nothing is left of the view that was there before') FROM challenge_jobs.tracked_source;
SELECT is(t.tracked(), 'view new names key direct; view new rows key direct', 'the new one is made of two tables');
SELECT t.once('a function replaced', $$CREATE OR REPLACE FUNCTION app.shout(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 || ''!!''; END'$$);
SELECT t.once('a function altered', $$ALTER FUNCTION app.shout(text) COST 7$$);
SELECT t.once('a nested view replaced', $$CREATE OR REPLACE VIEW app.nested AS SELECT key, value || '.' AS value FROM app.rows WHERE key > 5$$);
UPDATE app.names SET unused = 1;
SELECT is(t.noted(), '', 'columns of the second table that are not read');
UPDATE app.names SET name = 'new' WHERE key = 14;
SELECT is(t.refresh(), 'view=incremental:2', 'and those that are');

/* ---- two views over a table ---- */
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.two AS SELECT key AS id, value FROM app.rows;
CREATE UNIQUE INDEX two_index ON app.two (id);
SELECT count(*) FROM challenge_jobs.track('app.two', 'id') \g /dev/null
RESET ROLE;
SELECT is(count(*), 2::bigint, 'two tracked views share the triggers') FROM pg_trigger WHERE tgrelid = 'app.rows'::regclass;
SELECT t.refresh() \g /dev/null
UPDATE app.rows SET value = 'both' WHERE key = 15;
SELECT is(t.noted(), 'app.two 0: 1, app.view 0: 1', 'a change is noted for both');
SELECT is(t.refresh(), 'two=incremental:2 view=incremental:2', 'both are refreshed by it');
SELECT challenge_jobs.untrack('app.view') \g /dev/null
SELECT is(regexp_replace(t.triggers('app.rows'), '_\d+', '', 'g'), 'challenge_jobs_capture A, challenge_jobs_capture_truncate A', 'untracked, one leaves the other the triggers');
SELECT is(t.triggers('app.names'), '', 'but none on a table that is not the other''s');
UPDATE app.rows SET value = 'one' WHERE key = 15;
SELECT is(t.noted(), 'app.two 0: 1', 'nothing is noted for it any more');
SELECT is(t.refresh(), 'two=incremental:2 view=concurrent:2', 'it is refreshed as any other');
SELECT is(t.error($$SELECT challenge_jobs.untrack('app.view')$$), '42704: app.view is not tracked', 'it cannot be untracked twice');
SELECT is(t.error_as('cj_other', $$SELECT challenge_jobs.untrack('app.two')$$), '42501: must be owner of relation app.two to untrack it', 'a role that does not own a view may not untrack it');
SELECT challenge_jobs.remove_stats_view('app.two') \g /dev/null
SELECT is(t.triggers('app.rows'), '', 'who is not refreshed any more is not tracked either');
SELECT is(t.tracked(), NULL, 'there is no tracked view');
SELECT is((SELECT count(*) FROM challenge_jobs.tracked_source) + (SELECT count(*) FROM challenge_jobs.tracking_state), 0::bigint, 'and nothing left of any');

/* ---- views that are gone ---- */
SELECT count(*) FROM challenge_jobs.track('app.two', 'id') \g /dev/null
DROP MATERIALIZED VIEW app.two;
UPDATE app.rows SET value = 'for nobody' WHERE key = 16;
SELECT challenge_jobs.remove_stats_view('app.two') \g /dev/null
SELECT is(t.triggers('app.rows'), '', 'remove_stats_view forgets a view that is gone');
SELECT is(count(*), 0::bigint, 'with what was noted for it') FROM challenge_jobs.change_log;

/* ---- a trigger of the user's own ---- */
SET ROLE cj_app;
CREATE TABLE app.unrelated (i integer);
CREATE TRIGGER mine AFTER INSERT OR UPDATE OR DELETE ON app.unrelated FOR EACH ROW EXECUTE FUNCTION challenge_jobs.capture_change();
INSERT INTO app.unrelated VALUES (1);
UPDATE app.unrelated SET i = 2;
RESET ROLE;
SELECT is(t.noted(), '', 'the trigger function does nothing for a table of no tracked view');
CREATE TRIGGER before BEFORE INSERT ON app.unrelated FOR EACH ROW EXECUTE FUNCTION challenge_jobs.capture_change();
SELECT is(t.error('INSERT INTO app.unrelated VALUES (1)'), '39P01: this is the trigger function of tracked views', 'before a row it is an error');
DROP TRIGGER before ON app.unrelated;
CREATE TRIGGER statement AFTER INSERT ON app.unrelated EXECUTE FUNCTION challenge_jobs.capture_change();
SELECT is(t.error('INSERT INTO app.unrelated VALUES (1)'), '39P01: this is the trigger function of tracked views', 'and for a statement');
SELECT is(t.error('SELECT challenge_jobs.capture_change()') ~ '^(0A000|39P01): ', true, 'and called by hand');

/* ---- keys of many types ---- */
SET ROLE cj_app;
CREATE TYPE app.mood AS ENUM ('low', 'high');
CREATE DOMAIN app.code AS text CHECK (length(VALUE) < 20);
RESET ROLE;
CREATE FUNCTION t.key(type text, VARIADIC keys text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    n   integer := 0;
    key text;
BEGIN
    SET LOCAL ROLE cj_app;
    EXECUTE format('CREATE TABLE app.typed (k %s, v integer)', type);
    FOREACH key IN ARRAY keys LOOP
        EXECUTE format('INSERT INTO app.typed SELECT %L::%s, generate_series(1, 3)', key, type);
    END LOOP;
    CREATE MATERIALIZED VIEW app.by_type AS SELECT k, v, v * 2 AS twice FROM app.typed;
    CREATE UNIQUE INDEX ON app.by_type (k, v);
    PERFORM challenge_jobs.track('app.by_type', 'k');
    RESET ROLE;
    PERFORM t.share(100);
    PERFORM challenge_jobs.remove_stats_view('app.view') WHERE EXISTS (SELECT FROM challenge_jobs.stats_view WHERE view_name = 'app.view');
    PERFORM t.refresh();
    FOREACH key IN ARRAY keys LOOP
        n := n + 10;
        EXECUTE format('UPDATE app.typed SET v = v + $1 WHERE k::text = %L::%s::text', key, type) USING n;
    END LOOP;
    RETURN NEXT is(t.refresh() ~ 'incremental' AND t.differs('app.by_type') = 0, true, type || ': all keys changed');
    EXECUTE format('UPDATE app.typed SET k = %L WHERE k::text = %L::%s::text AND v %% 10 = 1', keys[1], keys[2], type);
    EXECUTE format('DELETE FROM app.typed WHERE k::text = %L::%s::text AND v %% 10 = 2', keys[2], type);
    RETURN NEXT is(t.refresh() ~ 'incremental' AND t.differs('app.by_type') = 0, true, type || ': a row moved, one deleted');
    SET LOCAL ROLE cj_app;
    PERFORM challenge_jobs.remove_stats_view('app.by_type');
    DROP MATERIALIZED VIEW app.by_type;
    DROP TABLE app.typed;
    RESET ROLE;
END
$$;
SELECT t.key(type, VARIADIC keys)
  FROM (VALUES ('uuid', ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '00000000-0000-0000-0000-000000000000']),
               ('bigint', ARRAY['9223372036854775807', '-1', '0']), ('smallint', ARRAY['-1', '7']),
               ('text', ARRAY['a', 'A', '', 'ä', repeat('long ', 400)]), ('varchar(10)', ARRAY['a', 'a ']), ('char(5)', ARRAY['a', 'b']),
               ('numeric', ARRAY['1.0', '2.00', 'NaN', '1e40', '-0.5']), ('date', ARRAY['2024-02-29', 'infinity']),
               ('timestamptz', ARRAY['2024-01-01 00:00+00', '2024-01-01 00:00+01']), ('boolean', ARRAY['t', 'f']),
               ('app.mood', ARRAY['low', 'high']), ('app.code', ARRAY['x', 'y']), ('float8', ARRAY['0.1', 'NaN', '-1']),
               ('bytea', ARRAY['\x00ff', '\x']), ('inet', ARRAY['10.0.0.1', '::1']), ('interval', ARRAY['1 day', '2 hours']),
               ('name', ARRAY['a', 'b'])) v (type, keys);
/* equal keys of different images are one key */
SET ROLE cj_app;
CREATE TABLE app.scaled (k numeric, v integer);
INSERT INTO app.scaled VALUES (1.0, 1), (1.00, 2), (2, 3);
CREATE MATERIALIZED VIEW app.scaled_view AS SELECT k, v FROM app.scaled;
CREATE UNIQUE INDEX ON app.scaled_view (k, v);
SELECT count(*) FROM challenge_jobs.track('app.scaled_view', 'k') \g /dev/null
RESET ROLE;
SELECT t.refresh() \g /dev/null
UPDATE app.scaled SET k = 1.000 WHERE v = 1;
SELECT is(t.refresh() || ' ' || t.differs('app.scaled_view'), 'scaled_view=incremental:2 0', 'numeric: a change of the scale alone is one');
UPDATE app.scaled SET v = v + 10 WHERE k = 1;
SELECT is(t.refresh() || ' ' || t.differs('app.scaled_view'), 'scaled_view=incremental:4 0', 'numeric: rows of the key, however it is written');
SELECT challenge_jobs.remove_stats_view('app.scaled_view') \g /dev/null
SAVEPOINT citext;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext') THEN
        CREATE EXTENSION citext;
    END IF;
END $$;
SELECT CASE WHEN to_regtype('citext') IS NULL THEN skip('there is no citext', 2) ELSE (SELECT string_agg(line, E'\n') FROM t.key('citext', 'Abc', 'x') line) END;
ROLLBACK TO citext;

/* ---- the extension goes ---- */
SELECT count(*) FROM challenge_jobs.track('app.view') \g /dev/null
DROP EXTENSION challenge_jobs CASCADE;
SELECT is(count(*), 0::bigint, 'with the extension its triggers go') FROM pg_trigger WHERE tgrelid = 'app.rows'::regclass;
SELECT lives_ok($$UPDATE app.rows SET value = 'free'$$, 'and the tables can be written to in the same session');
CREATE EXTENSION challenge_jobs;
SELECT is(count(*), 0::bigint, 'another one knows of no tracked view') FROM challenge_jobs.tracked_view;

SELECT * FROM finish();
ROLLBACK;
