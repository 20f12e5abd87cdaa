/*
 * matview/tracking.c
 *		Which views are tracked, and whether what is known of their changes is all there is to know.
 *
 * The table tracking holds what the user has asked for, by name; it is dumped. Everything else (tracking_state,
 * tracked_source, change_log) is about relations as they are in this database, is not dumped, and is made anew
 * where it is missing.
 *
 * To begin to note changes is to store the key paths and to make the triggers under a lock that keeps writers
 * out: those who were at work have ended, and those who come look at the key paths. What was changed before is not in
 * the log, and so the view has to be recomputed once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/catalog.h"
#include "base/identity.h"
#include "base/relation_locks.h"
#include "base/sql.h"
#include "matview/capture/capture_trigger.h"
#include "matview/capture/change_capture.h"
#include "matview/capture/change_log.h"
#include "matview/capture/source_catalog.h"
#include "matview/definition_hash.h"
#include "matview/tracking.h"
#include "matview/view_names.h"

static const CjStatement load = {
	"load how a view is tracked",
	"SELECT t.key_column, s.view_id, s.definition_hash, s.view_version, s.keys"
	"  FROM challenge_jobs.tracking t"
	"  LEFT JOIN challenge_jobs.tracking_state s ON s.view_id = $2"
	" WHERE t.view_name = $1",
	SPI_OK_SELECT};

static const CjStatement find_name = {
	"find a tracked view", "SELECT FROM challenge_jobs.tracking t WHERE t.view_name = $1",
	SPI_OK_SELECT};

static const CjStatement store_name = {
	"track a view",
	"INSERT INTO challenge_jobs.tracking AS t (view_name, key_column) VALUES ($1, $2)"
	"    ON CONFLICT (view_name) DO UPDATE SET key_column = $2",
	SPI_OK_INSERT};

static const CjStatement remove_name = {
	"untrack a view", "DELETE FROM challenge_jobs.tracking t WHERE t.view_name = $1",
	SPI_OK_DELETE};

/*
 * $1: a name, $2: the view that is to have it. What there is of others under the name, of this one under another (it may
 * have been renamed), and of views that are gone.
 */
static const CjStatement find_forgotten = {
	"find tracked views that are gone",
	"SELECT s.view_id"
	"  FROM challenge_jobs.tracking_state s"
	" WHERE s.view_name = $1"
	"    OR s.view_id = $2"
	"    OR NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.view_id)",
	SPI_OK_SELECT};

static const CjStatement add_state = {
	"store the state of a tracked view",
	"INSERT INTO challenge_jobs.tracking_state (view_id, view_name) VALUES ($1, $2)",
	SPI_OK_INSERT};

static const CjStatement change_state = {
	"change the state of a tracked view",
	"UPDATE challenge_jobs.tracking_state s SET definition_hash = $2, view_version = $3, keys = $4"
	" WHERE s.view_id = $1",
	SPI_OK_UPDATE};

static const CjStatement remove_state = {
	"remove the state of a tracked view",
	"DELETE FROM challenge_jobs.tracking_state s WHERE s.view_id = $1", SPI_OK_DELETE};

/* What is noted of views that are gone, or not tracked any more: by writers who had begun before. */
#define OF_NO_VIEW                                                         \
	"  FROM challenge_jobs.change_log l"                                   \
	" WHERE NOT EXISTS (SELECT"                                            \
	"                     FROM challenge_jobs.tracking_state s"            \
	"                     JOIN pg_catalog.pg_class c ON c.oid = s.view_id" \
	"                    WHERE s.view_id = l.view_id)"

static const CjStatement find_rest = {"look for changes that are of no view",
									  "SELECT" OF_NO_VIEW " LIMIT 1", SPI_OK_SELECT};

static const CjStatement remove_rest = {"remove changes that are of no view", "DELETE" OF_NO_VIEW,
										SPI_OK_DELETE};

/* $1: sources. Those that no tracked view is made of. */
static const CjStatement find_unused = {
	"find tables that no tracked view is made of",
	"SELECT DISTINCT u.relid"
	"  FROM pg_catalog.unnest($1) u(relid)"
	" WHERE NOT EXISTS (SELECT FROM challenge_jobs.tracked_source s WHERE s.source_id = u.relid)",
	SPI_OK_SELECT};

