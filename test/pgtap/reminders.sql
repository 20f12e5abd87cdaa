/*
 * Who is reminded, when, and of what: nobody twice on a local date, nobody whose streak is safe.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

/* ---- whose streak is at stake ---- */
CREATE FUNCTION t.stake(change text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.clear(), t.join(1), t.join(2), t.join(3, 'UTC', 3, 3);
    EXECUTE change;
    RETURN t.morning();
END
$$;
SELECT is(t.stake(change), notified, what)
  FROM (VALUES ('SELECT', '1 2 3', 'every member with a streak is notified, once however many challenges'),
               ($$UPDATE app.challenges SET status = 'completed' WHERE id = 1$$, '3', 'not for a challenge that is over'),
               ($$UPDATE app.challenges SET status = 'failed'$$, '', 'nor one that has failed'),
               ($$UPDATE app.challenges SET status = 'draft'$$, '', 'nor one that has not begun'),
               ($$UPDATE app.challenges SET end_date = '2020-01-01'$$, '', 'nor one that ended long ago and is still active'),
               ($$UPDATE app.challenge_members SET status = 'left' WHERE user_id = 1$$, '2 3', 'not who has left'),
               ($$UPDATE app.challenge_members SET status = 'invited' WHERE user_id = 3 AND challenge_id = 1$$, '1 2 3', 'but for the other challenge'),
               ($$UPDATE app.challenge_members SET current_streak = 0 WHERE user_id = 1$$, '2 3', 'not who has no streak'),
               ($$UPDATE app.challenge_members SET current_streak = 0 WHERE challenge_id = 1$$, '3', 'a streak in one challenge is enough'),
               ($$SELECT t.setr('{"minimum_streak": 3}')$$, '1 2 3', 'a streak of exactly the minimum'),
               ($$SELECT t.setr('{"minimum_streak": 4}')$$, '', 'a shorter one'),
               ($$UPDATE app.challenge_members SET current_streak = 0; SELECT t.setr('{"minimum_streak": 0}')$$, '1 2 3', 'a minimum of 0: everybody'),
               ($$DELETE FROM app.challenge_members WHERE user_id = 2$$, '1 3', 'not who is in no challenge'),
               ($$DELETE FROM app.users WHERE id = 2$$, '1 3', 'not who is no user'),
               ($$DELETE FROM app.challenges WHERE id = 2$$, '1 2 3', 'a member of a challenge that is not there')) v(change, notified, what);

/* ---- who has checked in today ---- */
CREATE FUNCTION t.checked_in(type text, value text, zone text DEFAULT 'UTC') RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE app.challenge_members DROP last_checkin_at;
    EXECUTE format('ALTER TABLE app.challenge_members ADD last_checkin_at %s', type);
    PERFORM t.clear(), t.join(1, zone), t.setr('{"streak_period": "off"}');
    EXECUTE format('UPDATE app.challenge_members SET last_checkin_at = %L', value);
    RETURN t.morning(('2024-05-15 08:00'::timestamp AT TIME ZONE zone)) = '';
END
$$;
SELECT is(t.checked_in(type, value, zone), checked_in, format('%s %s in %s: %s', type, value, zone, CASE WHEN checked_in THEN 'checked in' ELSE 'not yet' END))
  FROM (VALUES ('date', '2024-05-14', 'UTC', false), ('date', '2024-05-15', 'UTC', true), ('date', '2024-05-16', 'UTC', true), ('date', NULL, 'UTC', false),
               ('date', '2024-05-14', 'Pacific/Auckland', false), ('date', '2024-05-15', 'Pacific/Auckland', true),
               ('date', '-infinity', 'UTC', false), ('date', 'infinity', 'UTC', true),
               ('timestamptz', '2024-05-14 23:59:59.999999+00', 'UTC', false), ('timestamptz', '2024-05-15 00:00+00', 'UTC', true),
               ('timestamptz', '2024-05-15 07:59+00', 'UTC', true), ('timestamptz', NULL, 'UTC', false), ('timestamptz', '-infinity', 'UTC', false),
               /* midnight in Auckland is noon of the day before, in New York four in the morning */
               ('timestamptz', '2024-05-14 11:59:59+00', 'Pacific/Auckland', false), ('timestamptz', '2024-05-14 12:00+00', 'Pacific/Auckland', true),
               ('timestamptz', '2024-05-15 03:59:59+00', 'America/New_York', false), ('timestamptz', '2024-05-15 04:00+00', 'America/New_York', true),
               ('timestamptz(0)', '2024-05-14 12:00+00', 'Pacific/Auckland', true),
               ('timestamp', '2024-05-14 11:59:59.999999', 'Pacific/Auckland', false), ('timestamp', '2024-05-14 12:00', 'Pacific/Auckland', true),
               ('timestamp', '2024-05-15 03:59:59', 'America/New_York', false), ('timestamp', '2024-05-15 04:00', 'America/New_York', true),
               ('timestamp(3)', NULL, 'UTC', false)) v(type, value, zone, checked_in);
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"day_time_zone": "Asia/Tokyo"}') \g /dev/null
SELECT is(t.checked_in('timestamp', value, 'UTC'), checked_in, 'a timestamp is read in day_time_zone: ' || value)
  FROM (VALUES ('2024-05-15 08:59:59', false), ('2024-05-15 09:00', true)) v(value, checked_in);
