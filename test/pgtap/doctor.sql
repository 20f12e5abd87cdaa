/*
 * What the doctor says before a run does: of foreign keys, rules, privileges, indexes, texts, windows; and that
 * what it says to type mends it.
 */
BEGIN;
\ir streaks.psql
\ir doctor.psql
SELECT no_plan();

ALTER TABLE app.notifications ADD expires_at timestamptz, ADD UNIQUE (id);
CREATE FUNCTION t.hint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint    text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END
$$;

/* ---- foreign keys that refer to notifications ---- */
SELECT is(t.doctor('^reference'), NULL, 'nothing refers to notifications');
CREATE TABLE app.receipts (n integer REFERENCES app.notifications (id) ON UPDATE CASCADE DEFERRABLE);
CREATE TABLE app.reads (n integer REFERENCES app.notifications (id) ON DELETE RESTRICT);
CREATE TABLE app.links (n integer PRIMARY KEY REFERENCES app.notifications (id) ON DELETE CASCADE);
SELECT is(t.doctor('^reference'),
          'warning foreign key reads_n_fkey of app.reads prevents the deletion of notifications that are referred to; '
          'warning app.reads has no index that begins with n: the whole table is read for each deleted notification; '
          'warning foreign key receipts_n_fkey of app.receipts prevents the deletion of notifications that are referred to; '
          'warning app.receipts has no index that begins with n: the whole table is read for each deleted notification',
          'foreign keys without an action, and without an index');
INSERT INTO app.notifications (user_id, type, title, body, created_at) SELECT n, 'x', 'x', 'x', '2000-01-01' FROM generate_series(1, 2) n;
INSERT INTO app.reads SELECT min(id) FROM app.notifications;
INSERT INTO app.receipts SELECT max(id) FROM app.notifications;
/* from 18 on, RESTRICT has a code of its own */
SELECT matches(t.error('SELECT cleanup_expired_notifications()'), '^(23001|23503): ', 'they do fail the run');
SELECT t.mend('^reference', 'CASCADE') \g /dev/null
SELECT is(t.doctor('^reference'), NULL, 'what the doctor says to type mends it');
SELECT is(cleanup_expired_notifications()::text, '(2,0,0,0)', 'so that all goes');

