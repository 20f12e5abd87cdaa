/*
 * Whose rights the app's code runs with, and what it can leave behind: wrong answers here are security
 * holes, for the owner of the tables, for the caller or for the owner of the extension.
 */
BEGIN;
\ir app.psql
\ir callers.psql
SELECT no_plan();

GRANT EXECUTE ON FUNCTION public.auto_complete_challenges(timestamptz, boolean) TO cj_caller, cj_app;

SET ROLE cj_app;
CREATE FUNCTION app.look(place text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES (place, current_user);
    RETURN true;
END
$$;
CREATE FUNCTION app.on_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    /* a function and a table of its own schema, without saying which */
    PERFORM look(TG_ARGV[0]);
    PERFORM count(*) FROM challenge_members;
    RETURN NEW;
END
$$;
CREATE TRIGGER a BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.on_change('before update');
CREATE TRIGGER b AFTER UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.on_change('after update');
CREATE TRIGGER c AFTER UPDATE ON app.challenges FOR EACH STATEMENT EXECUTE FUNCTION app.on_change('statement');
CREATE CONSTRAINT TRIGGER d AFTER UPDATE ON app.challenges DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.on_change('deferred');
CREATE CONSTRAINT TRIGGER e AFTER UPDATE ON app.challenges DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.on_change('deferrable');
CREATE CONSTRAINT TRIGGER "d; 'x' ""y""" AFTER INSERT ON app.notifications DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.on_change('deferred insert');
CREATE TRIGGER f BEFORE INSERT ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.on_change('before insert');
ALTER TABLE app.challenges ADD CHECK (app.look('check'));
ALTER TABLE app.notifications ALTER body SET DEFAULT 'x', ALTER created_at DROP DEFAULT;
ALTER TABLE app.notifications ADD extra boolean DEFAULT app.look('default');
CREATE INDEX ON app.challenges (upper(name));
ALTER TABLE app.challenge_members ADD UNIQUE (challenge_id, user_id) DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (challenge_id) REFERENCES app.challenges DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE app.challenges ADD UNIQUE (id, status) DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE app.mes (id integer PRIMARY KEY);
ALTER TABLE app.notifications ADD FOREIGN KEY (user_id) REFERENCES app.mes DEFERRABLE INITIALLY DEFERRED;
CREATE FUNCTION app.rate(rate numeric) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.look('view');
    RETURN rate;
END
$$;
CREATE MATERIALIZED VIEW app.stats AS SELECT challenge_id, app.rate(completion_rate) AS completion_rate FROM app.challenge_member_stats;
CREATE VIEW app.stats_view AS SELECT * FROM app.stats WHERE app.look('plain view');
RESET ROLE;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null
INSERT INTO app.mes VALUES (1), (2);

/* t.fresh: two challenges, one of which passes */
CREATE FUNCTION t.fresh() RETURNS void LANGUAGE sql AS $$
    SET CONSTRAINTS ALL IMMEDIATE;
    ALTER TABLE app.challenges DISABLE TRIGGER USER;
    DELETE FROM app.notifications; DELETE FROM app.challenge_members; DELETE FROM app.challenges; DELETE FROM app.challenge_member_stats;
    SELECT t.add('a', 90), t.add('b', 10);
    SET CONSTRAINTS ALL IMMEDIATE;
    ALTER TABLE app.challenges ENABLE TRIGGER USER;
    DELETE FROM t.seen;
    SET CONSTRAINTS ALL DEFERRED;
$$;

/* ---- current_user ---- */
CREATE FUNCTION t.run_as(role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    PERFORM t.fresh();
    PERFORM set_config('role', role, true);
    SELECT concat_ws(' ', completed, failed, notified) INTO result FROM public.auto_complete_challenges();
    RESET ROLE;
    RETURN result;
END
$$;
CREATE FUNCTION t.saw_called_by(role text, place text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN t.run_as(role) || ' ' || coalesce(t.saw(place), 'nothing');
END
$$;
SELECT is(t.saw_called_by(role, place), '1 1 2 cj_app', format('%s: current_user is the owner of the tables, called by %s', place, role))
  FROM unnest(ARRAY[current_user, 'cj_app', 'cj_caller']) role,
       unnest(ARRAY['before update', 'after update', 'statement', 'deferred', 'deferrable', 'before insert', 'deferred insert', 'check', 'default', 'view']) place;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats_view') \g /dev/null
REFRESH MATERIALIZED VIEW app.stats;
SELECT is(t.run_as('cj_caller') || ' ' || current_user, '1 1 2 ' || session_user, 'with a plain view');
SELECT is(t.saw('plain view'), 'cj_app', 'functions of a plain view run as the owner of the tables');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.stats') \g /dev/null

/* nothing is left to fire later, under another identity */
SELECT t.run_as('cj_caller') \g /dev/null
DELETE FROM t.seen;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(t.saw('deferred', 'deferrable', 'deferred insert'), NULL, 'no deferred trigger of the run is left to fire');
/* what the caller has pending itself stays the caller's */
SELECT t.fresh() \g /dev/null
SET LOCAL search_path = app, public;
UPDATE app.challenges SET name = 'c';
SELECT t.run() \g /dev/null
SET LOCAL search_path = public;
SELECT is(t.saw('deferred'), 'cj_app ' || session_user, 'deferred triggers of the caller''s own changes fire as the caller');
SET CONSTRAINTS ALL IMMEDIATE;

/* constraints still hold */
SELECT t.fresh() \g /dev/null
DELETE FROM app.mes;
SELECT matches(t.error('SELECT t.run()'), '^23503: ', 'a violated deferred foreign key of notifications is an error of the run');
INSERT INTO app.mes VALUES (1), (2);
SET CONSTRAINTS ALL IMMEDIATE;

/* a trigger that writes to a table with deferred constraints of its own */
SELECT t.fresh() \g /dev/null
SET ROLE cj_app;
CREATE TABLE app.audit (challenge_id integer REFERENCES app.challenges DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit VALUES (NEW.id);
    RETURN NEW;
END
$$;
CREATE TRIGGER note AFTER UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.note();
RESET ROLE;
SELECT is(t.error('SELECT t.run_as(''cj_caller'')'), 'no error', 'a trigger may write to another table with a deferred constraint');
DELETE FROM app.audit;
SELECT is(t.error('SELECT t.run_as(session_user)'), 'no error', 'the same, called by the superuser');
RESET ROLE;
DROP TRIGGER note ON app.challenges;
DELETE FROM app.audit;

/* ---- escaping ---- */
CREATE FUNCTION t.escape(statement text, role text DEFAULT session_user) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION app.escape() RETURNS trigger LANGUAGE plpgsql AS %L',
                   'BEGIN ' || statement || '; INSERT INTO t.seen VALUES (''after'', current_user); RETURN NEW; END');
    ALTER FUNCTION app.escape() OWNER TO cj_app;
    PERFORM t.fresh();
    DROP TRIGGER IF EXISTS escape ON app.challenges;
    CREATE TRIGGER escape BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.escape();
    BEGIN
        PERFORM set_config('role', role, true);
        PERFORM public.auto_complete_challenges();
        result := 'no error';
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE || ': ' || SQLERRM;
    END;
    RESET ROLE;
    DROP TRIGGER IF EXISTS escape ON app.challenges;
    RETURN result || coalesce(' as ' || t.saw('after'), '');
END
$$;
SELECT matches(t.escape(statement, role), '^42501: ', format('%s is refused, called by %s', statement, role))
  FROM unnest(ARRAY['SET ROLE postgres', 'RESET ROLE', 'SET ROLE none', 'SET LOCAL ROLE cj_app', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT',
                    'SET SESSION AUTHORIZATION postgres', 'PERFORM set_config(''role'', ''none'', false)', 'PERFORM set_config(''session_authorization'', ''postgres'', true)',
                    'CREATE ROLE cj_more SUPERUSER', 'ALTER ROLE cj_app SUPERUSER', 'INSERT INTO challenge_jobs.job_run DEFAULT VALUES',
                    'UPDATE challenge_jobs.binding SET relation = ''pg_catalog.pg_authid''', 'GRANT ALL ON SCHEMA challenge_jobs TO cj_app']) statement,
       unnest(ARRAY[session_user, 'cj_caller', 'cj_app']) role
 WHERE NOT (role = 'cj_app' AND statement = 'SET LOCAL ROLE cj_app');
SELECT matches(t.escape('CREATE TEMPORARY TABLE left_behind ()'), '^42501: ', 'nothing can be left behind in the caller''s session: a temporary table');
SELECT matches(t.escape('PREPARE left_behind AS SELECT 1'), '^42501: ', 'nor a prepared statement');
SELECT matches(t.escape('EXECUTE ''DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1'''), '^(42501|42601|0A000): ', 'code of the app cannot leave a cursor behind');
SELECT matches(t.escape('DROP DOMAIN IF EXISTS pg_temp.text; CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (app.look(''domain''))'),
               '^42501: (code that ran as "cj_app" left an object in the temporary schema of this session|cannot create a type in a temporary schema)', 'nor a type that would be found before the real one');
SELECT matches(t.escape('COMMIT'), '^2D000: ', 'the transaction cannot be ended');
SELECT matches(t.escape('ROLLBACK'), '^2D000: ', 'the transaction cannot be rolled back');
SELECT matches(t.escape('ALTER TABLE app.challenges ADD x int'), '^55006: ', 'the table in use cannot be changed');

/* ---- settings do not leak, in either direction ---- */
SET LOCAL search_path = public, t;
SET LOCAL timezone = 'Pacific/Kiritimati';
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL lock_timeout = '1234ms';
SET LOCAL app.me = 'caller';
CREATE TEMPORARY TABLE settings AS SELECT t.settings();
SELECT is(t.escape('PERFORM set_config(''search_path'', ''pg_catalog, app, public'', false), set_config(''timezone'', ''UTC'', false), set_config(''app.me'', ''app'', false), '
                   'set_config(''row_security'', ''on'', true), set_config(''work_mem'', ''1GB'', false), set_config(''datestyle'', ''ISO'', false)'),
          'no error as cj_app', 'the app''s code may change settings');
SELECT is(t.settings(), settings, 'they are gone afterwards, and the caller''s are as they were') FROM settings;
SELECT matches(t.escape('SET datestyle = ''ISO''; PERFORM set_config(''app.me'', ''app'', false); RAISE EXCEPTION ''x'''), '^P0001: x', 'also where it ends in an error');
SELECT is(t.settings(), settings, 'the caller''s settings are as they were after an error') FROM settings;
SELECT is(t.error('SELECT public.auto_complete_challenges(as_of => ''infinity'')'), '22023: as_of must be finite', 'an error before anything begins');
SELECT is(t.settings(), settings, 'the caller''s settings are as they were after that') FROM settings;
SELECT is(t.escape('INSERT INTO t.seen VALUES (''path'', current_setting(''search_path'') || ''/'' || current_setting(''row_security'') || ''/'' || current_setting(''timezone''))'),
          'no error as cj_app', 'what the app''s code sees');
SELECT is(t.saw('path'), 'pg_catalog, app, pg_temp/off/UTC', 'is a path without the caller''s schemas');
RESET datestyle; RESET timezone; RESET lock_timeout;
SET LOCAL search_path = public;

/* ---- planted functions and operators are not called ---- */
CREATE FUNCTION t.trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'TRAP as %', current_user; END $$;
CREATE FUNCTION t.plant(schema text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    f   text;
BEGIN
    FOREACH f IN ARRAY ARRAY['lower(text) RETURNS text', 'upper(text) RETURNS text', 'now() RETURNS timestamptz', 'count(integer) RETURNS bigint', 'avg(numeric) RETURNS numeric',
                             'unnest(integer[]) RETURNS SETOF integer', 'unnest(text[]) RETURNS SETOF text',
                             'jsonb_build_object(text, integer, text, text) RETURNS jsonb', 'clock_timestamp() RETURNS timestamptz', 'eq(text, text) RETURNS boolean',
                             'eqint(integer, integer) RETURNS boolean', 'eqname(name, text) RETURNS boolean', 'eqdate(date, date) RETURNS boolean', 'cat(jsonb, jsonb) RETURNS jsonb',
                             'current_database() RETURNS name', 'numeric(integer) RETURNS numeric', 'int8(integer) RETURNS bigint'] LOOP
        EXECUTE format('CREATE FUNCTION %I.%s LANGUAGE plpgsql AS ''BEGIN RAISE EXCEPTION ''''TRAP as %%'''', current_user; END''', schema, f);
    END LOOP;
    EXECUTE format('CREATE OPERATOR %1$I.= (FUNCTION = %1$I.eq, LEFTARG = text, RIGHTARG = text)', schema);
    EXECUTE format('CREATE OPERATOR %1$I.= (FUNCTION = %1$I.eqint, LEFTARG = integer, RIGHTARG = integer)', schema);
    EXECUTE format('CREATE OPERATOR %1$I.= (FUNCTION = %1$I.eqname, LEFTARG = name, RIGHTARG = text)', schema);
    EXECUTE format('CREATE OPERATOR %1$I.< (FUNCTION = %1$I.eqdate, LEFTARG = date, RIGHTARG = date)', schema);
    EXECUTE format('CREATE OPERATOR %1$I.|| (FUNCTION = %1$I.cat, LEFTARG = jsonb, RIGHTARG = jsonb)', schema);
END
$$;
SELECT t.fresh() \g /dev/null
SELECT t.plant('public'), t.plant('app') \g /dev/null
SET LOCAL search_path = public, pg_catalog;
CREATE TEMPORARY TABLE result (completed bigint, failed bigint, notified bigint, error text);
DO $$
DECLARE r record;
BEGIN
    SELECT * INTO r FROM public.auto_complete_challenges();
    INSERT INTO result VALUES (r.completed, r.failed, r.notified);
EXCEPTION WHEN OTHERS THEN
    INSERT INTO result (error) VALUES (SQLERRM);
END
$$;
DO $$
DECLARE n int;
BEGIN
    /* the others of our functions */
    PERFORM challenge_jobs.bind('users', 'app.mes');
    PERFORM challenge_jobs.unbind('users');
    PERFORM challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify": true}');
    PERFORM challenge_jobs.reset_job('auto_complete_challenges'), challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');
    PERFORM challenge_jobs.schedule('auto_complete_challenges', 'external');
    PERFORM challenge_jobs.unschedule();
    PERFORM 1 FROM challenge_jobs.doctor();
    PERFORM job FROM challenge_jobs.job;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO result (error) VALUES (SQLERRM);
END
$$;
/* and the traps are armed */
INSERT INTO result (error) SELECT t.error('SELECT lower(''X''::text)');
SET LOCAL search_path = pg_catalog, public;
SELECT is((SELECT string_agg(concat_ws(' ', completed, failed, notified, error), ', ') FROM result), '1 1 2, P0001: TRAP as ' || session_user, 'functions and operators planted under the names of built-ins are not called');

/* ---- cursors ---- */
SELECT t.fresh() \g /dev/null
SET ROLE cj_app;
CREATE FUNCTION app.swap_cursors() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine    refcursor := 'one';
    new     refcursor := 'another';
BEGIN
    IF EXISTS (SELECT FROM pg_cursors WHERE name = 'one') THEN
        CLOSE mine;
    END IF;
    OPEN mine FOR SELECT current_user;
    OPEN new FOR SELECT 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER swap_cursors AFTER INSERT ON app.notifications EXECUTE FUNCTION app.swap_cursors();
RESET ROLE;
DECLARE one CURSOR FOR SELECT 1;
DECLARE two CURSOR FOR SELECT 2;
SELECT is(t.run(), '1 1 2', 'a trigger may leave cursors open');
SELECT is((SELECT string_agg(name, ' ') FROM pg_cursors WHERE NOT is_holdable AND name IN ('one', 'two', 'another')), 'two',
          'they are closed: none stands in the place of a cursor of the caller''s, whose own are left alone');
CLOSE two;
DROP TRIGGER swap_cursors ON app.notifications;
SELECT t.fresh() \g /dev/null

/* ---- a caller without rights on the app's schema ---- */
SELECT is(has_schema_privilege('cj_caller', 'app', 'USAGE'), false, 'the caller cannot see the app''s schema');
SET ROLE cj_caller;
SELECT throws_ok('SELECT * FROM app.challenges', '42501');
RESET ROLE;
SELECT is(t.run_as('cj_caller'), '1 1 2', 'and can run the job all the same');
SELECT is((SELECT role_name FROM t.last_run()), 'cj_caller', 'the run row has the caller''s name');
SELECT matches(t.escape('RESET ROLE', 'cj_other'), '^42501: permission denied for function auto_complete_challenges', 'a role without EXECUTE cannot');

SELECT * FROM finish();
ROLLBACK;
