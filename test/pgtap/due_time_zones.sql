/*
 * When it is morning, and for whom: zones, the window, and the ledger that keeps anybody from being notified
 * twice on a local date.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

/* ---- the window ---- */
CREATE FUNCTION t.at(as_of text, settings jsonb DEFAULT '{}', zone text DEFAULT 'UTC') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    notified    text;
BEGIN
    PERFORM t.clear(), t.join(1, zone), t.setr(settings);
    notified := t.morning(as_of::timestamptz);
    RETURN notified || ' ' || COALESCE((SELECT local_date::text FROM challenge_jobs.reminder), 'nobody');
END
$$;
SELECT is(t.at(as_of, settings), notified, format('%s with %s: %s', as_of, settings, notified))
  FROM (VALUES ('2024-05-15 07:59:59.999999+00', '{}'::jsonb, ' nobody'), ('2024-05-15 08:00+00', '{}', '1 2024-05-15'),
               ('2024-05-15 10:00+00', '{}', '1 2024-05-15'), ('2024-05-15 10:00:00.000001+00', '{}', ' nobody'),
               ('2024-05-15 08:01+00', '{"window": "1 minute"}', '1 2024-05-15'), ('2024-05-15 08:01:00.000001+00', '{"window": "00:01"}', ' nobody'),
               ('2024-05-15 20:00+00', '{"window": "1 month -30 days 12 hours"}', '1 2024-05-15'),
               ('2024-05-15 20:00+00', '{"window": "12 hours"}', '1 2024-05-15'), ('2024-05-15 20:00:00.000001+00', '{"window": "12 hours"}', ' nobody'),
               ('2024-05-15 06:29:59.999999+00', '{"reminder_time": "06:30"}', ' nobody'), ('2024-05-15 06:30+00', '{"reminder_time": "06:30"}', '1 2024-05-15'),
               ('2024-05-15 00:00+00', '{"reminder_time": "00:00"}', '1 2024-05-15'), ('2024-05-14 23:59:59.999999+00', '{"reminder_time": "00:00"}', ' nobody'),
               /* past midnight it is too late to check in on the day before */
               ('2024-05-15 23:59:59.999999+00', '{"reminder_time": "23:30"}', '1 2024-05-15'), ('2024-05-16 00:00+00', '{"reminder_time": "23:30"}', ' nobody'),
               ('2024-05-15 23:59:59.999999+00', '{"reminder_time": "23:59:59"}', '1 2024-05-15'), ('2024-05-16 00:00:00+00', '{"reminder_time": "23:59:59"}', ' nobody'),
               /* unless the day lasts for longer, which a time before it starts belongs to */
               ('2024-05-16 00:29+00', '{"reminder_time": "23:30", "day_starts_at": "03:00"}', '1 2024-05-15'), ('2024-05-16 00:30+00', '{"reminder_time": "00:30", "day_starts_at": "03:00"}', '1 2024-05-15'),
               ('2024-05-16 01:00+00', '{"reminder_time": "23:30", "day_starts_at": "01:00"}', ' nobody'), ('2024-05-16 03:00+00', '{"reminder_time": "03:00", "day_starts_at": "03:00"}', '1 2024-05-16'),
               ('2024-05-16 03:00+00', '{"reminder_time": "02:59", "day_starts_at": "03:00"}', ' nobody'), ('2024-05-16 02:59:59+00', '{"reminder_time": "02:59", "day_starts_at": "03:00"}', '1 2024-05-15'),
               /* before the era in which PostgreSQL counts from 0, and a leap day */
               ('1999-12-31 08:00+00', '{}', '1 1999-12-31'), ('2024-02-29 09:59+00', '{}', '1 2024-02-29'), ('1900-01-01 08:00+00', '{}', '1 1900-01-01')) v(as_of, settings, notified);