/* ---- tables of others that are changed along ---- */
CREATE ROLE cj_other;
CREATE SCHEMA o AUTHORIZATION cj_other;
GRANT USAGE ON SCHEMA o TO cj_app;
GRANT USAGE ON SCHEMA app TO cj_other;
GRANT REFERENCES ON app.notifications, app.challenges TO cj_other;
SAVEPOINT before;
ALTER TABLE app.challenges ADD UNIQUE (id, status);
SET ROLE cj_other;
CREATE TABLE o.kept (n integer REFERENCES app.notifications (id) ON UPDATE CASCADE);
CREATE TABLE o.gone (n integer PRIMARY KEY REFERENCES app.notifications (id) ON DELETE CASCADE);
CREATE TABLE o.further (n integer UNIQUE REFERENCES o.gone ON DELETE SET NULL ON UPDATE NO ACTION);
CREATE TABLE o.on_change (n integer REFERENCES o.further (n) ON UPDATE CASCADE);
CREATE TABLE o.not_on_change (n integer REFERENCES o.gone ON UPDATE CASCADE ON DELETE NO ACTION);
CREATE TABLE o.by_key (n integer REFERENCES app.challenges ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE o.by_status (n integer, s text, FOREIGN KEY (n, s) REFERENCES app.challenges (id, status) ON UPDATE CASCADE);
RESET ROLE;
SELECT is((SELECT string_agg(format('%s %s', check_name, status), ', ' ORDER BY check_name) FROM challenge_jobs.doctor() WHERE check_name ~ '^cascade'),
          'cascade:o.by_status warning, cascade:o.further warning, cascade:o.gone warning, cascade:o.on_change warning',
          'the doctor names tables of others that jobs change by foreign keys, and no others');
SELECT is(t.doctor('^cascade:o.gone'), 'warning o.gone of "cj_other" changes along with app.notifications through foreign keys, so its triggers can run '
          'with the rights of "cj_app"', 'and says what that means');
SELECT t.mend('^cascade') \g /dev/null
SELECT is(t.doctor('^cascade'), NULL, 'what it says to type mends it');
ROLLBACK TO before;

/* ---- what the owner may do ---- */
REVOKE INSERT, DELETE ON app.notifications FROM cj_app;
SELECT is(t.hint(format('SELECT %s()', job)), format('Run: GRANT %s ON app.notifications TO cj_app;', missing), format('without %s: the hint of %s', missing, job))
  FROM (VALUES ('cleanup_expired_notifications', 'DELETE'), ('send_streak_reminders', 'INSERT'), ('auto_complete_challenges', 'INSERT')) v(job, missing);
SELECT is(t.doctor('notifications$'), 'error the owner of app.notifications lacks a privilege that jobs need; error the owner of app.notifications lacks a privilege that jobs need; '
          'warning the job is not scheduled', 'the doctor reports both');
SELECT t.mend('^binding:notifications') \g /dev/null
SELECT is(t.hint('SELECT cleanup_expired_notifications(), send_streak_reminders()'), 'no error', 'when what the doctor says has been typed both jobs find their columns');
REVOKE USAGE ON SCHEMA app FROM cj_app;
SELECT is(t.hint('SELECT cleanup_expired_notifications()'), 'Run: GRANT USAGE ON SCHEMA app TO cj_app;', 'without USAGE of the schema');
GRANT USAGE ON SCHEMA app TO cj_app;

/* ---- rules ---- */
CREATE RULE "No more" AS ON DELETE TO app.notifications DO INSTEAD NOTHING;
SELECT is(t.doctor('^binding:'), 'error rule "No more" of app.notifications does something else instead of DELETE (A job cannot know what the rule does.)', 'a rule instead of DELETE');
SELECT is(t.hint('SELECT send_streak_reminders()'), 'no error', 'is nothing to a job that deletes nothing');
SELECT is(t.hint('SELECT cleanup_expired_notifications()'), 'Run: DROP RULE "No more" ON app.notifications;', 'and a hint to the one that does');
SELECT t.mend('^binding:notifications') \g /dev/null
SELECT is(t.hint('SELECT cleanup_expired_notifications()'), 'no error', 'when what the doctor says has been typed the clean-up works');
CREATE RULE r AS ON DELETE TO app.notifications WHERE old.user_id = 7 DO INSTEAD NOTHING;
CREATE RULE u AS ON UPDATE TO app.notifications DO INSTEAD NOTHING;
SELECT is(t.hint('SELECT cleanup_expired_notifications()'), 'no error', 'one with a condition, or instead of UPDATE, is in nobody''s way');

/* ---- indexes that are gone through ---- */
SELECT is(t.doctor('^index:.*' || c), format('warning app.%s has no btree index, in the usual order and of all rows, that begins with %s: %s', v.t, c, what), format('no index on %s', c))
  FROM (VALUES ('notifications', 'created_at', 'the job reads the whole table, also when nothing is expired'),
               ('notifications', 'expires_at', 'the job reads the whole table, also when nothing is expired')) v(t, c, what);
CREATE FUNCTION t.serves(columns text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    result  boolean;
BEGIN
    EXECUTE 'CREATE INDEX i ON app.notifications ' || columns;
    result := t.doctor('^index:notifications.*expires_at') IS NULL;
    DROP INDEX app.i;
    RETURN result;
END
$$;
SELECT is(t.serves(columns), serves, columns)
  FROM (VALUES ('(expires_at)', true), ('(expires_at DESC)', true), ('(expires_at, user_id)', true), ('(expires_at) WHERE expires_at IS NOT NULL', true),
               ('(expires_at NULLS FIRST)', false), ('(expires_at DESC NULLS LAST)', false), ('(expires_at) WHERE user_id > 0', false),
               ('USING hash (expires_at)', false), ('USING brin (expires_at)', false), ('(user_id, expires_at)', false)) v(columns, serves);
SELECT t.mend('^index:notifications') \g /dev/null
SELECT is(t.doctor('^index:notifications'), NULL, 'what the doctor says to type mends it');
DROP INDEX app.users_timezone_idx;
CREATE INDEX ON app.users (timezone) WHERE timezone IS NOT NULL;
SELECT alike(t.doctor('^index:users'), '%btree index%', 'of zones, those that are null count, too');

/* ---- zones that are others than they seem ---- */
CREATE INDEX ON app.users (timezone);
INSERT INTO app.users SELECT 100 + n, zone FROM unnest(ARRAY['Etc/GMT+5', '+5', '-8', '5.5', 'EST5EDT', '<+07>-07', 'EST+5EDT', 'Europe/Paris']) WITH ORDINALITY AS z(zone, n);
SELECT is(t.doctor('^time_zones'), NULL, 'zones that are what they seem');
INSERT INTO app.users SELECT 200 + n, zone FROM unnest(ARRAY['UTC+2', 'GMT-03:30', '+05:30']) WITH ORDINALITY AS z(zone, n);
SELECT is(t.doctor('^time_zones'), 'warning PostgreSQL reads + as hours west of Greenwich and - as hours east in "+05:30", "GMT-03:30", "UTC+2"',
          'the doctor names time zones whose sign PostgreSQL reads the other way round');
INSERT INTO app.users SELECT 300 + n, 'Mars/' || chr(96 + n) FROM generate_series(1, 6) n;
SELECT alike(t.doctor('^time_zones'), 'warning 0 users have no time zone, and 6 have an unknown one ("Mars/a", "Mars/b", "Mars/c", "Mars/d", "Mars/e", ...): "UTC" is used instead; %', 'the doctor names five unknown time zones and counts the others');
DELETE FROM app.users;

/* ---- texts that do not fit ---- */
ALTER TABLE app.notifications ALTER title TYPE varchar(23);
SELECT is(t.doctor('^columns:notifications'),
          'error setting "title" of job "send_streak_reminders" has 24 characters or more, column title of app.notifications takes 23', 'a title that is too long');
SELECT t.setr('{"title": "{challenge_name}{streak} of you, day by day"}') \g /dev/null
SELECT is(t.doctor('^columns:notifications'), NULL, 'what stands for placeholders does not count: it may be short');
SELECT t.setr('{"title": null}'), t.mend('^columns:notifications') \g /dev/null
SELECT is(t.doctor('^columns:notifications'), NULL, 'what the doctor says to type mends it');

/* ---- a schedule with which mornings are missed ---- */
CREATE FUNCTION t.misses(schedule text, length text) RETURNS boolean LANGUAGE sql AS $$
    SELECT challenge_jobs.alter_job('send_streak_reminders', schedule => schedule, settings => jsonb_build_object('window', length));
    SELECT t.doctor('^window') IS NOT NULL
$$;
SELECT is(t.misses(schedule, length), misses, format('%s within %s', schedule, length))
  FROM (VALUES ('*/15 * * * *', '2 hours', false), ('*/15 * * * *', '16 minutes', false), ('*/15 * * * *', '15 minutes', true), ('0 * * * *', '2 hours', false),
               ('0 */2 * * *', '2 hours', true), ('0 */2 * * *', '02:00:01', false), ('@daily', '12 hours', true), ('*/15 7-12 * * *', '12 hours', true),
               ('0,50 * * * *', '00:50', true), ('0,50 * * * *', '00:51', false), ('* * * * 1-5', '2 hours', true), ('* * 1-30 * *', '2 hours', true),
               ('* * 1-31 * 1', '2 hours', false), ('* * */2 * 1-7', '2 hours', true), ('* * * 1-11 *', '2 hours', true),
               /* a month is 30 days */
               ('0 * * * *', '1 month -29 days -23 hours', true), ('0 * * * *', '1 month -29 days -22 hours', false)) v(schedule, length, misses);
SELECT t.clear(), t.join(1), t.setr('{"window": "1 month -29 days -22 hours"}') \g /dev/null
SELECT is(t.morning('2024-05-15 09:59+00'), '1', 'and so it is for a run');
SELECT t.misses('@daily', '1 hour'), t.mend('^window') \g /dev/null
SELECT is(t.doctor('^window'), NULL, 'what the doctor says to type mends it');
/* the day ends before the window does */
SELECT is(t.doctor('^window') IS NOT NULL, misses, format('reminded at %s, by "%s", with days that start at %s', at, schedule, starts))
  FROM (VALUES ('23:45', '*/15 * * * *', '00:00', false), ('23:46', '*/15 * * * *', '00:00', true), ('23:46', '*/15 * * * *', '01:00', false), ('00:50', '*/15 * * * *', '01:00', true),
               ('01:00', '*/15 * * * *', '01:00', false), ('23:59', '* * * * *', '00:00', false)) v(at, schedule, starts, misses),
       LATERAL (SELECT challenge_jobs.alter_job('send_streak_reminders', schedule => schedule, settings => jsonb_build_object('reminder_time', at, 'day_starts_at', starts))) a;
SELECT t.setr('{"reminder_time": "23:50", "day_starts_at": null}'), challenge_jobs.alter_job('send_streak_reminders', schedule => '*/15 * * * *') \g /dev/null
SELECT t.mend('^window') \g /dev/null
SELECT is(t.doctor('^window'), NULL, 'what it says to type has a run come in time');
SELECT t.setr('{"reminder_time": null}') \g /dev/null

/* ---- without streaks ---- */
ALTER TABLE app.challenge_members DROP current_streak;
SELECT is(t.doctor('^columns:challenge_members'), 'warning without current_streak every active member is reminded, and {streak} is empty in title and body', 'the doctor says what is missing without the column current_streak');
SELECT t.setr('{"title": "{streak}!"}'), t.mend('^columns:challenge_members') \g /dev/null
SELECT is(t.doctor('^columns:challenge_members'), 'warning without current_streak every active member is reminded', 'the texts are mended');

/* ---- optional columns of the wrong type ---- */
CREATE TABLE app.few (challenge_id integer, user_id integer, current_streak text);
ALTER TABLE app.few OWNER TO cj_app;
SELECT is(t.hint($$SELECT challenge_jobs.bind('challenge_members', 'app.few', '{"current_streak": "current_streak"}')$$),
          $$Fill in and run: SELECT challenge_jobs.bind('challenge_members', 'app.few', columns => '{"current_streak": "<column>"}');$$, 'a column that was bound and will not do has to be named by who knows it');
ALTER TABLE app.few ADD days integer;
SELECT is(t.hint($$SELECT challenge_jobs.bind('challenge_members', 'app.few', '{"current_streak": "current_streak"}')$$),
          $$Fill in and run: SELECT challenge_jobs.bind('challenge_members', 'app.few', columns => '{"current_streak": "<column>"}');$$, 'also where a single other one has the type');

/* ---- keys that cannot be compared ---- */
ALTER TABLE app.challenge_members ADD name text;
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members', columns => '{"user_id": "name", "status": null}', labels => '{"active": "in"}') \g /dev/null
ALTER TABLE app.notifications RENAME body TO txt;
SELECT challenge_jobs.bind('notifications', 'app.notifications', columns => '{"body": "txt"}', labels => '{"streak_reminder": "sr"}') \g /dev/null
SELECT is(t.hint('SELECT send_streak_reminders()'),
          $$Fill in and run: SELECT challenge_jobs.bind('notifications', 'app.notifications', columns => '{"user_id": "<column>", "body": "txt"}', labels => '{"streak_reminder": "sr"}');$$,
          'the hint keeps what else is bound');

/* ---- one table for two ---- */
ALTER TABLE app.users ADD created_at timestamptz DEFAULT '2000-01-01';
SELECT is(t.error($$SELECT challenge_jobs.bind('notifications', 'app.users', columns => '{"user_id": "id"}')$$),
          '22023: entity "notifications": app.users already stands for "users"', 'users cannot be notifications: they would be deleted');
SELECT is(t.error($$SELECT challenge_jobs.bind('users', 'app.notifications')$$),
          '22023: entity "users": app.notifications already stands for "notifications"', 'nor the other way round');
UPDATE challenge_jobs.binding SET relation = 'app.users', columns = '{"user_id": "id"}' WHERE entity = 'notifications';
SELECT alike(t.error('SELECT cleanup_expired_notifications()'), '22023: %already stands for "users"', 'nor by a binding that was restored');
SELECT is(t.error($$SELECT challenge_jobs.bind('users', 'app.challenge_members', columns => '{"id": "user_id"}')$$), 'no error', 'members can be the users');

/* ---- users with the same key ---- */
SELECT challenge_jobs.bind('challenge_members', 'app.challenge_members'), challenge_jobs.bind('notifications', 'app.notifications', columns => '{"body": "txt"}'), challenge_jobs.bind('users', 'app.users') \g /dev/null
ALTER TABLE app.users DROP CONSTRAINT users_pkey;
INSERT INTO app.users VALUES (1, 'UTC');
DELETE FROM challenge_jobs.reminder;
DELETE FROM challenge_jobs.reminder_zone;
SELECT is(t.remind(dry_run => true), '1 1', 'count as one in a dry run');
SELECT is(t.remind(), '1 1', 'as in a run');

/* ---- what views may not read ---- */
CREATE ROLE cj_viewer;
CREATE ROLE cj_between;
GRANT USAGE, CREATE ON SCHEMA app TO cj_viewer, cj_between;
CREATE TABLE app.base AS SELECT 1 AS k;
CREATE TABLE app.policed AS SELECT 1 AS k;
ALTER TABLE app.base OWNER TO cj_app;
ALTER TABLE app.policed OWNER TO cj_app;
GRANT SELECT ON app.base, app.policed TO cj_viewer, cj_between;
SET ROLE cj_between;
CREATE VIEW app.between_owner AS SELECT k FROM app.policed;
CREATE VIEW app.between_invoker WITH (security_invoker = 1) AS SELECT k FROM app.base;
GRANT SELECT ON app.between_owner, app.between_invoker TO cj_viewer;
SET ROLE cj_viewer;
CREATE MATERIALIZED VIEW app.seen AS SELECT a.k FROM app.between_owner a JOIN app.between_invoker b USING (k);
CREATE UNIQUE INDEX ON app.seen (k);
RESET ROLE;
SELECT challenge_jobs.add_stats_view('app.seen') \g /dev/null
SELECT is(t.doctor('^refresh:app.seen'), NULL, 'all can be read');
SELECT is((SELECT method FROM refresh_challenge_stats() WHERE view_name = 'app.seen'), 'concurrent', 'a view that the doctor calls ready is refreshed concurrently');
REVOKE SELECT ON app.base FROM cj_viewer, cj_between;
ALTER TABLE app.policed ENABLE ROW LEVEL SECURITY;
SELECT is(t.doctor('^refresh:app.seen'), 'error app.base may not be read by cj_viewer, the role that app.seen reads it as; '
          'error row-level security hides rows of app.policed from cj_between, the role that app.seen reads it as', 'through views, as whoever reads there');
SELECT alike(t.error('SELECT refresh_challenge_stats()'), '42501: %', 'which is what fails');
SELECT t.mend('^refresh:app.seen') \g /dev/null
SELECT is(t.doctor('^refresh:app.seen'), NULL, 'what the doctor says to type mends it');
SELECT is((SELECT method FROM refresh_challenge_stats() WHERE view_name = 'app.seen'), 'concurrent', 'and all can be read again');
ALTER TABLE app.policed FORCE ROW LEVEL SECURITY;
SELECT is((SELECT COALESCE(remedy, substr(advice, length('Fill in and run: ') + 1)) AS remedy FROM challenge_jobs.doctor() WHERE check_name = 'refresh:app.seen' AND status = 'error'), 'ALTER TABLE app.policed NO FORCE ROW LEVEL SECURITY;',
          'where it is forced on the owner');
ALTER ROLE cj_app BYPASSRLS;
SELECT is(t.doctor('^refresh:app.seen'), NULL, 'unless the owner may bypass it');

SELECT * FROM finish();
ROLLBACK;
