/*
 * Which challenges are due: wrong answers here end a challenge a day early, or never.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

ALTER TABLE app.challenges ALTER end_date DROP DEFAULT;

/* t.due: is a challenge with this end_date of this type due as of this moment, in this zone? */
CREATE FUNCTION t.due(type text, end_date text, as_of timestamptz, zone text DEFAULT 'UTC') RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.challenges;
    EXECUTE format('ALTER TABLE app.challenges ALTER end_date TYPE %s USING NULL', type);
    EXECUTE format('INSERT INTO app.challenges (id, end_date) VALUES (1, %L)', end_date);
    PERFORM t.set(jsonb_build_object('day_time_zone', zone));
    RETURN (SELECT completed + failed = 1 FROM public.auto_complete_challenges(as_of, true));
END
$$;

/* ---- date: due when the day is over in day_time_zone ---- */
SELECT ok(NOT t.due('date', '2024-03-01', '2024-03-01 23:59:59.999999+00'), 'a date is not due on its day');
SELECT ok(t.due('date', '2024-03-01', '2024-03-02 00:00:00+00'), 'a date is due at the first moment after its day');
SELECT ok(t.due('date', '2024-02-01', '2024-03-05 11:00+00'), 'a date is due a month later');
SELECT ok(t.due('date', '2020-02-29', '2024-03-05 11:00+00'), 'a date is due years later');
SELECT ok(NOT t.due('date', '2024-03-06', '2024-03-05 11:00+00'), 'a date in the future is not due');
SELECT ok(NOT t.due('date', 'infinity', '2024-03-05 11:00+00'), 'a date that never comes is not due');
SELECT ok(t.due('date', '-infinity', '2024-03-05 11:00+00'), 'a date before all time is due');
SELECT ok(NOT t.due('date', '2024-03-01', '2024-03-01 09:59:59+00', 'Pacific/Kiritimati'),
          'day_time_zone: a second before midnight there');
SELECT ok(t.due('date', '2024-03-01', '2024-03-01 10:00+00', 'Pacific/Kiritimati'),
          'day_time_zone: at midnight there');
SELECT ok(NOT t.due('date', '2024-03-01', '2024-03-02 04:59:59+00', 'America/New_York'),
          'day_time_zone: the day lasts longer west of Greenwich');
SELECT ok(t.due('date', '2024-03-01', '2024-03-02 05:00+00', 'America/New_York'),
          'day_time_zone: midnight in New York');
SELECT ok(NOT t.due('date', '2024-03-30', '2024-03-30 22:59:59+00', 'Europe/Berlin')
          AND t.due('date', '2024-03-30', '2024-03-30 23:00+00', 'Europe/Berlin')
          AND NOT t.due('date', '2024-03-31', '2024-03-31 21:59:59+00', 'Europe/Berlin')
          AND t.due('date', '2024-03-31', '2024-03-31 22:00+00', 'Europe/Berlin'),
          'the day on which summer time begins has 23 hours');
SELECT ok(t.due('date', '2024-03-01', '2024-03-02 00:00:00+00', 'utc'), 'zone names in any case');
SELECT ok(NOT t.due('date', '0044-03-15 BC', '0044-03-15 12:00+00 BC') AND t.due('date', '0044-03-15 BC', '0044-03-16 00:00+00 BC'),
          'dates before our era');

/* ---- timestamptz: due when it has come, whatever the zone ---- */
SELECT ok(NOT t.due('timestamptz', '2024-03-01 12:00+00', '2024-03-01 11:59:59.999999+00'), 'a moment is not due before it has come');
SELECT ok(t.due('timestamptz', '2024-03-01 12:00+00', '2024-03-01 12:00+00'), 'a moment is due when it comes');
SELECT ok(t.due('timestamptz', '2024-03-01 12:00+00', '2024-03-01 12:00+00', 'Pacific/Kiritimati')
          AND NOT t.due('timestamptz', '2024-03-01 12:00+00', '2024-03-01 11:59:59.999999+00', 'Pacific/Kiritimati'),
          'a moment is due at the same moment in any day_time_zone');
