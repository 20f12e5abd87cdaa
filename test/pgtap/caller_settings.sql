/*
 * Settings of the caller's session decide nothing: what is decided, how names are stored, who is held to what is true.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
CREATE ROLE cj_api;
GRANT USAGE ON SCHEMA app, t TO cj_api;
GRANT EXECUTE ON FUNCTION public.auto_complete_challenges(timestamptz, boolean), public.refresh_challenge_stats(boolean) TO cj_api;
SET LOCAL search_path = public, pg_catalog;

/* ---- what the app's code sees ---- */
CREATE TABLE t.seen (name text, value text);
GRANT INSERT ON t.seen TO PUBLIC;
CREATE FUNCTION app.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO t.seen SELECT name, setting FROM pg_settings
     WHERE name IN ('default_text_search_config', 'plpgsql.check_asserts', 'array_nulls', 'transform_null_equals', 'xmloption', 'xmlbinary', 'lc_time',
                    'gin_fuzzy_search_limit', 'quote_all_identifiers', 'exit_on_error', 'standard_conforming_strings');
    RETURN NEW;
END
$$;
CREATE TRIGGER see AFTER UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.see();
SELECT t.add('one', 90) \g /dev/null
CREATE TABLE t.plain AS
SELECT name, setting FROM pg_settings WHERE name IN ('default_text_search_config', 'plpgsql.check_asserts', 'lc_time')
UNION ALL VALUES ('array_nulls', 'on'), ('transform_null_equals', 'off'), ('xmloption', 'content'), ('xmlbinary', 'base64'), ('gin_fuzzy_search_limit', '0'),
                 ('quote_all_identifiers', 'off'), ('exit_on_error', 'off'), ('standard_conforming_strings', 'on');
SAVEPOINT before;
SET LOCAL default_text_search_config = 'pg_catalog.simple';
SET LOCAL plpgsql.check_asserts = off;
SET LOCAL array_nulls = off;
SET LOCAL transform_null_equals = on;
SET LOCAL xmloption = document;
SET LOCAL xmlbinary = hex;
SET LOCAL lc_time = 'C';
SET LOCAL gin_fuzzy_search_limit = 7;
SET LOCAL quote_all_identifiers = on;
SET LOCAL standard_conforming_strings = off;
SELECT is(t.run(), '1 0 1', 'the job works whatever the caller has set');
SELECT is_empty($$SELECT * FROM t.seen EXCEPT SELECT * FROM t.plain$$, 'with the settings of a new session, whatever the caller has set');
SELECT is((SELECT count(*) FROM t.seen), 11::bigint, 'all of them were looked at');
SELECT is(current_setting('default_text_search_config') || ' ' || current_setting('quote_all_identifiers'), 'pg_catalog.simple on', 'the caller''s own are as before');
ROLLBACK TO before;

/* what an app asserts cannot be switched off */
CREATE FUNCTION app.insist() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ASSERT NEW.name <> 'bad', 'must not change'; RETURN NEW; END $$;
CREATE TRIGGER insist BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.insist();
SELECT t.add('bad', 90) \g /dev/null
SET LOCAL plpgsql.check_asserts = off;
SET ROLE cj_api;
SELECT is((SELECT concat_ws(' ', completed, errors) FROM public.auto_complete_challenges('2024-02-29 00:00+00')), '1 1', 'an assertion of the app holds for every caller');
RESET ROLE;
RESET plpgsql.check_asserts;

/* ---- names ---- */
CREATE MATERIALIZED VIEW app.v1 AS SELECT 1 AS challenge_id, 2 AS n;
CREATE UNIQUE INDEX ON app.v1 (challenge_id);
SELECT challenge_jobs.add_stats_view('app.v1') \g /dev/null
SET LOCAL quote_all_identifiers = on;
SELECT challenge_jobs.add_stats_view('app.v1') \g /dev/null
SELECT is((SELECT string_agg(view_name, ' ') FROM challenge_jobs.stats_view), 'app.v1', 'a view is registered once, by the name that it always has');
SELECT is((SELECT string_agg(method, ' ') FROM public.refresh_challenge_stats()), 'none concurrent', 'a view is refreshed concurrently whatever the caller has set');
ALTER MATERIALIZED VIEW app.v1 RENAME TO v2;
SELECT is((SELECT string_agg(view_name, ' ') FROM public.refresh_challenge_stats()), 'app.challenge_member_stats app.v2', 'also when it was renamed');
SELECT is((SELECT string_agg(view_name, ' ') FROM challenge_jobs.stats_view), 'app.v2', 'whose name is stored as ever');
SELECT challenge_jobs.remove_stats_view('app.v2') \g /dev/null
SELECT is_empty('SELECT * FROM challenge_jobs.stats_view', 'and can be removed by it');
SELECT is(current_setting('quote_all_identifiers'), 'on', 'the setting stays what it was');
RESET quote_all_identifiers;

/* ---- a stranger's table of a default name ---- */
CREATE ROLE cj_stranger;
SELECT challenge_jobs.unbind('challenge_member_stats') \g /dev/null
CREATE TABLE public.challenge_member_stats (challenge_id integer, completion_rate numeric);
ALTER TABLE public.challenge_member_stats OWNER TO cj_stranger;
SELECT is((SELECT concat_ws(' | ', finding, remedy, advice) FROM challenge_jobs.doctor() WHERE check_name = 'owner' AND status = 'error' LIMIT 1) ~ 'OWNER TO', false,
          'nobody is told to adopt a table that anyone may have made');
SELECT is((SELECT advice FROM challenge_jobs.doctor() WHERE check_name = 'owner' AND status = 'error' LIMIT 1),
          'Fill in and run: SELECT challenge_jobs.bind(''challenge_member_stats'', ''<schema>.<table>'');', 'but to bind the one of the app');

/* ---- who calls ---- */
SELECT throws_ok($$CALL challenge_jobs.run('auto_complete_challenges', 'function')$$, '22023', 'invalid triggered_by', 'a run cannot pass for a job function');
SELECT throws_ok(format($$CALL challenge_jobs.run('auto_complete_challenges', %L)$$, repeat('x', 201)), '22023', 'invalid triggered_by', 'nor be named by a novel');

SELECT * FROM finish();
ROLLBACK;