/* ---- statements ---- */

static List *
read_oids(CjRows *rows)
{
	List *oids = NIL;

	for (uint64 row = 0; row < rows->processed; row++)
		oids = lappend_oid(oids, cj_sql_oid(rows, row, 1));
	cj_sql_free(rows);
	return oids;
}

bool
cj_tracking_is_tracked(const char *view_name)
{
	return cj_sql_execute_own(&find_name, CJ_PARAMS(CJ_TEXT(view_name))) > 0;
}

/*
 * version_of returns a number for what the view itself is like: which version of its row there is in pg_class.
 *
 * Every REFRESH writes a new one, also CONCURRENTLY, and ours by the keys does not. Whoever refreshes by hand, or under
 * REPEATABLE READ, may do so by a snapshot from before changes that have been taken out of the log since: it need be no
 * older than the wait for a lock on the view.
 */
static int64
version_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint64 version = 0;

	if (HeapTupleIsValid(tuple))
	{
		uint64 parts[] = {HeapTupleHeaderGetRawXmin(tuple->t_data),
						  ItemPointerGetBlockNumberNoCheck(&tuple->t_self),
						  ItemPointerGetOffsetNumberNoCheck(&tuple->t_self),
						  ((Form_pg_class) GETSTRUCT(tuple))->relfilenode};

		version = hash_bytes_extended((const unsigned char *) parts, sizeof(parts), 0);
		ReleaseSysCache(tuple);
	}
	return (int64) version;
}

/* ---- how is it tracked? ---- */

/* key_paths_of lists the key paths of an analysis as they are stored; those through other tables are numbered. */
static List *
key_paths_of(const CjViewAnalysis *analysis)
{
	List *key_paths = NIL;
	int16 number = 0;
	ListCell *cell;

	foreach(cell, analysis->sources)
	{
		const CjViewSource *source = lfirst(cell);
		ListCell *key_path_cell;

		foreach(key_path_cell, source->key_paths)
		{
			const CjKeyPath *key_path = lfirst(key_path_cell);
			CjStoredKeyPath *stored = palloc0(sizeof(CjStoredKeyPath));
			int column = -1;

			stored->view = analysis->relid;
			stored->source = source->relid;
			stored->number = key_path->kind == CJ_KEY_PATH_DIRECT       ? CJ_CHANGE_KEY
							 : key_path->kind == CJ_KEY_PATH_WHOLE_VIEW ? CJ_CHANGE_EVERYTHING
																		: ++number;
			stored->reason = key_path->reason;
			if (key_path->kind != CJ_KEY_PATH_WHOLE_VIEW)
				stored->column = key_path->column;
			if (key_path->kind == CJ_KEY_PATH_VIA)
			{
				stored->via = key_path->via;
				stored->via_column = key_path->via_column;
				stored->via_key = key_path->via_key;
			}
			while ((column = bms_next_member(source->columns, column)) >= 0)
				stored->columns = lappend_int(stored->columns, column);
			key_paths = lappend(key_paths, stored);
		}
	}
	return key_paths;
}

