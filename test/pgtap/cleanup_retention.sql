/*
 * cleanup_expired_notifications: retention_by_type and unread_retention. What goes is compared with a rule in plain
 * SQL, over every type of column and every way of reading; what is kept is not read again.
 *
 *   t.keep(settings)           sets the two settings; null: the default
 *   t.try(n, few)              fills the table with n rows, runs the job, compares: how it was read, and what is wrong
 *   t.reads()                  runs the job once more: how many rows it has read from the table
 */
BEGIN;
\ir app.psql
SELECT no_plan();
SET TIME ZONE 'UTC';

CREATE FUNCTION t.keep(by_type jsonb, unread text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.alter_job('cleanup_expired_notifications',
                                    settings => jsonb_build_object('retention_by_type', by_type, 'unread_retention', unread))
$$;
CREATE FUNCTION t.clean(as_of timestamptz DEFAULT '2024-06-30 12:00+00', dry_run boolean DEFAULT false) RETURNS bigint LANGUAGE sql AS $$
    SELECT notifications FROM public.cleanup_expired_notifications(clean.as_of, clean.dry_run)
$$;
CREATE FUNCTION t.ways() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(w.key || ' ' || w.value, ', ' ORDER BY w.key)
      FROM jsonb_each_text((t.last_run()).result->'tables') w
     WHERE w.value <> '0'
$$;
CREATE FUNCTION t.settings() RETURNS jsonb LANGUAGE sql AS $$
    SELECT settings FROM challenge_jobs.job WHERE job = 'cleanup_expired_notifications'
$$;
CREATE FUNCTION t.before(retention text) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT CASE WHEN retention = 'never' THEN '-infinity' ELSE '2024-06-30 12:00+00'::timestamptz - retention::interval END
$$;
/* The rule: kept for the longer of what its type and, if it is unread, unread_retention say. */
CREATE FUNCTION t.stays(type text, is_read boolean, created_at timestamptz, expires_at timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT (expires_at < '2024-06-30 12:00+00') IS NOT TRUE
           AND (created_at < least(t.before(coalesce(t.settings() #>> ARRAY['retention_by_type', type], '30 days')),
                                   CASE WHEN t.settings() ->> 'unread_retention' <> 'none' AND is_read IS NOT TRUE
                                        THEN t.before(t.settings() ->> 'unread_retention') END)) IS NOT TRUE
$$;

/* ---- what can be set ---- */
SELECT is(t.settings() ->> 'retention_by_type' || ' ' || (t.settings() ->> 'unread_retention'), '{} none', 'by default all types are alike, read or not');
SELECT is(t.error(format('SELECT t.keep(%L)', v)),
          '22023: invalid value for setting "retention_by_type" of job "cleanup_expired_notifications"', format('%s is refused', v))
  FROM unnest(ARRAY['[]', '"never"', '{"a": 3}', '{"a": null}', '{"a": {"b": "1 day"}}', '{"a": "often"}', '{"a": "-1 day"}', '{"a": "200 years"}', '{"a": "none"}']) v;
SELECT is(t.error($$SELECT t.keep('{"a": "1 day", "b c": "never", "": "0"}', '1 year')$$), 'no error', 'intervals and never are not');
SELECT is(t.settings() -> 'retention_by_type', '{"a": "1 day", "b c": "never", "": "0"}', 'and are in force');
SELECT is(t.error($$SELECT t.keep(NULL, 'often')$$),
          '22023: invalid value for setting "unread_retention" of job "cleanup_expired_notifications"', 'so is a word that there is not');
SELECT t.keep(NULL) \g /dev/null
SELECT is(t.settings() -> 'retention_by_type', '{}', 'null is the default again');

/* ---- by hand ---- */
ALTER TABLE app.notifications ADD is_read boolean, ADD expires_at timestamptz;
CREATE FUNCTION t.fill() RETURNS void LANGUAGE sql AS $$
    DELETE FROM app.notifications;
    INSERT INTO app.notifications (user_id, type, title, body, created_at, is_read, expires_at)
    VALUES (1, 'friend_request', 'friend old', '', '2020-01-01', true, NULL),
           (1, 'friend_request', 'friend expired', '', '2024-06-29', false, '2024-06-30'),
           (1, 'result', 'result 40', '', '2024-05-21', true, NULL),
           (1, 'result', 'result 100', '', '2024-03-20', true, NULL),
           (1, 'streak_reminder', 'streak 3', '', '2024-06-27', true, NULL),
           (1, 'streak_reminder', 'streak 3 unread', '', '2024-06-27', false, NULL),
           (1, 'other', 'other 29', '', '2024-06-01', false, NULL),
           (1, 'other', 'other 31', '', '2024-05-30', true, NULL),
           (1, 'other', 'other 31 null', '', '2024-05-30', NULL, NULL),
           (1, 'other', 'other 31 unread', '', '2024-05-30', false, NULL),
           (1, 'other', 'other 400 unread', '', '2023-05-01', false, NULL)
$$;
SELECT t.fill() \g /dev/null
SELECT is(t.clean() || ': ' || t.left(), '8: other 29 streak 3 streak 3 unread', 'as it is by default');
SELECT t.fill(), t.keep('{"friend_request": "never", "result": "90 days", "streak_reminder": "2 days"}') \g /dev/null
SELECT is(t.clean(dry_run => true), 8::bigint, 'a dry run counts by type');
SELECT is(t.clean() || ': ' || t.left(), '8: friend old other 29 result 40',
          'by type: a row past its own expiry goes even of a type that is kept for ever');
SELECT t.fill(), t.keep(NULL, '1 year') \g /dev/null
SELECT is(t.clean() || ': ' || t.left(), '6: other 29 other 31 null other 31 unread streak 3 streak 3 unread',
          'what is unread is kept longer; unknown is unread');
SELECT t.fill(), t.keep('{"streak_reminder": "2 days", "other": "never"}', '10 days') \g /dev/null
SELECT is(t.clean() || ': ' || t.left(), '5: other 29 other 31 other 31 null other 31 unread other 400 unread streak 3 unread',
          'the longer of the two counts');
SELECT t.fill(), t.keep(NULL, '1 day') \g /dev/null
SELECT is(t.clean() || ': ' || t.left(), '8: other 29 streak 3 streak 3 unread', 'nothing unread goes earlier than what is read');

/* ---- columns that are not there ---- */
SELECT t.keep(NULL, 'never'), challenge_jobs.bind('notifications', 'app.notifications', columns => '{"is_read": null}') \g /dev/null
SELECT is(t.error('SELECT t.clean()'),
          '42703: setting "unread_retention" needs a column "is_read" or "read_at" of entity "notifications"', 'nothing is deleted as if it were read');
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE status = 'error' AND finding LIKE 'setting "unread_retention" needs%'), 1::bigint, 'the doctor says so');
SELECT t.keep('{"other": "never"}'), challenge_jobs.bind('notifications', 'app.notifications', columns => '{"type": null}') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), '22023: entity "notifications": column "type" is required', 'nor without the column type');
SELECT t.keep(NULL) \g /dev/null
SELECT is(t.error('SELECT t.clean()'), 'no error', 'without the settings they are not needed');
SELECT challenge_jobs.bind('notifications', 'app.notifications') \g /dev/null
ALTER TABLE app.notifications DROP is_read, ADD is_read integer;
SELECT is(t.error('SELECT t.clean()'), 'no error', 'a column of that name that is something else does not matter then');
SELECT t.keep(NULL, 'never') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), '42804: entity "notifications": column "is_read" for "is_read" of app.notifications is of type integer', 'an is_read of type integer is refused as soon as a rule needs it');
ALTER TABLE app.notifications DROP is_read, ADD is_read boolean GENERATED ALWAYS AS (title <> '') STORED;
SELECT is(t.error('SELECT t.clean()'), 'no error', 'a generated column will do');
ALTER TABLE app.notifications DROP is_read, ADD read_at timestamptz;
SELECT t.keep(NULL) \g /dev/null

