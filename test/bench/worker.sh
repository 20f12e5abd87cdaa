#!/usr/bin/env bash
#
# What the background worker costs when nothing happens, what run() costs beside the bare job function, and
# whether memory stays flat over many runs.
#
#     bash test/bench/worker.sh [--quick]
#
# --quick is a smoke run: it shows that the benchmark works, its figures mean little.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly JOB=auto_complete_challenges
DATABASE=bench_worker

# Prints the CPU time in seconds that the postmaster's children have used which have ended, and the
# launcher. Workers that have ended are among the former.
cpu_of_workers() {
	local postmaster launcher ticks
	postmaster=$(head -n 1 "$CJ_DATA/postmaster.pid")
	launcher=$(cj_psql -Atqc "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'")
	ticks=$(getconf CLK_TCK)
	awk -v ticks="$ticks" '
		{ sub(/^.*\) /, "") }
		FILENAME ~ /^\/proc\/'"$postmaster"'\// { used += $14 + $15 }
		FILENAME ~ /^\/proc\/'"$launcher"'\// { used += $12 + $13 }
		END { printf "%.2f\n", used / ticks }' "/proc/$postmaster/stat" "/proc/$launcher/stat"
}

# Prints how many transactions the database has seen, and where the WAL is.
transactions() { cj_psql -Atqd postgres -c "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '$DATABASE'"; }
wal() { cj_psql -Atqd postgres -c 'SELECT pg_current_wal_insert_lsn()'; }

# Lets the worker look after the idle database once a second for a while, and scales that to what it does
# in an hour at the default nap of a minute.
measure_idle() {
	local seconds=$1 cpu_before cpu_after wal_before bytes before after workers
	cj_psql -qd postgres -c "ALTER SYSTEM SET challenge_jobs.databases = '$DATABASE'" \
		-c "ALTER SYSTEM SET challenge_jobs.worker_naptime = '1s'" -c 'SELECT pg_reload_conf()' >/dev/null
	cj_wait_until 30 "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'"
	# whatever the start has left to do, and the statistics of the last session, are over after that
	sleep 5
	cj_psql -qc CHECKPOINT
	before=$(transactions)
	wal_before=$(wal)
	cpu_before=$(cpu_of_workers)
	sleep "$seconds"
	cpu_after=$(cpu_of_workers)
	bytes=$(cj_psql -Atqd postgres -c "SELECT pg_current_wal_insert_lsn() - '$wal_before'")
	after=$(transactions)
	workers=$seconds
	awk -v cpu="$(awk "BEGIN { print $cpu_after - $cpu_before }")" -v n="$workers" -v bytes="$bytes" \
		-v transactions="$((after - before))" 'BEGIN {
		printf "Idle, %d rounds measured, scaled to an hour at the default nap (60 rounds):\n", n
		printf "  CPU of launcher and workers  %8.2f s   (goal: < 1)\n", cpu / n * 60
		printf "  transactions                 %8.0f\n", transactions / n * 60
		printf "  WAL                          %8.0f bytes in all of the measured time\n", bytes
	}'
	echo "  (the CPU is that of all children of the postmaster that ended meanwhile: the benchmark's own"
	echo "  sessions, two or three, are among them)"
}

# Compares run() with the bare job function, with nothing due, in one session: the difference is what the row that
# is committed beforehand costs.
measure_overhead() {
	local count=$1
	cj_psql -qAtd "$DATABASE" <<-SQL
		\o /dev/null
		CALL challenge_jobs.run('$JOB');
		SELECT * FROM $JOB();
		SELECT clock_timestamp() AS t0 \gset
		$(for ((i = 0; i < count; i++)); do echo "SELECT * FROM $JOB();"; done)
		SELECT clock_timestamp() AS t1 \gset
		$(for ((i = 0; i < count; i++)); do echo "CALL challenge_jobs.run('$JOB');"; done)
		SELECT clock_timestamp() AS t2 \gset
		\o
		SELECT format(E'With nothing due, the mean of $count calls:\n  the job function %s ms, run() %s ms, more by %s ms   (goal: < 3)',
		              round(job_function, 2), round(run, 2), round(run - job_function, 2))
		  FROM (SELECT (extract(epoch FROM :'t1'::timestamptz - :'t0'::timestamptz) * 1000 / $count)::numeric AS job_function,
		               (extract(epoch FROM :'t2'::timestamptz - :'t1'::timestamptz) * 1000 / $count)::numeric AS run) m;
	SQL
}

# Many runs in one session: the memory after the first tenth, and at the end.
measure_memory() {
	local count=$1 pid answers first last fifo=$CJ_TMP/memory.sql
	mkfifo "$fifo" "$CJ_TMP/memory.answers"
	cj_psql -qAtd "$DATABASE" -f "$fifo" >"$CJ_TMP/memory.answers" &
	exec 9<"$CJ_TMP/memory.answers" 8>"$fifo"
	echo 'SELECT pg_backend_pid();' >&8
	read -r pid <&9
	for ((i = 0; i < count / 10; i++)); do echo "CALL challenge_jobs.run('$JOB');"; done >&8
	echo "SELECT 'done';" >&8
	read -r answers <&9
	first=$(bench_memory_of "$pid")
	for ((i = count / 10; i < count; i++)); do echo "CALL challenge_jobs.run('$JOB');"; done >&8
	echo "SELECT 'done';" >&8
	read -r answers <&9
	last=$(bench_memory_of "$pid")
	exec 8>&- 9<&-
	wait
	echo "$count runs in one session: memory $first kB after $((count / 10)), $last kB at the end"
	[ "$last" -le "$((first + 1024))" ] || cj_die "the memory of the session grows"
}

bench_options "$@"
cj_note "building and starting the server"
bench_start_server
bench_make_template "$DATABASE" /dev/null
cj_psql -qd "$DATABASE" -c "DO \$\$ BEGIN PERFORM challenge_jobs.schedule(NULL, 'external'); END \$\$" \
	-c "CALL challenge_jobs.run('$JOB')"
cj_heading "the worker"
if [ "$BENCH_QUICK" = 1 ]; then
	measure_idle 5
	measure_overhead 20
	measure_memory 50
else
	measure_idle 120
	measure_overhead 500
	measure_memory 1000
fi
