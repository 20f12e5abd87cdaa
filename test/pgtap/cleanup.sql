/*
 * cleanup_expired_notifications: what goes and what stays, however the table is made and read.
 *
 *   t.clean(as_of, dry_run)    calls the job function: 'notifications job_runs'
 *   t.left()                   the titles of the notifications that are left, sorted
 *   t.ways()                   how the last run has read the tables: 'by_heap 1, none_expired 2'
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION t.clean(as_of timestamptz DEFAULT '2024-06-30 12:00+00', dry_run boolean DEFAULT false) RETURNS text
LANGUAGE sql AS $$
    SELECT concat_ws(' ', notifications, job_runs) FROM public.cleanup_expired_notifications(clean.as_of, clean.dry_run)
$$;
CREATE FUNCTION t.ways() RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(w.key || ' ' || w.value, ', ' ORDER BY w.key)
      FROM jsonb_each_text((t.last_run()).result->'tables') w
     WHERE w.value <> '0'
$$;
CREATE FUNCTION t.clean_set(settings jsonb) RETURNS void
LANGUAGE sql AS $$ SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => settings) $$;
/* Puts notifications into the table: title, created_at, title, created_at, … */
CREATE FUNCTION t.put(VARIADIC pairs text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.notifications;
    INSERT INTO app.notifications (user_id, type, title, body, created_at)
    SELECT 1, 'x', pairs[i], '', pairs[i + 1]::timestamptz FROM generate_series(1, cardinality(pairs), 2) i;
END
$$;
SET TIME ZONE 'UTC';

/* ---- by age ---- */
SELECT t.put('old', '2024-01-01', 'just', '2024-05-31 11:59:59.999999+00', 'at', '2024-05-31 12:00+00', 'new', '2024-06-30',
             'future', '2024-07-30', 'infinite', 'infinity', 'ancient', '-infinity') \g /dev/null
SELECT is(t.clean(dry_run => true), '3 0', 'a dry run counts');
SELECT is(t.left(), 'ancient at future infinite just new old', 'a dry run deletes no notification');
SELECT is(t.clean(), '3 0', 'what was created before as_of - 30 days goes');
SELECT is(t.left(), 'at future infinite new', 'what was created at that moment or later stays');
SELECT is(t.clean(), '0 0', 'nothing is left to be done');
SELECT is((t.last_run()).rows_affected, 0::bigint, 'and the run says so');
SELECT is(t.clean('2024-06-30 12:00:00.000001+00'), '1 0', 'a microsecond later it goes, too');

SELECT t.put('a', '2024-02-29 11:59:59+00', 'b', '2024-02-29 12:00+00'), t.clean_set('{"notification_retention": "1 month"}') \g /dev/null
SELECT is(t.clean('2024-03-31 12:00+00') || t.left(), '1 0b', 'a month is one of the calendar');
SELECT t.clean_set('{"notification_retention": "0"}'), t.put('a', '2024-03-31 11:59:59+00', 'b', '2024-03-31 12:00+00') \g /dev/null
SELECT is(t.clean('2024-03-31 12:00+00') || t.left(), '1 0b', 'with a retention of 0 all goes that was created before as_of');
SELECT t.clean_set('{"notification_retention": "1 month -29 days -23:59"}'), t.put('a', '2024-03-01 11:59:59+00', 'b', '2024-03-01 12:00:01+00') \g /dev/null
SELECT is(t.clean('2024-03-01 12:00+00') || t.left(), '1 0b', 'a retention that a short month makes negative takes nothing from the future');
SELECT is(t.error($$SELECT t.clean_set('{"notification_retention": "-1 day"}')$$),
          '22023: invalid value for setting "notification_retention" of job "cleanup_expired_notifications"', 'a retention cannot be negative');
SELECT is(t.error($$SELECT t.clean_set('{"notification_retention": "200 years"}')$$),
          '22023: invalid value for setting "notification_retention" of job "cleanup_expired_notifications"', 'nor longer than a century');
CREATE FUNCTION t.detail(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail  text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END
$$;
SELECT is(t.detail(format($$SELECT t.clean_set('{%s}')$$, settings)), expected, settings || ': a number alone is not taken for seconds')
  FROM (VALUES ('"notification_retention": "30"', 'The setting takes an interval with its unit, as in "30 days".'),
               ('"retention_by_type": {"x": "1.5"}', 'The setting takes an interval with its unit, as in "1.5 days".'),
               ('"unread_retention": "90"', 'The setting takes an interval with its unit, as in "90 days".'),
               ('"notification_retention": "720:00"', 'no error'), ('"notification_retention": "P30D"', 'no error'), ('"notification_retention": "0"', 'no error')) v(settings, expected);
SELECT t.clean_set('{"notification_retention": null}') \g /dev/null
SELECT is(t.error($$SELECT t.clean(now() + interval '1 day')$$), '22023: as_of is in the future', 'a typo in as_of must not delete everything');

/* days are UTC's, whatever the session's zone: New York skipped an hour within these 30 days */
SET TIME ZONE 'America/New_York';
SELECT t.put('a', '2024-02-19 11:59+00', 'b', '2024-02-19 12:30+00') \g /dev/null
SELECT is(t.clean('2024-03-20 12:00+00') || t.left(), '1 0b', 'the session''s TimeZone plays no part');

/* a dry run writes nothing at all */
CREATE FUNCTION t.clean_read_only() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('transaction_read_only', 'on', true);
    RAISE EXCEPTION '%', t.clean('2024-06-30 12:00+00', true);
EXCEPTION WHEN raise_exception THEN
    RETURN SQLERRM;
END
$$;
SELECT t.put('a', '2024-01-01') \g /dev/null
SELECT is(t.clean_read_only(), '1 0', 'a dry run in a read-only transaction');
SELECT is(t.left(), 'a', 'has counted, and no more');

/* ---- timestamps without zone are read in day_time_zone ---- */
ALTER TABLE app.notifications ALTER created_at TYPE timestamp USING created_at AT TIME ZONE 'UTC';
SELECT t.set('{"day_time_zone": "Europe/Berlin"}') \g /dev/null
DELETE FROM app.notifications;
INSERT INTO app.notifications (user_id, type, title, body, created_at)
VALUES (1, '', 'a', '', '2024-05-31 13:59:59.999999'), (1, '', 'b', '', '2024-05-31 14:00'), (1, '', 'c', '', 'infinity');
SELECT is(t.clean() || t.left(), '1 0b c', 'a local time is before the bound if the moment it stands for is');
/* in the hour that occurs twice PostgreSQL takes a local time for the second one: 2:30 is 1:30 UTC */
DELETE FROM app.notifications;
INSERT INTO app.notifications (user_id, type, title, body, created_at)
VALUES (1, '', 'a', '', '2023-10-29 01:59'), (1, '', 'b', '', '2023-10-29 02:10'), (1, '', 'c', '', '2023-10-29 03:00');
SELECT is(t.clean('2023-11-28 00:30+00') || t.left(), '1 0b c', 'in the first of two like hours: nothing of the second one');
SELECT is(t.clean('2023-11-28 01:30+00') || t.left(), '1 0c', 'in the second one');
SELECT t.set('{"day_time_zone": null}') \g /dev/null
ALTER TABLE app.notifications ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC', ALTER created_at DROP NOT NULL;
SET TIME ZONE 'UTC';

/* ---- past their own expiry ---- */
ALTER TABLE app.notifications ADD expires_at timestamptz;
DELETE FROM app.notifications;
INSERT INTO app.notifications (user_id, type, title, body, created_at, expires_at)
VALUES (1, '', 'expired', '', '2024-06-29', '2024-06-30 11:59+00'), (1, '', 'now', '', '2024-06-29', '2024-06-30 12:00+00'),
       (1, '', 'old', '', '2024-01-01', '2030-01-01'), (1, '', 'old2', '', '2024-01-01', NULL), (1, '', 'new', '', '2024-06-29', NULL),
       (1, '', 'undated', '', NULL, NULL), (1, '', 'undated expired', '', NULL, '2024-01-01'), (1, '', 'both', '', '2024-01-01', '2024-01-01');
SELECT is(t.clean(dry_run => true), '5 0', 'old ones and expired ones, each counted once');
SELECT is(t.clean(), '5 0', 'the run deletes the five that have expired');
SELECT is(t.left(), 'new now undated', 'a null says nothing');
SELECT challenge_jobs.bind('notifications', 'app.notifications', columns => '{"expires_at": null}') \g /dev/null
UPDATE app.notifications SET expires_at = '2024-01-01';
SELECT is(t.clean(), '0 0', 'an expires_at that is not to be used is not');
SELECT challenge_jobs.bind('notifications', 'app.notifications') \g /dev/null
SELECT is(t.clean(), '3 0', 'and else it is');

/* ---- created_at is required here ---- */
SELECT challenge_jobs.bind('notifications', 'app.notifications', columns => '{"created_at": null}') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), '22023: entity "notifications": column "created_at" is required', 'without created_at the job refuses');
SELECT is((SELECT status || ': ' || remedy FROM challenge_jobs.doctor() WHERE check_name = 'binding:notifications' AND status = 'error'),
          $$error: SELECT challenge_jobs.bind('notifications', 'app.notifications', columns => '{"created_at": "created_at"}');$$, 'the doctor says what to type');
