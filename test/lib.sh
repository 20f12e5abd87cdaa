# shellcheck shell=bash
#
# What every script in test/ shares: packages, a private copy of the sources, building and
# installing, and a throwaway server. To be sourced, never run:
#
#     set -euo pipefail
#     . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#     cj_begin                                  # temporary folder, clean-up on exit and Ctrl-C
#     cj_install_packages build server          # only what is missing
#     cj_build_and_install
#     cj_start_server demo 'work_mem=64MB'      # database, then any server settings
#     cj_psql -c 'SELECT 1'
#
# Functions:
#   cj_heading TEXT            prints a heading
#   cj_note TEXT               prints a remark on standard error
#   cj_die TEXT                prints an error and ends the script with status 1
#   cj_begin                   makes CJ_TMP and arranges that it goes away with all that runs in it
#   cj_install_packages GROUP...
#                              groups: build, server, test, lint, matrix, examples; installs what is missing
#   cj_unpack_program PROGRAM PACKAGE...
#                              unless it is there, puts it into CJ_TMP/programs/usr/bin, without its service
#   cj_use_server_programs     finds the programs of the chosen PostgreSQL (called by the next three)
#   cj_copy_sources            copies the sources to CJ_WORK, where CJ_USER may write
#   cj_build                   copies the sources, unless that was done, and builds in the copy
#   cj_install                 installs what was built, as root
#   cj_build_and_install       the two together
#   cj_start_server DATABASE [SETTING=VALUE]...
#                              starts an empty server with one database of that name; pg_cron and
#                              challenge_jobs are preloaded, pg_cron works in that database
#   cj_restart_server          restarts it, with crash recovery where it was killed
#   cj_stop_server             stops it (done on exit as well)
#   cj_remove_server           stops it and removes its data, so that another can be started
#   cj_psql [ARGUMENT]...      psql on that server and database: no psqlrc, stops at the first error
#   cj_wait_until SECONDS SQL  waits until the query gives "t"; fails when the time is over
#   cj_as_user COMMAND...      runs a command as CJ_USER, in CJ_TMP
#   cj_as_root COMMAND...      runs a command as root
#
# Variables to set before (all optional):
#   PG_MAJOR                   PostgreSQL's major version, default the newest that can be had here: installed, or
#                              offered by the machine's package sources
#   PG_CONFIG                  a pg_config of another installation; nothing is installed for it
#   CJ_USER                    the account that runs the server when the caller is root
#   CJ_KEEP=1                  leave the server and CJ_TMP behind (may be set at any time)
# Variables to read afterwards:
#   CJ_ROOT CJ_TMP CJ_WORK     the sources, the temporary folder, the copy that is built
#   CJ_BINDIR CJ_PGXS          where the server's programs and the test programs of PGXS are
#   CJ_SOCKET CJ_DATA CJ_SERVER_LOG
#   PGHOST PGPORT PGUSER PGDATABASE are exported by cj_start_server

CJ_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CJ_USER=${CJ_USER:-postgres}
# The oldest major that the extension works with.
CJ_OLDEST_MAJOR=15
CJ_GIVEN_PG_CONFIG=${PG_CONFIG:-}
CJ_KEEP=${CJ_KEEP:-0}
CJ_TMP=
CJ_WORK=
CJ_DATA=
CJ_PORT=5432
CJ_APT_UPDATED=0

# ---- saying things -------------------------------------------------------------------------

# Prints a heading that stands out between the output of programs.
cj_heading() { printf '\n=== %s ===\n' "$*"; }

# Prints a remark where it cannot be taken for a result.
cj_note() { printf '%s\n' "$*" >&2; }

# Ends the script; the trap of cj_begin tidies up.
cj_die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# ---- who we are ----------------------------------------------------------------------------

# Tells whether the caller is root, on whom PostgreSQL refuses to run.
cj_is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as the account that owns the server: CJ_USER when we are root, else ourselves.
# In CJ_TMP, since the current folder may be closed to that account.
cj_as_user() {
	if cj_is_root; then
		(cd "$CJ_TMP" && exec runuser -u "$CJ_USER" -- env HOME="$CJ_TMP" "$@")
	else
		(cd "$CJ_TMP" && exec env HOME="$CJ_TMP" "$@")
	fi
}

