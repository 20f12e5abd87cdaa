#!/bin/bash
#
# Whether the documentation says what is true: reference.md names what the catalog has and nothing else, the SQL of every
# page runs, links lead somewhere. Each check is a line "ok" or "not ok"; the last line counts them.
#
#   bash test/docs.sh              installs what it needs, builds, installs, checks
#   bash test/docs.sh --installed  checks with the extension that is installed already
#
# A block that begins with "```sql" is run, with the others of its page in one database: that of the demo app, with the
# extension, unless the page creates it. One that cannot be run begins with "```sql no-run".
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0
failed=0

# Runs a check, which fails by printing what is wrong, and counts it.
check() {
	local name=$1 output
	shift
	output=$("$@" 2>&1) || output+=$'\n'"(it ended with status $?)"
	if [ -z "$output" ]; then
		echo "ok - $name"
		passed=$((passed + 1))
	else
		echo "not ok - $name"
		printf '%s\n' "$output" | sed 's/^/    /'
		failed=$((failed + 1))
	fi
}

# ---- links ---------------------------------------------------------------------------------

# Prints a page without its blocks of code.
prose() { awk '/^```/ { code = !code } !code' "$1"; }

# Prints the anchors that a page has: its headings as GitHub spells them.
anchors() { prose "$1" | sed -nE 's/^#+ //; T; s/.*/\L&/; s/[^[:alnum:] _-]//g; s/ /-/g; p'; }

# Prints the links of a page that lead nowhere.
broken_links() {
	local page=$1 link file
	{ prose "$page" | grep -oE '\]\([^) ]+\)' || true; } | sed 's/^](//; s/)$//' | while read -r link; do
		case $link in
		*://*) continue ;;
		'#'*) file=$page ;;
		*) file=$(dirname "$page")/${link%%#*} ;;
		esac
		if ! [ -e "$file" ]; then
			echo "$page: $link"
		elif [[ $link == *'#'* ]] && ! anchors "$file" | grep -xF -- "${link#*#}" >/dev/null; then
			echo "$page: $link"
		fi
	done
}

