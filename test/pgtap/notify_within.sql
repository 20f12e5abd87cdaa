/*
 * Of which challenges members are notified: those that ended within notify_within, and those that became due since the last run.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
SELECT t.set('{"notify_within": null}') \g /dev/null
CREATE FUNCTION t.figures(as_of timestamptz DEFAULT '2024-06-30 00:00+00', dry_run boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', completed, failed, notified, not_notified) FROM auto_complete_challenges(figures.as_of, figures.dry_run)
$$;
CREATE FUNCTION t.again() RETURNS void LANGUAGE sql AS $$
    DELETE FROM app.notifications; DELETE FROM challenge_jobs.job_run; UPDATE app.challenges SET status = 'active'
$$;

/* ---- by the type of the end, at its edge ---- */
CREATE FUNCTION t.is_notified(type text, value text, settings jsonb DEFAULT '{}', as_of timestamptz DEFAULT '2024-06-30 00:00+00') RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    dry     text;
    figures text;
BEGIN
    PERFORM t.again(), t.set('{"notify_within": null, "day_time_zone": null}'), t.set(settings);
    EXECUTE format('ALTER TABLE app.challenges ALTER end_date DROP DEFAULT, ALTER end_date TYPE %s USING %L', type, value);
    dry := t.figures(as_of, true);
    figures := t.figures(as_of);
    IF figures <> dry OR figures NOT IN ('0 1 1 0', '0 1 0 1') THEN
        RAISE EXCEPTION '% % %', settings, dry, figures;
    END IF;
    RETURN (SELECT count(*) = 1 FROM app.notifications);
END
$$;
INSERT INTO app.challenges (id) VALUES (1);
INSERT INTO app.challenge_members VALUES (1, 1);
SELECT is(t.is_notified(type, value, settings::jsonb), notified, format('end_date %s %s %s', type, value, settings))
  FROM (VALUES ('date', '2024-06-29', '{}', true), ('date', '2024-06-23', '{}', true), ('date', '2024-06-22', '{}', false), ('date', '2000-01-01', '{}', false),
               ('date', '-infinity', '{}', false), ('date', '-infinity', '{"notify_within": "unlimited"}', true), ('date', '2000-01-01', '{"notify_within": "unlimited"}', true),
               ('date', '2024-06-29', '{"notify_within": "0"}', false), ('date', '2024-06-28', '{"notify_within": "1 day"}', false),
               ('date', '2024-06-29', '{"notify_within": "1 day"}', true), ('date', '2024-05-31', '{"notify_within": "1 month"}', true), ('date', '2024-05-30', '{"notify_within": "1 month"}', false),
               /* as of the 30th in UTC it is the 29th in Los Angeles */
               ('date', '2024-06-22', '{"day_time_zone": "America/Los_Angeles"}', true), ('date', '2024-06-21', '{"day_time_zone": "America/Los_Angeles"}', false),
               ('timestamptz', '2024-06-23 00:00:00.000001+00', '{}', true), ('timestamptz', '2024-06-23 00:00+00', '{}', false),
               ('timestamp', '2024-06-23 00:00:00.000001', '{}', true), ('timestamp', '2024-06-23 00:00', '{}', false),
               ('timestamp', '2024-06-23 09:00', '{"day_time_zone": "Asia/Tokyo"}', false), ('timestamp', '2024-06-23 09:00:01', '{"day_time_zone": "Asia/Tokyo"}', true)) v(type, value, settings, notified);
SELECT throws_ok(format($$SELECT t.set('{"notify_within": "%s"}')$$, value), '22023', NULL, 'notify_within ' || value) FROM unnest('{-1 day,never,103 years}'::text[]) value;
SELECT is((SELECT status FROM app.challenges), 'failed', 'it is decided all the same');
ALTER TABLE app.challenges ALTER end_date TYPE date USING '2024-01-31', ALTER end_date SET DEFAULT '2024-01-31';

/* ---- what became due since the last run is not old, however long there was none ---- */
SELECT t.again(), t.set('{"notify_within": null, "day_time_zone": null}') \g /dev/null
DELETE FROM app.challenges;
INSERT INTO app.challenges (id, end_date) VALUES (1, '2024-01-31'), (2, '2024-02-29'), (3, '2024-03-31'), (4, '2024-06-29');
INSERT INTO app.challenge_members SELECT c, u FROM generate_series(1, 4) c, generate_series(1, 3) u ON CONFLICT DO NOTHING;
DELETE FROM app.challenge_members WHERE ctid = (SELECT min(ctid) FROM app.challenge_members);
SELECT is(t.figures('2024-02-02 00:00+00'), '0 1 3 0', 'the first run decides the challenge that has ended and notifies its members');
SELECT is(t.figures(dry_run => true), '0 3 9 0', 'the next one, months later: nobody was there to notify before');
SELECT is(t.figures(), '0 3 9 0', 'so all are notified');
INSERT INTO app.challenges (id, end_date) VALUES (5, '2024-03-31');
INSERT INTO app.challenge_members VALUES (5, 1);
SELECT is(t.figures('2024-07-01 00:00+00'), '0 1 0 1', 'what is added with an end of long ago was there to be seen by none');
SELECT t.again() \g /dev/null
UPDATE app.challenges SET status = 'completed' WHERE id > 1;
SELECT is(t.figures(), '0 1 0 1', 'without an earlier run what is old is old');
SELECT is((SELECT result ->> 'not_notified' FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1), '1', 'the run row says so');
SELECT is((SELECT rows_affected FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1), 1::bigint, 'and counts it as no row');
SELECT t.again(), t.set('{"notify": false}') \g /dev/null
SELECT is(t.figures(), '0 5 0 0', 'who wants no notifications misses none');

/* ---- the doctor says so before the first run ---- */
SELECT t.again(), t.set('{"notify": null}') \g /dev/null
DELETE FROM app.challenges;
INSERT INTO app.challenges (id, end_date) VALUES (1, (now() AT TIME ZONE 'UTC')::date - 31), (2, (now() AT TIME ZONE 'UTC')::date - 30);
CREATE FUNCTION t.old() RETURNS text LANGUAGE sql AS $$ SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'old:auto_complete_challenges' $$;
SELECT is(t.old(), '1 active challenges ended more than 30 days ago: the next run decides them, and notifies members only within notify_within', 'what is old is counted');
SELECT t.set('{"notify_within": "unlimited"}') \g /dev/null
SELECT alike(t.old(), '1 active challenges %, and notifies all their members', 'without a limit it says that all will hear of it');
SELECT lives_ok((SELECT remedy FROM challenge_jobs.doctor() WHERE check_name = 'old:auto_complete_challenges'), 'the remedy, a dry run, can be typed');
UPDATE app.challenges SET status = 'completed' WHERE id = 1;
SELECT is(t.old(), NULL, 'and once it is decided there is nothing to say');

SELECT * FROM finish();
ROLLBACK;
