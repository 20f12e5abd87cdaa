/*
 * jobs/refresh_method.h
 *		The ways to bring a statistics view up to date.
 *
 * The caller is connected to SPI and in a transaction.
 */
#ifndef CJ_JOBS_REFRESH_METHOD_H
#define CJ_JOBS_REFRESH_METHOD_H

#include "storage/lockdefs.h"

#include "base/sql.h"
#include "matview/stats_view.h"
#include "matview/tracking.h"

typedef struct CjRefreshMethod
{
	const char *name;
	LOCKMODE lock_mode;    /* that the view has to be locked with; NoLock: nothing to be done */
	CjStatement statement; /* ends where the name of the view comes */
} CjRefreshMethod;

/* How a view is to be brought up to date. */
typedef struct CjRefreshPlan
{
	const CjRefreshMethod *method;
	CjTracking *tracking;    /* NULL: nothing is known of its changes */
	CjViewAnalysis *refused; /* it was to be tracked, and cannot be any more: why */
	CjViewAnalysis *
		capture_missing; /* it is to be tracked, but its changes are not noted (cj_tracking_install_capture) */
	bool is_gone; /* it has just been dropped, perhaps to be made anew */
	int64 keys;   /* after it was done by keys: of how many; else -1 */
} CjRefreshPlan;

/*
 * Returns the cheapest method that is right for a view; the caller has a lock on it, if only ACCESS
 * SHARE. Locks what a tracked view is made of (ACCESS SHARE).
 */
extern CjRefreshPlan cj_refresh_method_choose(const CjStatsView *view, bool force_full,
											  const char *time_zone);

/*
 * Returns the statement that gives a view's owner, as whom it is refreshed, what the method needs
 * (palloc'd); NULL: nothing is missing.
 */
extern char *cj_refresh_method_missing_grant(const CjRefreshMethod *method,
											 const CjStatsView *view);

/*
 * Brings a view up to date, as its owner; returns the number of rows that were changed, or -1 where the
 * server does not count them. The view is locked as the method says, and the subtransaction is one in
 * which nothing else was done to it. A tracked view of which more than `share` per cent of the keys have
 * changed is refreshed concurrently; the plan then says so. Raises insufficient_privilege, and
 * whatever the view's query raises.
 */
extern int64 cj_refresh_method_run(CjRefreshPlan *plan, const CjStatsView *view, double share,
								   const char *time_zone);

#endif /* CJ_JOBS_REFRESH_METHOD_H */