# Runs a command with root's rights; without root or sudo it says what it wanted to do.
cj_as_root() {
	if cj_is_root; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo "$@"
	else
		cj_die "this needs root: run the script as root, allow sudo without a password, or do it yourself: $*"
	fi
}

# ---- the temporary folder ------------------------------------------------------------------

# Makes the temporary folder, and has it removed however the script ends. It lies in /tmp whatever
# TMPDIR says, since the path of a Unix socket may have no more than 107 bytes.
cj_begin() {
	# Settings of the caller's must not send us to another server, nor reach make or psql.
	local name
	for name in $(compgen -e | grep '^PG[A-Z]' || true); do
		case $name in PG_MAJOR | PG_CONFIG) ;; *) unset "$name" ;; esac
	done
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
	# The TAP modules remove LC_ALL; LANG keeps the encoding of their servers.
	export LANG=C.UTF-8 LC_ALL=C.UTF-8

	CJ_TMP=$(mktemp -d /tmp/challenge_jobs.XXXXXX)
	trap cj_end EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	CJ_WORK=$CJ_TMP/work
	CJ_SOCKET=$CJ_TMP/socket
	CJ_DATA=$CJ_TMP/data
	CJ_SERVER_LOG=$CJ_TMP/server.log
	mkdir "$CJ_SOCKET" "$CJ_TMP/tmp"
	export TMPDIR=$CJ_TMP/tmp
	cj_choose_major
	cj_give_to_user
}

# Hands the temporary folder to CJ_USER, if that account exists yet (the server's package makes it).
cj_give_to_user() {
	if cj_is_root && id "$CJ_USER" >/dev/null 2>&1; then
		chown -R "$CJ_USER:" "$CJ_TMP"
	fi
}

# Tidies up: stops every server whose data lie in CJ_TMP, also those that a test left behind.
cj_end() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	set +e
	# What runs in the background ignores a Ctrl-C by itself.
	# shellcheck disable=SC2046  # process ids
	kill $(cj_descendants $$) 2>/dev/null
	if [ "$CJ_KEEP" != 1 ] && [ -n "$CJ_TMP" ]; then
		cj_stop_leftover_servers
		rm -rf "$CJ_TMP"
	fi
	exit "$status"
}

