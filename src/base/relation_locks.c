/*
 * base/relation_locks.c
 *		Locks on several relations of the app at once.
 *
 * Who waits for one lock while he holds another can be part of a deadlock, and then PostgreSQL ends the
 * transaction that has waited longest, as likely the app's as ours. So nothing is held while we wait: one lock is
 * waited for, the others are taken if they are free, and if one is not, all are given back and that one is waited
 * for.
 *
 * Among many short writers one or another is always busy, and that would never end. After some rounds the others are
 * waited for as well, as everything is that comes later in the transaction (cj_identity_hold_locks): so briefly that
 * we have given up before a deadlock would be looked for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_rewrite.h"
#include "miscadmin.h"
#include "rewrite/rewriteSupport.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/catalog.h"
#include "base/identity.h"
#include "base/relation_locks.h"

/* So often all is given back, before the others are waited for, too. */
#define ROUNDS 8

/* A relation that is to be locked. */
typedef struct AppLock
{
	Oid relid;
	LOCKMODE mode;
} AppLock;

/* ---- what is to be locked ---- */

static AppLock *
find(List *locks, Oid relid)
{
	ListCell *cell;

	foreach(cell, locks)
	{
		if (((AppLock *) lfirst(cell))->relid == relid)
			return lfirst(cell);
	}
	return NULL;
}

bool
cj_relation_locks_has(List *locks, Oid relid)
{
	return find(locks, relid) != NULL;
}

List *
cj_relation_locks_add(List *locks, Oid relid, LOCKMODE mode)
{
	AppLock *lock = find(locks, relid);

	if (lock)
	{
		lock->mode = Max(lock->mode, mode);
		return locks;
	}
	lock = palloc(sizeof(AppLock));
	lock->relid = relid;
	lock->mode = mode;
	return lappend(locks, lock);
}

List *
cj_relation_locks_add_table(List *locks, Oid relid, LOCKMODE mode)
{
	ListCell *cell;

	locks = cj_relation_locks_add(locks, relid, mode);
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return locks;
	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		locks = cj_relation_locks_add(locks, lfirst_oid(cell), mode);
	return locks;
}

static bool
has_rights_of_owner(Oid role, Oid relid)
{
	FormData_pg_class form;

	return cj_catalog_class(relid, &form) && has_privs_of_role(role, form.relowner);
}

/* add_relation adds a relation that is read, and what it reads itself. */
static List *
add_relation(List *locks, Oid relid, LOCKMODE mode, Oid role)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			return cj_relation_locks_add_table(locks, relid,
											   has_rights_of_owner(role, relid) ? mode
																				: AccessShareLock);
		case RELKIND_VIEW:
			locks = cj_relation_locks_add(locks, relid, AccessShareLock);
			return cj_relation_locks_add_read(locks, relid, mode, role);
		case RELKIND_MATVIEW:
		case RELKIND_FOREIGN_TABLE:
			return cj_relation_locks_add(locks, relid, AccessShareLock);
		default:
			return locks;
	}
}

/* rule_of returns the OID of the rule that is the definition of a view; InvalidOid if it is gone. */
static Oid
rule_of(Oid view)
{
	return GetSysCacheOid2(RULERELNAME, Anum_pg_rewrite_oid, ObjectIdGetDatum(view),
						   PointerGetDatum(ViewSelectRuleName));
}

List *
cj_relation_locks_add_read(List *locks, Oid view, LOCKMODE mode, Oid role)
{
	Relation catalog = table_open(DependRelationId, AccessShareLock);
	List *read = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	ListCell *cell;

	check_stack_depth();
	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RewriteRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(rule_of(view)));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid == RelationRelationId && form->refobjid != view &&
			form->refobjid >= FirstNormalObjectId)
			read = list_append_unique_oid(read, form->refobjid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	foreach(cell, read)
		locks = add_relation(locks, lfirst_oid(cell), mode, role);
	return locks;
}

/* ---- locking ---- */

/* add_lock_context adds to a lock timeout the relation it waited for. */
static void
add_lock_context(void *arg)
{
	errcontext("challenge_jobs lock on relation %s", (const char *) arg);
}

/* wait_for waits for a lock, no longer than so many milliseconds. */
static void
wait_for(const AppLock *lock, int64 timeout)
{
	ErrorContextCallback context = {error_context_stack, add_lock_context};

	if (ConditionalLockRelationOid(lock->relid, lock->mode))
		return;
	context.arg = cj_catalog_name(lock->relid);
	error_context_stack = &context;
	cj_identity_set("lock_timeout", psprintf(INT64_FORMAT, Max(timeout, 1)));
	LockRelationOid(lock->relid, lock->mode);
	error_context_stack = context.previous;
}

/* give_back releases the locks that a round has taken. */
static void
give_back(List *taken)
{
	ListCell *cell;

	foreach(cell, taken)
		UnlockRelationOid(((AppLock *) lfirst(cell))->relid, ((AppLock *) lfirst(cell))->mode);
	list_free(taken);
}

/* try_with waits for one of the locks and takes the others if they are free; returns the one that is not, or NULL. */
static AppLock *
try_with(List *locks, AppLock *first, int64 timeout)
{
	List *taken;
	ListCell *cell;

	wait_for(first, timeout);
	taken = list_make1(first);
	foreach(cell, locks)
	{
		AppLock *lock = lfirst(cell);

		if (lock == first)
			continue;
		if (!ConditionalLockRelationOid(lock->relid, lock->mode))
		{
			give_back(taken);
			return lock;
		}
		taken = lappend(taken, lock);
	}
	list_free(taken);
	return NULL;
}

/* take_all takes all locks, one of them first. */
static void
take_all(List *locks, AppLock *first)
{
	bool is_free = !cj_identity_holds_locks();
	int64 timeout = cj_identity_lock_timeout();
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	ListCell *cell;

	for (int round = 0; first && round < ROUNDS; round++)
	{
		first = try_with(locks, first, timeout);
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		/* who holds something already does not come to hold less by trying again */
		if (!is_free)
			break;
	}
	if (first == NULL)
		return;
	wait_for(first, timeout);
	cj_identity_hold_locks();
	foreach(cell, locks)
		wait_for(lfirst(cell), cj_identity_lock_timeout());
}

void
cj_relation_locks_take(List *locks)
{
	CjIdentity saved;

	if (locks == NIL)
		return;
	/* for the lock timeout that comes with it, and whoever we are need not see the app's schemas */
	cj_identity_become_extension(&saved);
	take_all(locks, linitial(locks));
	cj_identity_restore(&saved);
	cj_identity_hold_locks();
	AcceptInvalidationMessages();
}
