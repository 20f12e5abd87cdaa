/*
 * Users choose the text of their time zone, and PostgreSQL takes any number of them: POSIX forms. A session keeps each zone
 * that it has once made out of a text.
 */
BEGIN;
\ir streaks.psql
SELECT no_plan();

SELECT t.clear(), t.setr('{"window": "1 hour"}') \g /dev/null
INSERT INTO app.users (id, timezone)
SELECT n, format('<made up %s>%s:%s:%s', n, n % 24, n % 60, n % 59) FROM generate_series(1, 20000) n;
INSERT INTO app.users (id, timezone) VALUES (20001, 'zz/unknown2'), (20002, 'Etc/GMT+5'), (20003, 'etc/gmt+4'), (20004, 'Europe/Paris');
INSERT INTO app.challenges (id, name, end_date) VALUES (1, 'c1', 'infinity');
INSERT INTO app.challenge_members (challenge_id, user_id, current_streak) SELECT 1, id, 3 FROM app.users;
SELECT t.remind('2024-05-15 12:30+00') \g /dev/null
SELECT is(string_agg(user_id::text, ' ' ORDER BY user_id), '20003', 'Etc/GMT+4, in whatever case, is served in its own time behind any number of other zones')
  FROM app.notifications WHERE user_id > 20000;
SELECT t.remind('2024-05-15 13:30+00') \g /dev/null
SELECT is(string_agg(user_id::text, ' ' ORDER BY user_id), '20002 20003', 'and so is Etc/GMT+5')
  FROM app.notifications WHERE user_id > 20000;
SELECT t.remind('2024-05-15 08:30+00') \g /dev/null
SELECT ok(count(*) > 19000, 'users with other zones that are too many are reminded in default_time_zone') FROM app.notifications WHERE user_id <= 20000;
SELECT cmp_ok(sum(total_bytes), '<', 10000000::numeric, 'the memory that zones take is bounded')
  FROM pg_backend_memory_contexts WHERE name = 'Timezones';
SELECT alike(finding, 'users have too many time zones that are not in the zone database, 19___ of which are not used: "UTC" is used instead', 'the doctor counts them')
  FROM challenge_jobs.doctor() WHERE check_name = 'time_zones:users' AND finding LIKE 'users%';

SELECT * FROM finish();
ROLLBACK;
