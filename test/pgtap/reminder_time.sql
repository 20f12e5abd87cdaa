/*
 * Users who are reminded at a time of their own. That it is right in every zone, also where clocks are changed, is swept in
 * time_zones.sql.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();
ALTER TABLE app.users ADD reminder_time time;

/* A user whose time is his own. */
CREATE FUNCTION t.own(key integer, at time, zone text DEFAULT 'UTC') RETURNS void LANGUAGE sql AS $$
    SELECT t.join(key, zone);
    UPDATE app.users SET reminder_time = at WHERE id = key;
$$;
CREATE FUNCTION t.bind_users(columns jsonb DEFAULT '{"reminder_time": "reminder_time"}') RETURNS void LANGUAGE sql AS $$
    SELECT challenge_jobs.bind('users', 'app.users', columns)
$$;
CREATE FUNCTION t.missed() RETURNS bigint LANGUAGE sql AS $$
    SELECT (result ->> 'missed')::bigint FROM t.last_run()
$$;

/* ---- a run with nothing to do does not read the users ---- */
SELECT t.bind_users() \g /dev/null
CREATE INDEX times ON app.users (timezone, reminder_time);
INSERT INTO app.users SELECT n, (ARRAY['UTC', 'Europe/Berlin'])[1 + n % 2], time '12:00' + n % 100 * interval '1 minute' FROM generate_series(1, 20000) n;
ANALYZE app.users;
SELECT pg_stat_get_xact_tuples_returned('app.users'::regclass) AS read, pg_stat_get_xact_tuples_fetched('app.users'::regclass) AS fetched, t.remind('2024-05-15 04:00+00') AS figures \gset
SELECT is(:'figures', '0 0'::text, 'nobody is due');
SELECT is(pg_stat_get_xact_tuples_returned('app.users'::regclass) - :read::bigint, 0::bigint, 'no user is read by going through the table');
SELECT cmp_ok(pg_stat_get_xact_tuples_fetched('app.users'::regclass) - :fetched::bigint, '<', 20::bigint, 'and few by the index');
SELECT challenge_jobs.unbind('users'), challenge_jobs.bind('users', 'app.users'), t.clear() \g /dev/null

/* ---- only where bind() names it ---- */
SELECT t.own(1, '06:00'), t.own(2, NULL), t.own(3, '21:30') \g /dev/null
SELECT is(t.morning('2024-05-15 08:00+00'), '1 2 3', 'a column of that name may mean something else');
SELECT t.bind_users() \g /dev/null
SELECT is(t.morning('2024-05-16 06:00+00'), '1', 'bound it is the time of the reminder');
SELECT is(t.morning('2024-05-16 08:00+00'), '2', 'who has none is reminded at that of the setting, who had his reminder is not');
SELECT is(t.morning('2024-05-16 21:30+00'), '3', 'the zone is looked at for each time');
SELECT is((SELECT string_agg(user_key || '@' || local_date, ' ' ORDER BY user_key) FROM challenge_jobs.reminder WHERE local_date = '2024-05-16'), '1@2024-05-16 2@2024-05-16 3@2024-05-16', 'once on the date');
ALTER TABLE app.users ALTER reminder_time TYPE text;
SELECT is(t.error('SELECT t.remind()'), '42804: entity "users": column "reminder_time" for "reminder_time" of app.users is of type text', 'it has to be a time');
ALTER TABLE app.users ALTER reminder_time TYPE time USING reminder_time::time;

