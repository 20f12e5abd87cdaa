#!/bin/sh
#
# Runs the jobs of challenge_jobs, one after another: those named, or all. A job that fails keeps none of the
# others from running; the exit status is 0 if none failed. A job that is disabled, or is running elsewhere, is
# skipped, which is no failure.
#
#     DATABASE_URL=postgresql://… [TRIGGERED_BY=name] sh run-jobs.sh [JOB]...
#
# TRIGGERED_BY stands in challenge_jobs.job_run, beside each run. A password in DATABASE_URL can be read in the list
# of processes: where others use the machine, let it stand in PGPASSWORD or ~/.pgpass instead. Nobody is asked for it.
set -u

: "${DATABASE_URL:?has to be set, as in postgresql://user@host/database}"
export PGCONNECT_TIMEOUT="${PGCONNECT_TIMEOUT-10}"

if [ $# -eq 0 ]; then
	set -- auto_complete_challenges refresh_challenge_stats send_streak_reminders cleanup_expired_notifications
fi

status=0
for job in "$@"; do
	if psql -X -q -w -v ON_ERROR_STOP=1 -v job="$job" -v by="${TRIGGERED_BY:-cron}" "$DATABASE_URL" <<-'SQL'; then
		CALL challenge_jobs.run(:'job', :'by');
	SQL
		echo "$job: ok"
	else
		echo "$job: failed"
		status=1
	fi
done
exit "$status"