SELECT is(t.error('SELECT t.run(dry_run => true)'), 'no error', 'the other job can do without it');
ALTER TABLE app.notifications RENAME created_at TO made;
SELECT challenge_jobs.bind('notifications', 'app.notifications') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), '42703: entity "notifications": column "created_at" for "created_at" not found in app.notifications', 'nor can it guess');
ALTER TABLE app.notifications RENAME made TO created_at;

/* ---- every way finds the same ---- */
/*
 * Fills the bound table with n rows of random dates, among them many that are alike and nulls, runs the
 * job, and compares. Returns how the tables were read, and what is wrong.
 */
CREATE FUNCTION t.try(n integer, batch_size integer, few boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    figures record;
    wanted  bigint;
    wrong   bigint;
BEGIN
    PERFORM t.clean_set(jsonb_build_object('batch_size', batch_size));
    DELETE FROM app.notifications;
    INSERT INTO app.notifications (user_id, type, title, body, created_at, expires_at)
    SELECT i, '', '', '',
           CASE WHEN i % 11 = 0 THEN NULL
                WHEN few AND i % 100 <> 1 THEN '2024-06-10'
                WHEN i % 5 = 0 THEN '2024-05-05'
                ELSE '2024-06-30'::timestamptz - random() * interval '60 days' END,
           CASE WHEN i % 3 = 0 OR few AND i % 100 <> 2 THEN NULL ELSE '2024-07-31'::timestamptz - random() * interval '60 days' END
      FROM generate_series(1, n) i;
    ANALYZE app.notifications;
    CREATE TEMP TABLE IF NOT EXISTS expected (user_id integer);
    DELETE FROM expected;
    INSERT INTO expected
    SELECT user_id FROM app.notifications
     WHERE (created_at < '2024-05-31 12:00+00') IS NOT TRUE AND (expires_at < '2024-06-30 12:00+00') IS NOT TRUE;
    SELECT n - count(*) INTO wanted FROM expected;
    SELECT * INTO figures FROM public.cleanup_expired_notifications('2024-06-30 12:00+00', true);
    IF figures.notifications <> wanted THEN
        RETURN format('a dry run counts %s instead of %s', figures.notifications, wanted);
    END IF;
    SELECT * INTO figures FROM public.cleanup_expired_notifications('2024-06-30 12:00+00');
    SELECT count(*) INTO wrong FROM expected e FULL JOIN app.notifications a USING (user_id) WHERE e.user_id IS NULL OR a.user_id IS NULL;
    RETURN concat_ws(', ', t.ways(), CASE WHEN wrong > 0 THEN wrong || ' rows are wrong' END,
                     CASE WHEN figures.notifications <> wanted THEN format('%s counted instead of %s', figures.notifications, wanted) END,
                     CASE WHEN (t.last_run()).result->'locked' <> '0' THEN 'locked' END);
END
$$;
ALTER TABLE app.notifications ALTER id SET GENERATED BY DEFAULT;
SELECT setseed(0.42) \g /dev/null
SELECT is(t.try(1500, size), 'by_heap 1', format('without an index, in batches of %s', size)) FROM unnest(ARRAY[1, 2, 7, 100, 50000]) size;
SELECT is(t.try(0, 100), 'by_heap 1', 'an empty table is read by_heap, and nothing is deleted');
SELECT is(t.try(100000, 3000), 'by_heap 1', 'more than one range of blocks');
/* (on an empty table: an index on rows that were changed in this transaction cannot be used in it) */
TRUNCATE app.notifications;
CREATE INDEX created ON app.notifications (created_at);
SELECT is(t.try(20000, 100, true), 'by_heap 1', 'with an index on one of the two columns the table is still read');
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications (expires_at DESC, user_id);
SELECT is(t.try(20000, 100, true), 'by_index 1', 'with an index on each, and little that is expired, they are used');
SELECT is(t.try(20000, 100), 'by_heap 1', 'where much is expired the table is read');
SET enable_seqscan = off;
SELECT is(t.try(1500, size), 'by_index 1', format('by index, in batches of %s', size)) FROM unnest(ARRAY[1, 2, 7, 100, 50000]) size;
DROP INDEX app.expires;
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications (expires_at) WHERE user_id > 10;
SELECT is(t.try(1500, 100), 'by_heap 1', 'a partial index is none');
DROP INDEX app.expires;
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications USING brin (expires_at);
SELECT is(t.try(1500, 100), 'by_heap 1', 'one that knows no order neither');
DROP INDEX app.expires;
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications (expires_at NULLS FIRST);
SELECT is(t.try(1500, 100), 'by_heap 1', 'one that has the nulls first is not in the order that we read in');
DROP INDEX app.expires;
TRUNCATE app.notifications;
CREATE INDEX expires ON app.notifications (expires_at);
RESET enable_seqscan;

/* a page of many that are alike, some of which stay */
CREATE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.title = 'keep' THEN RETURN NULL; END IF;
    IF OLD.title = 'fail' THEN RAISE EXCEPTION 'this one is needed'; END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER keep BEFORE DELETE ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.keep();
CREATE FUNCTION t.fill_alike() RETURNS void LANGUAGE sql AS $$
    TRUNCATE app.notifications;
    INSERT INTO app.notifications (id, user_id, type, title, body, created_at)
    SELECT i, i, '', CASE WHEN i % 3 = 0 THEN 'keep' WHEN i = 500 THEN 'fail' ELSE 'go' END, '', '2024-01-01' FROM generate_series(1, 1000) i
$$;
CREATE FUNCTION t.alike() RETURNS text LANGUAGE plpgsql AS $$
DECLARE r challenge_jobs.job_run;
BEGIN
    PERFORM t.fill_alike();
    PERFORM t.clean();
    r := t.last_run();
    RETURN concat_ws(', ', t.ways(), r.rows_affected, r.result->'locked', r.result->'errors', r.status, r.message,
                     regexp_replace(r.detail, '\(\d+,\d+\)', '(…)'),
                     (SELECT string_agg(title || ' ' || n, ', ' ORDER BY title) FROM (SELECT title, count(*) n FROM app.notifications GROUP BY 1) c));
END
$$;
SELECT t.clean_set('{"batch_size": 100}') \g /dev/null
SELECT is(t.alike(), 'by_heap 1, 666, 0, 1, failed, this one is needed, Not done (1): row (…) of app.notifications., fail 1, keep 333',
          'a trigger that raises or suppresses keeps none of the others');
SELECT is((t.last_run()).result->>'kept', '333', 'the run says how many were kept');
SET enable_seqscan = off;
SELECT is(t.alike(), 'by_index 1, 666, 0, 1, failed, this one is needed, Not done (1): row (…) of app.notifications., fail 1, keep 333',
          'the same by index');
/* a rule */
SAVEPOINT before;
CREATE RULE soft AS ON DELETE TO app.notifications DO INSTEAD UPDATE app.notifications SET title = 'gone' WHERE id = OLD.id;
SELECT is(t.error('SELECT t.clean()'), '42809: rule soft of app.notifications does something else instead of DELETE', 'a rule with INSTEAD is an error that says so');
ROLLBACK TO before;
RELEASE before;
/* pages that end in the middle of rows of the same age */
SAVEPOINT before;
TRUNCATE app.notifications;
INSERT INTO app.notifications (user_id, type, title, body, created_at)
SELECT i, 'x', CASE WHEN i = 1 THEN 'go' ELSE 'fail' END, '', '2020-01-01'::timestamptz + (i / 4) * interval '1 minute' FROM generate_series(1, 61) i;
SELECT t.clean_set('{"batch_size": 10}'), t.clean() \g /dev/null
SELECT is((SELECT concat_ws(' ', rows_affected, result->'errors', t.ways()) FROM t.last_run()), '1 60 by_index 1', 'each row that cannot be deleted is tried in one batch and counted once');
ROLLBACK TO before;
RELEASE before;
RESET enable_seqscan;
DELETE FROM app.notifications WHERE title = 'go';
SELECT is((t.last_run()).result->>'kept', '333', 'the result counts the rows that a trigger has kept');
SELECT is(t.error('SELECT t.clean()'), 'P0001: this one is needed', 'where nothing at all could be done, the error is raised');
SELECT is((SELECT min(ctid)::text FROM app.notifications WHERE title = 'fail'), (SELECT ctid::text FROM app.notifications WHERE id = 500), 'the row is still there');
/* a trigger on delete fires once for each row */
CREATE TABLE app.archive (id bigint, who text);
ALTER TABLE app.archive OWNER TO cj_app;
CREATE OR REPLACE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.archive VALUES (OLD.id, current_user);
    IF OLD.title = 'keep' THEN RETURN NULL; END IF;
    RETURN OLD;
END
$$;
SELECT t.fill_alike() \g /dev/null
SELECT is(t.clean(), '667 0', 'with a trigger that archives');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || min(who) FROM app.archive), '1000 1000 cj_app', 'it is called once for each row, as the owner of the table');
/* a trigger that deletes others of the same batch */
CREATE OR REPLACE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM app.notifications WHERE id = OLD.id + 1;
    RETURN OLD;