SELECT challenge_jobs.reset_job('auto_complete_challenges') \g /dev/null
SET TIME ZONE 'America/Los_Angeles';
SELECT is(t.checked_in('timestamp', value, 'UTC'), checked_in, 'whatever the session''s zone: ' || value)
  FROM (VALUES ('2024-05-14 23:59:59', false), ('2024-05-15 00:00', true)) v(value, checked_in);
SET TIME ZONE 'UTC';
CREATE DOMAIN t.moment AS timestamptz;
SELECT is(t.checked_in('t.moment', '2024-05-14 12:00+00', 'Pacific/Auckland'), true, 'a last_checkin_at of a domain counts as its base type does');
SELECT t.checked_in('timestamptz', NULL) \g /dev/null

/* ---- what they are notified ---- */
SELECT t.clear(), t.join(1, 'UTC', 5, 9, 9, 2), t.join(2, 'UTC', 1) \g /dev/null
UPDATE app.challenges SET name = 'Read "20" pages' WHERE id = 2;
SELECT is(t.morning(), '1 2', 'both users whose streak is at risk are reminded');
SELECT is((SELECT string_agg(concat_ws(' / ', type, title, body), ' | ' ORDER BY user_id) FROM app.notifications),
          'streak_reminder / Your streak is at stake! / Check in today to keep your streak of 9 in "Read "20" pages" | '
          'streak_reminder / Your streak is at stake! / Check in today to keep your streak of 1 in "c1"', 'the words: the longest streak, and of two the first challenge');
SELECT is((SELECT jsonb_agg(data ORDER BY user_id) FROM app.notifications),
          '[{"local_date": "2024-05-15", "streak": 9, "challenge_ids": [2, 3, 1, 4]}, {"local_date": "2024-05-15", "streak": 1, "challenge_ids": [1]}]'::jsonb,
          'the data: all challenges, that with the longest streak first');
SELECT is((SELECT count(*) FROM app.notifications WHERE created_at = now()), 2::bigint, 'reminders have the time of the transaction in created_at');