SELECT is(t.at(as_of, '{}', zone), notified, format('%s in %s', as_of, zone))
  FROM (VALUES ('2024-05-15 02:15+00', 'Asia/Kathmandu', '1 2024-05-15'), ('2024-05-15 02:14:59+00', 'Asia/Kathmandu', ' nobody'),
               ('2024-05-14 18:00+00', 'Pacific/Kiritimati', '1 2024-05-15'), ('2024-05-15 18:00+00', 'Pacific/Honolulu', '1 2024-05-15'),
               ('2024-05-15 20:00+00', 'Etc/GMT+12', '1 2024-05-15'), ('2024-05-14 19:15+00', 'Pacific/Chatham', '1 2024-05-15'),
               /* as SET TIME ZONE has it: any case, POSIX forms, hours east */
               ('2024-05-15 06:00+00', 'europe/PARIS', '1 2024-05-15'), ('2024-05-15 12:00+00', 'EST5EDT', '1 2024-05-15'),
               ('2024-05-15 12:00+00', 'XYZ5ABC,M3.2.0,M11.1.0', '1 2024-05-15'), ('2024-05-15 13:00+00', '<-05>5', '1 2024-05-15'),
               ('2024-05-15 03:00+00', '5', '1 2024-05-15'), ('2024-05-15 02:30+00', '5.5', '1 2024-05-15'), ('2024-05-15 16:00+00', '-8', '1 2024-05-15'),
               /* unknown ones fall to default_time_zone, which is UTC */
               ('2024-05-15 08:00+00', NULL, '1 2024-05-15'), ('2024-05-15 08:00+00', '', '1 2024-05-15'), ('2024-05-15 08:00+00', 'Mars/Olympus_Mons', '1 2024-05-15'),
               ('2024-05-15 08:00+00', '../../etc/passwd', '1 2024-05-15'), ('2024-05-15 08:00+00', '/etc/localtime', '1 2024-05-15'),
               ('2024-05-15 08:00+00', repeat('x', 10000), '1 2024-05-15'), ('2024-05-15 08:00+00', ' UTC', '1 2024-05-15'),
               ('2024-05-15 08:00+00', 'nan', '1 2024-05-15'), ('2024-05-15 08:00+00', '1e9', '1 2024-05-15'), ('2024-05-15 08:00+00', 'infinity', '1 2024-05-15'),
               ('2024-05-15 06:00+00', 'Mars/Olympus_Mons', ' nobody')) v(as_of, zone, notified);
SELECT is(t.at('2024-05-15 06:00+00', '{"default_time_zone": "Europe/Paris"}', zone), '1 2024-05-15', format('default_time_zone stands in for %s', COALESCE(zone, 'NULL')))
  FROM unnest(ARRAY[NULL, 'Mars/Olympus_Mons', 'UTZ']) zone;
SELECT alike(t.error($$SELECT t.setr('{"default_time_zone": "Mars/Olympus_Mons"}')$$), '22023: %', 'an unknown default is refused');
SELECT is(t.error(format('SELECT t.remind(%L)', as_of)), message, 'as_of ' || as_of)
  FROM (VALUES ((now() + interval '1 day')::text, '22023: as_of is in the future'), ('infinity', '22023: as_of must be finite'), ('-infinity', '22023: as_of must be finite')) v(as_of, message);
SELECT t.clear(), t.join(1) \g /dev/null
SELECT is(t.remind(date_trunc('day', now(), 'UTC') + interval '3 days 8 hours', true), '1 1', 'a dry run may look ahead');

/* ---- once on a local date ---- */
SELECT t.clear(), t.join(1), t.join(2, 'Europe/London'), t.join(3, NULL) \g /dev/null
SELECT is(t.remind('2024-05-15 08:05+00'), '3 3', 'three zones are served (London is within the window), one of them "none"');
SELECT is(t.remind('2024-05-15 08:20+00'), '0 0', 'the next run has nothing to tell');
DELETE FROM app.notifications;
SELECT is(t.remind('2024-05-15 08:20+00'), '0 0', 'nor when notifications are deleted');
DELETE FROM challenge_jobs.reminder_zone;
SELECT is(t.remind('2024-05-15 08:20+00'), '3 0', 'nor when it is not known which zones are done: the ledger is the truth');
SELECT is(t.morning('2024-05-16 08:00+00'), '1 2 3', 'the next day it is notified again');
SELECT is((SELECT string_agg(user_key || '@' || local_date, ' ' ORDER BY local_date, user_key) FROM challenge_jobs.reminder),
          '1@2024-05-15 2@2024-05-15 3@2024-05-15 1@2024-05-16 2@2024-05-16 3@2024-05-16', 'the ledger has each user with the local date of the reminder');
