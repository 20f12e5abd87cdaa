#!/usr/bin/env bash
#
# challenge_jobs from nothing, on a Debian machine: builds it, starts a throwaway server with an app
# of 20,000 members, and lets challenges be decided: in a dry run, by hand, and by pg_cron.
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
	cj_start_server "$DATABASE"
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
		SELECT count(*) AS n FROM notifications;
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
	cj_heading "A run by hand: also what was missed weeks ago is caught up"
	show <<<"CALL challenge_jobs.run('auto_complete_challenges');"
	show_last_runs
	say 'Again: there is nothing left to do, and nobody is told twice.'
	show <<<"CALL challenge_jobs.run('auto_complete_challenges');"
	show_last_runs
}

show_last_runs() {
	show <<-'SQL'
		SELECT run_id, triggered_by, dry_run, status, rows_affected, result, duration
		  FROM challenge_jobs.job_run
		 ORDER BY run_id;
	SQL
}

# Makes more challenges end, and has pg_cron fire every minute so that nobody has to wait for midnight.
run_by_pg_cron() {
	cj_heading "A run fired by pg_cron: more challenges end, and the schedule is set to every minute"
	show <<-'SQL'
		UPDATE challenges
		   SET end_date = (now() AT TIME ZONE 'UTC')::date - 1
		 WHERE status = 'active'
		   AND start_date < (now() AT TIME ZONE 'UTC')::date - 14;
	SQL
	say 'That has changed the completion rates, and the stored statistics do not know it yet. No matter:' \
		'verdicts come from the definition of the view.'
	show <<-'SQL'
		SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '* * * * *');
		SELECT jobname, schedule, command
		  FROM cron.job;
	SQL
	say "It is $(date -u +%T) UTC; waiting for pg_cron's next minute ..."
	cj_wait_until 150 "SELECT EXISTS (SELECT
	                                    FROM challenge_jobs.job_run
	                                   WHERE triggered_by = 'pg_cron'
	                                     AND status = 'succeeded'
	                                     AND rows_affected > 0)
	                      AND EXISTS (SELECT
	                                    FROM cron.job_run_details
	                                   WHERE status = 'succeeded')" ||
		fail 'pg_cron has fired no run that did anything'
	say "$(date -u +%T) UTC: it has run. Back to the ordinary schedule:"
	show <<-'SQL'
		SELECT challenge_jobs.reset_job('auto_complete_challenges');
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
		SELECT n.title, n.body, n.data ->> 'status' AS status, p.display_name AS told
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
	cj_psql -q -v dry_run="$DRY_RUN" <<-'SQL'
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
		SELECT 'which the stored statistics would have got wrong for some',
		       EXISTS (SELECT
		                 FROM demo.decided d
		                 LEFT JOIN (SELECT challenge_id, avg(completion_rate) AS average
		                              FROM challenge_member_stats
		                             GROUP BY challenge_id) a ON a.challenge_id = d.id
		                WHERE d.status::text <> CASE WHEN a.average >= 80 THEN 'completed'
		                                             ELSE 'failed' END)
		UNION ALL
		SELECT 'both verdicts have occurred',
		       (SELECT count(DISTINCT status) = 2 FROM demo.decided)
		UNION ALL
		SELECT 'every member of a decided challenge was told exactly once, and nobody else',
		       NOT EXISTS (SELECT
		                     FROM (SELECT m.user_id, d.id AS challenge_id, d.status::text
		                             FROM demo.decided d
		                             JOIN challenge_members m ON m.challenge_id = d.id) due
		                     FULL JOIN (SELECT user_id,
		                                       (data ->> 'challenge_id')::uuid AS challenge_id,
		                                       data ->> 'status' AS status,
		                                       count(*) AS times
		                                  FROM notifications
		                                 WHERE type = 'challenge_completed'
		                                 GROUP BY 1, 2, 3) told USING (user_id, challenge_id, status)
		                    WHERE due.user_id IS NULL
		                       OR told.times IS DISTINCT FROM 1)
		UNION ALL
		SELECT 'no other notification came or went',
		       (SELECT count(*) FROM notifications WHERE type <> 'challenge_completed')
		       = (SELECT n FROM demo.told_before)
		UNION ALL
		SELECT 'the dry run foretold what the run by hand did',
		       (SELECT result
		          FROM challenge_jobs.job_run
		         WHERE triggered_by = 'manual'
		         ORDER BY run_id
		         LIMIT 1) = (:'dry_run')::jsonb
		UNION ALL
		SELECT 'the run after it did nothing',
		       (SELECT rows_affected = 0
		          FROM challenge_jobs.job_run
		         WHERE triggered_by = 'manual'
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
run_by_pg_cron
show_changes
check_claims
if [ "$KEEP" = 1 ]; then say_how_to_go_on; fi
cj_heading "The demo has worked"
