#!/usr/bin/env bash
#
# What it costs to keep the statistics view up to date in place: the refresh, compared with the statements
# that recompute the view, and the writes of the app, compared with those where nobody notes what changes.
#
#     bash test/bench/refresh_in_place.sh [--quick] [--rounds N] [CHALLENGES [MEMBERS]]
#
# The view has a row for each of the MEMBERS (10) of CHALLENGES (120000). It takes 12 GB of disk and a quarter of an hour
# a round, more on a machine that has other things to do. --quick is a smoke run: it shows that the benchmark works, its
# figures mean nothing. BENCH_CHANGES says of how many of a thousand challenges rows are to change ("0 1 10 50 200 500
# 1000"; the goals need the 0 and the 10). Ends with status 1 when a side did not bring the view up to date.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Two weeks, half of which have passed on the average: a row of the view counts five check-ins or so, as it would in
# earnest, and six million of them are loaded within two minutes.
readonly DAYS=14

# Of a thousand challenges so many are changed; up to so many once more, in the same session.
read -ra CHANGES <<<"${BENCH_CHANGES:-0 1 10 50 200 500 1000}"
readonly MAX_NEXT=50
readonly SIDES=(statement-full statement in-place chosen)
readonly WRITERS=(untracked tracked plpgsql)
readonly APP_CLIENTS=2

# The tables of the app and the view's, with what is made of them in memory: with less than that it would be the disk
# that is measured, in the copies one after the other.
BENCH_SETTINGS+=(shared_buffers=3GB)

# What is measured; \gset takes the method that a side says.
side_sql() {
	case $1 in
	statement) echo "REFRESH MATERIALIZED VIEW CONCURRENTLY challenge_member_stats;" ;;
	statement-full) echo "REFRESH MATERIALIZED VIEW challenge_member_stats;" ;;
	in-place | chosen) echo "SELECT method FROM refresh_challenge_stats() \\gset" ;;
	esac
}

side_title() {
	case $1 in
	statement) echo "REFRESH CONCURRENTLY" ;;
	statement-full) echo "REFRESH" ;;
	in-place) echo "in place" ;;
	chosen) echo "as chosen" ;;
	untracked) echo "nothing noted" ;;
	tracked) echo "tracked" ;;
	plpgsql) echo "plpgsql row triggers" ;;
	esac
}

