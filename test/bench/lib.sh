# shellcheck shell=bash
#
# What the benchmarks share: a server set up as in earnest, databases to copy, and a stopwatch that
# also watches the memory of the backend. To be sourced, after `set -euo pipefail`.
#
#   bench_options ARGUMENT...       reads --quick, --rounds N; the rest is left in BENCH_ARGUMENTS
#   bench_start_server              builds, installs, starts the server
#   bench_make_template NAME FILE [VARIABLE=VALUE]...
#                                   makes a database to copy: the demo app, then the SQL of FILE, both
#                                   with these variables of psql
#   bench_measure TEMPLATE SIDE ROUND SQL
#                                   runs SQL in a fresh copy, notes seconds, CPU seconds and peak memory
#   bench_median COLUMN TEMPLATE SIDE      the median of "seconds", "cpu" or "memory" over the rounds
#   bench_best TEMPLATE SIDE               the shortest time
#   bench_ratio TEMPLATE SIDE OTHER [COLUMN]   the median over the rounds of the quotient of the times, or of "cpu"
#
# The copy is called $BENCH_COPY; the benchmark may look at it until the next bench_measure.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

BENCH_COPY=bench_copy
BENCH_ROUNDS=3
BENCH_QUICK=0
BENCH_ARGUMENTS=()

# Server settings of a benchmark: durable, since a benchmark without fsync measures another program;
# without autovacuum and with far checkpoints, which would come and go between the rounds.
BENCH_SETTINGS=(
	fsync=on
	full_page_writes=on
	synchronous_commit=on
	shared_buffers=512MB
	max_wal_size=16GB
	checkpoint_timeout=1h
	autovacuum=off
)

# Reads the options that every benchmark has.
bench_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		--quick)
			BENCH_QUICK=1
			BENCH_ROUNDS=1
			;;
		--rounds)
			[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || cj_die "--rounds takes a number"
			BENCH_ROUNDS=$2
			shift
			;;
		-*) cj_die "unknown option $1 (there are --quick and --rounds N)" ;;
		*) BENCH_ARGUMENTS+=("$1") ;;
		esac
		shift
	done
}

# Builds, installs and starts the server of the benchmark.
bench_start_server() {
	cj_begin
	cj_install_packages build server
	cj_build_and_install
	cj_start_server bench "${BENCH_SETTINGS[@]}"
	BENCH_RESULTS=$CJ_TMP/bench.results
	: >"$BENCH_RESULTS"
}

# Makes a database to be copied: demo app, extension, then what the benchmark needs beside them;
# vacuumed, so that no round pays for what loading has left behind.
bench_make_template() {
	local name=$1 file=$2 variables=() variable
	shift 2
	for variable in "$@"; do variables+=(-v "$variable"); done
	cj_psql -qc "CREATE DATABASE $name"
	cj_psql -qd "$name" "${variables[@]}" -f "$CJ_ROOT/test/fixtures/demo_app.sql"
	cj_psql -qd "$name" -c 'CREATE EXTENSION challenge_jobs' -c 'CREATE EXTENSION pg_prewarm'
	cj_psql -qd "$name" "${variables[@]}" -f "$file"
	cj_psql -qd "$name" -c 'VACUUM (FREEZE, ANALYZE)'
}

# Makes the copy that a measurement works on: the same bytes for everybody, all in memory, and
# nothing left for a checkpoint to write meanwhile.
bench_copy() {
	cj_psql -q <<-END
		SET client_min_messages = warning;
		DROP DATABASE IF EXISTS $BENCH_COPY;
		CREATE DATABASE $BENCH_COPY TEMPLATE $1 STRATEGY file_copy;
		CHECKPOINT;
	END
	cj_psql -qd "$BENCH_COPY" -o /dev/null <<-END
		SELECT FROM challenge_jobs.resume(); -- nothing runs in a copy before
		SELECT pg_prewarm(oid)
		  FROM pg_class
		 WHERE relnamespace = 'public'::regnamespace
		   AND relkind IN ('r', 'm', 'i');
	END
}

# Prints the anonymous memory of a process in kB: what it has for itself, without shared buffers.
bench_memory_of() {
	awk '$1 == "RssAnon:" { kb = $2 } END { print kb + 0 }' "/proc/$1/status" 2>/dev/null || true
}

# Waits 20 ms for a line, or what is missing of it, and appends it to a variable; false when the time
# was over before the line was, true also when none will ever come.
bench_read_within_20_ms() {
	local part='' status=0
	read -t 0.02 -r part <&"$2" || status=$?
	printf -v "$1" '%s' "${!1}$part"
	[ "$status" -le 128 ]
}

# The CPU seconds that this backend has had, as the kernel has them: user and system, to a hundredth.
BENCH_CPU="(SELECT (s[12]::numeric + s[13]::numeric) / 100
  FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '^.*[)] ', ''), ' ') s)"

# Runs SQL in a fresh copy and adds a line to the results: template, side, round, seconds, peak kB, CPU seconds.
# The time is the server's own, first statement to last commit; memory is sampled every 20 ms.
bench_measure() {
	local template=$1 side=$2 round=$3 pid seconds='' memory peak=0 answers psql
	bench_copy "$template"
	cat >"$CJ_TMP/bench.sql" <<-END
		SELECT pg_backend_pid();
		SELECT clock_timestamp() AS began, $BENCH_CPU AS cpu \gset
		\o /dev/null
		$4
		\o
		SELECT extract(epoch FROM clock_timestamp() - :'began') || ' ' || $BENCH_CPU - :cpu;
	END
	rm -f "$CJ_TMP/bench.answers"
	mkfifo "$CJ_TMP/bench.answers"
	cj_psql -qAtd "$BENCH_COPY" -f "$CJ_TMP/bench.sql" >"$CJ_TMP/bench.answers" &
	psql=$!
	exec {answers}<"$CJ_TMP/bench.answers"
	if read -r pid <&"$answers"; then
		while true; do
			memory=$(bench_memory_of "$pid")
			[ "${memory:-0}" -le "$peak" ] || peak=$memory
			if bench_read_within_20_ms seconds "$answers"; then break; fi
		done
	fi
	exec {answers}<&-
	wait "$psql" || cj_die "the side \"$side\" failed"
	echo "$template $side $round ${seconds% *} $peak ${seconds#* }" >>"$BENCH_RESULTS"
}

# Prints a column of the results of a side, a line a round.
bench_column() {
	local number
	case $1 in seconds) number=4 ;; memory) number=5 ;; cpu) number=6 ;; esac
	awk -v template="$2" -v side="$3" -v number="$number" \
		'$1 == template && $2 == side { print $number }' "$BENCH_RESULTS"
}

# Prints the median of the numbers on standard input.
bench_median_of() {
	sort -g | awk '{ v[NR] = $1 }
		END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

bench_median() { bench_column "$@" | bench_median_of; }

bench_best() { bench_column seconds "$@" | sort -g | head -n 1; }

# Compares two sides round by round, since a machine that is slow for a while is slow for both.
bench_ratio() {
	paste -d ' ' <(bench_column "${4:-seconds}" "$1" "$2") <(bench_column "${4:-seconds}" "$1" "$3") |
		awk '{ print $2 ? $1 / $2 : 0 }' | bench_median_of
}