END
$$;
SELECT t.fill_alike() \g /dev/null
SELECT t.clean() \g /dev/null
SELECT t.clean() \g /dev/null
SELECT is(t.left(), NULL, 'a trigger that deletes its neighbours: nothing is left in the end');
DROP TRIGGER keep ON app.notifications;

/* ---- range of blocks by range, where much is expired ---- */
/* Which statements have deleted, and how many rows at most: the trigger finds its statement in its context. */
CREATE TABLE app.how (statement text, gone bigint);
ALTER TABLE app.how OWNER TO cj_app;
CREATE FUNCTION app.note_how() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    INSERT INTO app.how SELECT substring(context FROM 'statement "delete expired notifications ?([^"]*)"'), count(*) FROM gone;
    RETURN NULL;
END
$$;
CREATE FUNCTION t.how() RETURNS TABLE (ranges bigint, in_ranges bigint, listed bigint, most bigint) LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE statement <> ''), coalesce(sum(gone) FILTER (WHERE statement = 'in a range of blocks'), 0),
           coalesce(sum(gone) FILTER (WHERE statement = ''), 0), max(gone)
      FROM app.how
$$;
DROP INDEX app.created, app.expires;
CREATE TRIGGER how AFTER DELETE ON app.notifications REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION app.note_how();
/* t.try deletes as well, which is not to be counted */
CREATE FUNCTION t.try_ranges(n integer, batch_size integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    how    record;
BEGIN
    DELETE FROM app.how;
    result := t.try(n, batch_size);
    DELETE FROM app.how WHERE statement IS NULL;
    SELECT * INTO how FROM t.how();
    RETURN result || CASE WHEN how.in_ranges = 0 THEN ', none in ranges' WHEN how.listed > how.in_ranges THEN ', few in ranges' ELSE '' END
                  || CASE WHEN how.most > batch_size THEN format(', %s at once', how.most) ELSE '' END;
END
$$;
TRUNCATE app.notifications;
SELECT is(t.try_ranges(20000, size), 'by_heap 1', format('most is deleted range by range, and never more than a batch of %s at once', size)) FROM unnest(ARRAY[291, 500, 2000]) size;
SELECT is(t.try_ranges(5000, 290), 'by_heap 1, none in ranges', 'but not where a block could have more rows than a batch');
TRUNCATE app.notifications;
SET enable_tidscan = off;
SELECT is(t.try_ranges(5000, 500), 'by_heap 1, none in ranges', 'nor where the planner would read the whole table for it');
RESET enable_tidscan;
/* as if there were as many indexes as anybody might have */
CREATE INDEX created ON app.notifications (created_at);
CREATE INDEX past ON app.notifications (user_id) WHERE created_at < '2024-05-31 12:00+00' OR expires_at < '2024-06-30 12:00+00';
CREATE INDEX whether ON app.notifications ((created_at < '2024-05-31 12:00+00'));
SELECT is(t.try_ranges(20000, 500), 'by_heap 1', 'no index is used instead');
DROP INDEX app.created, app.past, app.whether;
TRUNCATE app.notifications;

CREATE FUNCTION t.fill_many(n integer) RETURNS void LANGUAGE sql AS $$
    TRUNCATE app.notifications, app.archive, app.how;
    INSERT INTO app.notifications (id, user_id, type, title, body, created_at)
    SELECT i, i, '', CASE WHEN i % 3 = 0 THEN 'keep' WHEN i IN (4000, 4001, 7000) THEN 'odd' ELSE 'go' END, '', '2024-01-01' FROM generate_series(1, n) i
$$;
CREATE FUNCTION t.many() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r challenge_jobs.job_run;
BEGIN
    PERFORM t.fill_many(9000), t.clean_set('{"batch_size": 500}');
    PERFORM t.clean();
    r := t.last_run();
    RETURN concat_ws(', ', r.rows_affected, r.result->'locked', r.result->'errors', r.message,
                     (SELECT CASE WHEN in_ranges > 3000 THEN 'in ranges' END FROM t.how()),
                     (SELECT string_agg(title || ' ' || n, ', ' ORDER BY title) FROM (SELECT title, count(*) n FROM app.notifications GROUP BY 1) c));
END
$$;
CREATE OR REPLACE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.title = 'odd' THEN RAISE EXCEPTION 'this one is needed'; END IF;
    INSERT INTO app.archive VALUES (OLD.id, current_user);
    IF OLD.title = 'keep' THEN RETURN NULL; END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER keep BEFORE DELETE ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.keep();
SELECT is(t.many(), '5997, 0, 3, this one is needed, in ranges, keep 3000, odd 3', 'rows that cannot be deleted keep none of the others of their ranges');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || min(who) || ' ' || max(who) FROM app.archive), '8997 8997 cj_app cj_app',
          'and a trigger that keeps rows is asked once for each, as the owner of the table');
