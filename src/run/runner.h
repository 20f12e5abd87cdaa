/* run/runner.h: runs of jobs: the lock, the transactions, the run row, errors. */
#ifndef CJ_RUN_RUNNER_H
#define CJ_RUN_RUNNER_H

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "utils/tuplestore.h"

#include "run/job.h"
#include "run/run_log.h"

/* What a job function was called with. */
typedef struct CjFunctionCall
{
	TimestampTz as_of;
	bool dry_run;
	bool force_full;
	bool is_preview;       /* the rows of a dry run, which leaves no row in the log */
	Tuplestorestate *rows; /* where the rows go of a job function that returns a table, else NULL */
	TupleDesc rows_desc;
} CjFunctionCall;

/*
 * Runs a job in the caller's transaction (a job function) and returns its figures in `figures`, followed by those of
 * rows that were locked and of errors. The caller is connected to SPI.
 *
 * Raises lock_not_available if the job is running elsewhere, object_not_in_prerequisite_state if it
 * is disabled, invalid_parameter_value for an as_of that is not finite, or is in the future without
 * dry_run, and whatever went wrong if nothing at all could be done. What single items failed with is
 * a warning, and stands in the run row.
 */
extern void cj_runner_run_function(const CjJob *job, const CjFunctionCall *call, int64 *figures);

/*
 * Runs a job as of now, committing batch by batch (CALL challenge_jobs.run). The caller is connected
 * to SPI with SPI_OPT_NONATOMIC, outside of any transaction block. What started the run stands in its row.
 *
 * If the job is running elsewhere or disabled, the run is recorded as skipped, with a notice. Raises
 * the first error at the end, when everything has been recorded.
 */
extern void cj_runner_run_procedure(const CjJob *job, const CjRunTrigger *trigger);

#endif /* CJ_RUN_RUNNER_H */
