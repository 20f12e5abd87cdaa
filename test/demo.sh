#!/usr/bin/env bash
#
# challenge_jobs from nothing, on a Debian machine: builds it, starts a throwaway server with an app
# of 20,000 members, and lets the four jobs do their work: in a dry run, by hand, and by pg_cron.
#
#     bash test/demo.sh [--keep]
#
# --keep leaves the server up to look around in, and prints how to get in and how to stop it.
# Ends with status 0 if everything that the extension promises here was seen to hold.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly DATABASE=demo
KEEP=0

# Reads the only option.
read_arguments() {
	while [ $# -gt 0 ]; do
		case $1 in
		--keep) KEEP=1 ;;
		*) cj_die "usage: $0 [--keep]" ;;
		esac
		shift
	done
}

# Prints text between the steps.
say() { printf '%s\n' "$@"; }

# Shows a statement as one would type it, and what it gives.
show() {
	local statement
	statement=$(cat)
	printf '\n%s\n\n' "$statement" | sed 's/^./    &/'
	cj_psql -P footer=off -P null='-' -P pager=off -c "$statement"
}

# Runs SQL of the demo's own and prints the bare result.
ask() { cj_psql -Atqc "$1"; }

# Stops the demo with the reason and what the server said last.
fail() {
	cj_note "$1"
	tail -n 30 "$CJ_SERVER_LOG" >&2
	if [ "$KEEP" = 1 ]; then say_how_to_go_on >&2; fi
	cj_die "the demo did not work"
}

# ---- steps ---------------------------------------------------------------------------------

prepare_machine() {
	cj_heading "Installing what is missing, building, starting a throwaway server"
	cj_install_packages build server
	cj_build_and_install
	cj_start_server "$DATABASE" "challenge_jobs.databases=$DATABASE" challenge_jobs.worker_naptime=1s \
		"challenge_jobs.alert_command=cat >> $CJ_TMP/alerts"
	CJ_KEEP=$KEEP
	say "$(ask "SELECT format('PostgreSQL %s with %s', current_setting('server_version'),
	                           current_setting('shared_preload_libraries'))")" \
		"Socket in $CJ_SOCKET, database \"$DATABASE\"; no TCP port."
}

make_app() {
	cj_heading "The app: tables, foreign keys, row security, a trigger, statistics as a materialized view"
	cj_psql -q -f "$CJ_ROOT/test/fixtures/demo_app.sql"
	show <<-'SQL'
		SELECT (SELECT count(*) FROM user_profiles) AS users,
		       (SELECT count(*) FROM challenges) AS challenges,
		       (SELECT count(*) FROM challenge_members) AS members,
		       (SELECT count(*) FROM check_ins) AS check_ins,
		       (SELECT count(*) FROM notifications) AS notifications;
	SQL
	say 'Some challenges ended yesterday, others weeks ago and were never decided:'
	show <<-'SQL'
		SELECT status,
		       count(*) AS challenges,
		       count(*) FILTER (WHERE end_date < (now() AT TIME ZONE 'UTC')::date) AS ended,
		       min(end_date) AS first_end,
		       max(end_date) AS last_end
		  FROM challenges
		 GROUP BY status
		 ORDER BY status;
	SQL
	# What the claims at the end are held against.
	cj_psql -q <<-'SQL'
		CREATE SCHEMA demo;
		CREATE TABLE demo.before AS
		SELECT id, status FROM challenges;
		CREATE TABLE demo.told_before AS
		SELECT id, type, created_at, expires_at FROM notifications;
	SQL
}

create_extension() {
	cj_heading "The extension, and its doctor"
	show <<<'CREATE EXTENSION pg_cron;'
	show <<<'CREATE EXTENSION challenge_jobs;'
	show <<<'SELECT * FROM challenge_jobs.doctor();'
	if [ "$(ask "SELECT count(*) FROM challenge_jobs.doctor() WHERE status = 'error'")" != 0 ]; then
		fail 'the doctor has found an error'
	fi
}

