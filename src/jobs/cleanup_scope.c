/*
 * jobs/cleanup_scope.c
 *		The bound notifications, or a part of them, as the clean-up sees them in one transaction.
 *
 * Rows are addressed within one table: a partitioned table, or one with children, is taken apart, and each part is
 * named directly. That a part still belongs to the bound table is seen to in each transaction: what has been
 * detached is not ours any more.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "app/app_sql.h"
#include "base/catalog.h"
#include "base/local_time.h"
#include "jobs/cleanup_scope.h"

/* The columns by which a notification is expired. */
static const int columns[] = {CJ_NOTIFICATIONS_CREATED_AT, CJ_NOTIFICATIONS_EXPIRES_AT};

void
cj_cleanup_scope_check_read(const CjBinding *binding)
{
	const CjBoundColumn *column = binding->entities[CJ_NOTIFICATIONS].columns;

	if (column[CJ_NOTIFICATIONS_IS_READ].present || column[CJ_NOTIFICATIONS_READ_AT].present)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("setting \"unread_retention\" needs a column \"is_read\" or \"read_at\" of entity \"notifications\""),
			 errhint("Run: SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{\"unread_retention\": null}');")));
}

/* bound_of computes what a column has to be below, in its own type, to lie before a moment. */
static Datum
bound_of(Oid type, TimestampTz moment, pg_tz *zone)
{
	if (type != TIMESTAMPOID || TIMESTAMP_NOT_FINITE(moment))
		return TimestampTzGetDatum(moment);
	/* the local times that lie at or before the last moment before this one */
	return TimestampGetDatum(cj_local_time_bound(moment - 1, zone));
}

/* set_bounds computes what created_at and expires_at have to be below, in the columns' own types. */
static void
set_bounds(CjExpiredScope *scope, const CjExpiry *expiry)
{
	TimestampTz moments[] = {expiry->created_before, expiry->expires_before};
	CjBoundColumn *column = scope->binding->entities[CJ_NOTIFICATIONS].columns;
	pg_tz *zone = cj_local_time_zone(expiry->time_zone);
	Oid created_type;

	for (int i = 0; i < expiry->type_count; i++)
		moments[0] = Max(moments[0], expiry->types[i].created_before);
	for (int i = 0; i < lengthof(columns); i++)
	{
		bool local = column[columns[i]].present && column[columns[i]].base_type == TIMESTAMPOID;

		scope->bound_types[i] = local ? TIMESTAMPOID : TIMESTAMPTZOID;
		scope->bounds[i] = bound_of(scope->bound_types[i], moments[i], zone);
	}
	created_type = scope->bound_types[0];
	scope->other_bound = bound_of(created_type, expiry->created_before, zone);
	scope->unread_bound = bound_of(created_type, expiry->unread_before, zone);
	scope->type_count = expiry->type_count;
	scope->types = palloc(sizeof(Datum) * expiry->type_count);
	scope->type_bounds = palloc(sizeof(Datum) * expiry->type_count);
	for (int i = 0; i < expiry->type_count; i++)
	{
		scope->types[i] =
			cj_bound_table_setting_value("retention_by_type", &column[CJ_NOTIFICATIONS_TYPE],
										 expiry->types[i].type);
		scope->type_bounds[i] = bound_of(created_type, expiry->types[i].created_before, zone);
	}

	if (!expiry->unread_differs)
		return;
	cj_cleanup_scope_check_read(scope->binding);
	/* one of them says it */
	if (column[CJ_NOTIFICATIONS_IS_READ].present)
		column[CJ_NOTIFICATIONS_READ_AT].present = false;
}

/*
 * is_part returns whether a table is a part of another, and not being detached. The catalog is read as it is
 * now: the snapshot of a REPEATABLE READ caller may still show what has been detached or dropped.
 */
static bool
is_part(Oid part, Oid whole)
{
	Relation catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	if (part == whole)
		return true;
	check_stack_depth();
	catalog = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(part));
	scan = systable_beginscan(catalog, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);

		found = !form->inhdetachpending && is_part(form->inhparent, whole);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* lock_part locks a part of the bound table; false if it is not a part any more. */