# Reads the size of the benchmark.
read_arguments() {
	bench_options "$@"
	CHALLENGES=${BENCH_ARGUMENTS[0]:-120000}
	MEMBERS=${BENCH_ARGUMENTS[1]:-10}
	APP_SECONDS=10
	APP_ROUNDS=$((BENCH_ROUNDS + 2))
	if [ "$BENCH_QUICK" = 1 ]; then
		APP_SECONDS=1
		APP_ROUNDS=1
		if [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then CHALLENGES=1000; fi
	fi
	if ! [[ $CHALLENGES =~ ^[1-9][0-9]*$ && $MEMBERS =~ ^[1-9][0-9]*$ ]]; then
		cj_die "usage: $0 [--quick] [--rounds N] [CHALLENGES [MEMBERS]]"
	fi
}

# ---- databases -----------------------------------------------------------------------------

# Each side has a database of its own, where it alone refreshes the view and all make the same changes: so nobody has
# to wait for a copy of gigabytes before each measurement, and what one side leaves behind is no burden to another.
side_database() { echo "bench_${1//-/_}"; }

# Makes a database as a copy of another.
copy_database() {
	cj_psql -q -c 'SET client_min_messages = warning' -c "DROP DATABASE IF EXISTS $2" \
		-c "CREATE DATABASE $2 TEMPLATE $1 STRATEGY file_copy"
	cj_psql -qd "$2" -o /dev/null -c 'SELECT FROM challenge_jobs.resume()' # nothing runs in a copy before
}

# Makes the data: without and with tracking.
make_data() {
	bench_make_template bench_plain "$CJ_ROOT/test/bench/refresh_in_place.sql" \
		challenges_due=0 challenges_late=0 challenges_running="$CHALLENGES" \
		challenges_decided=0 members="$MEMBERS" days="$DAYS" notifications_per_user=0
	copy_database bench_plain bench_noting
	cj_psql -qd bench_noting -o /dev/null \
		-c "SELECT * FROM challenge_jobs.track('challenge_member_stats')" \
		-c 'SELECT * FROM refresh_challenge_stats()' -c 'VACUUM (FREEZE, ANALYZE)'
}

# Makes the databases of the sides that refresh.
make_sides() {
	local side
	for side in statement statement-full; do copy_database bench_plain "$(side_database "$side")"; done
	for side in in-place chosen; do copy_database bench_noting "$(side_database "$side")"; done
	cj_psql -qd "$(side_database in-place)" -o /dev/null -c \
		"SELECT challenge_jobs.alter_job('refresh_challenge_stats', settings => '{\"incremental_share\": 100}')"
}

# Makes the database in which all sides write. It is one, where triggers are switched on and off, since two databases
# differ by more than the triggers cost: by where their pages are, and which of them are in memory.
make_writing() {
	local side
	for side in "${SIDES[@]}"; do cj_psql -qc "DROP DATABASE $(side_database "$side")"; done
	copy_database bench_noting bench_writing
	cj_psql -qd bench_writing -c 'CALL bench.make_triggers()'
}

# Switches the triggers of a side on, and those of the others off.
use_writer() { cj_psql -qd bench_writing -c "CALL bench.use_triggers('$1')"; }

# Prints the SQL that brings the relations of the app into memory and leaves a checkpoint nothing to do.
settle_sql() {
	cat <<-'SQL'
		\o /dev/null
		SELECT pg_prewarm(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'i');
		CHECKPOINT;
		\o
	SQL
}

# Prints a command for the CPU time, in seconds, of a backend whose number psql has in :pid, and of all processes of the
# server that have ended so far, such as parallel workers.
cpu_command() {
	# shellcheck disable=SC2016 # the dollars are awk's
	printf '%s' 'awk -v ticks="$(getconf CLK_TCK)" "FILENAME ~ /schedstat/ { cpu += \$1 / 1e9 }' \
		' FILENAME !~ /schedstat/ { cpu += (\$16 + \$17) / ticks } END { printf \"%.6f\", cpu }"' \
		" /proc/$POSTMASTER/stat"
}

# ---- refreshing ----------------------------------------------------------------------------

# Prints the script of a measurement: seconds, bytes of WAL, seconds of the next refresh in the session (0: not
# measured), seconds of CPU time, the method that was chosen, the checksum of the view.
measure_sql() {
	local change=$1 side=$2
	settle_sql
	cat <<-SQL
		\set method statement
		\set next 0
		SELECT pg_backend_pid() AS pid \gset
		\set cpu \`$(cpu_command) /proc/:pid/schedstat\`
		SELECT clock_timestamp() AS began, pg_current_wal_insert_lsn() AS lsn \gset
		$(side_sql "$side")
		SELECT extract(epoch FROM clock_timestamp() - :'began') AS seconds,
		       pg_current_wal_insert_lsn() - :'lsn' AS bytes,
		       :'method' AS first_method \gset
		\set cpu_then \`$(cpu_command) /proc/:pid/schedstat\`
		$(next_sql "$change" "$side")
		SELECT :seconds, :bytes, :next, :cpu_then - :cpu, :'first_method', bench.checksum();
	SQL
}

# Prints the SQL that makes the same changes again and measures the refresh, and takes them back, as the other sides
# do not have them.
next_sql() {
	local change=$1 side=$2
	case $side in statement*) return ;; esac
	if [ "$change" -gt "$MAX_NEXT" ]; then return; fi
	cat <<-SQL
		SELECT bench.change($((CHALLENGES * change / 1000))) \g /dev/null
		SELECT clock_timestamp() AS began \gset
		$(side_sql "$side")
		SELECT extract(epoch FROM clock_timestamp() - :'began') AS next \gset
		SELECT bench.change($((CHALLENGES * change / 1000))) \g /dev/null
		$(side_sql "$side")
	SQL
}

# Changes so many of a thousand challenges, has a side refresh the view in a new session, and adds a line to the
# results: "refresh", change, side, round, then the figures. What is left to vacuum is vacuumed, as it would be.
measure_refresh() {
	local change=$1 side=$2 round=$3 database figures
	database=$(side_database "$side")
	cj_psql -qd "$database" -o /dev/null -c "SELECT bench.change($((CHALLENGES * change / 1000)))"
	measure_sql "$change" "$side" >"$CJ_TMP/measure.sql"
	figures=$(cj_psql -qAtF ' ' -d "$database" -f "$CJ_TMP/measure.sql") || cj_die "the side \"$side\" failed"
	echo "refresh $change $side $round $figures" >>"$BENCH_RESULTS"
	cj_psql -qd "$database" -c 'VACUUM challenges, challenge_members, check_ins, user_profiles,
		challenge_member_stats, challenge_jobs.change_log'
}

# Makes sure that all sides have come to the same view: that of REFRESH, which is computed by its definition.
check_views() {
	local checksums
	checksums=$(awk -v change="$1" -v round="$2" \
		'$1 == "refresh" && $2 == change && $4 == round { print $10 }' "$BENCH_RESULTS" | sort -u)
	[ "$(wc -l <<<"$checksums")" = 1 ] ||
		cj_die "the sides have come to different views: $(tail -n "${#SIDES[@]}" "$BENCH_RESULTS")"
}

# Goes through all changes, round after round, all sides in turn.
measure_refreshes() {
	local round change side
	for ((round = 1; round <= BENCH_ROUNDS; round++)); do
		for change in "${CHANGES[@]}"; do
			cj_note "round $round of $BENCH_ROUNDS: $change of 1000 challenges"
			for side in "${SIDES[@]}"; do measure_refresh "$change" "$side" "$round"; done
			check_views "$change" "$round"
		done
	done
}

# Prints a column of the results of a side, a line a round.
refresh_column() {
	local number
	case $1 in seconds) number=5 ;; bytes) number=6 ;; next) number=7 ;; cpu) number=8 ;; method) number=9 ;; esac
	awk -v change="$2" -v side="$3" -v number="$number" \
		'$1 == "refresh" && $2 == change && $3 == side { print $number }' "$BENCH_RESULTS"
}

refresh_median() { refresh_column "$@" | bench_median_of; }

# Prints how often REFRESH CONCURRENTLY takes what a side takes (of "seconds" or "cpu"; of "seconds next": the next
# refresh in the session): the median of the quotients within a round. 0: it was not measured.
times_better() {
	local column=$1 change=$2 side=$3
	paste -d ' ' <(refresh_column "${column% next}" "$change" statement) \
		<(refresh_column "${column#seconds }" "$change" "$side") |
		awk '{ print $2 == 0 ? 0 : $1 / $2 }' | bench_median_of
}

# Prints the table: for each change and side time, WAL, and how often both go into those of REFRESH CONCURRENTLY.
show_refreshes() {
	local change side
	printf '%-8s %-22s %-12s %9s %9s %9s %9s %8s %8s %9s %8s\n' \
		changed side method 'median s' 'best s' 'CPU s' 'WAL, MB' 'faster' 'less CPU' 'next s' 'faster'
	for change in "${CHANGES[@]}"; do
		for side in statement statement-full in-place chosen; do
			awk -v share="$(awk -v c="$change" 'BEGIN { print c / 10 }') %" -v title="$(side_title "$side")" \
				-v method="$(refresh_column method "$change" "$side" | head -n 1)" \
				-v median="$(refresh_median seconds "$change" "$side")" \
				-v best="$(refresh_column seconds "$change" "$side" | sort -g | head -n 1)" \
				-v bytes="$(refresh_median bytes "$change" "$side")" \
				-v cpu="$(refresh_median cpu "$change" "$side")" \
				-v faster="$(times_better seconds "$change" "$side")" \
				-v less="$(times_better cpu "$change" "$side")" \
				-v next_s="$(refresh_median next "$change" "$side")" \
				-v next_faster="$(times_better 'seconds next' "$change" "$side")" \
				'BEGIN { printf "%-8s %-22s %-12s %9.4f %9.4f %9.4f %9.2f %8.2f %8.2f",
				                share, title, method, median, best, cpu, bytes / 1048576, faster, less
				         if (next_s > 0) printf " %9.4f %8.2f", next_s, next_faster
				         print "" }'
		done
	done
}

# ---- writing -------------------------------------------------------------------------------

# Writes the app's transaction: a check-in. The numbers are those of the demo app.
make_app() {
	cat >"$CJ_TMP/check_in.sql" <<-SQL
		\set n random(1, $CHALLENGES)
		\set j random(0, $((MEMBERS - 1)))
		\set users $(cj_psql -Atqd bench_plain -c 'SELECT count(*) FROM user_profiles')
		\set u (:n * 7919 + :j * (:users / $MEMBERS)) % :users
		\set day random(1, 100000)
		BEGIN;
		INSERT INTO check_ins (challenge_id, user_id, checkin_date)
		VALUES (md5('challenge ' || :n)::uuid, md5('user ' || :u)::uuid, date '2100-01-01' + :day::integer)
		ON CONFLICT DO NOTHING;
		UPDATE challenge_members
		   SET current_streak = current_streak + 1, last_checkin_at = now()
		 WHERE challenge_id = md5('challenge ' || :n)::uuid AND user_id = md5('user ' || :u)::uuid;
		UPDATE user_profiles SET avatar_url = 'https://example.org/' || :day::text WHERE id = md5('user ' || :u)::uuid;
		COMMIT;
	SQL
	chmod a+r "$CJ_TMP/check_in.sql"
}

# Prints where the WAL is.
wal_position() { cj_psql -Atqc "SELECT pg_current_wal_insert_lsn() - '0/0'"; }

# Prints the CPU time, in clock ticks, of all processes of the server that have ended so far.
cpu_ticks() { awk '{ print $16 + $17 }' "/proc/$POSTMASTER/stat"; }

# Measures the app with a side: a line "app", synchronous_commit, side, round, transactions a second, bytes of WAL for
# each, microseconds of CPU time for each.
measure_app() {
	local commit=$1 side=$2 round=$3 before count ticks
	use_writer "$side"
	settle_sql | cj_psql -qd bench_writing
	before=$(wal_position)
	ticks=$(cpu_ticks)
	PGOPTIONS="-c synchronous_commit=$commit" "$CJ_BINDIR/pgbench" -n -M prepared -c "$APP_CLIENTS" -j 1 \
		-T "$APP_SECONDS" --random-seed="$round" -f "$CJ_TMP/check_in.sql" bench_writing >"$CJ_TMP/pgbench.out" 2>&1 ||
		cj_die "pgbench failed: $(cat "$CJ_TMP/pgbench.out")"
	# the backends end a moment after pgbench has
	cj_wait_until 10 "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'bench_writing')"
	ticks=$(($(cpu_ticks) - ticks))
	count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$CJ_TMP/pgbench.out")
	awk -v commit="$commit" -v side="$side" -v round="$round" -v count="$count" \
		-v tps="$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$CJ_TMP/pgbench.out")" \
		-v bytes="$(($(wal_position) - before))" -v cpu="$ticks" -v ticks="$(getconf CLK_TCK)" \
		'BEGIN { print "app", commit, side, round, tps, bytes / count, cpu / ticks * 1e6 / count }' >>"$BENCH_RESULTS"
}

# Measures the big UPDATE with a side: a line "update", "-", side, round, seconds, bytes of WAL, seconds of CPU time.
measure_update() {
	local side=$1 round=$2 figures
	use_writer "$side"
	figures=$(
		{
			settle_sql
			cat <<-SQL
				SELECT pg_backend_pid() AS pid \gset
				\set cpu \`$(cpu_command) /proc/:pid/schedstat\`
				SELECT clock_timestamp() AS began, pg_current_wal_insert_lsn() AS lsn \gset
				\o /dev/null
				SELECT bench.update_many();
				\o
				SELECT extract(epoch FROM clock_timestamp() - :'began') AS seconds,
				       pg_current_wal_insert_lsn() - :'lsn' AS bytes \gset
				\set cpu_then \`$(cpu_command) /proc/:pid/schedstat\`
				SELECT :seconds, :bytes, :cpu_then - :cpu;
				VACUUM challenge_members;
			SQL
		} | cj_psql -qAtF ' ' -d bench_writing
	)
	echo "update - $side $round $figures" >>"$BENCH_RESULTS"
}

# Goes through all sides, round after round; which is the first changes from round to round.
measure_writes() {
	local round commit side i
	for ((round = 1; round <= APP_ROUNDS; round++)); do
		cj_note "writing: round $round of $APP_ROUNDS"
		for ((i = 0; i < ${#WRITERS[@]}; i++)); do
			side=${WRITERS[$(((round + i) % ${#WRITERS[@]}))]}
			measure_update "$side" "$round"
		done
		for commit in on off; do
			for ((i = 0; i < ${#WRITERS[@]}; i++)); do
				side=${WRITERS[$(((round + i) % ${#WRITERS[@]}))]}
				measure_app "$commit" "$side" "$round"
			done
		done
	done
}

# Prints a column of the results of a side that writes.
write_column() {
	awk -v kind="$1" -v commit="$2" -v side="$3" -v number="$4" \
		'$1 == kind && $2 == commit && $3 == side { print $number }' "$BENCH_RESULTS" | sort -g
}

write_median() { write_column "$@" | bench_median_of; }

# Prints the quotient of the medians of a side and of where nothing is noted, in some column.
write_ratio() {
	awk -v a="$(write_median "$1" "$2" "$3" "$4")" -v b="$(write_median "$1" "$2" untracked "$4")" 'BEGIN { print a / b }'
}

# Prints the tables of writing.
show_writes() {
	local commit side
	for commit in on off; do
		printf '%-46s %9s %8s %9s %9s %9s\n' "check-ins, synchronous_commit = $commit" tps '%' 'CPU us' '%' 'WAL bytes'
		for side in "${WRITERS[@]}"; do
			awk -v title="$(side_title "$side")" -v tps="$(write_median app "$commit" "$side" 5)" \
				-v bytes="$(write_median app "$commit" "$side" 6)" -v cpu="$(write_median app "$commit" "$side" 7)" \
				-v ratio="$(write_ratio app "$commit" "$side" 5)" -v cpu_ratio="$(write_ratio app "$commit" "$side" 7)" \
				'BEGIN { printf "%-46s %9.0f %8.1f %9.1f %9.1f %9.0f\n", title, tps, ratio * 100, cpu, cpu_ratio * 100, bytes }'
		done
		echo
	done
	printf '%-46s %9s %8s %9s %9s %9s\n' "UPDATE of 100000 rows in as many challenges" 'median s' '%' 'CPU s' '%' 'WAL, MB'
	for side in "${WRITERS[@]}"; do
		awk -v title="$(side_title "$side")" -v seconds="$(write_median update - "$side" 5)" \
			-v bytes="$(write_median update - "$side" 6)" -v cpu="$(write_median update - "$side" 7)" \
			-v ratio="$(write_ratio update - "$side" 5)" -v cpu_ratio="$(write_ratio update - "$side" 7)" \
			'BEGIN { printf "%-46s %9.3f %8.1f %9.3f %9.1f %9.1f\n",
			                title, seconds, ratio * 100, cpu, cpu_ratio * 100, bytes / 1048576 }'
	done
}

# ---- goals ---------------------------------------------------------------------------------

# Prints a goal and whether it was reached: text, figure, "<=" or ">=", bound.
show_goal() {
	awk -v text="$1" -v figure="$2" -v relation="$3" -v bound="$4" 'BEGIN {
		met = relation == "<=" ? figure <= bound : figure >= bound
		printf "%-66s %9.3f %s %-8s %s\n", text, figure, relation, bound, met ? "met" : "missed" }'
}

# Prints what the chosen method takes, compared with REFRESH CONCURRENTLY, where that is worst.
worst_choice() {
	local change
	for change in "${CHANGES[@]}"; do times_better seconds "$change" chosen; done | sort -g | head -n 1 | awk '{ print 1 / $1 }'
}

show_goals() {
	show_goal 'nothing changed: ms, for the first refresh of a session' \
		"$(refresh_median seconds 0 chosen | awk '{ print $1 * 1000 }')" '<=' 5
	show_goal 'nothing changed: ms, for the next one' "$(refresh_median next 0 chosen | awk '{ print $1 * 1000 }')" '<=' 5
	show_goal '1 % changed: times as fast as CONCURRENTLY, first of a session' "$(times_better seconds 10 chosen)" '>=' 75
	show_goal '1 % changed: times as fast as CONCURRENTLY, next one' "$(times_better 'seconds next' 10 chosen)" '>=' 75
	show_goal 'as chosen: at worst so many times as slow as CONCURRENTLY' "$(worst_choice)" '<=' 1.1
	show_goal 'check-ins: share of the throughput' "$(write_ratio app on tracked 5)" '>=' 0.95
	show_goal 'check-ins, synchronous_commit = off: share of the throughput' \
		"$(write_ratio app off tracked 5)" '>=' 0.95
	show_goal 'UPDATE of 100000 rows: to where nothing is noted' "$(write_ratio update - tracked 5)" '<=' 1.3
}

# Prints how many huge pages the machine has set aside.
huge_pages() { awk '/^HugePages_Total/ { count = $2 } END { print count ? count : "none" }' /proc/meminfo; }

# Prints what the figures stand on.
show_conditions() {
	cat <<-END
		$CHALLENGES challenges of $MEMBERS members and $DAYS days, $(cj_psql -Atqd bench_plain -c 'SELECT count(*) FROM check_ins') check-ins.
		Server: ${BENCH_SETTINGS[*]} (the last of a name counts); else as delivered. All of it is durable.
		Refreshing: $BENCH_ROUNDS round(s), the sides in turn, each in a database of its own that has gone through the same
		changes, in memory, after a checkpoint (so WAL has full pages), in a new session. In each changed challenge somebody
		checks in (or that is taken back), in every tenth somebody leaves, every twentieth gets a day longer, and a member of
		every hundredth another name, which changes other challenges of that member as well. Time: the backend's clock,
		first statement to last commit; CPU time: of the backend and its parallel workers. "faster", "less CPU": what REFRESH
		CONCURRENTLY takes, divided by what the side takes, the median of the quotients within a round. "next": the same
		number of changes once more, in the same session. A new session has to map the pages of shared memory that it
		touches, which huge pages make cheap: there are $(huge_pages) here (see vm.nr_hugepages). That all sides have
		the same view in the end has been checked each time.
		Writing: $APP_ROUNDS round(s), the sides in turn, all in one database, in which the triggers of the side are switched
		on and those of the others off; $APP_CLIENTS clients, $APP_SECONDS s each; a transaction is an INSERT of a check-in, an UPDATE of
		the member's streak, and one of the user's picture. Medians, and what per cent of where nothing is noted they
		are. With synchronous_commit = on most of the time is waiting for the disk, which hides what a trigger
		costs; with off it shows. CPU time is that of the backends.
	END
	if [ "$BENCH_QUICK" = 1 ]; then echo 'A quick run: that it works is all that it shows.'; fi
}

read_arguments "$@"
cj_note "building and starting the server"
bench_start_server
POSTMASTER=$(head -n 1 "$CJ_DATA/postmaster.pid")
cj_note "making the data"
make_data
make_sides
make_app
measure_refreshes
make_writing
measure_writes

cj_heading "refreshing in place: a view of $((CHALLENGES * MEMBERS)) rows"
show_conditions
echo
show_refreshes
echo
show_writes
echo
show_goals
