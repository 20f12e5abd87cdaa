/*
 * jobs/auto_complete_statistics.h
 *		Whether the statistics have anything to decide on.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_STATISTICS_H
#define CJ_JOBS_AUTO_COMPLETE_STATISTICS_H

#include "jobs/auto_complete_scope.h"
#include "run/findings.h"

/*
 * Sees to it that nothing is decided on data that is not there: tables that are being restored, or loaded anew. No row for a
 * challenge means that it has failed, but no row at all means nothing. The work of an attempt; `arg` is the state.
 */
extern void cj_auto_complete_statistics_check(CjRun *run, void *arg);

/* Adds a finding if the last run left challenges undecided. */
extern void cj_auto_complete_statistics_examine(const char *job, CjFindings *findings);

#endif /* CJ_JOBS_AUTO_COMPLETE_STATISTICS_H */
