/*
 * jobs/catalogue.h
 *		The jobs of this version of the library.
 */
#ifndef CJ_CATALOGUE_H
#define CJ_CATALOGUE_H

#include "jobs/job.h"

/* All jobs, NULL-terminated. */
extern const CjJob *const *cj_catalogue_jobs(void);

/* Returns the job of that name; raises invalid_parameter_value, listing the jobs, if there is none. */
extern const CjJob *cj_catalogue_find(const char *name);

#endif /* CJ_CATALOGUE_H */
