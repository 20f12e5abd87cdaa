/*
 * jobs/refresh_method.h
 *		The ways to bring a statistics view up to date.
 *
 * The caller is connected to SPI and in a transaction.
 */
#ifndef CJ_REFRESH_METHOD_H
#define CJ_REFRESH_METHOD_H

#include "storage/lockdefs.h"

#include "sql.h"
#include "stats_view.h"

typedef struct CjRefreshMethod
{
	const char *name;
	LOCKMODE lock_mode;    /* that the view has to be locked with; NoLock: nothing to be done */
	CjStatement statement; /* ends where the name of the view comes */
} CjRefreshMethod;

/* Returns the cheapest method that is right for a view. */
extern const CjRefreshMethod *cj_refresh_method_choose(const CjStatsView *view, bool force_full);

/*
 * Returns the statement that gives a view's owner, as whom it is refreshed, what the method needs
 * (palloc'd); NULL: nothing is missing.
 */
extern char *cj_refresh_method_missing_grant(const CjRefreshMethod *method,
											 const CjStatsView *view);

/*
 * Brings a view up to date, as its owner; returns the number of rows that were changed, or -1 where the
 * server does not count them. The view is locked as the method says, and the subtransaction is one in
 * which nothing else was done to it. Raises insufficient_privilege, and whatever the view's query raises.
 */
extern int64 cj_refresh_method_run(const CjRefreshMethod *method, const CjStatsView *view,
								   const char *time_zone);

#endif /* CJ_REFRESH_METHOD_H */
