/*
 * The configuration of jobs: the view "job", alter_job(), reset_job().
 */
SET client_min_messages = warning;
SET intervalstyle = postgres;
CREATE EXTENSION challenge_jobs;
\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try
CREATE VIEW in_force AS SELECT job, enabled, schedule, engine, max_runtime, max_retries, retry_delay, catch_up, grace FROM challenge_jobs.job ORDER BY job;
CREATE VIEW stored AS SELECT job, enabled, schedule, max_runtime, max_retries, retry_delay, catch_up, grace, settings FROM challenge_jobs.job_override;

\a \x
SELECT job, description, enabled, schedule, engine, scheduled_at, max_runtime, max_retries, retry_delay, catch_up, grace, jsonb_pretty(settings) AS settings
  FROM challenge_jobs.job;
\a \x
TABLE stored;

/* ---- changing ---- */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '5 0 * * *', max_runtime => '30 minutes', settings => '{"completion_threshold": 75, "notify": false}');
TABLE in_force;
TABLE stored;
/* what is not given stays, settings are merged, null goes back to the default */
SELECT challenge_jobs.alter_job('auto_complete_challenges', enabled => false, max_retries => 0, catch_up => 'skip', grace => '0', retry_delay => '1 day',
                                settings => '{"notify": null, "completed_title": "{challenge_name} is over"}');
TABLE in_force;
TABLE stored;
/* what equals the default is not stored, however it is written */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '0 0 * * *', enabled => true, max_runtime => '3600 s', max_retries => 3,
                                retry_delay => '60 seconds', catch_up => 'once', grace => '00:15', settings => '{"completion_threshold": 80.0, "completed_title": null}');
TABLE stored;
SELECT challenge_jobs.alter_job('auto_complete_challenges');
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{}');
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify": null}');
TABLE stored;
/* reset_job takes the configuration back, not the schedule's engine */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '@hourly', settings => '{"batch_size": 1}');
SELECT job, engine, schedule FROM challenge_jobs.schedule('auto_complete_challenges', 'external');
SELECT challenge_jobs.reset_job('auto_complete_challenges');
TABLE in_force;
TABLE stored;
SELECT * FROM challenge_jobs.unschedule();
TABLE stored;
SELECT challenge_jobs.reset_job('auto_complete_challenges');

/* ---- what is refused ---- */
\a \x
SELECT * FROM try($$SELECT challenge_jobs.alter_job('auto_complete')$$);
SELECT * FROM try($$SELECT challenge_jobs.alter_job(NULL)$$);
SELECT * FROM try($$SELECT challenge_jobs.reset_job('')$$);
SELECT * FROM try($$SELECT challenge_jobs.reset_job(NULL)$$);
SELECT argument, t.*
  FROM unnest(ARRAY['schedule => ''''', 'schedule => ''0 0 * *''', 'schedule => ''0 0 * * * *''', 'schedule => ''60 0 * * *''', 'schedule => ''0 24 * * *''',
                    'schedule => ''0 0 0 * *''', 'schedule => ''0 0 * 13 *''', 'schedule => ''0 0 * * 8''', 'schedule => ''5/10 0 * * *''', 'schedule => ''*/0 * * * *''',
                    'schedule => ''5-1 * * * *''', 'schedule => ''30 seconds''', 'schedule => ''@reboot''', 'schedule => ''every day''', 'schedule => ''0,, 0 * * *''',
                    'max_runtime => ''-1 s''', 'max_runtime => ''1 month''', 'max_runtime => ''25 days''', 'grace => ''1 year''', 'retry_delay => ''-00:00:01''',
                    'max_retries => -1', 'max_retries => 101', 'catch_up => ''never''', 'catch_up => ''''']) argument,
       try(format($$SELECT challenge_jobs.alter_job('auto_complete_challenges', %s)$$, argument)) t;
SELECT settings, t.*
  FROM unnest(ARRAY['[]', '1', 'null', '{"threshold": 75}', '{"completion_threshold": "75"}', '{"completion_threshold": -1}', '{"completion_threshold": 1e400}',
                    '{"completion_source": "cached"}', '{"completion_source": true}', '{"day_time_zone": "Mars/Olympus"}', '{"day_time_zone": ""}', '{"day_time_zone": 1}',
                    '{"notify": "yes"}', '{"completed_title": ["x"]}', '{"completed_body": "{name} is over"}', '{"failed_title": {"a": {"b": 1}}}',
                    '{"batch_size": 0}', '{"batch_size": 1.5}', '{"batch_size": 100001}', '{"batch_size": "10"}', '{"notify": true, "x": {"notify": 1}}']) settings,
       try(format($$SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => %L)$$, settings)) t;
\a \x
TABLE stored;

/* what is accepted */
SELECT schedule, challenge_jobs.alter_job('auto_complete_challenges', schedule => schedule)
  FROM unnest(ARRAY['*/15 * * * *', '0 0 1 jan sun', '0 0 * * 7', ' 1,2-5,10-20/2	*/3 1-31 JAN-dec mon-FRI ', '@daily', '@MIDNIGHT']) schedule;
SELECT settings, challenge_jobs.alter_job('auto_complete_challenges', settings => settings)
  FROM unnest(ARRAY['{"completion_threshold": 0}', '{"completion_threshold": 99.5}', '{"day_time_zone": "europe/berlin"}', '{"day_time_zone": "<+03>-3"}',
                    '{"completed_body": "{} { {challenge_id} {X} \\\\ \""}', '{"failed_title": ""}', '{"batch_size": 1e3}']::jsonb[]) settings;
SELECT challenge_jobs.alter_job('auto_complete_challenges', max_runtime => '24 days', grace => '0', max_retries => 100);

/* ---- written by hand, or by another version ---- */
SELECT challenge_jobs.reset_job('auto_complete_challenges');
INSERT INTO challenge_jobs.job_override (job, settings) VALUES ('auto_complete_challenges', '{"old_setting": 1}');
\a \x
SELECT * FROM try('SELECT * FROM public.auto_complete_challenges()');
DELETE FROM challenge_jobs.job_override;
INSERT INTO challenge_jobs.job_override (job, settings) VALUES ('auto_complete_challenges', '{"batch_size": null}');
SELECT * FROM try('SELECT * FROM public.auto_complete_challenges()');
DELETE FROM challenge_jobs.job_override;
INSERT INTO challenge_jobs.job_override (job, schedule) VALUES ('auto_complete_challenges', 'now and then');
SELECT * FROM try('SELECT * FROM public.auto_complete_challenges()');
\a \x
SELECT challenge_jobs.reset_job('auto_complete_challenges');
SELECT count(*) FROM challenge_jobs.job_override;
INSERT INTO challenge_jobs.job_override (job, enabled) VALUES ('job_of_another_version', true);
SELECT job FROM challenge_jobs.job ORDER BY job;

DROP VIEW in_force, stored;
DROP EXTENSION challenge_jobs;
DROP FUNCTION try(text);
