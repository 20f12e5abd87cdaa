/*
 * Notifications with figures: {average}, {threshold} and {my_rate}, compared with what plain SQL says.
 */
BEGIN;
\ir app.psql
SELECT plan(8);

CREATE FUNCTION t.titles(challenge_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(title, ' ' ORDER BY user_id) FROM app.notifications WHERE data->>'challenge_id' = titles.challenge_id
$$;

SELECT t.add('{my_rate}', 79.998, 80, 79.996), t.add('none'), t.add('half', 100, NULL), t.add('many', 90.129, 33.333) \g /dev/null
INSERT INTO app.challenge_members VALUES (2, 1), (4, 9);
INSERT INTO app.challenge_member_stats VALUES (4, 1, 70);
SELECT t.set('{"completed_title": "{average}|{threshold}|{my_rate}", "completed_body": "{challenge_name}", "failed_title": "{average}|{threshold}|{my_rate}", "failed_body": "{challenge_name} {my_rate}"}') \g /dev/null
SELECT is(t.run(dry_run => true), '1 3 9', 'a dry run needs no rates');
SELECT is(t.run(), '1 3 9', 'texts with figures');
SELECT bag_eq($$SELECT (data->>'challenge_id')::integer, user_id, title FROM app.notifications$$,
              $$SELECT m.challenge_id, m.user_id,
                       concat_ws('|', COALESCE((SELECT trim_scale(trunc(avg(s.completion_rate), 2)) FROM app.challenge_member_stats s WHERE s.challenge_id = m.challenge_id)::text, '-'), 80,
                                 COALESCE((SELECT trim_scale(trunc(avg(s.completion_rate), 2)) FROM app.challenge_member_stats s
                                            WHERE s.challenge_id = m.challenge_id AND s.user_id = m.user_id)::text, '-'))
                  FROM app.challenge_members m$$, 'average, threshold and own rate, cut to two digits; a dash where there is none');
SELECT bag_eq($$SELECT body FROM app.notifications WHERE (data->>'challenge_id')::integer = 1$$,
              $$SELECT '{my_rate} ' || x FROM unnest(ARRAY['79.99', '80', '79.99']) x$$, 'the name of a challenge is not looked through for placeholders');

/* by a view that shows active challenges alone, and NULL as zero */
DELETE FROM app.notifications;
ALTER TABLE app.challenge_member_stats RENAME TO rates;
SET ROLE cj_app;
CREATE MATERIALIZED VIEW app.challenge_member_stats AS
SELECT r.* FROM app.rates r JOIN app.challenges c ON c.id = r.challenge_id WHERE c.status = 'active';
RESET ROLE;
UPDATE app.challenges SET status = 'active';
REFRESH MATERIALIZED VIEW app.challenge_member_stats;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.challenge_member_stats') \g /dev/null
SELECT t.set('{"count_nulls_as_zero": true, "batch_size": 1}') \g /dev/null
SELECT is(t.run(), '0 4 9', 'with NULL as zero');
SELECT is(t.titles('3'), '50|80|100 50|80|0', 'own rates are read before the challenges are decided');

/* statistics without users */
UPDATE app.challenges SET status = 'active';
DELETE FROM app.notifications;
CREATE TABLE app.plain AS SELECT challenge_id, completion_rate FROM app.rates;
ALTER TABLE app.plain OWNER TO cj_app;
SELECT challenge_jobs.bind('challenge_member_stats', 'app.plain') \g /dev/null
SELECT t.run() \g /dev/null
SELECT is(t.titles('3'), '50|80|- 50|80|-', 'without user_id in the statistics nobody has a rate');
SELECT is(t.error($$SELECT t.set('{"failed_title": "{your_rate}"}')$$), '22023: invalid value for setting "failed_title" of job "auto_complete_challenges"', 'there are no others');

SELECT * FROM finish();
ROLLBACK;