schedule_jobs() {
	cj_heading "Scheduling: nothing runs by itself until asked"
	show <<<'SELECT * FROM challenge_jobs.schedule();'
	show <<-'SQL'
		SELECT jobname, schedule, command, active
		  FROM cron.job;
	SQL
	say 'By hand, as pg_cron is used everywhere, it is safe as well, also beside the other one:'
	show <<-'SQL'
		SELECT cron.schedule('by hand', '0 0 * * *',
		                     $$CALL challenge_jobs.run('auto_complete_challenges')$$);
	SQL
	show <<<"SELECT cron.unschedule('by hand');"
}

run_dry() {
	cj_heading "A dry run: what would be done now?"
	show <<<'SELECT * FROM auto_complete_challenges(dry_run => true);'
	DRY_RUN=$(ask "SELECT result::jsonb FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1")
	say 'Nothing has changed:'
	show <<-'SQL'
		SELECT count(*) AS changed
		  FROM demo.before b
		  JOIN challenges c USING (id)
		 WHERE c.status <> b.status;
	SQL
}

run_by_hand() {
	cj_heading "A run by hand: also what was missed weeks ago is decided, without telling anybody of old news"
	show <<<"CALL challenge_jobs.run('auto_complete_challenges');"
	show_last_runs
	say 'Again: there is nothing left to do, and nobody is notified twice.'
	show <<<"CALL challenge_jobs.run('auto_complete_challenges');"
	show_last_runs
}

show_last_runs() {
	show <<-'SQL'
		SELECT run_id, job, triggered_by, dry_run AS dry, status, rows_affected AS rows, result, duration
		  FROM challenge_jobs.job_run
		 ORDER BY run_id;
	SQL
}

refresh_statistics() {
	cj_heading "The statistics: what the app reads is an hour old at most"
	show <<<'SELECT * FROM refresh_challenge_stats();'
	say 'Again: readers go on while the differences are looked for, and there are none.'
	show <<<'SELECT * FROM refresh_challenge_stats();'
}

# Makes one check-in, and refreshes the statistics.
check_in_and_refresh() {
	show <<-'SQL'
		WITH checked_in AS (
		    INSERT INTO check_ins (challenge_id, user_id, checkin_date)
		    SELECT m.challenge_id, m.user_id, current_date + 1
		      FROM challenge_members m
		      JOIN challenges c ON c.id = m.challenge_id AND c.status = 'active'
		     WHERE m.status = 'active'
		     ORDER BY m.challenge_id, m.user_id
		     LIMIT 1
		        ON CONFLICT (challenge_id, user_id, checkin_date)
		        DO UPDATE SET checkin_date = excluded.checkin_date + 1
		    RETURNING 1)
		SELECT count(*) AS checked_in FROM checked_in;
		SELECT * FROM refresh_challenge_stats();
	SQL
}

