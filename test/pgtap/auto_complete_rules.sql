/*
 * What makes the decision fair: which digits count, whose rates, from when on. Each rule against an oracle in plain SQL.
 */
BEGIN;
\ir app.psql
\ir doctor.psql
SELECT no_plan();

/* t.empty: no challenges */
CREATE FUNCTION t.empty() RETURNS void LANGUAGE sql AS
$$ DELETE FROM app.challenges; DELETE FROM app.challenge_member_stats; DELETE FROM app.challenge_members $$;

/* ---- which digits count ---- */
/* five members with 28 of 35 check-ins, as an app rounds their rates, and as floats */
SELECT t.add('rounded', VARIADIC array_agg(round(100.0 * done / 7, 2))) FROM unnest(ARRAY[6, 6, 6, 5, 5]) done \g /dev/null
SELECT t.add('exact', VARIADIC array_agg(100.0 * done / 7)) FROM unnest(ARRAY[6, 6, 6, 5, 5]) done \g /dev/null
SELECT t.add('less', 79.99, 80) \g /dev/null
SELECT is(trim_scale(avg(completion_rate)), 79.998, 'the app rounds to two digits: the group that did 80 % has less') FROM app.challenge_member_stats WHERE challenge_id = 1;
SELECT is(t.outcomes(), 'rounded=failed exact=completed less=failed', 'by default six digits count');
SELECT is(t.outcomes('{"completion_digits": 2}'), 'rounded=completed exact=completed less=completed', 'two digits: what people see');
SELECT is(t.outcomes('{"completion_digits": 15}'), 'rounded=failed exact=completed less=failed', 'with completion_digits 15 only the exact average reaches the threshold');
SELECT is(t.outcomes('{"completion_threshold": 79.998, "completion_digits": 3}'), 'rounded=completed exact=completed less=failed', 'completion_digits 3 rounds the average before it is compared with a threshold of three digits');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE float8;
UPDATE app.challenge_member_stats SET completion_rate = 79.9999999 WHERE challenge_id = 2;
SELECT is(t.outcomes(), 'rounded=failed exact=completed less=failed', 'the noise of floats does not count');
SELECT is(t.outcomes('{"completion_digits": 15}'), 'rounded=failed exact=failed less=failed', 'unless it is to');
SELECT matches(t.error($$ SELECT t.set('{"completion_digits": 16}') $$), '^22023: invalid value for setting "completion_digits"', 'more there are not');
ALTER TABLE app.challenge_member_stats ALTER completion_rate TYPE numeric;

/* any rates, any digits, in chunks and at once: as round(avg()) has it */
SELECT t.empty() \g /dev/null
SELECT setseed(0.13) \g /dev/null
SELECT t.add('n' || n, VARIADIC ARRAY(SELECT round((79.9 + 0.2 * random())::numeric, n % 5) FROM generate_series(1, 1 + n % 4)))
  FROM generate_series(1, 200) n \g /dev/null
SELECT is(t.outcomes(jsonb_build_object('completion_digits', digits)),
          (SELECT string_agg(format('%s=%s', name, CASE WHEN average >= 80 THEN 'completed' ELSE 'failed' END), ' ' ORDER BY id)
             FROM (SELECT c.id, c.name, round(avg(s.completion_rate), digits) AS average
                     FROM app.challenges c JOIN app.challenge_member_stats s ON s.challenge_id = c.id GROUP BY 1, 2) x),
          format('%s digits: as round(avg()) has it', digits))
  FROM unnest(ARRAY[0, 1, 2, 3, 6, 15]) digits;

/* the doctor sees what the app rounds to */
SELECT is(t.doctor('^digits'), NULL, 'the doctor says nothing of rates with more digits');
UPDATE app.challenge_member_stats SET completion_rate = round(completion_rate, 2);
SELECT is(t.doctor('^digits'), 'warning completion rates are rounded to 2 digits, and their average is compared by 6: '
          'an average that an app shows as the threshold can be below it', 'the doctor sees rates that are rounded to two');
