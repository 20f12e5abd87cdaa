/*
 * matview/unique_index.c
 *		The index by which the rows of a materialized view are distinguished.
 *
 * Read from the catalogs as they are now, not by the snapshot of the caller.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "matview/unique_index.h"

/* is_on_plain_columns accepts an index without expressions and system columns. */
static bool
is_on_plain_columns(Form_pg_index index)
{
	for (int i = 0; i < index->indnatts; i++)
	{
		if (index->indkey.values[i] <= 0)
			return false;
	}
	return true;
}

static bool
is_btree(Oid indexrelid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(indexrelid));
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
	ReleaseSysCache(tuple);
	return result;
}

bool
cj_unique_index_exists(Oid relid)
{
	Relation catalog = table_open(IndexRelationId, AccessShareLock);
	bool found = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		/* without indislive it is being dropped */
		found = index->indisunique && index->indimmediate && index->indisvalid &&
				index->indislive && heap_attisnull(tuple, Anum_pg_index_indpred, NULL) &&
				is_on_plain_columns(index) && is_btree(index->indexrelid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}