static bool
is_noted(Oid view)
{
	Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
	bool found = cj_change_log_has(view, snapshot);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * is_in_use returns whether a statement over the sources is under way in this session: the refresh is called in it, or by a
 * trigger. What it has changed so far is seen, and is noted only when it ends; that of a foreign key's action, only
 * when the statement ends that it belongs to.
 */
static bool
is_in_use(const CjViewAnalysis *analysis)
{
	ListCell *cell;

	foreach(cell, analysis->sources)
	{
		ListCell *relid;

		foreach(relid,
				find_all_inheritors(((CjViewSource *) lfirst(cell))->relid, AccessShareLock, NULL))
		{
			Relation rel = table_open(lfirst_oid(relid), NoLock);
			bool in_use = rel->rd_refcnt > 1 || AfterTriggerPendingOnRel(lfirst_oid(relid));

			table_close(rel, NoLock);
			if (in_use)
				return true;
		}
	}
	return false;
}

/* evaluate finds the state of a view that has a row in tracking_state, if `stored_hash`. */
static CjTrackingState
evaluate(CjTracking *tracking, const char *time_zone, const int64 *stored_hash, int64 version)
{
	bool complete;

	tracking->hash = cj_definition_hash_make(tracking->analysis, time_zone, &complete);
	tracking->key_paths = cj_source_catalog_of_view(tracking->analysis->relid);
	if (!complete || !cj_source_catalog_same(tracking->key_paths, key_paths_of(tracking->analysis)))
		return CJ_TRACKING_CAPTURE_MISSING;
	if (stored_hash == NULL || *stored_hash != tracking->hash ||
		version != version_of(tracking->analysis->relid) || is_in_use(tracking->analysis))
		return CJ_TRACKING_STALE;
	/* last of all: what has been noted by then is seen */
	return is_noted(tracking->analysis->relid) ? CJ_TRACKING_CHANGED : CJ_TRACKING_CURRENT;
}

CjTracking *
cj_tracking_examine(const CjStatsView *view, const char *time_zone)
{
	CjTracking *tracking = palloc0(sizeof(CjTracking));
	char *key;
	int64 hash;
	bool has_state;
	bool has_hash;
	int64 version;
	CjIdentity saved;
	CjRows rows = cj_sql_run_own(&load, CJ_PARAMS(CJ_TEXT(view->name), CJ_OID(view->relid)));

	tracking->state = CJ_TRACKING_NONE;
	if (rows.processed == 0)
		return tracking;
	key = cj_sql_text(&rows, 0, 1);
	has_state = cj_sql_text(&rows, 0, 2) != NULL;
	has_hash = cj_sql_text(&rows, 0, 3) != NULL;
	hash = cj_sql_int64(&rows, 0, 3);
	version = cj_sql_int64(&rows, 0, 4);
	tracking->keys = cj_sql_int64(&rows, 0, 5);
	cj_sql_free(&rows);

	cj_relation_locks_take(cj_stats_view_locks(view, AccessShareLock, AccessShareLock));
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view->relid)))
	{
		tracking->state = CJ_TRACKING_GONE;
		return tracking;
	}
	cj_identity_become_extension(&saved);
	tracking->analysis = cj_key_mapping_make(view->relid, key);
	if (tracking->analysis->refusal)
		tracking->state = CJ_TRACKING_REFUSED;
	else if (!has_state)
		tracking->state = CJ_TRACKING_CAPTURE_MISSING;
	else
		tracking->state = evaluate(tracking, time_zone, has_hash ? &hash : NULL, version);
	cj_identity_restore(&saved);
	return tracking;
}

bool
cj_tracking_is_still(const CjTracking *tracking, const char *time_zone)
{
	CjIdentity saved;
	bool complete;
	int64 hash;

	cj_identity_become_extension(&saved);
	hash = cj_definition_hash_make(tracking->analysis, time_zone, &complete);
	cj_identity_restore(&saved);
	return hash == tracking->hash && complete;
}

void
cj_tracking_set_current(const CjTracking *tracking, int64 keys)
{
	Oid view = tracking->analysis->relid;

	cj_sql_execute_own(&change_state, CJ_PARAMS(CJ_OID(view), CJ_INT8(tracking->hash),
												CJ_INT8(version_of(view)), CJ_INT8(keys)));
}

/* ---- begin and end ---- */

/* state_table returns the table that is locked by who forgets views. */
static Oid
state_table(void)
{
	return get_relname_relid("tracking_state", get_namespace_oid("challenge_jobs", false));
}

void
cj_tracking_sweep(void)
{
	if (IsolationUsesXactSnapshot())
		return;
	/* who forgets views removes what there is of them himself */
	if (cj_sql_execute_own(&find_rest, NULL) == 0 ||
		!ConditionalLockRelationOid(state_table(), ShareUpdateExclusiveLock))
		return;
	cj_sql_execute_own(&remove_rest, NULL);
}

/*
 * lock_writers_out waits for those who are writing to what other views are still made of: they go on to note, until
 * they end, by the key paths that have been removed. (Those of other tables have been waited for by the caller who has the
 * tables noted anew, or are by who drops the triggers.)
 */
static void
lock_writers_out(List *sources)
{
	ListCell *cell;

	foreach(cell, sources)
	{
		if (cj_source_catalog_of_table(lfirst_oid(cell)) == NIL)
			continue;
		LockRelationOid(lfirst_oid(cell), ShareRowExclusiveLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell))))
			(void) find_all_inheritors(lfirst_oid(cell), ShareRowExclusiveLock, NULL);
	}
}