/* instead of deleting, a trigger marks; what it has marked is not marked again in the same batch */
CREATE OR REPLACE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE app.notifications SET title = 'gone', created_at = '2024-06-30' WHERE id = OLD.id;
    INSERT INTO app.archive VALUES (OLD.id, current_user);
    RETURN NULL;
END
$$;
SELECT is(t.many(), '0, 0, 0, gone 9000', 'a trigger that updates instead of deleting');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT id) FROM app.archive), '9000 9000', 'is asked once for each row');
DROP TRIGGER keep ON app.notifications;
CREATE TABLE app.stars (notification_id integer NOT NULL);
ALTER TABLE app.stars OWNER TO cj_app;
ALTER TABLE app.notifications ADD PRIMARY KEY (id);
ALTER TABLE app.stars ADD FOREIGN KEY (notification_id) REFERENCES app.notifications DEFERRABLE INITIALLY DEFERRED;
CREATE OR REPLACE FUNCTION t.fill_many(n integer) RETURNS void LANGUAGE sql AS $$
    TRUNCATE app.notifications, app.stars, app.how;
    INSERT INTO app.notifications (id, user_id, type, title, body, created_at) SELECT i, i, '', 'go', '', '2024-01-01' FROM generate_series(1, n) i;
    INSERT INTO app.stars VALUES (4000), (4500)
