/*
 * matview/changed_keys.h
 *		The keys of a tracked view whose rows have to be recomputed: what the change log says.
 *
 * The caller is connected to SPI. All of it is as of one snapshot, which the caller has registered.
 */
#ifndef CJ_MATVIEW_CHANGED_KEYS_H
#define CJ_MATVIEW_CHANGED_KEYS_H

#include "matview/tracking.h"
#include "utils/snapshot.h"

typedef struct CjChangedKeys
{
	bool everything; /* any row may have changed, or too many: the keys are not known */
	bool with_null;  /* those without a key as well */
	Datum *keys;     /* in their order, each once */
	int count;       /* of keys; before they are found: of those that were noted */
	Oid type;        /* base type of the key */

	/* what the log says */
	struct CjKeySet *noted;
	int64 limit;
} CjChangedKeys;

/*
 * Takes the rows of a view out of the change log. With more than `limit` keys, it is everything. The caller
 * holds ExclusiveLock on the view.
 */
extern CjChangedKeys *cj_changed_keys_take(const CjTracking *tracking, Snapshot snapshot,
										   int64 limit);

/*
 * Finds the keys: those that were noted, and those that values of other tables lead to. The caller has become the
 * owner of the view. Raises insufficient_privilege if that may not read its tables.
 */
extern void cj_changed_keys_find(CjChangedKeys *changed, const CjTracking *tracking,
								 Snapshot snapshot);

/*
 * Looks which rows of a materialized view are as its definition gives them now, without a refresh: those of all other keys
 * than these. `view` is its name and `key` the column that it has to be tracked by; all is as of *snapshot, which the caller
 * unregisters. NULL where that cannot be said, or there are more keys than `limit`. Locks the view and its sources
 * (ACCESS SHARE). `time_zone` is that of the refresh.
 */
extern CjChangedKeys *cj_changed_keys_look(const char *view, AttrNumber key, int64 limit,
										   const char *time_zone, Snapshot *snapshot);

#endif /* CJ_MATVIEW_CHANGED_KEYS_H */
