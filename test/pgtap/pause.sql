/*
 * pause() and resume(): one switch for all jobs, whoever calls them; and what a database does that is a copy.
 */
BEGIN;
\ir app.psql
SELECT no_plan();

CREATE FUNCTION t.held() RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(DISTINCT coalesce(held, 'no'), ' ') FROM challenge_jobs.job $$;
CREATE FUNCTION t.states() RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(DISTINCT state, ' ' ORDER BY state) FROM challenge_jobs.job_status $$;
CREATE FUNCTION t.installation() RETURNS text LANGUAGE sql AS
    $$ SELECT status || ': ' || regexp_replace(finding, 'since .* by [^:]+', 'since T by R') || coalesce(' -> ' || remedy, '')
         FROM challenge_jobs.doctor() WHERE check_name = 'installation' $$;

SELECT t.add('a', 90) \g /dev/null
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
SELECT challenge_jobs.schedule('refresh_challenge_stats', 'external') \g /dev/null
SELECT challenge_jobs.alter_job('refresh_challenge_stats', catch_up => 'skip') \g /dev/null
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '3 days';

/* ---- pause ---- */
SELECT is(t.held(), 'no', 'jobs are not held back at first');
SELECT is(t.installation(), 'ok: the jobs are not held back', 'the doctor says so');
SELECT is((SELECT overdue FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), true, 'a job is overdue');
SELECT is((SELECT count(*) FROM challenge_jobs.pause('moving house')), 0::bigint, 'pause() returns no run where none is at work');
SELECT is(t.held(), 'paused', 'all jobs are paused');
SELECT is(t.states(), 'paused', 'job_status shows every job as paused');
SELECT is(t.installation(), 'warning: all jobs are paused since T by R: moving house -> SELECT * FROM challenge_jobs.resume();',
    'the doctor says so, with the reason and the remedy');
SELECT is(t.error('SELECT public.auto_complete_challenges()'), '55000: job "auto_complete_challenges" is held back: all jobs are paused',
    'a job function raises an error');
SELECT is(t.error('SELECT public.refresh_challenge_stats()'), '55000: job "refresh_challenge_stats" is held back: all jobs are paused',
    'while all jobs are paused each job function is refused');
SELECT is(t.run(dry_run => true), '1 0 1', 'a dry run works');
SELECT is((SELECT string_agg(DISTINCT reason, ', ') FROM challenge_jobs.watchdog() WHERE overdue OR action IS NOT NULL OR next_scheduled IS NOT NULL), NULL,
    'nothing is overdue, and nothing is to be started');
SELECT is((SELECT reason FROM challenge_jobs.watchdog() WHERE job = 'auto_complete_challenges'), 'all jobs are paused', 'and the reason is notified');
SELECT challenge_jobs.pause() \g /dev/null
SELECT is((SELECT reason FROM challenge_jobs.pause), 'moving house', 'pausing again without a reason keeps the first');
SELECT challenge_jobs.pause('still moving') \g /dev/null
SELECT is((SELECT string_agg(reason, ', ') FROM challenge_jobs.pause), 'still moving', 'with another reason replaces it');
SELECT is((SELECT sum(value) FROM challenge_jobs.metrics WHERE name = 'challenge_jobs_paused'), 4::double precision, 'a metric says it');
SELECT ok(position('All jobs are paused' in challenge_jobs.report_html()) > 0, 'the report says so');

/* ---- resume ---- */
SELECT is((SELECT string_agg(job || ' ' || engine, ', ' ORDER BY job) FROM challenge_jobs.resume()),
    'auto_complete_challenges external, refresh_challenge_stats external', 'resume() returns what is scheduled');
SELECT is(t.held(), 'no', 'jobs are not held back any more');
SELECT is((SELECT string_agg(job || ' ' || overdue || ' ' || coalesce(action, 'nothing') || coalesce(': ' || reason, ''), ', ' ORDER BY job)
             FROM challenge_jobs.watchdog() WHERE job IN ('auto_complete_challenges', 'refresh_challenge_stats')),
    'auto_complete_challenges false catch_up: a scheduled time was missed during a pause, refresh_challenge_stats false nothing',
    'what was missed is not overdue; it is caught up once, or forgotten where catch_up is skip');