$$;
SELECT matches(t.many(), '^8998, 0, 2, update or delete on table "notifications" violates .*, in ranges, go 2$', 'rows that are referred to keep none of the others of their ranges');
DROP TABLE app.stars;
/* rows with a mark: here it is the caller's own */
CREATE OR REPLACE FUNCTION t.fill_many(n integer) RETURNS void LANGUAGE sql AS $$
    TRUNCATE app.notifications, app.how;
    INSERT INTO app.notifications (id, user_id, type, title, body, created_at) SELECT i, i, '', 'go', '', '2024-01-01' FROM generate_series(1, n) i;
    SELECT id FROM app.notifications WHERE id % 100 = 7 FOR UPDATE
$$;
SELECT is(t.many(), '9000, 0, 0, in ranges', 'rows that bear a mark go as well');
SELECT cmp_ok((SELECT listed FROM t.how()), '>=', 580::bigint, 'after having been locked');
/* rules make something else of a DELETE, or nothing */
CREATE RULE nothing AS ON DELETE TO app.notifications DO INSTEAD NOTHING;
SELECT alike(t.error('SELECT t.many()'), '42809: rule nothing of app.notifications does something else instead of DELETE', 'a rule that makes nothing of it is an error, and no more');
DROP RULE nothing ON app.notifications;
CREATE RULE tell AS ON DELETE TO app.notifications DO INSTEAD NOTIFY gone;
SELECT isnt(t.error('SELECT t.many()'), 'no error', 'and so is one that makes a message of it');
DROP RULE tell ON app.notifications;
ALTER TABLE app.notifications DROP CONSTRAINT notifications_pkey;
DROP TRIGGER how ON app.notifications;

