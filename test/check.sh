#!/bin/bash
#
# Everything that can be checked, on a machine with nothing but bash and apt: installs what is
# missing, builds with every warning an error, and runs all tests on throwaway servers.
#
#   bash test/check.sh                 all parts
#   bash test/check.sh --only PART     one of: lint regress isolation pgtap tap (may be repeated)
#
#   PG_MAJOR=17                        another major version, where the system has its packages
#   PG_CONFIG=/path/to/pg_config       another installation
#
# The last line is "N passed, N failed"; the exit status is 0 if none failed and some passed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

all_parts=(lint regress isolation pgtap tap)
parts=()
# One line for each part: name, passed, failed.
summary=()

# No test may take longer than this: one that hangs has failed. (In the foreground, since a Ctrl-C
# would not reach it elsewhere.)
part_limit=1800
file_limit=900

# Where the servers of the TAP tests log, once there are any.
tap_logs=

# ---- counting ------------------------------------------------------------------------------

# Notes how a part went. A part without a single test has failed: something is missing or misnamed.
count_part() {
	local part=$1 passed=$2 failed=$3
	if [ $((passed + failed)) -eq 0 ]; then
		echo "$part: found no test to run"
		failed=1
	fi
	summary+=("$part $passed $failed")
}

# Counts the lines of a file that match.
count_lines() { grep -cE "$1" "$2" || true; }

# Prints the summary, and as the last line the totals; fails unless all is well.
print_summary() {
	local line part passed failed all_passed=0 all_failed=0
	cj_heading "summary, PostgreSQL $(cj_major)"
	for line in "${summary[@]}"; do
		read -r part passed failed <<<"$line"
		printf '%-10s %5d ok %5d not ok\n' "$part" "$passed" "$failed"
		all_passed=$((all_passed + passed))
		all_failed=$((all_failed + failed))
	done
	echo "$all_passed passed, $all_failed failed"
	[ "$all_failed" -eq 0 ] && [ "$all_passed" -gt 0 ]
}

# ---- the parts -----------------------------------------------------------------------------

# The build is itself a test: with WERROR=1 a warning ends it.
run_build() {
	cj_heading "build"
	if cj_build && cj_install; then
		echo "ok - build"
		count_part build 1 0
	else
		count_part build 0 1
		print_summary
		exit 1
	fi
}

# Lint counts its checks itself.
run_lint() {
	local log=$CJ_TMP/lint.log
	bash "$CJ_ROOT/test/lint.sh" --built "$CJ_WORK" >"$log" 2>&1 || true
	grep -vE '^[0-9]+ passed, [0-9]+ failed$' "$log" || true
	count_part lint "$(count_lines '^ok - ' "$log")" "$(count_lines '^not ok - ' "$log")"
}

# Prints a variable of the Makefile.
make_variable() {
	make -C "$CJ_WORK" -s --no-print-directory PG_CONFIG="$PG_CONFIG" \
		--eval="print_variable: ; @echo \$($1)" print_variable
}

# Runs "make installcheck" for one of the two kinds that pg_regress knows. Its report has a line for
# each test, as TAP since version 16 and in a manner of its own before; a test without a line failed.
run_installcheck() {
	local part=$1 list=$2 diffs=$3 log=$CJ_TMP/$1.log wanted passed failed status=0
	shift 3
	wanted=$(make_variable "$list" | wc -w)
	if [ "$wanted" -eq 0 ]; then
		count_part "$part" 0 0
		return
	fi
	cj_as_user timeout --foreground -k 30 "$part_limit" make -C "$CJ_WORK" -s PG_CONFIG="$PG_CONFIG" \
		installcheck "$@" >"$log" 2>&1 || status=$?
	cat "$log"
	passed=$(count_lines '^(ok [0-9]+ |(test)? +[^ ]+ +\.\.\. ok)' "$log")
	failed=$((wanted - passed))
	if [ "$status" -ne 0 ] && [ "$failed" -le 0 ]; then failed=1; fi
	if [ "$failed" -gt 0 ]; then
		[ ! -s "$CJ_WORK/$diffs" ] || head -n 400 "$CJ_WORK/$diffs"
		tail -n 30 "$CJ_SERVER_LOG"
	fi
	count_part "$part" "$passed" "$failed"
}

# SQL contract and error texts. In the database that is there already: pg_cron's launcher is
# connected to it, so that it could not be dropped.
run_regress() {
	run_installcheck regress REGRESS regression.diffs ISOLATION= EXTRA_REGRESS_OPTS=--use-existing
}

# What two sessions do to each other.
run_isolation() {
	run_installcheck isolation ISOLATION output_iso/regression.diffs REGRESS=
}

