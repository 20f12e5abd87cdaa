/*
 * The notifications: each member is to be notified once, in the right words, and never about something
 * that has not been decided.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

/* t.notified: the notifications, in a readable form */
CREATE FUNCTION t.notified(what text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    EXECUTE format('SELECT string_agg((%s)::text, '' | '' ORDER BY n.user_id, n.id) FROM app.notifications n', what) INTO result;
    RETURN result;
END
$$;
CREATE FUNCTION t.again() RETURNS void
LANGUAGE sql AS $$
    DELETE FROM app.notifications;
    UPDATE app.challenges SET status = 'active';
$$;

/* ---- who is notified what ---- */
SELECT t.add('Run', 90, 90, 90), t.add('No "sugar"', 10, 10), t.add('alone') \g /dev/null
UPDATE app.challenge_members SET status = 'left' WHERE user_id = 2;
UPDATE app.challenge_members SET status = 'invited' WHERE user_id = 3;
SELECT is(t.run(), '1 2 5', 'every member is counted, whatever its status');
SELECT is(t.notified('n.user_id'), '1 | 1 | 2 | 2 | 3', 'every member is notified, whatever its status');
SAVEPOINT statuses;
SELECT t.again(), t.set('{"notify_member_statuses": ["active"]}') \g /dev/null
SELECT is(t.run(dry_run => true), '1 2 2', 'notify_member_statuses: the dry run counts those of one status');
SELECT is(t.run(), '1 2 2', 'and so many are notified; the averages are those of all');
SELECT is(t.notified('n.user_id'), '1 | 1', 'who left, or never accepted, is not');
SELECT t.again(), t.set('{"notify_member_statuses": ["left", "invited"], "count_member_statuses": ["active"]}') \g /dev/null
SELECT is(t.run(), '1 2 3', 'others count than are notified');
SELECT is(t.notified('n.user_id'), '2 | 2 | 3', 'each by a setting of its own');
SELECT t.again(), t.set('{"notify_member_statuses": ["gone"]}') \g /dev/null
SELECT is(t.run(), '1 2 0', 'nobody has that status');
SELECT t.again(), t.set('{"notify_member_statuses": null}'), t.run() \g /dev/null
SELECT is(t.notified('n.user_id'), '1 | 1 | 2 | 2 | 3', 'a setting about whose rates count says nothing of who is notified');
ALTER TABLE app.challenges ADD creator_id integer;
UPDATE app.challenges SET creator_id = 3 WHERE id = 1;
SELECT challenge_jobs.bind('challenges', 'app.challenges', '{"creator_id": "creator_id"}') \g /dev/null
SELECT t.again(), t.set('{"notify_member_statuses": ["active"]}'), t.run() \g /dev/null
SELECT is(t.notified('n.user_id'), '1 | 1 | 3', 'the creator is notified whatever his status as a member');
ALTER TABLE app.challenge_members RENAME status TO state;
SELECT matches(t.error('SELECT t.run()'), '^42703: ', 'the column is needed then');
SELECT throws_ok($$SELECT t.set('{"notify_member_statuses": []}')$$, '22023', NULL, 'an empty list is refused');
ROLLBACK TO statuses;
SELECT is((SELECT array_agg(DISTINCT type || '/' || title) FROM app.notifications), '{"challenge_completed/Challenge Completed!"}',
          'type and title, for failed ones too');
SELECT is((SELECT array_agg(DISTINCT body ORDER BY body) FROM app.notifications),
          ARRAY['Your challenge "No "sugar"" has ended', 'Your challenge "Run" has ended'], 'the body names the challenge');
SELECT is((SELECT array_agg(DISTINCT data - 'run_id' - 'average' ORDER BY data - 'run_id' - 'average') FROM app.notifications),
          ARRAY['{"status": "completed", "challenge_id": 1}', '{"status": "failed", "challenge_id": 2}']::jsonb[],
          'the data has key and status, the key as a number');
SELECT set_eq($$SELECT data->>'run_id' AS run, data->>'challenge_id' AS id, (data->>'average')::numeric AS average, jsonb_typeof(data->'average') AS type, data->>'status' AS status FROM app.notifications$$,
              $$SELECT run_id::text, challenge_key, average, CASE WHEN average IS NULL THEN 'null' ELSE 'number' END, outcome
                  FROM challenge_jobs.decision WHERE challenge_key IN ('1', '2')$$,
              'run, average and outcome in the data are those of the decision');
SELECT is((SELECT count(*) FROM app.notifications WHERE created_at = now()), 5::bigint, 'notifications have the time of the transaction in created_at');
SELECT is(t.run(), '0 0 0', 'a second run does nothing');
SELECT is((SELECT count(*) FROM app.notifications), 5::bigint, 'and nobody is notified twice');
SELECT is((SELECT result FROM challenge_jobs.job_run ORDER BY run_id LIMIT 1),
          '{"completed": 1, "failed": 2, "notified": 5, "undecidable": 0, "not_notified": 0, "locked": 0, "errors": 0, "insert": "bulk"}', 'the run row has the same figures');
SELECT is((SELECT rows_affected FROM challenge_jobs.job_run ORDER BY run_id LIMIT 1), 8::bigint, 'and the number of rows changed or inserted');

/* a member who is in it twice is one user */
SELECT t.again() \g /dev/null
INSERT INTO app.challenge_members VALUES (1, 1);
SELECT is(t.run(dry_run => true), '1 2 5', 'the dry run counts each user of a challenge once');
SELECT is(t.run(), '1 2 5', 'and each is notified once');
DELETE FROM app.challenge_members WHERE ctid = (SELECT max(ctid) FROM app.challenge_members);

/* ---- texts ---- */
SELECT t.again() \g /dev/null
SELECT t.set('{"completed_title": "{challenge_name}: {status}", "completed_body": "id {challenge_id}, {{status}}, {}, {Status}, 100%",
               "failed_title": "", "failed_body": "{challenge_name}{challenge_name}"}') \g /dev/null
SELECT is(t.run(), '1 2 5', 'with texts of its own');
SELECT is(t.notified('n.title || ''/'' || n.body'),
          'Run: completed/id 1, {completed}, {}, {Status}, 100% | /No "sugar"No "sugar" | '
          'Run: completed/id 1, {completed}, {}, {Status}, 100% | /No "sugar"No "sugar" | '
          'Run: completed/id 1, {completed}, {}, {Status}, 100%',
          'placeholders are replaced, other braces are not');
SELECT t.set('{"completed_title": null, "completed_body": null, "failed_title": null, "failed_body": null}') \g /dev/null

/* hostile names must come out as they are */
CREATE TEMPORARY TABLE hostile AS
SELECT row_number() OVER () AS n, name
  FROM unnest(ARRAY['{status}', '{challenge_name}', '''; DROP TABLE app.notifications; --', 'back\slash \n \\', '$1 %s %d $$',
                    '", "status": "completed', E'line\nbreak\ttab', 'Ünïcödé ✓ 挑战 🏃', '{challenge_id', '}', '', ' ',
                    repeat('long ', 10000), 'nul\u0000']) name;
DELETE FROM app.challenges; DELETE FROM app.challenge_members; DELETE FROM app.challenge_member_stats; DELETE FROM app.notifications;
INSERT INTO app.challenges (id, name) SELECT n, name FROM hostile;
INSERT INTO app.challenge_members SELECT n, n FROM hostile;
SELECT is(t.run(), '0 14 14', 'hostile names do not disturb the run');
SELECT is(n.body, format('Your challenge "%s" has ended', h.name), 'a name like ' || translate(left(h.name, 30), E'\n\t#', '   '))
  FROM hostile h LEFT JOIN app.notifications n ON n.user_id = h.n ORDER BY h.n;
UPDATE app.challenges SET status = 'active', name = NULL WHERE id = 7;
DELETE FROM app.notifications;
SELECT is(t.run(), '0 1 1', 'a challenge without a name');
SELECT is(t.notified('n.body'), 'Your challenge "7" has ended', 'is named by its key');

/* ---- columns that are not there ---- */
SELECT t.again() \g /dev/null
DELETE FROM app.challenges WHERE id <> 7;
ALTER TABLE app.challenges DROP COLUMN name;
SELECT is(t.run(), '0 1 1', 'a table without names');
SELECT is(t.notified('n.body'), 'Your challenge "7" has ended', 'without the column "name" the key stands for it');
ALTER TABLE app.challenges ADD COLUMN name text;
CREATE FUNCTION t.without(VARIADIC columns text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    name    text;
    figures text;
BEGIN
    PERFORM t.again();
    FOREACH name IN ARRAY columns LOOP
        EXECUTE format('ALTER TABLE app.notifications DROP COLUMN %I', name);
    END LOOP;
    figures := t.run();
    RETURN figures || ' ' || (SELECT to_jsonb(n) - 'id' - 'created_at' FROM app.notifications n);
END
$$;
SELECT is(t.without('data'), '0 1 1 {"body": "Your challenge \"7\" has ended", "type": "challenge_completed", "title": "Challenge Completed!", "user_id": 7}',
          'a table without the column data gets the other columns');
SELECT is(t.without('body', 'title'), '0 1 1 {"type": "challenge_completed", "user_id": 7}', 'a table without title and body gets the other columns');
SELECT is(t.without('type', 'created_at'), '0 1 1 {"user_id": 7}', 'with nothing but user_id');
ALTER TABLE app.notifications ADD type text, ADD title text DEFAULT 'the app''s', ADD created_at timestamptz;
SELECT challenge_jobs.bind('notifications', 'app.notifications', '{"title": null, "created_at": null}') \g /dev/null
SELECT is(t.without(), '0 1 1 {"type": "challenge_completed", "title": "the app''s", "user_id": 7}', 'columns bound to null are left to the table');
SELECT is((SELECT created_at FROM app.notifications), NULL, 'a created_at that is bound to null is left to the table as well');
SELECT challenge_jobs.bind('notifications', 'app.notifications') \g /dev/null

/* ---- types ---- */
CREATE FUNCTION t.data_as(type text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    PERFORM t.again();
    EXECUTE format('ALTER TABLE app.notifications DROP COLUMN IF EXISTS data, ADD data %s', type);
    PERFORM t.run();
    EXECUTE 'SELECT pg_typeof(data) || '' '' || data FROM app.notifications' INTO result;
    RETURN replace(result, (SELECT max(run_id) FROM challenge_jobs.decision)::text, 'RUN');
END
$$;
CREATE DOMAIN t.document AS jsonb CHECK (value ? 'status');
GRANT USAGE ON SCHEMA t TO cj_app;
SELECT is(t.data_as('jsonb'), 'jsonb {"run_id": RUN, "status": "failed", "average": null, "challenge_id": 7}', 'a column data of type jsonb has run, challenge, status and average');
SELECT is(t.data_as('json'), 'json {"run_id": RUN, "status": "failed", "average": null, "challenge_id": 7}', 'a column data of type json has run, challenge, status and average');
SELECT is(t.data_as('text'), 'text {"run_id": RUN, "status": "failed", "average": null, "challenge_id": 7}', 'a column data of type text has run, challenge, status and average as JSON');
SELECT is(t.data_as('t.document'), 't.document {"run_id": RUN, "status": "failed", "average": null, "challenge_id": 7}', 'data of a domain');

CREATE FUNCTION t.created_at_as(definition text, zone text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result  text;
BEGIN
    PERFORM t.again();
    PERFORM t.set(jsonb_build_object('day_time_zone', zone));
    EXECUTE format('ALTER TABLE app.notifications DROP COLUMN created_at, ADD created_at %s', definition);
    PERFORM set_config('timezone', 'Pacific/Kiritimati', true);
    PERFORM t.run();
    PERFORM set_config('timezone', 'UTC', true);
    EXECUTE 'SELECT extract(epoch FROM created_at::timestamp - now() AT TIME ZONE ''UTC'') / 60 FROM app.notifications' INTO result;
    RETURN result::numeric::int;
END
$$;
SELECT is(t.created_at_as('timestamptz NOT NULL', 'Asia/Kolkata'), '0', 'created_at timestamptz without a default is now');
SELECT is(t.created_at_as('timestamp NOT NULL', 'UTC'), '0', 'timestamp without a default: in UTC, whatever the session''s zone');
SELECT is(t.created_at_as('timestamp NOT NULL', 'Asia/Kolkata'), '330', 'timestamp without a default: in day_time_zone');
SELECT is(t.created_at_as('timestamp NOT NULL DEFAULT now()', 'Asia/Kolkata'), '330', 'timestamp with the default now(): in day_time_zone, too');
SELECT is(t.created_at_as('timestamptz NOT NULL DEFAULT now() - interval ''1 hour''', 'UTC'), '-60', 'a default of the app''s own is used');
SELECT t.set('{"day_time_zone": null}') \g /dev/null

CREATE TYPE app.kind AS ENUM ('invite', 'done');
ALTER TABLE app.notifications ALTER type TYPE app.kind USING NULL;
SELECT t.again() \g /dev/null
SELECT matches(t.error('SELECT t.run()'), '^42704: entity "notifications": enum app.kind of column "type" of app.notifications has no label "challenge_completed"',
               'an enum of types without the label is an error');
SELECT is(t.statuses(), '=active', 'and nothing has been decided');
SELECT challenge_jobs.bind('notifications', 'app.notifications', labels => '{"challenge_completed": "done"}') \g /dev/null
SELECT is(t.run(), '0 1 1', 'with the label bound');
SELECT is(t.notified('n.type'), 'done', 'the label that was configured stands in the notifications');

/* ---- nobody is notified about what was not decided, nothing is decided without telling ---- */
SELECT t.again() \g /dev/null
ALTER TABLE app.notifications ADD CONSTRAINT nobody CHECK (user_id <> 7);
SELECT matches(t.error('SELECT t.run()'), '^23514: ', 'where the notification is refused');
SELECT is(t.statuses(), '=active', 'the challenge is not decided');
ALTER TABLE app.notifications DROP CONSTRAINT nobody;
CREATE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep BEFORE UPDATE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.keep();
SELECT is(t.run(), '0 0 0', 'a challenge that a trigger keeps from being updated is not counted');
SELECT is(t.notified('n'), NULL, 'and nobody is notified');
DROP TRIGGER keep ON app.challenges;

/* ---- notify false ---- */
SELECT t.set('{"notify": false}') \g /dev/null
ALTER TABLE app.notifications RENAME TO elsewhere;
ALTER TABLE app.challenge_members RENAME TO elsewhere_too;
SELECT is(t.run(dry_run => true), '0 1 0', 'notify false: the tables of members and notifications need not be there (dry run)');
SELECT is(t.run(), '0 1 0', 'notify false: the tables of members and notifications need not be there');
SELECT is((SELECT count(*) FROM app.elsewhere), 0::bigint, 'and nobody is notified');

SELECT * FROM finish();
ROLLBACK;