/* ---- rows that refer to notifications ---- */
ALTER TABLE app.notifications ADD PRIMARY KEY (id);
CREATE TABLE app.reads (notification_id integer REFERENCES app.notifications ON DELETE CASCADE, note text);
CREATE TABLE app.pins (notification_id integer REFERENCES app.notifications ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, note text);
CREATE TABLE app.orders (notification_id integer REFERENCES app.notifications, note text);
ALTER TABLE app.reads OWNER TO cj_app; ALTER TABLE app.pins OWNER TO cj_app;
/* one of another owner */
CREATE ROLE cj_other;
GRANT USAGE ON SCHEMA app TO cj_other;
ALTER TABLE app.orders OWNER TO cj_other;
SELECT t.put('a', '2024-01-01', 'b', '2024-01-01', 'c', '2024-01-01', 'd', '2024-06-29') \g /dev/null
INSERT INTO app.reads SELECT id, title FROM app.notifications;
INSERT INTO app.pins SELECT id, title FROM app.notifications;
INSERT INTO app.orders SELECT id, title FROM app.notifications WHERE title IN ('b', 'd');
SELECT is(t.clean(), '2 0', 'rows that others refer to');
SELECT is(t.left(), 'b d', 'stay where a foreign key forbids it, and keep none of the others');
SELECT is((SELECT string_agg(note, '' ORDER BY note) FROM app.reads), 'bd', 'rows that refer to a deleted notification with CASCADE are deleted');
SELECT is((SELECT string_agg(note, '' ORDER BY note) FROM app.pins WHERE notification_id IS NULL), 'ac', 'rows that refer to a deleted notification with SET NULL refer to nothing');
SELECT is((SELECT count(*) FROM app.pins), 4::bigint, 'SET NULL deletes none of the rows that refer to a notification');
SELECT is((t.last_run()).sqlstate, '23503', 'the run says why');
SELECT is((SELECT regexp_replace((t.last_run()).detail, '^.*Not done', 'Not done')),
          format('Not done (1): row %s of app.notifications.', (SELECT ctid FROM app.notifications WHERE title = 'b')), 'the detail of the run names the row that is still referred to');
/* a check at the end of the caller's transaction would be one after the fact */
ALTER TABLE app.orders ALTER CONSTRAINT orders_notification_id_fkey DEFERRABLE INITIALLY DEFERRED;
SELECT t.put('e', '2024-01-01') \g /dev/null
DELETE FROM app.orders;
SELECT t.put('e', '2024-01-01', 'f', '2024-01-01') \g /dev/null
INSERT INTO app.orders SELECT id, title FROM app.notifications WHERE title = 'e';
SELECT is(t.clean() || ' ' || t.left(), '1 0 e', 'also with a deferred constraint, of a table of another owner');
DROP TABLE app.orders, app.pins, app.reads;

/* ---- row-level security ---- */
ALTER TABLE app.notifications ENABLE ROW LEVEL SECURITY;
SELECT t.put('a', '2024-01-01') \g /dev/null
SELECT is(t.clean(dry_run => true), '1 0', 'row-level security hides nothing');
SELECT is(t.clean(), '1 0', 'row-level security protects no expired notification from the clean-up');
ALTER TABLE app.notifications FORCE ROW LEVEL SECURITY;
SELECT is(t.error('SELECT t.clean()'), '42501: entity "notifications": row-level security of app.notifications is forced on its owner "cj_app"',
          'forced on the owner it is an error');

/* ---- odd names and types, partitions ---- */
CREATE SCHEMA "My App" AUTHORIZATION cj_app;
SET ROLE cj_app;
CREATE DOMAIN "My App"."Moment" AS timestamptz;
CREATE TABLE "My App"."User's notes" (
    "Id" bigint, "who?" uuid, "made ""at""" timestamptz NOT NULL, "gone" "My App"."Moment", label text
) PARTITION BY RANGE ("made ""at""");
CREATE TABLE "My App"."p 1" PARTITION OF "My App"."User's notes" FOR VALUES FROM (MINVALUE) TO ('2024-05-01');
CREATE TABLE "My App"."p 2" PARTITION OF "My App"."User's notes" FOR VALUES FROM ('2024-05-01') TO ('2024-06-01') PARTITION BY HASH ("Id");
CREATE TABLE "My App"."p 2.0" PARTITION OF "My App"."p 2" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "My App"."p 2.1" PARTITION OF "My App"."p 2" FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE "My App"."p 3" PARTITION OF "My App"."User's notes" FOR VALUES FROM ('2024-06-01') TO ('2024-07-01');
CREATE TABLE "My App"."p 4" PARTITION OF "My App"."User's notes" DEFAULT;
/* one whose columns are in another order */
CREATE TABLE "My App"."p 5" (label text, dropped int, gone "My App"."Moment", "made ""at""" timestamptz NOT NULL, "who?" uuid, "Id" bigint);
ALTER TABLE "My App"."p 5" DROP dropped;
ALTER TABLE "My App"."User's notes" ATTACH PARTITION "My App"."p 5" FOR VALUES FROM ('2024-07-01') TO ('2024-08-01');
RESET ROLE;
CREATE FUNCTION t.fill_notes() RETURNS void LANGUAGE sql AS $$
    DELETE FROM "My App"."User's notes";
    INSERT INTO "My App"."User's notes"
    SELECT i, gen_random_uuid(), '2024-04-01'::timestamptz + i * interval '1 day', NULL, 'n' || i FROM generate_series(0, 149) i
$$;
SELECT t.fill_notes(),
       challenge_jobs.bind('notifications', '"My App"."User''s notes"', columns => '{"user_id": "who?", "created_at": "made \"at\"", "expires_at": null}')
