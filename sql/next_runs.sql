/*
 * When a job is to run: next_runs(). How slots are found, and what a schedule may be, is the matter of
 * test/t/010_cron_expression.pl and 011_pg_cron_schedules.pl.
 */
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION challenge_jobs;
\getenv srcdir PG_ABS_SRCDIR
\set try :srcdir '/test/fixtures/try.sql'
\i :try

/* the default schedule: the next five midnights, in UTC whatever the session's zone is */
SET timezone = 'Asia/Kathmandu';
SELECT scheduled_for AT TIME ZONE 'UTC' - date_trunc('day', statement_timestamp() AT TIME ZONE 'UTC') AS scheduled_for
  FROM challenge_jobs.next_runs('auto_complete_challenges');
SET timezone = 'UTC';

/* as many as asked for, each later than the one before and all later than now */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '*/5 */3 * * *');
SELECT count(*), count(DISTINCT scheduled_for), bool_and(scheduled_for > before) AS in_order, min(scheduled_for) > statement_timestamp() AS after_now,
       bool_and(extract(minute FROM scheduled_for) % 5 = 0 AND extract(hour FROM scheduled_for) % 3 = 0 AND extract(second FROM scheduled_for) = 0) AS match,
       max(scheduled_for) - min(scheduled_for) BETWEEN '10 days' AND '11 days' AS none_left_out
  FROM (SELECT scheduled_for, lag(scheduled_for, 1, now()) OVER () AS before FROM challenge_jobs.next_runs('auto_complete_challenges', 1000)) s;
SELECT count(*) FROM challenge_jobs.next_runs(n => 1, job => 'auto_complete_challenges');
SELECT count(s) FROM (SELECT challenge_jobs.next_runs('auto_complete_challenges', 3) AS s) t;

/* the schedule that is in force, whether or not anything fires it */
BEGIN;
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '@yearly', enabled => false);
SELECT scheduled_for - date_trunc('year', statement_timestamp()) BETWEEN '365 days' AND '366 days' AS next_new_year
  FROM challenge_jobs.next_runs('auto_complete_challenges', 1);
ROLLBACK;
BEGIN;
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '59 23 $ * *');
SELECT scheduled_for + '1 minute' = date_trunc('month', scheduled_for) + '1 month' AS end_of_month
  FROM challenge_jobs.next_runs('auto_complete_challenges', 12);
ROLLBACK;
SELECT count(*) FROM challenge_jobs.next_runs('auto_complete_challenges', 7);

/* leap days: a hundred, over more than four centuries */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '0 12 29 2 *');
SELECT count(*), bool_and(to_char(scheduled_for, 'MM-DD HH24:MI') = '02-29 12:00') AS leap_days
  FROM challenge_jobs.next_runs('auto_complete_challenges', 100);

/* a day that does not exist is accepted, as by pg_cron, with a warning */
SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '0 0 30 2 *');
SELECT * FROM challenge_jobs.next_runs('auto_complete_challenges');
SELECT challenge_jobs.reset_job('auto_complete_challenges');

/* ---- what is refused ---- */
\a \x
SELECT * FROM try($$SELECT * FROM challenge_jobs.next_runs(NULL)$$);
SELECT * FROM try($$SELECT * FROM challenge_jobs.next_runs('auto_complete')$$);
SELECT n, t.*
  FROM unnest(ARRAY['NULL', '0', '-1', '1001', '-2147483648']) n,
       try(format($$SELECT * FROM challenge_jobs.next_runs('auto_complete_challenges', %s)$$, n)) t;
INSERT INTO challenge_jobs.job_override (job, schedule) VALUES ('auto_complete_challenges', 'now and then');
SELECT * FROM try($$SELECT * FROM challenge_jobs.next_runs('auto_complete_challenges')$$);
DELETE FROM challenge_jobs.job_override;
SELECT schedule, t.*
  FROM unnest(ARRAY['30 seconds', '1 second', '@reboot', '@Restart', '@fortnightly', '@daily 5', '@dailyx', '0 0 $,15 * *', '0 $ * * *', '0 0 * * $', '0 0 $',
                    '*/60 * * * *', '0 22-2 * * *', '0 0 * * fri-sun', '*5 * * * *', '0 0 * * mon#2', '0 0 L * *', '5.5 * * * *', E'0 0 * * *\n',
                    '4294967301 0 * * *']) schedule,
       try(format($$SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => %L)$$, schedule)) t;
\a \x
DROP EXTENSION challenge_jobs;
DROP FUNCTION try(text);
