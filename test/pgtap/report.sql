/*
 * report_html(): a page that is whole, small and harmless whatever is in the log.
 */
BEGIN;
\ir app.psql
SELECT no_plan();
SET TIME ZONE 'UTC';
SET LOCAL IntervalStyle = 'postgres';

/* Adds a run that began so many minutes ago and took so many seconds. */
CREATE FUNCTION t.ran(minutes numeric, status text, seconds numeric DEFAULT 1, job text DEFAULT 'auto_complete_challenges', triggered_by text DEFAULT 'external',
                      dry_run boolean DEFAULT false, message text DEFAULT NULL, detail text DEFAULT NULL, hint text DEFAULT NULL, context text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO challenge_jobs.job_run (job, status, triggered_by, dry_run, as_of, started_at, finished_at, rows_affected, message, detail, hint, context, role_name, pid)
    SELECT job, status, triggered_by, dry_run, m, m, CASE WHEN status <> 'running' THEN m + seconds * interval '1 s' END, 7, message, detail, hint, context,
           'nobody', pg_backend_pid()
      FROM (SELECT clock_timestamp() - minutes * interval '1 min') AS moment(m)
$$;
CREATE FUNCTION t.forget() RETURNS void LANGUAGE sql AS 'DELETE FROM challenge_jobs.job_run';

/* The page as XML: an error unless it is well-formed. */
CREATE FUNCTION t.page(since interval DEFAULT '7 days') RETURNS xml LANGUAGE sql AS
    'SELECT xmlparse(DOCUMENT challenge_jobs.report_html(since))';
/* What an XPath expression finds in a page, in one line; x: stands before the names of elements. */
CREATE FUNCTION t.find(path text, page xml DEFAULT t.page()) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(f::text, ' ') FROM unnest(xpath(path, page, '{{x,http://www.w3.org/1999/xhtml},{s,http://www.w3.org/2000/svg}}')) f
$$;
/* A number of the table of runs. */
CREATE FUNCTION t.number(job text, status text, page xml DEFAULT t.page()) RETURNS text LANGUAGE sql AS $$
    SELECT t.find(format('//x:table[@class="numbers"]//x:tr[x:th="%s"]/x:td[@data-label="%s"]/text()', job, status), page)
$$;
/* The titles of the marks of a status in the timeline, without moments. */
CREATE FUNCTION t.marks(class text, page xml DEFAULT t.page()) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(t.find(format('//s:svg[contains(@class, "timeline")]/s:g[@class="%s"]/s:title/text()', class), page), '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', '@', 'g')
$$;

/* ---- nothing has happened yet ---- */
SELECT t.forget() \g /dev/null
SELECT lives_ok('SELECT t.page()', 'well-formed with an empty log');
SELECT is(t.find('/x:html/x:body/x:header/x:h1/text()'), 'No job has run yet', 'the heading says that no job has run yet');
SELECT is(t.find('count(/x:html[@lang="en"]/x:body/x:main/x:section[@aria-labelledby=x:h2/@id])'), '7', 'each of the seven sections is labelled by its heading');
SELECT is(t.find('//x:article/x:div/x:h3/text()'), (SELECT string_agg(job, ' ') FROM challenge_jobs.job_default()), 'all jobs, in their order');
SELECT is(t.find('//x:section[@aria-labelledby="failures"]/x:p/text()') || t.find('//x:section[@aria-labelledby="alerts"]/x:p/text()'),
          'Nothing in this period.None.', 'nothing went wrong, no alert waits');
SELECT is(t.find('//x:table[@class="upcoming"]//x:td/text()'), repeat('not scheduled ', 3) || 'not scheduled', 'the table of upcoming runs says of every job that it is not scheduled');
SELECT is(t.find('//x:meta[@http-equiv]/@content'), 'default-src ''none''; style-src ''unsafe-inline''; base-uri ''none''; form-action ''none''', 'it forbids everything but its style');
SELECT is(t.find('count(//@src | //@href[not(starts-with(., "#"))] | //x:script | //x:link | //x:img | //x:iframe | //x:a)'), '0', 'and refers to nothing');
SELECT is(t.find('//@href[not(substring(., 2) = //@id)]'), NULL, 'what it refers to of itself is there');
SELECT is(t.find('//@aria-labelledby[contains(., " ") and not(substring-before(., " ") = //@id)] | //@aria-labelledby[not(contains(., " ")) and not(. = //@id)]'), NULL,
          'so are all labels');
SELECT is(t.find('count(//s:svg[not(@aria-hidden)]) - count(//s:svg[@role="img"]/s:title[@id]/../s:desc[@id])'), '0', 'every drawing has a title and a description');
SELECT lives_ok('SELECT t.page(''1 minute''), t.page(''100 years''), t.page(''1 month''), t.page(''400 days'')', 'well-formed for any period');

/* ---- what is asked for ---- */
SELECT throws_ok('SELECT challenge_jobs.report_html(NULL)', '22004', 'since must not be null', 'a period that is null is refused');
SELECT throws_ok(format('SELECT challenge_jobs.report_html(%L)', since), '22023', 'since must be from 1 minute to 100 years', since)
  FROM unnest('{0,-1 day,59 seconds,101 years,178000000 years,-178000000 years,2147483647 days,-2147483648 days,2500000000 hours,-1 month 1 day}'::text[]) since;
SELECT throws_ok('SELECT challenge_jobs.report_html(''infinity'')', '22023', NULL, 'an infinite one') WHERE current_setting('server_version_num')::int >= 170000;
CREATE FUNCTION t.hint(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE sql;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN substr(hint, length('Run: ') + 1);
END
$$;
SELECT lives_ok(t.hint(format('SELECT challenge_jobs.report_html(%L)', since)), 'the hint can be typed in') FROM unnest('{0,NULL}'::text[]) since;

/* ---- each status ---- */
SELECT t.ran(30 + n, status) FROM unnest('{succeeded,failed,crashed,cancelled,skipped,rolled_back}'::text[]) WITH ORDINALITY s(status, n) \g /dev/null
SELECT t.ran(1, 'running'), t.ran(5000, 'succeeded', 90), t.ran(20, 'succeeded', dry_run => true), t.ran(60 * 24 * 8, 'failed') \g /dev/null
CREATE TEMPORARY TABLE p AS SELECT t.page() AS page;
SELECT is(t.number('auto_complete_challenges', label, page), n, label)
  FROM p, (VALUES ('succeeded', '2'), ('failed', '1'), ('crashed', '1'), ('cancelled', '1'), ('skipped', '1'), ('rolled back', '1'), ('running', '1'), ('in all', '8')) w(label, n);
SELECT is(t.number('refresh_challenge_stats', 'in all', page), '0', 'another job') FROM p;
SELECT is(t.marks('c-succeeded', page), '1 succeeded, @ UTC, 1 min 30 s, 7 rows 1 succeeded, @ UTC, 1 s, 7 rows', 'marks of what succeeded') FROM p;
SELECT is(t.marks('c-crashed', page), E'1 crashed, @ UTC, 1 s\n1 failed, @ UTC, 1 s\n1 cancelled, @ UTC, 1 s', 'one mark for what went wrong in a slice; the worst is its shape') FROM p;
SELECT is(t.marks('c-running', page), E'1 running, @ UTC\n1 rolled back, @ UTC, 1 s\n1 skipped, @ UTC, 1 s', 'and one for what is running or did nothing') FROM p;
SELECT is(t.find('//s:svg[contains(@class, "timeline")]/s:text[@class="number"]/text()', page), '8 runs 0 runs 0 runs 0 runs', 'each lane has the number of its runs') FROM p;
SELECT is(t.find('//x:section[@aria-labelledby="failures"]//x:li/x:div/x:span[contains(@class, "badge")]/text()', page), 'failed crashed cancelled', 'failures, the last one first') FROM p;
SELECT is(t.find('//x:ul[@class="figures"]/x:li/x:span[@class="figure"]/text()', page), '8 40 % 3 ' || (SELECT count(*) FROM challenge_jobs.alert WHERE next_attempt_at IS NOT NULL),
          'the figures at the top: a share of those that ended by themselves') FROM p;
SELECT is(t.find('//x:article[1]/x:div/x:span/text()', page), 'failing', 'the state of the job') FROM p;
SELECT is(t.find('/x:html/x:body/x:header/x:h1/text()', page), '1 of 4 jobs needs attention', 'and in the headline') FROM p;
SELECT is(t.find('count(//s:svg[contains(@class, "durations")])', page), '1', 'durations of the only job that succeeded') FROM p;
SELECT is(t.find('//s:svg[contains(@class, "durations")]/s:text[@class="value"]/text()', page), '2 min 1 min', 'their axis has units') FROM p;
SELECT is(t.find('//s:svg[contains(@class, "durations")]/s:desc/text()', page) LIKE '2 runs that succeeded from % UTC, the longest took 1 min 30 s.', true, 'and words') FROM p;
SELECT is(t.number('auto_complete_challenges', 'failed', t.page('9 days')), '2', 'a longer period counts the failures in it as well');
SELECT is(t.number('auto_complete_challenges', 'in all', t.page('10 minutes')), '1', 'a shorter period leaves out the runs before it');
DROP TABLE p;

/* a share is not rounded up to all of them, nor a clock that was set back taken for a long run */
SELECT t.forget() \g /dev/null
SELECT t.ran(100, 'succeeded'), t.ran(10, 'succeeded', -5) FROM generate_series(1, 1500) \g /dev/null
SELECT t.ran(1, 'failed', message => 'once') \g /dev/null
SELECT is(t.find('//x:ul[@class="figures"]/x:li[2]/x:span[1]/text()'), '99.9 %', 'one of three thousand failed');
SELECT is(t.find('//s:svg[contains(@class, "durations")]/s:text[@class="value"]/text()'), '1 s 500 ms', 'a duration below nothing does not spoil the axis of the chart');

SELECT t.forget(), t.ran(10, 'succeeded', -5) \g /dev/null
SELECT is(t.find('//s:svg[contains(@class, "durations")]/s:text[@class="value"]/text()'), '1 ms 0.5 ms', 'the chart has an axis also where the only duration is below nothing');

/* ---- UTC, whatever the session says ---- */
SET TIME ZONE 'Pacific/Chatham';
SELECT ok(t.find('//x:p[@class="period"]/x:time[2]/text()')::timestamp BETWEEN moment - interval '1 min' AND clock_timestamp() AT TIME ZONE 'UTC', 'moments are notified in UTC')
  FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC') m(moment);
SET TIME ZONE 'UTC';

/* ---- what is to come ---- */
SELECT challenge_jobs.schedule('auto_complete_challenges', 'external'), challenge_jobs.schedule('cleanup_expired_notifications', 'external'),
       challenge_jobs.schedule('send_streak_reminders', 'external') \g /dev/null
SELECT challenge_jobs.alter_job('send_streak_reminders', enabled => false) \g /dev/null
UPDATE challenge_jobs.job_override SET schedule = '0 0 30 2 *' WHERE job = 'cleanup_expired_notifications';
SELECT is(t.find('//x:table[@class="upcoming"]//x:tr[x:th="auto_complete_challenges"]/x:td/x:time/text()'),
          (SELECT string_agg(to_char(scheduled_for AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), ' ') FROM challenge_jobs.next_runs('auto_complete_challenges', 3)), 'the page has the next scheduled times of the job');
SELECT is(t.find('//x:table[@class="upcoming"]//x:td/text()'), 'not scheduled disabled its schedule has none', 'and why there are none');
UPDATE challenge_jobs.job_override SET schedule = 'nonsense' WHERE job = 'cleanup_expired_notifications';
SELECT is(t.find('//x:table[@class="upcoming"]//x:tr[x:th="cleanup_expired_notifications"]/x:td/text()'), 'its schedule has none', 'a schedule that cannot be read is no error');
SELECT is(t.find('//x:section[@aria-labelledby="doctor"]//x:div[x:span="schedule:cleanup_expired_notifications" or x:span="job:cleanup_expired_notifications"]/x:span[1]/text()'), 'error',
          'but something for the doctor');
SELECT challenge_jobs.reset_job('cleanup_expired_notifications') \g /dev/null

/* ---- texts are texts ---- */
SELECT t.forget() \g /dev/null
CREATE FUNCTION t.hostile() RETURNS text LANGUAGE sql AS
    $$SELECT E'<script>alert(1)</script> & "><svg onload=alert(1)> '' </title></style> &amp; ]]> \u00fc \u65e5 \U0001F600'$$;
SELECT t.ran(1, 'failed', triggered_by => t.hostile(), message => t.hostile(), detail => t.hostile(), hint => t.hostile(), context => t.hostile()) \g /dev/null
SELECT t.ran(2, 'crashed', message => E'a\u0001b\u007fc\u0085d\u202ee\u2066f\ufffeg\rh\ni\tj') \g /dev/null
INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload, next_attempt_at, attempts, last_error)
SELECT t.hostile(), 'failed', 4711, now(), jsonb_build_object('message', t.hostile()), now(), 2, t.hostile();
CREATE TEMPORARY TABLE p AS SELECT t.page() AS page, challenge_jobs.report_html() AS html;
CREATE FUNCTION t.unescaped(text) RETURNS text LANGUAGE sql AS
    $$SELECT replace(replace(replace($1, '&lt;', '<'), '&gt;', '>'), '&amp;', '&')$$;
SELECT is(t.unescaped(t.find(path, page)), t.hostile(), path)
  FROM p, unnest(ARRAY['//x:section[@aria-labelledby="failures"]//x:li[1]/x:p[@class="message"]/text()', '//x:section[@aria-labelledby="failures"]//x:li[1]/x:p[@class="more"][1]/text()',
                       '//x:section[@aria-labelledby="failures"]//x:li[1]/x:div/x:span/x:bdi[1]/text()', '//x:li[1]//x:pre[../x:summary="Context"]/text()',
                       '//x:section[@aria-labelledby="alerts"]//x:li[1]/x:p[@class="message"]/text()', '//x:section[@aria-labelledby="alerts"]//x:li[1]/x:div/x:span[@class="name"]/text()']) path;
SELECT is(t.find('//x:section[@aria-labelledby="failures"]//x:li[2]/x:p/text()', page),
          E'a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg&#x0d;h\ni\tj', 'what HTML does not allow, or turns the text round, is replaced') FROM p;
SELECT is(octet_length(html), length(html), 'the page is ASCII') FROM p;
SELECT unalike(html, pattern, 'no ' || pattern) FROM p, unnest('{%<script%,%<svg onload%,%</title></style>%}'::text[]) pattern;
DROP TABLE p;

/* long ones are cut by characters */
SELECT t.forget(), t.ran(1, 'failed', message => repeat(E'\u00fc', 600)), t.ran(2, 'failed', message => repeat(E'\u00fc', 100000)) \g /dev/null
SELECT is(t.find('//x:section[@aria-labelledby="failures"]//x:p[@class="message"]/text()'), repeat(E'\u00fc', 600) || ' ' || repeat(E'\u00fc', 600) || E'\u2026', 'a long text is cut, and that is seen');

/* ---- alerts ---- */
INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload, next_attempt_at)
SELECT 'auto_complete_challenges', CASE WHEN n <= 30 THEN 'failed' ELSE 'recovered' END, 5000 + n, now(), '{}', CASE WHEN n <= 30 THEN now() END FROM generate_series(1, 31) n;
SELECT is(t.find('count(//x:section[@aria-labelledby="alerts"]//x:li[not(@class)])'), '20', 'the last 20 alerts that wait');
SELECT is(t.find('count(//x:section[@aria-labelledby="alerts"]//x:li[.//x:span="recovered"])'), '0', 'and none that does not wait');
SELECT is(t.find('//x:section[@aria-labelledby="alerts"]//x:li[@class="rest"]/text()'),
          (SELECT count(*) - 20 FROM challenge_jobs.alert WHERE next_attempt_at IS NOT NULL) || ' more, in ', 'and how many more');
