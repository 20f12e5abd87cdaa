#!/usr/bin/env bash
#
# How many groups that reach 80 % are declared failed, by the time zone of their members and by settle_after: a simulation with the
# job itself. Its assumptions are at the top of settle_after.sql.
#
#     bash test/bench/settle_after.sh [--quick] [GROUPS]
#
# GROUPS of each kind are simulated (1000). Ends with status 1 if any is declared failed with settle_after = 12 hours, or none
# without it.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly DATABASE=settle_after

ask() { cj_psql -Atqd "$DATABASE" -c "$1"; }

bench_options "$@"
groups=${BENCH_ARGUMENTS[0]:-1000}
if [ "$BENCH_QUICK" = 1 ] && [ "${#BENCH_ARGUMENTS[@]}" = 0 ]; then groups=50; fi
[[ $groups =~ ^[1-9][0-9]*$ ]] || cj_die "usage: $0 [--quick] [GROUPS]"
cj_note "building and starting the server"
bench_start_server
cj_psql -qc "CREATE DATABASE $DATABASE"
cj_psql -qd "$DATABASE" -v groups="$groups" -f "$CJ_ROOT/test/bench/settle_after.sql"

cj_heading "groups that reach 80 % and are declared failed, per cent"
cj_psql -qd "$DATABASE" -c "
	SELECT zone, settle_after, min(failed) AS lowest, max(failed) AS highest
	  FROM outcome GROUP BY 1, 2 ORDER BY 2, min((SELECT min(now AT TIME ZONE zone) FROM clock)) DESC, 1"
[ "$(ask 'SELECT count(*) = 4 * (SELECT count(*) FROM challenges) FROM decided')" = t ] || cj_die "not all groups were decided"
[ "$(ask "SELECT count(*) FROM decided WHERE status = 'completed' AND id NOT IN (SELECT id FROM reached)")" = 0 ] ||
	cj_die "a group that has not reached 80 % was completed"
[ "$(ask "SELECT max(failed) FROM outcome WHERE settle_after = '0' AND zone = 'America/New_York'")" != 0.0 ] ||
	cj_die "without settle_after nobody is wronged: the simulation shows nothing"
[ "$(ask "SELECT max(failed) FROM outcome WHERE settle_after = '12 hours'")" = 0.0 ] ||
	cj_die "with settle_after = 12 hours groups are declared failed"