# Prints broken links of all pages, and pages of the manual that README does not link to.
check_links() {
	local page
	for page in *.md doc/*.md src/*.md src/*/*.md test/*.md examples/*/*.md; do broken_links "$page"; done
	for page in doc/*.md; do grep -F "]($page" README.md >/dev/null || echo "README.md: no link to $page"; done
}

# ---- reference.md --------------------------------------------------------------------------

# Prints a line for each thing that the catalog has, and for each key of an alert.
catalog() {
	cj_psql -q -d "$1" -c "INSERT INTO challenge_jobs.stats_view VALUES ('no.view')" \
		-c "CALL challenge_jobs.run('refresh_challenge_stats')" >"$CJ_TMP/failure" 2>&1 || true
	cj_psql -Atq -F ' ' -d "$1" <<-'SQL'
		SET intervalstyle = postgres_verbose;
		CREATE TEMPORARY VIEW member AS
		SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'challenge_jobs';

		SELECT 'function', replace(regexp_replace(format('%s(%s) %s', p.oid::regproc,
		           regexp_replace(pg_get_function_arguments(p.oid), ',? ?OUT .*$|\mIN ', '', 'g'),
		           COALESCE((SELECT string_agg(format('%s %s', o.name, format_type(o.type, NULL)), ', ' ORDER BY o.n)
		                       FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes)
		                            WITH ORDINALITY o(name, type, mode, n)
		                      WHERE o.mode IN ('o', 't')),
		                    CASE p.prokind WHEN 'p' THEN 'procedure' ELSE p.prorettype::regtype::text END)),
		           '::[a-z]+( with time zone)?|@ ', '', 'g'), 'timestamp with time zone', 'timestamptz')
		  FROM member m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass;

		SELECT c.oid::regclass, CASE c.relkind WHEN 'v' THEN '(view)' ELSE '(table)' END, a.attname,
		       replace(format_type(a.atttypid, NULL), 'timestamp with time zone', 'timestamptz')
		  FROM member m JOIN pg_class c ON c.oid = m.objid JOIN pg_attribute a ON a.attrelid = c.oid
		 WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped;

		SELECT 'job', job, schedule, replace(max_runtime::text, '@ ', ''), max_retries,
		       replace(retry_delay::text, '@ ', ''), catch_up, replace(grace::text, '@ ', '')
		  FROM challenge_jobs.job_default();
		SELECT 'setting', d.job, s.key, s.value FROM challenge_jobs.job_default() d, jsonb_each_text(d.settings) s;

		SELECT 'server setting', name, context,
		       CASE WHEN boot_val = '' THEN 'none' ELSE replace((boot_val || unit)::interval::text, '@ ', '') END
		  FROM pg_settings WHERE name LIKE 'challenge\_jobs.%';

		SELECT 'value', format('%s.%s', c.relname, a.attname), v[1]
		  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
		  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1],
		       regexp_matches(pg_get_constraintdef(k.oid), '''([a-z_]+)''::text', 'g') v
		 WHERE k.conname IN ('job_run_status_check', 'alert_kind_check');

		CALL challenge_jobs.run('auto_complete_challenges');
		CALL challenge_jobs.run('send_streak_reminders');
		SELECT 'alert key', jsonb_object_keys(payload) FROM challenge_jobs.alert;
		SELECT DISTINCT 'metric', name, (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(labels) k)
		  FROM challenge_jobs.metrics;
	SQL
}

# Prints the same lines from the tables of reference.md.
reference() {
	awk -F'|' '
		function cell(n,    text) {
			text = $n
			gsub(/^ +| +$|`/, "", text)
			return text
		}
		/^## / { section = substr($0, 4); job = substr($0, 16) }
		/^### / { relation = substr($0, 5) }
		!/^\| `/ { next }
		section == "Functions" { print "function", cell(2), cell(3) }
		section ~ / tables$/ { print relation, cell(2), cell(3) }
		section == "Settings of all jobs" && NF == 9 {
			print "job", cell(2), cell(3), cell(4), cell(5), cell(6), cell(7), cell(8)
		}
		section ~ /^Settings of [^ ]+$/ { print "setting", job, cell(2), cell(3) }
		section == "Server settings" { split(cell(5), context, ":"); print "server setting", cell(2), context[1], cell(3) }
		section == "Statuses" && cell(2) ~ /^(job_run|alert)\./ {
			sub(/:.*/, "", $3)
			count = split(cell(3), values, ", ")
			for (i = 1; i <= count; i++) print "value", cell(2), values[i]
		}
		section == "Metrics" { print "metric", cell(2), cell(3) }
		section == "Alert JSON" && cell(3) ~ /^(always|of a run)$/ {
			count = split(cell(2), keys, ", ")
			for (i = 1; i <= count; i++)
				if (keys[i] !~ /^(alert_id|delivery)$/) print "alert key", keys[i]
		}
	' doc/reference.md
}

# Prints what only one of the two has.
check_reference() {
	catalog "$1" | sort >"$CJ_TMP/catalog"
	reference | sort >"$CJ_TMP/reference.md"
	[ "$(wc -l <"$CJ_TMP/catalog")" -gt 200 ] || echo "the catalog has too little to be compared"
	(cd "$CJ_TMP" && diff -U0 catalog reference.md | grep -vE '^@@') || true
}

# Prints figures of the jobs that their pages do not name.
check_figures() {
	local job key
	cj_psql -q -d "$1" -c 'DELETE FROM challenge_jobs.stats_view' -c "CALL challenge_jobs.run('refresh_challenge_stats')" \
		-c "CALL challenge_jobs.run('send_streak_reminders')" -c "CALL challenge_jobs.run('cleanup_expired_notifications')"
	cj_psql -Atq -F ' ' -d "$1" -c 'SELECT DISTINCT job, jsonb_object_keys(result) FROM challenge_jobs.job_run' |
		while read -r job key; do
			grep -E "[\`\"]${key}[\`\"]" "doc/job-$job.md" >/dev/null || echo "doc/job-$job.md does not name $key"
		done
}

