/* jobs/job_list.h: the jobs of this version of the library. */
#ifndef CJ_JOBS_JOB_LIST_H
#define CJ_JOBS_JOB_LIST_H

#include "run/job.h"

/* All jobs, NULL-terminated. */
extern const CjJob *const *cj_job_list_jobs(void);

/* Returns the job of that name; raises invalid_parameter_value, listing the jobs, if there is none. */
extern const CjJob *cj_job_list_find(const char *name);

#endif /* CJ_JOBS_JOB_LIST_H */
