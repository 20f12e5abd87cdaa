/*
 * matview/capture/change_log.c
 *		The change log: which keys of which tracked views have to be recomputed.
 *
 * Rows are written, read and deleted through the table access method, inside of whatever transaction changes a source: there
 * may be many, whoever writes them has no rights here, and all of a refresh has to work as of one
 * snapshot, which SPI gives to no statement that writes.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "matview/capture/change_log.h"

/* Columns of challenge_jobs.change_log. */
enum
{
	LOG_VIEW_ID = 1,
	LOG_KEY_PATH,
	LOG_KEY_BYTES,
	LOG_COLUMNS = LOG_KEY_BYTES
};

Oid
cj_change_log_table(const char *name)
{
	Oid schema = get_namespace_oid("challenge_jobs", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

void
cj_change_log_append(Oid log, Oid view, int16 key_path, const char *bytes, Size length)
{
	Relation rel = table_open(log, RowExclusiveLock);
	Datum values[LOG_COLUMNS] = {ObjectIdGetDatum(view), Int16GetDatum(key_path)};
	bool nulls[LOG_COLUMNS] = {false, false, bytes == NULL};
	bytea *key = NULL;
	HeapTuple tuple;

	if (bytes)
	{
		key = palloc(length + VARHDRSZ);
		SET_VARSIZE(key, length + VARHDRSZ);
		memcpy(VARDATA(key), bytes, length);
		values[LOG_KEY_BYTES - 1] = PointerGetDatum(key);
	}
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	simple_heap_insert(rel, tuple);
	heap_freetuple(tuple);
	if (key)
		pfree(key);
	table_close(rel, NoLock);
}

/* begin_scan begins to read the rows of a view; *rel is NULL if there is no log. */
static TableScanDesc
begin_scan(Oid view, Snapshot snapshot, LOCKMODE lock_mode, Relation *rel)
{
	Oid log = cj_change_log_table("change_log");
	ScanKeyData key;

	*rel = NULL;
	if (!OidIsValid(log))
		return NULL;
	*rel = table_open(log, lock_mode);
	ScanKeyInit(&key, LOG_VIEW_ID, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(view));
	return table_beginscan(*rel, snapshot, 1, &key);
}

bool
cj_change_log_has(Oid view, Snapshot snapshot)
{
	Relation rel;
	TableScanDesc scan = begin_scan(view, snapshot, AccessShareLock, &rel);
	TupleTableSlot *slot;
	bool found;

	if (scan == NULL)
		return false;
	slot = table_slot_create(rel, NULL);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static void
read_row(TupleTableSlot *slot, CjChangeReader reader, void *arg)
{
	bool isnull;
	int16 key_path = DatumGetInt16(slot_getattr(slot, LOG_KEY_PATH, &isnull));
	Datum key = slot_getattr(slot, LOG_KEY_BYTES, &isnull);
	bytea *flat = isnull ? NULL : DatumGetByteaPP(key);

	reader(key_path, flat ? VARDATA_ANY(flat) : NULL, flat ? VARSIZE_ANY_EXHDR(flat) : 0, arg);
}

/* read_rows gives the rows of a view to the reader (NULL: to nobody), and deletes them if it is to. */
static void
read_rows(Oid view, Snapshot snapshot, bool and_delete, CjChangeReader reader, void *arg)
{
	Relation rel;
	TableScanDesc scan =
		begin_scan(view, snapshot, and_delete ? RowExclusiveLock : AccessShareLock, &rel);
	MemoryContext scratch;
	MemoryContext caller;
	TupleTableSlot *slot;

	if (scan == NULL)
		return;
	scratch =
		AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs change", ALLOCSET_SMALL_SIZES);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (reader)
		{
			caller = MemoryContextSwitchTo(scratch);
			read_row(slot, reader, arg);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(scratch);
		}
		if (and_delete)
			simple_heap_delete(rel, &slot->tts_tid);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, NoLock);
	MemoryContextDelete(scratch);
}

void
cj_change_log_read(Oid view, Snapshot snapshot, CjChangeReader reader, void *arg)
{
	read_rows(view, snapshot, false, reader, arg);
}

void
cj_change_log_take(Oid view, Snapshot snapshot, CjChangeReader reader, void *arg)
{
	read_rows(view, snapshot, true, reader, arg);
}
