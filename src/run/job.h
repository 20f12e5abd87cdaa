/*
 * run/job.h
 *		The contract between the runner and the jobs.
 *
 * A job is a CjJob; jobs/job_list.c lists them. Its `run` is called once for a run, connected to
 * SPI, with what is known of the run in a CjRun, and adds what it has done to it. It may raise any
 * error: what has been committed stays, the run ends as failed.
 *
 * A job never begins, commits or aborts a transaction. It works in batches: cj_run_attempt() calls it
 * back in a subtransaction and returns the error if it failed, cj_run_commit_batch() makes what was
 * done durable where the run may commit (CALL run), and does nothing where the transaction is the
 * caller's (a job function). A commit can fail (checks that were left to the end, serialization): then its
 * error is returned, and what was done since the last commit is undone. After that nothing
 * is valid any more that belonged to the transaction: SPI results, locks, open relations, resolved
 * bindings, memory of the transaction.
 */
#ifndef CJ_RUN_JOB_H
#define CJ_RUN_JOB_H

#include "datatype/timestamp.h"

#include "app/binding.h"
#include "config/job_config.h"
#include "run/findings.h"

#define CJ_MAX_FIGURES 8

typedef struct CjJob CjJob;
typedef struct CjRun CjRun;

typedef void (*CjWork)(CjRun *run, void *arg);

struct CjRun
{
	const CjJob *job;
	const CjJobConfig *config;
	TimestampTz as_of;
	const char *triggered_by;
	bool dry_run;          /* compute the same figures, change nothing */
	bool is_preview;       /* a dry run that returns rows and leaves none in the log */
	int64 undoes;          /* undo_decisions: the run whose decisions are taken back */
	bool force_full;       /* refresh: everything anew */
	bool own_transactions; /* CALL run: commit_batch() commits; else the caller's transaction */
	bool is_cancelled;     /* max_runtime is over */
	int time_limit_ms;     /* what attempts may take from here on; 0: as long as the run */
	const char *time_limit_setting; /* that says so */
	bool is_over_limit;   /* the last attempt took longer, and so failed with query_canceled */
	MemoryContext memory; /* lives as long as the run */

	/* what has been done, added to by the job */
	int64 figures[CJ_MAX_FIGURES]; /* as named by the job */
	int64 rows_affected;
	bool has_done;           /* something was done, also if that changed no row */
	int64 locked;            /* locked by others, or in someone else's way */
	int lock_timeouts;       /* in a row, since something was done */
	int64 failures;          /* items that failed by themselves */
	ErrorData *first_error;  /* of those, in `memory` */
	StringInfo failed_items; /* the first of them, as readable text, in `memory` */
	StringInfo more_result;  /* more members of the result (base/json), in `memory` */
};

/*
 * What the runner does for the job. An attempt calls a piece of work in a subtransaction; commit_batch makes durable
 * what was done, where the run may commit. Both return the error if that failed, in the memory of the run, or NULL.
 */
extern ErrorData *cj_run_attempt(CjRun *run, CjWork work, void *arg);
extern ErrorData *cj_run_commit_batch(CjRun *run);

/* Returns the run_id of the row of the run, also before a job function has written it. */
extern int64 cj_run_id(CjRun *run);

/* Show how far the run is: a phase begins, of so many items (0: not known); so many more are done. */
extern void cj_run_begin_phase(CjRun *run, const char *phase, int64 total);
extern void cj_run_advance(CjRun *run, int64 done);

/* Adds a row to what the job function returns, where that is a table; nobody sees it under CALL run. */
extern void cj_run_put_row(CjRun *run, Datum *values, bool *nulls);

/*
 * An index that serves a job: one that begins with the column `second`, or with `first` (-1: none)
 * and then `second`. `without` says what is bad without it.
 */
typedef struct CjIndexAdvice
{
	CjEntity entity;
	int first;
	int second;
	bool unique; /* on `second` alone */
	const char *without;
	bool
		needs_ordered_scan; /* from one value to the next: a btree in the usual order, of all values */
	bool ignores_nulls;     /* or of all that are not null */
} CjIndexAdvice;

struct CjJob
{
	CjJobDefinition definition;
	const CjJob *
		base; /* whose lock and configuration the job has, and which has to be paused or disabled; NULL: itself */
	const char *const *figures; /* names, NULL-terminated, as the job function's OUT parameters */
	const char *items;          /* what is counted as locked; NULL: rows */

	/*
	 * Fills in what the job uses of the app's tables with this configuration; returns the number of
	 * items, at most CJ_ENTITY_COUNT. NULL: the job finds by itself what it works on.
	 */
	int (*usage)(const CjJobConfig *config, bool dry_run, CjUsage *usage);
	void (*run)(CjRun *run);

	/* for the doctor */
	const CjIndexAdvice
		*indexes; /* ends in one without `without`; columns that are not there do not count */
	void (*examine)(
		const CjJobConfig *config, CjBinding *binding,
		CjFindings *findings); /* what else there is to say, or NULL; without `usage` the
										  binding is NULL */
};

extern const CjJob cj_job_auto_complete_challenges;
extern const CjJob cj_job_refresh_challenge_stats;
extern const CjJob cj_job_send_streak_reminders;
extern const CjJob cj_job_cleanup_expired_notifications;

#endif /* CJ_RUN_JOB_H */
