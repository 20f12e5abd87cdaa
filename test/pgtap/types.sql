/*
 * The types and names that an app may have: each combination has to work as the simplest does.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
GRANT USAGE ON SCHEMA ext, t TO PUBLIC;
CREATE DOMAIN t.key_uuid AS uuid CHECK (value IS NOT NULL);
CREATE DOMAIN t.key_text AS text CHECK (length(value) > 3);
CREATE TYPE t.state AS ENUM ('draft', 'active', 'completed', 'failed');
CREATE TYPE t."State of ""it""" AS ENUM ('active', 'completed', 'failed');
CREATE DOMAIN t.state_text AS text CHECK (value IN ('active', 'completed', 'failed', 'draft'));
CREATE DOMAIN t.state_enum AS t.state NOT NULL;
CREATE DOMAIN t.state_domain AS t.state_enum;

/*
 * t.try makes the tables with these types, five challenges (two pass, two fail, one is not due), two
 * members each, runs the job function and says what has come of it.
 */
CREATE FUNCTION t.try(id text, reference text, user_id text, status text, key text DEFAULT '%s', settings jsonb DEFAULT '{}',
                      partition text DEFAULT '') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    DROP TABLE app.challenges, app.challenge_members, app.challenge_member_stats, app.notifications;
    EXECUTE format('CREATE TABLE app.challenges (id %s, name varchar(40), status %s, end_date date) %s', id, status, partition);
    EXECUTE format('CREATE TABLE app.challenge_members (challenge_id %s, user_id %s)', reference, user_id);
    EXECUTE format('CREATE TABLE app.challenge_member_stats (challenge_id %s, completion_rate numeric)', reference);
    EXECUTE format('CREATE TABLE app.notifications (user_id %s, body text, data jsonb)', user_id);
    IF partition <> '' THEN
        CREATE TABLE app.part_old PARTITION OF app.challenges DEFAULT;
    END IF;
    FOR n IN 1..5 LOOP
        EXECUTE format('INSERT INTO app.challenges VALUES (%L, %L, ''active'', %L)', format(key, n), 'c' || n,
                       CASE n WHEN 5 THEN 'infinity' ELSE '2024-01-01' END);
        EXECUTE format('INSERT INTO app.challenge_members SELECT %L, format(%L, u)::%s FROM generate_series(1, 2) u', format(key, n), key, user_id);
        EXECUTE format('INSERT INTO app.challenge_member_stats VALUES (%L, %s)', format(key, n), 70 + n % 2 * 20);
    END LOOP;
    EXECUTE format('ALTER TABLE app.challenges OWNER TO cj_app; ALTER TABLE app.challenge_members OWNER TO cj_app;
                    ALTER TABLE app.challenge_member_stats OWNER TO cj_app; ALTER TABLE app.notifications OWNER TO cj_app');
    PERFORM t.set(settings);
    result := t.run(dry_run => true) || ', ' || t.run() || ', ' || t.run();
    EXECUTE 'SELECT $1 || '', '' || string_agg(status::text, '' '' ORDER BY name) FROM app.challenges' INTO result USING result;
    EXECUTE 'SELECT $1 || '', '' || count(*) || ''/'' || count(DISTINCT n) FROM app.notifications n' INTO result USING result;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE FUNCTION t.good() RETURNS text LANGUAGE sql AS $$
    SELECT '2 2 8, 2 2 8, 0 0 0, completed failed completed failed active, 8/8'
$$;

/* ---- keys ---- */
SELECT is(t.try(id, reference, user_id, 'text', key, settings), t.good(), format('keys %s, referred to as %s, users %s, settings %s', id, reference, user_id, settings))
  FROM (VALUES ('integer', 'integer', 'integer', '%s'), ('bigint', 'bigint', 'bigint', '%s'), ('smallint', 'bigint', 'integer', '%s'),
               ('integer', 'bigint', 'bigint', '%s'), ('bigint', 'integer', 'smallint', '%s'), ('numeric', 'numeric', 'numeric', '%s'),
               ('bigint', 'numeric', 'text', '%s'), ('uuid', 'uuid', 'uuid', '00000000-0000-0000-0000-00000000000%s'),
               ('text', 'text', 'text', 'key %s'), ('varchar(20)', 'varchar(30)', 'varchar', 'key''"{}%s'), ('text', 'varchar', 'text', 'key %s'),
               ('varchar', 'text', 'char(10)', 'key %s'), ('t.key_uuid', 'uuid', 'uuid', '00000000-0000-0000-0000-00000000000%s'),
               ('uuid', 't.key_uuid', 't.key_uuid', '00000000-0000-0000-0000-00000000000%s'), ('t.key_text', 't.key_text', 'text', 'key %s'),
               ('char(12)', 'char(12)', 'text', 'key %s'), ('ext.citext', 'ext.citext', 'ext.citext', 'Key %s'), ('text COLLATE "C"', 'text COLLATE "POSIX"', 'text', 'key %s'),
               ('bytea', 'bytea', 'bytea', 'key %s'), ('date', 'date', 'date', '2024-01-0%s'), ('inet', 'inet', 'inet', '10.0.0.%s'),
               ('oid', 'oid', 'oid', '%s'), ('name', 'name', 'name', 'key %s')) k(id, reference, user_id, key),
       unnest(ARRAY['{"batch_size": null}', '{"batch_size": 1}']::jsonb[]) settings;
SELECT matches(t.try('text', 'uuid', 'uuid', 'text', '00000000-0000-0000-0000-00000000000%s'),
               '^42804: entity "challenge_members": column "challenge_id" of app.challenge_members is of type uuid, column "id" of app.challenges of type text',
               'keys that cannot be compared are an error');
SELECT matches(t.try('text', 'ext.citext', 'text', 'text', 'key %s'), '^(no error|42804: entity "challenge_members")',
               'text and citext work, or are an error that says so');
CREATE FUNCTION ext.trap(ext.citext, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'TRAP'; END $$;
CREATE OPERATOR ext.= (LEFTARG = ext.citext, RIGHTARG = text, FUNCTION = ext.trap);
SELECT matches(t.try('text', 'ext.citext', 'text', 'text', 'key %s'), '^42804: entity "challenge_members"', 'an operator planted between two types is not taken');
DROP OPERATOR ext.= (ext.citext, text);
SELECT matches(t.try('point', 'point', 'text', 'text', '(1,%s)'), '^42804: entity "challenges": column "id" for "id" of app.challenges is of type point',
               'a key that cannot be compared is an error');
SELECT matches(t.try('json', 'json', 'text', 'text', '%s'), '^42804: entity "challenges": column "id"', 'json is no key');

/* an empty key in a table without a primary key */
SELECT t.try('text', 'text', 'text', 'text', 'key %s') \g /dev/null
UPDATE app.challenges SET status = 'active';
INSERT INTO app.challenges VALUES (NULL, 'nobody', 'active', '2024-01-01');
SELECT is(t.run(), '2 2 8', 'a challenge with key NULL does not disturb the others');
SELECT t.try('integer', 'integer', 'integer', 'text') \g /dev/null
UPDATE app.challenges SET status = 'active';
UPDATE app.challenges SET id = 0 WHERE name = 'c5';
INSERT INTO app.challenges VALUES (NULL, 'nobody', 'active', '2024-01-01');
SELECT is(t.run(), '2 2 8', 'nor with integer keys');

/* ---- status ---- */
SELECT is(t.try('integer', 'integer', 'integer', status), t.good(), 'status ' || status)
  FROM unnest(ARRAY['text', 'varchar', 'varchar(9)', 'char(9)', 'char(20)', 't.state', 't."State of ""it"""', 't.state_text', 't.state_enum', 't.state_domain']) status;
SELECT matches(t.try('integer', 'integer', 'integer', 'varchar(8)'), '^22001: entity "challenges": label "completed" does not fit', 'a status too short for a label');
SELECT matches(t.try('integer', 'integer', 'integer', 'char(8)'), '^22001: entity "challenges": label "completed" does not fit', 'a label that does not fit into char(n) is refused');
SELECT matches(t.try('integer', 'integer', 'integer', 'integer', '%s'), '^(42804: entity|22P02)', 'a status that is a number');

/* ---- partitions ---- */
SELECT is(t.try('integer', 'integer', 'integer', 'text', partition => p), t.good(), p)
  FROM unnest(ARRAY['PARTITION BY LIST (status)', 'PARTITION BY RANGE (end_date)', 'PARTITION BY LIST (id)']) p;
SELECT t.try('integer', 'integer', 'integer', 'text', partition => 'PARTITION BY LIST (status)') \g /dev/null
UPDATE app.challenges SET status = 'active';
CREATE TABLE app.part_failed PARTITION OF app.challenges FOR VALUES IN ('failed');
ALTER TABLE app.notifications RENAME TO old_notifications;
CREATE TABLE app.notifications (user_id integer, body text, created_at timestamptz) PARTITION BY RANGE (created_at);
CREATE TABLE app.notifications_default PARTITION OF app.notifications DEFAULT;
ALTER TABLE app.notifications OWNER TO cj_app;
SELECT is(t.run(), '2 2 8', 'challenges that move to another partition, notifications partitioned by a created_at without a default');
SELECT is((SELECT count(*) FROM app.part_failed), 2::bigint, 'challenges whose status is the partition key have moved to its partition');
SELECT is((SELECT count(*) FROM app.notifications WHERE created_at = now()), 8::bigint, 'the notifications have their time');

/* ---- names ---- */
CREATE SCHEMA "The ""App""" AUTHORIZATION cj_app;
CREATE SCHEMA "stats; {x}" AUTHORIZATION cj_app;
SET ROLE cj_app;
CREATE TYPE "The ""App"""."Status {x}" AS ENUM ('it''s on', 'it''s "done"', 'back\slash');
CREATE TABLE "The ""App"""."Challenges; {challenges.id}" ("Id" uuid, "select" text, "a ""b"" {/}" "The ""App"""."Status {x}", "end" timestamptz, "ünï" int);
CREATE TABLE "The ""App"""."order" ("from" uuid, "to" bigint);
CREATE TABLE "stats; {x}"."group" ("where" uuid, "%" real);
CREATE TABLE "The ""App"""."User" ("for" bigint, "$1" varchar, "title 'x'" varchar(100), "b" text, d json);
RESET ROLE;
SELECT challenge_jobs.bind('challenges', '"The ""App"""."Challenges; {challenges.id}"',
                           '{"id": "Id", "name": "select", "status": "a \"b\" {/}", "end_date": "end"}',
                           '{"active": "it''s on", "completed": "it''s \"done\"", "failed": "back\\slash"}'),
       challenge_jobs.bind('challenge_members', '"The ""App"""."order"', '{"challenge_id": "from", "user_id": "to"}'),
       challenge_jobs.bind('challenge_member_stats', '"stats; {x}"."group"', '{"challenge_id": "where", "completion_rate": "%"}'),
       challenge_jobs.bind('notifications', '"The ""App"""."User"',
                           '{"user_id": "for", "type": "$1", "title": "title ''x''", "body": "b", "data": "d"}',
                           '{"challenge_completed": "it''s; over\\"}') \g /dev/null
INSERT INTO "The ""App"""."Challenges; {challenges.id}"
SELECT md5(n::text)::uuid, 'c' || n, 'it''s on', '2024-01-01', n FROM generate_series(1, 4) n;
INSERT INTO "The ""App"""."order" SELECT md5(n::text)::uuid, 10 * n FROM generate_series(1, 4) n;
INSERT INTO "stats; {x}"."group" SELECT md5(n::text)::uuid, 70 + n % 2 * 20 FROM generate_series(1, 4) n;
SELECT is(t.run(dry_run => true) || ', ' || t.run(), '2 2 4, 2 2 4', 'names that need quoting everywhere');
SELECT is((SELECT string_agg("a ""b"" {/}"::text, ', ' ORDER BY "ünï") FROM "The ""App"""."Challenges; {challenges.id}"),
          'it''s "done", back\slash, it''s "done", back\slash', 'labels that need quoting');
SELECT is((SELECT string_agg(concat_ws('/', "for", "$1", "title 'x'", b, d->>'status'), ' ' ORDER BY "for") FROM "The ""App"""."User" WHERE "for" <= 20),
          '10/it''s; over\/Challenge Completed!/Your challenge "c1" has ended/it''s "done" '
          '20/it''s; over\/Challenge Completed!/Your challenge "c2" has ended/back\slash', 'the notifications have the app''s labels');
SELECT t.set('{"batch_size": 1}') \g /dev/null
UPDATE "The ""App"""."Challenges; {challenges.id}" SET "a ""b"" {/}" = 'it''s on';
SELECT is(t.run(), '2 2 4', 'the same in batches');

SELECT * FROM finish();
ROLLBACK;