track_statistics() {
	cj_heading "One check-in: what a refresh costs, and what it costs when the view is tracked"
	check_in_and_refresh
	say 'Tracked by the challenge, only the rows of that challenge are computed:'
	show <<<"SELECT source, column_name, key_path, via_table FROM challenge_jobs.track('challenge_member_stats');"
	say 'The first refresh computes the whole view, the next ones do not:'
	show <<<'SELECT * FROM refresh_challenge_stats();'
	check_in_and_refresh
	if [ "$(ask "SELECT result #>> '{views,0,method}' FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1")" != incremental ]; then
		fail 'the tracked view was not refreshed incrementally'
	fi
}

# Lets it be 8 o'clock in Tokyo: as of then, as a run just after the last 8 o'clock there would have been.
remind_users() {
	cj_heading "Reminders at 8 in the morning of each user's own time zone"
	MORNING=$(ask "SELECT max(t)
	                 FROM (SELECT (date_trunc('day', now() AT TIME ZONE 'Asia/Tokyo') + d + '8:05')
	                              AT TIME ZONE 'Asia/Tokyo'
	                         FROM unnest('{0 days,-1 day}'::interval[]) d) morning(t)
	                WHERE t <= now()")
	say 'Where is it morning at five past eight in Tokyo?'
	show <<-SQL
		SELECT * FROM send_streak_reminders('$MORNING', dry_run => true);
	SQL
	show <<-SQL
		SELECT * FROM send_streak_reminders('$MORNING');
	SQL
	say 'A quarter of an hour later nobody is notified again:'
	show <<-SQL
		SELECT * FROM send_streak_reminders('$MORNING'::timestamptz + '15 minutes');
	SQL
	show <<-SQL
		SELECT p.timezone, timestamptz '$MORNING' AT TIME ZONE p.timezone AS local_time,
		       count(*) AS reminded, min(n.body) AS for_example
		  FROM notifications n
		  JOIN user_profiles p ON p.id = n.user_id
		  LEFT JOIN demo.told_before b ON b.id = n.id
		 WHERE n.type = 'streak_reminder'
		   AND b.id IS NULL
		 GROUP BY 1, 2
		 ORDER BY 1;
	SQL
}

clean_up() {
	cj_heading "Old notifications"
	show <<-'SQL'
		SELECT count(*) AS notifications,
		       count(*) FILTER (WHERE created_at < now() - interval '30 days') AS old,
		       count(*) FILTER (WHERE expires_at < now()) AS expired
		  FROM notifications;
	SQL
	show <<<"CALL challenge_jobs.run('cleanup_expired_notifications');"
	show <<<'SELECT count(*) AS notifications, min(created_at) AS oldest FROM notifications;'
}

# Makes more challenges end, and has pg_cron fire every minute so that nobody has to wait for midnight.
run_by_pg_cron() {
	cj_heading "Runs fired by pg_cron: more challenges end, and the schedules are set to every minute"
	show <<-'SQL'
		UPDATE challenges
		   SET end_date = (now() AT TIME ZONE 'UTC')::date - 1
		 WHERE status = 'active'
		   AND start_date < (now() AT TIME ZONE 'UTC')::date - 14;
	SQL
	cj_psql -q <<-'SQL'
		CREATE TABLE demo.stale_average AS
		SELECT challenge_id, avg(completion_rate) AS average
		  FROM challenge_member_stats
		 GROUP BY challenge_id;
	SQL
	say 'That has changed the completion rates, and the stored statistics do not know it yet. No matter:' \
		'outcomes come from the definition of the view.'
	show <<-'SQL'
		SELECT job, challenge_jobs.alter_job(job, schedule => '* * * * *')
		  FROM challenge_jobs.job;
		SELECT jobname, schedule, command
		  FROM cron.job;
	SQL
	say "It is $(date -u +%T) UTC; waiting for pg_cron's next minute ..."
	cj_wait_until 150 "SELECT EXISTS (SELECT
	                                    FROM challenge_jobs.job_run
	                                   WHERE triggered_by = 'pg_cron'
	                                     AND job = 'auto_complete_challenges'
	                                     AND status = 'succeeded'
	                                     AND rows_affected > 0)
	                      AND (SELECT count(DISTINCT job)
	                             FROM challenge_jobs.job_run
	                            WHERE triggered_by = 'pg_cron'
	                              AND status = 'succeeded')
	                          = (SELECT count(*) FROM challenge_jobs.job)
	                      AND (SELECT count(DISTINCT jobid)
	                             FROM cron.job_run_details
	                            WHERE status = 'succeeded')
	                          = (SELECT count(*) FROM challenge_jobs.job)" ||
		fail 'pg_cron has not run all jobs'
	say "$(date -u +%T) UTC: they have run. Back to the ordinary schedules:"
	show <<-'SQL'
		SELECT job, challenge_jobs.reset_job(job)
		  FROM challenge_jobs.job;
		SELECT jobname, schedule, command
		  FROM cron.job;
	SQL
}

show_changes() {
	cj_heading "What has changed"
	show <<-'SQL'
		SELECT b.status AS was, c.status AS is, count(*) AS challenges
		  FROM demo.before b
		  JOIN challenges c USING (id)
		 GROUP BY b.status, c.status
		 ORDER BY b.status, c.status;
	SQL
	show <<-'SQL'
		SELECT n.title, n.body, n.data ->> 'status' AS status, p.display_name AS notified
		  FROM notifications n
		  JOIN user_profiles p ON p.id = n.user_id
		 WHERE n.type = 'challenge_completed'
		 ORDER BY n.created_at DESC, n.body, p.display_name
		 LIMIT 5;
	SQL
	say 'The runs, as the extension records them and as pg_cron does:'
	show_last_runs
	show <<-'SQL'
		SELECT j.jobname, d.status, d.return_message, d.start_time, d.end_time
		  FROM cron.job_run_details d
		  LEFT JOIN cron.job j USING (jobid)
		 ORDER BY d.runid;
	SQL
}

# Looks at every promise in the tables themselves, not in what the extension says it has done.
check_claims() {
	cj_heading "Does it hold?"
	cj_psql -q -v dry_run="$DRY_RUN" -v morning="$MORNING" <<-'SQL'
		SELECT rtrim(pg_get_viewdef('challenge_member_stats'::regclass), ';') AS live_stats \gset

		CREATE TABLE demo.decided AS
		SELECT c.*
		  FROM demo.before b
		  JOIN challenges c USING (id)
		 WHERE b.status = 'active'
		   AND c.status <> 'active';

		CREATE TABLE demo.claim AS
		SELECT 'challenges have been decided' AS claim,
		       EXISTS (SELECT FROM demo.decided) AS holds
		UNION ALL
		SELECT 'no challenge that has ended is still active',
		       NOT EXISTS (SELECT
		                     FROM challenges
		                    WHERE status = 'active'
		                      AND end_date < (SELECT max(as_of AT TIME ZONE 'UTC')::date
		                                        FROM challenge_jobs.job_run))
		UNION ALL
		SELECT 'no challenge that has not ended was touched, nor one decided before',
		       NOT EXISTS (SELECT
		                     FROM demo.before b
		                     JOIN challenges c USING (id)
		                    WHERE c.status <> b.status
		                      AND (b.status <> 'active'
		                           OR c.end_date >= (now() AT TIME ZONE 'UTC')::date))
		UNION ALL
		SELECT 'completed where the members'' average is at least 80, else failed',
		       NOT EXISTS (SELECT
		                     FROM demo.decided d
		                     LEFT JOIN (SELECT challenge_id, avg(completion_rate) AS average
		                                  FROM (:live_stats) s
		                                 GROUP BY challenge_id) a ON a.challenge_id = d.id
		                    WHERE d.status::text <> CASE WHEN a.average >= 80 THEN 'completed'
		                                                 ELSE 'failed' END)
		UNION ALL
		SELECT 'which the statistics of an hour before would have got wrong for some',
		       EXISTS (SELECT
		                 FROM demo.decided d
		                 LEFT JOIN demo.stale_average a ON a.challenge_id = d.id
		                WHERE d.status::text <> CASE WHEN a.average >= 80 THEN 'completed'
		                                             ELSE 'failed' END)
		UNION ALL
		SELECT 'both outcomes have occurred',
		       (SELECT count(DISTINCT status) = 2 FROM demo.decided)
		UNION ALL
		SELECT 'every member of what ended within a week was notified exactly once, and nobody else',
		       NOT EXISTS (SELECT
		                     FROM (SELECT m.user_id, d.id AS challenge_id, d.status::text
		                             FROM demo.decided d
		                             JOIN challenge_members m ON m.challenge_id = d.id
		                            WHERE d.end_date >= (now() AT TIME ZONE 'UTC')::date - 7) due
		                     FULL JOIN (SELECT user_id,
		                                       (data ->> 'challenge_id')::uuid AS challenge_id,
		                                       data ->> 'status' AS status,
		                                       count(*) AS times
		                                  FROM notifications
		                                 WHERE type = 'challenge_completed'
		                                 GROUP BY 1, 2, 3) notified USING (user_id, challenge_id, status)
		                    WHERE due.user_id IS NULL
		                       OR notified.times IS DISTINCT FROM 1)
		UNION ALL
		SELECT 'the old notifications are gone, and no others',
		       NOT EXISTS (SELECT
		                     FROM demo.told_before b
		                     LEFT JOIN notifications n USING (id)
		                    WHERE (n.id IS NULL)
		                          <> (COALESCE(b.created_at < c.as_of - interval '30 days', false)
		                              OR COALESCE(b.expires_at < c.as_of, false)))
		  FROM (SELECT max(as_of) AS as_of
		          FROM challenge_jobs.job_run
		         WHERE job = 'cleanup_expired_notifications') c
		UNION ALL
		SELECT 'nobody was reminded twice on a date, or without a streak at stake',
		       NOT EXISTS (SELECT
		                     FROM notifications n
		                     LEFT JOIN demo.told_before b ON b.id = n.id
		                    WHERE n.type = 'streak_reminder'
		                      AND b.id IS NULL
		                    GROUP BY n.user_id, n.data ->> 'local_date'
		                   HAVING count(*) > 1
		                       OR min((n.data ->> 'streak')::integer) < 1)
		UNION ALL
		SELECT 'everybody whose streak was at stake when it was 8 in Tokyo was reminded',
		       NOT EXISTS (SELECT
		                     FROM user_profiles p
		                     JOIN challenge_members m ON m.user_id = p.id
		                     JOIN demo.before c ON c.id = m.challenge_id
		                    WHERE p.timezone = 'Asia/Tokyo'
		                      AND m.status = 'active'
		                      AND m.current_streak > 0
		                      AND (m.last_checkin_at AT TIME ZONE p.timezone)::date
		                          < (timestamptz :'morning' AT TIME ZONE p.timezone)::date
		                      AND GREATEST((m.last_checkin_at AT TIME ZONE p.timezone)::date,
		                                   (m.last_checkin_at AT TIME ZONE 'UTC')::date)
		                          >= (timestamptz :'morning' AT TIME ZONE p.timezone)::date - 1
		                      AND EXISTS (SELECT FROM challenges d
		                                   WHERE d.id = c.id AND d.status = 'active'
		                                     AND (timestamptz :'morning' AT TIME ZONE p.timezone)::date
		                                         BETWEEN d.start_date AND d.end_date)
		                      AND NOT EXISTS (SELECT
		                                        FROM challenge_jobs.reminder r
		                                       WHERE r.user_key = p.id::text
		                                         AND r.local_date
		                                             = (timestamptz :'morning' AT TIME ZONE p.timezone)::date))
		UNION ALL
		SELECT 'the stored statistics are what a full refresh would give',
		       NOT EXISTS ((SELECT * FROM challenge_member_stats EXCEPT ALL (:live_stats))
		                   UNION ALL
		                   ((:live_stats) EXCEPT ALL SELECT * FROM challenge_member_stats))
		UNION ALL
		SELECT 'the dry run foretold what the run by hand did',
		       (SELECT result - 'insert' -- how they were inserted
		          FROM challenge_jobs.job_run
		         WHERE triggered_by = 'manual'
		           AND job = 'auto_complete_challenges'
		         ORDER BY run_id
		         LIMIT 1) = (:'dry_run')::jsonb
		UNION ALL
		SELECT 'the run after it did nothing',
		       (SELECT rows_affected = 0
		          FROM challenge_jobs.job_run
		         WHERE triggered_by = 'manual'
		           AND job = 'auto_complete_challenges'
		         ORDER BY run_id
		        OFFSET 1
		         LIMIT 1)
		UNION ALL
		SELECT 'the app''s trigger ran as the owner of the app''s tables',
		       NOT EXISTS (SELECT FROM demo.decided WHERE closed_by IS DISTINCT FROM 'app_owner')
		UNION ALL
		SELECT 'every run has ended well',
		       NOT EXISTS (SELECT FROM challenge_jobs.job_run WHERE status <> 'succeeded')
		UNION ALL
		SELECT 'pg_cron says that its runs succeeded',
		       NOT EXISTS (SELECT FROM cron.job_run_details WHERE status = 'failed');
	SQL
	cj_psql -q -P footer=off -P pager=off \
		-c "SELECT claim, CASE WHEN holds THEN 'yes' ELSE 'NO' END AS holds FROM demo.claim"
	[ "$(ask 'SELECT bool_and(holds IS TRUE) FROM demo.claim')" = t ] || fail 'a claim does not hold'
}

# Waits until the command has been given an alert of a kind.
wait_for_alert() {
	cj_wait_until 60 "SELECT EXISTS (SELECT
	                                   FROM challenge_jobs.alert
	                                  WHERE kind = '$1'
	                                    AND delivered_at IS NOT NULL)" ||
		fail "no alert \"$1\" has been delivered"
}

