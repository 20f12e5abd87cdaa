#!/bin/bash
#
# The hostile catalogue alone: may anything that PostgreSQL evaluates on the way run as anyone but its owner?
#
#   bash test/hostile.sh        takes the same variables as test/check.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/check.sh" test/t/060_hostile_catalogue.pl test/pgtap/hostile_index.sql \
	test/pgtap/pending_checks.sql test/pgtap/advisory_locks.sql test/isolation/specs/pending_checks.spec
