/*
 * matview/definition_hash.c
 *		What the rows of a tracked view depend on and no row trigger sees: a number that stands for it.
 *
 * It covers: the files of the sources (TRUNCATE, ALTER TABLE … TYPE … USING, CLUSTER), their columns as far as the
 * view reads them, their partitions (ATTACH, DETACH), the triggers and their state (DISABLE TRIGGER), the
 * definitions of plain views and of functions of the app that the view uses, and the settings that it is computed
 * under. Of a row of a catalog it takes the version, that is who wrote it and where it lies: what was changed and
 * changed back is noticed as well. (VACUUM FULL of a catalog is taken for a change; that does no harm.)
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "rewrite/rewriteSupport.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "matview/capture/capture_trigger.h"
#include "matview/definition_hash.h"

#define add(text, value) appendBinaryStringInfo(text, (const char *) &(value), sizeof(value))

static void
add_version(StringInfo text, HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tuple->t_self);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(&tuple->t_self);

	add(text, xmin);
	add(text, block);
	add(text, offset);
}

static void
add_trigger(StringInfo text, Oid trigger)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	add(text, trigger);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		add_version(text, tuple);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

static void
add_columns(StringInfo text, const CjViewSource *source, TupleDesc desc)
{
	int column = -1;

	while ((column = bms_next_member(source->columns, column)) >= 0)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);

		add(text, column);
		add(text, attribute->atttypid);
		add(text, attribute->atttypmod);
		add(text, attribute->attcollation);
		add(text, attribute->attgenerated);
		/* in the JSON of a whole row */
		appendStringInfoString(text, NameStr(attribute->attname));
	}
}

/*
 * add_file adds which file a table is stored in. The transaction that has made the file may truncate the table in place,
 * which the trigger of a source sees, and nobody if it is a partition: meanwhile each hash is another one.
 */
static void
add_file(StringInfo text, Relation rel, bool is_source)
{
	static uint64 count = 0;

	add(text, rel->rd_rel->relfilenode);
	if (!is_source && cj_compat_file_is_new(rel))
	{
		count++;
		add(text, count);
	}
}

/* add_table adds a table: a source, or a partition of one. */
static bool
add_table(StringInfo text, const CjViewSource *source, Oid relid)
{
	Relation rel = table_open(relid, NoLock);
	bool complete;
	List *triggers = cj_capture_trigger_find(rel, relid == source->relid, &complete);
	ListCell *cell;

	add(text, relid);
	add_file(text, rel, relid == source->relid);
	add(text, rel->rd_rel->relkind);
	add(text, rel->rd_rel->relpersistence);
	if (relid == source->relid)
		add_columns(text, source, RelationGetDescr(rel));
	foreach(cell, triggers)
		add_trigger(text, lfirst_oid(cell));
	table_close(rel, NoLock);
	return complete;
}

/* add_cached adds a row of a catalog cache, if it is there, and gives it back. */
static void
add_cached(StringInfo text, Oid object, HeapTuple tuple)
{
	add(text, object);
	if (!HeapTupleIsValid(tuple))
		return;
	add_version(text, tuple);
	ReleaseSysCache(tuple);
}

/* add_view adds the definition of a plain view, and the names of its columns. */
static void
add_view(StringInfo text, Oid view)
{
	Relation rel = relation_open(view, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
		appendStringInfoString(text, NameStr(TupleDescAttr(desc, i)->attname));
	relation_close(rel, AccessShareLock);
	add_cached(text, view,
			   SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
							   PointerGetDatum(ViewSelectRuleName)));
}

int64
cj_definition_hash_make(const CjViewAnalysis *analysis, const char *time_zone, bool *complete)
{
	StringInfoData text;
	uint64 hash;
	ListCell *cell;

	*complete = true;
	/* who holds a lock already would not be told of what others have done since */
	AcceptInvalidationMessages();
	initStringInfo(&text);
	add(&text, analysis->relid);
	add(&text, analysis->key);
	appendStringInfoString(&text, time_zone);
	foreach(cell, analysis->sources)
	{
		const CjViewSource *source = lfirst(cell);
		ListCell *relid;

		foreach(relid, find_all_inheritors(source->relid, AccessShareLock, NULL))
		{
			if (!add_table(&text, source, lfirst_oid(relid)))
				*complete = false;
		}
	}
	foreach(cell, analysis->views)
		add_view(&text, lfirst_oid(cell));
	foreach(cell, analysis->functions)
		add_cached(&text, lfirst_oid(cell),
				   SearchSysCache1(PROCOID, ObjectIdGetDatum(lfirst_oid(cell))));
	hash = hash_bytes_extended((const unsigned char *) text.data, text.len, 0);
	pfree(text.data);
	return (int64) hash;
}
