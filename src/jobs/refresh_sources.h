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

/* Adds a finding for each relation that a refresh of the view may not read completely. */
extern void cj_refresh_sources_examine(const CjStatsView *view, const char *check,
									   CjFindings *findings);

#endif /* CJ_JOBS_REFRESH_SOURCES_H */
