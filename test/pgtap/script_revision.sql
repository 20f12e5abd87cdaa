/*
 * An extension that another install script has made: each function says what to do, and none does anything.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE TABLE app.numbers (n integer PRIMARY KEY);
CREATE MATERIALIZED VIEW app.sums AS SELECT n, count(*) FROM app.numbers GROUP BY n;
CREATE UNIQUE INDEX ON app.sums (n);
SELECT challenge_jobs.track('app.sums', 'n') \g /dev/null

/* What C functions of the extension say when they are called with nulls, and how many there are. */
CREATE FUNCTION t.say() RETURNS TABLE (said text, functions bigint) LANGUAGE plpgsql AS $$
DECLARE
    routine record;
BEGIN
    CREATE TEMPORARY TABLE answers (answer text);
    FOR routine IN
        SELECT p.oid::regproc AS name, CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END AS command,
               (SELECT COALESCE(string_agg('NULL::' || format_type(a.type, NULL), ', ' ORDER BY a.n), '')
                  FROM unnest(p.proargtypes) WITH ORDINALITY a(type, n)) AS arguments
          FROM pg_proc p
          JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
          JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'challenge_jobs'
         WHERE p.prolang = (SELECT l.oid FROM pg_language l WHERE l.lanname = 'c') AND p.prorettype <> 'trigger'::regtype
    LOOP
        BEGIN
            EXECUTE format('%s %s(%s)', routine.command, routine.name, routine.arguments);
            INSERT INTO answers VALUES (routine.name || ' did something');
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO answers VALUES (SQLSTATE || ': ' || SQLERRM);
        END;
    END LOOP;
    RETURN QUERY SELECT a.answer, count(*) FROM answers a GROUP BY a.answer;
    DROP TABLE answers;
END
$$;

SELECT prosrc AS revision FROM pg_proc WHERE oid = 'challenge_jobs.script_revision'::regproc \gset
CREATE OR REPLACE FUNCTION challenge_jobs.script_revision() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 0';
SELECT results_eq('SELECT said, functions > 20 FROM t.say()',
    $$VALUES ('55000: extension "challenge_jobs" was created by a different install script than this library needs', true)$$,
    'all functions refuse to work with an older script');
SELECT throws_ok('INSERT INTO app.numbers VALUES (1)', '55000', NULL, 'and so does the trigger of a tracked view');

ALTER EXTENSION challenge_jobs DROP FUNCTION challenge_jobs.script_revision();
DROP FUNCTION challenge_jobs.script_revision();
SELECT results_eq('SELECT said, functions > 20 FROM t.say()',
    $$VALUES ('55000: extension "challenge_jobs" was created by a different install script than this library needs', true)$$,
    'also with one from before there were revisions');

CREATE FUNCTION challenge_jobs.script_revision() RETURNS integer LANGUAGE sql IMMUTABLE AS :'revision';
SELECT lives_ok('INSERT INTO app.numbers VALUES (1)', 'with the right one all is well');

SELECT * FROM finish();
ROLLBACK;
