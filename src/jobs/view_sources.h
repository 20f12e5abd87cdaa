/*
 * jobs/view_sources.h
 *		Whether a statistics view can be refreshed from what it reads.
 *
 * The caller is connected to SPI.
 */
#ifndef CJ_VIEW_SOURCES_H
#define CJ_VIEW_SOURCES_H

#include "jobs/job.h"
#include "stats_view.h"

/* Tells the doctor of relations that a refresh of the view would not be allowed to read as a whole. */
extern void cj_view_sources_examine(const CjStatsView *view, const char *check,
									const CjReport *report, CjAddFinding add);

#endif /* CJ_VIEW_SOURCES_H */
