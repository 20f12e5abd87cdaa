/*
 * A job function makes deferrable constraints immediate, and what is pending on them runs at once: never with the rights
 * of anyone but the one who has it pending. Each attack here ran code of "mallory" as the owner of the app's tables, or as
 * the owner of a SECURITY DEFINER function.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE ROLE cj_mallory;
CREATE ROLE cj_service;
GRANT EXECUTE ON FUNCTION public.auto_complete_challenges(timestamptz, boolean) TO cj_mallory, cj_service;
CREATE SCHEMA m AUTHORIZATION cj_mallory;
GRANT USAGE ON SCHEMA m TO cj_app;
GRANT USAGE ON SCHEMA app TO cj_mallory;
GRANT REFERENCES ON app.challenges TO cj_mallory;
CREATE TABLE t.seen (who text);
GRANT ALL ON t.seen TO PUBLIC;
CREATE FUNCTION t.saw() RETURNS text LANGUAGE sql AS
    $$ SELECT coalesce(string_agg(DISTINCT who, ' ' ORDER BY who), 'nothing') FROM t.seen $$;

SET ROLE cj_mallory;
CREATE FUNCTION m.evil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen VALUES (current_user);
    RETURN NULL;
END
$$;
CREATE TABLE m.events (n integer);
CREATE CONSTRAINT TRIGGER c AFTER INSERT ON m.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m.evil();
RESET ROLE;

/* ---- by a constraint of the same name, and a schema that the caller may not use (any more) ---- */

SET ROLE cj_mallory;
CREATE TABLE m.referring (id integer, CONSTRAINT c FOREIGN KEY (id) REFERENCES app.challenges DEFERRABLE);
RESET ROLE;
SELECT t.add('a', 90) \g /dev/null
SET ROLE cj_mallory;
INSERT INTO m.events VALUES (1);
REVOKE USAGE ON SCHEMA m FROM cj_mallory;
SELECT is(t.error('SELECT public.auto_complete_challenges(''2024-02-29'')'),
    '55000: checks on table "events" are pending in this transaction',
    'a job function refuses to run what is pending for a caller who may not use the schema');
RESET ROLE;
SELECT is(t.saw(), 'nothing', 'what is pending has not run');
SELECT is((SELECT status FROM app.challenges), 'active', 'a refused call decides nothing');
SET ROLE cj_mallory;
SET CONSTRAINTS ALL IMMEDIATE;
RESET ROLE;
SELECT is(t.saw(), 'cj_mallory', 'typed as the hint says, it runs as the caller');
DELETE FROM t.seen;
SET ROLE cj_mallory;
SELECT lives_ok('SELECT public.auto_complete_challenges(''2024-02-29'')',
    'with nothing pending, a caller without USAGE on the schema of a deferrable constraint can call the job function');
RESET ROLE;
SELECT is((SELECT status FROM app.challenges), 'completed', 'and the challenge is decided');
SET CONSTRAINTS ALL DEFERRED;

/* ---- through a SECURITY DEFINER function of somebody else ---- */

SELECT t.add('b', 90) \g /dev/null
GRANT USAGE ON SCHEMA m TO cj_mallory, cj_service;
CREATE FUNCTION t.wrapper() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT completed FROM public.auto_complete_challenges('2024-02-29') $$;
ALTER FUNCTION t.wrapper() OWNER TO cj_service;
SET ROLE cj_mallory;
INSERT INTO m.events VALUES (2);
SELECT is(t.error('SELECT t.wrapper()'), '55000: checks on table "events" are pending in this transaction',
    'nor does it run them as the owner of a SECURITY DEFINER function');
RESET ROLE;
REVOKE USAGE ON SCHEMA m FROM cj_service;
SET ROLE cj_mallory;
SELECT is(t.error('SELECT t.wrapper()'), '55000: checks on table "events" are pending in this transaction',
    'whether or not that one may use the schema');
RESET ROLE;
SELECT is(t.saw(), 'nothing', 'what is pending has not run this time either');
SET CONSTRAINTS ALL IMMEDIATE;
DELETE FROM t.seen;
SET CONSTRAINTS ALL DEFERRED;
SET ROLE cj_mallory;
SELECT is(t.wrapper(), 1::bigint, 'with nothing pending the function works');
RESET ROLE;
SELECT is(t.saw(), 'nothing', 'and runs no code of others');

/* ---- what the caller may do remains ---- */

SELECT t.add('c', 90) \g /dev/null
GRANT USAGE ON SCHEMA m TO cj_mallory;
SET ROLE cj_mallory;
INSERT INTO m.events VALUES (3);
SELECT lives_ok('SELECT public.auto_complete_challenges(''2024-02-29'')',
    'a caller who may use the schema has his own checks run');
RESET ROLE;
SELECT is(t.saw(), 'cj_mallory', 'a check of the caller runs as the caller');

SELECT * FROM finish();
ROLLBACK;