SELECT is(t.remind('2024-05-15 09:00+00'), '0 0', 'a run for an earlier moment repeats nothing');

/*
 * ---- what comes to be within the window is notified within the window ----
 *
 * Also when the notes on zones are so old that they are relied upon as long as nothing has been written.
 */
CREATE TABLE app.more_users () INHERITS (app.users);
CREATE FUNCTION t.meanwhile(change text, at text DEFAULT '2024-05-15 09:00+00', age interval DEFAULT '1 minute') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before  text;
BEGIN
    PERFORM t.clear(), t.join(1), t.join(2, 'Asia/Tokyo'), t.join(3, 'UTC', 0), t.setr('{"window": "3 hours"}');
    INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) VALUES (1, 9, 3);
    before := t.morning('2024-05-15 08:00+00');
    UPDATE challenge_jobs.reminder_zone SET examined_at = examined_at - age;
    EXECUTE change;
    RETURN before || ', ' || t.morning(at::timestamptz);
END
$$;
SELECT is(t.meanwhile(change, at, age::interval), notified, format('%s; notes of %s', what, age))
  FROM (VALUES ('SELECT', '2024-05-15 09:00+00', '1, ', 'nothing has changed'),
               ('SELECT t.join(4)', '2024-05-15 09:00+00', '1, 4', 'a user who is new'),
               ('UPDATE app.challenge_members SET current_streak = 1 WHERE user_id = 3', '2024-05-15 09:00+00', '1, 3', 'a streak that is new'),
               ($$UPDATE app.users SET timezone = 'UTC' WHERE id = 2$$, '2024-05-15 09:00+00', '1, 2', 'a user who moves into a zone that has been served'),
               ($$INSERT INTO app.more_users VALUES (9, 'UTC')$$, '2024-05-15 09:00+00', '1, 9', 'a user who is new in a table that inherits'),
               ($$ALTER TABLE app.users ALTER timezone TYPE text USING 'UTC'$$, '2024-05-15 09:00+00', '1, 2', 'a table that is written anew'),
               ($$UPDATE app.users SET timezone = 'Mars' WHERE id = 2$$, '2024-05-15 09:00+00', '1, 2', 'or into one that stands for it'),
               ('UPDATE app.users SET timezone = NULL WHERE id = 2', '2024-05-15 09:00+00', '1, 2', 'or into none'),
               ($$UPDATE app.users SET timezone = 'Atlantic/Azores' WHERE id = 1$$, '2024-05-15 08:30+00', '1, ', 'from east to west: notified already on that date'),
               ($$UPDATE app.users SET timezone = 'America/New_York' WHERE id = 1$$, '2024-05-15 12:00+00', '1, ', 'also far to the west'),
               ($$UPDATE app.users SET timezone = 'Europe/Paris' WHERE id = 1$$, '2024-05-15 08:30+00', '1, ', 'from west to east: notified already, too'),
               ($$UPDATE app.users SET timezone = 'Pacific/Kiritimati' WHERE id = 1$$, '2024-05-15 18:00+00', '1, 1', 'but there it is the next date already'),
               ($$UPDATE app.users SET timezone = 'America/New_York'$$, '2024-05-15 12:00+00', '1, 2', 'all move, one has been notified'),
               ($$SELECT t.setr('{"minimum_streak": 0}')$$, '2024-05-15 09:00+00', '1, 3', 'minimum_streak has been lowered'),
               ($$SELECT t.setr('{"reminder_time": "09:00"}')$$, '2024-05-15 09:00+00', '1, ', 'reminder_time has been changed: the date is the same'),
               ($$SELECT t.setr('{"reminder_time": "18:00"}')$$, '2024-05-15 18:00+00', '1, ', 'also far'),
               ($$SELECT t.setr('{"default_time_zone": "Asia/Tokyo"}'); UPDATE app.users SET timezone = NULL WHERE id = 1$$, '2024-05-15 09:00+00', '1, ', 'default_time_zone has'),
               ('UPDATE app.challenges SET status = status', '2024-05-15 09:00+00', '1, ', 'challenges have been written to'),
               ('UPDATE app.users SET id = 17 WHERE id = 1', '2024-05-15 09:00+00', '1, ', 'a user without members'),
               ('DELETE FROM app.users WHERE id = 1; SELECT t.join(1)', '2024-05-15 09:00+00', '1, ', 'a key is reused: notified already')) v(change, at, notified, what),
       unnest('{0 s,1 minute}'::text[]) age;