# Prints the ids of the processes that a process has started, and of theirs; not of servers, which have no parent.
cj_descendants() {
	local child children
	read -ra children < <(cat /proc/"$1"/task/*/children 2>/dev/null)
	for child in "${children[@]}"; do
		cj_descendants "$child"
		echo "$child"
	done
}

# Stops the servers of CJ_TMP, one by one, known by the pid files in their data folders.
cj_stop_leftover_servers() {
	local pid_file
	[ -n "${CJ_BINDIR:-}" ] || return 0
	find "$CJ_TMP" -name postmaster.pid 2>/dev/null | while read -r pid_file; do
		cj_as_user "$CJ_BINDIR/pg_ctl" stop -D "$(dirname "$pid_file")" -m fast -w -t 60 >/dev/null 2>&1 ||
			cj_as_user "$CJ_BINDIR/pg_ctl" stop -D "$(dirname "$pid_file")" -m immediate >/dev/null 2>&1
	done
	return 0
}

# ---- packages ------------------------------------------------------------------------------

# Prints the major version that the scripts work with.
cj_major() {
	if [ -n "$CJ_GIVEN_PG_CONFIG" ]; then
		"$CJ_GIVEN_PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'
	else
		echo "${PG_MAJOR:-$CJ_OLDEST_MAJOR}"
	fi
}

# Sets PG_MAJOR, unless the caller did: to the newest major from CJ_OLDEST_MAJOR on of which all packages are
# installed or, for one who may install them, offered.
cj_choose_major() {
	local major
	if [ -n "$CJ_GIVEN_PG_CONFIG" ] || [ -n "${PG_MAJOR:-}" ] || ! command -v dpkg-query >/dev/null; then return 0; fi
	[ -n "$(cj_known_majors)" ] || cj_update_package_lists || return 0
	for major in $(cj_known_majors); do
		if PG_MAJOR=$major cj_packages_can_be_had build server; then
			export PG_MAJOR=$major
			return 0
		fi
	done
}

# Prints the majors from CJ_OLDEST_MAJOR on that the package lists know of, the newest first.
cj_known_majors() {
	{ apt-cache pkgnames postgresql-server-dev- 2>/dev/null || true; } |
		sed -nE 's/^postgresql-server-dev-([0-9]+)$/\1/p' | sort -rnu |
		while read -r major; do
			if [ "$major" -ge "$CJ_OLDEST_MAJOR" ]; then echo "$major"; fi
		done
}

# Tells whether all packages of the groups named are installed, or could be.
cj_packages_can_be_had() {
	local group package
	for group in "$@"; do
		for package in $(cj_group_packages "$group"); do
			cj_package_installed "$package" && continue
			cj_may_install && [ -n "$(apt-cache show --no-all-versions "$package" 2>/dev/null)" ] || return 1
		done
	done
}

# Tells whether the caller may install packages.
cj_may_install() { cj_is_root || sudo -n true 2>/dev/null; }

# Prints the packages of a group. Those of the server are left out where PG_CONFIG names another
# installation: what that one lacks is not in a package.
cj_group_packages() {
	local major
	major=$(cj_major)
	case $1 in
	build)
		echo gcc libc6-dev make
		[ -n "$CJ_GIVEN_PG_CONFIG" ] || echo "postgresql-server-dev-$major"
		;;
	server)
		[ -n "$CJ_GIVEN_PG_CONFIG" ] || echo "postgresql-$major postgresql-$major-cron"
		;;
	test)
		echo perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
		[ -n "$CJ_GIVEN_PG_CONFIG" ] || echo "postgresql-$major-pgtap"
		;;
	lint)
		echo perl binutils
		# Another version would format differently, so where this one is not to be had, no other.
		if cj_package_exists clang-format-14; then echo clang-format-14; fi
		;;
	matrix) echo debootstrap ;;
	examples)
		echo curl jq msmtp python3 python3-aiosmtpd python3-yaml
		echo python3-celery python3-fastapi python3-httpx python3-psycopg python3-psycopg-pool python3-redis
		# redis-tools has what libraries redis-server needs
		echo python3-uvicorn redis-tools
		if cj_package_exists chromium; then echo chromium; fi
		# Node.js may have come from elsewhere, with an npm of its own.
		command -v npm >/dev/null || echo npm
		;;
	*) cj_die "cj_install_packages: there is no group \"$1\"" ;;
	esac
}

# Tells whether a package is installed.
cj_package_installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Tells whether the machine's package sources offer a package, or it is installed.
cj_package_exists() {
	command -v dpkg-query >/dev/null || return 1
	cj_package_installed "$1" && return 0
	cj_update_package_lists
	[ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]
}

# Fetches the package lists, once: on a fresh machine there are none.
cj_update_package_lists() {
	[ "$CJ_APT_UPDATED" = 0 ] || return 0
	CJ_APT_UPDATED=1
	cj_may_install || return 0
	cj_run_quietly cj_as_root apt-get -o DPkg::Lock::Timeout=300 update
}

# Runs a command and shows its output only when it fails. In a subshell, so that it is shown also when
# a function among them ends the script.
cj_run_quietly() {
	local log status=0
	log=$(mktemp "$CJ_TMP/quiet.XXXXXX")
	("$@") >"$log" 2>&1 </dev/null || status=$?
	[ "$status" = 0 ] || cat "$log" >&2
	rm -f "$log"
	return "$status"
}

# Installs what is missing of the groups named.
cj_install_packages() {
	local group package missing=() wanted
	if ! command -v dpkg-query >/dev/null; then
		cj_note "this is not Debian: what has to be installed is taken to be there"
		return 0
	fi
	wanted=$(for group in "$@"; do cj_group_packages "$group" || exit 1; done)
	for package in $wanted; do
		cj_package_installed "$package" || missing+=("$package")
	done
	[ "${#missing[@]}" -gt 0 ] || return 0

	cj_update_package_lists
	for package in "${missing[@]}"; do
		cj_package_exists "$package" || cj_die "this machine's package sources have no $package$(cj_other_majors)"
	done
	cj_may_install ||
		cj_die "packages are missing and installing them needs root: apt-get install ${missing[*]}"
	echo "installing ${missing[*]}"
	cj_without_main_cluster cj_run_quietly cj_as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" ||
		cj_die "the packages could not be installed"
	cj_give_to_user
}

# Prints which majors could be had instead, as the end of a sentence.
cj_other_majors() {
	local majors
	majors=$(cj_known_majors | xargs)
	if [ -n "$majors" ]; then
		echo "; they have PostgreSQL $majors, to be chosen by PG_MAJOR"
	else
		echo "; an installation of PostgreSQL can be named by PG_CONFIG"
	fi
}

# Unless a program is there, puts it into CJ_TMP/programs/usr/bin, from the packages named. For those whose
# installation would start a service, now and at every boot. Libraries have to be installed.
cj_unpack_program() {
	local program=$1 package
	shift
	command -v "$program" >/dev/null && return 0
	command -v dpkg >/dev/null || return 1
	cj_update_package_lists
	mkdir -p "$CJ_TMP/programs"
	for package in "$@"; do
		(cd "$CJ_TMP/programs" && cj_run_quietly apt-get -q download "$package" && dpkg -x "$package"_*.deb .) || return 1
	done
}

# Runs a command with a setting beside the machine's own that keeps Debian's packages from making and
# starting a server of their own; afterwards the machine's settings are as they were.
cj_without_main_cluster() {
	local folder=/etc/postgresql-common/createcluster.d status=0
	local file=$folder/zz-challenge-jobs-test.conf
	cj_as_root mkdir -p "$folder"
	echo 'create_main_cluster = false' | cj_as_root tee "$file" >/dev/null
	"$@" || status=$?
	cj_as_root rm -f "$file"
	cj_as_root rmdir --ignore-fail-on-non-empty "$folder" 2>/dev/null || true
	return "$status"
}

# ---- building ------------------------------------------------------------------------------

# Finds the programs of the chosen PostgreSQL.
cj_use_server_programs() {
	[ -z "${CJ_BINDIR:-}" ] || return 0
	PG_CONFIG=${CJ_GIVEN_PG_CONFIG:-/usr/lib/postgresql/$(cj_major)/bin/pg_config}
	PG_CONFIG=$(command -v "$PG_CONFIG") || cj_die "there is no pg_config of PostgreSQL $(cj_major): set PG_CONFIG or PG_MAJOR"
	export PG_CONFIG
	CJ_BINDIR=$("$PG_CONFIG" --bindir)
	CJ_PGXS=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	CJ_PGXS=$(cd "$CJ_PGXS" && pwd)
	if cj_is_root && ! id "$CJ_USER" >/dev/null 2>&1; then
		cj_die "a server does not run as root and there is no account \"$CJ_USER\": set CJ_USER"
	fi
}

# Copies the sources: building must not leave traces in the clone, and the clone may lie where
# CJ_USER cannot read.
cj_copy_sources() {
	rm -rf "$CJ_WORK"
	mkdir -p "$CJ_WORK"
	tar -C "$CJ_ROOT" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./results --exclude=./output_iso --exclude=./tmp_check \
		--exclude='./regression.*' -cf - . | tar -C "$CJ_WORK" --no-same-owner -xf -
	chmod -R u+rwX,go+rX "$CJ_WORK"
	if cj_is_root; then chown -R "$CJ_USER:" "$CJ_WORK"; fi
}

# Builds in the copy, with every warning an error.
cj_build() {
	cj_use_server_programs
	[ -d "$CJ_WORK" ] || cj_copy_sources
	cj_as_user make -C "$CJ_WORK" -s -j "$(nproc)" WERROR=1 PG_CONFIG="$PG_CONFIG" all
}

# Installs into the chosen PostgreSQL; without root where its folders are the caller's own.
cj_install() {
	local command=(make -C "$CJ_WORK" -s WERROR=1 PG_CONFIG="$PG_CONFIG" install)
	if [ -w "$("$PG_CONFIG" --pkglibdir)" ] && [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
		cj_run_quietly "${command[@]}"
	else
		cj_run_quietly cj_as_root "${command[@]}"
	fi
}

# Builds and installs.
cj_build_and_install() {
	cj_build || cj_die "the extension does not build"
	cj_install || cj_die "the extension could not be installed"
}

# ---- the server ----------------------------------------------------------------------------

# Starts an empty server, reachable through a socket in CJ_TMP only.
cj_start_server() {
	local database=$1
	shift
	cj_use_server_programs
	cj_run_quietly cj_as_user "$CJ_BINDIR/initdb" -D "$CJ_DATA" --username=postgres --auth=trust \
		--encoding=UTF8 --locale=C.UTF-8 --no-sync || cj_die "initdb failed"
	cj_create_first_database "$database"
	cj_server_settings "$database" "$@" | cj_as_user tee -a "$CJ_DATA/postgresql.conf" >/dev/null
	cj_launch_server
	export PGHOST=$CJ_SOCKET PGPORT=$CJ_PORT PGUSER=postgres PGDATABASE=$database
}

# Makes the database before the server runs, since pg_cron's launcher ends where its is missing.
cj_create_first_database() {
	[ "$1" != postgres ] || return 0
	local log=$CJ_TMP/first_database.log
	echo "CREATE DATABASE \"$1\";" |
		cj_as_user "$CJ_BINDIR/postgres" --single -F -D "$CJ_DATA" postgres >"$log" 2>&1 || {
		cat "$log" >&2
		cj_die "the database \"$1\" could not be made"
	}
}

# Prints the server's settings: those of a test server, then the caller's own, which win.
cj_server_settings() {
	local database=$1 libraries=challenge_jobs setting
	shift
	cat <<-END
		listen_addresses = ''
		port = $CJ_PORT
		unix_socket_directories = '$CJ_SOCKET'
		fsync = off
		full_page_writes = off
		max_worker_processes = 20
		max_prepared_transactions = 10
		timezone = 'UTC'
		log_timezone = 'UTC'
		log_line_prefix = '%m [%p] %q%u@%d '
	END
	# An installation given by PG_CONFIG may be without pg_cron: the tests that need it say so.
	if [ -e "$("$PG_CONFIG" --pkglibdir)/pg_cron.so" ]; then
		libraries=pg_cron,challenge_jobs
		cat <<-END
			cron.database_name = '$database'
			cron.host = '$CJ_SOCKET'
		END
	fi
	echo "shared_preload_libraries = '$libraries'"
	for setting in "$@"; do
		printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}"
	done
}

# Starts the server and waits until it takes connections.
cj_launch_server() {
	cj_as_user "$CJ_BINDIR/pg_ctl" start -D "$CJ_DATA" -l "$CJ_SERVER_LOG" -w -t 120 -s || {
		tail -n 50 "$CJ_SERVER_LOG" >&2
		cj_die "the server did not start"
	}
}

# Starts the server anew, also after it was killed.
cj_restart_server() {
	cj_stop_server
	cj_launch_server
}

# Stops the server, if it runs.
cj_stop_server() {
	if [ -n "$CJ_DATA" ] && [ -e "$CJ_DATA/postmaster.pid" ]; then
		cj_as_user "$CJ_BINDIR/pg_ctl" stop -D "$CJ_DATA" -m fast -w -t 60 -s || true
	fi
}

# Stops the server and forgets it.
cj_remove_server() {
	cj_stop_server
	rm -rf "$CJ_DATA"
}

# psql on the server. As the caller, so that it reads files that CJ_USER may not.
cj_psql() { "$CJ_BINDIR/psql" -X -v ON_ERROR_STOP=1 "$@"; }

# Waits for a condition: the query has to give "t" within so many seconds.
cj_wait_until() {
	local deadline=$((SECONDS + $1)) query=$2
	until [ "$(cj_psql -Atqc "$query")" = t ]; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			cj_note "gave up after $1 s waiting for: $query"
			return 1
		fi
		sleep 0.2
	done
}
