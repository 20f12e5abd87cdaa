/*
 * matview/analysis/query_block.h
 *		A query block, as it is met in the definition of a view.
 *
 * Reads the catalogs: needs a transaction. All is palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_ANALYSIS_QUERY_BLOCK_H
#define CJ_MATVIEW_ANALYSIS_QUERY_BLOCK_H

#include "nodes/parsenodes.h"

#include "matview/analysis/column_graph.h"

/*
 * One reference to a query: what is referred to twice, by two names of a CTE or a view, is two blocks, as
 * if it had been written out twice.
 */
typedef struct CjQueryBlock
{
	int number;
	Query *query;
	struct CjQueryBlock *outer;     /* whose columns it may name; NULL: none */
	struct CjQueryBlock *container; /* in which it stands; NULL: the view itself */
	bool is_opaque;                 /* in a recursive query: nothing is known of its columns */
	List *entries;                  /* the range table entries that are joined, but for joins */
	Bitmapset *nullable;            /* those for which an outer join may put NULLs */
	const char *obstacle; /* why an output does not tell keys apart: what the block has; or NULL */
} CjQueryBlock;

/* Makes a block, with what its join tree says. */
extern CjQueryBlock *cj_query_block_make(int number, Query *query, CjQueryBlock *outer,
										 CjQueryBlock *container);

/* Returns the block so many levels out; that which a range table entry refers to. */
extern CjQueryBlock *cj_query_block_outer(CjQueryBlock *block, Index levels);
extern RangeTblEntry *cj_query_block_entry(const CjQueryBlock *block, int entry);

/* Returns an output of a query. */
extern const TargetEntry *cj_query_block_output(const Query *query, AttrNumber column);

/* Returns the entries in a part of a join tree, but for joins. */
extern List *cj_query_block_entries_in(Node *tree);

/* Returns the type as which values are compared: of a domain what it is over, for varchar text. */
extern Oid cj_query_block_compared_type(Oid type);

/* Returns whether an operator is the equality by which a type is sorted and grouped by default. */
extern bool cj_query_block_is_equality(Oid operator, Oid type, Oid collation);

/*
 * Returns the expression that a column stands for that is of a join or, from 18 on, of GROUP BY; NULL if
 * it is of neither kind, or stands for a whole row.
 */
extern Node *cj_query_block_expand(const CjQueryBlock *block, const Var *var);

/*
 * Returns the node of the graph that an expression is, and the block that it belongs to; -1: it is no
 * column, or one whose equality takes different values for the same.
 */
extern int cj_query_block_resolve(CjQueryBlock *block, Node *expression, CjKeyGraph *graph,
								  CjQueryBlock **owner);

/*
 * Returns what keeps an output of the block from showing the same rows, whatever is in those with another
 * value of the node; NULL: nothing. `target` is the output.
 */
extern const char *cj_query_block_find_obstacle(CjQueryBlock *block, const TargetEntry *target,
												int node, CjKeyGraph *graph);

#endif /* CJ_MATVIEW_ANALYSIS_QUERY_BLOCK_H */
