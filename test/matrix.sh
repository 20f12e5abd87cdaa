#!/bin/bash
#
# Runs test/check.sh on other majors of PostgreSQL, each in the Debian release that has it, in a
# chroot that is made once and kept.
#
#   bash test/matrix.sh [MAJOR]...     default: 17 18
#
#   CJ_MATRIX_CACHE=FOLDER             where the chroots are kept (about 1.6 GB each),
#                                      default /var/cache/challenge_jobs-matrix
#
# A major that cannot be tried on this machine is skipped, with the reason, and counted as neither
# passed nor failed. The last line is "N passed, N failed", with ", N skipped" where majors were;
# the exit status is 1 if anything failed, 77 if all was skipped, else 0.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cache=${CJ_MATRIX_CACHE:-/var/cache/challenge_jobs-matrix}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# What a chroot's process returns when the major could not be tried; the reason is in reason_file.
skip_status=77

# The Debian release that has a major version, and its pg_cron and pgTAP.
release_of() {
	case $1 in
	15) echo bookworm ;;
	17) echo trixie ;;
	18) echo forky ;;
	*) cj_die "no Debian release is known for PostgreSQL $1" ;;
	esac
}

# ---- what the machine itself uses ----------------------------------------------------------

# Prints the address from which this machine gets its own Debian packages.
machine_mirror() {
	# shellcheck disable=SC2016  # apt-get expands these, not the shell
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
		sed -n 's/^Debian|Debian|main|//p' | awk 'NR == 1'
}

# Lets debootstrap go through the proxy that apt goes through.
use_machine_proxy() {
	local proxy
	proxy=$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
	if [ -n "$proxy" ] && [ -z "${http_proxy:-}" ]; then export http_proxy=$proxy; fi
}

# Gives a chroot what the machine's package client needs to reach its sources: proxies and the like,
# names, certificates. Only settings of "Acquire", since hooks may call programs that are not there.
copy_client_settings() {
	local root=$1
	apt-config dump |
		{ grep -E '^Acquire::' || true; } |
		{ grep -vE '^Acquire::(IndexTargets|CompressionTypes|Changelogs|cdrom)' || true; } \
			>"$root/etc/apt/apt.conf.d/00machine"
	cp -a /etc/apt/auth.conf.d/. "$root/etc/apt/auth.conf.d/" 2>/dev/null || true
	cp /etc/apt/auth.conf "$root/etc/apt/" 2>/dev/null || true
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
	mkdir -p "$root/usr/local/share/ca-certificates"
	cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
	chroot "$root" update-ca-certificates >/dev/null 2>&1 || true
}

# ---- inside the private namespace ----------------------------------------------------------

# Ends the process for one major, with the reason why it cannot be tried.
skip() {
	echo "$1" >"$reason_file"
	exit "$skip_status"
}

