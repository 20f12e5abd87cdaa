#!/bin/bash
#
# What can be said of the sources without running them. Each check is a line "ok", "not ok" or
# "skipped"; the last line counts them.
#
#   bash test/lint.sh                 installs what it needs, builds a copy, checks it
#   bash test/lint.sh --built FOLDER  checks a copy of the sources that is built already
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0
failed=0

# Runs one check and counts it: a check fails by its status, and says on its output why. A check that
# cannot be made prints the reason and returns 77.
check() {
	local name=$1 output status
	# Not "|| status=$?", which would have the check go on after a command that failed.
	set +e
	output=$(set -e && "check_$name" 2>&1)
	status=$?
	set -e
	case $status in
	0)
		echo "ok - $name"
		passed=$((passed + 1))
		;;
	77) echo "skipped - $name: $output" ;;
	*)
		echo "not ok - $name"
		printf '%s\n' "$output" | sed 's/^/    /'
		failed=$((failed + 1))
		;;
	esac
}

# Prints its input and fails if there is any: the way of checks that look for what must not be.
nothing_found() {
	local found
	found=$(cat)
	[ -z "$found" ] || {
		printf '%s\n' "$found"
		return 1
	}
}

# Prints the C sources and headers.
source_files() { find src -name '*.[ch]' | sort; }