/* ---- every way, every type of column: as the rule says ---- */
CREATE TABLE t.expected (user_id integer, stays boolean);
/* Read is what `read` says, an expression over i. */
CREATE FUNCTION t.try(n integer, few boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    wanted  bigint;
    counted bigint;
    deleted bigint;
    wrong   bigint;
    has_read boolean := EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'app.notifications'::regclass AND attname = 'is_read' AND NOT attisdropped);
BEGIN
    TRUNCATE app.notifications;
    EXECUTE format($f$
    INSERT INTO app.notifications (user_id, type, title, body, created_at, expires_at, %s)
    SELECT i, (ARRAY['a', 'b', 'never', 'other', 'more'])[i %% 5 + 1]::%s, '', '',
           CASE WHEN i %% 7 = 0 THEN '2024-05-05' ELSE '2024-06-30 12:00+00'::timestamptz - random() * interval '120 days' END,
           CASE WHEN i %% 3 = 0 THEN '2024-07-31'::timestamptz - random() * interval '60 days' END,
           %s
      FROM generate_series(1, $1) i$f$,
        CASE WHEN has_read THEN 'is_read' ELSE 'read_at' END,
        (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'app.notifications'::regclass AND attname = 'type'),
        CASE WHEN has_read THEN '(ARRAY[true, false, NULL])[i % 11 % 3 + 1]' ELSE $r$CASE WHEN i % 11 % 3 = 0 THEN now() END$r$ END) USING n;
    IF few THEN
        DELETE FROM app.notifications a WHERE user_id % 50 <> 1 AND created_at < '2024-06-01';
    END IF;
    ANALYZE app.notifications;
    DELETE FROM t.expected;
    EXECUTE format('INSERT INTO t.expected SELECT user_id, t.stays(rtrim(type::text), %s, created_at, expires_at) FROM app.notifications',
                   CASE WHEN has_read THEN 'is_read' ELSE 'read_at IS NOT NULL' END);
    SELECT count(*) INTO wanted FROM t.expected WHERE NOT stays;
    counted := t.clean(dry_run => true);
    deleted := t.clean();
    SELECT count(*) INTO wrong FROM t.expected e LEFT JOIN app.notifications a USING (user_id) WHERE e.stays <> (a.user_id IS NOT NULL);
    RETURN concat_ws(', ', t.ways(), CASE WHEN wrong > 0 THEN wrong || ' rows are wrong' END,
                     CASE WHEN wanted = 0 OR wanted = n THEN 'nothing is tested' END,
                     CASE WHEN counted <> wanted THEN format('a dry run counts %s instead of %s', counted, wanted) END,
                     CASE WHEN deleted <> wanted THEN format('%s deleted instead of %s', deleted, wanted) END,
                     (SELECT message FROM t.last_run()));
