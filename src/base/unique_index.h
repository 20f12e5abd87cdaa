/*
 * base/unique_index.h
 *		The index by which the rows of a materialized view are distinguished.
 *
 * Read from the catalogs as they are now, not by the snapshot of the caller. Needs a transaction.
 */
#ifndef CJ_BASE_UNIQUE_INDEX_H
#define CJ_BASE_UNIQUE_INDEX_H

#include "access/attnum.h"
#include "utils/rel.h"

/* Returns whether a relation has an index that REFRESH … CONCURRENTLY can tell rows apart by. Does not open it. */
extern bool cj_unique_index_exists(Oid relid);

/*
 * Finds such an index, by which rows can be matched by a join, too; one with the given column if there is such.
 * InvalidOid if there is none.
 */
extern Oid cj_unique_index_find(Relation view, AttrNumber key);

/* Returns the operator of an index for equality in a column (from 0), or InvalidOid. */
extern Oid cj_unique_index_equality(Relation index, int column);

#endif /* CJ_BASE_UNIQUE_INDEX_H */
