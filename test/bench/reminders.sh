#!/usr/bin/env bash
#
# What a run of send_streak_reminders costs: a tick at which it is morning nowhere, one at which everybody
# has been notified already, and one at which a part of the users is notified, compared with a plain INSERT ...
# SELECT of the same rows: known beforehand (the floor), and as an app would find them by itself.
#
#     bash test/bench/reminders.sh [--quick] [--rounds N] [USERS [ZONES]]
#
# USERS (1000000) in ZONES (400), each in two challenges; it is morning for 5 % of them. --quick is a
# smoke run of seconds: its figures mean nothing. Ends with status 1 when somebody was not notified.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly DUE_PERCENT=5
readonly SIDES=(floor floor-by-user plain run job-function)

side_sql() {
	local insert="INSERT INTO notifications (user_id, type, title, body, data) SELECT * FROM"
	case $1 in
	floor) echo "$insert bench.message;" ;;
	floor-by-user) echo "$insert bench.message_by_user;" ;;
	plain) echo "$insert bench.at_stake;" ;;
	run) echo "CALL challenge_jobs.run('send_streak_reminders', 'bench');" ;;
	job-function) echo "SELECT * FROM send_streak_reminders();" ;;
	esac
}

side_title() {
	case $1 in
	floor) echo "floor: INSERT of rows known before" ;;
	floor-by-user) echo "floor, inserting by user" ;;
	plain) echo "INSERT ... SELECT over the app's tables" ;;
	run) echo "run()" ;;
	job-function) echo "function" ;;
	esac
}

# Reads the size of the benchmark.
read_arguments() {
	bench_options "$@"
	USERS=${BENCH_ARGUMENTS[0]:-1000000}
	ZONES=${BENCH_ARGUMENTS[1]:-400}
	if [ "$BENCH_QUICK" = 1 ] && [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then USERS=20000; fi
	if ! [[ $USERS =~ ^[1-9][0-9]*$ && $ZONES =~ ^[1-9][0-9]*$ ]]; then
		cj_die "usage: $0 [--quick] [--rounds N] [USERS [ZONES]]"
	fi
}

# Makes the data.
make_data() {
	bench_make_template bench_full "$CJ_ROOT/test/bench/reminders.sql" \
		challenges_due=0 challenges_late=0 challenges_running=2 challenges_decided=0 members=2 days=3 \
		users="$USERS" zones="$ZONES" due_percent="$DUE_PERCENT" old_notifications=2
}

# Makes sure that a side has notified everybody who was to be notified, once.
check_work() {
	[ "$(cj_psql -Atqd "$BENCH_COPY" -c 'SELECT bench.all_done()')" = t ] ||
		cj_die "the side \"$1\" has not notified just those who were to be notified, each once"
}

# Measures one side. It becomes morning in the copy itself: the template may be older than the window.
measure() {
	bench_measure bench_full "$1" "$2" "SELECT bench.make_morning(true); $(side_sql "$1")"
	check_work "$1"
}

# Goes through all sides, round after round, so that a slow minute of the machine hits all of them.
measure_all() {
	local round side
	for ((round = 1; round <= BENCH_ROUNDS; round++)); do
		cj_note "round $round of $BENCH_ROUNDS"
		for side in "${SIDES[@]}"; do measure "$side" "$round"; done
	done
}

# Measures ticks of which there is little or nothing to do.
measure_ticks() {
	local repeat=500
	if [ "$BENCH_QUICK" = 1 ]; then repeat=20; fi
	bench_copy bench_full
	# The first calls of a session fill its caches.
	cj_psql -qd "$BENCH_COPY" -o /dev/null <<-SQL
		SELECT bench.make_morning(false);
		CALL bench.tick('warming up', 20, false);
		CALL bench.tick('morning nowhere, job function', $repeat, false);
		CALL bench.tick('morning nowhere, run()', $repeat, true);
		SELECT bench.make_morning(true);
		CALL challenge_jobs.run('send_streak_reminders');
	SQL
	check_work run
	# What was examined less than 15 s ago is examined again.
	PGDATABASE=$BENCH_COPY cj_wait_until 60 \
		"SELECT max(examined_at) < clock_timestamp() - interval '15 seconds' FROM challenge_jobs.reminder_zone" ||
		cj_die "the zones are not done"
	cj_psql -qd "$BENCH_COPY" -o /dev/null <<-SQL
		CALL bench.tick('warming up', 20, false);
		CALL bench.tick('all notified, job function', $repeat, false);
		CALL bench.tick('all notified, run()', $repeat, true);
		CALL bench.tick('all notified, a user changed, job function', 10, false,
		                'UPDATE user_profiles SET display_name = display_name WHERE id = (SELECT user_id FROM bench.message LIMIT 1)');
	SQL
	check_work job-function
}

# Prints the table of ticks.
show_ticks() {
	printf '%-40s %10s %10s %10s\n' 'a tick, milliseconds' median p95 max
	cj_psql -Atqd "$BENCH_COPY" -F ' ' <<-'SQL'
		SELECT format('%s %s %s %s', rpad(what, 40), lpad(round(m::numeric, 2)::text, 10), lpad(round(p::numeric, 2)::text, 10), lpad(round(x::numeric, 2)::text, 10))
		  FROM (SELECT what, percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds) AS m,
		               percentile_cont(0.95) WITHIN GROUP (ORDER BY milliseconds) AS p, max(milliseconds) AS x,
		               min(ctid) AS place
		          FROM bench.tick
		         WHERE what <> 'warming up'
		         GROUP BY what) t
		 ORDER BY place;
	SQL
}

# Prints the table of times.
show_times() {
	local side notified
	notified=$(cj_psql -Atqd "$BENCH_COPY" -c 'SELECT count(*) FROM bench.message')
	printf '%-40s %8s %8s %10s %10s %10s\n' "notifying $notified users" 'median s' 'best s' 'users/s' 'to floor' 'MB'
	for side in "${SIDES[@]}"; do
		awk -v title="$(side_title "$side")" -v n="$notified" \
			-v median="$(bench_median seconds bench_full "$side")" -v best="$(bench_best bench_full "$side")" \
			-v floor="$(bench_ratio bench_full "$side" floor)" -v memory="$(bench_median memory bench_full "$side")" \
			'BEGIN { printf "%-40s %8.2f %8.2f %10.0f %10.2f %10.1f\n", title, median, best, n / median, floor, memory / 1024 }'
	done
}

# Prints what the figures stand on.
show_conditions() {
	cat <<-END
		$USERS users in $ZONES time zones, each in two challenges; it is morning for $DUE_PERCENT % of them.
		$BENCH_ROUNDS round(s), the sides in turn, each in a fresh copy of the same database, after a checkpoint.
		Server: ${BENCH_SETTINGS[*]}; else as delivered.
		Ticks: the backend's clock around the call, without the commit of the job function's transaction.
		Telling: the backend's clock, first statement to last commit. "best" is the shortest of the rounds,
		"to floor" the median of the quotients within a round, MB the peak of the backend's own memory.
	END
	if [ "$BENCH_QUICK" = 1 ]; then echo 'A quick run: that it works is all that it shows.'; fi
}

read_arguments "$@"
cj_note "building and starting the server"
bench_start_server
cj_note "making the data: $USERS users"
make_data
measure_all
cj_note "ticks with little to do"
measure_ticks

cj_heading "send_streak_reminders"
show_conditions
echo
show_times
echo
show_ticks