SELECT ok(NOT t.due('timestamptz', 'infinity', '2024-03-01 12:00+00'), 'a moment that never comes is not due');
SELECT ok(t.due('timestamptz', '2024-01-01 00:00+00', '2024-03-01 12:00+00'), 'a moment is due a month later');
SELECT ok(t.due('timestamptz(0)', '2024-03-01 12:00+00', '2024-03-01 12:00+00')
          AND NOT t.due('timestamptz(0)', '2024-03-01 12:00:01+00', '2024-03-01 12:00:00.9+00'),
          'a moment of a lower precision');

/* ---- timestamp: read in day_time_zone ---- */
SELECT ok(NOT t.due('timestamp', '2024-03-01 12:00', '2024-03-01 11:59:59.999999+00'), 'a timestamp is read in UTC: not yet');
SELECT ok(t.due('timestamp', '2024-03-01 12:00', '2024-03-01 12:00+00'), 'a timestamp is read in UTC: now');
SELECT ok(NOT t.due('timestamp', '2024-03-01 12:00', '2024-03-01 16:59:59.999999+00', 'America/New_York'), 'a timestamp is read in day_time_zone: not yet');
SELECT ok(t.due('timestamp', '2024-03-01 12:00', '2024-03-01 17:00+00', 'America/New_York'), 'a timestamp is read in day_time_zone: now');
SELECT ok(NOT t.due('timestamp', 'infinity', '2024-03-01 12:00+00'), 'a timestamp that never comes is not due');

/* 02:30 comes twice on 2023-10-29; AT TIME ZONE reads it as the second one */
SELECT ok(NOT t.due('timestamp', '2023-10-29 02:30', '2023-10-29 00:30+00', 'Europe/Berlin'), 'a local time that occurs twice is not due the first time');
SELECT ok(NOT t.due('timestamp', '2023-10-29 02:00', '2023-10-29 00:59:59+00', 'Europe/Berlin'), 'the beginning of the repeated hour is not due in its first course');
SELECT ok(t.due('timestamp', '2023-10-29 01:59:59', '2023-10-29 00:00+00', 'Europe/Berlin'), 'what was before the repeated hour is due in it');
SELECT ok(t.due('timestamp', '2023-10-29 02:30', '2023-10-29 01:30+00', 'Europe/Berlin')
          AND NOT t.due('timestamp', '2023-10-29 02:30', '2023-10-29 01:29:59+00', 'Europe/Berlin'), 'a local time that occurs twice is due the second time');
/* 02:30 does not exist on 2023-03-26: clocks go from 02:00 to 03:00, at 01:00 UTC */
SELECT ok(NOT t.due('timestamp', '2023-03-26 02:30', '2023-03-26 00:59:59+00', 'Europe/Berlin'), 'a local time that is skipped is not due before the gap');
SELECT ok(t.due('timestamp', '2023-03-26 02:30', '2023-03-26 01:30+00', 'Europe/Berlin'), 'a local time that is skipped is due at the latest where AT TIME ZONE puts it');

/* Every quarter of an hour of local time against every quarter of an hour of UTC. */
CREATE FUNCTION t.differences(zone text, first_day date) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    result  bigint := 0;
    as_of   timestamptz;
BEGIN
    PERFORM t.set(jsonb_build_object('day_time_zone', zone));
    DELETE FROM app.challenges;
    ALTER TABLE app.challenges ALTER end_date TYPE timestamp USING NULL;
    INSERT INTO app.challenges (id, end_date)
    SELECT row_number() OVER (), x
      FROM generate_series(first_day::timestamp, first_day + interval '36 hours', interval '15 minutes') x
     WHERE x AT TIME ZONE zone AT TIME ZONE zone = x;      -- not those that a gap skips
    FOR as_of IN SELECT generate_series(first_day::timestamp - interval '14 hours', first_day + interval '48 hours',
                                        interval '15 minutes') AT TIME ZONE 'UTC'
    LOOP
        result := result + abs((SELECT completed + failed FROM public.auto_complete_challenges(as_of, true))
                               - (SELECT count(*) FROM app.challenges WHERE end_date AT TIME ZONE zone <= as_of));
    END LOOP;
    RETURN result;
