/* matview/apply/diff_query.h: what keeps the stored rows of a materialized view from being what its definition gives. */
#ifndef CJ_MATVIEW_APPLY_DIFF_QUERY_H
#define CJ_MATVIEW_APPLY_DIFF_QUERY_H

#include "access/attnum.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* A query that finds the difference. */
typedef struct CjViewDifference CjViewDifference;

/* The values of a row, in the order of the view's columns. */
typedef struct CjViewRow
{
	Datum *values;
	bool *nulls;
} CjViewRow;

/*
 * What there is about a row: as the definition gives it, as it is stored and where, or both, if they
 * agree in the columns of the unique index. What is not there has NULL for its values. It need not
 * differ. Valid until the callback returns.
 */
typedef struct CjRowPair
{
	CjViewRow defined;
	CjViewRow stored;
	ItemPointer address; /* of the stored row */
} CjRowPair;

typedef void (*CjTakeRowPair)(const CjRowPair *pair, void *arg);

/*
 * Makes the query for the rows with given keys, or for those whose key is null. As whoever is the current
 * user, who must be the view's owner. To be released with the current memory context; the locks that it takes
 * on what the view reads are the transaction's.
 */
extern CjViewDifference *cj_diff_query_make(Relation view, Oid index, AttrNumber key, bool of_null);

/*
 * Runs the query for an array of keys (of the key's type, no nulls; ignored where it is for nulls). The
 * callback gets each pair, in a memory context that it must not let grow. It may change the view:
 * the query does not see that.
 */
extern void cj_diff_query_run(const CjViewDifference *difference, Datum keys, Snapshot snapshot,
							  CjTakeRowPair take, void *arg);

#endif /* CJ_MATVIEW_APPLY_DIFF_QUERY_H */