# Prints errors of when-it-fails.md that the sources do not raise: of each, the longest part without a name is looked for.
check_errors() {
	local part
	cat src/*.c src/*/*.c src/*/*/*.c | tr -d '\n\t' | sed 's/" *"//g; s/\\"/"/g' >"$CJ_TMP/sources"
	awk -F'|' '
		/^## / { on = /^## Errors of challenge_jobs/ }
		on && /^\| `/ {
			count = split($2, texts, "`")
			for (i = 2; i <= count; i += 2) print texts[i]
		}' doc/when-it-fails.md | awk -F'"…"?|…"?' '{
			part = ""
			for (i = 1; i <= NF; i++) if (length($i) > length(part)) part = $i
			print part
		}' | while read -r part; do
		grep -F -- "$part" "$CJ_TMP/sources" >/dev/null || echo "when-it-fails.md: no error with \"$part\""
	done
}

# ---- SQL -----------------------------------------------------------------------------------

# Makes a database with the demo app and, if asked, the extensions; it becomes that of pg_cron.
make_database() {
	local name=$1 extensions=${2:-}
	cj_psql -q -d postgres -c "CREATE DATABASE $name TEMPLATE demo"
	echo "cron.database_name = '$name'" | cj_as_user tee -a "$CJ_DATA/postgresql.conf" >/dev/null
	cj_restart_server
	if [ -n "$extensions" ]; then
		cj_psql -q -d "$name" -c 'CREATE EXTENSION pg_cron' -c 'CREATE EXTENSION challenge_jobs'
	fi
}

# Runs the blocks of a page, and prints those that fail.
run_blocks() {
	local page=$1 name folder block extensions=1
	name=docs_$(basename "${page,,}" .md | tr - _)
	folder=$CJ_TMP/$name
	mkdir "$folder"
	awk -v folder="$folder" '
		/^```/ { file = $0 == "```sql" ? sprintf("%s/%05d", folder, NR) : ""; next }
		file { print > file }' "$page"
	if grep -q '^CREATE EXTENSION challenge_jobs;' "$page"; then extensions=; fi
	make_database "$name" "$extensions"
	for block in "$folder"/*; do
		[ -e "$block" ] || continue
		cj_psql -d "$name" -f "$block" >"$block.out" 2>&1 || {
			echo "$page:$((10#$(basename "$block"))):"
			tail -n 5 "$block.out"
		}
	done
}

# --------------------------------------------------------------------------------------------

cj_begin
if [ "${1:-}" = --installed ]; then
	cj_use_server_programs
else
	cj_install_packages build server
	cj_build_and_install
fi
cd "$CJ_ROOT"
check links check_links
check errors check_errors
# No worker and no cron job comes between the statements of a page.
cj_start_server docs cron.launch_active_jobs=off
cj_psql -q -d postgres -c 'CREATE DATABASE demo'
cj_psql -q -d demo -v challenges_due=30 -v challenges_late=10 -v challenges_running=40 -v challenges_decided=10 \
	-f test/fixtures/demo_app.sql -c 'CREATE ROLE operator' -c 'CREATE ROLE api' -c 'CREATE ROLE dashboard' -c 'CREATE ROLE other'
if [ -e "$("$PG_CONFIG" --pkglibdir)/pg_cron.so" ]; then
	make_database docs_catalog extensions
	check reference check_reference docs_catalog
	check figures check_figures docs_catalog
	for page in README.md doc/*.md; do check "SQL of $page" run_blocks "$page"; done
else
	echo "skipped - SQL and reference: pg_cron is not installed"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
