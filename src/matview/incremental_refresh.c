/*
 * matview/incremental_refresh.c
 *		Bringing a tracked view up to date: by the keys that have changed, or as a whole.
 *
 * Everything is as of one snapshot: what it sees is taken out of the change log, and the view is as its definition
 * gives it as of then, not a mixture of moments. What is committed later is still in the log and is for the next
 * time.
 *
 * Before a view is recomputed as a whole, the log is taken as well: by a snapshot that is not later than the one
 * that the view is computed by.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_statistic.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/catalog.h"
#include "base/identity.h"
#include "base/sql.h"
#include "base/template.h"
#include "matview/apply/apply.h"
#include "matview/capture/change_capture.h"
#include "matview/changed_keys.h"
#include "matview/incremental_refresh.h"

/* Where nothing is known of a view, so many keys are looked up before it is recomputed as a whole. */
#define KEYS_OF_UNKNOWN 100000

static const CjStatement count_keys = {"count the keys of a view",
									   "SELECT pg_catalog.count(DISTINCT v.{key}) FROM {view} v",
									   SPI_OK_SELECT};

/* ---- how many keys are there? ---- */

static char *
expand_name(const CjStatement *statement, const CjStatsView *view, AttrNumber key)
{
	static const char *const names[] = {"key", "view", NULL};
	const char *values[] = {quote_identifier(get_attname(view->relid, key, false)),
							cj_catalog_name(view->relid)};

	return cj_template_expand(statement->text, names, values);
}

static double
rows_of(Oid relid)
{
	FormData_pg_class form;

	return cj_catalog_class(relid, &form) ? Max(form.reltuples, 0) : 0;
}

/* keys_by_statistics returns how many keys a view has by the planner's statistics; 0: there are none. */
static double
keys_by_statistics(Oid relid, AttrNumber key)
{
	HeapTuple tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid), Int16GetDatum(key),
									  BoolGetDatum(false));
	double distinct = 0;

	if (HeapTupleIsValid(tuple))
	{
		distinct = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
		ReleaseSysCache(tuple);
	}
	return distinct >= 0 ? distinct : -distinct * rows_of(relid);
}

/*
 * keys_of returns how many keys a view has; 0: nothing is known. It may have grown since its keys were counted,
 * and statistics may be of when it was smaller: the larger number is the better one.
 */
static double
keys_of(const CjTracking *tracking)
{
	return Max(keys_by_statistics(tracking->analysis->relid, tracking->analysis->key),
			   (double) tracking->keys);
}

static int64
limit_of(const CjTracking *tracking, double share)
{
	double keys = keys_of(tracking);

	return keys > 0 ? (int64) Max(keys * share / 100, share > 0 ? 1 : 0)
					: (share > 0 ? KEYS_OF_UNKNOWN : 0);
}

/* ---- by the keys ---- */

static int
keys_at_once(const CjTracking *tracking)
{
	double keys = keys_of(tracking);
	double rows = rows_of(tracking->analysis->relid);

	if (keys <= 0 || rows <= 0)
		return CJ_VIEW_PATCH_KEYS;
	return (int) Min(Max(keys * CJ_VIEW_PATCH_ROWS / rows, 1), CJ_VIEW_PATCH_KEYS);
}

static void
patch(const CjTracking *tracking, const CjChangedKeys *changed, Snapshot snapshot,
	  CjPatchCounts *counts)
{
	CjViewPatch *view_patch =
		cj_apply_begin(tracking->analysis->relid, tracking->analysis->key, snapshot);
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs keys", ALLOCSET_DEFAULT_SIZES);
	bool with_null = changed->with_null;
	int step = keys_at_once(tracking);

	for (int from = 0; from < changed->count || with_null; from += step)
	{
		int to = Min(from + step, changed->count);
		MemoryContext caller = MemoryContextSwitchTo(scratch);
		Datum keys = cj_sql_array(changed->keys + Min(from, to), Max(to - from, 0), changed->type);

		MemoryContextSwitchTo(caller);
		CHECK_FOR_INTERRUPTS();
		cj_apply_keys(view_patch, keys, with_null);
		with_null = false;
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	cj_apply_end(view_patch, counts);
}

static void
find_and_patch(const CjTracking *tracking, CjChangedKeys *changed, Snapshot snapshot,
			   CjViewRefresh *result)
{
	CjPatchCounts counts = {0};

	cj_changed_keys_find(changed, tracking, snapshot);
	if (changed->everything || changed->count > changed->limit)
		return;
	patch(tracking, changed, snapshot, &counts);
	result->done = true;
	result->keys = changed->count + (changed->with_null ? 1 : 0);
	result->rows_changed = counts.inserted + counts.deleted + 2 * counts.updated;
}

CjViewRefresh
cj_incremental_refresh_run(const CjStatsView *view, const CjTracking *tracking, bool by_keys,
						   double share, const char *search_path, const char *time_zone)
{
	CjViewRefresh result = {0};
	CjChangedKeys *changed;
	CjIdentity identity;
	Snapshot snapshot;

	/* what the caller's transaction has changed itself is seen as well */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	/* which partitions are being detached is looked up by the snapshot */
	PushActiveSnapshot(snapshot);
	by_keys = by_keys && cj_tracking_is_still(tracking, time_zone);
	PopActiveSnapshot();
	changed = cj_changed_keys_take(tracking, snapshot, by_keys ? limit_of(tracking, share) : 0);
	cj_change_capture_forget();
	if (by_keys && !changed->everything)
	{
		cj_identity_become_owner(&identity, view->owner, search_path, time_zone);
		find_and_patch(tracking, changed, snapshot, &result);
		cj_identity_restore(&identity);
	}
	UnregisterSnapshot(snapshot);
	return result;
}

void
cj_incremental_refresh_recomputed(const CjStatsView *view, const CjTracking *tracking,
								  const char *search_path, const char *time_zone)
{
	CjIdentity identity;
	CjRows rows;
	int64 keys;

	cj_identity_become_owner(&identity, view->owner, search_path, time_zone);
	rows = cj_sql_run(&count_keys, expand_name(&count_keys, view, tracking->analysis->key), NULL);
	keys = cj_sql_int64(&rows, 0, 1);
	cj_sql_free(&rows);
	cj_identity_restore(&identity);
	cj_tracking_set_current(tracking, keys);
}