INSERT INTO challenge_jobs.alert (job, kind, episode, raised_at, payload, next_attempt_at)
SELECT 'auto_complete_challenges', 'crashed', 9000 + n, now(), '{}', now() FROM generate_series(1, 1200) n;
SELECT is(t.find('//x:ul[@class="figures"]/x:li[4]/x:span[1]/text()'), 'over 1,000', 'which are not counted for ever');
DELETE FROM challenge_jobs.alert WHERE episode > 4000;

/* ---- a long log ---- */
SELECT t.forget() \g /dev/null
INSERT INTO challenge_jobs.job_run (job, status, triggered_by, as_of, started_at, finished_at, rows_affected, message, detail, hint, context, role_name, pid)
SELECT 'send_streak_reminders', (ARRAY['succeeded', 'failed', 'crashed', 'cancelled', 'skipped', 'rolled_back', 'succeeded'])[1 + n % 7], 'worker', m, m, m + n % 100 * interval '10 ms', n,
       repeat(E'\u00fc', 700), repeat('<', 700), repeat('&', 700), repeat('"', 700), 'nobody', 1
  FROM generate_series(1, 50100) n, LATERAL (SELECT now() - n * interval '12 s') moment(m);
ANALYZE challenge_jobs.job_run;
SET LOCAL statement_timeout = '20s';
CREATE TEMPORARY TABLE p AS SELECT t.page() AS page, length(challenge_jobs.report_html()) AS length;
RESET statement_timeout;
SELECT cmp_ok(length, '<', 1000000, 'the page stays small') FROM p;
SELECT is(t.find('count(//s:svg[contains(@class, "timeline")]/s:g[starts-with(@class, "c-")])', page)::int <= 3 * 96, true, 'marks') FROM p;
SELECT is(t.number('send_streak_reminders', 'in all', page), '50,000', 'so many runs of a job are looked at') FROM p;
SELECT is(t.find('//x:section[@aria-labelledby="runs"]/x:p[2]/text()', page), 'Of send_streak_reminders the newest 50,000 runs are looked at and no more: those since  .', 'which it says') FROM p;
SELECT is(t.find('count(//x:section[@aria-labelledby="failures"]//x:li[not(@class)])', page), '25', 'failures') FROM p;
SELECT is(t.find('//x:section[@aria-labelledby="failures"]//x:li[@class="rest"]/text()', page),
          (SELECT to_char(count(*) - 25, 'FM99,999') FROM (SELECT status FROM challenge_jobs.job_run ORDER BY started_at DESC LIMIT 50000) r WHERE status IN ('failed', 'crashed', 'cancelled')) || ' more, in ',
          'and how many more') FROM p;