SELECT t.mend('^digits') \g /dev/null
SELECT is(settings -> 'completion_digits', '2', 'what it says to type is the setting') FROM challenge_jobs.job WHERE job = 'auto_complete_challenges';
SELECT is(t.doctor('^digits'), NULL, 'what the doctor says to type about completion_digits mends it');
SELECT t.set('{"completion_digits": null}') \g /dev/null
UPDATE app.challenge_member_stats SET completion_rate = 80;
SELECT is(t.doctor('^digits'), NULL, 'nothing is said of whole rates');
UPDATE app.challenge_member_stats SET completion_rate = 87.5 WHERE challenge_id < 6;
SELECT is(t.doctor('^digits'), NULL, 'nor of a few that are not');

/* ---- who counts ---- */
SELECT t.empty() \g /dev/null
SELECT t.add('left', 100, 100, 0), t.add('bad', 100, 60, 79), t.add('nobody', 90) \g /dev/null
UPDATE app.challenge_members SET status = 'left' WHERE (challenge_id, user_id) IN ((1, 3), (2, 1), (3, 1));
SELECT is(t.outcomes(), 'left=failed bad=failed nobody=completed', 'by default every row of the statistics counts');
SELECT is(t.outcomes('{"count_member_statuses": "all"}'), t.outcomes(), 'count_member_statuses "all" decides as the default does');
SELECT is(t.outcomes('{"count_member_statuses": ["active"]}'), 'left=completed bad=failed nobody=failed', 'only members with a status count; without any there are no rates');
SELECT is(t.outcomes('{"count_member_statuses": ["left"]}'), 'left=failed bad=completed nobody=completed', 'count_member_statuses ["left"] decides by the rates of those who left');
SELECT is(t.outcomes('{"count_member_statuses": ["left", "active", "x"]}'), t.outcomes(), 'count_member_statuses takes several statuses, also one that nobody has');
INSERT INTO app.challenge_members VALUES (1, 1, 'active'), (1, 3, 'left');
SELECT is(t.outcomes('{"count_member_statuses": ["active"]}'), 'left=completed bad=failed nobody=failed', 'a second member row does not count twice');
INSERT INTO app.challenge_member_stats VALUES (1, 99, 0);
SELECT is(t.outcomes('{"count_member_statuses": ["active"]}'), 'left=completed bad=failed nobody=failed', 'nor do statistics of users who are no members');
DELETE FROM app.challenge_member_stats WHERE user_id = 99;
SELECT is(t.outcomes('{"count_member_statuses": ["active"], "notify": false}'), 'left=completed bad=failed nobody=failed', 'count_member_statuses decides the same where nobody is notified');