\g /dev/null
SELECT is(t.clean(dry_run => true), '61 0', 'partitioned: a dry run counts');
SELECT is(t.clean(), '61 0', 'partitioned: those of all partitions go');
SELECT is(t.ways(), 'by_heap 4, none_expired 2', 'those that can hold nothing old are not looked at');
SELECT is((SELECT string_agg(label, ' ' ORDER BY "Id") FROM "My App"."User's notes" WHERE "Id" < 64), 'n61 n62 n63', 'in a table with names that must be quoted only the expired rows are deleted');
SELECT challenge_jobs.bind('notifications', '"My App"."User''s notes"', columns => '{"user_id": "who?", "created_at": "made \"at\"", "expires_at": "gone"}') \g /dev/null
UPDATE "My App"."User's notes" SET gone = '2024-06-01' WHERE "Id" % 10 = 3;
SELECT is(t.clean(), '9 0', 'expires_at of a domain type, in all of them');
SELECT is(t.ways(), 'by_heap 6', 'all of which had to be looked at');
TRUNCATE "My App"."User's notes";
CREATE INDEX ON "My App"."User's notes" ("made ""at""");
CREATE INDEX ON "My App"."User's notes" (gone);
SET enable_seqscan = off;
SELECT t.fill_notes() \g /dev/null
UPDATE "My App"."User's notes" SET gone = '2024-06-01' WHERE "Id" % 10 = 3;
SELECT is(t.clean() || ', ' || t.ways(), '70 0, by_index 6', 'the same by index');
RESET enable_seqscan;
/* what fails in one partition */
CREATE FUNCTION "My App".refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not from here'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON "My App"."p 2.0" FOR EACH STATEMENT EXECUTE FUNCTION "My App".refuse();
SELECT t.fill_notes(), t.clean_set('{"batch_size": 7}') \g /dev/null
ALTER TABLE "My App"."p 1" OWNER TO cj_other;
SELECT t.clean() \g /dev/null
SELECT is((SELECT string_agg(DISTINCT tableoid::regclass::text, ' ') FROM "My App"."User's notes" WHERE "Id" < 61), '"My App"."p 1" "My App"."p 2.0"', 'one partition keeps none of the others');
SELECT alike((t.last_run()).message, 'the owner of "My App"."User''s notes" may not delete from its partition "My App"."p 1"', 'the run says why');
SELECT is((t.last_run()).hint, 'Run: GRANT SELECT, UPDATE, DELETE ON "My App"."p 1" TO cj_app;', 'and what to type');
SELECT alike((t.last_run()).detail, '%row (0,%) of "My App"."p 2.0"%', 'the detail of the error names the row, in a partition with a name that must be quoted');
SELECT is((SELECT remedy FROM challenge_jobs.doctor() WHERE check_name = 'privileges:notifications'), 'GRANT SELECT, UPDATE, DELETE ON "My App"."p 1" TO cj_app;', 'and so does the doctor');
GRANT USAGE ON SCHEMA "My App" TO cj_other;
GRANT SELECT, UPDATE, DELETE ON "My App"."p 1" TO cj_app;
DROP TRIGGER refuse ON "My App"."p 2.0";
SELECT t.clean() \g /dev/null
SELECT is((SELECT min("Id") FROM "My App"."User's notes"), 61::bigint, 'when the cause is gone the next run deletes the row');

/* inheritance: children are parts as well */
SET ROLE cj_app;
CREATE TABLE "My App".parent (user_id int, title text, created_at timestamp NOT NULL, expires_at timestamp GENERATED ALWAYS AS (created_at + interval '7 days') STORED);
CREATE TABLE "My App".child (extra int) INHERITS ("My App".parent);
INSERT INTO "My App".parent VALUES (1, 'a', '2024-01-01'), (1, 'b', '2024-06-29');
INSERT INTO "My App".child VALUES (1, 'c', '2024-01-01'), (1, 'd', '2024-06-29'), (1, 'e', '2024-06-22');
RESET ROLE;
SELECT challenge_jobs.bind('notifications', '"My App".parent') \g /dev/null
SELECT is(t.clean(dry_run => true), '3 0', 'inheritance: a dry run counts');
SELECT is(t.clean(), '3 0', 'inheritance: of parent and child, also with a generated expires_at');
SELECT is((SELECT string_agg(title, ' ' ORDER BY title) FROM "My App".parent), 'b d', 'inheritance: rows of the parent that have not expired are kept');

/* a foreign table has no addresses of ours */
CREATE EXTENSION postgres_fdw;
CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'nowhere');
CREATE FOREIGN TABLE "My App".far () INHERITS ("My App".parent) SERVER here;
ALTER FOREIGN TABLE "My App".far OWNER TO cj_app;
INSERT INTO "My App".parent VALUES (1, 'x', '2024-01-01');
SELECT t.clean() \g /dev/null
SELECT is(t.ways(), 'by_heap 2, by_statement 1', 'a foreign table is left to a statement');
SELECT is((t.last_run()).rows_affected || ' ' || (t.last_run()).status, '1 failed', 'which fails by itself');
DROP FOREIGN TABLE "My App".far;

/* ---- the extension's own history ---- */
CREATE FUNCTION t.history(VARIADIC triples text[] DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    DELETE FROM challenge_jobs.job_run;
    INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid)
    SELECT triples[i], triples[i + 1], now(), triples[i + 2]::timestamptz - interval '1 hour',
           CASE WHEN triples[i + 1] <> 'running' THEN triples[i + 2]::timestamptz END, triples[i + 1], 'x', 1
      FROM generate_series(1, cardinality(triples), 3) i
$$;
CREATE FUNCTION t.history_left() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s', triggered_by, to_char(finished_at, 'YYMMDD')), ', ' ORDER BY run_id)
      FROM challenge_jobs.job_run WHERE triggered_by <> 'function' AND status <> 'running'
$$;
SELECT t.history('a', 'succeeded', '2024-04-01 11:59+00', 'a', 'succeeded', '2024-04-01 12:00+00', 'a', 'skipped', '2024-01-01', 'a', 'failed', '2024-01-01',
                 'b', 'failed', '2023-06-30 11:59+00', 'b', 'failed', '2023-06-30 12:00+00', 'b', 'cancelled', '2023-01-01', 'b', 'crashed', '2023-01-01',
                 'c', 'rolled_back', '2023-01-01', 'c', 'running', '2020-01-01', 'c', 'succeeded', '2024-06-30') \g /dev/null
