/* jobs/refresh_after.h: the refresh that follows runs which have decided challenges. */
#ifndef CJ_JOBS_REFRESH_AFTER_H
#define CJ_JOBS_REFRESH_AFTER_H

#include "run/job.h"

/* Returns whether a run is to leave out views that are not tracked. */
extern bool cj_refresh_after_is_limited(const CjRun *run);

/* Returns the last run that decided challenges, as the caller's snapshot has it; 0: there is none. */
extern int64 cj_refresh_after_last_run(void);

/* Says for how long the statistics are not as decided, where neither the worker nor the schedule sees to it. */
extern void cj_refresh_after_examine(const CjJobConfig *config, CjFindings *findings);

#endif /* CJ_JOBS_REFRESH_AFTER_H */