SET ROLE cj_app;
CREATE TYPE app.member_status AS ENUM ('active', 'left', 'paused');
CREATE DOMAIN app.member_state AS app.member_status;
ALTER TABLE app.challenge_members ALTER status DROP DEFAULT, ALTER status TYPE app.member_state USING status::app.member_status;
RESET ROLE;
SELECT is(t.outcomes('{"count_member_statuses": ["active", "paused"]}'), 'left=completed bad=failed nobody=failed', 'a domain over an enum');
SELECT matches(t.error($$ SELECT t.outcomes('{"count_member_statuses": ["gone"]}') $$), '^42704: setting "count_member_statuses" names "gone", which enum ', 'a label that the enum does not have is named, and so is the setting');
SELECT t.set('{"count_member_statuses": ["gone"]}') \g /dev/null
SELECT matches((SELECT string_agg(status || ' ' || finding || ' ' || advice, '; ') FROM challenge_jobs.doctor() WHERE finding ~ 'gone'), '^error setting "count_member_statuses" names "gone".*It has the values: ', 'before the night, the doctor says so, and which there are');
SELECT t.set('{"count_member_statuses": ["active", "paused"]}') \g /dev/null
SELECT is(t.doctor('^statuses'), 'warning no member has the status "paused" of count_member_statuses', 'the doctor reports a status that no member has');
ALTER TABLE app.challenge_member_stats RENAME user_id TO person;
SELECT matches(t.error('SELECT t.run()'), '^42703: entity "challenge_member_stats": .*"user_id"', 'without user_id in the statistics it is an error');
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats', '{"user_id": "person"}') \g /dev/null
SELECT is(t.outcomes(), 'left=completed bad=failed nobody=failed', 'unless it is bound');
ALTER TABLE app.challenge_members RENAME status TO state;
SELECT matches(t.error('SELECT t.run()'), '^42703: entity "challenge_members": .*"status"', 'without a status of members, too');
SELECT t.set('{"count_member_statuses": null}') \g /dev/null
SELECT is(t.outcomes(), 'left=failed bad=failed nobody=completed', 'where all count neither is needed');
ALTER TABLE app.challenge_members RENAME state TO status;
ALTER TABLE app.challenge_members ALTER status TYPE text, ALTER status SET DEFAULT 'active';
ALTER TABLE app.challenge_member_stats RENAME person TO user_id;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats') \g /dev/null
SELECT matches(t.error(format('SELECT t.set(%L)', jsonb_build_object('count_member_statuses', value))),
               '^22023: invalid value for setting "count_member_statuses"', 'no list of statuses: ' || value::text)
  FROM unnest(ARRAY['[]', '"active"', '[1]', '["active", null]', '[["active"]]', '{"active": true}', '1', 'true']::jsonb[]) value;

/* ---- rates that are NULL, or above 100 ---- */
SELECT t.empty() \g /dev/null
SELECT t.add('nulls', 100, NULL, 90), t.add('all_null', NULL, NULL), t.add('lifted', 300, 10) \g /dev/null
SELECT is(t.outcomes(), 'nulls=completed all_null=failed lifted=completed', 'NULL does not count by default');
SELECT is(t.outcomes('{"count_nulls_as_zero": true}'), 'nulls=failed all_null=failed lifted=completed', 'or it counts as zero');
SELECT is(t.outcomes('{"count_nulls_as_zero": true, "completion_threshold": 0}'), 'nulls=completed all_null=completed lifted=completed',
          'which is enough for a threshold of zero');
SELECT is(t.doctor('^null_rates'), 'warning 3 of 7 completion rates are NULL, and do not count', 'the doctor counts NULLs');
SELECT is(t.doctor('^high_rates'), 'warning 1 of 7 completion rates are above 100', 'and rates above 100');
SELECT t.mend('^null_rates') \g /dev/null
SELECT is(t.doctor('^null_rates'), NULL, 'what it says to type mends it');
SELECT t.set('{"count_nulls_as_zero": null}') \g /dev/null
INSERT INTO app.challenges (id, name, status) VALUES (4, 'over', 'failed');
INSERT INTO app.challenge_member_stats VALUES (4, 1, NULL), (4, 2, 101);
CREATE FUNCTION t.counted() RETURNS text LANGUAGE sql AS
$$ SELECT concat_ws(' ', result ->> 'null_rates', result ->> 'rates_above_100') FROM t.last_run() $$;
SELECT is(t.run(dry_run => true), '2 1 7', 'a dry run notifies those whom the run would notify');
SELECT is(t.counted(), '3 1', 'its result counts those of due challenges');
SELECT is(t.run(), '2 1 7', 'the run gives the figures of the dry run before it');
SELECT is(t.counted(), '3 1', 'the result of the run counts the rates of due challenges as its dry run did');

