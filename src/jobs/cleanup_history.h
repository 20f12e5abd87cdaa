/* jobs/cleanup_history.h: the extension's own history: rows that are past their time are removed. */
#ifndef CJ_JOBS_CLEANUP_HISTORY_H
#define CJ_JOBS_CLEANUP_HISTORY_H

#include "run/job.h"

/* What goes. Rows of runs that have not ended never do. */
typedef struct CjHistoryLimits
{
	TimestampTz runs_before;        /* of runs that went well, or were skipped */
	TimestampTz failed_runs_before; /* of all others, and of alerts */
	int max_runs;                   /* of each job, of either kind: the newest stay; 0: no limit */
	TimestampTz reminders_before;
	bool prune_cron; /* also pg_cron's records of our cron jobs, those of before runs_before */
	int batch_size;
} CjHistoryLimits;

/*
 * Removes, batch by batch, or for a dry run counts, what goes; returns the number of rows of job_run.
 * Raises what the statements raise; where pg_cron's records cannot be removed there is a notice.
 */
extern int64 cj_cleanup_history_clean(CjRun *run, const CjHistoryLimits *limits);

#endif /* CJ_JOBS_CLEANUP_HISTORY_H */