# The version of the control file.
control_version() { sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" challenge_jobs.control; }

# Prints the install script without comments and without the bodies of functions.
install_script() {
	perl -0777 -pe '
		s{/\*.*?\*/}{}gs; s{--[^\n]*}{}g;
		s{\$(\w*)\$.*?\$\1\$}{\x27\x27}gs;
	' "sql/challenge_jobs--$(control_version).sql"
}

# ---- the checks ----------------------------------------------------------------------------

# One layout, so that a diff shows what changed.
check_format() {
	command -v clang-format-14 >/dev/null || {
		echo "clang-format-14 is not to be had on this system"
		return 77
	}
	find src test -name '*.[ch]' -exec clang-format-14 --dry-run -Werror {} +
}

# Prints "module header" for each of our headers that a file includes: config/pg_cron base/sql.
our_includes() {
	source_files | xargs grep -HoE '^#include "[^"]+\.h"' |
		sed -E 's,^src/(.*)\.[ch]:#include "(.*)\.h"$,\1 \2,' |
		while read -r module header; do
			if [ -f "src/$header.h" ] && [ "$module" != "$header" ]; then echo "$module $header"; fi
		done | sort -u
}

# A file includes headers of its own folder and of those that the table of src/README.md names for it.
check_folders() {
	our_includes | awk -F'|' '
		function folder(module) { return sub("/[^/]*$", "", module) ? module : "" }
		FNR == NR {
			if ($2 ~ /^ `[a-z\/]+\/` $/) {
				gsub("[ `]|/`", "", $2)
				gsub(" ", "", $4)
				uses[$2] = "," $4 ","
			}
			next
		}
		{
			split($0, module, " ")
			from = folder(module[1])
			to = folder(module[2])
			if (from == "" || from == to) next
			if (!(from in uses)) print module[1] ": the table of src/README.md does not name " from "/"
			else if (index(uses[from], "," to ",") == 0) print module[1] " includes " module[2] ": " from "/ may not use " to "/"
		}' src/README.md - | nothing_found
}

check_no_circles() {
	our_includes | tsort 2>&1 >/dev/null | nothing_found
}

# All extensions share one process: what ours exports is only what PostgreSQL looks up by name.
check_exported_symbols() {
	[ -f challenge_jobs.so ] || {
		echo "challenge_jobs.so is not built"
		return 1
	}
	local symbols
	symbols=$(nm -D --defined-only challenge_jobs.so | awk '{print $NF}')
	{ grep -vE '^(cj_.*|pg_finfo_cj_.*|Pg_magic_func|_PG_init)$' <<<"$symbols" || true; } | nothing_found
	grep -qx _PG_init <<<"$symbols" || {
		echo "_PG_init is not exported: is it marked PGDLLEXPORT?"
		return 1
	}
}

# CREATE EXTENSION would fail late, with an error about one function, where this lists them all.
check_sql_functions_exist() {
	local symbols
	symbols=$(nm -D --defined-only challenge_jobs.so | awk '{print $NF}')
	{ install_script | grep -oE "'MODULE_PATHNAME' *, *'[^']+'" || true; } |
		sed -E "s/.*'([^']+)'$/\1/" | sort -u | while read -r name; do
		grep -qx "$name" <<<"$symbols" || echo "$name is in the install script, not in challenge_jobs.so"
		grep -qx "pg_finfo_$name" <<<"$symbols" || echo "$name lacks PG_FUNCTION_INFO_V1"
	done | nothing_found
}

# Differences between majors live in one file, where they can be seen together and dropped one day.
check_version_differences_in_compat() {
	source_files | { grep -v '^src/base/compat\.h$' || true; } |
		{ xargs grep -n PG_VERSION_NUM /dev/null || true; } | nothing_found
}

# The control file holds the version; META.json has to say it again, in three numbers.
check_meta_agrees_with_control() {
	VERSION=$(control_version) perl -MJSON::PP -0777 -e '
		my $meta = decode_json(<STDIN>);
		my $want = $ENV{VERSION};
		$want .= ".0" while ($want =~ tr/.//) < 2;
		my @bad;
		for (qw(name abstract version maintainer license provides meta-spec)) {
			push @bad, "META.json lacks \"$_\"" unless $meta->{$_};
		}
		my $extension = $meta->{provides}{challenge_jobs} || {};
		push @bad, "META.json: version is not $want" if $meta->{version} ne $want;
		push @bad, "META.json: version of provides is not $want" if ($extension->{version} || "") ne $want;
		push @bad, "META.json: meta-spec is not 1.0.0" if $meta->{"meta-spec"}{version} ne "1.0.0";
		for (qw(file docfile)) {
			push @bad, "META.json: $_ of provides is not there" unless -f ($extension->{$_} || "");
		}
		print map { "$_\n" } @bad;
		exit(@bad ? 1 : 0);
	' <META.json
	[ -f "sql/challenge_jobs--$(control_version).sql" ] || {
		echo "sql/ has no install script of version $(control_version)"
		return 1
	}
}

# Whoever lists the objects with psql reads there what each is for.
check_objects_are_commented() {
	install_script | perl -0777 -ne '
		my (%made, %commented, $bad);
		my $kinds = "FUNCTION|PROCEDURE|TABLE|VIEW|SCHEMA|TYPE|DOMAIN|SEQUENCE|EVENT TRIGGER";
		$made{"$1 " . lc $2}++
			while /\bCREATE\s+(?:OR\s+REPLACE\s+)?($kinds)\s+(?:IF\s+NOT\s+EXISTS\s+)?([^\s(;]+)/gi;
		$commented{"$1 " . lc $2}++ while /\bCOMMENT\s+ON\s+($kinds)\s+([^\s(;]+)/gi;
		for (sort keys %made) {
			next if ($commented{$_} || 0) >= $made{$_};
			print "$_ has no COMMENT ON\n"; $bad = 1;
		}
		unless (%made) { print "the install script makes nothing\n"; $bad = 1 }
		exit($bad ? 1 : 0);
	'
}

# What is left to do belongs in the tracker. (The brackets keep this line from finding itself.)
check_no_leftover_notes() {
	{ grep -rnIE '\b(TOD[O]|FIXM[E]|XX[X])\b' --exclude-dir=.git . || true; } | nothing_found
}

# Words of our own that the field's words replaced, see the glossary in doc/reference.md; and lists of callers, which nothing
# keeps true. (The brackets keep the lines from finding themselves.)
check_plain_words() {
	{
		source_files | { xargs grep -nwiE 'ver[b]s?|wis[h]|verdict[s]?|judge[ds]?|fingerprin[t]|new[s]|unarme[d]|coars[e]|called by (cj_[a-z_]+|the (job|runner|worker))' /dev/null || true; }
		grep -rnIiE 'left[ _]ove[r]|passed[ _]ove[r]|gone on wit[h]|served_unti[l]|unserve[d]|lost_ru[n]|key_imag[e]' --include='*.[ch]' --include='*.sql' \
			--include='*.md' --include='*.pl' --include='*.spec' . || true
	} | nothing_found
}

# One process holds the functions of all extensions, and a name says where to look: cj_<noun>_<verb>, where the noun is the
# module, its group (auto_complete of jobs/auto_complete_*, alert of alerts/) or what it adds to that (decisions).
check_function_names() {
	perl -0777 -ne '
		my ($folder, $module) = $ARGV =~ m{([^/]*)/([^/]+)\.h$} or next;
		my @words = split /_/, $module;
		my %nouns = map { $_ => 1 } $folder =~ s/s$//r, map { join("_", @words[0 .. $_]), join("_", @words[$_ .. $#words]) } 0 .. $#words;
		s{/\*.*?\*/}{}gs;
		while (/^extern [^;(]*?(\w+)\(/gm) {
			my $name = $1;
			print "$ARGV: $name\n" unless grep { $name =~ /^cj_$_(_|$)/ } keys %nouns;
		}' src/*/*.h src/*/*/*.h | nothing_found
}

# A comment that names its function is wrong as soon as the function is called something else.
check_function_comments() {
	perl -0777 -ne '
		while (m{^/\*[\s*]*([a-z]\w*_\w+)\b(?:[^*]|\*(?!/))*\*/\n[A-Za-z][\w *]*\n(\w+)\(}gm) {
			print "$ARGV: the comment of $2 begins with $1\n" if $1 ne $2;
		}' src/*.c src/*/*.c src/*/*/*.c test/*/*.c | nothing_found
}

# clang-format leaves comments alone.
check_comment_width() {
	perl -CSD -ne '
		1 while s/\t/" " x (4 - length($`) % 4)/e;
		chomp;
		print "$ARGV:$.: ", length, " columns\n" if length > 125 && m{^ *(/\*|\*( |$))};
		close ARGV if eof;' src/*.c src/*/*.[ch] src/*/*/*.[ch] test/*/*.c | nothing_found
}

# The scripts' own lint, where it is installed. (SC2034: a library sets variables that others read.)
check_shell_scripts() {
	command -v shellcheck >/dev/null || {
		echo "shellcheck is not installed"
		return 77
	}
	{
		find test examples -name '*.sh'
		echo .ci/run
	} | xargs shellcheck --external-sources --source-path=SCRIPTDIR --exclude=SC2034
}

# --------------------------------------------------------------------------------------------

# Runs all checks in the folder of the built sources.
run_checks() {
	cd "$1"
	check format
	check folders
	check no_circles
	check exported_symbols
	check sql_functions_exist
	check version_differences_in_compat
	check meta_agrees_with_control
	check objects_are_commented
	check no_leftover_notes
	check plain_words
	check function_names
	check function_comments
	check comment_width
	check shell_scripts
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}

if [ "${1:-}" = --built ]; then
	run_checks "$2"
else
	cj_begin
	cj_install_packages build server lint
	cj_build || cj_die "the extension does not build"
	run_checks "$CJ_WORK"
fi
