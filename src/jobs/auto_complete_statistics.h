/*
 * jobs/auto_complete_statistics.h
 *		Whether the statistics have anything to decide on.
 *
 * The caller is connected to SPI, and has resolved what it uses of the app's tables.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_STATISTICS_H
#define CJ_JOBS_AUTO_COMPLETE_STATISTICS_H

#include "app/binding.h"
#include "run/job.h"

/*
 * Returns the tables that the bound statistics read, by way of whatever views, as far as the owner of the bound tables may
 * read all of their rows: a list of quoted, qualified names.
 */
extern List *cj_auto_complete_statistics_sources(const CjBinding *binding);

/* Returns those that had rows when the job last succeeded with something to decide; NIL: it never did. */
extern List *cj_auto_complete_statistics_filled_before(const char *job);

/* Returns those that have rows; the caller has become the owner of the bound tables. */
extern List *cj_auto_complete_statistics_filled(List *sources);

/* Adds a finding if the last run left challenges undecided. */
extern void cj_auto_complete_statistics_examine(const char *job, CjFindings *findings);

#endif /* CJ_JOBS_AUTO_COMPLETE_STATISTICS_H */
