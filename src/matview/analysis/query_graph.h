/*
 * matview/analysis/query_graph.h
 *		What the definition of a view reads, and how columns of what it reads come together.
 *
 * Reads the catalogs: needs a transaction. All is palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_ANALYSIS_QUERY_GRAPH_H
#define CJ_MATVIEW_ANALYSIS_QUERY_GRAPH_H

#include "nodes/bitmapset.h"
#include "utils/relcache.h"

#include "matview/analysis/allowed_functions.h"
#include "matview/analysis/column_graph.h"
#include "matview/analysis/query_block.h"

/* A table at a place where the definition names it. */
typedef struct CjOccurrence
{
	CjQueryBlock *block;
	int entry;
	Oid relid;
	Bitmapset *columns; /* that the definition reads */
} CjOccurrence;

typedef struct CjViewGraph
{
	CjKeyGraph *graph;
	CjQueryBlock *top;
	int block_count;
	List *occurrences;         /* of CjOccurrence * */
	List *views;               /* OIDs of plain views, each once */
	CjFunctionOutcome outcome; /* with a refusal the rest is not complete */
} CjViewGraph;

/*
 * Reads the definition of a view or materialized view. Locks all relations that it reads, with
 * AccessShareLock until the end of the transaction.
 */
extern CjViewGraph *cj_query_graph_make(Relation view);

/* Returns the table that an entry of a block is; NULL: it is none. */
extern CjOccurrence *cj_query_graph_occurrence(const CjViewGraph *view, int block, int entry);

#endif /* CJ_MATVIEW_ANALYSIS_QUERY_GRAPH_H */
