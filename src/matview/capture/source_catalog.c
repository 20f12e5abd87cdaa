/*
 * matview/capture/source_catalog.c
 *		Which tables tracked views are made of, and how their changes lead to keys: the table
 *		challenge_jobs.tracked_source.
 *
 * It is read inside of whatever transaction changes a source, so as the catalogs are: without SPI, without permission, as of
 * now and not as of the snapshot of the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "matview/capture/change_log.h"
#include "matview/capture/source_catalog.h"

/* Columns of challenge_jobs.tracked_source. */
enum
{
	SOURCE_VIEW_ID = 1,
	SOURCE_SOURCE_ID,
	SOURCE_KEY_PATH,
	SOURCE_COLUMN_NUMBER,
	SOURCE_READ_COLUMNS,
	SOURCE_VIA_ID,
	SOURCE_VIA_COLUMN,
	SOURCE_VIA_KEY,
	SOURCE_REASON,
	SOURCE_COLUMNS = SOURCE_REASON
};

static List *
read_columns(Datum array)
{
	List *columns = NIL;
	Datum *values;
	int count;

	deconstruct_array(DatumGetArrayTypeP(array), INT2OID, sizeof(int16), true, TYPALIGN_SHORT,
					  &values, NULL, &count);
	for (int i = 0; i < count; i++)
		columns = lappend_int(columns, DatumGetInt16(values[i]));
	return columns;
}

static Datum
write_columns(List *columns)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(columns), 1));
	int count = 0;
	ListCell *cell;

	foreach(cell, columns)
		values[count++] = Int16GetDatum(lfirst_int(cell));
	return PointerGetDatum(
		construct_array(values, count, INT2OID, sizeof(int16), true, TYPALIGN_SHORT));
}

static CjStoredKeyPath *
read_row(HeapTuple tuple, TupleDesc desc)
{
	CjStoredKeyPath *key_path = palloc0(sizeof(CjStoredKeyPath));
	Datum values[SOURCE_COLUMNS];
	bool nulls[SOURCE_COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	key_path->view = DatumGetObjectId(values[SOURCE_VIEW_ID - 1]);
	key_path->source = DatumGetObjectId(values[SOURCE_SOURCE_ID - 1]);
	key_path->number = DatumGetInt16(values[SOURCE_KEY_PATH - 1]);
	key_path->column = DatumGetInt16(values[SOURCE_COLUMN_NUMBER - 1]);
	key_path->columns = read_columns(values[SOURCE_READ_COLUMNS - 1]);
	key_path->via = DatumGetObjectId(values[SOURCE_VIA_ID - 1]);
	key_path->via_column = DatumGetInt16(values[SOURCE_VIA_COLUMN - 1]);
	key_path->via_key = DatumGetInt16(values[SOURCE_VIA_KEY - 1]);
	if (!nulls[SOURCE_REASON - 1])
		key_path->reason = TextDatumGetCString(values[SOURCE_REASON - 1]);
	return key_path;
}

/* What is done with the rows that scan finds. */
typedef void (*RowAction)(Relation rel, HeapTuple tuple, void *arg);

/* scan finds the rows with an OID in a column, by an index; nothing if the extension is not there. */
static void
scan(AttrNumber column, Oid oid, LOCKMODE lock_mode, RowAction action, void *arg)
{
	Oid relid = cj_change_log_table("tracked_source");
	Oid index = cj_change_log_table(column == SOURCE_VIEW_ID ? "tracked_source_view_id_idx"
															 : "tracked_source_source_id_idx");
	Relation rel;
	ScanKeyData key;
	SysScanDesc desc;
	HeapTuple tuple;

	if (!OidIsValid(relid) || !OidIsValid(index))
		return;
	rel = table_open(relid, lock_mode);
	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	desc = systable_beginscan(rel, index, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(desc)))
		action(rel, tuple, arg);
	systable_endscan(desc);
	/* who writes keeps the lock */
	table_close(rel, lock_mode == AccessShareLock ? lock_mode : NoLock);
}

static void
collect_row(Relation rel, HeapTuple tuple, void *arg)
{
	List **list = arg;

	*list = lappend(*list, read_row(tuple, RelationGetDescr(rel)));
}

List *
cj_source_catalog_of_table(Oid source)
{
	List *list = NIL;

	scan(SOURCE_SOURCE_ID, source, AccessShareLock, collect_row, &list);
	return list;
}

List *
cj_source_catalog_of_view(Oid view)
{
	List *list = NIL;

	scan(SOURCE_VIEW_ID, view, AccessShareLock, collect_row, &list);
	return list;
}

void
cj_source_catalog_add(const CjStoredKeyPath *key_path)
{
	Relation rel = table_open(cj_change_log_table("tracked_source"), RowExclusiveLock);
	Datum values[SOURCE_COLUMNS] = {ObjectIdGetDatum(key_path->view),
									ObjectIdGetDatum(key_path->source),
									Int16GetDatum(key_path->number),
									Int16GetDatum(key_path->column),
									write_columns(key_path->columns),
									ObjectIdGetDatum(key_path->via),
									Int16GetDatum(key_path->via_column),
									Int16GetDatum(key_path->via_key),
									key_path->reason ? CStringGetTextDatum(key_path->reason)
													 : (Datum) 0};
	bool nulls[SOURCE_COLUMNS] = {0};
	HeapTuple tuple;

	nulls[SOURCE_REASON - 1] = key_path->reason == NULL;
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

static void
delete_row(Relation rel, HeapTuple tuple, void *arg)
{
	CatalogTupleDelete(rel, &tuple->t_self);
}

void
cj_source_catalog_remove(Oid view)
{
	scan(SOURCE_VIEW_ID, view, RowExclusiveLock, delete_row, NULL);
}

/* is_same returns whether two key paths are the same; the reason is but a text. */
static bool
is_same(const CjStoredKeyPath *a, const CjStoredKeyPath *b)
{
	return a->view == b->view && a->source == b->source && a->number == b->number &&
		   a->column == b->column && equal(a->columns, b->columns) && a->via == b->via &&
		   a->via_column == b->via_column && a->via_key == b->via_key;
}

bool
cj_source_catalog_same(List *key_paths, List *others)
{
	ListCell *cell;

	if (list_length(key_paths) != list_length(others))
		return false;
	foreach(cell, key_paths)
	{
		ListCell *other;
		bool found = false;

		foreach(other, others)
			found = found || is_same(lfirst(cell), lfirst(other));
		if (!found)
			return false;
	}
	return true;
}
