#!/bin/bash
#
# Everything that can be checked, on a machine with nothing but bash and apt: installs what is
# missing, builds with every warning an error, and runs all tests on throwaway servers.
#
#   bash test/check.sh                 all parts
#   bash test/check.sh --only PART     one of: lint docs regress isolation pgtap tap examples (may be repeated)
#   bash test/check.sh FILE...         test files of any kind: sql/rights.sql test/t/021_worker.pl
#
# The part "examples" is left out where PG_MAJOR is given, unless it is asked for by --only: what it tries
# is the folders of examples/, on which the major makes no difference, and it fetches programs for them.
#
#   PG_MAJOR=17                        another major version than the newest that the machine has packages of
#   PG_CONFIG=/path/to/pg_config       another installation
#
# What is skipped is named in the summary, with the reason. The last line is "N passed, N failed"; the exit
# status is 0 if none failed and some passed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

all_parts=(lint docs regress isolation pgtap tap examples)
parts=()
# Where files are named on the command line: the part of each. Empty: all files of the parts.
declare -A part_of_file=()
# One line for each part: name, passed, failed.
summary=()
# One line for each file or part that was skipped as a whole, with the reason.
skipped=()

# Whether a major was asked for: then examples/ is not tried by default.
major_given=${PG_MAJOR:+1}

# No test may take longer than this: one that hangs has failed. (In the foreground, since a Ctrl-C
# would not reach it elsewhere.)
part_limit=1800
file_limit=900

# Where the servers of the TAP tests log, once there are any.
tap_logs=

# What is done before each file that prints TAP.
before_file=:

# How many such files run side by side. Only those that have servers of their own can.
files_at_once=1

# ---- counting ------------------------------------------------------------------------------

