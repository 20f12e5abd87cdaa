/*
 * matview/analysis/column_graph.h
 *		Which columns of a query carry the value of which others.
 *
 * Pure: no catalog. All is palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_ANALYSIS_COLUMN_GRAPH_H
#define CJ_MATVIEW_ANALYSIS_COLUMN_GRAPH_H

#include "access/attnum.h"
#include "nodes/pg_list.h"

/* A column of a range table entry of a query block; entry 0 is what the block itself gives out. */
typedef struct CjKeyNode
{
	int block;
	int entry;
	AttrNumber column;
} CjKeyNode;

typedef enum CjEdgeKind
{
	CJ_EDGE_EQUAL,        /* by an equality that has to be true, so that neither is NULL */
	CJ_EDGE_COPY,         /* the one is the other, NULL where that is NULL */
	CJ_EDGE_NULLABLE_COPY /* likewise, or NULL where an outer join finds no row for the other */
} CjEdgeKind;

/* How the value of a column comes to be the key. */
typedef enum CjReach
{
	CJ_REACH_NONE,   /* it does not */
	CJ_REACH_COPIED, /* as it is: a NULL is a key that is NULL */
	CJ_REACH_EQUATED /* by an equality: a row with a NULL leads to no key */
} CjReach;

typedef struct CjKeyGraph CjKeyGraph;

extern CjKeyGraph *cj_column_graph_make(void);

/* Returns the number of a node, which is added if it is new. */
extern int cj_column_graph_node(CjKeyGraph *graph, int block, int entry, AttrNumber column);

/* Returns a node. */
extern const CjKeyNode *cj_column_graph_get(const CjKeyGraph *graph, int node);

/* Returns the nodes of an entry, in the order of their columns. */
extern List *cj_column_graph_nodes_of(const CjKeyGraph *graph, int block, int entry);

/* Adds an edge: whenever `from` counts, `to` has its value. */
extern void cj_column_graph_add(CjKeyGraph *graph, int from, int to, CjEdgeKind kind);

/* Returns whether two nodes of one block are equal, or both NULL, in each of its rows. */
extern bool cj_column_graph_are_equated(const CjKeyGraph *graph, int a, int b);

/* Finds out which nodes reach the key; to be called when the graph is complete. */
extern void cj_column_graph_search(CjKeyGraph *graph, int key);

/* Returns how a node reaches the key. */
extern CjReach cj_column_graph_reach(const CjKeyGraph *graph, int node);

/* Returns the nodes that a node reaches, itself first, the nearest first. */
extern List *cj_column_graph_reachable(const CjKeyGraph *graph, int node);

#endif /* CJ_MATVIEW_ANALYSIS_COLUMN_GRAPH_H */
