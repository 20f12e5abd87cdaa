#!/usr/bin/env bash
#
# How long it takes to decide many due challenges at once, compared with the plpgsql function that
# apps have for it and with the least that could be done (the floor).
#
#     bash test/bench/auto_complete.sh [--quick] [--rounds N] [CHALLENGES [MEMBERS]]
#
# CHALLENGES are due (20000), with MEMBERS each (10). --quick is a smoke run of seconds: it shows that
# the benchmark works, its figures mean nothing. Ends with status 1 when a side did not do its work.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly DAYS=14
readonly SIDES=(plpgsql plpgsql-fresh floor floor-by-user job-function run run-tracked run-tracked-plain run-plain run-stored run-stored-plain)

# What is measured, and what the table calls it. The view is tracked, but for the sides that are not to gain by it, nor to pay.
side_sql() {
	[[ $1 = run-tracked* ]] || echo "SELECT challenge_jobs.untrack('challenge_member_stats');"
	local stored="SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{\"completion_source\": \"stored\"}');"
	local plain="SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{\"insert\": \"plain\"}');"
	local call="SELECT * FROM auto_complete_challenges();"
	local run="CALL challenge_jobs.run('auto_complete_challenges', 'bench');"
	local update="UPDATE challenges c SET status = v.status FROM bench.outcome v WHERE c.id = v.id AND c.status = 'active';"
	local insert="INSERT INTO notifications (user_id, type, title, body, data) SELECT * FROM"
	case $1 in
	plpgsql) echo "SELECT bench.plpgsql_auto_complete_challenges();" ;;
	plpgsql-fresh) echo "REFRESH MATERIALIZED VIEW CONCURRENTLY challenge_member_stats; SELECT bench.plpgsql_auto_complete_challenges();" ;;
	floor) echo "BEGIN; $update $insert bench.message; COMMIT;" ;;
	floor-by-user) echo "BEGIN; $update $insert bench.message_by_user; COMMIT;" ;;
	job-function) echo "$call" ;;
	run | run-tracked) echo "$run" ;;
	run-plain | run-tracked-plain) echo "$plain $run" ;;
	run-stored) echo "$stored $run" ;;
	run-stored-plain) echo "$stored $plain $run" ;;
	esac
}

side_title() {
	case $1 in
	plpgsql) echo "plpgsql function (stored averages)" ;;
	plpgsql-fresh) echo "the same after a refresh" ;;
	floor) echo "floor: UPDATE and INSERT only" ;;
	floor-by-user) echo "floor, inserting by user" ;;
	job-function) echo "job function (live averages)" ;;
	run) echo "run() (live averages)" ;;
	run-tracked) echo "run() (averages of a tracked view)" ;;
	run-tracked-plain) echo "the same, \"insert\": \"plain\"" ;;
	run-plain) echo "the same, \"insert\": \"plain\"" ;;
	run-stored) echo "run() (stored averages)" ;;
	run-stored-plain) echo "the same, \"insert\": \"plain\"" ;;
	esac
}