/* the same where all are evaluated at once, since each chunk of keys would cost as much */
SELECT t.empty() \g /dev/null
INSERT INTO app.challenges (id, name) SELECT n, 'x' FROM generate_series(1, 30001) n;
INSERT INTO app.challenge_members SELECT n, n % 3, CASE n % 3 WHEN 0 THEN 'left' ELSE 'active' END FROM generate_series(1, 30001) n;
INSERT INTO app.challenge_member_stats
SELECT n, n % 3, CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN 101 WHEN 2 THEN 79.9999999 ELSE 50 END FROM generate_series(1, 30001) n;
SET ROLE cj_app;
CREATE VIEW app.ranked AS SELECT *, row_number() OVER (ORDER BY completion_rate) FROM app.challenge_member_stats;
RESET ROLE;
ANALYZE app.challenges, app.challenge_members, app.challenge_member_stats;
CREATE FUNCTION t.many(relation text) RETURNS text LANGUAGE sql AS $$
    SELECT challenge_jobs.bind('challenge_member_stats', relation);
    SELECT t.run(dry_run => true) || ' ' || t.counted();
$$;
SELECT t.set('{"count_member_statuses": ["active"]}') \g /dev/null
SELECT is(t.many(relation), (SELECT concat_ws(' ', count(*) FILTER (WHERE n % 3 <> 0 AND n % 5 IN (1, 2)),
                                              count(*) FILTER (WHERE n % 3 = 0 OR n % 5 NOT IN (1, 2)), 30001,
                                              count(*) FILTER (WHERE n % 3 <> 0 AND n % 5 = 0), count(*) FILTER (WHERE n % 3 <> 0 AND n % 5 = 1))
                               FROM generate_series(1, 30001) n),
          'who counts, and what is counted, among many, in ' || relation)
  FROM unnest(ARRAY['app.challenge_member_stats', 'app.ranked']) relation;
SELECT t.set('{"count_member_statuses": null}') \g /dev/null
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats') \g /dev/null
DROP VIEW app.ranked;

/* ---- rates as fractions ---- */
SELECT t.empty() \g /dev/null
SELECT t.add('all', 1, 0.9), t.add('half', 0.5, 0.25), t.add('none', 0) \g /dev/null
SELECT is(t.outcomes(), 'all=failed half=failed none=failed', 'rates that are fractions of 1 never reach a threshold in percent');
SELECT is(t.doctor('^fractions'), 'warning no completion rate is above 1, so that every challenge fails: they may be fractions', 'the doctor warns of rates that may be fractions');
SELECT t.mend('^fractions') \g /dev/null
SELECT is(t.outcomes(), 'all=completed half=failed none=failed', 'what it says to type makes fractions of the threshold');
SELECT is(t.doctor('^fractions'), NULL, 'what the doctor says to type about fractions mends it');
UPDATE app.challenge_member_stats SET completion_rate = completion_rate * 100;
SELECT is(t.doctor('^fractions'), 'warning completion rates are above 1, so that nearly every challenge is completed: the threshold may have to be in per cent', 'nor is the doctor silent of the opposite');
SELECT t.mend('^fractions') \g /dev/null
SELECT is(t.outcomes(), 'all=completed half=failed none=failed', 'what it says to type makes per cent of the threshold');
SELECT t.set('{"completion_threshold": 0.8}') \g /dev/null
UPDATE app.challenge_member_stats SET completion_rate = completion_rate / 100;
SELECT t.set('{"completion_threshold": null}') \g /dev/null
UPDATE app.challenge_member_stats SET completion_rate = 0;
SELECT is(t.doctor('^fractions'), NULL, 'where nobody has done anything they are no fractions');

