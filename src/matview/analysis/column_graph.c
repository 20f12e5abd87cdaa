/*
 * matview/analysis/column_graph.c
 *		Which columns of a query carry the value of which others.
 *
 * What an edge means, and why ways of edges may be trusted, stands in matview/analysis/key_mapping.c.
 *
 * A graph has as many nodes as a view definition has columns in equalities and output: lists that are
 * scanned from end to end are fast enough.
 */
#include "postgres.h"


#include "matview/analysis/column_graph.h"

typedef struct Edge
{
	int from;
	int to;
	CjEdgeKind kind;
} Edge;

struct CjKeyGraph
{
	List *nodes;    /* of CjKeyNode * */
	List *edges;    /* of Edge * */
	CjReach *reach; /* of each node, once searched */
};

CjKeyGraph *
cj_column_graph_make(void)
{
	return palloc0(sizeof(CjKeyGraph));
}

int
cj_column_graph_node(CjKeyGraph *graph, int block, int entry, AttrNumber column)
{
	CjKeyNode *node;
	ListCell *cell;

	foreach(cell, graph->nodes)
	{
		node = lfirst(cell);
		if (node->block == block && node->entry == entry && node->column == column)
			return foreach_current_index(cell);
	}
	node = palloc(sizeof(CjKeyNode));
	*node = (CjKeyNode){block, entry, column};
	graph->nodes = lappend(graph->nodes, node);
	return list_length(graph->nodes) - 1;
}

const CjKeyNode *
cj_column_graph_get(const CjKeyGraph *graph, int node)
{
	return list_nth(graph->nodes, node);
}

List *
cj_column_graph_nodes_of(const CjKeyGraph *graph, int block, int entry)
{
	List *nodes = NIL;
	ListCell *cell;

	foreach(cell, graph->nodes)
	{
		const CjKeyNode *node = lfirst(cell);
		int place = 0;

		if (node->block != block || node->entry != entry)
			continue;
		while (place < list_length(nodes) &&
			   cj_column_graph_get(graph, list_nth_int(nodes, place))->column < node->column)
			place++;
		nodes = list_insert_nth_int(nodes, place, foreach_current_index(cell));
	}
	return nodes;
}

void
cj_column_graph_add(CjKeyGraph *graph, int from, int to, CjEdgeKind kind)
{
	Edge *edge = palloc(sizeof(Edge));

	*edge = (Edge){from, to, kind};
	graph->edges = lappend(graph->edges, edge);
}

/* list_reachable lists the nodes that a node reaches, itself first, the nearest first; or by equalities within its block. */
static List *
list_reachable(const CjKeyGraph *graph, int node, bool by_equalities)
{
	int block = cj_column_graph_get(graph, node)->block;
	List *seen = list_make1_int(node);

	/* the list grows while it is scanned */
	for (int i = 0; i < list_length(seen); i++)
	{
		ListCell *cell;

		foreach(cell, graph->edges)
		{
			const Edge *edge = lfirst(cell);

			if (edge->from == list_nth_int(seen, i) &&
				(!by_equalities || (edge->kind == CJ_EDGE_EQUAL &&
									cj_column_graph_get(graph, edge->to)->block == block)))
				seen = list_append_unique_int(seen, edge->to);
		}
	}
	return seen;
}

bool
cj_column_graph_are_equated(const CjKeyGraph *graph, int a, int b)
{
	return list_member_int(list_reachable(graph, a, true), b) &&
		   list_member_int(list_reachable(graph, b, true), a);
}

/*
 * reach_via returns how an edge has its `from` reach the key whose `to` reaches it.
 *
 * NULLs that come from an outer join are lost at the next equality on the way; without one they are keys
 * that `from` knows nothing of.
 */
static CjReach
reach_via(CjEdgeKind kind, CjReach to)
{
	if (to == CJ_REACH_NONE)
		return CJ_REACH_NONE;
	if (to == CJ_REACH_EQUATED || kind == CJ_EDGE_EQUAL)
		return CJ_REACH_EQUATED;
	return kind == CJ_EDGE_COPY ? CJ_REACH_COPIED : CJ_REACH_NONE;
}

/*
 * cj_column_graph_search finds out which nodes reach the key. A node may reach it in several ways: what is
 * true by one of them is true, so that the best one is kept.
 */
void
cj_column_graph_search(CjKeyGraph *graph, int key)
{
	bool changed = true;

	graph->reach = palloc0(sizeof(CjReach) * list_length(graph->nodes));
	graph->reach[key] = CJ_REACH_COPIED;
	while (changed)
	{
		ListCell *cell;

		changed = false;
		foreach(cell, graph->edges)
		{
			const Edge *edge = lfirst(cell);
			CjReach reach = reach_via(edge->kind, graph->reach[edge->to]);

			if (reach > graph->reach[edge->from])
			{
				graph->reach[edge->from] = reach;
				changed = true;
			}
		}
	}
}

CjReach
cj_column_graph_reach(const CjKeyGraph *graph, int node)
{
	return graph->reach[node];
}

List *
cj_column_graph_reachable(const CjKeyGraph *graph, int node)
{
	return list_reachable(graph, node, false);
}
