# challenge_jobs: built by PGXS against the PostgreSQL of PG_CONFIG.
#
#   make && sudo make install    build and install
#   make installcheck            pg_regress and isolation tests on a running server; REGRESS=, ISOLATION= and
#                                PROVE_TESTS= choose tests (test/README.md)
#   make check                   everything, on a throwaway server (test/check.sh)
#   make demo | bench | lint | format
#
#   PG_CONFIG=/path/to/pg_config   another installation than the first one in PATH
#   WERROR=1                       more warnings, and each of them an error

EXTENSION  = challenge_jobs
MODULE_big = challenge_jobs
OBJS       = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c src/*/*/*.c))
# Inputs of pg_regress live in sql/ too; the extension's own scripts are known by their "--".
DATA       = $(wildcard sql/challenge_jobs--*.sql)
DOCS       = $(wildcard doc/*.md)
PGFILEDESC = "challenge_jobs - scheduled jobs for challenge apps"

REGRESS        = interface binding stats_view job errors rights schedule next_runs undo_decisions
ISOLATION      = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation
# The TAP tests start servers of their own and take long: PGXS runs those that PROVE_TESTS names.
ifdef PROVE_TESTS
TAP_TESTS      = 1
endif
EXTRA_CLEAN    = tmp_check test/unit/unit.o test/unit/unit.so

# The control file is the one place that holds the version.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" challenge_jobs.control)

PG_CONFIG ?= pg_config

# Goals that only call a script need no PostgreSQL on the machine: the script installs it.
SCRIPT_GOALS = check demo bench lint format

ifneq (,$(filter-out $(SCRIPT_GOALS),$(or $(MAKECMDGOALS),all)))

PG_MAJOR := $(shell $(PG_CONFIG) --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
ifeq (,$(PG_MAJOR))
$(error cannot run "$(PG_CONFIG)": install PostgreSQL's server headers (Debian: postgresql-server-dev-15) or set PG_CONFIG)
endif
ifneq (yes,$(shell test $(PG_MAJOR) -ge 15 && echo yes))
$(error challenge_jobs needs PostgreSQL 15 or later, but "$(PG_CONFIG)" is of PostgreSQL $(PG_MAJOR))
endif

PG_CPPFLAGS = -I$(srcdir)/src -DCJ_VERSION='"$(EXTVERSION)"'
# One process holds the symbols of all extensions: nothing leaves ours but what is marked.
PG_CFLAGS   = -fvisibility=hidden
# Up to PostgreSQL 15 the mark is an empty macro where symbols are visible by default.
ifeq (15,$(PG_MAJOR))
PG_CPPFLAGS += -D'PGDLLEXPORT=__attribute__((visibility("default")))'
endif
ifdef WERROR
PG_CFLAGS  += -Werror -Wextra -Wno-unused-parameter -Wno-sign-compare \
              -Wno-missing-field-initializers -Wno-clobbered -Wwrite-strings -Wshadow=local \
              -Wnull-dereference -Wduplicated-cond -Wlogical-op -Wformat=2
endif

# Bitcode for the JIT compiler would need the very clang of the server's package, for functions that
# the JIT compiler never inlines.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

PG_PROVE_FLAGS += -I $(srcdir)/test/t

# DOCS would go among the pages of other extensions; theirs may have the same names.
docmoduledir = challenge_jobs

# PGXS looks for them under doc/ there.
uninstall: uninstall-docs
uninstall-docs:
	rm -f $(addprefix '$(DESTDIR)$(docdir)/$(docmoduledir)'/,$(notdir $(DOCS)))

# PGXS knows nothing of headers.
$(OBJS): $(wildcard src/*.h src/*/*.h src/*/*/*.h) Makefile challenge_jobs.control

endif

# PGXS has a "check" that only says that it is not supported; ours replaces it when asked for.
ifneq (,$(filter check,$(MAKECMDGOALS)))
check:
	bash test/check.sh
endif

demo:
	bash test/demo.sh

bench:
	bash test/bench/auto_complete.sh
	bash test/bench/refresh.sh
	bash test/bench/refresh_in_place.sh
	bash test/bench/cleanup.sh
	bash test/bench/reminders.sh
	bash test/bench/worker.sh
	bash test/bench/settle_after.sh

lint:
	bash test/lint.sh

CLANG_FORMAT ?= $(or $(shell command -v clang-format-14),clang-format)
format:
	find src test -name '*.[ch]' -exec $(CLANG_FORMAT) -i {} +

.PHONY: $(SCRIPT_GOALS)