CREATE FUNCTION t.words(title text, body text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM challenge_jobs.reminder;
    PERFORM t.setr(jsonb_build_object('title', title, 'body', body)), t.morning();
    RETURN (SELECT string_agg(concat_ws('/', n.title, n.body), ' | ' ORDER BY user_id) FROM app.notifications n);
END
$$;
SELECT is(t.words('{streak} {challenge_count} {challenge_name}'), '9 4 Read "20" pages/ | 1 1 c1/', 'all placeholders are replaced in title and body');
SELECT is(t.words('{streak}{streak}', '{{streak}} { streak } {} {Streak} { %s %1$s'), '99/{9} { streak } {} {Streak} { %s %1$s | 11/{1} { streak } {} {Streak} { %s %1$s',
          'braces that are no placeholder stay as they are');
SELECT is(t.words('', ''), '/ | /', 'empty texts give empty title and body');
UPDATE app.challenges SET name = '{streak} {challenge_name} ''; DROP TABLE app.users; --' WHERE id = 2;
SELECT is(t.words('{challenge_name}'), '{streak} {challenge_name} ''; DROP TABLE app.users; --/ | c1/', 'a name is not a template, nor SQL');
SELECT alike(t.error($$SELECT t.setr('{"body": "{user_name}"}')$$), '22023: %', 'unknown placeholders are refused');
UPDATE app.challenges SET name = NULL;
SELECT is(t.words('{challenge_name}'), '2/ | 1/', 'a challenge without a name is called by its key');
ALTER TABLE app.challenges RENAME name TO label;
SELECT is(t.words('{challenge_name}', '{streak}'), '2/9 | 1/1', 'so are all where names are not known');
ALTER TABLE app.challenges RENAME label TO name;

/* ---- columns that are not there ---- */
CREATE FUNCTION t.without(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result  text;
    data    text;
BEGIN
    PERFORM t.clear(), t.join(1, 'UTC', 2, 7), t.join(2), t.join(3, 'Asia/Tokyo');
    UPDATE app.challenge_members SET last_checkin_at = '2024-05-15 07:00+00' WHERE user_id = 2;
    EXECUTE change;
    result := t.morning();
    EXECUTE $q$SELECT COALESCE(string_agg(to_jsonb(n)->>'data', ' ' ORDER BY user_id), '-') FROM app.notifications n$q$ INTO data;
    RAISE EXCEPTION SQLSTATE 'ZZZZZ' USING MESSAGE = result || ': ' || data;
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
    RETURN SQLERRM;
END
$$;
SELECT is(t.without(change), notified, what)
  FROM (VALUES ('SELECT', '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'with all columns'),
               ($$UPDATE app.challenge_members SET status = 'left'; ALTER TABLE app.challenge_members DROP status$$,
                '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'no status: every member counts'),
               ('UPDATE app.challenge_members SET current_streak = 0; ALTER TABLE app.challenge_members DROP current_streak',
                '1: {"streak": null, "local_date": "2024-05-15", "challenge_ids": [1, 2]}', 'no current_streak: everyone who has not checked in'),
               ('ALTER TABLE app.challenge_members DROP last_checkin_at',
                '1 2: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]} {"streak": 3, "local_date": "2024-05-15", "challenge_ids": [1]}',
                'no last_checkin_at: everyone with a streak'),
               ('ALTER TABLE app.users DROP timezone',
                '1 3: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]} {"streak": 3, "local_date": "2024-05-15", "challenge_ids": [1]}',
                'no timezone: all are in default_time_zone'),
               ($$SELECT challenge_jobs.bind('users', 'app.users', columns => '{"timezone": null}')$$,
                '1 3: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]} {"streak": 3, "local_date": "2024-05-15", "challenge_ids": [1]}',
                'a timezone that is not to be used'),
               ('ALTER TABLE app.challenge_members DROP status, DROP current_streak, DROP last_checkin_at; ALTER TABLE app.users DROP timezone; ALTER TABLE app.challenges DROP name',
                '1 2 3: {"streak": null, "local_date": "2024-05-15", "challenge_ids": [1, 2]} {"streak": null, "local_date": "2024-05-15", "challenge_ids": [1]} {"streak": null, "local_date": "2024-05-15", "challenge_ids": [1]}',
                'nothing but keys'),
               ('ALTER TABLE app.notifications DROP type', '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'notifications without a type'),
               ('ALTER TABLE app.notifications DROP title', '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'a title'),
               ('ALTER TABLE app.notifications DROP body', '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'a body'),
               ('ALTER TABLE app.notifications DROP created_at', '1: {"streak": 7, "local_date": "2024-05-15", "challenge_ids": [2, 1]}', 'a time'),
               ('ALTER TABLE app.notifications DROP data', '1: -', 'data'),
               ('ALTER TABLE app.notifications DROP type, DROP title, DROP body, DROP data, DROP created_at', '1: -', 'anything but a user')) v(change, notified, what);
SELECT is(t.without('ALTER TABLE app.challenge_members DROP current_streak'), t.without($$SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members', columns => '{"current_streak": null}')$$),
          'a column that is bound to null is as one that is not there');
SELECT alike(t.error($$ALTER TABLE app.users RENAME id TO key; SELECT t.remind()$$), '42703: entity "users": column "id" for "id" not found in app.users', 'a key that is missing is an error');
SELECT alike(t.error($$DROP TABLE app.users; SELECT t.remind()$$), '42P01: %app.users%', 'so is a table');
SELECT alike(t.error($$ALTER TABLE app.challenge_members ALTER current_streak TYPE text; SELECT t.remind()$$), '42804: entity "challenge_members": column "current_streak"%', 'a streak that is no number');
SELECT is(t.stake('ALTER TABLE app.challenge_members ALTER current_streak TYPE ' || type), '1 2 3', 'a streak of type ' || type)
  FROM unnest('{smallint,bigint,numeric,real,integer}'::text[]) type;

SELECT * FROM finish();
ROLLBACK;