# Makes the chroot of a release, unless it is there. It gets its name only when it is whole.
make_chroot() {
	local release=$1 root=$2 mirror script
	[ ! -d "$root" ] || return 0
	mirror=$(machine_mirror)
	if [ -z "$mirror" ]; then
		cj_update_package_lists || true
		mirror=$(machine_mirror)
	fi
	[ -n "$mirror" ] || skip "the machine's own sources name no Debian mirror"
	# debootstrap may be older than the release; all recent ones are made in the same way.
	script=/usr/share/debootstrap/scripts/$release
	[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
	use_machine_proxy
	mkdir -p "$cache"
	rm -rf --one-file-system "$root.new"
	cj_run_quietly debootstrap --variant=minbase --include=ca-certificates --keyring="$keyring" \
		"$release" "$root.new" "$mirror" "$script" || skip "debootstrap could not make $release"
	copy_client_settings "$root.new"
	mv "$root.new" "$root"
}

# Mounts what programs expect. All of it, and /tmp in memory, goes away with the namespace.
mount_system() {
	local root=$1
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/dev/shm"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
}

# Runs a command in the chroot with a plain environment.
in_chroot() {
	local root=$1
	shift
	chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root LC_ALL=C.UTF-8 PG_MAJOR="$major" \
		http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" "$@"
}

# Installs the packages before the tests run, so that a release that lacks one is distinguished from a failure.
install_in_chroot() {
	local root=$1
	# An installation that was interrupted earlier is brought to its end.
	cj_run_quietly in_chroot "$root" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a ||
		skip "the packages in $root are broken: remove that folder"
	# shellcheck disable=SC2016  # expanded in the chroot
	in_chroot "$root" bash -c 'set -euo pipefail; . "$1"; cj_begin
		cj_install_packages build server test lint; apt-get clean' \
		- /tmp/challenge_jobs/test/lib.sh || skip "PostgreSQL $major's packages could not be installed"
}

# Copies the sources into the chroot's /tmp.
copy_tree() {
	mkdir "$1/tmp/challenge_jobs"
	tar -C "$CJ_ROOT" --exclude=./.git -cf - . | tar -C "$1/tmp/challenge_jobs" --no-same-owner -xf -
}

# Everything for one major; the process that runs it has namespaces of its own.
run_inside() {
	local root
	major=$1
	reason_file=$2
	CJ_TMP=$(dirname "$2")
	trap 'exit 130' INT TERM HUP
	root=$cache/$(release_of "$major")
	make_chroot "$(release_of "$major")" "$root"
	mount_system "$root"
	copy_tree "$root"
	install_in_chroot "$root"
	in_chroot "$root" bash /tmp/challenge_jobs/test/check.sh
}

# ---- outside -------------------------------------------------------------------------------

# Says why nothing can be tried here, if so.
reason_to_skip_all() {
	if ! cj_is_root; then
		echo "chroots need root"
	elif ! (cj_install_packages matrix) >&2; then
		echo "debootstrap is not to be had"
	elif [ ! -e "$keyring" ]; then
		echo "there is no $keyring to check packages with"
	elif ! unshare --mount --pid --fork true 2>/dev/null; then
		echo "this machine allows no private mounts"
	fi
}

# Runs one major and adds its counts to the totals.
run_major() {
	local major=$1 log=$CJ_TMP/$1.log reason_file=$CJ_TMP/reason status=0 counts p f
	cj_heading "PostgreSQL $major on Debian $(release_of "$major")"
	rm -f "$reason_file"
	unshare --mount --pid --fork --kill-child bash "${BASH_SOURCE[0]}" --inside "$major" "$reason_file" \
		2>&1 </dev/null | tee "$log" | grep --line-buffered -vE '^[0-9]+ passed, [0-9]+ failed$' ||
		status=${PIPESTATUS[0]}
	if [ "$status" -eq "$skip_status" ] && [ -s "$reason_file" ]; then
		skip_major "$major" "$(cat "$reason_file")"
		return
	fi
	counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1 || true)
	if [ -z "$counts" ]; then counts="0 passed, 1 failed"; fi
	IFS=' ,' read -r p _ f _ <<<"$counts"
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
	report+=("PostgreSQL $major: $p passed, $f failed")
	passed=$((passed + p))
	failed=$((failed + f))
}

# Notes that a major was not tried.
skip_major() {
	report+=("PostgreSQL $1: skipped, $2")
	skipped=$((skipped + 1))
}

# Tries all majors asked for and prints the totals.
run_matrix() {
	local major reason
	reason=$(reason_to_skip_all)
	for major in "$@"; do
		if [ -n "$reason" ]; then
			skip_major "$major" "$reason"
		else
			run_major "$major"
		fi
	done
	cj_heading "summary of the matrix"
	printf '%s\n' "${report[@]}"
	if [ "$skipped" -gt 0 ]; then
		echo "$passed passed, $failed failed, $skipped skipped"
	else
		echo "$passed passed, $failed failed"
	fi
	[ "$failed" -eq 0 ] || return 1
	[ "$passed" -gt 0 ] || return "$skip_status"
}

if [ "${1:-}" = --inside ]; then
	run_inside "$2" "$3"
else
	passed=0
	failed=0
	skipped=0
	report=()
	[ $# -gt 0 ] || set -- 17 18
	for major in "$@"; do release_of "$major" >/dev/null; done
	cj_begin
	run_matrix "$@"
fi
