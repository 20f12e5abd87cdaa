/*
 * base/unique_index.c
 *		The index by which the rows of a materialized view are distinguished.
 *
 * Whether there is a predicate is read from the catalog row. RelationGetIndexPredicate() would fold its constants, that
 * is, run functions of the view's owner, and the caller may be the owner of the extension.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "base/catalog.h"
#include "base/unique_index.h"

/* is_usable returns whether REFRESH … CONCURRENTLY takes an index, given as its row of pg_index. */
static bool
is_usable(HeapTuple tuple, Oid access_method)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

	/* without indislive it is being dropped */
	if (!index->indisunique || !index->indimmediate || !index->indisvalid || !index->indislive ||
		access_method != BTREE_AM_OID || !heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < index->indnatts; i++)
	{
		/* an expression, or a system column */
		if (index->indkey.values[i] <= 0)
			return false;
	}
	return true;
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
		FormData_pg_class index;

		found = cj_catalog_class(((Form_pg_index) GETSTRUCT(tuple))->indexrelid, &index) &&
				is_usable(tuple, index.relam);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

Oid
cj_unique_index_equality(Relation index, int column)
{
	Oid type = index->rd_opcintype[column];

	return get_opfamily_member(index->rd_opfamily[column], type, type, BTEqualStrategyNumber);
}

/* is_same_equality returns whether texts that are equal by a collation are so by another one. */
static bool
is_same_equality(Oid collation, Oid other)
{
	return collation == other || !OidIsValid(collation) || !OidIsValid(other) ||
		   (get_collation_isdeterministic(collation) && get_collation_isdeterministic(other));
}

/* can_match returns whether an index is usable, and rows that are different for it are so for the columns. */
static bool
can_match(Relation view, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!is_usable(index->rd_indextuple, index->rd_rel->relam))
		return false;
	/* by operators of other kinds there is no full join */
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		Form_pg_attribute column =
			TupleDescAttr(RelationGetDescr(view), form->indkey.values[i] - 1);
		Oid equals = cj_unique_index_equality(index, i);

		if (!OidIsValid(equals) || !op_mergejoinable(equals, getBaseType(column->atttypid)) ||
			!is_same_equality(index->rd_indcollation[i], column->attcollation))
			return false;
	}
	return true;
}

static bool
has_key_column(Relation index, AttrNumber column)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		if (index->rd_index->indkey.values[i] == column)
			return true;
	}
	return false;
}

Oid
cj_unique_index_find(Relation view, AttrNumber key)
{
	Oid found = InvalidOid;
	bool found_key = false;
	ListCell *cell;

	/* in the order of their OIDs, so that it is the same one each time */
	foreach(cell, RelationGetIndexList(view))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		bool has_key = has_key_column(index, key);

		/* with the key, rows that are matched cannot be of different keys */
		if (can_match(view, index) && (!OidIsValid(found) || (has_key && !found_key)))
		{
			found = lfirst_oid(cell);
			found_key = has_key;
		}
		index_close(index, NoLock);
	}
	return found;
}