DROP TABLE p;
SELECT t.forget() \g /dev/null

/* ---- rights ---- */
CREATE ROLE cj_reader;
GRANT USAGE ON SCHEMA challenge_jobs TO cj_reader;
SET LOCAL ROLE cj_reader;
SELECT is(t.error('SELECT challenge_jobs.report_html()'), '42501: permission denied for function report_html', 'a role without EXECUTE may not make the report');
RESET ROLE;
GRANT EXECUTE ON FUNCTION challenge_jobs.report_html(interval) TO cj_reader;
SET LOCAL ROLE cj_reader;
SELECT is(t.error('SELECT count(*) FROM challenge_jobs.job_run'), '42501: permission denied for table job_run', 'a role that may read nothing');
SELECT is(t.find('//x:section[@aria-labelledby="doctor"]/x:p/text()'), 'Whoever made this report may not ask: that takes EXECUTE on  .', 'sees the report with EXECUTE, but for the doctor');
SELECT is(t.find('//x:section[@aria-labelledby="doctor"]//x:li'), NULL, 'of whom nothing is notified');
RESET ROLE;
GRANT EXECUTE ON FUNCTION challenge_jobs.doctor() TO cj_reader;
SET LOCAL ROLE cj_reader;
SELECT is(t.find('count(//x:section[@aria-labelledby="doctor"]//x:li)')::int, (SELECT count(*)::int FROM challenge_jobs.doctor() WHERE status <> 'ok'), 'who says what is not ok to those who may ask');
SELECT is(t.find('count(//x:section[@aria-labelledby="doctor"]//x:p[@class="more"])')::int, (SELECT count(*)::int FROM challenge_jobs.doctor() WHERE status <> 'ok' AND advice IS NOT NULL),
          'with the advice where no statement mends it');
RESET ROLE;
SELECT set_eq('SELECT provolatile, prosecdef, proisstrict FROM pg_proc WHERE oid = ''challenge_jobs.report_html''::regproc', $$VALUES ('v'::"char", false, false)$$, 'it looks at the clock, and switches identity by itself');

SELECT * FROM finish();
ROLLBACK;