/* ---- the window, against the setting: the same time has the same window ---- */
CREATE FUNCTION t.as_setting(at time, moment timestamptz, zone text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    by_setting  text;
    by_column   text;
BEGIN
    PERFORM t.clear(), t.own(1, NULL, zone), t.setr(jsonb_build_object('reminder_time', at));
    PERFORM t.remind(moment);
    by_setting := (SELECT string_agg(data::text, '') FROM app.notifications);
    PERFORM t.clear(), t.own(1, at, zone), t.setr('{"reminder_time": "12:34"}');
    PERFORM t.remind(moment);
    by_column := (SELECT string_agg(data::text, '') FROM app.notifications);
    RETURN CASE WHEN by_setting IS NOT DISTINCT FROM by_column THEN CASE WHEN by_setting IS NULL THEN 'not' ELSE 'reminded' END
                ELSE concat_ws(' ', 'by the setting', by_setting, 'by the column', by_column) END;
END
$$;
/* the day ends before the window does */
SELECT is(t.as_setting(at::time, day::timestamptz + after, zone), CASE WHEN at >= '23:' AND after >= '1 hour' THEN 'not' ELSE reminded END, format('%s in %s, %s after %s', at, zone, after, day))
  FROM (VALUES ('08:00', 'UTC', '2024-05-15 08:00+00'), ('00:00', 'UTC', '2024-05-15 00:00+00'), ('23:30', 'UTC', '2024-05-15 23:30+00'), ('23:59:59', 'UTC', '2024-05-15 23:59:59+00'),
               ('02:30', 'America/New_York', '2024-03-10 07:00+00'), ('01:30', 'America/New_York', '2024-11-03 05:30+00'), ('00:00', 'America/Havana', '2024-03-10 05:00+00'),
               ('00:30', 'Pacific/Kiritimati', '2024-05-14 10:30+00'), ('23:30', 'Pacific/Pago_Pago', '2024-05-16 10:30+00'), ('00:00', 'Pacific/Apia', '2011-12-30 10:00+00'),
               ('08:00', 'Mars', '2024-05-15 08:00+00'), ('08:00', NULL, '2024-05-15 08:00+00'), ('08:00', 'UTC', '1999-12-31 08:00+00'), ('23:30', 'UTC', '1999-12-31 23:30+00')) v(at, zone, day),
       (VALUES (interval '-1 microsecond', 'not'), ('0', 'reminded'), ('1 hour', 'reminded'), ('2 hours', 'reminded'), ('2 hours 1 microsecond', 'not')) w(after, reminded);
/* PostgreSQL has a time that no clock shows */
SELECT t.clear(), t.own(1, '24:00') \g /dev/null
SELECT is(t.morning('2024-05-15 00:00+00'), '1', '24:00 is 00:00');
SELECT is((SELECT local_date::text FROM challenge_jobs.reminder), '2024-05-15', 'of the date that begins');

/* ---- once on a date, whatever users change ---- */
CREATE FUNCTION t.changed(first time, second time, at text, zone text DEFAULT 'UTC') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before  text;
BEGIN
    PERFORM t.clear(), t.own(1, first), t.own(2, '09:00');
    before := t.morning('2024-05-15 08:00+00');
    UPDATE app.users SET reminder_time = second, timezone = zone WHERE id = 1;
    UPDATE challenge_jobs.reminder_zone SET examined_at = examined_at - interval '1 minute';
    RETURN before || ', ' || t.morning(at::timestamptz);
END
$$;
SELECT is(t.changed(first::time, second::time, at), reminded, what)
  FROM (VALUES ('08:00', '20:00', '2024-05-15 20:00+00', '1, ', 'later: reminded already on that date'),
               ('08:00', '20:00', '2024-05-16 20:00+00', '1, 1', 'but not on the next'),
               ('08:00', NULL, '2024-05-15 08:15+00', '1, ', 'that of the setting: likewise'),
               ('20:00', '07:00', '2024-05-15 08:15+00', ', 1', 'earlier, within the window: it is past'),
               ('20:00', '05:00', '2024-05-15 08:15+00', ', ', 'earlier than that: the morning is over'),
               ('20:00', NULL, '2024-05-15 08:15+00', ', 1', 'that of the setting, whose zone was done'),
               ('09:00', '09:00', '2024-05-15 09:00+00', ', 1 2', 'two with the same time')) v(first, second, at, reminded, what);
SELECT is(t.changed('08:00', '08:30', '2024-05-15 12:30+00', 'America/New_York'), '1, ', 'another zone and another time');

/* ---- a zone that is done for a time is left alone while nothing is written ---- */
SELECT t.clear(), t.own(1, '08:00'), t.own(2, '08:15'), t.own(3, NULL, NULL) \g /dev/null
SELECT is(t.remind('2024-05-15 08:00+00'), '3 2', 'done: UTC at 08:00 and for those without a time, and those without a zone');
UPDATE challenge_jobs.reminder_zone SET examined_at = now() - interval '1 hour';
SELECT is(t.remind('2024-05-15 08:15+00'), '1 1', 'a quarter of an hour later, another time');
SELECT is((SELECT string_agg(COALESCE(time_zone, '-') || ' ' || COALESCE(reminder_time::text, '-'), ', ' ORDER BY time_zone, reminder_time) FROM challenge_jobs.reminder_zone WHERE examined_at < now() - interval '30 minutes'),
          'UTC 08:00:00, UTC -, - -', 'the others were not looked at');

/* ---- what passed without a run ---- */
SELECT t.clear(), t.own(1, '06:30'), t.own(2, '07:00', 'Europe/London'), t.own(3, NULL), t.own(4, '10:30'), t.own(5, '12:00'), t.own(6, '06:00', NULL), t.own(7, '05:00'), t.own(8, NULL, NULL),
       t.own(9, '22:00', 'Asia/Tokyo') \g /dev/null
SELECT t.remind('2024-05-15 05:15+00') \g /dev/null
SELECT is(t.missed(), 0::bigint, 'the first run has missed nothing');
SELECT is(t.morning('2024-05-15 12:00+00'), '4 5', 'after a pause: who is within the window');
/* 1 at 06:30, 2 at 06:00 UTC, 3 and 8 at 08:00, 6 at 06:00; 7 had his, 9 comes at 13:00 */
SELECT is(t.missed(), 5::bigint, 'the others are counted, by the time that is theirs');
SELECT t.remind('2024-05-15 12:15+00') \g /dev/null
SELECT is(t.missed(), 0::bigint, 'once');

/* the day ends before a run comes */
SELECT t.clear(), t.own(1, '23:50'), t.own(2, '23:40') \g /dev/null
DELETE FROM challenge_jobs.job_run;
SELECT is(t.morning('2024-05-15 23:45+00'), '2', 'before midnight');
SELECT is(t.morning('2024-05-16 00:00+00') || ', ' || t.missed(), ', 1', 'who is too late for a run of his day is missed, and not told to check in on a day that is over');
SELECT is(t.morning('2024-05-16 00:15+00') || ', ' || t.missed(), ', 0', 'and counted once');

/* ---- without zones, without an index, with other ones ---- */
SELECT t.clear(), t.own(1, '06:00', 'Asia/Tokyo'), t.own(2, NULL, 'Asia/Tokyo') \g /dev/null
SELECT t.bind_users('{"timezone": null, "reminder_time": "reminder_time"}') \g /dev/null
SELECT is(t.morning('2024-05-15 06:00+00') || ', ' || t.morning('2024-05-15 08:00+00'), '1, 2', 'without a column for zones all are in default_time_zone');
SELECT t.bind_users() \g /dev/null
SELECT t.clear(), t.own(1, '06:00', 'Mars'), t.own(2, '06:00', NULL), t.own(3, '06:00'), t.setr('{"default_time_zone": "none"}') \g /dev/null
SELECT is(t.morning('2024-05-15 06:00+00'), '3', 'who has no usable zone is not reminded, where the setting says so');
CREATE FUNCTION t.day(index text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text := '';
BEGIN
    PERFORM t.clear();
    DROP INDEX IF EXISTS app.times;
    EXECUTE index;
    INSERT INTO app.challenges (id, end_date) VALUES (1, 'infinity');
    INSERT INTO app.users
    SELECT n, (ARRAY['UTC', 'Asia/Tokyo', 'America/New_York', 'Pacific/Chatham', NULL, 'Mars'])[1 + n % 6], CASE WHEN n % 7 > 0 THEN time '00:00' + n * 17 % 1320 * interval '1 minute' END
      FROM generate_series(1, 300) n;
    INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) SELECT 1, id, 1 FROM app.users;
    FOR hour IN 0..23 LOOP
        result := result || t.morning('2024-05-15 00:00+00'::timestamptz + make_interval(hours => hour)) || E'\n';
    END LOOP;
    RETURN md5(result) || ' ' || (SELECT count(DISTINCT user_key) FROM challenge_jobs.reminder);
END
$$;
DROP INDEX app.users_timezone_idx, app.times;
SELECT t.day('SELECT') AS without \gset
SELECT is(split_part(:'without', ' ', 2), '300'::text, 'through a day everybody is reminded');
SELECT is(t.day(index), :'without', index)
  FROM unnest('{CREATE INDEX times ON app.users (timezone),"CREATE INDEX times ON app.users (timezone, reminder_time)",CREATE INDEX times ON app.users (reminder_time)}'::text[]) index;

/* ---- dates of check-ins that the server fills: its date at the time of the reminder ---- */
ALTER TABLE app.challenge_members ALTER last_checkin_at TYPE date USING NULL;
CREATE FUNCTION t.dated(value date, at time) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.own(1, at, 'Asia/Tokyo'), t.own(2, NULL, 'Asia/Tokyo'), t.setr('{"checkin_date_zone": "UTC"}');
    UPDATE app.challenge_members SET last_checkin_at = value;
    RETURN t.morning(('2024-05-15'::date + at) AT TIME ZONE 'Asia/Tokyo') ~ '1';
END
$$;
SELECT is(t.dated(value::date, at::time), reminded, format('last check-in on %s of the server, reminder at %s in Tokyo', value, at))
  FROM (VALUES ('2024-05-14', '08:30', false), ('2024-05-13', '08:30', true), ('2024-05-14', '09:30', true), ('2024-05-15', '09:30', false)) v(value, at, reminded);

SELECT * FROM finish();
ROLLBACK;
