/*
 * jobs/auto_complete_scope.h
 *		What a run of auto_complete_challenges works on: its settings, and the app's tables as one transaction sees them.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_SCOPE_H
#define CJ_JOBS_AUTO_COMPLETE_SCOPE_H

#include "utils/numeric.h"

#include "app/notifications.h"
#include "base/identity.h"
#include "jobs/key_list.h"
#include "matview/changed_keys.h"
#include "run/job.h"

/* The figures of the job, in the order of its result. */
enum
{
	CJ_AUTO_COMPLETE_COMPLETED,
	CJ_AUTO_COMPLETE_FAILED,
	CJ_AUTO_COMPLETE_NOTIFIED,
	CJ_AUTO_COMPLETE_UNDECIDABLE,
	CJ_AUTO_COMPLETE_NOT_NOTIFIED
};

#define CJ_AUTO_COMPLETE_FIGURES (CJ_AUTO_COMPLETE_NOT_NOTIFIED + 1)

/* The values beside a key in state->evaluated. */
enum
{
	CJ_EVALUATION_IS_COMPLETED, /* boolean */
	CJ_EVALUATION_AVERAGE,      /* numeric, rounded as it is compared; NULL: no rate counts */
	CJ_EVALUATION_MEMBERS,      /* bigint: whose rates count */
	CJ_EVALUATION_THRESHOLD     /* numeric */
};

/*
 * How many decimals people read of a rate: cut, not rounded, so that 79.998 does not read as 80. Where there is none,
 * this.
 */
#define CJ_RATE_DECIMALS 2
#define CJ_NO_RATE       "-"

/* The texts of a notification: settings "completed_title" and so on; ends in NULL. */
extern const char *const cj_auto_complete_templates[];

/* The state of a run. */
typedef struct CjAutoComplete
{
	/* settings */
	bool live;
	bool notify;
	TimestampTz
		notify_since; /* of what was not due yet at this moment members are notified; DT_NOBEGIN: of all */
	Numeric threshold;
	int digits;
	List *counted_statuses;  /* of members; NIL: all */
	List *notified_statuses; /* of members; NIL: all */
	bool counts_nulls;
	bool shows_own_rate; /* a text does */
	char *day_time_zone;
	char *time_zone;    /* of timestamps */
	int64 settle_after; /* microseconds */

	/* what is due: keys; then keys and their evaluations, as jobs/auto_complete_evaluation has them */
	Oid key_type;
	int64 due_count;
	CjKeyList *due;
	CjKeyList *evaluated;
	bool has_statistics; /* of one of them at least */
	int64 null_rates;
	int64 rates_above_100;
	double highest_rate;

	const char *averages; /* how they were found, where it could be either way; or NULL */
	CjInsertMethod insert;
	int64 cancelled; /* of those that have failed */

	/* what the range at hand has done */
	int64 figures[CJ_AUTO_COMPLETE_FIGURES];
	int64 cancelled_now;
	int64 locked;
} CjAutoComplete;

/* An open transaction's view of the app's tables. */
typedef struct CjAutoCompleteScope
{
	CjBinding *binding;
	char *definition;             /* of the statistics, where they are computed live */
	const CjChangedKeys *changed; /* where averages are tracked: those that are not as stored */
	Snapshot snapshot;            /* as of which that is so */
	Datum bound;                  /* of end_date */
	Datum notify_bound;           /* the same, as of notify_since */
	Oid bound_type;
	CjIdentity identity;
} CjAutoCompleteScope;

/* Reads the settings, into the current memory context. */
extern void cj_auto_complete_load(CjAutoComplete *state, const CjJobConfig *config);

/* Says what the job uses of the app's tables. */
extern int cj_auto_complete_usage(const CjJobConfig *config, bool dry_run, CjUsage *items);

/*
 * Resolves the tables in this transaction and becomes their owner, to evaluate or to write and notify. Raises what
 * cj_binding_resolve does, and object_not_in_prerequisite_state for statistics without data.
 */
extern void cj_auto_complete_open(CjRun *run, const CjAutoComplete *state,
								  CjAutoCompleteScope *scope, bool to_evaluate);

/* Returns the statuses of members that a setting names, as an array of the column's type; NULL: all. */
extern CjValue cj_auto_complete_statuses(const CjAutoCompleteScope *scope, const char *setting,
										 List *labels);

/*
 * Has averages be read from the statistics where the change log vouches for them, and computed for the other challenges
 * alone, if that can be.
 */
extern void cj_auto_complete_track(CjAutoComplete *state, CjAutoCompleteScope *scope);

/* Expands a statement over the app's tables, and adds to its parameters what it needs beside them. */
extern char *cj_auto_complete_expand(const CjAutoCompleteScope *scope, const CjStatement *statement,
									 CjParams *params);

/* Runs a statement over the app's tables. */
extern CjRows cj_auto_complete_run_sql(const CjAutoCompleteScope *scope,
									   const CjStatement *statement, CjParams *params);

/* Ends what cj_auto_complete_open began, but for the locks. */
extern void cj_auto_complete_close(CjAutoCompleteScope *scope);

#endif /* CJ_JOBS_AUTO_COMPLETE_SCOPE_H */
