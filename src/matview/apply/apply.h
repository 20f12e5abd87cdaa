/* matview/apply/apply.h: bringing some rows of a materialized view up to date, in place. */
#ifndef CJ_MATVIEW_APPLY_APPLY_H
#define CJ_MATVIEW_APPLY_APPLY_H

#include "access/attnum.h"
#include "utils/snapshot.h"

/*
 * How many keys to pass at once, if there are as many, and how many rows these should have at most. Where the
 * definition joins the rows of the keys with another table, the planner soon prefers to read and hash that
 * whole, which then is done once for each call: few large calls are cheaper. What is kept in memory for a call grows
 * with both; the executor's joins and sorts go to disk beyond work_mem.
 */
#define CJ_VIEW_PATCH_KEYS 5000
#define CJ_VIEW_PATCH_ROWS 500000

/* A patch of a materialized view under way. */
typedef struct CjViewPatch CjViewPatch;

/* What was done: a row that is moved within the view because its unique columns changed is an update. */
typedef struct CjPatchCounts
{
	int64 inserted;
	int64 updated;
	int64 deleted;
} CjPatchCounts;

/*
 * Begins to patch a view by a column of it, the key, in the current memory context. The caller is in a
 * transaction, holds ExclusiveLock on the view, has become its owner (identity.h), and passes the
 * registered snapshot as of which the view shall be: one taken after the lock was. Raises
 * object_not_in_prerequisite_state if the view has no unique index to match rows by, or has not been
 * populated.
 *
 * What it holds belongs to the current (sub)transaction: an error in between is cleaned up by its abort, and
 * it has to be ended in the same one.
 */
extern CjViewPatch *cj_apply_begin(Oid view, AttrNumber key, Snapshot snapshot);

/*
 * Brings the rows with these keys (an array of the key's type, no nulls), and with `with_null` those
 * whose key is null, to what the definition gives. May be called any number of times, but with each key at
 * most once in a patch, as the = of its type has it: rows that are new are stored at the end only. Raises
 * unique_violation if the definition gives two rows where a unique index allows one, and what the definition
 * raises.
 */
extern void cj_apply_keys(CjViewPatch *patch, Datum keys, bool with_null);

/* Does what had to wait for all keys, and releases everything. Raises unique_violation, as above. */
extern void cj_apply_end(CjViewPatch *patch, CjPatchCounts *counts);

#endif /* CJ_MATVIEW_APPLY_APPLY_H */