static bool
lock_part(Oid whole, Oid part, LOCKMODE mode)
{
	CjIdentity saved;

	/* for the lock timeout that comes with it */
	cj_identity_become_extension(&saved);
	LockRelationOid(part, mode);
	cj_identity_restore(&saved);
	return is_part(part, whole);
}

/* check_part_privileges checks that the owner of the whole may do with a part what is to be done. */
static void
check_part_privileges(const CjBinding *binding, Oid part, const char *name)
{
	const char *owner = GetUserNameFromId(binding->owner, false);

	if (pg_class_aclmask(part, binding->owner, ACL_SELECT | ACL_UPDATE | ACL_DELETE, ACLMASK_ALL) ==
		(ACL_SELECT | ACL_UPDATE | ACL_DELETE))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the owner of %s may not delete from its partition %s",
					binding->entities[CJ_NOTIFICATIONS].relation, name),
			 errdetail("Jobs run as \"%s\", the owner of the table.", owner),
			 errhint("Run: GRANT SELECT, UPDATE, DELETE ON %s TO %s;", name, quote_identifier(owner))));
}

/* name_part puts a part of the bound table in the place of the whole. */
static void
name_part(CjBinding *binding, Oid part)
{
	char *name = cj_catalog_name(part);

	if (part != binding->entities[CJ_NOTIFICATIONS].relid)
		check_part_privileges(binding, part, name);
	binding->entities[CJ_NOTIFICATIONS].relation = psprintf("ONLY %s", name);
}

bool
cj_cleanup_scope_open(CjRun *run, const CjExpiry *expiry, Oid part, bool to_write,
					  CjExpiredScope *scope)
{
	CjUsage items[CJ_ENTITY_COUNT];
	int count = run->job->usage(run->config, run->dry_run, items);
	Oid whole;

	scope->binding = cj_binding_resolve(items, count);
	whole = scope->binding->entities[CJ_NOTIFICATIONS].relid;
	set_bounds(scope, expiry);
	if (OidIsValid(part) && part != whole &&
		!lock_part(whole, part, to_write ? RowExclusiveLock : AccessShareLock))
		return false;
	if (to_write && run->own_transactions)
		cj_app_sql_set_all_constraints_immediate();
	else if (to_write)
		cj_app_sql_set_constraints_immediate(scope->binding, CJ_NOTIFICATIONS);
	if (OidIsValid(part) && cj_app_sql_can_lock_rows())
		name_part(scope->binding, part);
	cj_identity_become_owner(&scope->identity, scope->binding->owner, scope->binding->search_path,
							 expiry->time_zone);
	return true;
}

CjParams *
cj_cleanup_scope_params(const CjExpiredScope *scope)
{
	const CjBoundColumn *column =
		&scope->binding->entities[CJ_NOTIFICATIONS].columns[CJ_NOTIFICATIONS_TYPE];
	Oid type = column->present ? column->base_type : TEXTOID;
	Oid created = scope->bound_types[0];

	return CJ_PARAMS(CJ_VALUE(created, scope->bounds[0], false),
					 CJ_VALUE(scope->bound_types[1], scope->bounds[1], false),
					 CJ_ARRAY(type, cj_sql_array(scope->types, scope->type_count, type)),
					 CJ_ARRAY(created,
							  cj_sql_array(scope->type_bounds, scope->type_count, created)),
					 CJ_VALUE(created, scope->other_bound, false),
					 CJ_VALUE(created, scope->unread_bound, false));
}

void
cj_cleanup_scope_leave_no_choice(bool by_index)
{
	cj_identity_set("enable_seqscan", "off");
	cj_identity_set("enable_bitmapscan", "off");
	cj_identity_set("enable_sort", "off");
	cj_identity_set("max_parallel_workers_per_gather", "0");
	if (by_index)
		cj_identity_set("enable_tidscan", "off");
	else
	{
		cj_identity_set("enable_indexscan", "off");
		cj_identity_set("enable_indexonlyscan", "off");
	}
}