# Runs a part whose files print TAP, one file at a time, so that each failure has its file's name.
# The arguments after the pattern are the command, to which the file is added.
run_tap_files() {
	local part=$1 pattern=$2 file name passed=0 failed=0
	shift 2
	while read -r file; do
		run_tap_file "$part" "$file" "$@"
		passed=$((passed + file_passed))
		failed=$((failed + file_failed))
	done < <(cd "$CJ_WORK" && compgen -G "$pattern" | sort)
	count_part "$part" "$passed" "$failed"
}

# Runs one such file and sets file_passed and file_failed. Skipped tests are neither; failures that
# are expected ("todo") are passed. A file that ends badly has failed even if none of its tests did.
run_tap_file() {
	local part=$1 file=$2 log status=0
	shift 2
	log=$CJ_TMP/$part-$(basename "$file").log
	cj_as_user env -C "$CJ_WORK" timeout --foreground -k 30 "$file_limit" "$@" "$file" >"$log" 2>&1 </dev/null ||
		status=$?
	file_passed=$(grep -E '^(ok |not ok .*# todo)' -i "$log" | grep -vicE '^ok .*# skip' || true)
	file_failed=$(grep -E '^not ok ' "$log" | grep -vicE '# todo' || true)
	if [ "$status" -ne 0 ] && [ "$file_failed" -eq 0 ]; then file_failed=1; fi
	if [ $((file_passed + file_failed)) -eq 0 ]; then
		printf '%-40s no test ran\n' "$file"
		grep -iE 'skip' "$log" | head -n 5 || true
		file_failed=1
	elif [ "$file_failed" -eq 0 ]; then
		printf '%-40s %4d ok\n' "$file" "$file_passed"
	else
		printf '%-40s %4d ok %4d not ok\n' "$file" "$file_passed" "$file_failed"
		[ "$status" -ne 124 ] || echo "ended after $file_limit s"
		grep -vE '^ok ' "$log" | head -n 200 || true
		show_server_logs "$(basename "$file" .pl)"
	fi
}

# Prints the end of what a TAP test and its servers logged.
show_server_logs() {
	local name=$1 log
	[ -n "$tap_logs" ] || return 0
	for log in "$tap_logs/regress_log_$name" "$tap_logs/$name"_*.log; do
		[ -f "$log" ] || continue
		echo "--- the end of $(basename "$log"):"
		tail -n 60 "$log"
	done
}

# Each job's behaviour. The files make what they need and roll it back.
run_pgtap() {
	cj_psql -q -d postgres -c 'CREATE DATABASE pgtap'
	cj_psql -q -d pgtap -c 'CREATE EXTENSION pgtap'
	run_tap_files pgtap 'test/pgtap/*.sql' \
		pg_prove --verbose --norc --psql-bin "$CJ_BINDIR/psql" --dbname pgtap
}

# What needs servers of its own: crashes, restarts, pg_cron, the worker. The environment is that of
# PGXS's prove_installcheck.
run_tap() {
	local folder=$CJ_TMP/tap
	tap_logs=$folder/tmp_check/log
	cj_as_user mkdir -p "$tap_logs"
	run_tap_files tap 'test/t/*.pl' env \
		TESTDIR="$folder" TESTDATADIR="$folder/tmp_check" TESTLOGDIR="$tap_logs" \
		PATH="$CJ_BINDIR:$PATH" PGPORT=65432 PERL5LIB="$CJ_PGXS/src/test/perl:$CJ_WORK/test/t" \
		PG_REGRESS="$CJ_PGXS/src/test/regress/pg_regress" prove --verbose --norc
}

# --------------------------------------------------------------------------------------------

# Reads the command line into "parts".
read_arguments() {
	while [ $# -gt 0 ]; do
		case $1 in
		--only)
			[[ " ${all_parts[*]} " == *" ${2:-} "* ]] || cj_die "--only takes one of: ${all_parts[*]}"
			parts+=("$2")
			shift 2
			;;
		*) cj_die "unknown argument \"$1\": see the top of test/check.sh" ;;
		esac
	done
	[ "${#parts[@]}" -gt 0 ] || parts=("${all_parts[@]}")
}

# Starts the server before the first part that needs it, and not at all for those that do not.
prepare_part() {
	case $1 in
	regress | isolation | pgtap)
		[ -d "$CJ_DATA" ] || cj_start_server contrib_regression
		;;
	tap) cj_stop_server ;;
	esac
}

read_arguments "$@"
cj_begin
cj_install_packages build server test lint
cj_use_server_programs
run_build
for part in "${parts[@]}"; do
	cj_heading "$part"
	prepare_part "$part"
	"run_$part"
done
print_summary
