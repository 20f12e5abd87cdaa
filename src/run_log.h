/*
 * run_log.h
 *		The execution log: table challenge_jobs.job_run.
 *
 * The caller is connected to SPI. Rows are written in the current transaction, as the owner of the
 * extension.
 */
#ifndef CJ_RUN_LOG_H
#define CJ_RUN_LOG_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef enum CjRunStatus
{
	CJ_RUN_RUNNING,
	CJ_RUN_SUCCEEDED,
	CJ_RUN_FAILED,
	CJ_RUN_SKIPPED,
	CJ_RUN_CANCELLED,
	CJ_RUN_CRASHED
} CjRunStatus;

/* Why a run is started. */
typedef struct CjRunTrigger
{
	const char *triggered_by;
	TimestampTz scheduled_for; /* the slot of the schedule that it is for; 0: not known */
	int attempt;               /* from 1 on */
} CjRunTrigger;

/* What is known of a run when it starts. */
typedef struct CjRunStart
{
	const char *job;
	CjRunTrigger trigger;
	bool dry_run;
	TimestampTz as_of;
	TimestampTz started_at;
	const char *role_name;
} CjRunStart;

/* What is known of it when it has ended; `message` is for runs that ended without an error. */
typedef struct CjRunEnd
{
	CjRunStatus status;
	int64 rows_affected;
	Jsonb *result;       /* or NULL */
	ErrorData *error;    /* or NULL */
	const char *message; /* or NULL */
	const char *detail;  /* or NULL; to the message */
} CjRunEnd;

/* Writes the row of a run that begins and returns its run_id. */
extern int64 cj_run_log_start(const CjRunStart *start);

/* Ends a run that is running; warns if its row is gone or was closed by someone else. */
extern void cj_run_log_finish(int64 run_id, const CjRunEnd *end);

/* Writes the row of a run that has ended, all at once. */
extern void cj_run_log_record(const CjRunStart *start, const CjRunEnd *end);

/*
 * Closes rows of a job that are left "running" as crashed; returns how many. The caller holds the
 * job's lock: whoever wrote them does not live any more.
 */
extern uint64 cj_run_log_close_crashed(const char *job);

#endif /* CJ_RUN_LOG_H */