show_status() {
	show <<-'SQL'
		SELECT job, state, last_status, next_due, consecutive_failures, last_message
		  FROM challenge_jobs.job_status;
	SQL
}

# Lets a trigger of the app fail: what a job function has failed with is recorded and reported, though it is rolled back.
fail_and_recover() {
	cj_heading "A failure: nothing is silent"
	cj_psql -q <<-'SQL'
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
		    RAISE EXCEPTION 'the outbox is full' USING HINT = 'Empty it.';
		END
		$$;
		CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION public.refuse();
		UPDATE challenges
		   SET end_date = (now() AT TIME ZONE 'UTC')::date - 1
		 WHERE id = (SELECT id FROM challenges
		              WHERE status = 'active' AND start_date < (now() AT TIME ZONE 'UTC')::date
		              LIMIT 1);
	SQL
	say 'A trigger of the app goes wrong, and the job function is called:'
	show <<<'SELECT * FROM auto_complete_challenges();' 2>&1 || true
	wait_for_alert failed
	say 'The transaction is gone, the record of it is not:'
	show <<-'SQL'
		SELECT run_id, triggered_by, status, sqlstate, message, hint
		  FROM challenge_jobs.job_run
		 ORDER BY run_id DESC
		 LIMIT 1;
	SQL
	show_status
	cj_psql -q -c 'DROP FUNCTION public.refuse() CASCADE' 2>/dev/null
	say 'The trigger is mended, and the job is run:'
	show <<<"CALL challenge_jobs.run('auto_complete_challenges');"
	wait_for_alert recovered
	show_status
	say 'What challenge_jobs.alert_command was given:' ''
	cut -c 1-300 "$CJ_TMP/alerts" | sed 's/^/    /'
	show <<-'SQL'
		SELECT *
		  FROM challenge_jobs.metrics
		 WHERE labels ->> 'job' = 'auto_complete_challenges'
		   AND value > 0;
	SQL
}

