/*
 * matview/capture/capture_trigger.c
 *		The triggers by which the changes of a table are noted: made, found, dropped.
 *
 * They are known by their function, not by their name. That has the OID of the table in it: a partition may have
 * triggers of its own beside those of the table that it is, or comes to be, attached to. They are made and dropped
 * by the functions behind CREATE and DROP TRIGGER, as by a statement the owner of the table would need USAGE on
 * our schema. Their dependency on the extension is that of ALTER TRIGGER … DEPENDS ON EXTENSION: DROP EXTENSION
 * takes them along, pg_dump dumps them.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

#include "base/catalog.h"
#include "base/identity.h"
#include "matview/capture/capture_trigger.h"

/* A trigger as it has to be. */
typedef struct Kind
{
	const char *name;
	bool is_row;
	int16 events;
} Kind;

static const Kind kinds[] = {
	{"challenge_jobs_capture", true,
	 TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE},
	/* a partition that is truncated by itself is known by its file */
	{"challenge_jobs_capture_truncate", false, TRIGGER_TYPE_TRUNCATE},
};

/* function_oid returns the OID of the trigger function; whoever we are need not see our schema. */
static Oid
function_oid(void)
{
	Oid schema = get_namespace_oid("challenge_jobs", true);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("capture_change"),
						   PointerGetDatum(buildoidvector(NULL, 0)), ObjectIdGetDatum(schema));
}

static bool
is_kind(const Trigger *trigger, const Kind *kind, Oid function)
{
	int16 type = kind->events | (kind->is_row ? TRIGGER_TYPE_ROW : 0);

	return trigger->tgfoid == function && trigger->tgtype == type &&
		   trigger->tgenabled == TRIGGER_FIRES_ALWAYS && trigger->tgqual == NULL &&
		   trigger->tgnattr == 0 && !trigger->tgdeferrable;
}

/* find_kind returns the OID of a trigger of an open table, or InvalidOid. */
static Oid
find_kind(Relation rel, const Kind *kind, Oid function)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		if (is_kind(&rel->trigdesc->triggers[i], kind, function))
			return rel->trigdesc->triggers[i].tgoid;
	}
	return InvalidOid;
}

List *
cj_capture_trigger_find(Relation rel, bool is_source, bool *complete)
{
	Oid function = function_oid();
	List *triggers = NIL;

	*complete = OidIsValid(function);
	for (int i = 0; i < lengthof(kinds); i++)
	{
		Oid trigger;

		if (!kinds[i].is_row && !is_source)
			continue;
		trigger = find_kind(rel, &kinds[i], function);
		if (OidIsValid(trigger))
			triggers = lappend_oid(triggers, trigger);
		else
			*complete = false;
	}
	return triggers;
}

static void
drop_trigger(Oid trigger)
{
	ObjectAddress address;

	ObjectAddressSet(address, TriggerRelationId, trigger);
	performDeletion(&address, DROP_RESTRICT, 0);
}

/*
 * drop_triggers drops the triggers with our function that a table has by itself, or those of them that are not as they
 * have to be (disabled ones, as a rule); and closes the table.
 */
static void
drop_triggers(Relation rel, bool only_broken)
{
	Oid function = function_oid();
	List *triggers = NIL;
	ListCell *cell;

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		bool is_right = false;

		for (int k = 0; k < lengthof(kinds); k++)
			is_right = is_right || is_kind(trigger, &kinds[k], function);
		/* that of a partition goes with its parent's */
		if (trigger->tgfoid == function && !trigger->tgisclone && !(only_broken && is_right))
			triggers = lappend_oid(triggers, trigger->tgoid);
	}
	relation_close(rel, NoLock);
	foreach(cell, triggers)
		drop_trigger(lfirst_oid(cell));
	if (triggers != NIL)
		CommandCounterIncrement();
}

static void
make_trigger(Oid relid, const Kind *kind)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);
	ObjectAddress trigger;
	ObjectAddress extension;

	statement->trigname = psprintf("%s_%u", kind->name, relid);
	statement->relation =
		makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);
	statement->funcname =
		list_make2(makeString(pstrdup("challenge_jobs")), makeString(pstrdup("capture_change")));
	statement->row = kind->is_row;
	statement->timing = TRIGGER_TYPE_AFTER;
	statement->events = kind->events;
	trigger =
		CreateTriggerFiringOn(statement, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
							  function_oid(), InvalidOid, NULL, false, false, TRIGGER_FIRES_ALWAYS);
	ObjectAddressSet(extension, ExtensionRelationId, cj_identity_extension().oid);
	recordDependencyOn(&trigger, &extension, DEPENDENCY_AUTO_EXTENSION);
	CommandCounterIncrement();
}

/* lacks returns whether a table, or a partition of it, lacks a trigger. */
static bool
lacks(List *relids, const Kind *kind)
{
	ListCell *cell;

	foreach(cell, relids)
	{
		Relation rel = table_open(lfirst_oid(cell), NoLock);
		bool found = OidIsValid(find_kind(rel, kind, function_oid()));

		table_close(rel, NoLock);
		if (!found)
			return true;
		if (!kind->is_row)
			break; /* of the table itself */
	}
	return false;
}

/*
 * create makes what is missing; as the owner of the table. Also where nothing is, writers are locked out: they know
 * what is to be noted from before.
 */
static void
create(Oid relid)
{
	List *relids;

	LockRelationOid(relid, ShareRowExclusiveLock);
	relids = find_all_inheritors(relid, ShareRowExclusiveLock, NULL);
	drop_triggers(table_open(relid, NoLock), true);
	for (int i = 0; i < lengthof(kinds); i++)
	{
		Relation rel;
		Oid trigger;

		if (!lacks(relids, &kinds[i]))
			continue;
		/* only a partition's has been broken: made anew from above */
		rel = table_open(relid, NoLock);
		trigger = find_kind(rel, &kinds[i], function_oid());
		table_close(rel, NoLock);
		if (OidIsValid(trigger))
		{
			drop_trigger(trigger);
			CommandCounterIncrement();
		}
		make_trigger(relid, &kinds[i]);
	}
}

void
cj_capture_trigger_create(Oid relid)
{
	FormData_pg_class form = {0};
	CjIdentity saved;

	(void) cj_catalog_class(relid, &form);
	cj_identity_become_owner(&saved, form.relowner, "pg_catalog", "UTC");
	create(relid);
	cj_identity_restore(&saved);
}

void
cj_capture_trigger_drop(Oid relid)
{
	FormData_pg_class form;
	CjIdentity saved;
	Relation rel;

	if (!cj_catalog_class(relid, &form))
		return;
	cj_identity_become_owner(&saved, form.relowner, "pg_catalog", "UTC");
	rel = try_relation_open(relid, AccessExclusiveLock);
	if (rel)
		drop_triggers(rel, false);
	cj_identity_restore(&saved);
}
