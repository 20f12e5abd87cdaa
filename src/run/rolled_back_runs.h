/*
 * run/rolled_back_runs.h
 *		Runs whose row does not outlive the caller's transaction: verbs that fail or are rolled back.
 */
#ifndef CJ_RUN_ROLLED_BACK_RUNS_H
#define CJ_RUN_ROLLED_BACK_RUNS_H

#include "run/run_log.h"

typedef struct CjLostRun CjLostRun;

/*
 * Begins to watch over a verb, if its database is one that the worker serves; NULL: it is not. From now on
 * the run is recorded also if the session is ended.
 */
extern CjLostRun *cj_rolled_back_runs_begin(const CjRunStart *start);

/* The verb has written its row: the run is recorded here if the caller rolls that back. */
extern void cj_rolled_back_runs_end(CjLostRun *run, const CjRunStart *start, const CjRunEnd *end);

/* The verb has failed: the run is recorded now. Raises nothing, allocates nothing. */
extern void cj_rolled_back_runs_fail(CjLostRun *run, const CjRunStart *start, const CjRunEnd *end);

/* The verb has been refused, which says nothing about the job: counted. Tells whether that kind of refusal begins. */
extern bool cj_rolled_back_runs_refuse(CjLostRun *run, const CjRunStart *start,
									   const ErrorData *error);

#endif /* CJ_RUN_ROLLED_BACK_RUNS_H */