END
$$;
SELECT setseed(0.42) \g /dev/null
/* The settings that are tried. */
CREATE TABLE t.rule (n integer, by_type jsonb, unread text);
INSERT INTO t.rule VALUES (1, '{"a": "10 days", "b": "60 days", "never": "never", "unheard of": "1 day"}', NULL), (2, NULL, '80 days'), (3, NULL, 'never'),
       (4, '{"a": "10 days", "b": "60 days", "never": "never"}', '40 days'), (5, '{"a": "0", "other": "never", "more": "never"}', 'never');
CREATE FUNCTION t.try_all() RETURNS TABLE (n integer, result text) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN SELECT r.n FROM t.rule r ORDER BY 1 LOOP
        PERFORM t.keep(r.by_type, r.unread) FROM t.rule r WHERE r.n = try_all.n;
        result := t.try(3000);
        RETURN NEXT;
    END LOOP;
END
$$;
SELECT is(result, 'by_heap 1', format('rule %s, read_at, without an index', n)) FROM t.try_all();
ALTER TABLE app.notifications DROP read_at, ADD is_read boolean;
SELECT is(result, 'by_heap 1', format('rule %s, is_read, without an index', n)) FROM t.try_all();
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"batch_size": 50}') \g /dev/null
SELECT is(result, 'by_heap 1', format('rule %s, in small batches', n)) FROM t.try_all();
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications (expires_at);
CREATE INDEX kinds ON app.notifications (type, created_at);
CREATE INDEX kinds_read ON app.notifications (type, created_at) WHERE is_read;
CREATE INDEX created ON app.notifications (created_at);
CREATE INDEX created_read ON app.notifications (created_at) WHERE is_read;
SELECT is(result, 'by_index 1', format('rule %s, by index, in small batches', n)) FROM t.try_all();
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"batch_size": 3}') \g /dev/null
SELECT is(result, 'by_index 1', format('rule %s, by index, three by three', n)) FROM t.try_all();
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"batch_size": null}') \g /dev/null
CREATE DOMAIN app.kind AS text;
CREATE TYPE app.label AS ENUM ('other', 'never', 'b', 'a', 'more', 'unheard of');
CREATE FUNCTION t.retype(type text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE app.notifications;
    EXECUTE format('ALTER TABLE app.notifications ALTER type TYPE %1$s USING type::text::%1$s', type);
END
$$;
SELECT t.retype('app.kind') \g /dev/null
SELECT is(result, 'by_index 1', format('rule %s, a domain', n)) FROM t.try_all();
SELECT t.retype('varchar(20) COLLATE "C"') \g /dev/null
SELECT is(result, 'by_index 1', format('rule %s, varchar', n)) FROM t.try_all();
SELECT t.retype('character(12)') \g /dev/null
SELECT is(result, 'by_index 1', format('rule %s, char', n)) FROM t.try_all();
SELECT t.retype('app.label') \g /dev/null
SELECT is(result, 'by_index 1', format('rule %s, an enum', n)) FROM t.try_all();
SET enable_indexscan = off;
SELECT is(result, 'by_index 1', format('rule %s, an enum, whatever the caller has set', n)) FROM t.try_all() WHERE n < 3;
RESET enable_indexscan;
SELECT t.keep('{"misspelt": "never"}') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), '42704: setting "retention_by_type" names "misspelt", which enum app.label does not have',
          'a label that an enum does not have is an error: nothing that should be kept goes');
