/*
 * What is at stake: which challenges run on the date, which streaks are alive, and what becomes of the reminder afterwards.
 * The rules of streaks are swept against an oracle in plain SQL, through zones and changes of clocks.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

/* ---- alive: the last check-in was streak_period before, in the user's zone or, of daily ones, in UTC ---- */
CREATE TABLE t.sweep (user_id integer PRIMARY KEY, last timestamptz);
INSERT INTO t.sweep SELECT n, NULL FROM generate_series(1, 1) n;
CREATE FUNCTION t.at_stake(last timestamptz, d date, zone text, period text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN last IS NULL THEN true
                WHEN period = 'off' THEN (last AT TIME ZONE zone)::date < d
                WHEN period = '1 day' THEN (last AT TIME ZONE zone)::date < d
                                           AND GREATEST((last AT TIME ZONE zone)::date, (last AT TIME ZONE 'UTC')::date) >= d - 1
                ELSE (last AT TIME ZONE zone)::date = d - period::interval
           END
$$;
/* A user for each half hour around the days before; who is reminded and should not be, and the other way. */
CREATE FUNCTION t.wrong(d date, zone text, period text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    morning timestamptz := (d + time '08:00') AT TIME ZONE zone;
BEGIN
    PERFORM t.clear(), t.setr(jsonb_build_object('streak_period', period));
    DELETE FROM t.sweep;
    INSERT INTO t.sweep VALUES (1, NULL);
    INSERT INTO t.sweep
    SELECT row_number() OVER () + 1, m + shift
      FROM generate_series(morning - interval '9 days', morning + interval '1 day', interval '30 minutes') m,
           unnest('{0,-1 microsecond}'::interval[]) shift;
    INSERT INTO app.challenges (id, end_date) VALUES (1, 'infinity');
    INSERT INTO app.users SELECT user_id, zone FROM t.sweep;
    INSERT INTO app.challenge_members (challenge_id, user_id, current_streak, last_checkin_at) SELECT 1, user_id, 3, last FROM t.sweep;
    PERFORM t.remind(morning);
    RETURN (SELECT string_agg(last::text, ', ' ORDER BY last)
              FROM t.sweep s
             WHERE t.at_stake(last, d, zone, period)
                   IS DISTINCT FROM EXISTS (SELECT FROM app.notifications n WHERE n.user_id = s.user_id));
END
$$;
SELECT is(t.wrong(d, zone, period), NULL, format('streaks at stake in %s on %s, streak_period %s', zone, d, period))
  FROM unnest('{UTC,America/Los_Angeles,America/New_York,Asia/Tokyo,Asia/Kolkata,Pacific/Kiritimati,Pacific/Pago_Pago,Australia/Lord_Howe}'::text[]) zone,
       unnest('{2024-05-15,2024-03-10,2024-03-11,2024-11-03,2024-11-04,2024-04-07}'::date[]) d,
       unnest('{1 day,7 days,off}'::text[]) period;
/* Samoa had no 30 December 2011 */
SELECT is(t.wrong('2011-12-31', 'Pacific/Apia', 'off'), NULL, 'a date after one that never was');
SELECT t.clear(), t.join(1, 'Pacific/Apia') \g /dev/null
UPDATE app.challenge_members SET last_checkin_at = '2011-12-29 12:00-10';
SELECT is(t.morning('2011-12-31 08:00+14'), '1', 'the day before it was two dates ago, and the streak is alive');
SELECT throws_ok(format($$SELECT t.setr('{"streak_period": "%s"}')$$, value), '22023', NULL, 'streak_period ' || value) FROM unnest('{36 hours,0,0 days,367 days,weekly}'::text[]) value;
SELECT lives_ok($$SELECT t.setr('{"streak_period": "1 week"}')$$, 'a week is seven days');

/* Who stopped long ago is left in peace. */
SELECT t.clear(), t.join(1) \g /dev/null
UPDATE app.challenge_members SET last_checkin_at = '2023-06-15 12:00+00';
SELECT is((SELECT string_agg(t.morning(m), '') FROM generate_series('2024-05-15 08:00+00'::timestamptz, '2024-06-15 08:00+00', '1 day') m), '',
          'a streak of 3 that ended eleven months ago is never at stake');

/* ---- the challenge runs on the date ---- */
CREATE FUNCTION t.runs(column_name text, type text, value text, zone text DEFAULT 'UTC') RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.join(1, zone);
    EXECUTE format('ALTER TABLE app.challenges DROP COLUMN IF EXISTS start_date, %s', CASE column_name
        WHEN 'start_date' THEN format('ADD start_date %s', type)
        ELSE format('ALTER end_date DROP DEFAULT, ALTER end_date DROP NOT NULL, ALTER end_date TYPE %s USING NULL', type) END);
    EXECUTE format('UPDATE app.challenges SET %I = %L', column_name, value);
    RETURN t.morning(('2024-05-15 08:00'::timestamp AT TIME ZONE zone)) = '1';
END
$$;
SELECT is(t.runs(column_name, type, value, zone), runs, format('%s %s %s, in %s', column_name, type, value, zone))
  FROM (VALUES ('end_date', 'date', '2024-05-14', 'UTC', false), ('end_date', 'date', '2024-05-15', 'UTC', true), ('end_date', 'date', NULL, 'UTC', true),
               ('end_date', 'date', '2024-05-15', 'Pacific/Kiritimati', true), ('end_date', 'date', '2024-05-14', 'Pacific/Pago_Pago', false),
               ('end_date', 'date', 'infinity', 'UTC', true), ('end_date', 'date', '-infinity', 'UTC', false),
               ('end_date', 'timestamptz', '2024-05-15 08:00+00', 'UTC', false), ('end_date', 'timestamptz', '2024-05-15 08:00:00.000001+00', 'UTC', true),
               ('end_date', 'timestamp', '2024-05-15 08:00', 'UTC', false), ('end_date', 'timestamp', '2024-05-15 08:01', 'UTC', true),
               ('end_date', 'date', '2024-02-29', 'UTC', false),
               ('start_date', 'date', '2024-05-15', 'UTC', true), ('start_date', 'date', '2024-05-16', 'UTC', false), ('start_date', 'date', NULL, 'UTC', true),
               ('start_date', 'timestamptz', '2024-05-15 23:59+00', 'UTC', true), ('start_date', 'timestamptz', '2024-05-16 00:00+00', 'UTC', false),
               /* the fifteenth of Tokyo ends at 15:00 UTC */
               ('start_date', 'timestamptz', '2024-05-15 14:59+00', 'Asia/Tokyo', true), ('start_date', 'timestamptz', '2024-05-15 15:00+00', 'Asia/Tokyo', false),
               ('start_date', 'timestamp', '2024-05-15 14:59', 'Asia/Tokyo', true), ('start_date', 'timestamp', '2024-05-15 15:00', 'Asia/Tokyo', false)) v(column_name, type, value, zone, runs);
ALTER TABLE app.challenges DROP start_date;
ALTER TABLE app.challenges ALTER end_date TYPE date USING NULL;

/* ---- next_due_on: rest days, weekly goals; only where bind() names it ---- */
SELECT t.clear(), t.join(1), t.join(2), t.join(3) \g /dev/null
ALTER TABLE app.challenge_members ADD next_due_on date;
UPDATE app.challenge_members SET next_due_on = CASE user_id WHEN 1 THEN date '2024-05-15' WHEN 2 THEN date '2024-05-16' END;
SELECT is(t.morning(), '1 2 3', 'a column of that name may mean something else');
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members', '{"next_due_on": "next_due_on"}') \g /dev/null
DELETE FROM challenge_jobs.reminder;
SELECT is(t.morning(), '1 3', 'bound it says when a check-in is due next');
/* with last check-ins of any day, and streaks of any period: who is reminded on 15 May, and who by this rule should be */
CREATE TABLE t.due (id serial, next date, last date);
INSERT INTO t.due (next, last)
SELECT '2024-05-15'::date + n, '2024-05-15'::date - l FROM unnest('{NULL,-14,-1,0,1}'::integer[]) n, unnest('{NULL,0,1,2,6,7,8,30}'::integer[]) l;
CREATE FUNCTION t.should(next date, last date, period integer) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN last >= '2024-05-15' OR next > '2024-05-15' THEN false
                WHEN next = '2024-05-15' OR period = 0 THEN true
                WHEN last IS NULL THEN next IS NULL
                ELSE last = '2024-05-15'::date - period END
$$;
CREATE FUNCTION t.due(period text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reminded    text[];
BEGIN
    PERFORM t.clear(), t.setr(jsonb_build_object('streak_period', period));
    PERFORM t.join(id) FROM t.due;
    UPDATE app.challenge_members m SET next_due_on = d.next, last_checkin_at = d.last + time '12:00' FROM t.due d WHERE d.id = m.user_id;
    reminded := string_to_array(t.morning(), ' ');
    RETURN (SELECT string_agg(id::text, ' ' ORDER BY id) FROM t.due WHERE id::text = ANY (reminded));
END
$$;
SELECT is(t.due(period), (SELECT string_agg(id::text, ' ' ORDER BY id) FROM t.due WHERE COALESCE(t.should(next, last, days), false)), format('next_due_on and the last check-in, with streak_period %s', period))
  FROM (VALUES ('1 day', 1), ('7 days', 7), ('off', 0)) v(period, days);
SELECT t.setr('{"streak_period": null}') \g /dev/null
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members', '{"next_due_on": "next_due_on", "last_checkin_at": null}') \g /dev/null
SELECT t.clear(), t.join(1), t.join(2), t.join(3), t.join(4) \g /dev/null
UPDATE app.challenge_members SET next_due_on = date '2024-05-15' + CASE user_id WHEN 1 THEN 0 WHEN 2 THEN 1 WHEN 3 THEN -1 END;
SELECT is(t.morning(), '1 4', 'without last check-ins, a day that is past says that the streak is over');
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members', '{"next_due_on": "next_due_on"}') \g /dev/null
ALTER TABLE app.challenge_members ALTER next_due_on TYPE timestamptz;
SELECT throws_ok('SELECT send_streak_reminders()', '42804', NULL, 'it has to be a date');
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members') \g /dev/null
ALTER TABLE app.challenge_members DROP next_due_on;

/* ---- check-in dates that the server fills ---- */
ALTER TABLE app.challenge_members ALTER last_checkin_at TYPE date USING NULL;
CREATE FUNCTION t.dated(value date, zone text, setting text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.join(1, zone), t.setr(jsonb_build_object('checkin_date_zone', setting));
    UPDATE app.challenge_members SET last_checkin_at = value;
    RETURN t.morning(('2024-05-15 08:00'::timestamp AT TIME ZONE zone)) = '1';
END
$$;
SELECT is(t.dated(value, zone, setting), reminded, format('last check-in dated %s, %s, of a user in %s', value, setting, zone))
  FROM (VALUES ('2024-05-14'::date, 'Asia/Tokyo', 'local', true), ('2024-05-15', 'Asia/Tokyo', 'local', false),
               /* at 08:00 in Tokyo it is 23:00 of the 14th in UTC, at 08:00 in Los Angeles 15:00 of the 15th */
               ('2024-05-14', 'Asia/Tokyo', 'UTC', false), ('2024-05-13', 'Asia/Tokyo', 'UTC', true), ('2024-05-12', 'Asia/Tokyo', 'UTC', false),
               ('2024-05-15', 'America/Los_Angeles', 'UTC', false), ('2024-05-14', 'America/Los_Angeles', 'UTC', true), ('2024-05-13', 'America/Los_Angeles', 'UTC', false)) v(value, zone, setting, reminded);
SELECT throws_ok($$SELECT t.setr('{"checkin_date_zone": "Mars"}')$$, '22023', NULL, 'a zone that is none');
ALTER TABLE app.challenge_members ALTER last_checkin_at TYPE timestamptz USING NULL;

/* ---- the day of night owls ---- */
CREATE FUNCTION t.owl(last timestamptz, starts text, zone text DEFAULT 'UTC') RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.join(1, zone), t.setr(jsonb_build_object('day_starts_at', starts));
    UPDATE app.challenge_members SET last_checkin_at = last;
    RETURN t.morning(('2024-05-15 08:00'::timestamp AT TIME ZONE zone)) = '1';
END
$$;
SELECT is(t.owl(last, starts, zone), reminded, format('a check-in at %s, day_starts_at %s in %s', last, starts, zone))
  FROM (VALUES ('2024-05-15 00:10+00'::timestamptz, '00:00', 'UTC', false), ('2024-05-15 00:10+00', '03:00', 'UTC', true),
               ('2024-05-15 03:00+00', '03:00', 'UTC', false), ('2024-05-14 17:59+00', '03:00', 'Asia/Tokyo', true), ('2024-05-14 18:00+00', '03:00', 'Asia/Tokyo', false)) v(last, starts, zone, reminded);
SELECT throws_ok($$SELECT t.setr('{"day_starts_at": "06:01"}')$$, '22023', NULL, 'later than six in the morning is no night');

/* ---- users without a zone ---- */
SELECT t.clear(), t.join(1), t.join(2, NULL), t.join(3, 'Mars/Olympus_Mons'), t.setr('{"default_time_zone": "none"}') \g /dev/null
SELECT is(t.morning(), '1', 'default_time_zone none: only users with a zone that is one are reminded');

/* ---- reminders expire ---- */
ALTER TABLE app.notifications ADD expires_at timestamptz;
CREATE FUNCTION t.expiry(setting jsonb, zone text DEFAULT 'UTC') RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.join(1, zone), t.setr(setting), t.remind(('2024-05-15 08:00'::timestamp AT TIME ZONE zone));
    RETURN (SELECT expires_at FROM app.notifications);
END
$$;
SELECT is(t.expiry(setting::jsonb, zone), expires_at, format('expires_at with %s in %s', setting, zone))
  FROM (VALUES ('{}', 'UTC', '2024-05-16 00:00+00'::timestamptz), ('{}', 'Asia/Tokyo', '2024-05-15 15:00+00'), ('{}', 'America/Los_Angeles', '2024-05-16 07:00+00'),
               ('{"day_starts_at": "02:00"}', 'UTC', '2024-05-16 02:00+00'), ('{"expires_after": "6 hours"}', 'Asia/Tokyo', '2024-05-15 05:00+00'),
               ('{"expires_after": "never"}', 'UTC', NULL)) v(setting, zone, expires_at);
SELECT throws_ok($$SELECT t.setr('{"expires_after": "sometimes"}')$$, '22023', NULL, 'an expiry that is none');
ALTER TABLE app.notifications DROP expires_at;
ALTER TABLE app.notifications ADD expires_at timestamp;
SELECT is(t.expiry('{}', 'Asia/Tokyo')::timestamp, '2024-05-15 15:00', 'a timestamp is written as day_time_zone has it');
ALTER TABLE app.notifications DROP expires_at;
ALTER TABLE app.notifications ADD expires_at timestamp GENERATED ALWAYS AS ('2001-01-01') STORED;
SELECT is(t.expiry('{}')::timestamp, '2001-01-01', 'one that the app computes is left to it');
ALTER TABLE app.notifications DROP expires_at;

/* ---- mornings that passed without a run ---- */
CREATE FUNCTION t.missed(as_of timestamptz, dry_run boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', reminded, missed) FROM send_streak_reminders(missed.as_of, missed.dry_run)
$$;
SELECT t.clear(), t.join(1, 'UTC'), t.join(2, 'Asia/Tokyo'), t.join(3, 'Europe/Paris'), t.join(4, 'Europe/Paris'), t.join(5, NULL) \g /dev/null
SELECT is(t.missed('2024-05-15 00:00+00'), '1 0', 'of what was before the first run nothing is missed');
SELECT is(t.missed('2024-05-15 09:00+00', true), '2 2', 'a dry run after nine hours: Paris had its morning at 06:00 UTC');
SELECT is(t.missed('2024-05-15 09:00+00'), '2 2', 'so has the run');
SELECT is(t.missed('2024-05-15 09:15+00'), '0 0', 'which counts them once');
SELECT is(t.missed('2024-05-15 23:30+00'), '1 0', 'what a run came in time for is not missed');
SELECT is(t.missed('2024-05-16 20:00+00'), '0 4', 'after a day without a run the others have missed one');
SELECT is((SELECT value FROM challenge_jobs.metrics WHERE name = 'challenge_jobs_last_missed' AND labels ->> 'job' = 'send_streak_reminders'), 4::double precision, 'a metric has it');

/* ---- two member rows of one user in one challenge ---- */
SELECT t.clear(), t.join(1, 'UTC', 5, 2) \g /dev/null
INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) VALUES (1, 1, 7);
SELECT is(t.morning(), '1', 'a user with two member rows in one challenge is reminded once');
SELECT is((SELECT data FROM app.notifications), '{"streak": 7, "local_date": "2024-05-15", "challenge_ids": [1, 2]}', 'in which each challenge stands once');

SELECT * FROM finish();
ROLLBACK;
