/*
 * jobs/refresh_sources.h
 *		Whether a statistics view can be refreshed from what it reads.
 *
 * The caller is connected to SPI.
 */
#ifndef CJ_JOBS_REFRESH_SOURCES_H
#define CJ_JOBS_REFRESH_SOURCES_H

#include "matview/stats_view.h"
#include "run/job.h"

/* Tells the doctor of relations that a refresh of the view would not be allowed to read as a whole. */
extern void cj_refresh_sources_examine(const CjStatsView *view, const char *check,
									   const CjReport *report, CjAddFinding add);

#endif /* CJ_JOBS_REFRESH_SOURCES_H */