SELECT t.retype('text') \g /dev/null
TRUNCATE app.notifications;
ALTER TABLE app.notifications ALTER created_at TYPE timestamp;
SELECT is(result, 'by_index 1', format('rule %s, a timestamp without zone', n)) FROM t.try_all();
ALTER TABLE app.notifications ALTER created_at TYPE timestamptz;

/* rows without a type are of none of the types; they are not found by type */
ALTER TABLE app.notifications ALTER type DROP NOT NULL;
TRUNCATE app.notifications;
INSERT INTO app.notifications (user_id, type, title, body, created_at)
VALUES (1, NULL, 'null old', '', '2024-01-01'), (1, NULL, 'null new', '', '2024-06-01'), (1, 'never', 'never', '', '2024-01-01');
SELECT t.keep('{"never": "never"}') \g /dev/null
SELECT is(t.clean() || ': ' || t.left(), '1: never null new', 'rows without a type follow notification_retention');

/* ---- what is kept is not read again ---- */
CREATE FUNCTION t.read_so_far() RETURNS bigint LANGUAGE sql AS $$
    SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relid = 'app.notifications'::regclass
$$;
CREATE FUNCTION t.reads() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE before bigint := t.read_so_far();
BEGIN
    PERFORM t.clean();
    RETURN t.read_so_far() - before;
END
$$;
CREATE FUNCTION t.fill_kept(type text DEFAULT 'text') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.retype(type);
    EXECUTE format($f$
    INSERT INTO app.notifications (user_id, type, title, body, created_at, is_read)
    SELECT i, (CASE WHEN i <= 10000 THEN 'never' ELSE 'other' END)::%s, '', '', CASE WHEN i <= 10000 THEN '2023-01-01'::timestamptz ELSE '2024-06-20' END,
           i > 10000
      FROM generate_series(1, 20000) i$f$, type);
    ANALYZE app.notifications;
END
$$;
SELECT t.keep('{"never": "never"}'), t.fill_kept() \g /dev/null
SELECT cmp_ok(t.reads(), '<', 10::bigint, 'a type that is kept for ever is not read: 10000 rows of it');
SELECT is(t.ways(), 'by_index 1', 'by the index on type and created_at');
CREATE FUNCTION t.reads_of(type text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.fill_kept(type);
    RETURN t.reads();
END
$$;
SELECT cmp_ok(t.reads_of(type), '<', 10::bigint, format('the same where the type is a %s', type))
  FROM unnest(ARRAY['app.kind', 'varchar(20) COLLATE "C"', 'character(12)', 'app.label', 'text']) type;
SELECT t.keep(NULL, 'never') \g /dev/null
SELECT cmp_ok(t.reads(), '<', 10::bigint, 'nor is what is unread');
SELECT t.keep('{"never": "2 years"}', '3 years') \g /dev/null
SELECT cmp_ok(t.reads(), '<', 10::bigint, 'nor what is kept for some time');
DROP INDEX app.kinds, app.kinds_read, app.created_read;
SELECT t.keep('{"never": "never"}') \g /dev/null
SELECT cmp_ok(t.reads(), '>=', 10000::bigint, 'without that index it would be');
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE remedy = 'CREATE INDEX CONCURRENTLY ON app.notifications (type, created_at);'), 1::bigint,
          'and the doctor says which one to make');
SELECT t.keep(NULL, 'never') \g /dev/null
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE remedy = 'CREATE INDEX CONCURRENTLY ON app.notifications (created_at) WHERE is_read;'), 1::bigint,
          'also for what is unread');
CREATE INDEX ON app.notifications (created_at) WHERE is_read;
SELECT is((SELECT count(*) FROM challenge_jobs.doctor() WHERE remedy LIKE '%WHERE is_read%'), 0::bigint, 'which it does not once it is there');

SELECT * FROM finish();
ROLLBACK;
