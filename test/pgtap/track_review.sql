/*
 * Tracked views when what they are made of is changed under them: dropped, renamed, attached, truncated, read while
 * it is written. A view is never other than REFRESH would have it, and nothing stands in the way of the app.
 */
BEGIN;
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS challenge_jobs;
CREATE SCHEMA r;
SET search_path = r, public;
SELECT no_plan();

/* refresh() says by which method the view was refreshed, and how many of its rows are not as they should be. */
CREATE FUNCTION refresh(view text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    used    text;
    wrong   bigint;
BEGIN
    SELECT method INTO used FROM refresh_challenge_stats() s WHERE s.view_name = 'r.' || view;
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) d',
                   view, rtrim(pg_get_viewdef(view::regclass), ';')) INTO wrong;
    RETURN format('%s, %s wrong', used, wrong);
END
$$;

/* make() makes a view of a table, by challenge_id, tracked and up to date. */
CREATE FUNCTION make(view text, source text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE MATERIALIZED VIEW %I AS SELECT k AS challenge_id, count(*) AS n, sum(v) AS s FROM %I GROUP BY k', view, source);
    EXECUTE format('CREATE UNIQUE INDEX ON %I (challenge_id)', view);
    PERFORM challenge_jobs.track(view::regclass);
    PERFORM refresh_challenge_stats();
END
$$;

/* ---- what is dropped ---- */
CREATE TABLE dropped (id int, k int, v int);
CREATE TABLE parts (id int, k int, v int) PARTITION BY RANGE (id);
CREATE TABLE part (v int, gone int, k int, id int);
ALTER TABLE part DROP COLUMN gone;
ALTER TABLE parts ATTACH PARTITION part FOR VALUES FROM (0) TO (1000);
INSERT INTO dropped SELECT i, i % 3, i FROM generate_series(1, 9) i;
INSERT INTO parts TABLE dropped;
SELECT make('d', 'dropped'), make('p', 'parts') \g /dev/null
DROP MATERIALIZED VIEW d, p;
SELECT results_eq('SELECT view_name, state, source, key_path FROM challenge_jobs.tracked_view ORDER BY 1',
                  $$ VALUES ('r.d', 'inactive', NULL, NULL), ('r.p', 'inactive', NULL, NULL) $$, 'of tracked views that are gone is notified that they are inactive');
ALTER TABLE dropped DROP COLUMN k, DROP COLUMN v;
ALTER TABLE parts DROP COLUMN k, DROP COLUMN v;
SELECT lives_ok($$ INSERT INTO dropped VALUES (10); UPDATE dropped SET id = 11; DELETE FROM dropped $$,
                'a table whose view and key are dropped can be written to');
SELECT lives_ok($$ INSERT INTO parts VALUES (10); UPDATE parts SET id = 11; DELETE FROM parts $$, 'and one with partitions');
DROP TABLE dropped, parts;
SELECT lives_ok($$ SELECT challenge_jobs.remove_stats_view('r.d') $$, 'a view can be removed when its tables are gone as well');
CREATE TABLE t (id int, k int, v int);
INSERT INTO t SELECT i, i % 3, i FROM generate_series(1, 9) i;
SELECT lives_ok($$ SELECT make('v', 't') $$, 'and others can be tracked');
SELECT challenge_jobs.remove_stats_view('r.p') \g /dev/null

/* ---- what is renamed ---- */
ALTER MATERIALIZED VIEW v RENAME TO w;
SELECT lives_ok($$ SELECT challenge_jobs.track('w') $$, 'a view that was renamed can be tracked by its new name');
SELECT is((SELECT string_agg(view_name, ' ') FROM challenge_jobs.stats_view WHERE view_name IN ('r.v', 'r.w')), 'r.w', 'and is registered by that alone');
SELECT is(refresh('w'), 'concurrent, 0 wrong', 'it is recomputed once');
INSERT INTO t VALUES (10, 1, 1);
SELECT is(refresh('w'), 'incremental, 0 wrong', 'and then in place: its old name took nothing along');

/* ---- partitions that are sources themselves ---- */
CREATE TABLE whole (id int, k int, v int) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (100);
CREATE TABLE high (id int, k int, v int);
SELECT make('of_low', 'low'), make('of_high', 'high') \g /dev/null
SELECT lives_ok($$ SELECT make('of_whole', 'whole') $$, 'a table can be tracked whose partition is tracked already');
SELECT lives_ok($$ ALTER TABLE whole ATTACH PARTITION high FOR VALUES FROM (100) TO (200) $$, 'a tracked table can be attached to another one');
SELECT refresh('of_high') \g /dev/null
/* Partitions that are made in the same transaction have the whole recomputed each time: what is noted is looked at. */
CREATE VIEW noted AS SELECT view_id::regclass AS view, count(*) FROM challenge_jobs.change_log GROUP BY 1;
INSERT INTO whole SELECT i, i % 5, i FROM generate_series(1, 199) i;
SELECT bag_eq('TABLE noted', $$ VALUES ('of_low'::regclass, 5::bigint), ('of_high', 5), ('of_whole', 5) $$, 'what is written to it is noted for all of them, once');
SELECT is(refresh('of_low'), 'incremental, 0 wrong', 'and they are right by it');
SELECT challenge_jobs.untrack('of_whole') \g /dev/null
INSERT INTO whole VALUES (5, 5, 5), (105, 5, 5);
SELECT bag_eq('TABLE noted', $$ VALUES ('of_low'::regclass, 1::bigint), ('of_high', 1) $$, 'and for the others when it is not tracked any more');
SELECT challenge_jobs.track('of_whole') \g /dev/null

/* ---- a partition that is truncated in place ---- */
SELECT refresh('of_whole') \g /dev/null
TRUNCATE low;
INSERT INTO whole VALUES (5, 5, 5);
SELECT is(refresh('of_whole'), 'concurrent, 0 wrong', 'the truncation of a partition is noticed');
TRUNCATE low;
SELECT is(refresh('of_whole'), 'concurrent, 0 wrong', 'also a second one in the same transaction, which keeps the file');

/* ---- in the middle of a statement ---- */
CREATE FUNCTION refresh_at_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_challenge_stats();
    RETURN NULL;
END
$$;
CREATE TRIGGER a_first AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION refresh_at_once();
INSERT INTO t VALUES (11, 2, 2);
SELECT is(n, (SELECT count(*) FROM t WHERE k = 2), 'a trigger that is fired before ours refreshes with what the statement has changed')
  FROM w WHERE challenge_id = 2;
DROP TRIGGER a_first ON t;
WITH changed AS (INSERT INTO t VALUES (12, 0, 0), (13, 0, 1) RETURNING id)
SELECT (SELECT count(*) FROM refresh_challenge_stats()) FROM changed \g /dev/null
SELECT is(refresh('w'), 'incremental, 0 wrong', 'what is noted after a refresh in the same statement is for the next one');

/* What a foreign key's action changes is noted only at the end of the statement. */
CREATE TABLE challenge (id int PRIMARY KEY);
CREATE TABLE member (id int PRIMARY KEY, k int REFERENCES challenge ON DELETE CASCADE, v int);
INSERT INTO challenge SELECT i FROM generate_series(1, 20) i;
INSERT INTO member SELECT i, i % 20 + 1, i FROM generate_series(1, 100) i;
SELECT make('of_members', 'member') \g /dev/null
CREATE FUNCTION refresh_and_look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE seen AS SELECT refresh('of_members') AS what;
    RETURN NULL;
END
$$;
CREATE TRIGGER z_last AFTER DELETE ON challenge FOR EACH ROW EXECUTE FUNCTION refresh_and_look();
DELETE FROM challenge WHERE id = 7;
SELECT is(what, 'concurrent, 0 wrong', 'a trigger refreshes with what the cascade of its statement has deleted') FROM seen;
SELECT is(refresh('of_members'), 'incremental, 0 wrong', 'as does the next refresh');

/* ---- types ---- */
CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
CREATE DOMAIN my_mood AS mood;
CREATE TABLE moods (id int, mood my_mood, v int);
INSERT INTO moods SELECT i, (enum_range(NULL::mood))[i % 3 + 1], i FROM generate_series(1, 30) i;
CREATE MATERIALIZED VIEW by_mood AS SELECT id, mood, v FROM moods;
CREATE UNIQUE INDEX ON by_mood (id);
SELECT challenge_jobs.track('by_mood', 'mood'), refresh_challenge_stats(),
       challenge_jobs.alter_job('refresh_challenge_stats', settings => '{"incremental_share": 100}') \g /dev/null
UPDATE moods SET v = 0 WHERE id = 4;
SELECT is(refresh('by_mood'), 'incremental, 0 wrong', 'a key of a domain over an enum');

/* ---- rows that the unique index of the view does not allow ---- */
CREATE TABLE twice (id int, k int, v int);
INSERT INTO twice SELECT i, i % 2, i FROM generate_series(1, 300) i;
CREATE MATERIALIZED VIEW of_twice AS SELECT id, k, v FROM twice;
CREATE UNIQUE INDEX of_twice_index ON of_twice (id);
SELECT challenge_jobs.track('of_twice', 'k'), refresh_challenge_stats() \g /dev/null
INSERT INTO twice VALUES (150, 0, -1);
SELECT is(refresh('of_twice'), 'failed, 1 wrong', 'two rows of the definition are not written one over the other');
SELECT matches(message || ': ' || detail, 'duplicate key value violates unique constraint "of_twice_index": .*more than one row of the key .id.=.150.', 'which is the error')
  FROM challenge_jobs.job_run WHERE job = 'refresh_challenge_stats' ORDER BY run_id DESC LIMIT 1;
DELETE FROM twice WHERE v < 0;
UPDATE twice SET v = v + 1 WHERE k = 0;
SELECT is(refresh('of_twice'), 'incremental, 0 wrong', 'the changes are not lost by that');

/* ---- large keys ---- */
CREATE TABLE large (id int, k text, v int);
CREATE MATERIALIZED VIEW by_text AS SELECT id, k, v FROM large;
CREATE UNIQUE INDEX ON by_text (id);
SELECT challenge_jobs.track('by_text', 'k'), refresh_challenge_stats() \g /dev/null
INSERT INTO large SELECT i, i || repeat('x', 100000), i FROM generate_series(1, 300) i;
SELECT is((SELECT count(*) FROM challenge_jobs.change_log WHERE view_id = 'by_text'::regclass AND key_path = -1), 1::bigint,
          'of keys that take more than 16 MB is noted that everything has changed');
SELECT cmp_ok((SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'challenge_jobs changes'), '<', 24 * 1024 * 1024::numeric, 'so much memory they take');
SELECT is(refresh('by_text'), 'concurrent, 0 wrong', 'and all is recomputed');
SELECT is((SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'challenge_jobs changes'), 0::bigint, 'which is forgotten with what was noted');

/* ---- caches ---- */
SET LOCAL statement_timeout = '1min';
/* a server with assertions can be notified to forget what it has cached all the time */
SELECT set_config('debug_discard_caches', '1', true) FROM pg_settings WHERE name = 'debug_discard_caches' AND max_val <> '0' \g /dev/null
INSERT INTO t VALUES (14, 0, 0);
UPDATE t SET v = 1 WHERE id = 14;
SET LOCAL debug_discard_caches = 0;
SELECT is(refresh('w'), 'incremental, 0 wrong', 'what is noted does not depend on caches');

SELECT * FROM finish();
ROLLBACK;
