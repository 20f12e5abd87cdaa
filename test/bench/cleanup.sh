#!/usr/bin/env bash
#
# How long it takes to remove many expired notifications, and what the app feels of it, compared with
# one big DELETE.
#
#     bash test/bench/cleanup.sh [--quick] [--rounds N] [NOTIFICATIONS]
#
# There are NOTIFICATIONS (2000000), half of them expired. --quick is a smoke run of seconds: it shows
# that the benchmark works, its figures mean nothing. Ends with status 1 when a side did not do its work.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly SIDES=(delete run)

# The app meanwhile: so many single-row inserts and updates a second, for so many seconds; the clean-up
# begins when they have run for a while.
readonly APP_RATE=400 APP_CLIENTS=4 APP_SECONDS=10 APP_LEAD=3

side_sql() {
	case $1 in
	delete) echo "DELETE FROM notifications WHERE created_at < now() - interval '30 days' OR expires_at < now();" ;;
	run) echo "CALL challenge_jobs.run('cleanup_expired_notifications', 'bench');" ;;
	none) echo "SELECT pg_sleep($((APP_SECONDS - APP_LEAD - 1)));" ;;
	esac
}

side_title() {
	case $1 in
	delete) echo "one big DELETE" ;;
	run) echo "run()" ;;
	none) echo "no clean-up" ;;
	esac
}