/* drop_unused drops the triggers of those of the tables that no tracked view is made of. */
static void
drop_unused(List *sources)
{
	CjRows rows = cj_sql_run_own(&find_unused, CJ_PARAMS(CJ_ARRAY(OIDOID, cj_sql_oids(sources))));
	ListCell *cell;

	foreach(cell, read_oids(&rows))
		cj_capture_trigger_drop(lfirst_oid(cell));
}

/* forget_view removes all that there is of a view but its name; returns the tables that it was made of. */
static List *
forget_view(Oid view)
{
	List *sources = NIL;
	Snapshot snapshot;
	CjIdentity saved;
	ListCell *cell;

	/* as the owner of the extension: with our lock_timeout */
	cj_identity_become_extension(&saved);
	foreach(cell, cj_source_catalog_of_view(view))
		sources = list_append_unique_oid(sources, ((CjStoredKeyPath *) lfirst(cell))->source);
	cj_source_catalog_remove(view);
	cj_sql_execute_own(&remove_state, CJ_PARAMS(CJ_OID(view)));
	foreach(cell, sources)
		cj_change_capture_invalidate(lfirst_oid(cell));
	CommandCounterIncrement();
	/* of a view that is gone nobody reads what is still noted */
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view)))
		lock_writers_out(sources);

	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	cj_change_log_take(view, snapshot, NULL, NULL);
	cj_change_capture_forget();
	UnregisterSnapshot(snapshot);
	cj_identity_restore(&saved);
	return sources;
}

/* forgotten_with lists all views that have had a name, this one, and those that are gone. */
static List *
forgotten_with(const char *name, Oid view)
{
	CjRows rows = cj_sql_run_own(&find_forgotten, CJ_PARAMS(CJ_TEXT(name), CJ_OID(view)));

	return read_oids(&rows);
}

static List *
forget_name(const char *name, Oid view)
{
	List *sources = NIL;
	ListCell *cell;

	foreach(cell, forgotten_with(name, view))
		sources = list_concat_unique_oid(sources, forget_view(lfirst_oid(cell)));
	return sources;
}

/*
 * add_forgotten adds the tables that views are made of that are to be forgotten, but for those that are in the list:
 * who writes is waited for, and if triggers are to be dropped who reads as well. (What is noted of a view that is
 * gone nobody reads.)
 */
static List *
add_forgotten(List *locks, List *views)
{
	List *kept = list_copy(locks);
	ListCell *cell;

	foreach(cell, views)
	{
		bool is_gone = !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell)));
		ListCell *source_cell;

		/* who refreshes it takes out of the log what we are to take */
		if (!is_gone)
			locks = cj_relation_locks_add(locks, lfirst_oid(cell), ShareUpdateExclusiveLock);
		foreach(source_cell, cj_source_catalog_of_view(lfirst_oid(cell)))
		{
			Oid source = ((CjStoredKeyPath *) lfirst(source_cell))->source;
			LOCKMODE mode = AccessExclusiveLock;
			ListCell *user;

			foreach(user, cj_source_catalog_of_table(source))
			{
				if (!list_member_oid(views, ((CjStoredKeyPath *) lfirst(user))->view))
					mode = is_gone ? NoLock : ShareRowExclusiveLock;
			}
			if (mode != NoLock && !cj_relation_locks_has(kept, source))
				locks = cj_relation_locks_add_table(locks, source, mode);
		}
	}
	return locks;
}

/*
 * lock_to_forget takes the locks of a list, and those that it takes to forget what forgotten_with lists: first of what is
 * known of tracked views, so that others who forget are waited for. Of those that are gone each forgets all.
 */
static void
lock_to_forget(const char *name, Oid view, List *locks)
{
	locks = list_concat(cj_relation_locks_add(NIL, state_table(), ShareUpdateExclusiveLock), locks);
	cj_relation_locks_take(add_forgotten(locks, forgotten_with(name, view)));
}

void
cj_tracking_lock_to_install(const CjStatsView *view)
{
	lock_to_forget(view->name, view->relid,
				   cj_stats_view_locks(view, ShareUpdateExclusiveLock, ShareRowExclusiveLock));
}

