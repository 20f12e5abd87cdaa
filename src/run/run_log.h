/*
 * run/run_log.h
 *		The execution log: table challenge_jobs.job_run.
 *
 * The caller is connected to SPI. Rows are written in the current transaction, as the owner of the
 * extension.
 */
#ifndef CJ_RUN_RUN_LOG_H
#define CJ_RUN_RUN_LOG_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "run/shared_state.h"

typedef enum CjRunStatus
{
	CJ_RUN_RUNNING,
	CJ_RUN_SUCCEEDED,
	CJ_RUN_FAILED,
	CJ_RUN_SKIPPED,
	CJ_RUN_CANCELLED,
	CJ_RUN_CRASHED,
	CJ_RUN_ROLLED_BACK
} CjRunStatus;

/* The job that decides challenges, and the one that brings the statistics up to date after it. */
#define CJ_DECIDING_JOB  "auto_complete_challenges"
#define CJ_FOLLOWING_JOB "refresh_challenge_stats"

/* triggered_by of a refresh since challenges were decided: only such a run may leave views out. */
#define CJ_AFTER_DECISIONS "after_decisions"

/*
 * In SQL: columns of the last run s that decided challenges; of one that crashed nobody knows. As the index
 * job_run_decided_idx has it. Such runs hold the job's lock until their row can be seen, so that they can be seen in
 * the order of their run_id.
 */
#define CJ_LAST_DECIDING_RUN(columns)                                                        \
	"SELECT " columns "  FROM challenge_jobs.job_run s"                                      \
	" WHERE s.job = '" CJ_DECIDING_JOB "' AND NOT s.dry_run"                                 \
	"   AND s.status NOT IN ('running', 'rolled_back') AND COALESCE(s.rows_affected, 1) > 0" \
	" ORDER BY - s.run_id LIMIT 1"

/* Why a run is started. */
typedef struct CjRunTrigger
{
	const char *triggered_by;
	TimestampTz scheduled_for; /* the slot of the schedule that it is for; 0: not known */
	int attempt;               /* from 1 on */
	int64 undoes;              /* undo_decisions: the run; else 0 */
	bool may_wait;             /* for another job that is due in the same minute */
} CjRunTrigger;

/* What is known of a run when it starts. */
typedef struct CjRunStart
{
	int64 run_id; /* reserved for its row; 0: none */
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
	bool has_not_begun;  /* it says nothing about the job: no alert */
} CjRunEnd;

/* Returns a run_id for a row that will be written later. */
extern int64 cj_run_log_reserve(void);

/* Writes the row of a run that begins and returns its run_id. */
extern int64 cj_run_log_start(const CjRunStart *start);

/* Ends a run that is running; warns if its row is gone or was closed by someone else. */
extern void cj_run_log_finish(int64 run_id, const CjRunEnd *end);

/* Writes the row of a run that has ended, all at once. */
extern void cj_run_log_record(const CjRunStart *start, const CjRunEnd *end);

/* The same in the transaction of a caller: the alert is left to cj_alert_settle_runs. The run has succeeded or failed. */
extern void cj_run_log_record_for_caller(const CjRunStart *start, const CjRunEnd *end);

/* Writes the row of a run that was lost with its transaction. */
extern void cj_run_log_write_unrecorded(const CjRunRecord *record);

/* Notes that a run is being terminated: when its row is closed, it is "cancelled", with this message and SQLSTATE 57P01. */
extern void cj_run_log_mark_terminated(int64 run_id, const char *message, const char *hint);

/*
 * Closes rows of a job that are left "running" as crashed, up to a run_id; returns how many. Whoever wrote
 * them does not live any more: the caller holds the job's lock, or nobody held it after the rows were
 * seen.
 */
extern uint64 cj_run_log_close_crashed(const char *job, int64 last);

/* Returns the run_id of the last run of a job that is "running", or 0. */
extern int64 cj_run_log_last_running(const char *job);

/* Adds calls that were refused to those of their kind; the worker's. */
extern void cj_run_log_record_refusal(const CjRefusal *refusal);

/* Forgets kinds of calls that have not been refused for 30 days. */
extern void cj_run_log_remove_refusals(void);

/* Returns the latest as_of of the runs of a job that cover scheduled times; DT_NOBEGIN: there is none. */
extern TimestampTz cj_run_log_last_covering(const char *job);

#endif /* CJ_RUN_RUN_LOG_H */