SELECT is(t.run(), '1 0 1', 'the job function works again');
SELECT is((SELECT count(*) FROM challenge_jobs.resume()), 2::bigint, 'resume() where nothing is held back changes nothing');

/* ---- a copy by dump: another id ---- */
UPDATE challenge_jobs.installation SET installation_id = gen_random_uuid();
SELECT is(t.held(), 'restored', 'with schedules of another installation all jobs are held back');
SELECT is(t.states(), 'restored', 'job_status shows every job of a restored database as held back');
SELECT is(t.installation(), 'error: this database is a copy: 2 jobs were scheduled in the original, and nothing runs by itself -> SELECT * FROM challenge_jobs.resume();',
    'the doctor says so, with the remedy');
SELECT matches(t.error('SELECT public.auto_complete_challenges()'), '^55000: .*this database is a copy', 'job functions raise an error');
SELECT matches(t.error('SELECT public.cleanup_expired_notifications()'), '^55000: .*this database is a copy', 'also of a job that was not scheduled');
SELECT is(t.run(dry_run => true), '0 0 0', 'a dry run works');
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external') \g /dev/null
SELECT is((SELECT string_agg(job || ' ' || coalesce(held, 'no'), ', ' ORDER BY job) FROM challenge_jobs.job),
    'auto_complete_challenges no, cleanup_expired_notifications restored, refresh_challenge_stats restored, send_streak_reminders restored',
    'schedule() adopts one job');
SELECT is((SELECT scheduled_at > now() - interval '1 day' FROM challenge_jobs.job WHERE job = 'auto_complete_challenges'), true, 'schedule() adopts a job from now on: times before do not count');
SELECT challenge_jobs.pause('and paused') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT held, ' ' ORDER BY held) FROM challenge_jobs.job), 'paused restored', 'a copy can be paused');
SELECT is((SELECT count(*) FROM challenge_jobs.resume()), 2::bigint, 'resume() ends both the pause and the hold on a copy');
SELECT is(t.held(), 'no', 'nothing is held back any more');
SELECT is((SELECT bool_and(scheduled_at > now() - interval '1 day') FROM challenge_jobs.job WHERE engine IS NOT NULL), true,
    'scheduled times from before do not count');

/* ---- a copy by template: another OID ---- */
UPDATE challenge_jobs.installation SET database_id = 1;
SELECT is(t.held(), 'restored', 'in a database with another OID all jobs are held back');
SELECT challenge_jobs.schedule('refresh_challenge_stats', 'external') \g /dev/null
SELECT is((SELECT string_agg(job || ' ' || coalesce(held, 'no'), ', ' ORDER BY job) FROM challenge_jobs.job WHERE engine IS NOT NULL),
    'auto_complete_challenges restored, refresh_challenge_stats no', 'schedule() adopts one job there, too');
SELECT challenge_jobs.resume() \g /dev/null
SELECT is(t.held(), 'no', 'resume() adopts the others');
SELECT challenge_jobs.unschedule() \g /dev/null
UPDATE challenge_jobs.installation SET database_id = 1;
SELECT is(t.held(), 'restored', 'also where nothing was scheduled');
SELECT is((SELECT count(*) FROM challenge_jobs.resume()), 0::bigint, 'resume() works on a copy in which nothing was scheduled');
SELECT is(t.held(), 'no', 'and nothing is held back');

/* ---- who may ---- */
CREATE ROLE cj_caller;
GRANT USAGE ON SCHEMA challenge_jobs TO cj_caller;
SET ROLE cj_caller;
SELECT is(t.error('SELECT challenge_jobs.pause()'), '42501: permission denied for function pause', 'nobody but the owner may pause');
SELECT is(t.error('SELECT challenge_jobs.resume()'), '42501: permission denied for function resume', 'a role without the privilege may not call resume()');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