DELETE FROM challenge_jobs.unsettled_run;
INSERT INTO challenge_jobs.unsettled_run SELECT run_id FROM challenge_jobs.job_run;
SELECT is(t.clean(dry_run => true), '0 5', 'history: a dry run counts');
SELECT is(t.clean(), '0 5', 'runs that went well go after 90 days, others after a year');
SELECT is(t.history_left(), 'succeeded 240401, failed 240101, failed 230630, crashed 230101, succeeded 240630', 'the others stay, and of each job the last success and the last failure');
SELECT is((SELECT count(*) FROM challenge_jobs.unsettled_run u WHERE NOT EXISTS (SELECT FROM challenge_jobs.job_run r WHERE r.run_id = u.run_id)), 0::bigint,
          'what goes is not waited for any more');
SELECT is((SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'running'), 1::bigint, 'one that is running stays, however old it is');
SELECT t.clean_set('{"max_runs_per_job": 2, "batch_size": 1}'),
       t.history('a', 'succeeded', '2024-06-01', 'a', 'succeeded', '2024-06-02', 'a', 'skipped', '2024-06-03', 'a', 'failed', '2024-06-01',
                 'a', 'failed', '2024-06-04', 'a', 'crashed', '2024-06-05', 'b', 'succeeded', '2024-06-01', 'a', 'running', '2024-06-05',
                 'c', 'failed', '2024-06-01', 'c', 'failed', '2024-06-01', 'c', 'failed', '2024-06-01', 'c', 'failed', '2024-06-01') \g /dev/null
SELECT is(t.clean(dry_run => true), '0 3', 'by number: a dry run counts');
SELECT is(t.clean(), '0 3', 'of each job the newest stay, of those that went well and of those that did not; what was skipped does not count among them');
SELECT is(t.history_left(), 'succeeded 240601, succeeded 240602, skipped 240603, failed 240604, crashed 240605, succeeded 240601, failed 240601, failed 240601', 'also of runs at one time');
SELECT challenge_jobs.reset_job('cleanup_expired_notifications') \g /dev/null
SELECT t.clean_set('{"max_runs_per_job": 0, "run_retention": "0", "batch_size": 1}'), t.clean() \g /dev/null
SELECT is(t.history_left(), 'succeeded 240602, failed 240604, crashed 240605, succeeded 240601, failed 240601, failed 240601', 'with a retention of 0 only failures and the last success are kept');
SELECT t.history(VARIADIC array_agg(x)) FROM generate_series(1, 500) i, unnest(ARRAY['j' || i % 3, 'succeeded', ('2024-01-01'::timestamptz + i / 9 * interval '1 hour')::text]) x
\g /dev/null
SELECT t.clean_set('{"run_retention": "90 days", "max_runs_per_job": 50, "batch_size": 13}') \g /dev/null
SELECT is(t.clean('2024-02-01') || ' ' || t.clean('2024-02-01'), '0 350 0 0', 'more than one page of them');

/* the ledger of reminders */
INSERT INTO challenge_jobs.reminder (user_key, local_date, reminded_at)
SELECT u::text, '2024-06-15'::date + d, '2024-06-15 08:00+00'::timestamptz + d * interval '1 day' FROM generate_series(1, 5) u, generate_series(0, 15) d;
INSERT INTO challenge_jobs.reminder (user_key, local_date, reminded_at) VALUES ('late', '2024-06-01', '2024-06-29'), ('ahead', '2024-06-28', '2024-06-01');
INSERT INTO challenge_jobs.reminder_zone (time_zone, local_date, state_hash, examined_at) SELECT 'UTC', '2024-06-15'::date + d, 0, now() FROM generate_series(0, 15) d;
SELECT t.clean_set('{"batch_size": 7}'), t.history() \g /dev/null
SELECT is(t.clean(dry_run => true), '0 0', 'reminders are not counted');
SELECT is((SELECT count(*) FROM challenge_jobs.reminder), 82::bigint, 'a dry run leaves them');
SELECT t.clean() \g /dev/null
SELECT is((SELECT string_agg(DISTINCT local_date::text, ' ' ORDER BY local_date::text) FROM challenge_jobs.reminder WHERE user_key NOT IN ('late', 'ahead')),
          '2024-06-23 2024-06-24 2024-06-25 2024-06-26 2024-06-27 2024-06-28 2024-06-29 2024-06-30', 'reminders of dates that are more than a week past go');
SELECT is((SELECT string_agg(user_key, ' ' ORDER BY user_key) FROM challenge_jobs.reminder WHERE user_key IN ('late', 'ahead')), 'ahead late', 'but not those that were written lately, or for a date to come');
SELECT is((SELECT min(local_date) FROM challenge_jobs.reminder_zone), '2024-06-23'::date, 'and so do the notes of zones');

/* pg_cron's records, where there is no pg_cron */
SELECT t.clean_set('{"prune_cron_history": true}') \g /dev/null
SELECT is(t.error('SELECT t.clean()'), 'no error', 'without pg_cron there is nothing to prune, and no error');
SELECT is((SELECT status || ': ' || finding FROM challenge_jobs.doctor() WHERE check_name = 'prune_cron_history'),
          'warning: extension "pg_cron" is not installed in this database', 'the doctor says so');
SELECT * FROM finish();
ROLLBACK;
