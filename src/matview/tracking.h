/*
 * matview/tracking.h
 *		Which views are tracked, and whether what is known of their changes is all there is to know.
 *
 * The caller is connected to SPI and in a transaction that sees what others commit (READ COMMITTED). Results are
 * palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_TRACKING_H
#define CJ_MATVIEW_TRACKING_H

#include "matview/analysis/key_mapping.h"
#include "matview/stats_view.h"

/* In this order: from CHANGED on, the change log says all. */
typedef enum CjTrackingState
{
	CJ_TRACKING_NONE, /* the view is not tracked */
	CJ_TRACKING_GONE, /* it has just been dropped, perhaps to be made anew: look the name up again */
	CJ_TRACKING_REFUSED, /* it is, but cannot be any more: see the refusal of the analysis */
	CJ_TRACKING_CAPTURE_MISSING, /* its changes are not being noted: after a restore, or if triggers are gone */
	CJ_TRACKING_STALE, /* they are, but something has happened that was not noted */
	CJ_TRACKING_CHANGED, /* all that has happened since it was brought up to date is in the change log */
	CJ_TRACKING_CURRENT /* nothing has happened */
} CjTrackingState;

typedef struct CjTracking
{
	CjTrackingState state;
	CjViewAnalysis *analysis; /* NULL: not tracked */
	List *key_paths;          /* of CjStoredKeyPath *, as stored */
	int64 hash;               /* as of now */
	int64 keys;               /* number of keys when it was recomputed as a whole */
} CjTracking;

/*
 * Looks how a view is tracked. Locks it and its sources (ACCESS SHARE). The state is as of now, and CURRENT only if the
 * transaction's next snapshot sees no row of the change log. `time_zone` is that of the refresh.
 */
extern CjTracking *cj_tracking_examine(const CjStatsView *view, const char *time_zone);

/*
 * Returns whether nothing has happened since that was not noted. To be called once more when a snapshot has been taken:
 * what it sees and the log does not tell of would be missing from a refresh by keys.
 */
extern bool cj_tracking_is_still(const CjTracking *tracking, const char *time_zone);

/* Removes from the change log what is of no tracked view, which each refresh would read; nothing for an old snapshot. */
extern void cj_tracking_sweep(void);

/* Returns whether a view is tracked, without looking at it. */
extern bool cj_tracking_is_tracked(const char *view_name);

/*
 * Takes the locks that cj_tracking_install_capture needs; the view has to be looked at afterwards. Raises
 * lock_not_available.
 */
extern void cj_tracking_lock_to_install(const CjStatsView *view);

/*
 * Begins to note the changes of a view that is tracked: locks its sources so that nobody writes until the end of the
 * transaction. The next refresh recomputes the view. Raises insufficient_privilege, lock_not_available.
 */
extern void cj_tracking_install_capture(const CjStatsView *view, CjViewAnalysis *analysis);

/*
 * Notes that the view has been brought up to date as a whole: with this hash, made before; so many keys. The
 * file of the view is looked up.
 */
extern void cj_tracking_set_current(const CjTracking *tracking, int64 keys);

/* Tracks a view by a key, as the caller; raises feature_not_supported if that cannot be, with the reason. */
extern CjViewAnalysis *cj_tracking_track(Oid view, const char *key, bool dry_run);

/* Takes that back. Raises undefined_object if the view is not tracked. */
extern void cj_tracking_untrack(Oid view);

/* Takes it back for a view of which perhaps nothing is left but the name; does nothing if it is not tracked. */
extern void cj_tracking_forget(const char *view_name);

#endif /* CJ_MATVIEW_TRACKING_H */
