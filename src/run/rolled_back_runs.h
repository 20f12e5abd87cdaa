/*
 * run/rolled_back_runs.h: runs whose row does not outlive the caller's transaction: job functions that fail or are
 * rolled back.
 */
#ifndef CJ_RUN_ROLLED_BACK_RUNS_H
#define CJ_RUN_ROLLED_BACK_RUNS_H

#include "run/run_log.h"

typedef struct CjUnrecordedRun CjUnrecordedRun;

/*
 * Begins to watch over a job function, if its database is one that the worker serves; NULL: it is not. From now on
 * the run is recorded also if the session is ended.
 */
extern CjUnrecordedRun *cj_rolled_back_runs_begin(const CjRunStart *start);

/* The job function has written its row: the run is recorded here if the caller rolls that back. */
extern void cj_rolled_back_runs_end(CjUnrecordedRun *run, const CjRunStart *start,
									const CjRunEnd *end);

/* The job function has failed: the run is recorded now. Raises nothing, allocates nothing. */
extern void cj_rolled_back_runs_fail(CjUnrecordedRun *run, const CjRunStart *start,
									 const CjRunEnd *end);

/*
 * The job function has been refused, which says nothing about the job: counted. Returns whether that kind of refusal
 * begins.
 */
extern bool cj_rolled_back_runs_refuse(CjUnrecordedRun *run, const CjRunStart *start,
									   const ErrorData *error);

#endif /* CJ_RUN_ROLLED_BACK_RUNS_H */
