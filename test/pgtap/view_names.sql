/*
 * Registered and tracked views that are renamed, moved, exchanged or made anew: a name that leads to something is right, one that
 * leads nowhere follows the view.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION t.refresh() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s=%s', view_name, method), ' ') FROM public.refresh_challenge_stats() WHERE view_name !~ 'challenge_member_stats'
$$;
CREATE FUNCTION t.names() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' by ', s.view_name, t.key_column), ', ' ORDER BY s.view_name)
      FROM challenge_jobs.stats_view s LEFT JOIN challenge_jobs.tracking t USING (view_name)
$$;
CREATE FUNCTION t.doctor() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s=%s', substr(check_name, 9), status), ' ') FROM challenge_jobs.doctor() WHERE check_name ~ '^refresh:app\.[a-d]'
$$;

CREATE SCHEMA "Other" AUTHORIZATION cj_app;
SET ROLE cj_app;
CREATE TABLE app.source AS SELECT n, n % 3 AS k FROM generate_series(1, 9) n;
CREATE MATERIALIZED VIEW app.a_only AS SELECT k, sum(n) AS total FROM app.source GROUP BY k;
CREATE UNIQUE INDEX ON app.a_only (k);
CREATE MATERIALIZED VIEW app.b_tracked AS SELECT k, count(*) AS rows FROM app.source GROUP BY k;
CREATE UNIQUE INDEX ON app.b_tracked (k);
RESET ROLE;
SELECT challenge_jobs.add_stats_view('app.a_only') \g /dev/null
SELECT FROM challenge_jobs.track('app.b_tracked', 'k') \g /dev/null
SELECT is(t.refresh(), 'app.a_only=concurrent app.b_tracked=concurrent', 'a registered view, and a tracked one');

/* ---- renamed and moved ---- */
ALTER MATERIALIZED VIEW app.a_only RENAME TO "A now";
ALTER MATERIALIZED VIEW app.b_tracked SET SCHEMA "Other";
SELECT is((SELECT string_agg(view_name || ' ' || new_name, ', ' ORDER BY 1) FROM challenge_jobs.renamed_view),
          'app.a_only app."A now", app.b_tracked "Other".b_tracked', 'what has been renamed is seen');
SELECT is_empty($$SELECT check_name, finding FROM challenge_jobs.doctor() WHERE check_name ~ 'a_only|app.b_tracked' OR remedy ~ 'remove_stats_view'$$,
                'the doctor does not want to have it removed');
SELECT is(t.refresh(), '"Other".b_tracked=concurrent app."A now"=concurrent', 'it is refreshed on');
SELECT is(t.names(), '"Other".b_tracked by k, app."A now"', 'and its new name is stored');
SELECT is_empty('TABLE challenge_jobs.renamed_view', 'so that nothing is left to be followed');
INSERT INTO app.source VALUES (10, 1);
SELECT is(t.refresh(), '"Other".b_tracked=incremental app."A now"=concurrent', 'and stays tracked: what changes is noted as before');

/* ---- before the next refresh ---- */
ALTER MATERIALIZED VIEW "Other".b_tracked SET SCHEMA app;
SELECT challenge_jobs.untrack('app.b_tracked') \g /dev/null
SELECT is(t.names(), 'app."A now", app.b_tracked', 'untrack() knows it by its new name');
ALTER MATERIALIZED VIEW app.b_tracked RENAME TO b;
SELECT FROM challenge_jobs.track('app.b', 'k') \g /dev/null
SELECT is(t.names(), 'app."A now", app.b by k', 'track() finds the view by its new name');
ALTER MATERIALIZED VIEW app."A now" RENAME TO a;
SELECT challenge_jobs.add_stats_view('app.a') \g /dev/null
SELECT is(t.names(), 'app.a, app.b by k', 'add_stats_view() finds the view by its new name');
ALTER MATERIALIZED VIEW app.a RENAME TO aa;
SELECT challenge_jobs.remove_stats_view('app.aa') \g /dev/null
SELECT is(t.names(), 'app.b by k', 'remove_stats_view() finds the view by its new name');
SELECT is((SELECT string_agg(view_name, ' ') FROM challenge_jobs.known_view), 'app.b', 'of which nothing is left');

/* ---- the key ---- */
SELECT is(t.refresh(), 'app.b=concurrent', 'a view that is tracked anew is recomputed at first');
ALTER MATERIALIZED VIEW app.b RENAME COLUMN k TO "Key";
INSERT INTO app.source VALUES (11, 2);
SELECT is(t.refresh(), 'app.b=incremental', 'the key may be renamed as well');
SELECT is(t.names(), 'app.b by Key', 'the new name of the key column is stored');

/* ---- a name that leads to something is right ---- */
ALTER MATERIALIZED VIEW app.b RENAME TO b_old;
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.b AS SELECT k AS "Key", max(n) AS highest FROM app.source GROUP BY k;
CREATE UNIQUE INDEX ON app.b ("Key");
RESET ROLE;
SELECT is(t.refresh(), 'app.b=concurrent', 'where a view was exchanged for another, the name stands for the new one');
SELECT is(t.names(), 'app.b by Key', 'and the old one is not refreshed any more');
SELECT is((SELECT view_id::regclass::text FROM challenge_jobs.known_view), 'app.b', 'which one it is has been noted');
INSERT INTO app.source VALUES (12, 0);
SELECT is(t.refresh(), 'app.b=incremental', 'and its changes are');
DROP MATERIALIZED VIEW app.b;
SELECT throws_ok('SELECT t.refresh()', '42P01', NULL, 'one that has been dropped is missed')
 WHERE NOT EXISTS (SELECT FROM challenge_jobs.renamed_view);
SELECT is((SELECT remedy FROM challenge_jobs.doctor() WHERE check_name = 'refresh:app.b'), 'SELECT challenge_jobs.remove_stats_view(''app.b'');',
          'and the doctor says how to do without it');

/* ---- a dump has the names alone ---- */
SELECT is((SELECT string_agg(c::regclass::text, ' ' ORDER BY 1) FROM pg_extension, unnest(extconfig) c WHERE extname = 'challenge_jobs' AND c::regclass::text ~ 'view|track'),
          'challenge_jobs.stats_view challenge_jobs.tracking', 'which view it was in this database is not dumped');

SELECT * FROM finish();
ROLLBACK;