SELECT t.meanwhile('SELECT') \g /dev/null
SELECT challenge_jobs.bind('users', 'app.users', columns => '{"timezone": null}') \g /dev/null
SELECT is(t.morning('2024-05-15 09:00+00'), '2', 'another binding: what it brings is notified');
SELECT challenge_jobs.bind('users', 'app.users') \g /dev/null
SET track_counts = off;
SELECT is(t.meanwhile('SELECT t.join(4)'), '1, 4', 'where the server does not count the rows written, nothing is relied upon');
RESET track_counts;
SELECT t.meanwhile('SELECT') \g /dev/null
UPDATE challenge_jobs.reminder_zone SET examined_at = now() - interval '1 hour';
SELECT is(t.remind('2024-05-15 09:00+00'), '0 0', 'nothing has been written');
SELECT is((SELECT max(examined_at) FROM challenge_jobs.reminder_zone), now() - interval '1 hour', 'then the zone is not even looked at');

/* who has checked in meanwhile is safe */
SELECT t.clear(), t.join(1, 'Europe/Paris'), t.join(2, 'Europe/London') \g /dev/null
SELECT is(t.morning('2024-05-15 06:00+00'), '1', 'the user in Paris is reminded at eight by local time');
UPDATE app.challenge_members SET last_checkin_at = '2024-05-15 06:30+00';
SELECT is(t.morning('2024-05-15 07:00+00'), '', 'London has checked in before its morning');

/* ---- figures ---- */
SELECT t.clear(), t.join(1), t.join(2, 'Etc/UTC'), t.join(3, 'Africa/Abidjan', 0), t.join(4, 'Asia/Tokyo') \g /dev/null
SELECT is(t.remind(dry_run => true), '3 2', 'zones count also when nobody in them is notified; those where it is not morning do not');
SELECT is((SELECT count(*) FROM app.notifications) + (SELECT count(*) FROM challenge_jobs.reminder) + (SELECT count(*) FROM challenge_jobs.reminder_zone), 0::bigint, 'a dry run writes nothing');
SELECT is((SELECT concat_ws(' ', job, status, dry_run, rows_affected, triggered_by, result, as_of) FROM t.last_run()),
          'send_streak_reminders succeeded t 2 function {"errors": 0, "locked": 0, "missed": 0, "reminded": 2, "time_zones": 3} 2024-05-15 08:00:00+00', 'a dry run leaves its row in the log, and nothing else');
SAVEPOINT before;
SET LOCAL transaction_read_only = on;
SELECT is(t.remind(dry_run => true), '3 2', 'it works in a read-only transaction');
SELECT is(t.error('SELECT t.remind()'), '25006: cannot execute send_streak_reminders in a read-only transaction', 'the run itself does not');
ROLLBACK TO before;
SELECT is(t.remind(), '3 2', 'the run does what the dry run said');
SELECT is((SELECT concat_ws(' ', job, status, dry_run, rows_affected, triggered_by, result) FROM t.last_run()),
          'send_streak_reminders succeeded f 2 function {"errors": 0, "insert": "bulk", "locked": 0, "missed": 0, "reminded": 2, "time_zones": 3}', 'the run that reminds two users says so in its row');
SELECT is((SELECT string_agg(time_zone || '@' || local_date, ' ' ORDER BY time_zone) FROM challenge_jobs.reminder_zone), 'Africa/Abidjan@2024-05-15 Etc/UTC@2024-05-15 UTC@2024-05-15', 'the zones are noted');
SELECT is(t.remind(dry_run => true), '0 0', 'a dry run afterwards has nothing to do');
SAVEPOINT before;
SELECT t.join(5) \g /dev/null
SELECT is(t.remind(), '0 1', 'a zone that is served again counts once');
ROLLBACK TO before;
SELECT is(t.remind('2024-05-15 08:01+00'), '0 0', 'rolled back: nothing remains');
SELECT challenge_jobs.alter_job('send_streak_reminders', enabled => false) \g /dev/null
SELECT is(t.error('SELECT t.remind()'), '55000: job "send_streak_reminders" is disabled', 'a disabled job is not run');
SELECT is(t.remind('2024-05-16 08:00+00', true), '3 2', 'but its dry run is');

