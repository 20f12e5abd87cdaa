/*
 * The clock of every zone there is, through the weeks in which clocks are changed: each user has to be
 * notified once on every local date, at the first run after the time of day has come.
 *
 * What is right is computed from nothing but the local times that PostgreSQL shows: the clocks of the zone are
 * read at every quarter of an hour (or minute), and a time of day of a date has come when they first show
 * it or a later one.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

CREATE TABLE t.log (user_id integer, local_date date, tick timestamptz);
CREATE TABLE t.clock (user_id integer, moment timestamptz, local timestamp, at time);
ALTER TABLE app.users ADD reminder_time time;
GRANT INSERT ON t.log TO cj_app;

/* Notes who is notified when. */
SET ROLE cj_app;
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.log SELECT user_id, (data->>'local_date')::date, current_setting('t.tick')::timestamptz FROM new;
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT ON app.notifications REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION app.note();
RESET ROLE;

/* Runs the job for one moment. */
CREATE FUNCTION t.tick(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('t.tick', moment::text, true), public.send_streak_reminders(moment);
    /* in the one transaction of this test no old versions of rows ever go away */
    IF date_trunc('day', moment) = moment THEN
        TRUNCATE challenge_jobs.reminder_zone;
    END IF;
END
$$;

/* Runs the job at every quarter of an hour, the last moment included. */
CREATE FUNCTION t.sweep(since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE t.log;
    PERFORM t.tick(moment) FROM generate_series(since, until, '15 minutes') moment;
END
$$;

/* What is wrong, in words. What had come before the sweep began is not looked at. */
CREATE FUNCTION t.differences(since timestamptz, until timestamptz, at time, step interval) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    u   record;
BEGIN
    TRUNCATE t.clock;
    /* not AT TIME ZONE: to that, "CET" is an abbreviation, which has no summer */
    FOR u IN SELECT id, timezone, COALESCE(reminder_time, differences.at) AS at FROM app.users LOOP
        PERFORM set_config('TimeZone', u.timezone, true);
        INSERT INTO t.clock SELECT u.id, m, m::timestamp, u.at FROM generate_series(since, until, step) m;
    END LOOP;
    SET LOCAL TIME ZONE 'UTC';
    RETURN QUERY
    WITH first AS (
        SELECT c.user_id, d AS local_date, min(moment) AS moment
          FROM t.clock c,
               LATERAL (VALUES (local::date), (local::date - 1)) v(d)
         WHERE local >= d + c.at
         GROUP BY 1, 2
        HAVING min(moment) > since
    ), wanted AS (
        SELECT f.user_id, f.local_date, date_bin('15 minutes', f.moment + interval '15 minutes' - step, '2000-01-01 00:00+00') AS tick
          FROM first f
         /* a date that never was is not wanted */
         WHERE (f.user_id, f.local_date) IN (SELECT c.user_id, c.local::date FROM t.clock c)
    )
    SELECT format('%s%s, %s: wanted at %s, notified at %s', z.timezone, ' ' || z.reminder_time, local_date, w.tick, l.tick)
      /* nor is a reminder of a date that is over by then */
      FROM (SELECT * FROM wanted w WHERE tick <= until AND EXISTS (SELECT FROM t.clock c WHERE c.user_id = w.user_id AND c.moment = w.tick AND c.local::date = w.local_date)) w
      FULL JOIN (SELECT * FROM t.log WHERE tick > since) l USING (user_id, local_date)
      JOIN app.users z ON z.id = user_id
     WHERE w.tick IS DISTINCT FROM l.tick
     ORDER BY 1
     LIMIT 20;
END
$$;

/* One user for each zone and time of his own, with a streak. */
CREATE FUNCTION t.people(zones text[], times time[] DEFAULT '{NULL}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear();
    INSERT INTO app.challenges (id, name, end_date) VALUES (1, 'c1', 'infinity');
    INSERT INTO app.users SELECT row_number() OVER (ORDER BY n, own), zones[n], own FROM generate_subscripts(zones, 1) n, unnest(times) own;
    INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) SELECT 1, id, 1 FROM app.users;
    ANALYZE app.users, app.challenge_members, app.challenges;
END
$$;

/* ---- every zone, the weeks of 2024 in which clocks were changed ---- */

/* posix/… are the same zones once more; right/… are refused by PostgreSQL, too (leap seconds) */
SELECT array_agg(name ORDER BY name COLLATE "C") AS all_zones FROM pg_timezone_names WHERE name !~ '^(posix|right)/' \gset
SELECT cmp_ok(cardinality(:'all_zones'::text[]), '>', 400, 'the zone database is there');
SELECT ok(:'all_zones'::text[] @> ARRAY[zone], 'with ' || zone)
  FROM unnest('{America/New_York,Europe/Berlin,Australia/Sydney,Australia/Lord_Howe,Pacific/Chatham,Asia/Kathmandu,Asia/Kolkata,America/St_Johns,Antarctica/Troll,Pacific/Kiritimati}'::text[]) zone;

CREATE FUNCTION t.week(zones text[], since timestamptz, until timestamptz, at time DEFAULT '08:00', step interval DEFAULT '15 minutes', times time[] DEFAULT '{NULL}')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    days    integer;
    result  text;
BEGIN
    PERFORM t.people(zones, times), t.setr(jsonb_build_object('reminder_time', at)), t.sweep(since, until);
    result := (SELECT string_agg(d, E'\n') FROM t.differences(since, until, at, step) d);
    days := (SELECT count(*) FROM t.log WHERE tick > since);
    /* a test that finds nobody notified proves nothing */
    RETURN COALESCE(result, CASE WHEN days < cardinality(zones) * cardinality(times) / 2 THEN 'only ' || days || ' notified' ELSE 'right' END);
END
$$;
SELECT is(t.week(:'all_zones', since::timestamptz, until::timestamptz), 'right', format('all zones, %s to %s: %s', since, until, what))
  FROM (VALUES ('2024-03-09 00:00+00', '2024-03-12 00:00+00', 'spring in America'),
               ('2024-03-30 00:00+00', '2024-04-08 00:00+00', 'spring in Europe, autumn in Australia'),
               ('2024-10-05 00:00+00', '2024-10-07 00:00+00', 'spring in Australia'),
               ('2024-10-26 00:00+00', '2024-10-28 00:00+00', 'autumn in Europe'), ('2024-11-02 00:00+00', '2024-11-04 12:00+00', 'autumn in America')) v(since, until, what);

/* ---- clocks of the past: date lines crossed, half hours, hours gone for good ---- */
SELECT is(t.week(zones::text[], day::timestamptz - interval '36 hours', day::timestamptz + interval '36 hours', '08:00', '1 minute'), 'right', format('%s around %s', zones, day))
  FROM (VALUES ('{Pacific/Apia,Pacific/Fakaofo,Pacific/Pago_Pago,UTC}', '2011-12-30 00:00+00'), ('{America/Caracas}', '2007-12-09 00:00+00'), ('{America/Caracas}', '2016-05-01 00:00+00'),
               ('{Asia/Pyongyang,Asia/Seoul}', '2015-08-15 00:00+00'), ('{Asia/Pyongyang,Asia/Seoul}', '2018-05-05 00:00+00'), ('{Pacific/Kwajalein,Pacific/Majuro}', '1993-08-21 00:00+00'),
               ('{Pacific/Kwajalein}', '1969-10-01 00:00+00'), ('{Pacific/Kiritimati,Pacific/Kanton}', '1995-01-01 00:00+00'),
               ('{America/Juneau,America/Sitka,America/Metlakatla}', '1867-10-19 00:00+00'), ('{Asia/Manila}', '1844-12-31 00:00+00'), ('{Africa/Monrovia}', '1972-01-07 00:00+00'),
               ('{Europe/Amsterdam,Europe/Dublin}', '1916-05-21 00:00+00'), ('{Africa/Casablanca,Africa/El_Aaiun,America/New_York}', '2024-03-10 00:00+00')) z(zones, day);
CREATE FUNCTION t.dates(zone text, since timestamptz, until timestamptz) RETURNS date[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.people(ARRAY[zone]), t.sweep(since, until);
    RETURN (SELECT array_agg(local_date ORDER BY tick) FROM t.log);
END
$$;
SELECT is(t.dates(zone, since::timestamptz, until::timestamptz), dates::date[], what)
  FROM (VALUES ('Pacific/Apia', '2011-12-28 12:00+00', '2012-01-01 12:00+00', '{2011-12-28,2011-12-29,2011-12-31,2012-01-01}', 'Samoa had no 30 December 2011: there is nothing to remind of'),
               ('Pacific/Kwajalein', '1993-08-19 12:00+00', '1993-08-23 12:00+00', '{1993-08-19,1993-08-20,1993-08-22,1993-08-23}', 'nor Kwajalein a 21 August 1993'),
               ('Pacific/Kwajalein', '1969-09-28 12:00+00', '1969-10-01 22:00+00', '{1969-09-29,1969-09-30,1969-10-01}', 'but 30 September 1969 twice: once is enough')) v(zone, since, until, dates, what);

/* ---- times of day that clocks jump over, or show twice ---- */
SELECT is(t.week(zones::text[], day::timestamptz - interval '16 hours', day::timestamptz + interval '20 hours', at::time, '1 minute'), 'right', format('%s at %s, %s', zones, at, day))
  FROM (VALUES ('{America/New_York,America/Havana}', '{02:30,02:00,03:00,00:30,00:00}', '2024-03-10 06:00+00'),
               ('{America/New_York,America/Havana}', '{01:30,01:55,00:30,00:00}', '2024-11-03 06:00+00'),
               ('{Asia/Beirut,America/Nuuk,America/Scoresbysund,Antarctica/Troll,Atlantic/Azores,Europe/Lisbon,Europe/Berlin}', '{00:00,00:30,01:30,02:30,23:30}', '2024-03-31 00:00+00'),
               ('{Asia/Beirut,America/Nuuk,America/Scoresbysund,Antarctica/Troll,Atlantic/Azores,Europe/Lisbon,Europe/Berlin}', '{00:00,00:30,02:30,23:30}', '2024-10-27 00:00+00'),
               ('{Africa/Cairo,Asia/Gaza}', '{00:00,00:30}', '2024-04-25 22:00+00'), ('{Africa/Cairo}', '{23:30,00:00}', '2024-10-31 21:00+00'),
               ('{America/Sao_Paulo}', '{00:30,23:30}', '2018-11-04 03:00+00'), ('{America/Sao_Paulo}', '{23:30,00:00}', '2018-02-18 02:00+00'),
               ('{Australia/Lord_Howe}', '{02:15,02:30}', '2024-10-05 15:30+00'), ('{Australia/Lord_Howe}', '{01:45,02:00}', '2024-04-06 15:00+00'),
               ('{America/Caracas}', '{02:45,03:00}', '2016-05-01 07:00+00'), ('{America/Caracas}', '{02:45}', '2007-12-09 07:00+00'),
               ('{Asia/Pyongyang}', '{23:45,00:00}', '2015-08-14 15:00+00'), ('{Asia/Pyongyang}', '{23:45,00:00}', '2018-05-04 15:00+00'),
               ('{Pacific/Apia}', '{00:00,23:59}', '2011-12-30 10:00+00')) z(zones, times, day),
       unnest(times::text[]) at;
CREATE FUNCTION t.first(zone text, at text, date date) RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.people(ARRAY[zone]), t.setr(jsonb_build_object('reminder_time', at)), t.sweep(date - interval '15 hours', date + interval '39 hours');
    RETURN (SELECT tick FROM t.log WHERE local_date = date);
END
$$;
SELECT is(t.first(zone, at, date::date), tick::timestamptz, what)
  FROM (VALUES ('America/New_York', '02:30', '2024-03-10', '2024-03-10 07:00+00', 'New York, in the gap: at its end'), ('America/New_York', '01:30', '2024-11-03', '2024-11-03 05:30+00', 'twice: the first time'),
               ('America/Havana', '00:00', '2024-03-10', '2024-03-10 05:00+00', 'Havana: the day begins at one'), ('Africa/Cairo', '00:30', '2024-04-26', '2024-04-25 22:00+00', 'Cairo, likewise'),
               ('America/Nuuk', '23:30', '2024-03-30', NULL, 'Nuuk: the gap ends when the date does'), ('America/Nuuk', '23:30', '2024-10-26', '2024-10-27 00:30+00', 'and in autumn the hour before it comes twice'),
               ('Australia/Lord_Howe', '02:15', '2024-10-06', '2024-10-05 15:30+00', 'Lord Howe: half an hour')) v(zone, at, date, tick, what);

/* ---- users with times of their own, some of which clocks jump over or show twice ---- */
SELECT challenge_jobs.bind('users', 'app.users', '{"reminder_time": "reminder_time"}') \g /dev/null
CREATE INDEX ON app.users (timezone, reminder_time);
SELECT '{NULL,00:00,00:30,01:30,02:00,02:15,02:30,03:00,08:00,12:45,23:30,23:45}' AS own_times \gset
SELECT is(t.week(zones::text[], day::timestamptz - interval '16 hours', day::timestamptz + interval '26 hours', '08:00', '15 minutes', :'own_times'), 'right',
          format('%s around %s, with times of their own', zones, day))
  FROM (VALUES ('{America/New_York,America/Havana,UTC}', '2024-03-10 06:00+00'), ('{America/New_York,America/Havana,Asia/Kolkata}', '2024-11-03 06:00+00'),
               ('{Asia/Beirut,America/Nuuk,Antarctica/Troll,Atlantic/Azores,Europe/Berlin,Pacific/Chatham}', '2024-03-31 00:00+00'),
               ('{Asia/Beirut,America/Nuuk,Antarctica/Troll,Atlantic/Azores,Europe/Berlin,Pacific/Chatham}', '2024-10-27 00:00+00'),
               ('{Africa/Cairo,Asia/Gaza}', '2024-04-25 22:00+00'), ('{America/Sao_Paulo}', '2018-11-04 03:00+00'),
               ('{Australia/Lord_Howe,Australia/Sydney,Pacific/Kiritimati}', '2024-10-05 15:30+00'), ('{Australia/Lord_Howe}', '2024-04-06 15:00+00'),
               ('{America/Caracas}', '2016-05-01 07:00+00'), ('{Asia/Pyongyang}', '2018-05-04 15:00+00'), ('{Pacific/Apia}', '2011-12-30 10:00+00')) z(zones, day);

/* ---- people on the move ---- */

/*
 * Users move between zones and change their times, runs fall out (for less than the window), batches have any size. After every
 * run, whoever is in a zone in which it is his morning must have been notified for that date, and nobody else.
 */
\if :{?seed}
\else
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
SELECT diag('seed: ' || :'seed');
SELECT setseed(:seed / 1000000.0) \g /dev/null
CREATE TABLE t.moment AS
SELECT zone, at, d AS local_date, min(moment) AS moment
  FROM unnest('{UTC,America/New_York,America/Los_Angeles,America/Havana,America/St_Johns,Pacific/Honolulu,Pacific/Pago_Pago,Pacific/Kiritimati,Pacific/Auckland,Pacific/Chatham,'
              'Australia/Lord_Howe,Australia/Sydney,Asia/Tokyo,Asia/Kathmandu,Asia/Kolkata,Asia/Tehran,Europe/Berlin,Europe/London,Atlantic/Azores,America/Nuuk,Antarctica/Troll,Africa/Cairo}'::text[]) zone,
       generate_series('2024-03-27 00:00+00'::timestamptz, '2024-04-05 00:00+00', '15 minutes') moment,
       LATERAL (VALUES ((moment AT TIME ZONE zone)::date), ((moment AT TIME ZONE zone)::date - 1)) v(d),
       unnest('{08:00,00:00,02:30,06:45,23:30}'::time[]) at
 WHERE (moment AT TIME ZONE zone) >= d + at
 GROUP BY 1, 2, 3;
CREATE INDEX ON t.moment (zone, at);
CREATE FUNCTION t.wander(people integer, times time[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    zones   text[] := (SELECT array_agg(DISTINCT zone ORDER BY zone) FROM t.moment);
    now     timestamptz;
    down    integer := 0;
    runs    integer := 0;
BEGIN
    PERFORM t.people((SELECT array_agg(zones[1 + floor(random() * cardinality(zones))] ORDER BY n) FROM generate_series(1, people) n), times[1:1]);
    FOR now IN SELECT generate_series('2024-03-29 00:00+00'::timestamptz, '2024-04-03 00:00+00', '15 minutes') LOOP
        UPDATE app.users SET timezone = zones[1 + floor(random() * cardinality(zones))] WHERE random() < 0.01;
        UPDATE app.users SET reminder_time = times[1 + floor(random() * cardinality(times))] WHERE cardinality(times) > 1 AND random() < 0.01;
        down := CASE WHEN down > 0 THEN down - 1 WHEN random() < 0.1 THEN floor(random() * 8) ELSE 0 END;
        CONTINUE WHEN down > 0;
        PERFORM t.setr(jsonb_build_object('batch_size', 1 + floor(random() * 20)));
        PERFORM t.tick(now);
        runs := runs + 1;
        RETURN QUERY
        SELECT format('user %s in %s at %s: not notified for %s', u.id, u.timezone, now, m.local_date)
          FROM app.users u
          JOIN t.moment m ON m.zone = u.timezone AND m.at = COALESCE(u.reminder_time, '08:00') AND now BETWEEN m.moment AND m.moment + interval '2 hours'
           AND (now AT TIME ZONE u.timezone)::date = m.local_date
         WHERE NOT EXISTS (SELECT FROM challenge_jobs.reminder r WHERE r.user_key = u.id::text AND r.local_date = m.local_date);
        RETURN QUERY
        SELECT format('user %s in %s at %s: notified for %s', u.id, u.timezone, now, n.local_date)
          FROM t.log n
          JOIN app.users u ON u.id = n.user_id
         WHERE n.tick = now
           AND NOT EXISTS (SELECT FROM t.moment m WHERE m.zone = u.timezone AND m.at = COALESCE(u.reminder_time, '08:00') AND m.local_date = n.local_date AND now BETWEEN m.moment AND m.moment + interval '2 hours'
                               AND (now AT TIME ZONE u.timezone)::date = m.local_date);
    END LOOP;
    RETURN QUERY SELECT format('user %s was notified %s times for %s', user_id, count(*), local_date) FROM t.log GROUP BY user_id, local_date HAVING count(*) > 1;
    RETURN QUERY SELECT format('only %s runs', runs) WHERE runs < 100;
    RETURN QUERY SELECT 'hardly anybody was notified' WHERE (SELECT count(*) FROM t.log) < 4 * people;
END
$$;
TRUNCATE t.log;
SELECT is((SELECT string_agg(w, E'\n') FROM t.wander(60, '{NULL,08:00,00:00,02:30,06:45,23:30}') w), NULL, 'so is who changes the time of the reminder');
SELECT challenge_jobs.bind('users', 'app.users') \g /dev/null
TRUNCATE t.log;
SELECT is((SELECT string_agg(w, E'\n') FROM t.wander(60, '{NULL}') w), NULL, 'whoever moves is notified once on every local date, whose morning it is where they are');

SELECT * FROM finish();
ROLLBACK;