/* check_owner refuses a source whose owner has nothing to do with the owner of the view. */
static void
check_owner(const CjStatsView *view, const CjViewSource *source)
{
	Relation rel = table_open(source->relid, NoLock);
	Oid owner = rel->rd_rel->relowner;

	if (!has_privs_of_role(view->owner, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of %s may not create triggers on %s", view->name,
						cj_catalog_name(RelationGetRelid(rel))),
				 errdetail("Triggers record the changes of the tables, and only the owner of a table may create triggers on it."),
				 errhint("Run: ALTER MATERIALIZED VIEW %s OWNER TO %s;", view->name,
						 quote_identifier(GetUserNameFromId(owner, false)))));
	table_close(rel, NoLock);
}

void
cj_tracking_install_capture(const CjStatsView *view, CjViewAnalysis *analysis)
{
	List *dropped;
	ListCell *cell;

	foreach(cell, analysis->sources)
		check_owner(view, lfirst(cell));
	/* from here on nobody writes */
	foreach(cell, analysis->sources)
		cj_capture_trigger_create(((CjViewSource *) lfirst(cell))->relid);
	dropped = forget_name(view->name, view->relid);
	cj_sql_execute_own(&add_state, CJ_PARAMS(CJ_OID(view->relid), CJ_TEXT(view->name)));
	foreach(cell, key_paths_of(analysis))
		cj_source_catalog_add(lfirst(cell));
	foreach(cell, analysis->sources)
		cj_change_capture_invalidate(((CjViewSource *) lfirst(cell))->relid);
	CommandCounterIncrement();
	drop_unused(dropped);
}

static void
raise_refusal(const CjViewAnalysis *analysis, const char *view_name, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("materialized view %s cannot be refreshed by its column \"%s\"", view_name, key),
			 errdetail("%s", analysis->refusal),
			 analysis->hint ? errhint("%s", analysis->hint) : 0));
}

CjViewAnalysis *
cj_tracking_track(Oid relid, const char *key, bool dry_run)
{
	CjStatsView view;
	CjViewAnalysis *analysis;
	CjIdentity saved;

	cj_view_names_follow();
	/* to lock it is for its owner, too; and it may be another one's when we have got the lock */
	cj_stats_view_describe_as_caller(relid, "track it", &view);
	if (dry_run || IsolationUsesXactSnapshot())
		cj_relation_locks_take(
			cj_stats_view_locks(&view, ShareUpdateExclusiveLock, AccessShareLock));
	else
		cj_tracking_lock_to_install(&view);
	cj_stats_view_describe_as_caller(relid, "track it", &view);
	cj_identity_become_extension(&saved);
	analysis = cj_key_mapping_make(relid, key);
	cj_identity_restore(&saved);
	if (analysis->refusal)
		raise_refusal(analysis, view.name, key);
	if (dry_run)
		return analysis;

	/* who sees an old state of the tables could not tell what is noted by now */
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a view can only be tracked in a READ COMMITTED transaction"),
				 errhint("Run: SET TRANSACTION ISOLATION LEVEL READ COMMITTED;")));
	cj_tracking_install_capture(&view, analysis);
	cj_sql_execute_own(&store_name, CJ_PARAMS(CJ_TEXT(view.name), CJ_TEXT(key)));
	cj_stats_view_register(view.name);
	cj_view_names_note();
	return analysis;
}

/* forget stops tracking a view of that name, under locks of a list. */
static void
forget(const char *view_name, List *locks)
{
	lock_to_forget(view_name, InvalidOid, locks);
	if (cj_sql_execute_own(&remove_name, CJ_PARAMS(CJ_TEXT(view_name))) > 0)
		drop_unused(forget_name(view_name, InvalidOid));
}

void
cj_tracking_forget(const char *view_name)
{
	if (cj_tracking_is_tracked(view_name))
		forget(view_name, NIL);
}

void
cj_tracking_untrack(Oid relid)
{
	CjStatsView view;

	cj_view_names_follow();
	cj_stats_view_describe_as_caller(relid, "untrack it", &view);
	if (!cj_tracking_is_tracked(view.name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s is not tracked", view.name),
				 errhint("Run: SELECT DISTINCT view_name FROM challenge_jobs.tracked_view;")));
	forget(view.name, cj_relation_locks_add(NIL, relid, ShareUpdateExclusiveLock));
	cj_stats_view_describe_as_caller(relid, "untrack it", &view);
}