# Reads the size of the benchmark.
read_arguments() {
	bench_options "$@"
	CHALLENGES=${BENCH_ARGUMENTS[0]:-20000}
	MEMBERS=${BENCH_ARGUMENTS[1]:-10}
	if [ "$BENCH_QUICK" = 1 ] && [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then CHALLENGES=200; fi
	if ! [[ $CHALLENGES =~ ^[1-9][0-9]*$ && $MEMBERS =~ ^[1-9][0-9]*$ ]]; then
		cj_die "usage: $0 [--quick] [--rounds N] [CHALLENGES [MEMBERS]]"
	fi
}

# Makes the data for so many due challenges; half as many again are not due and in the way.
make_data() {
	bench_make_template "$1" "$CJ_ROOT/test/bench/auto_complete.sql" \
		challenges_due="$2" challenges_late=0 challenges_running="$(($2 / 4))" \
		challenges_decided="$(($2 / 4))" members="$MEMBERS" days="$DAYS"
	cj_psql -qd "$1" -o /dev/null -c "SELECT challenge_jobs.track('challenge_member_stats')" -c 'SELECT refresh_challenge_stats()' \
		-c 'VACUUM (FREEZE, ANALYZE)'
}

# Measures one side and makes sure that it did all of the work.
measure() {
	bench_measure "$1" "$2" "$3" "$(side_sql "$2")"
	[ "$(cj_psql -Atqd "$BENCH_COPY" -c 'SELECT bench.all_done()')" = t ] ||
		cj_die "the side \"$2\" has not decided every challenge or not notified each member once"
}

# Goes through all sides, round after round, so that a slow minute of the machine hits all of them.
measure_all() {
	local round side
	for ((round = 1; round <= BENCH_ROUNDS; round++)); do
		cj_note "round $round of $BENCH_ROUNDS"
		for side in "${SIDES[@]}"; do measure bench_full "$side" "$round"; done
	done
	cj_note "a quarter of the challenges, for the memory"
	for side in "${SIDES[@]}"; do measure bench_quarter "$side" 1; done
}

# Prints what the averages alone cost, live from the view's definition and as stored.
show_averages() {
	bench_copy bench_full
	cj_psql -Atqd "$BENCH_COPY" <<-'SQL'
		SELECT rtrim(pg_get_viewdef('challenge_member_stats'::regclass), ';') AS definition \gset
		SELECT 'The averages of all due challenges, asked for at once:';
		SELECT '  live    ' || bench.time_of_averages('(' || :'definition' || ')');
		SELECT '  stored  ' || bench.time_of_averages('challenge_member_stats');
		SELECT format('  (jit = %s, jit_above_cost = %s)',
		              current_setting('jit'), current_setting('jit_above_cost'));
	SQL
}

# Prints the table: times, what they mean per second, and the CPU seconds compared.
show_times() {
	local side median
	printf '%-36s %8s %8s %13s %10s %10s\n' \
		side 'median s' 'CPU s' 'challenges/s' 'to floor' 'to plpgsql'
	for side in "${SIDES[@]}"; do
		median=$(bench_median seconds bench_full "$side")
		awk -v title="$(side_title "$side")" -v median="$median" \
			-v cpu="$(bench_median cpu bench_full "$side")" -v n="$CHALLENGES" \
			-v floor="$(bench_ratio bench_full "$side" floor cpu)" \
			-v plpgsql="$(bench_ratio bench_full "$side" plpgsql cpu)" \
			'BEGIN { printf "%-36s %8.2f %8.2f %13.0f %10.2f %10.2f\n",
			                title, median, cpu, n / median, floor, plpgsql }'
	done
}

# Prints the table of memory: with all challenges and with a quarter of them.
show_memory() {
	local side
	printf '%-36s %14s %14s\n' 'peak memory of the backend, MB' \
		"$CHALLENGES due" "$((CHALLENGES / 4)) due"
	for side in "${SIDES[@]}"; do
		awk -v title="$(side_title "$side")" \
			-v full="$(bench_median memory bench_full "$side")" \
			-v quarter="$(bench_median memory bench_quarter "$side")" \
			'BEGIN { printf "%-36s %14.1f %14.1f\n", title, full / 1024, quarter / 1024 }'
	done
}

# Prints what the figures stand on.
show_conditions() {
	cat <<-END
		$CHALLENGES due challenges of $MEMBERS members and $DAYS days; $BENCH_ROUNDS round(s), the sides in turn,
		each in a fresh copy of the same database, in memory, after a checkpoint.
		Server: ${BENCH_SETTINGS[*]}; else as delivered.
		Time: the backend's clock, first statement to last commit; CPU: of the backend, user and system.
		"to floor" and "to plpgsql" are medians of the quotients of the CPU seconds within a round.
		Memory: RssAnon of the backend, sampled every 20 ms (no shared buffers in it).
	END
	if [ "$BENCH_QUICK" = 1 ]; then echo 'A quick run: that it works is all that it shows.'; fi
}

read_arguments "$@"
cj_note "building and starting the server"
bench_start_server
cj_note "making the data: $CHALLENGES challenges, and a quarter of them"
make_data bench_full "$CHALLENGES"
make_data bench_quarter "$((CHALLENGES / 4))"
measure_all

cj_heading "auto_complete_challenges: deciding $CHALLENGES challenges, telling $((CHALLENGES * MEMBERS)) members"
show_conditions
echo
show_times
echo
show_memory
echo
show_averages
