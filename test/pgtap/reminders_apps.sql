/*
 * Reminders in apps of other shapes: batches in which somebody cannot be notified, names and types of every
 * kind, partitioned tables, labels that are missing; and what the doctor says of them.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

/* ---- batches ---- */
CREATE FUNCTION t.crowd(size integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    notified    text;
BEGIN
    PERFORM t.clear(), t.setr(jsonb_build_object('batch_size', size));
    PERFORM t.join(n, CASE n % 3 WHEN 0 THEN 'UTC' WHEN 1 THEN 'Etc/UTC' END, n, 1) FROM generate_series(1, 25) n;
    notified := t.morning();
    RETURN (notified = (SELECT string_agg(n::text, ' ' ORDER BY n) FROM generate_series(1, 25) n)) || ' ' || (SELECT count(DISTINCT (user_id, body)) FROM app.notifications)
        || ' ' || (SELECT bool_and(body LIKE '%streak of ' || user_id || ' in%') FROM app.notifications) || ' ' || (SELECT count(*) FROM challenge_jobs.reminder);
END
$$;
SELECT is(t.crowd(size), 'true 25 true 25', 'batches of ' || size) FROM unnest(ARRAY[1, 2, 7, 24, 25, 26, 10000]) size;

SET ROLE cj_app;
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id = ANY (current_setting('t.bad')::integer[]) THEN
        RAISE EXCEPTION USING errcode = current_setting('t.state'), message = 'not this one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.refuse();
RESET ROLE;
SET t.bad = '{}';
SET t.state = 'P0001';
CREATE FUNCTION t.bad(bad text, size integer, state text DEFAULT 'P0001') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first   text;
    rows    text;
    second  text;
BEGIN
    PERFORM t.clear(), t.setr(jsonb_build_object('batch_size', size)), set_config('t.bad', bad, true), set_config('t.state', state, true);
    PERFORM t.join(n) FROM generate_series(1, 25) n;
    first := t.remind();
    rows := concat_ws(', ', (t.last_run()).status, (t.last_run()).sqlstate, (t.last_run()).detail, (t.last_run()).result->'errors', (SELECT count(*) FROM challenge_jobs.reminder), (SELECT count(*) FROM challenge_jobs.reminder_zone));
    PERFORM set_config('t.bad', '{}', true);
    second := t.remind('2024-05-15 08:15+00');
    RETURN concat_ws(' | ', first, rows, second, (SELECT count(*) || '/' || count(DISTINCT user_id) FROM app.notifications));
END
$$;
SELECT is(t.bad('{7}', size), '0 24 | failed, P0001, Not done (1): user 7., 1, 24, 0 | 1 1 | 25/25', format('one who cannot be notified, batches of %s: all others are notified, the next run says the one', size))
  FROM unnest(ARRAY[1, 2, 10, 100]) size;
SELECT is(t.bad('{3,7,25}', size), '0 22 | failed, P0001, Not done (3): user 3, user 7, user 25., 3, 22, 0 | 1 3 | 25/25', 'three of them, batches of ' || size) FROM unnest(ARRAY[1, 10, 100]) size;
SELECT is(t.bad('{7}', 10, state), '0 24 | failed, ' || state || ', Not done (1): user 7., 1, 24, 0 | 1 1 | 25/25', 'errors of class ' || left(state, 2)) FROM unnest('{57014,57P01,53200,55P03,40P01,23503}'::text[]) state;
SELECT matches(t.error($$SELECT t.bad('{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25}', 10)$$), '^P0001: not this one$', 'where nobody at all can be notified, the job function raises the error');
DROP TRIGGER refuse ON app.notifications;

/* ---- a trigger that swallows the notification, and one that writes to the ledger's tables ---- */
SET ROLE cj_app;
CREATE FUNCTION app.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON app.notifications FOR EACH ROW WHEN (NEW.user_id = 2) EXECUTE FUNCTION app.swallow();
RESET ROLE;
SELECT t.clear(), t.join(1), t.join(2) \g /dev/null
SELECT is(t.remind() || ', ' || t.remind(), '1 1, 0 0', 'a notification that the app does not want is not counted, nor tried again');
DROP TRIGGER swallow ON app.notifications;

/* ---- types ---- */
CREATE DOMAIN t.zone AS varchar(40) CHECK (value <> 'x');
CREATE FUNCTION t.shape(id text, reference text, zone text, key text, streak text DEFAULT 'integer', data text DEFAULT 'jsonb', partitioned boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    PERFORM t.clear();
    DROP TABLE app.users, app.challenge_members, app.notifications;
    EXECUTE format('CREATE TABLE app.users (id %s, timezone %s) %s', id, zone, CASE WHEN partitioned THEN 'PARTITION BY HASH (id)' END);
    EXECUTE format('CREATE TABLE app.challenge_members (challenge_id integer, user_id %s, current_streak %s, last_checkin_at date)', reference, streak);
    EXECUTE format('CREATE TABLE app.notifications (user_id %s, type text, title text, body text, data %s, created_at timestamptz) %s', reference, data,
                   CASE WHEN partitioned THEN 'PARTITION BY RANGE (created_at)' END);
    IF partitioned THEN
        CREATE TABLE app.users_0 PARTITION OF app.users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE app.users_1 PARTITION OF app.users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE app.notifications_now PARTITION OF app.notifications FOR VALUES FROM (now() - interval '1 day') TO (now() + interval '1 day');
    END IF;
    ALTER TABLE app.users OWNER TO cj_app;
    ALTER TABLE app.challenge_members OWNER TO cj_app;
    ALTER TABLE app.notifications OWNER TO cj_app;
    CREATE INDEX ON app.users (timezone);
    INSERT INTO app.challenges (id, name, end_date) VALUES (1, 'c1', 'infinity'), (2, 'c2', 'infinity');
    FOR n IN 1..5 LOOP
        EXECUTE format('INSERT INTO app.users VALUES (%L, %L)', format(key, n), (ARRAY['UTC', 'Europe/London', 'europe/london', NULL, 'Asia/Tokyo'])[n]);
        EXECUTE format('INSERT INTO app.challenge_members VALUES (1, %1$L, 2), (2, %1$L, 4)', format(key, n));
    END LOOP;
    result := t.remind('2024-05-15 08:00+00', true) || ', ' || t.remind('2024-05-15 08:00+00');
    DELETE FROM challenge_jobs.reminder_zone;
    RETURN concat_ws(', ', result, t.remind('2024-05-15 08:00+00'), (SELECT count(*) FROM app.notifications n WHERE n.data::jsonb @> '{"streak": 4, "challenge_ids": [2, 1], "local_date": "2024-05-15"}'));
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
SELECT is(t.shape(id, reference, zone, key, streak, data, partitioned), '4 4, 4 4, 4 0, 4', format('keys %s and %s, zones %s, streaks %s, data %s, %s', id, reference, zone, streak, data, partitioned))
  FROM (VALUES ('integer', 'integer', 'text', '%s', 'integer', 'jsonb', false), ('integer', 'integer', 'text', '%s', 'integer', 'jsonb', true), ('bigint', 'integer', 'varchar(40)', '%s', 'smallint', 'json', false),
               ('uuid', 'uuid', 't.zone', '00000000-0000-0000-0000-00000000000%s', 'bigint', 'text', false), ('uuid', 'uuid', 't.zone', '00000000-0000-0000-0000-00000000000%s', 'numeric', 'json', true),
               ('text', 'varchar', 'varchar', 'key ''"{}%s', 'integer', 'text', false), ('text COLLATE "C"', 'text', 'text COLLATE "C"', 'key %s', 'integer', 'jsonb', true),
               ('char(10)', 'char(10)', 'char(20)', 'key %s', 'real', 'jsonb', false), ('bytea', 'bytea', 'name', '\x0%s', 'double precision', 'jsonb', false),
               ('date', 'date', 'text', '2024-01-0%s', 'integer', 'jsonb', false)) v(id, reference, zone, key, streak, data, partitioned);
/* the ledger must not depend on how the session at hand writes values */
SELECT t.shape('bytea', 'bytea', 'text', '\x0%s') \g /dev/null
SET LOCAL bytea_output = 'escape';
DELETE FROM challenge_jobs.reminder_zone;
SELECT is(t.remind('2024-05-15 08:00+00'), '4 0', 'keys of type bytea, and a session with bytea_output = escape: nobody is notified twice');
SELECT t.shape('date', 'date', 'text', '2024-01-0%s') \g /dev/null
SET LOCAL datestyle = 'German';
DELETE FROM challenge_jobs.reminder_zone;
SELECT is(t.remind('2024-05-15 08:00+00'), '4 0', 'keys of type date, and a session with another datestyle');
RESET bytea_output;
RESET datestyle;

/* ---- the doctor ---- */
CREATE FUNCTION t.doctor(check_like text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' | ', check_name, status, finding, remedy), E'\n' ORDER BY check_name, finding) FROM challenge_jobs.doctor() WHERE check_name LIKE check_like
$$;
SELECT t.shape('integer', 'integer', 'text', '%s') \g /dev/null
DELETE FROM app.users WHERE timezone IS NULL;
SELECT is(t.doctor('time_zones:%'), 'time_zones:users | ok | every user has a known time zone', 'zones: all is well');
INSERT INTO app.users VALUES (10, NULL), (11, NULL), (12, 'Mars'), (13, 'Mars'), (14, 'Venus'), (15, '');
SELECT is(t.doctor('time_zones:%'), 'time_zones:users | warning | 2 users have no time zone, and 4 have an unknown one ("", "Mars", "Venus"): "UTC" is used instead | SELECT timezone, count(*) FROM app.users GROUP BY 1 ORDER BY 2;', 'zones: who is without');
INSERT INTO app.users SELECT 20 + n, 'Moon ' || chr(64 + n) FROM generate_series(1, 5) n;
SELECT alike(t.doctor('time_zones:%'), '%2 users have no time zone, and 9 have an unknown one ("", "Mars", "Moon A", "Moon B", "Moon C", ...): %', 'zones: not all are named');
SELECT is(t.doctor('index:users(%'), 'index:users(timezone) | ok | there is an index', 'an index on the zones');
SELECT is(t.doctor('index:challenge_members(user_id)'),
          'index:challenge_members(user_id) | warning | app.challenge_members has no index that begins with user_id: each batch reads the whole table | CREATE INDEX CONCURRENTLY ON app.challenge_members (user_id);', 'one that is missing');
SELECT is(t.doctor('unique:users(%'), 'unique:users(id) | warning | app.users has no unique index on id: users with the same key count as one | CREATE UNIQUE INDEX CONCURRENTLY ON app.users (id);', 'a key that is none');
ALTER TABLE app.challenge_members DROP current_streak, DROP last_checkin_at;
SELECT alike(t.doctor('columns:challenge_members'), 'columns:challenge_members | warning | without current_streak every active member is reminded%columns:challenge_members | warning | without last_checkin_at, users who have already checked in are reminded, too', 'columns that are missing');
ALTER TABLE app.users DROP timezone;
SELECT alike(t.doctor('time_zones:%'), 'time_zones:users | warning | without a time zone column all users are assumed to be in "UTC"%', 'no zones at all');

/* ---- names and enums ---- */
CREATE SCHEMA "The ""App""" AUTHORIZATION cj_app;
SET ROLE cj_app;
CREATE TYPE "The ""App"""."Kind {x}" AS ENUM ('it''s over', 'keep "it"');
CREATE TYPE "The ""App"""."State" AS ENUM ('on', 'off');
CREATE TABLE "The ""App"""."User; {users}" ("Id" uuid, "zone ""z""" varchar(40)) PARTITION BY LIST ("zone ""z""");
CREATE TABLE "The ""App"""."User 1" PARTITION OF "The ""App"""."User; {users}" DEFAULT;
CREATE TABLE "The ""App"""."Challenge" ("Key" text, "select" text, "State" "The ""App"""."State", "end" date);
CREATE TABLE "The ""App"""."order" ("from" text, "to" uuid, "{/}" "The ""App"""."State", "$1" bigint, "last" timestamp);
CREATE TABLE "The ""App"""."Message" ("for" uuid, "type" "The ""App"""."Kind {x}", "t" varchar(100), "b" text, "d" json, "at" timestamp) PARTITION BY RANGE ("at");
CREATE TABLE "The ""App"""."Message 1" PARTITION OF "The ""App"""."Message" DEFAULT;
RESET ROLE;
DO $$
BEGIN
    PERFORM t.clear(),
        challenge_jobs.bind('users', '"The ""App"""."User; {users}"', '{"id": "Id", "timezone": "zone \"z\""}'),
        challenge_jobs.bind('challenges', '"The ""App"""."Challenge"', '{"id": "Key", "name": "select", "status": "State", "end_date": "end"}', '{"active": "on", "completed": "off", "failed": "off"}'),
        challenge_jobs.bind('challenge_members', '"The ""App"""."order"', '{"challenge_id": "from", "user_id": "to", "status": "{/}", "current_streak": "$1", "last_checkin_at": "last"}', '{"active": "on"}'),
        challenge_jobs.bind('notifications', '"The ""App"""."Message"', '{"user_id": "for", "type": "type", "title": "t", "body": "b", "data": "d", "created_at": "at"}', '{"challenge_completed": "it''s over"}');
END
$$;
INSERT INTO "The ""App"""."User; {users}" SELECT md5(n::text)::uuid, (ARRAY['UTC', 'Europe/London', 'Asia/Tokyo', NULL])[n] FROM generate_series(1, 4) n;
INSERT INTO "The ""App"""."Challenge" VALUES ('a b', 'A "b"', 'on', 'infinity'), ('c', 'over', 'off', 'infinity');
INSERT INTO "The ""App"""."order" SELECT c, md5(n::text)::uuid, CASE WHEN n = 4 THEN 'off' ELSE 'on' END::"The ""App"""."State", n FROM generate_series(1, 4) n, unnest('{a b,c}'::text[]) c;
CREATE FUNCTION t.hint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ': ' || hint;
END
$$;
SELECT is(t.hint('SELECT t.remind()'), '42704: Run: ALTER TYPE "The ""App"""."Kind {x}" ADD VALUE ''streak_reminder'';', 'an enum without the label: the error says what to type');
SELECT alike(t.doctor('%notifications%'), '%streak_reminder%ALTER TYPE "The ""App"""."Kind {x}" ADD VALUE ''streak_reminder'';%', 'so does the doctor');
SELECT challenge_jobs.bind('notifications', '"The ""App"""."Message"', '{"user_id": "for", "type": "type", "title": "t", "body": "b", "data": "d", "created_at": "at"}', '{"streak_reminder": "keep \"it\"", "challenge_completed": "it''s over"}') \g /dev/null
SELECT is(t.remind(dry_run => true) || ', ' || t.remind(), '3 2, 3 2', 'names that need quoting, everywhere');
SELECT is((SELECT string_agg(concat_ws('/', "type", b, d), ' ' ORDER BY b) FROM "The ""App"""."Message"),
          'keep "it"/Check in today to keep your streak of 1 in "A "b""/{"streak": 1, "local_date": "2024-05-15", "challenge_ids": ["a b"]} '
          'keep "it"/Check in today to keep your streak of 2 in "A "b""/{"streak": 2, "local_date": "2024-05-15", "challenge_ids": ["a b"]}', 'labels stand in the notifications of an app whose names must be quoted');

SELECT * FROM finish();
ROLLBACK;
