#!/usr/bin/env bash
#
# How long it takes to refresh the statistics view, by each method, compared with the statement that
# the method runs: with nothing, a hundredth and all of the view's rows changed.
#
#     bash test/bench/refresh.sh [--quick] [--rounds N] [CHALLENGES [MEMBERS]]
#
# The view has a row for each of the MEMBERS (10) of CHALLENGES (10000). --quick is a smoke run of
# seconds: it shows that the benchmark works, its figures mean nothing. Ends with status 1 when a side
# did not do its work.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly DAYS=14
readonly CHANGES=(0 1 100)
readonly SIDES=(statement job-function run statement-full job-function-full)

# What is measured, and what the table calls it.
side_sql() {
	case $1 in
	statement) echo "REFRESH MATERIALIZED VIEW CONCURRENTLY challenge_member_stats;" ;;
	job-function) echo "SELECT * FROM refresh_challenge_stats();" ;;
	run) echo "CALL challenge_jobs.run('refresh_challenge_stats', 'bench');" ;;
	statement-full) echo "REFRESH MATERIALIZED VIEW challenge_member_stats;" ;;
	job-function-full) echo "SELECT * FROM refresh_challenge_stats(force_full => true);" ;;
	esac
}

side_title() {
	case $1 in
	statement) echo "REFRESH CONCURRENTLY" ;;
	job-function) echo "job function, method concurrent" ;;
	run) echo "run(), method concurrent" ;;
	statement-full) echo "REFRESH" ;;
	job-function-full) echo "job function, method full" ;;
	esac
}

# The statement that a side is compared with.
side_statement() {
	case $1 in
	*-full) echo statement-full ;;
	*) echo statement ;;
	esac
}

# Reads the size of the benchmark.
read_arguments() {
	bench_options "$@"
	CHALLENGES=${BENCH_ARGUMENTS[0]:-10000}
	MEMBERS=${BENCH_ARGUMENTS[1]:-10}
	if [ "$BENCH_QUICK" = 1 ] && [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then CHALLENGES=200; fi
	if ! [[ $CHALLENGES =~ ^[1-9][0-9]*$ && $MEMBERS =~ ^[1-9][0-9]*$ ]]; then
		cj_die "usage: $0 [--quick] [--rounds N] [CHALLENGES [MEMBERS]]"
	fi
}

# Makes the data in which so many per cent of the view's rows have changed.
make_data() {
	bench_make_template "bench_$1" "$CJ_ROOT/test/bench/refresh.sql" changed="$1" \
		challenges_due=0 challenges_late=0 challenges_running="$CHALLENGES" \
		challenges_decided=0 members="$MEMBERS" days="$DAYS" notifications_per_user=0
}

# Measures one side and makes sure that the view is up to date afterwards.
measure() {
	bench_measure "bench_$1" "$2" "$3" "$(side_sql "$2")"
	[ "$(cj_psql -Atqd "$BENCH_COPY" -c 'SELECT bench.all_done()')" = t ] ||
		cj_die "the side \"$2\" has not brought the view up to date"
}

# Goes through all sides, round after round, so that a slow minute of the machine hits all of them.
measure_all() {
	local round changed side
	for ((round = 1; round <= BENCH_ROUNDS; round++)); do
		cj_note "round $round of $BENCH_ROUNDS"
		for changed in "${CHANGES[@]}"; do
			for side in "${SIDES[@]}"; do measure "$changed" "$side" "$round"; done
		done
	done
}

# Prints the table for so many per cent: times, and compared with the statement.
show_times() {
	local side rows
	rows=$(cj_psql -Atqd "bench_$1" -c "SELECT format('%s of %s rows changed', changed, stored) FROM bench.rows")
	printf '%-30s %8s %8s %13s %9s\n' "$rows" 'median s' 'best s' 'to statement' 'peak MB'
	for side in "${SIDES[@]}"; do
		awk -v title="$(side_title "$side")" -v median="$(bench_median seconds "bench_$1" "$side")" \
			-v best="$(bench_best "bench_$1" "$side")" \
			-v ratio="$(bench_ratio "bench_$1" "$side" "$(side_statement "$side")")" \
			-v memory="$(bench_median memory "bench_$1" "$side")" \
			'BEGIN { printf "%-30s %8.2f %8.2f %13.2f %9.1f\n", title, median, best, ratio, memory / 1024 }'
	done
	echo
}

# Prints what the figures stand on.
show_conditions() {
	cat <<-END
		$CHALLENGES challenges of $MEMBERS members and $DAYS days; $BENCH_ROUNDS round(s), the sides in turn, each in a
		fresh copy of the same database, in memory, after a checkpoint.
		Server: ${BENCH_SETTINGS[*]}; else as delivered.
		Time: the backend's clock, first statement to last commit. "best" is the shortest of the rounds,
		"to statement" the median of the quotients within a round. Memory: RssAnon of the backend,
		sampled every 20 ms (no shared buffers in it).
	END
	if [ "$BENCH_QUICK" = 1 ]; then echo 'A quick run: that it works is all that it shows.'; fi
}

read_arguments "$@"
cj_note "building and starting the server"
bench_start_server
cj_note "making the data, three times"
for changed in "${CHANGES[@]}"; do make_data "$changed"; done
measure_all

cj_heading "refresh_challenge_stats: a view of $((CHALLENGES * MEMBERS)) rows"
show_conditions
echo
for changed in "${CHANGES[@]}"; do show_times "$changed"; done