# Reads the size of the benchmark.
read_arguments() {
	bench_options "$@"
	NOTIFICATIONS=${BENCH_ARGUMENTS[0]:-2000000}
	if [ "$BENCH_QUICK" = 1 ] && [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then NOTIFICATIONS=100000; fi
	[[ $NOTIFICATIONS =~ ^[1-9][0-9]*$ ]] || cj_die "usage: $0 [--quick] [--rounds N] [NOTIFICATIONS]"
}

# Makes sure that a side did all of the work.
check_done() {
	[ "$(cj_psql -Atqd "$BENCH_COPY" -c 'SELECT bench.all_done()')" = t ] ||
		cj_die "the side \"$1\" has left something expired, or deleted too much"
}

# Measures one side alone.
measure_alone() {
	bench_measure bench_full "$1" "$2" "$(side_sql "$1")"
	check_done "$1"
}

# Measures the longest transaction of one side, in milliseconds.
measure_longest() {
	local side=$1 pid psql
	bench_copy bench_full
	mkfifo "$CJ_TMP/pid"
	cj_psql -qAtd "$BENCH_COPY" -c 'SELECT pg_backend_pid()' -c 'SELECT pg_sleep(0.5)' \
		-c "$(side_sql "$side")" >"$CJ_TMP/pid" &
	psql=$!
	exec {answers}<"$CJ_TMP/pid"
	read -r pid <&"$answers"
	echo "$side $(cj_psql -Atqd "$BENCH_COPY" -c "SELECT bench.watch($pid)")" >>"$CJ_TMP/longest"
	cat <&"$answers" >/dev/null
	exec {answers}<&-
	rm "$CJ_TMP/pid"
	wait "$psql" || cj_die "the side \"$side\" failed"
	check_done "$side"
}

# Writes what the app does into two scripts of pgbench.
make_app() {
	cat >"$CJ_TMP/insert.sql" <<-'END'
		INSERT INTO notifications (user_id, type, title, body)
		VALUES ((SELECT id FROM user_profiles LIMIT 1), 'streak_reminder', 'Keep your streak!', 'Now');
	END
	cat >"$CJ_TMP/update.sql" <<-END
		\set n random($((NOTIFICATIONS / 2 + NOTIFICATIONS / 20)), $NOTIFICATIONS)
		UPDATE notifications SET read_at = now() WHERE id = md5('notification ' || :n)::uuid;
	END
	chmod a+r "$CJ_TMP"/*.sql
}

# Measures the latency of the app's transactions during one side; adds them to a file, in milliseconds.
measure_app() {
	local side=$1 pgbench began ended
	bench_copy bench_full
	rm -f "$CJ_TMP"/app.log*
	(cd "$CJ_TMP" && exec "$CJ_BINDIR/pgbench" -n -M prepared -c "$APP_CLIENTS" -j 1 -R "$APP_RATE" \
		-T "$APP_SECONDS" -f insert.sql -f update.sql -l --log-prefix=app.log "$BENCH_COPY") >"$CJ_TMP/pgbench.out" 2>&1 &
	pgbench=$!
	sleep "$APP_LEAD"
	began=$(date +%s.%N)
	cj_psql -qAtd "$BENCH_COPY" -o /dev/null -c "$(side_sql "$side")"
	ended=$(date +%s.%N)
	wait "$pgbench" || cj_die "pgbench failed: $(cat "$CJ_TMP/pgbench.out")"
	# a line: client, transaction, latency in microseconds, script, seconds, microseconds, lag
	cat "$CJ_TMP"/app.log* | awk -v began="$began" -v ended="$ended" \
		'{ at = $5 + $6 / 1e6; if (at - $3 / 1e6 <= ended && at >= began) print $3 / 1000 }' >>"$CJ_TMP/latency.$side"
	[ "$side" = none ] || check_done "$side"
}

# Prints a percentile of the numbers in a file.
percentile() { sort -g "$2" | awk -v p="$1" '{ v[NR] = $1 } END { i = int(NR * p / 100 + 0.999999); print v[i < 1 ? 1 : i] }'; }

# Goes through all sides, round after round, so that a slow minute of the machine hits all of them.
measure_all() {
	local round side
	for ((round = 1; round <= BENCH_ROUNDS; round++)); do
		cj_note "round $round of $BENCH_ROUNDS"
		for side in "${SIDES[@]}"; do measure_alone "$side" "$round"; done
		for side in "${SIDES[@]}"; do measure_longest "$side"; done
		for side in none "${SIDES[@]}"; do measure_app "$side"; done
	done
}

# Prints the table: time, memory, longest transaction.
show_times() {
	local side longest whole
	whole=$(bench_median seconds bench_full delete)
	printf '%-20s %8s %8s %10s %12s %18s %14s\n' \
		side 'median s' 'best s' 'to DELETE' 'memory, MB' 'longest trans., ms' '% of DELETE'
	for side in "${SIDES[@]}"; do
		longest=$(awk -v side="$side" '$1 == side { print $2 }' "$CJ_TMP/longest" | bench_median_of)
		awk -v title="$(side_title "$side")" -v median="$(bench_median seconds bench_full "$side")" \
			-v best="$(bench_best bench_full "$side")" -v ratio="$(bench_ratio bench_full "$side" delete)" \
			-v memory="$(bench_median memory bench_full "$side")" -v longest="$longest" -v whole="$whole" \
			'BEGIN { printf "%-20s %8.2f %8.2f %10.2f %12.1f %18.1f %14.2f\n",
			                title, median, best, ratio, memory / 1024, longest, longest / whole / 10 }'
	done
}

# Prints the table of latencies.
show_latency() {
	local side none
	none=$(percentile 99 "$CJ_TMP/latency.none")
	printf '%-20s %12s %10s %10s %10s %10s\n' "the app meanwhile" transactions 'p50 ms' 'p99 ms' 'max ms' 'p99 to none'
	for side in none "${SIDES[@]}"; do
		awk -v title="$(side_title "$side")" -v n="$(wc -l <"$CJ_TMP/latency.$side")" \
			-v p50="$(percentile 50 "$CJ_TMP/latency.$side")" -v p99="$(percentile 99 "$CJ_TMP/latency.$side")" \
			-v max="$(percentile 100 "$CJ_TMP/latency.$side")" -v none="$none" \
			'BEGIN { printf "%-20s %12d %10.2f %10.2f %10.2f %10.2f\n", title, n, p50, p99, max, p99 / none }'
	done
}

# Prints what the figures stand on.
show_conditions() {
	cat <<-END
		$NOTIFICATIONS notifications in the order of time, half of them expired; $BENCH_ROUNDS round(s), the sides in turn,
		each in a fresh copy of the same database, in memory, after a checkpoint.
		Server: ${BENCH_SETTINGS[*]}; else as delivered.
		Time: the backend's clock, first statement to last commit. "to DELETE": median of the quotients within a round.
		Memory: RssAnon of the backend. Longest transaction: as another session sees it, again and again; the median.
		The app: $APP_RATE single-row INSERTs and UPDATEs a second over $APP_CLIENTS connections, those of all rounds that fell
		into the time of the clean-up.
	END
	if [ "$BENCH_QUICK" = 1 ]; then echo 'A quick run: that it works is all that it shows.'; fi
}

read_arguments "$@"
cj_note "building and starting the server"
bench_start_server
cj_note "making the data: $NOTIFICATIONS notifications"
bench_make_template bench_full "$CJ_ROOT/test/bench/cleanup.sql" challenges_due=1000 challenges_late=0 \
	challenges_running=0 challenges_decided=0 members=10 days=1 notifications="$NOTIFICATIONS"
make_app
measure_all

cj_heading "cleanup_expired_notifications: removing $((NOTIFICATIONS / 2)) of $NOTIFICATIONS notifications"
show_conditions
echo
show_times
echo
show_latency
