/*
 * Notifications inserted in bulk: the same rows, index entries and errors as by INSERT, and INSERT wherever something
 * could be different.
 */
BEGIN;
\ir app.psql
CREATE EXTENSION IF NOT EXISTS amcheck;
SELECT no_plan();

SET ROLE cj_app;
CREATE TABLE app.users (id integer PRIMARY KEY);
ALTER TABLE app.notifications
    ADD PRIMARY KEY (id),
    ADD CONSTRAINT user_fk FOREIGN KEY (user_id) REFERENCES app.users,
    ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN is_read boolean DEFAULT false,
    ADD COLUMN dropped text DEFAULT 'x',
    ADD COLUMN length integer GENERATED ALWAYS AS (length(body)) STORED,
    ADD COLUMN "Priority" smallint DEFAULT 3 CHECK ("Priority" < 5);
ALTER TABLE app.notifications DROP COLUMN dropped;
CREATE INDEX by_user ON app.notifications (user_id, created_at DESC NULLS LAST) INCLUDE (type);
CREATE INDEX unread ON app.notifications (user_id) WHERE NOT is_read;
CREATE INDEX read ON app.notifications (user_id) WHERE is_read;
CREATE INDEX by_title ON app.notifications (lower(title) DESC, token);
CREATE FUNCTION app.one() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION app.same(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n; END';
CREATE FUNCTION app.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
RESET ROLE;
INSERT INTO app.users SELECT generate_series(1, 100);
SELECT t.add('Run', 90, 90, 90), t.add('Swim', 10, 10), t.add('alone'), t.add('Read', VARIADIC array_fill(50, ARRAY[60])) \g /dev/null

CREATE FUNCTION t.again() RETURNS void
LANGUAGE sql AS $$
    DELETE FROM app.notifications WHERE id <> 0;
    UPDATE app.challenges SET status = 'active';
$$;

/* t.method: runs once more; how rows were inserted, how many, and the errors */
CREATE FUNCTION t.method() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    r   challenge_jobs.job_run;
BEGIN
    PERFORM t.again();
    PERFORM t.run();
    r := t.last_run();
    RETURN concat_ws(' ', r.result->>'insert', r.result->>'notified', nullif(r.result->>'errors', '0'), r.sqlstate);
END
$$;

/* t.after: the same after some DDL, which is rolled back */
CREATE FUNCTION t.after(ddl text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    method  text;
BEGIN
    PERFORM t.again();
    EXECUTE ddl;
    method := t.method();
    RAISE EXCEPTION USING ERRCODE = 'CJ000', MESSAGE = method;
EXCEPTION WHEN SQLSTATE 'CJ000' THEN
    RETURN method;
END
$$;

/* ---- the same rows ---- */

/* t.rows: what was inserted, without what differs from run to run; keys count from the first */
CREATE FUNCTION t.rows() RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT (to_jsonb(n) - 'token' #- '{data,run_id}' || jsonb_build_object('id', n.id - min(n.id) OVER ()))::text
      FROM app.notifications n WHERE id > 0 ORDER BY id
$$;

SELECT t.set('{"insert": "plain"}') \g /dev/null
SELECT is(t.method(), 'plain 65', 'plain where that is set');
CREATE TABLE t.plain AS SELECT t.rows() AS line;
SELECT t.set('{"insert": "auto"}') \g /dev/null
SELECT is(t.method(), 'bulk 65', 'in bulk by default');
SELECT results_eq('SELECT t.rows()', 'SELECT line FROM t.plain', 'the rows are the same, in the same order');
SELECT is((SELECT count(DISTINCT token) FROM app.notifications), 65::bigint, 'a default is computed for each row');

CREATE FUNCTION t.check_indexes() RETURNS text
LANGUAGE sql AS $$
    SELECT count(bt_index_check(indexrelid, true)::text) || ' checked' FROM pg_index WHERE indrelid = 'app.notifications'::regclass
$$;
SELECT is(t.check_indexes(), '5 checked', 'every row has its entry in each index, and each index is in order');
SET LOCAL enable_seqscan = off;
SELECT is((SELECT count(*) FROM app.notifications WHERE user_id BETWEEN 1 AND 3 AND NOT is_read), 8::bigint, 'a partial index finds its rows');
RESET enable_seqscan;

CREATE FUNCTION t.counted() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    before  bigint := pg_stat_get_xact_tuples_inserted('app.notifications'::regclass);
BEGIN
    PERFORM t.method();
    RETURN pg_stat_get_xact_tuples_inserted('app.notifications'::regclass) - before;
END
$$;
SELECT is(t.counted(), 65::bigint, 'the statistics count each row once');

/* ---- used only where it cannot be told from INSERT ---- */

SELECT is(t.after(ddl), 'bulk 65', 'in bulk: ' || why) FROM (VALUES
    ('ALTER TABLE app.notifications ENABLE ROW LEVEL SECURITY', 'row security that the owner is not under'),
    ('CREATE TRIGGER t BEFORE UPDATE ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.noop()', 'a trigger on UPDATE'),
    ('ALTER TABLE app.notifications DISABLE TRIGGER ALL; DO $a$ BEGIN EXECUTE (SELECT string_agg(format(''ALTER TABLE app.notifications ENABLE ALWAYS TRIGGER %I'', tgname), ''; '') FROM pg_trigger WHERE tgrelid = ''app.notifications''::regclass); END $a$', 'checks that are always enabled'),
    ('ALTER TABLE app.notifications ADD sender integer REFERENCES app.users', 'a foreign key that is null'),
    ('CREATE TABLE app.types (code text PRIMARY KEY); INSERT INTO app.types VALUES (''challenge_completed'');
      ALTER TABLE app.notifications ADD FOREIGN KEY (type) REFERENCES app.types', 'two foreign keys'),
    ('ALTER TABLE app.notifications ALTER title TYPE varchar(40), ALTER data TYPE json, ALTER created_at TYPE timestamp', 'columns of other types than the query''s'),
    ('ALTER TABLE app.notifications ADD CHECK (length(title) > 3)', 'a check of built-in functions'),
    ('ALTER TABLE app.notifications DROP CONSTRAINT notifications_pkey', 'no primary key'),
    ('CREATE TABLE app.reactions (id integer REFERENCES app.notifications)', 'a table that others refer to')
) v (ddl, why);

SELECT is(t.after(ddl), 'plain 65', 'plain: ' || why) FROM (VALUES
    ('CREATE TRIGGER t BEFORE INSERT ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.noop()', 'a trigger'),
    ('CREATE TRIGGER t AFTER INSERT ON app.notifications EXECUTE FUNCTION app.noop()', 'a trigger of the statement'),
    ('CREATE TRIGGER t BEFORE INSERT ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.noop();
      ALTER TABLE app.notifications DISABLE TRIGGER t', 'a disabled trigger'),
    ('ALTER TABLE app.notifications DISABLE TRIGGER ALL', 'checks that are disabled'),
    ('CREATE RULE r AS ON UPDATE TO app.notifications DO ALSO NOTHING', 'a rule'),
    ('CREATE TABLE app.child () INHERITS (app.notifications)', 'a child'),
    ('CREATE TABLE app.parent (user_id integer NOT NULL); ALTER TABLE app.notifications INHERIT app.parent', 'a parent'),
    ('ALTER TABLE app.notifications SET UNLOGGED', 'an unlogged table'),
    ('CREATE TABLE app.parts (LIKE app.notifications INCLUDING DEFAULTS INCLUDING IDENTITY) PARTITION BY LIST (user_id); ALTER TABLE app.parts OWNER TO cj_app;
      CREATE TABLE app.part PARTITION OF app.parts DEFAULT; SELECT challenge_jobs.bind(''notifications'', ''app.parts'')', 'a partitioned table'),
    ('CREATE DOMAIN app.words AS text; ALTER TABLE app.notifications ALTER title TYPE app.words', 'a domain'),
    ('ALTER TABLE app.notifications ADD n integer DEFAULT app.one()', 'a default of the app''s'),
    ('ALTER TABLE app.notifications ADD n integer GENERATED ALWAYS AS (app.one()) STORED', 'a generated column of the app''s'),
    ('ALTER TABLE app.notifications ADD CHECK (user_id >= app.one())', 'a check of the app''s'),
    ('CREATE INDEX ON app.notifications USING hash (user_id)', 'a hash index'),
    ('CREATE INDEX ON app.notifications USING gin (data)', 'a GIN index'),
    ('CREATE INDEX ON app.notifications ((app.same(user_id)))', 'an index on an expression of the app''s'),
    ('CREATE INDEX ON app.notifications (user_id) WHERE app.same(user_id) > 1', 'an index with a condition of the app''s'),
    ('CREATE UNIQUE INDEX ON app.notifications (user_id, body)', 'a unique index'),
    ('CREATE UNIQUE INDEX ON app.notifications (id)', 'a unique index that is no primary key'),
    ('ALTER TABLE app.notifications DROP CONSTRAINT notifications_pkey, ADD PRIMARY KEY (user_id, body)', 'a primary key that is not generated'),
    ('ALTER TABLE app.notifications DROP CONSTRAINT notifications_pkey, ADD PRIMARY KEY (id) DEFERRABLE', 'a deferrable primary key'),
    ('ALTER TABLE app.notifications ADD EXCLUDE (id WITH =)', 'an exclusion constraint'),
    ('CREATE OPERATOR CLASS app.ops FOR TYPE integer USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
      FUNCTION 1 btint4cmp(integer, integer); CREATE INDEX ON app.notifications (user_id app.ops)', 'an operator class of the app''s'),
    ('UPDATE pg_index SET indisvalid = false WHERE indexrelid = ''app.by_user''::regclass', 'an index that is being built'),
    ('UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = ''app.by_user''::regclass', 'an index that is not ready'),
    ('ALTER TABLE app.notifications ALTER CONSTRAINT user_fk DEFERRABLE', 'a deferrable foreign key'),
    ('ALTER TABLE app.notifications ALTER CONSTRAINT user_fk DEFERRABLE INITIALLY DEFERRED', 'a deferred foreign key'),
    ('ALTER TABLE app.notifications ADD sender integer DEFAULT 1 REFERENCES app.users', 'a foreign key with a default'),
    ('ALTER TABLE app.notifications ADD FOREIGN KEY (id) REFERENCES app.notifications', 'a foreign key to itself'),
    ('CREATE TABLE app.both (a integer, b text, PRIMARY KEY (a, b)); INSERT INTO app.both SELECT id, ''challenge_completed'' FROM app.users;
      ALTER TABLE app.notifications ADD FOREIGN KEY (user_id, type) REFERENCES app.both', 'a foreign key of two columns'),
    ('CREATE TABLE app.big (id bigint PRIMARY KEY); INSERT INTO app.big SELECT id FROM app.users;
      ALTER TABLE app.notifications ADD FOREIGN KEY (user_id) REFERENCES app.big', 'a foreign key to another type'),
    ('CREATE TABLE app.split (id integer PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE app.all_of_it PARTITION OF app.split DEFAULT;
      INSERT INTO app.split SELECT id FROM app.users; ALTER TABLE app.split OWNER TO cj_app; ALTER TABLE app.all_of_it OWNER TO cj_app;
      ALTER TABLE app.notifications ADD FOREIGN KEY (user_id) REFERENCES app.split', 'a foreign key to a partitioned table'),
    ('ALTER TABLE app.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', 'a foreign key to a table with forced row security'),
    ('REVOKE SELECT ON app.notifications FROM cj_app', 'an owner who may not read what he inserts'),
    ('SET LOCAL session_replication_role = replica', 'another replication role')
) v (ddl, why);

SELECT matches(t.error($$ SELECT t.after('REVOKE INSERT ON app.notifications FROM cj_app') $$), '^42501', 'an owner without INSERT is refused');

/* ---- the same errors ---- */

/* t.both: what a run does after some DDL, in bulk and plain */
CREATE FUNCTION t.both(ddl text) RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT regexp_replace(t.after(format('%s; SELECT t.set(''{"insert": "%s"}'')', ddl, insert)), '^\w+ ', '') FROM unnest('{auto,plain}'::text[]) insert
$$;
SET client_min_messages = error;
SELECT results_eq($$ SELECT t.both('DELETE FROM app.users WHERE id IN (40, 2)') $$, $$ VALUES ('0 3 23503'), ('0 3 23503') $$,
                  'who has gone keeps those challenges from being decided that he is in');
SELECT results_eq($$ SELECT t.both('DELETE FROM app.users WHERE id = 40') $$, $$ VALUES ('5 1 23503'), ('5 1 23503') $$, 'and no other');
SELECT is(t.after('DELETE FROM app.users WHERE id = 40'), 'mixed 5 1 23503', 'the others are inserted in bulk');
SELECT results_eq($$ SELECT t.both('ALTER TABLE app.notifications ADD CHECK (user_id <> 3)') $$, $$ VALUES ('2 2 23514'), ('2 2 23514') $$, 'a check');
SELECT results_eq($$ SELECT t.both('ALTER TABLE app.notifications ALTER is_read SET DEFAULT NULL, ALTER is_read SET NOT NULL') $$,
                  $$ VALUES ('0 3 23502'), ('0 3 23502') $$, 'a column that must not be null');
SELECT results_eq($$ SELECT t.both('ALTER TABLE app.notifications ALTER title TYPE varchar(5)') $$,
                  $$ VALUES ('0 3 22001'), ('0 3 22001') $$, 'a text that is too long');
SELECT results_eq($$ SELECT t.both('INSERT INTO app.notifications (id, user_id, type, title, body) OVERRIDING SYSTEM VALUE
                                    VALUES (0, 1, '''', '''', ''''); ALTER TABLE app.notifications ALTER id SET MINVALUE -1000 RESTART -60') $$,
                  $$ VALUES ('65'), ('65') $$, 'a generated key that is taken is passed by the second attempt');

/* ---- another owner of what is referred to, keys that are equal and not the same ---- */

CREATE ROLE cj_users;
SELECT is(t.after('GRANT CREATE, USAGE ON SCHEMA app TO cj_users; ALTER TABLE app.users OWNER TO cj_users; REVOKE ALL ON app.users FROM cj_app'),
          'bulk 65', 'a foreign key is checked as the owner of the table that it refers to');
SELECT is(t.after('ALTER TABLE app.notifications DROP CONSTRAINT user_fk, ALTER user_id TYPE numeric; ALTER TABLE app.users ALTER id TYPE numeric;
                   ALTER TABLE app.challenge_members ALTER user_id TYPE numeric; UPDATE app.challenge_members SET user_id = 2.00 WHERE challenge_id = 2 AND user_id = 2;
                   ALTER TABLE app.notifications ADD FOREIGN KEY (user_id) REFERENCES app.users'),
          'bulk 65', 'keys are compared by the type''s operator');
SELECT is(t.after('ALTER TABLE app.users RENAME TO "odd ""users""; --"; ALTER TABLE app."odd ""users""; --" RENAME id TO "the id"'),
          'bulk 65', 'names are quoted');

/* ---- many rows ---- */

INSERT INTO app.users SELECT generate_series(101, 3000);
INSERT INTO app.challenges SELECT n, 'many ' || n FROM generate_series(5, 30) n;
INSERT INTO app.challenge_members SELECT n, u FROM generate_series(5, 30) n, generate_series(1, 1500) u;
SELECT is(t.method(), 'bulk 39065', 'more rows than are kept in memory at once');
SELECT is((SELECT count(*) FROM app.notifications), 39065::bigint, 'all of them are there');
SELECT is(t.check_indexes(), '5 checked', 'in each index');

/* the last of the first 32768 rows is too large for memory, so that the query's rows come back from disk */
INSERT INTO app.challenges VALUES (31, repeat('long ', 7000000)), (32, 'last');
INSERT INTO app.challenge_members SELECT 32, u FROM generate_series(1, 20) u UNION ALL SELECT 31, 1257;
SELECT is(t.method(), 'bulk 39086', 'more than goes into memory');
SELECT is((SELECT count(*) FROM app.notifications WHERE length(body) > 35000000), 1::bigint, 'the large one is there as well');
DELETE FROM app.challenges WHERE id = 31;

/* ---- reminders ---- */

ALTER TABLE app.users ADD timezone text DEFAULT 'UTC';
SELECT challenge_jobs.bind('users', 'app.users') \g /dev/null
CREATE FUNCTION t.remind() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    r   challenge_jobs.job_run;
BEGIN
    DELETE FROM app.notifications;
    DELETE FROM challenge_jobs.reminder;
    DELETE FROM challenge_jobs.reminder_zone;
    UPDATE app.challenges SET status = 'active', end_date = '2024-12-31' WHERE id < 5;
    PERFORM send_streak_reminders('2024-05-15 08:10+00');
    r := t.last_run();
    RETURN concat_ws(' ', r.result->>'insert', r.result->>'reminded');
END
$$;
SELECT is(t.remind(), 'bulk 60', 'reminders are inserted in bulk');
CREATE TABLE t.reminders AS SELECT t.rows() AS line;
SELECT challenge_jobs.alter_job('send_streak_reminders', settings => '{"insert": "plain"}') \g /dev/null
SELECT is(t.remind(), 'plain 60', 'or plain where that is set');
SELECT results_eq('SELECT t.rows()', 'SELECT line FROM t.reminders', 'the rows are the same');

SELECT finish();
ROLLBACK;