# Writes the page for people, to where it outlives the server.
write_report() {
	cj_heading "A report to look at"
	REPORT=$(umask 077 && mktemp "/tmp/challenge_jobs_report.XXXXXX.html")
	ask 'SELECT challenge_jobs.report_html()' >"$REPORT"
	grep -q '</html>' "$REPORT" || fail 'the report is not complete'
	say "How the jobs have done, for a browser: $REPORT"
}

# Says how to get into the server that stays, and how to get rid of it.
say_how_to_go_on() {
	local as_user=''
	if cj_is_root; then as_user="runuser -u $CJ_USER -- "; fi
	cj_heading "The server stays up"
	say "to look around   $CJ_BINDIR/psql -h $CJ_SOCKET -U $PGUSER $DATABASE" \
		"to stop it       $as_user$CJ_BINDIR/pg_ctl stop -D $CJ_DATA -m fast && rm -r $CJ_TMP"
}

read_arguments "$@"
cj_begin
prepare_machine
make_app
create_extension
schedule_jobs
run_dry
run_by_hand
refresh_statistics
track_statistics
remind_users
clean_up
run_by_pg_cron
show_changes
check_claims
fail_and_recover
write_report
if [ "$KEEP" = 1 ]; then say_how_to_go_on; fi
cj_heading "The demo has worked"