# Notes how a part went. A part without a single test has failed: something is missing or misnamed;
# unless all of its files were skipped, each for a reason of its own.
count_part() {
	local part=$1 passed=$2 failed=$3 files_skipped=${4:-0}
	if [ $((passed + failed + files_skipped)) -eq 0 ]; then
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
	if [ "${#skipped[@]}" -gt 0 ]; then printf 'skipped: %s\n' "${skipped[@]}"; fi
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

# So do the checks of the documentation, on a server of their own.
run_docs() {
	local log=$CJ_TMP/docs.log
	bash "$CJ_ROOT/test/docs.sh" --installed >"$log" 2>&1 || grep -q '^not ok - ' "$log" ||
		echo "not ok - test/docs.sh came to no end" >>"$log"
	grep -vE '^[0-9]+ passed, [0-9]+ failed$' "$log" || true
	count_part docs "$(count_lines '^ok - ' "$log")" "$(count_lines '^not ok - ' "$log")"
}

# Prints a variable of the Makefile.
make_variable() {
	make -C "$CJ_WORK" -s --no-print-directory PG_CONFIG="$PG_CONFIG" \
		--eval="print_variable: ; @echo \$($1)" print_variable
}

# Prints the names of the tests of one of the two kinds that pg_regress knows.
installcheck_tests() {
	local part=$1 list=$2 file
	if [ "${#part_of_file[@]}" -eq 0 ]; then
		make_variable "$list"
		return
	fi
	for file in "${!part_of_file[@]}"; do
		if [ "${part_of_file[$file]}" = "$part" ]; then basename "${file%.*}"; fi
	done
}

# Runs "make installcheck" for one of the two kinds that pg_regress knows. Its report has a line for
# each test, as TAP since version 16 and in a manner of its own before; a test without a line failed.
run_installcheck() {
	local part=$1 list=$2 diffs=$3 log=$CJ_TMP/$1.log tests wanted passed failed status=0
	shift 3
	tests=$(installcheck_tests "$part" "$list" | xargs)
	wanted=$(wc -w <<<"$tests")
	if [ "$wanted" -eq 0 ]; then
		count_part "$part" 0 0
		return
	fi
	cj_as_user timeout --foreground -k 30 "$part_limit" make -C "$CJ_WORK" -s PG_CONFIG="$PG_CONFIG" \
		installcheck "$list=$tests" "$@" >"$log" 2>&1 || status=$?
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

# Runs a part whose files print TAP, each by itself, so that each failure has its file's name; "files_at_once" of
# them side by side. The arguments after the pattern are the command, to which the file is added.
run_tap_files() {
	local part=$1 pattern=$2 file report p f s passed=0 failed=0 files_skipped=0 reports=()
	shift 2
	while read -r file; do
		[ "${#part_of_file[@]}" -eq 0 ] || [ -n "${part_of_file[$file]:-}" ] || continue
		while [ "$(jobs -pr | wc -l)" -ge "$files_at_once" ]; do wait -n || true; done
		"$before_file"
		report=$CJ_TMP/$part-$(basename "$file")
		reports+=("$report")
		report_tap_file "$report" "$part" "$file" "$@" &
	done < <(cd "$CJ_WORK" && compgen -G "$pattern" | sort)
	wait
	for report in "${reports[@]}"; do
		read -r p f s <"$report.counts" || { p=0 f=1 s=0; }
		passed=$((passed + p))
		failed=$((failed + f))
		files_skipped=$((files_skipped + s))
		if [ "$s" -gt 0 ]; then skipped+=("$(cat "$report.reason")"); fi
	done
	count_part "$part" "$passed" "$failed" "$files_skipped"
}

# Runs one such file, shows how it went when it is done, and leaves its counts in files named after the report.
report_tap_file() {
	local report=$1
	shift
	run_tap_file "$report" "$@" >"$report.txt" 2>&1 || file_failed=$((${file_failed:-0} + 1))
	cat "$report.txt"
	echo "${file_passed:-0} ${file_failed:-1} ${file_skipped:-0}" >"$report.counts"
}

# Runs one such file and sets file_passed, file_failed and file_skipped (1 for a file that says by the plan
# "1..0 # skip REASON" that it cannot be run here). Skipped tests are neither passed nor failed; failures that
# are expected ("todo") are passed. A file that ends badly has failed even if none of its tests did.
run_tap_file() {
	local report=$1 part=$2 file=$3 log=$1.log reason status=0 start=$SECONDS
	shift 3
	cj_as_user env -C "$CJ_WORK" timeout --foreground -k 30 "$file_limit" "$@" "$file" >"$log" 2>&1 </dev/null ||
		status=$?
	file_passed=$(grep -E '^(ok |not ok .*# todo)' -i "$log" | grep -vicE '^ok .*# skip' || true)
	file_failed=$(grep -E '^not ok ' "$log" | grep -vicE '# todo' || true)
	if [ "$status" -ne 0 ] && [ "$file_failed" -eq 0 ]; then file_failed=1; fi
	reason=$(sed -nE '/^1\.\.0 *# *skip/I { s/^1\.\.0 *# *skip[a-z]* *//I; p; q }' "$log")
	file_skipped=0
	if [ $((file_passed + file_failed)) -eq 0 ] && [ -n "$reason" ]; then
		printf '%-40s skipped: %s\n' "$file" "$reason"
		echo "$file: $reason" >"$report.reason"
		file_skipped=1
	elif [ $((file_passed + file_failed)) -eq 0 ]; then
		printf '%-40s no test ran\n' "$file"
		grep -iE 'skip' "$log" | head -n 5 || true
		file_failed=1
	elif [ "$file_failed" -eq 0 ]; then
		printf '%-40s %4d ok %13d s\n' "$file" "$file_passed" $((SECONDS - start))
	else
		printf '%-40s %4d ok %4d not ok %4d s\n' "$file" "$file_passed" "$file_failed" $((SECONDS - start))
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
	files_at_once=$(nproc)
	run_tap_files tap 'test/t/*.pl' env \
		TESTDIR="$folder" TESTDATADIR="$folder/tmp_check" TESTLOGDIR="$tap_logs" \
		PATH="$CJ_BINDIR:$PATH" PGPORT=65432 PERL5LIB="$CJ_PGXS/src/test/perl:$CJ_WORK/test/t" \
		PG_REGRESS="$CJ_PGXS/src/test/regress/pg_regress" prove --verbose --norc
	files_at_once=1
}

# The folders of examples/, as they stand. test/examples/harness.py says what such a test finds.
run_examples() {
	make_examples_template
	before_file=make_examples_database
	run_tap_files examples 'test/examples/[0-9][0-9][0-9]_*' env \
		CJ_ROOT="$CJ_WORK" CJ_DATA="$CJ_DATA" CJ_SERVER_LOG="$CJ_SERVER_LOG" PGDATABASE=examples \
		PATH="$CJ_BINDIR:$CJ_TMP/programs/usr/bin:$PATH"
	before_file=:
	cj_remove_server
}

# Makes what each test of an example begins with: a small demo app, and the extension.
make_examples_template() {
	cj_psql -q -d postgres -c 'CREATE DATABASE examples_template'
	cj_psql -q -d examples_template -v challenges_due=3 -v challenges_late=3 -v challenges_running=6 \
		-v challenges_decided=6 -v members=4 -v notifications_per_user=3 -f "$CJ_ROOT/test/fixtures/demo_app.sql"
	cj_psql -q -d examples_template -c 'CREATE EXTENSION challenge_jobs'
}

# Makes the database of one test anew, and takes back the settings of the one before.
make_examples_database() {
	cj_as_user rm -f "$CJ_DATA/examples.conf"
	cj_psql -Atqo /dev/null -d postgres -c 'SET client_min_messages = warning' -c 'SELECT pg_reload_conf()' \
		-c 'DROP DATABASE IF EXISTS examples WITH (FORCE)' -c 'CREATE DATABASE examples TEMPLATE examples_template'
	# a copy runs nothing until somebody says so; and a run that is held up is to wait for longer than a job does that
	# holds locks, which is less than half of this
	cj_psql -q -d examples -o /dev/null -c 'SELECT FROM challenge_jobs.resume()' \
		-c "ALTER DATABASE examples SET deadlock_timeout = '10min'"
}

# --------------------------------------------------------------------------------------------

# Prints the part that a test file belongs to.
part_of() {
	case $1 in
	sql/*--*) ;;
	sql/*.sql) echo regress ;;
	test/isolation/specs/*.spec) echo isolation ;;
	test/pgtap/*.sql) echo pgtap ;;
	test/t/*.pl) echo tap ;;
	test/examples/[0-9][0-9][0-9]_*) echo examples ;;
	esac
}

# Adds a test file, named from anywhere, and its part.
add_file() {
	local file part
	file=$(realpath --relative-to="$CJ_ROOT" -- "$1")
	part=$(part_of "$file")
	if [ -z "$part" ] || ! [ -f "$CJ_ROOT/$file" ]; then
		cj_die "\"$1\" is no test file: see the top of test/check.sh"
	fi
	part_of_file[$file]=$part
	[[ " ${parts[*]} " == *" $part "* ]] || parts+=("$part")
}

# Reads the command line into "parts".
read_arguments() {
	while [ $# -gt 0 ]; do
		case $1 in
		--only)
			[[ " ${all_parts[*]} " == *" ${2:-} "* ]] || cj_die "--only takes one of: ${all_parts[*]}"
			parts+=("$2")
			shift 2
			;;
		-*) cj_die "unknown argument \"$1\": see the top of test/check.sh" ;;
		*)
			add_file "$1"
			shift
			;;
		esac
	done
	if [ "${#parts[@]}" -eq 0 ]; then choose_default_parts; else order_parts; fi
}

# Puts the parts into the order of all_parts, since that of the TAP tests stops the server of those before it.
order_parts() {
	local part wanted=" ${parts[*]} "
	parts=()
	for part in "${all_parts[@]}"; do
		[[ "$wanted" != *" $part "* ]] || parts+=("$part")
	done
}

# All parts, but for the examples where a major is asked for.
choose_default_parts() {
	local part
	for part in "${all_parts[@]}"; do
		if [ "$part" = examples ] && [ -n "$major_given" ]; then
			skipped+=("examples: not tried by default where PG_MAJOR is given")
		else
			parts+=("$part")
		fi
	done
}

# Starts the server before the first part that needs it, and not at all for those that do not.
prepare_part() {
	case $1 in
	regress | isolation | pgtap)
		[ -d "$CJ_DATA" ] || cj_start_server contrib_regression
		;;
	tap) cj_stop_server ;;
	examples)
		cj_remove_server
		cj_start_server postgres challenge_jobs.databases=examples challenge_jobs.worker_naptime=1s \
			include_if_exists=examples.conf
		# A test says itself what it lacks.
		(cj_install_packages examples) || cj_note "packages for examples/ are missing"
		cj_unpack_program redis-server redis-tools redis-server || cj_note "redis-server is missing"
		cj_unpack_program prometheus prometheus || cj_note "prometheus is missing"
		cj_unpack_program prometheus-postgres-exporter prometheus-postgres-exporter || cj_note "the exporter is missing"
		;;
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
