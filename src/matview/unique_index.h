/*
 * matview/unique_index.h
 *		The index by which the rows of a materialized view are distinguished.
 *
 * Needs a transaction.
 */
#ifndef CJ_MATVIEW_UNIQUE_INDEX_H
#define CJ_MATVIEW_UNIQUE_INDEX_H

/* Returns whether a relation has an index that REFRESH … CONCURRENTLY can tell rows apart by. */
extern bool cj_unique_index_exists(Oid relid);

#endif /* CJ_MATVIEW_UNIQUE_INDEX_H */
