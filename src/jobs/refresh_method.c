/*
 * jobs/refresh_method.c
 *		The ways to bring a statistics view up to date.
 *
 * A method is chosen by what the catalogs say of a view; it runs in a subtransaction of the job, with the view
 * locked as the method says.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/catalog.h"
#include "base/compat.h"
#include "base/hint.h"
#include "base/identity.h"
#include "jobs/refresh_method.h"
#include "matview/incremental_refresh.h"

/* Nothing is stored that could be out of date. */
static const CjRefreshMethod none = {"none", NoLock, {NULL}};

/* Readers go on; what has changed is found by comparison and applied. */
static const CjRefreshMethod concurrent = {"concurrent",
										   ExclusiveLock,
										   {"refresh a view concurrently",
											"REFRESH MATERIALIZED VIEW CONCURRENTLY ",
											SPI_OK_UTILITY}};

/* Readers wait. */
static const CjRefreshMethod full = {
	"full", AccessExclusiveLock, {"refresh a view", "REFRESH MATERIALIZED VIEW ", SPI_OK_UTILITY}};

/* Nothing has happened to a tracked view's tables. */
static const CjRefreshMethod unchanged = {"unchanged", NoLock, {NULL}};

/* Readers go on; only what has changed is recomputed, unless so much has that `concurrent` is cheaper. */
static const CjRefreshMethod incremental = {"incremental", ExclusiveLock, {NULL}};

/* choose_untracked chooses for a view of whose changes nothing is known. */
static const CjRefreshMethod *
choose_untracked(const CjStatsView *view, bool force_full)
{
	if (view->relkind != RELKIND_MATVIEW)
		return &none;
	if (!force_full && view->is_populated && view->has_unique_index)
		return &concurrent;
	return &full;
}

/*
 * cj_refresh_method_choose chooses the cheapest method that is right for a view: the one place where
 * that is decided, for the run and for the doctor.
 *
 * Under REPEATABLE READ and SERIALIZABLE a tracked view is refreshed as any other, and its change log left
 * alone: by an old snapshot, newer rows would be overwritten by older ones. The next refresh then does
 * more than it needs to.
 */
CjRefreshPlan
cj_refresh_method_choose(const CjStatsView *view, bool force_full, const char *time_zone)
{
	CjRefreshPlan plan = {.method = choose_untracked(view, force_full), .keys = -1};
	CjTracking *tracking;

	if (plan.method == &none || IsolationUsesXactSnapshot())
		return plan;
	tracking = cj_tracking_examine(view, time_zone);
	switch (tracking->state)
	{
		case CJ_TRACKING_NONE:
			return plan;
		case CJ_TRACKING_GONE:
			plan.is_gone = true;
			return plan;
		case CJ_TRACKING_REFUSED:
			plan.refused = tracking->analysis;
			return plan;
		case CJ_TRACKING_CAPTURE_MISSING:
			plan.capture_missing = tracking->analysis;
			return plan;
		case CJ_TRACKING_STALE:
			break;
		case CJ_TRACKING_CHANGED:
			if (plan.method == &concurrent)
				plan.method = &incremental;
			break;
		case CJ_TRACKING_CURRENT:
			if (plan.method == &concurrent)
				plan.method = &unchanged;
			break;
	}
	plan.tracking = tracking;
	return plan;
}

char *
cj_refresh_method_missing_grant(const CjRefreshMethod *method, const CjStatsView *view)
{
	const char *owner = quote_identifier(GetUserNameFromId(view->owner, false));

	if (method != &none && method != &unchanged &&
		!cj_compat_schema_usage(view->schema, view->owner))
		return psprintf("GRANT USAGE ON SCHEMA %s TO %s;",
						quote_identifier(get_namespace_name(view->schema)), owner);
	if ((method == &concurrent || method == &incremental) &&
		!cj_compat_may_create_temporary(MyDatabaseId, view->owner))
		return psprintf("GRANT TEMPORARY ON DATABASE %s TO %s;",
						quote_identifier(get_database_name(MyDatabaseId)), owner);
	return NULL;
}

/* check_grants raises an error if a view's owner lacks what the method needs. */
static void
check_grants(const CjRefreshMethod *method, const CjStatsView *view)
{
	const char *grant = cj_refresh_method_missing_grant(method, view);

	if (grant)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of %s lacks a privilege that the refresh needs", view->name),
				 errhint("%s", cj_hint_run(grant))));
}

/*
 * count_changes returns how many rows of a relation this transaction has inserted and deleted so far.
 *
 * That is what the server counts for its statistics. A full refresh counts as a truncation, which
 * forgets the counts of its own subtransaction, and the insertion of all rows: as the subtransaction is
 * new, what is between two calls is the number of rows written.
 */
static int64
count_changes(Oid relid)
{
	Datum arg = ObjectIdGetDatum(relid);

	return DatumGetInt64(DirectFunctionCall1(pg_stat_get_xact_tuples_inserted, arg)) +
		   DatumGetInt64(DirectFunctionCall1(pg_stat_get_xact_tuples_deleted, arg));
}

/*
 * search_path_of returns the path for the refresh of a view.
 *
 * Never the caller's, which may lead to functions of the caller. Up to PostgreSQL 16 the functions that
 * a view calls are found by it, and may be without a schema where they are of the view's own; from 17
 * on REFRESH lets them see pg_catalog alone, and so only event triggers see ours.
 */
static char *
search_path_of(const CjStatsView *view)
{
	if (CJ_COMPAT_REFRESH_HAS_OWN_PATH)
		return pstrdup("pg_catalog");
	return psprintf("pg_catalog, %s", quote_identifier(get_namespace_name(view->schema)));
}

/* refresh does what the method says, as the owner of the view. */
static void
refresh(const CjRefreshMethod *method, const CjStatsView *view, const char *time_zone)
{
	const char *name = cj_catalog_name(view->relid);
	CjIdentity identity;

	cj_identity_become_owner_to_refresh(&identity, view->owner, search_path_of(view), time_zone);
	(void) cj_sql_run(&method->statement, psprintf("%s%s", method->statement.text, name), NULL);
	cj_identity_restore(&identity);
}

/* refresh_tracked brings a tracked view up to date; returns how many rows changed, -1: to be counted. */
static int64
refresh_tracked(CjRefreshPlan *plan, const CjStatsView *view, double share, const char *time_zone)
{
	char *search_path = search_path_of(view);
	CjViewRefresh done =
		cj_incremental_refresh_run(view, plan->tracking, plan->method == &incremental, share,
								   search_path, time_zone);

	if (done.done)
	{
		plan->keys = done.keys;
		return done.rows_changed;
	}
	if (plan->method == &incremental)
		plan->method = &concurrent;
	refresh(plan->method, view, time_zone);
	cj_incremental_refresh_recomputed(view, plan->tracking, search_path, time_zone);
	return -1;
}

int64
cj_refresh_method_run(CjRefreshPlan *plan, const CjStatsView *view, double share,
					  const char *time_zone)
{
	int64 before;
	int64 changed = -1;

	plan->keys = -1;
	if (plan->method->lock_mode == NoLock)
		return 0;
	check_grants(plan->method, view);
	before = count_changes(view->relid);
	if (plan->tracking)
		changed = refresh_tracked(plan, view, share, time_zone);
	else
		refresh(plan->method, view, time_zone);
	if (changed >= 0)
		return changed;
	return pgstat_track_counts ? count_changes(view->relid) - before : -1;
}
