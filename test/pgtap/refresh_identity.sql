/*
 * Whose rights code in a statistics view runs with while it is refreshed, and what it can leave behind:
 * wrong answers here are security holes, for the owner of the view, for the caller or for the owner of
 * the extension. The counterpart of identity.sql: REFRESH is run without a security-restricted operation
 * of the extension's own, relying on that of PostgreSQL.
 */
BEGIN;
\ir app.psql
\ir callers.psql
SELECT no_plan();

GRANT EXECUTE ON FUNCTION public.refresh_challenge_stats(boolean) TO cj_caller, cj_app;

SET ROLE cj_app;
CREATE TABLE app.numbers AS SELECT n FROM generate_series(1, 3) n;
/* note() goes into indexes: only when they are there it is what it is */
CREATE FUNCTION app.note(place text, result integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN result; END';
CREATE MATERIALIZED VIEW app.view AS SELECT n, app.note('view', n) AS noted FROM app.numbers;
CREATE UNIQUE INDEX ON app.view (n);
CREATE INDEX ON app.view (app.note('index', n)) WHERE app.note('predicate', n) > 0;
CREATE OR REPLACE FUNCTION app.note(place text, result integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO t.seen VALUES (place, current_user);
    RETURN result;
END
$$;
RESET ROLE;
/* a second owner, who reads through a view of the first */
GRANT USAGE ON SCHEMA app TO cj_other;
GRANT SELECT ON app.view TO cj_other;
CREATE SCHEMA other AUTHORIZATION cj_other;
SET ROLE cj_other;
CREATE FUNCTION other.note(n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES ('other view', current_user);
    RETURN n;
END
$$;
CREATE MATERIALIZED VIEW other.view AS SELECT other.note(n) FROM app.view;
RESET ROLE;
SELECT challenge_jobs.unbind('challenge_member_stats'), challenge_jobs.add_stats_view('app.view'), challenge_jobs.add_stats_view('other.view') \g /dev/null

/* t.refresh_as: calls the job function as a role, after a change so that there is something to write */
CREATE FUNCTION t.refresh_as(role text, force_full boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    DELETE FROM t.seen;
    UPDATE app.numbers SET n = n + 1;
    PERFORM set_config('role', role, true);
    BEGIN
        SELECT string_agg(view_name || '=' || method, ' ') INTO result FROM public.refresh_challenge_stats(force_full);
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE || ': ' || SQLERRM;
    END;
    RESET ROLE;
    RETURN result;
END
$$;

/* ---- current_user ---- */
CREATE FUNCTION t.saw_refreshed_by(role text, force_full boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN concat_ws(', ', t.refresh_as(role, force_full), t.saw('view'), t.saw('index'), t.saw('predicate'), t.saw('other view'));
END
$$;
SELECT is(t.saw_refreshed_by(role, force_full), format('app.view=%s other.view=full, cj_app, cj_app, cj_app, cj_other', CASE WHEN force_full THEN 'full' ELSE 'concurrent' END),
          format('queries and indexes run as the owner of their view, called by %s, force_full %s', role, force_full))
  FROM unnest(ARRAY[session_user, 'cj_app', 'cj_caller']) role, unnest(ARRAY[false, true]) force_full;
SELECT is(current_user::text, session_user::text, 'afterwards everybody is who they were');
SET ROLE cj_caller;
SELECT is(t.error('SELECT * FROM app.view'), '42501: permission denied for schema app', 'the caller needs no rights on the views, and gets none');
SELECT is(t.error('REFRESH MATERIALIZED VIEW app.view'), '42501: permission denied for schema app', 'nor to refresh them');
RESET ROLE;

/* what an event trigger sees: its functions are of superusers, and run as whoever gives the command */
CREATE FUNCTION t.on_command() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES ('event', current_user);
END
$$;
CREATE EVENT TRIGGER cj_commands ON ddl_command_end EXECUTE FUNCTION t.on_command();
CREATE FUNCTION t.saw_event(role text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN t.refresh_as(role) || ', ' || t.saw('event');
END
$$;
SELECT is(t.saw_event(role), 'app.view=concurrent other.view=full, cj_app cj_other', 'event triggers see the owner of the view, called by ' || role)
  FROM unnest(ARRAY[session_user, 'cj_caller']) role;
DROP EVENT TRIGGER cj_commands;

/* ---- escaping ---- */
SET ROLE cj_app;
CREATE TABLE app.checked (n integer PRIMARY KEY, other integer REFERENCES app.checked DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION app.on_deferred() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES ('deferred', current_user);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.checked DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.on_deferred();
CREATE FUNCTION app.escape() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE MATERIALIZED VIEW app.escaping AS SELECT n, app.escape() FROM app.numbers;
CREATE UNIQUE INDEX ON app.escaping (n);
RESET ROLE;
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.escaping') \g /dev/null

CREATE FUNCTION t.escape(statement text, role text DEFAULT session_user, force_full boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION app.escape() RETURNS integer LANGUAGE plpgsql AS %L',
                   'BEGIN ' || statement || '; INSERT INTO t.seen VALUES (''after'', current_user); RETURN 1; END');
    ALTER FUNCTION app.escape() OWNER TO cj_app;
    result := t.refresh_as(role, force_full);
    RETURN result || coalesce(' as ' || t.saw('after'), '');
END
$$;
SELECT is(t.escape('NULL', session_user), 'app.escaping=concurrent as cj_app', 'what is tried below is run');
SELECT matches(t.escape(statement, role, force_full), '^42501: ', format('%s is refused, called by %s, force_full %s', statement, role, force_full))
  FROM unnest(ARRAY['SET ROLE postgres', 'RESET ROLE', 'SET ROLE none', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT',
                    'SET SESSION AUTHORIZATION postgres', 'PERFORM set_config(''role'', ''none'', false)', 'PERFORM set_config(''session_authorization'', ''postgres'', true)',
                    'CREATE ROLE cj_more SUPERUSER', 'ALTER ROLE cj_app SUPERUSER', 'INSERT INTO challenge_jobs.job_run DEFAULT VALUES',
                    'UPDATE challenge_jobs.stats_view SET view_name = ''app.view''', 'GRANT ALL ON SCHEMA challenge_jobs TO cj_app', 'PERFORM challenge_jobs.add_stats_view(''app.view'')',
                    'CREATE TEMPORARY TABLE left_behind ()', 'CREATE TEMPORARY VIEW left_behind AS SELECT 1', 'PREPARE left_behind AS SELECT 1', 'LISTEN left_behind']) statement,
       unnest(ARRAY[session_user, 'cj_caller', 'cj_app']) role,
       unnest(ARRAY[false, true]) force_full;
SELECT matches(t.escape('EXECUTE ''DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1'''), '^(42501|42601|0A000): ', 'nor can a cursor be left behind');
/* what not every PostgreSQL forbids in a security-restricted operation: pg_temp.text would be found before the real one */
SELECT matches(t.escape(statement, role, force_full), '^42501: (code that ran as "cj_app" left an object in the temporary schema of this session|cannot create a type in a temporary schema)',
               format('%s: called by %s, force_full %s', statement, role, force_full))
  FROM unnest(ARRAY['DROP DOMAIN IF EXISTS pg_temp.text; CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (app.note(''domain'', 1) > 0)',
                    'CREATE OR REPLACE FUNCTION pg_temp.left_behind() RETURNS pg_catalog.int4 LANGUAGE sql AS ''SELECT 1''']) statement,
       unnest(ARRAY[session_user, 'cj_caller']) role,
       unnest(ARRAY[false, true]) force_full;
SELECT is(t.escape('CREATE OR REPLACE FUNCTION pg_temp.left_behind() RETURNS int LANGUAGE sql AS ''SELECT 1''', 'cj_app'), 'app.escaping=concurrent as cj_app', 'the owner may leave things to itself');
DROP FUNCTION pg_temp.left_behind();
SELECT matches(t.escape('COMMIT'), '^2D000: ', 'the transaction cannot be ended');
SELECT matches(t.escape('ROLLBACK'), '^2D000: ', 'a function in a view cannot roll back');
/* deferred triggers would fire at the caller's commit: as the caller, before PostgreSQL 18 */
SELECT is(t.escape('INSERT INTO app.checked VALUES (1, 1); DELETE FROM app.checked', role, force_full), '42501: cannot fire deferred trigger within security-restricted operation',
          format('no trigger can be left to fire later, called by %s, force_full %s', role, force_full))
  FROM unnest(ARRAY[session_user, 'cj_caller']) role, unnest(ARRAY[false, true]) force_full;
DELETE FROM t.seen;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(t.saw('deferred'), NULL, 'no deferred trigger of the view''s owner runs after the refresh');
SET CONSTRAINTS ALL DEFERRED;
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relowner = 'cj_app'::regrole), 0::bigint, 'no temporary table is left');
SELECT is((SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind') + (SELECT count(*) FROM pg_cursors WHERE name = 'left_behind'), 0::bigint, 'a function in a view leaves no prepared statement and no cursor behind');

/* ---- what the caller has prepared for the owner of the view ---- */
CREATE SCHEMA planted AUTHORIZATION cj_caller;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
SET ROLE cj_caller;
CREATE FUNCTION planted.lower(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES ('planted', current_user);
    RETURN $1;
END
$$;
CREATE FUNCTION planted.helper() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES ('planted', current_user);
    RETURN 1;
END
$$;
RESET ROLE;
SET ROLE cj_app;
CREATE FUNCTION app.helper() RETURNS integer LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
SET LOCAL search_path = planted, pg_temp, pg_catalog, public, t;
CREATE TEMPORARY TABLE numbers AS SELECT 'planted' AS n;
GRANT ALL ON numbers TO PUBLIC;
SELECT is(t.escape('PERFORM lower(''A'')', 'cj_caller') || coalesce(t.saw('planted'), ''), 'app.escaping=concurrent as cj_app', 'a function planted under the name of a built-in one is not called');
SELECT is(t.escape('PERFORM helper()', 'cj_caller') || coalesce(t.saw('planted'), ''),
          CASE WHEN current_setting('server_version_num')::int < 170000 THEN 'app.escaping=concurrent as cj_app' ELSE '42883: function helper() does not exist' END,
          'nor one under the name of the app''s; the app''s own is found up to PostgreSQL 16');
SELECT is(t.escape('INSERT INTO t.seen VALUES (''path'', current_setting(''search_path''))', 'cj_caller') || ' ' || t.saw('path'),
          'app.escaping=concurrent as cj_app pg_catalog, ' || CASE WHEN current_setting('server_version_num')::int < 170000 THEN 'app, ' ELSE '' END || 'pg_temp',
          'the search_path is not the caller''s');
DROP TABLE pg_temp.numbers;
SET LOCAL search_path = public, t;

/* ---- settings do not leak, in either direction ---- */
SET LOCAL timezone = 'Pacific/Kiritimati';
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL lock_timeout = '1234ms';
SET LOCAL app.me = 'caller';
CREATE TABLE t.before AS SELECT t.settings();
SELECT is(t.escape('PERFORM set_config(''search_path'', ''pg_catalog, app, public'', false), set_config(''timezone'', ''UTC'', false), set_config(''app.me'', ''app'', false), '
                   'set_config(''row_security'', ''on'', true), set_config(''work_mem'', ''1GB'', false), set_config(''datestyle'', ''ISO'', false), set_config(''jit'', ''off'', false)', session_user, force_full),
          CASE WHEN force_full THEN 'app.escaping=full as cj_app' ELSE 'app.escaping=concurrent as cj_app' END, 'the app''s code may change settings')
  FROM unnest(ARRAY[false, true]) force_full;
SELECT is(t.settings(), settings, 'they are gone afterwards, and the caller''s are as they were') FROM t.before;
SELECT matches(t.escape('PERFORM set_config(''app.me'', ''app'', false); RAISE EXCEPTION ''x'''), '^P0001: x', 'also where it ends in an error');
SELECT is(t.settings(), settings, 'the caller''s settings are as they were after an error') FROM t.before;
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"day_time_zone": "Asia/Tokyo"}') \g /dev/null
SELECT is(t.escape('INSERT INTO t.seen VALUES (''settings'', concat_ws('' / '', current_setting(''timezone''), current_setting(''row_security''), current_setting(''lock_timeout'')))') || ' ' || t.saw('settings'),
          'app.escaping=concurrent as cj_app Asia/Tokyo / off / 400ms', 'what the app''s code sees');

/* ---- row security: an error, not a view with rows missing ---- */
SET ROLE cj_other;
CREATE TABLE other.secured AS SELECT n FROM generate_series(1, 5) n;
ALTER TABLE other.secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON other.secured USING (n < 3);
GRANT USAGE ON SCHEMA other TO cj_app;
GRANT SELECT ON other.secured TO cj_app;
RESET ROLE;
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.of_secured AS SELECT n FROM other.secured WITH NO DATA;
RESET ROLE;
DELETE FROM challenge_jobs.stats_view;
SELECT challenge_jobs.add_stats_view('app.of_secured') \g /dev/null
SELECT is(t.refresh_as(session_user), '42501: query would be affected by row-level security policy for table "secured"', 'what a policy hides from the owner of the view is an error');
ALTER TABLE other.secured DISABLE ROW LEVEL SECURITY;
SELECT is(t.refresh_as('cj_caller'), 'app.of_secured=full', 'without one it works');
/* rights on what is read are those of the owner */
REVOKE SELECT ON other.secured FROM cj_app;
SELECT is(t.refresh_as(session_user), '42501: permission denied for table secured', 'a superuser who calls lends the owner nothing');

SELECT * FROM finish();
ROLLBACK;
