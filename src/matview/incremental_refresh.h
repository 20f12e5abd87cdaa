/* matview/incremental_refresh.h: bringing a tracked view up to date: by the keys that have changed, or as a whole. */
#ifndef CJ_MATVIEW_INCREMENTAL_REFRESH_H
#define CJ_MATVIEW_INCREMENTAL_REFRESH_H

#include "matview/tracking.h"

/* What a refresh by keys came to. */
typedef struct CjViewRefresh
{
	bool done;          /* false: it has to be recomputed as a whole */
	int64 rows_changed; /* inserted and deleted; an update is one of each */
	int64 keys;
} CjViewRefresh;

/*
 * Takes what is noted of a view out of the change log and, if `by_keys` and at most `share` per cent of its
 * keys have changed, brings it up to date in place. Else the caller has to recompute it in the same
 * (sub)transaction. The caller is connected to SPI, holds ExclusiveLock on the view, and has examined its
 * tracking under it. search_path as for a refresh.
 */
extern CjViewRefresh cj_incremental_refresh_run(const CjStatsView *view, const CjTracking *tracking,
												bool by_keys, double share, const char *search_path,
												const char *time_zone);

/* Notes that a tracked view has been recomputed as a whole, after cj_incremental_refresh_run said that it has to be. */
extern void cj_incremental_refresh_recomputed(const CjStatsView *view, const CjTracking *tracking,
											  const char *search_path, const char *time_zone);

#endif /* CJ_MATVIEW_INCREMENTAL_REFRESH_H */