END
$$;
SELECT is(t.differences(zone, first_day), 0::bigint, format('timestamps are due as AT TIME ZONE reads them: %s, %s', zone, first_day))
  FROM (VALUES ('Europe/Berlin', date '2023-03-26'), ('Europe/Berlin', '2023-10-29'),
               ('Australia/Lord_Howe', '2023-04-02'), ('Australia/Lord_Howe', '2023-10-01'),
               ('America/St_Johns', '2006-10-29'), ('Pacific/Apia', '2011-12-29')) z(zone, first_day);

/* ---- the session's zone changes nothing ---- */
CREATE FUNCTION t.due_in_sessions(type text, end_date text, as_of timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    zone    text;
    result  text := '';
BEGIN
    FOREACH zone IN ARRAY ARRAY['UTC', 'Pacific/Kiritimati', 'America/Los_Angeles', '<+17>-17']
    LOOP
        SET LOCAL timezone = 'UTC';
        /* the value is made under UTC: only the run is under the session's zone */
        PERFORM t.due(type, end_date, as_of);
        PERFORM set_config('timezone', zone, true);
        result := result || (SELECT completed + failed FROM public.auto_complete_challenges(as_of, true));
    END LOOP;
    SET LOCAL timezone = 'UTC';
    RETURN result;
END
$$;
SELECT is(t.due_in_sessions('date', '2024-03-01', '2024-03-01 11:00+00'), '0000',
          'at 11:00 UTC it is tomorrow in Kiritimati, and the day is over nowhere else: UTC decides');
SELECT is(t.due_in_sessions('date', '2024-03-01', '2024-03-02 00:00+00'), '1111', 'at midnight UTC the day is over in every session');
SELECT is(t.due_in_sessions('timestamp', '2024-03-01 12:00', '2024-03-01 11:59+00'), '0000', 'timestamp, too early in every session');
SELECT is(t.due_in_sessions('timestamp', '2024-03-01 12:00', '2024-03-01 12:00+00'), '1111', 'timestamp, due in every session');
SELECT is(t.due_in_sessions('timestamptz', '2024-03-01 12:00+00', '2024-03-01 12:00+00'), '1111', 'timestamptz, due in every session');

/* ---- what is not active, and what a run does ---- */
DELETE FROM app.challenges;
ALTER TABLE app.challenges ALTER end_date TYPE date USING NULL;
SELECT t.set('{"day_time_zone": null}') \g /dev/null
INSERT INTO app.challenges (id, name, status, end_date)
VALUES (1, 'a', 'active', '2024-01-01'), (2, 'b', 'draft', '2024-01-01'), (3, 'c', 'completed', '2024-01-01'),
       (4, 'd', 'ACTIVE', '2024-01-01'), (5, 'e', 'active', '2999-01-01'), (6, 'f', 'active', '2023-01-01'),
       (7, 'g', 'active ', '2024-01-01');
SELECT is(t.run(), '0 2 0', 'however late, all that is due and active is decided');
SELECT is(t.statuses(), 'a=failed b=draft c=completed d=ACTIVE e=active f=failed g=active ',
          'what is not active, or in the future, is not touched');
SELECT is(t.run(), '0 0 0', 'a second run does nothing');
ALTER TABLE app.challenges ALTER end_date DROP NOT NULL;
INSERT INTO app.challenges (id, end_date) VALUES (8, NULL);
SELECT is(t.run(), '0 0 0', 'without an end date a challenge is never due');
SELECT is(t.run('2999-01-02 00:00+00', true), '0 1 0', 'a dry run can look ahead');
SELECT matches(t.error($$SELECT t.run('2999-01-02 00:00+00')$$), '^22023: as_of is in the future', 'a run of an as_of in the future is refused');
SELECT is((t.last_run()).as_of, '2999-01-02 00:00+00'::timestamptz, 'the run row says as of when');

SELECT * FROM finish();
ROLLBACK;