/* ---- settle_after: due so long after the end ---- */
SELECT t.empty() \g /dev/null
SELECT t.set('{"notify_within": "unlimited"}') \g /dev/null
/* t.due: is a challenge with this end due as of this moment? */
CREATE FUNCTION t.due(type text, end_date text, as_of timestamptz, settings jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.challenges;
    EXECUTE format('ALTER TABLE app.challenges ALTER end_date DROP DEFAULT, ALTER end_date TYPE %s USING NULL', type);
    EXECUTE format('INSERT INTO app.challenges (id, end_date) VALUES (1, %L)', end_date);
    PERFORM t.set('{"day_time_zone": null, "timestamp_time_zone": null, "settle_after": null}');
    PERFORM t.set(settings);
    RETURN (SELECT completed + failed = 1 FROM public.auto_complete_challenges(as_of, true));
END
$$;
/* Ends around now in any zone, every settling time: as the end of the day, or the moment, and the time after it have it. */
CREATE FUNCTION t.ended(type text, end_date timestamp, zone text) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT CASE type WHEN 'date' THEN (end_date::date + 1)::timestamp AT TIME ZONE zone
                     WHEN 'timestamp' THEN end_date AT TIME ZONE zone ELSE end_date AT TIME ZONE 'UTC' END
$$;
CREATE TEMPORARY TABLE cases AS
SELECT type, end_date, zone, settle, t.ended(type, end_date, zone) + settle AS due
  FROM unnest(ARRAY['date', 'timestamp', 'timestamptz']) type,
       unnest(ARRAY['2024-03-01 00:00', '2024-03-09 13:30', '2024-11-03 01:30']::timestamp[]) end_date,
       unnest(ARRAY['UTC', 'America/New_York', 'Asia/Kathmandu', 'Pacific/Kiritimati']) zone,
       unnest(ARRAY['0', '1 microsecond', '90 minutes', '12 hours', '24 hours', '3 days']::interval[]) settle;
UPDATE cases SET due = t.ended(type, end_date, zone) + EXTRACT(epoch FROM settle) * interval '1 second';
SELECT is((SELECT string_agg(c::text, '; ') FROM cases c
            WHERE NOT t.due(type, end_date || CASE type WHEN 'timestamptz' THEN '+00' ELSE '' END, due,
                            jsonb_build_object('day_time_zone', zone, 'settle_after', settle))), NULL, 'due when it has settled');
SELECT is((SELECT string_agg(c::text, '; ') FROM cases c
            WHERE t.due(type, end_date || CASE type WHEN 'timestamptz' THEN '+00' ELSE '' END, due - interval '1 microsecond',
                        jsonb_build_object('day_time_zone', zone, 'settle_after', settle))), NULL, 'no challenge is due a moment before its time, whatever the type of end_date');
SELECT t.set('{"settle_after": null}') \g /dev/null
SELECT ok(t.due('date', '2024-03-01', '2024-03-02 00:00+00', '{}'), 'by default a challenge is due at its end');
SELECT matches(t.error($$ SELECT t.set('{"settle_after": "31 days"}') $$), '^22023: invalid value for setting "settle_after"', 'up to 30 days');
SELECT matches(t.error($$ SELECT t.set('{"settle_after": "-1 hour"}') $$), '^22023: invalid value for setting "settle_after"', 'and not before the end');

/* what becomes due since the last run is told, however old: counted from when it is due */
ALTER TABLE app.challenges ALTER end_date TYPE date, ALTER end_date SET DEFAULT '2024-01-31';
SELECT t.empty() \g /dev/null
DELETE FROM challenge_jobs.job_run;
SELECT t.set('{"settle_after": "3 days", "notify_within": "1 day"}') \g /dev/null
SELECT t.add('x', 90) \g /dev/null
SELECT is(t.run('2024-02-01 00:00+00'), '0 0 0', 'a run while it settles decides nothing');
SELECT is(t.run('2024-02-10 00:00+00'), '1 0 1', 'the next one decides it, and notifies though it ended long ago: it was not due before');

/* a run covers what is scheduled up to its as_of: what still settles is not due */
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '3 days' WHERE job = 'auto_complete_challenges';
DELETE FROM challenge_jobs.job_run;
SELECT isnt((SELECT reason FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), NULL, 'the watchdog has a view of it');
SELECT is((SELECT covered_until FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), NULL, 'no scheduled time is covered without a run');
SELECT t.run(now()) \g /dev/null
SELECT is((SELECT covered_until FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), now(), 'a run covers all times up to its as_of');
SELECT is((SELECT next_due > now() FROM challenge_jobs.job_status WHERE job = 'auto_complete_challenges'), true, 'so that the job is due next time');
SELECT challenge_jobs.unschedule('auto_complete_challenges') \g /dev/null
SELECT t.set('{"settle_after": null, "notify_within": null}') \g /dev/null

/* ---- timestamp_time_zone: of columns, not of days ---- */
SELECT ok(t.due('timestamp', '2024-03-01 12:00', '2024-03-01 03:00+00', '{"timestamp_time_zone": "Asia/Tokyo", "day_time_zone": "America/New_York"}')
          AND NOT t.due('timestamp', '2024-03-01 12:00', '2024-03-01 02:59:59+00', '{"timestamp_time_zone": "Asia/Tokyo", "day_time_zone": "America/New_York"}'),
          'a timestamp is read in timestamp_time_zone');
SELECT ok(t.due('date', '2024-03-01', '2024-03-02 05:00+00', '{"timestamp_time_zone": "Asia/Tokyo", "day_time_zone": "America/New_York"}')
          AND NOT t.due('date', '2024-03-01', '2024-03-02 04:59:59+00', '{"timestamp_time_zone": "Asia/Tokyo", "day_time_zone": "America/New_York"}'),
          'a date ends in day_time_zone');
SELECT ok(t.due('timestamp', '2024-03-01 12:00', '2024-03-01 17:00+00', '{"day_time_zone": "America/New_York"}')
          AND NOT t.due('timestamp', '2024-03-01 12:00', '2024-03-01 16:59:59+00', '{"day_time_zone": "America/New_York"}'),
          'by default that is day_time_zone');
ALTER TABLE app.challenges ALTER end_date TYPE date, ALTER end_date SET DEFAULT '2024-01-31';
ALTER TABLE app.notifications ALTER created_at TYPE timestamp;
SELECT t.empty() \g /dev/null
DELETE FROM app.notifications;
SELECT t.set('{"timestamp_time_zone": "Asia/Kolkata", "day_time_zone": "America/New_York", "notify_within": "unlimited"}') \g /dev/null
SELECT t.add('x', 90) \g /dev/null
SELECT is(t.run(), '1 0 1', 'a challenge with a notification');
SELECT is(created_at, now() AT TIME ZONE 'Asia/Kolkata', 'timestamps are written in timestamp_time_zone') FROM app.notifications;
UPDATE app.notifications SET created_at = (now() - interval '30 days') AT TIME ZONE 'Asia/Kolkata' - interval '1 minute';
SELECT is((SELECT notifications FROM cleanup_expired_notifications(dry_run => true)), 1::bigint, 'the clean-up reads them in it');
UPDATE app.notifications SET created_at = (now() - interval '30 days') AT TIME ZONE 'Asia/Kolkata' + interval '1 minute';
SELECT is((SELECT notifications FROM cleanup_expired_notifications(dry_run => true)), 0::bigint, 'the clean-up reads created_at in timestamp_time_zone to the minute');
SELECT t.set('{"timestamp_time_zone": null, "day_time_zone": null, "notify_within": null}') \g /dev/null

/* ---- the doctor: when ---- */
CREATE TABLE app.users (id integer PRIMARY KEY, timezone text);
ALTER TABLE app.users OWNER TO cj_app;
ALTER TABLE app.challenge_members ADD current_streak integer DEFAULT 1, ADD last_checkin_at timestamptz;
SELECT challenge_jobs.bind('users', 'app.users') \g /dev/null
INSERT INTO app.users VALUES (1, 'UTC'), (2, 'Europe/Berlin'), (3, 'UTC+99'), (4, 'nowhere');
SELECT is(t.doctor('^settle'), NULL, 'users east of day_time_zone, or nowhere: nothing is said');
INSERT INTO app.users VALUES (5, 'America/New_York'), (6, 'America/Los_Angeles'), (7, 'America/Los_Angeles');
SELECT is(t.doctor('^settle'), 'warning the day ends up to 8 hours later for users in "America/Los_Angeles" than in day_time_zone "UTC": '
          'what they check in on the last evening comes after the decision', 'users west of it: settle_after is proposed');
SELECT t.mend('^settle') \g /dev/null
SELECT is(schedule || ' ' || (settings ->> 'settle_after'), '0 8 * * * 8 hours', 'with the schedule that fits') FROM challenge_jobs.job WHERE job = 'auto_complete_challenges';
SELECT is(t.doctor('^(settle|late)'), NULL, 'what the doctor says to type about settle_after mends it');
SELECT challenge_jobs.reset_job('auto_complete_challenges') \g /dev/null

SELECT is(t.doctor('^late'), NULL, 'midnight UTC, at midnight UTC');
SELECT t.set('{"day_time_zone": "Asia/Tokyo"}') \g /dev/null
SELECT is(t.doctor('^late'), 'warning challenges are decided by "0 0 * * *" up to 9 hours after they are due', 'the doctor warns where midnight in day_time_zone is hours before the schedule');
SELECT t.mend('^late') \g /dev/null
SELECT is(schedule, '0 15 * * *', 'its schedule is proposed') FROM challenge_jobs.job WHERE job = 'auto_complete_challenges';
SELECT is(t.doctor('^late'), NULL, 'what the doctor says to type about a late schedule mends it');
/* t.proposal: the schedule that is proposed for a zone */
CREATE FUNCTION t.proposal(zone text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM challenge_jobs.reset_job('auto_complete_challenges');
    PERFORM challenge_jobs.alter_job('auto_complete_challenges', schedule => '30 11 * * *', settings => jsonb_build_object('day_time_zone', zone));
    PERFORM t.mend('^late');
    RETURN (SELECT schedule FROM challenge_jobs.job WHERE job = 'auto_complete_challenges');
END
$$;
SELECT is(t.proposal('America/New_York'), '0 4,5 * * *', 'the proposed schedule has the midnights of both summer and winter');
SELECT is(t.proposal('Asia/Kathmandu'), '15 18 * * *', 'the proposed schedule has the minutes of a zone''s offset');
SELECT is(t.proposal('Australia/Lord_Howe'), '0,30 13 * * *', 'half an hour of summer');
/* whatever the zone, what is proposed leaves nothing waiting */
SELECT is((SELECT string_agg(name, ', ')
             FROM (SELECT name, row_number() OVER (ORDER BY name) AS n FROM pg_timezone_names WHERE name ~ '^[A-Z][a-z]+/') z
            WHERE n % 50 = 0 AND (t.proposal(name) IS NULL OR t.doctor('^late') IS NOT NULL)), NULL, 'the proposed schedule is never late, whatever the zone');
SELECT challenge_jobs.reset_job('auto_complete_challenges') \g /dev/null
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '0 6 * * 1') \g /dev/null
SELECT is(t.doctor('^late'), NULL, 'a weekly schedule is meant so');
SELECT challenge_jobs.reset_job('auto_complete_challenges') \g /dev/null
ALTER TABLE app.challenges ALTER end_date DROP DEFAULT, ALTER end_date TYPE timestamptz;
SELECT is(t.doctor('^late'), 'warning challenges are decided by "0 0 * * *" up to 24 hours after they are due', 'ends at any time of day, decided daily');
SELECT t.mend('^late') \g /dev/null
SELECT is(t.doctor('^late'), NULL, 'what it says to type mends it');

SELECT * FROM finish();
ROLLBACK;
