/*
 * What can be tracked and how: the key paths that the analysis of a view finds, and what it refuses, with the
 * culprit and, where there is one, the remedy. That the key paths are right is for track_key_paths.sql.
 */
BEGIN;
\ir track_shapes.psql
SELECT no_plan();

/* ---- key paths ---- */
CREATE FUNCTION key_paths_of(definition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make(definition);
    RETURN key_paths();
END
$$;
SELECT is(key_paths_of(definition), key_paths, name) FROM shape ORDER BY n;

/* ---- names, and what is said of a key_path ---- */
CREATE SCHEMA "Odd one";
CREATE TABLE "Odd one"."Members" ("Challenge" integer, "user" integer);
CREATE TABLE "Odd one"."Users" ("user" integer, n integer);
SELECT make('SELECT m."Challenge" AS challenge_id, u.n, (SELECT count(*) FROM codes) AS c FROM "Odd one"."Members" m JOIN "Odd one"."Users" u USING ("user")') \g /dev/null
SELECT results_eq($$ SELECT * FROM challenge_jobs.track('t.v', dry_run => true) $$,
                  $$ VALUES ('"Odd one"."Members"', 'Challenge', 'direct', NULL, NULL),
                            ('"Odd one"."Users"', 'user', 'via', '"Odd one"."Members": "user" -> "Challenge"', NULL),
                            ('t.codes', NULL, 'whole_view', NULL, 'none of its columns has to be equal to the key, or to a column of a table with it') $$,
                  'names are quoted where needed, and the reason of a whole_view key_path is notified');
CREATE FUNCTION reason(definition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make(definition);
    RETURN (SELECT reason FROM challenge_jobs.track(to_regclass('t.v'), dry_run => true) WHERE reason IS NOT NULL);
END
$$;
SELECT is(reason('SELECT * FROM top_members'), 'it is read in a query with LIMIT or OFFSET', 'the reason names what is in the way');
SELECT is(reason('SELECT challenge_id FROM (SELECT challenge_id, rank() OVER (ORDER BY points) FROM checkins) s'),
          'it is read in a query with a window function whose PARTITION BY lacks the key', 'a window function in a subquery has the reason named');
SELECT is(reason('WITH RECURSIVE r AS (SELECT challenge_id FROM members UNION SELECT challenge_id + 1 FROM r WHERE challenge_id < 3) SELECT * FROM r'),
          'it is read in a query with a recursive query', 'a recursive query has the reason named');
SELECT is(reason('SELECT challenge_id, user_id, rank() OVER (PARTITION BY challenge_id ORDER BY points), (SELECT count(*) FROM users) FROM checkins'),
          'none of its columns has to be equal to the key, or to a column of a table with it', 'but not what is in the way of other columns');

/* ---- types of keys ---- */
CREATE FUNCTION key_of(type text, source text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DROP MATERIALIZED VIEW IF EXISTS v;
    DROP TABLE IF EXISTS typed;
    EXECUTE format('CREATE TABLE typed (challenge_id %s)', type);
    CREATE MATERIALIZED VIEW v AS SELECT challenge_id, 1 AS n FROM typed WITH NO DATA;
    CREATE UNIQUE INDEX ON v (n);
    RETURN refusal();
END
$$;
CREATE DOMAIN short AS varchar(10);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a integer, b integer);
CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT is(key_of(k), 'not refused', 'a key may be ' || k) FROM unnest(ARRAY['integer', 'bigint', 'uuid', 'text', 'varchar(10)', 'short', 'mood', 'date', 'numeric']) k;
SELECT is(key_of(k), format('Its type %s does not have what keys need: an equality that can be sorted and hashed by, and arrays.', k), 'but not ' || k)
  FROM unnest(ARRAY['json', 'point', 'xml', 't.pair', 'integer[]']) k;
SELECT is(key_of('text COLLATE nd'), 'Its collation takes different texts for equal.', 'nor a text with several spellings');

/* ---- the view ---- */
SELECT make('SELECT challenge_id, user_id, status FROM members') \g /dev/null
SELECT is(refusal('nobody'), 't.v has no column "nobody".', 'a column that does not exist');
SELECT is(refusal('ctid'), 't.v has no column "ctid".', 'a system column is refused as a key');
SELECT is(refusal('challenge_id', 't.members'), 't.members is not a materialized view.', 'a table is refused in place of a materialized view');
SELECT is(refusal('challenge_id', 't.active'), 't.active is not a materialized view.', 'a plain view is refused in place of a materialized view');
SELECT throws_ok($$ SELECT challenge_jobs.track('t.v', 'nobody', true) $$, '0A000',
                 'materialized view t.v cannot be refreshed by its column "nobody"', 'what the error says');
CREATE MATERIALIZED VIEW no_index AS SELECT challenge_id FROM members;
SELECT is(refusal(view => 't.no_index'), 't.no_index has no valid unique index on plain columns without WHERE, by which its rows could be distinguished.|Fill in and run: CREATE UNIQUE INDEX ON t.no_index (<column>);',
          'a view without unique index');
CREATE UNIQUE INDEX ON no_index (challenge_id) WHERE challenge_id > 0;
CREATE UNIQUE INDEX ON no_index ((challenge_id + 1));
SELECT alike(refusal(view => 't.no_index'), '%no valid unique index%', 'nor with those that cannot be used');
CREATE MATERIALIZED VIEW other_index AS SELECT m.challenge_id, ''::text COLLATE nd AS name FROM members m;
CREATE UNIQUE INDEX ON other_index (challenge_id, name COLLATE "C");
SELECT alike(refusal(view => 't.other_index'), '%no valid unique index%', 'nor with one that says texts apart which the column does not');
CREATE UNIQUE INDEX ON other_index (name, challenge_id);
SELECT is(refusal(view => 't.other_index'), 'not refused', 'unless there is another one');
SELECT is(key_of('xid'), 'Its type xid does not have what keys need: an equality that can be sorted and hashed by, and arrays.', 'a key that cannot be sorted');
SELECT format('CREATE TABLE wide (challenge_id integer, %s)', string_agg('c' || i || ' boolean', ', ')) FROM generate_series(1, 831) i \gexec
CREATE MATERIALIZED VIEW too_wide AS SELECT * FROM wide;
CREATE UNIQUE INDEX ON too_wide (challenge_id);
SELECT is(refusal(view => 't.too_wide'), 't.too_wide has too many columns for a query that compares its rows with what they should be.', 'a view with 832 columns');
ALTER TABLE wide DROP COLUMN c831 CASCADE;
CREATE MATERIALIZED VIEW too_wide AS SELECT * FROM wide;
CREATE UNIQUE INDEX ON too_wide (challenge_id);
SELECT is(refusal(view => 't.too_wide'), 'not refused', 'one with 831 is not refused');
DROP TABLE wide CASCADE;

/* ---- what a definition must not have ---- */
CREATE FUNCTION immutable_one(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION stable_one(integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION volatile_one(integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION stable_step(integer, integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE AGGREGATE stable_sum(integer) (SFUNC = stable_step, STYPE = integer);
CREATE FUNCTION stable_equal(mood, text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
CREATE OPERATOR === (LEFTARG = mood, RIGHTARG = text, FUNCTION = stable_equal);
CREATE TABLE rich (challenge_id integer, d date, ts timestamp, tz timestamptz, txt text, mood mood, j jsonb, xm xml, nd text COLLATE nd, m money, p pair, arr text[], iv interval);
CREATE TABLE not_logged (challenge_id integer);
ALTER TABLE not_logged SET UNLOGGED;
CREATE TABLE parent (challenge_id integer);
CREATE TABLE child () INHERITS (parent);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (challenge_id integer) SERVER elsewhere;
CREATE TABLE partly (challenge_id integer) PARTITION BY LIST (challenge_id);
CREATE UNLOGGED TABLE partly_1 PARTITION OF partly FOR VALUES IN (1);
CREATE SEQUENCE counter;

CREATE FUNCTION refusal_of(definition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make(definition);
    RETURN refusal();
END
$$;
SELECT is(refusal_of(definition), refused, name) FROM (VALUES
/* keys are mixed */
('LIMIT', 'SELECT challenge_id, user_id FROM members LIMIT 10', 'The view has LIMIT or OFFSET, so that rows depend on rows of other keys.'),
('LIMIT over UNION', 'SELECT challenge_id FROM members UNION ALL SELECT id FROM challenges LIMIT 10', 'The view has LIMIT or OFFSET, so that rows depend on rows of other keys.'),
('OFFSET', 'SELECT challenge_id, user_id FROM members ORDER BY 1, 2 OFFSET 1', 'The view has LIMIT or OFFSET, so that rows depend on rows of other keys.'),
('a window over all', 'SELECT challenge_id, rank() OVER (ORDER BY points) FROM checkins', 'The view has a window function whose PARTITION BY lacks the key, so that rows depend on rows of other keys.'),
('one window of two', 'SELECT challenge_id, rank() OVER (PARTITION BY challenge_id ORDER BY points) AS a, rank() OVER (PARTITION BY user_id ORDER BY points) AS b FROM checkins',
 'The view has a window function whose PARTITION BY lacks the key, so that rows depend on rows of other keys.'),
('a window by an expression', 'SELECT challenge_id, rank() OVER (PARTITION BY challenge_id % 2 ORDER BY points) FROM checkins', 'The view has a window function whose PARTITION BY lacks the key, so that rows depend on rows of other keys.'),
('a window by what is equal on one side only', 'SELECT m.challenge_id, rank() OVER (PARTITION BY k.challenge_id ORDER BY k.points) FROM members m LEFT JOIN checkins k ON k.challenge_id = m.challenge_id',
 'The view has a window function whose PARTITION BY lacks the key, so that rows depend on rows of other keys.'),
('DISTINCT ON another column', 'SELECT DISTINCT ON (user_id) user_id, challenge_id FROM members ORDER BY 1, 2', 'The view has a DISTINCT ON that lacks the key, so that rows depend on rows of other keys.'),
('grouping sets', 'SELECT challenge_id, count(*) FROM members GROUP BY ROLLUP (challenge_id)', 'The view has GROUPING SETS, so that rows depend on rows of other keys.'),
/* the key */
('a computed key', 'SELECT challenge_id + 1 AS challenge_id FROM members', 'It is computed: a key has to be a column of what the view reads, as it is.'),
('an aggregate as key', 'SELECT max(challenge_id) AS challenge_id, user_id FROM members GROUP BY user_id', 'It is computed: a key has to be a column of what the view reads, as it is.'),
('a cast key', 'SELECT challenge_id::bigint FROM members', 'It is computed: a key has to be a column of what the view reads, as it is.'),
('a key of the other side', 'SELECT m.challenge_id, c.kind FROM challenges c LEFT JOIN members m ON m.challenge_id = c.id',
 'It is of the side of an outer join that is replaced by NULLs where there is no partner.|Select the column of the other side that it is equated with.'),
('a key of the other side of RIGHT JOIN', 'SELECT m.challenge_id, c.kind FROM members m RIGHT JOIN challenges c ON m.challenge_id = c.id',
 'It is of the side of an outer join that is replaced by NULLs where there is no partner.|Select the column of the other side that it is equated with.'),
('a key of FULL JOIN', 'SELECT m.challenge_id, c.kind FROM challenges c FULL JOIN members m ON m.challenge_id = c.id',
 'It is of the side of an outer join that is replaced by NULLs where there is no partner.|Select the column of the other side that it is equated with.'),
('the key of FULL JOIN USING', 'SELECT challenge_id, status, points FROM members FULL JOIN checkins USING (challenge_id)', 'It is computed: a key has to be a column of what the view reads, as it is.'),
/* sources */
('an unlogged table', 'SELECT challenge_id FROM not_logged', 'It reads the unlogged table t.not_logged: a crash empties it, and fires no triggers.|Run: ALTER TABLE t.not_logged SET LOGGED;'),
('an unlogged partition', 'SELECT challenge_id FROM partly', 'It reads the unlogged table t.partly_1: a crash empties it, and fires no triggers.|Run: ALTER TABLE t.partly_1 SET LOGGED;'),
('a foreign table', 'SELECT challenge_id FROM far', 'It reads the foreign table t.far: what others change there fires no triggers.'),
('a materialized view', 'SELECT challenge_id FROM no_index', 'It reads the materialized view t.no_index: a refresh fires no triggers.'),
('a sequence', 'SELECT challenge_id, last_value FROM members, counter', 'It reads t.counter, which is no table.'),
('inheritance', 'SELECT challenge_id FROM parent', 'It reads t.parent, which has parents or children by INHERITS: triggers do not reach them.'),
('a catalog', 'SELECT challenge_id, (SELECT count(*) FROM pg_class) AS n FROM members', 'It reads pg_catalog.pg_class, which belongs to the system: changes of the catalogs fire no triggers.'),
('a table of ours', 'SELECT m.challenge_id, r.job FROM members m JOIN challenge_jobs.job_run r ON r.run_id = m.user_id', 'It reads challenge_jobs.job_run, which belongs to this extension.'),
('a sample', 'SELECT challenge_id FROM members TABLESAMPLE SYSTEM (50)', 'It reads a sample of t.members: which rows it is depends on their addresses.'),
('an address', 'SELECT challenge_id, ctid AS place FROM members', 'It reads the system column "ctid" of t.members, which changes unseen.'),
('a transaction number', 'SELECT challenge_id, xmin::text AS x FROM members', 'It reads the system column "xmin" of t.members, which changes unseen.'),
('a table function of the catalogs', 'SELECT m.challenge_id, g.name FROM members m, pg_ls_waldir() g', 'It calls pg_ls_waldir(), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
/* functions */
('the clock', 'SELECT challenge_id, tz < now() AS past FROM rich', 'It calls now(), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('the clock in a join', 'SELECT m.challenge_id FROM members m JOIN rich r ON r.challenge_id = m.challenge_id AND r.d < CURRENT_DATE',
 'It asks for the time or the user (CURRENT_DATE, CURRENT_USER and the like).|Leave the comparison with the time to the queries that read the view.'),
('CURRENT_USER', 'SELECT challenge_id FROM rich WHERE txt = CURRENT_USER', 'It asks for the time or the user (CURRENT_DATE, CURRENT_USER and the like).|Leave the comparison with the time to the queries that read the view.'),
('age by today', 'SELECT challenge_id, age(ts) FROM rich', 'It calls age(timestamp without time zone), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('chance', 'SELECT challenge_id FROM members WHERE random() < 0.5', 'It calls random(), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('chance in a LIMIT', 'SELECT challenge_id, (SELECT points FROM checkins k WHERE k.challenge_id = m.challenge_id LIMIT 1 + random()) AS p FROM members m', 'It calls random(), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('a setting', 'SELECT challenge_id FROM rich WHERE txt = current_setting(''app.x'', true)', 'It calls current_setting(text,boolean), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('a STABLE function of the app', 'SELECT challenge_id, stable_one(user_id) FROM members', 'It calls t.stable_one(integer), which is STABLE: its result may depend on what nobody watches.|If its result depends on nothing but its arguments: ALTER FUNCTION t.stable_one(integer) IMMUTABLE;'),
('a VOLATILE one', 'SELECT challenge_id FROM members ORDER BY volatile_one(user_id)', 'It calls t.volatile_one(integer), which is VOLATILE: its result may depend on what nobody watches.|If its result depends on nothing but its arguments: ALTER FUNCTION t.volatile_one(integer) IMMUTABLE;'),
('one behind an aggregate', 'SELECT challenge_id, stable_sum(user_id) FROM members GROUP BY 1', 'It calls t.stable_step(integer,integer), which is STABLE: its result may depend on what nobody watches.|If its result depends on nothing but its arguments: ALTER FUNCTION t.stable_step(integer,integer) IMMUTABLE;'),
('one behind an operator', 'SELECT challenge_id FROM rich WHERE mood === ''x''', 'It calls t.stable_equal(t.mood,text), which is STABLE: its result may depend on what nobody watches.|If its result depends on nothing but its arguments: ALTER FUNCTION t.stable_equal(t.mood,pg_catalog.text) IMMUTABLE;'),
('an enum as text', 'SELECT challenge_id, mood::text FROM rich', 'It turns values of the enum t.mood into text or back, and labels can be renamed.|Leave the column in its own type.'),
('an enum in a text', 'SELECT challenge_id, concat(challenge_id, mood) FROM rich', 'It turns values of the enum t.mood into text or back, and labels can be renamed.|Leave the column in its own type.'),
('an enum in a row as JSON', 'SELECT challenge_id, row_to_json(r) AS r FROM rich r', 'It writes values of type t.rich as text or reads them from text, which depends on more than the value.'),
('text as an enum', 'SELECT challenge_id, txt::mood AS mood FROM rich', 'It turns values of the enum t.mood into text or back, and labels can be renamed.|Leave the column in its own type.'),
('text as a date', 'SELECT challenge_id, (j->>''d'')::date AS d FROM rich', 'It reads values of type date from text, where ''now'' is one of them.|Use to_date() or to_timestamp() with a constant pattern.'),
('money as text', 'SELECT challenge_id, m::text FROM rich', 'It writes values of type money as text or reads them from text, which depends on more than the value.'),
('names of the locale', 'SELECT challenge_id, to_char(d, ''TMMonth'') FROM rich', 'It calls to_char(timestamp with time zone,text) with a pattern that is no constant, or that asks for the names, signs or separators of a locale.|Use a constant pattern without TM.'),
('a pattern that is no constant', 'SELECT challenge_id, to_char(ts, txt) FROM rich', 'It calls to_char(timestamp without time zone,text) with a pattern that is no constant, or that asks for the names, signs or separators of a locale.|Use a constant pattern without TM.'),
('separators of the locale', 'SELECT challenge_id, to_char(user_id, ''9G999'') FROM members', 'It calls to_char(integer,text) with a pattern that is no constant, or that asks for the names, signs or separators of a locale.|Use a constant pattern without D, G, L and S.'),
('the sign of the locale', 'SELECT challenge_id, to_char(user_id, ''S999'') FROM members', 'It calls to_char(integer,text) with a pattern that is no constant, or that asks for the names, signs or separators of a locale.|Use a constant pattern without D, G, L and S.'),
('a type with attributes as JSON', 'SELECT challenge_id, to_json(p) AS p FROM rich', 'It writes values of type t.pair as text or reads them from text, which depends on more than the value.'),
('XML', 'SELECT challenge_id, xmlelement(name a, txt) AS x FROM rich', 'It uses an expression that is not known to depend on the tables alone, such as the SQL syntax for XML and JSON.|Use the functions for JSON (json_build_object() and the like).'),
('XMLTABLE', 'SELECT r.challenge_id, x.a FROM rich r, XMLTABLE(''/r'' PASSING r.xm COLUMNS a text) x', 'It reads XMLTABLE, JSON_TABLE or something else that is no table.'),
('the search configuration of the session', 'SELECT challenge_id, to_tsvector(txt) AS v FROM rich', 'It calls to_tsvector(text), whose result depends on more than its arguments: the time, the session, the catalogs or chance.'),
('a table by its name', 'SELECT challenge_id, txt::regclass AS r FROM rich', 'It calls regclass(text), whose result depends on more than its arguments: the time, the session, the catalogs or chance.')
) r(name, definition, refused);

/* ---- what it may have ---- */
SELECT is(refusal_of(definition), 'not refused', name) FROM (VALUES
('an IMMUTABLE function', 'SELECT challenge_id, immutable_one(user_id) FROM members'),
('days and hours', 'SELECT challenge_id, date_trunc(''day'', tz) AS a, extract(year FROM tz) AS b, tz + interval ''1 day'' AS c, tz::date AS e, d::timestamptz AS f, d < tz AS g, age(tz, ts) AS h, tz AT TIME ZONE ''UTC'' AS i, to_char(tz, ''YYYY-MM-DD HH24:MI'') AS k FROM rich'),
('texts', 'SELECT challenge_id, concat(txt, d, iv) AS a, format(''%s'', tz) AS b, array_to_string(arr, '','') AS c, txt || challenge_id AS e, d::text AS f, txt::integer AS g, txt::interval AS h, challenge_id::text AS i, to_char(challenge_id, ''FM000'') AS k FROM rich'),
('JSON', 'SELECT challenge_id, jsonb_agg(txt ORDER BY d) AS a, json_object_agg(txt, arr) AS b, to_json(max(tz)) AS c, jsonb_build_object(''n'', count(*)) AS e, jsonb_agg(jsonb_build_object(''t'', txt) || j) AS f FROM rich GROUP BY 1'),
('a whole row as JSON', 'SELECT challenge_id, row_to_json(m) AS m, to_json(ROW(user_id, status)) AS r FROM members m'),
('an enum as it is', 'SELECT challenge_id, mood, mood IN (''good'', ''bad'') AS known, max(mood) OVER (PARTITION BY challenge_id) AS best FROM rich'),
('text with several spellings beside the key', 'SELECT challenge_id, nd, count(*) FROM rich GROUP BY 1, 2'),
('CASE, COALESCE, arrays, rows, GREATEST', 'SELECT challenge_id, CASE txt WHEN ''a'' THEN 1 ELSE 2 END AS a, coalesce(txt, '''') AS b, arr[1] AS c, ARRAY[txt] AS d, greatest(d, ts::date) AS e, (p).a AS f, nullif(txt, '''') AS g, txt = ANY(arr) AS h, (txt, d) < (''x'', d) AS i, txt IS NULL AS k FROM rich'),
('a partition by its name', 'SELECT challenge_id, count(*) FROM parts_2_1 GROUP BY 1'),
('a CTE that is not used', 'WITH x AS (SELECT now()) SELECT challenge_id FROM members'),
('a window with a frame of days', 'SELECT challenge_id, count(*) OVER (PARTITION BY challenge_id ORDER BY tz RANGE ''1 day'' PRECEDING) FROM rich')
) r(name, definition);

/* text with several spellings does not lead to keys: what is equal there is not the same */
CREATE TABLE spelled (code text COLLATE nd, n integer);
SELECT is(key_paths_of('SELECT c.code AS challenge_id, s.n FROM codes c JOIN (SELECT DISTINCT code, n FROM spelled) s ON s.code COLLATE "C" = c.code'),
          'codes.code direct, spelled whole_view', 'a DISTINCT that takes one of several spellings');
SELECT is(key_paths_of('SELECT c.code::text AS challenge_id, s.n FROM codes c JOIN spelled s ON s.code = c.code::text COLLATE nd'),
          'codes.code direct, spelled whole_view', 'an equality that takes several spellings');

/* an operator that is called = but is another one */
CREATE FUNCTION near(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT abs($1 - $2) < 2';
CREATE OPERATOR t.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = near, COMMUTATOR = OPERATOR(t.=));
SELECT is(key_paths_of('SELECT c.id AS challenge_id, m.user_id FROM challenges c JOIN members m ON m.challenge_id OPERATOR(t.=) c.id'),
          'challenges.id direct, members whole_view', 'an operator that is only called =');

/* columns of bpchar and varchar are not compared as what they are */
CREATE TABLE padded (code char(5), n integer);
SELECT is(key_paths_of('SELECT c.code AS challenge_id, p.n FROM codes c JOIN padded p ON p.code = c.code'), 'codes.code direct, padded whole_view', 'a join of char(n) with varchar gives no key path, as they compare differently');
SELECT is(key_paths_of('SELECT p.code AS challenge_id, q.n FROM padded p JOIN padded q ON q.code = p.code'), 'padded.code direct', 'a join of char(n) with char(n) gives a key path');

/* names that lead to each other double the queries each time: an end is made of that */
SELECT is(refusal_of((SELECT 'WITH c0 AS (SELECT challenge_id FROM members)' || string_agg(format(', c%s AS (SELECT a.challenge_id FROM c%s a JOIN c%s b USING (challenge_id))', n, n - 1, n - 1), '' ORDER BY n)
                             || ' SELECT * FROM c12' FROM generate_series(1, 12) n)),
          'It consists of too many queries, each counted as often as it is named.', 'a view with too many subqueries is refused');

SELECT * FROM finish();
ROLLBACK;