/* ---- with and without an index ---- */
CREATE FUNCTION t.zones(index text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text := '';
BEGIN
    PERFORM t.clear();
    DROP INDEX IF EXISTS app.zones;
    EXECUTE index;
    INSERT INTO app.users SELECT row_number() OVER (ORDER BY name COLLATE "C"), name FROM pg_timezone_names WHERE name !~ '^(posix|right)';
    INSERT INTO app.users SELECT 10000 + n, CASE n % 3 WHEN 1 THEN '' WHEN 2 THEN 'nowhere' END FROM generate_series(1, 20) n;
    PERFORM t.join(20000);
    INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) SELECT 1, id, 1 FROM app.users;
    FOR hour IN 0..18 BY 6 LOOP
        result := result || t.morning('2024-05-15 00:00+00'::timestamptz + make_interval(hours => hour)) || E'\n';
    END LOOP;
    RETURN md5(result) || ' ' || (SELECT count(*) FROM challenge_jobs.reminder);
END
$$;
DROP INDEX app.users_timezone_idx;
SELECT t.zones('SELECT') AS without \gset
SELECT is(t.zones(index), :'without', index)
  FROM (VALUES ('CREATE INDEX zones ON app.users (timezone)'), ('CREATE INDEX zones ON app.users (timezone DESC NULLS FIRST)'), ('CREATE INDEX zones ON app.users (timezone, id)'),
               ('CREATE INDEX zones ON app.users (timezone text_pattern_ops)'), ('CREATE INDEX zones ON app.users (timezone COLLATE "C")'), ('CREATE INDEX zones ON app.users (id, timezone)'),
               ('CREATE INDEX zones ON app.users (lower(timezone))'), ('CREATE INDEX zones ON app.users (timezone) WHERE id > 50'), ('CREATE INDEX zones ON app.users USING hash (timezone)')) v(index);
SELECT cmp_ok(split_part(:'without', ' ', 2)::int, '>', 100, 'and not that nobody is notified');
SELECT t.zones('CREATE INDEX zones ON app.users (timezone text_pattern_ops)'), pg_stat_get_xact_numscans('app.users'::regclass) AS scans,
       t.remind('2024-05-15 08:00+00', true) \gset
SELECT cmp_ok(pg_stat_get_xact_numscans('app.users'::regclass) - :scans, '<', 10::bigint, 'an index that does not sort as the type does is not looked into for each zone');

/* ---- what the app may hold for a zone or a key ---- */
SELECT t.clear(), t.join(1, repeat(md5('1') || md5('2') || md5('3') || md5('4'), 3)) \g /dev/null
DROP INDEX app.zones;
SELECT t.join(n, (SELECT string_agg(md5(i::text), '') || n FROM generate_series(1, 300) i)) FROM generate_series(2, 3) n \g /dev/null
SELECT is(t.morning(), '1 2 3', 'zones that no index could hold');
SELECT is(t.remind(), '0 0', 'zones that no index could hold are done until the next day like others');

DROP TABLE app.more_users;
SELECT t.clear() \g /dev/null
ALTER TABLE app.users ALTER id TYPE bytea USING int4send(id);
ALTER TABLE app.challenge_members ALTER user_id TYPE bytea USING int4send(user_id);
ALTER TABLE app.notifications ALTER user_id TYPE bytea USING int4send(user_id);
INSERT INTO app.challenges (id, end_date) VALUES (1, 'infinity');
INSERT INTO app.users VALUES ('\x01ff', 'UTC');
INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) VALUES (1, '\x01ff', 3);
SELECT is(t.remind(), '1 1', 'a key of bytes');
DELETE FROM challenge_jobs.reminder_zone;
SET LOCAL bytea_output = escape;
SELECT is(t.remind(), '1 0', 'is the same key however the session writes it');

SELECT * FROM finish();
ROLLBACK;
