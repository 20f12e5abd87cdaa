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

#include "nodes/pg_list.h"

#include "matview/analysis/column_graph.h"

typedef struct Edge
{
	int from;
	int to;
	CjEdgeKind kind;
} Edge;

struct CjKeyGraph
{
	MemoryContext memory;
	CjKeyNode *nodes;
	CjReach *reach; /* of each node, once searched */
	int node_count;
	int node_room;
	Edge *edges;
	int edge_count;
	int edge_room;
};

CjKeyGraph *
cj_column_graph_make(void)
{
	CjKeyGraph *graph = palloc0(sizeof(CjKeyGraph));

	graph->memory = CurrentMemoryContext;
	graph->node_room = 64;
	graph->nodes = palloc(sizeof(CjKeyNode) * graph->node_room);
	graph->edge_room = 64;
	graph->edges = palloc(sizeof(Edge) * graph->edge_room);
	return graph;
}

int
cj_column_graph_node(CjKeyGraph *graph, int block, int entry, AttrNumber column)
{
	CjKeyNode *node;

	for (int i = 0; i < graph->node_count; i++)
	{
		node = &graph->nodes[i];
		if (node->block == block && node->entry == entry && node->column == column)
			return i;
	}
	if (graph->node_count == graph->node_room)
	{
		graph->node_room *= 2;
		graph->nodes = repalloc(graph->nodes, sizeof(CjKeyNode) * graph->node_room);
	}
	node = &graph->nodes[graph->node_count];
	node->block = block;
	node->entry = entry;
	node->column = column;
	return graph->node_count++;
}

const CjKeyNode *
cj_column_graph_get(const CjKeyGraph *graph, int node)
{
	Assert(node >= 0 && node < graph->node_count);
	return &graph->nodes[node];
}

List *
cj_column_graph_nodes_of(const CjKeyGraph *graph, int block, int entry)
{
	List *nodes = NIL;

	for (int i = 0; i < graph->node_count; i++)
	{
		const CjKeyNode *node = &graph->nodes[i];
		int place = 0;

		if (node->block != block || node->entry != entry)
			continue;
		while (place < list_length(nodes) &&
			   graph->nodes[list_nth_int(nodes, place)].column < node->column)
			place++;
		nodes = list_insert_nth_int(nodes, place, i);
	}
	return nodes;
}

void
cj_column_graph_add(CjKeyGraph *graph, int from, int to, CjEdgeKind kind)
{
	if (graph->edge_count == graph->edge_room)
	{
		graph->edge_room *= 2;
		graph->edges = repalloc(graph->edges, sizeof(Edge) * graph->edge_room);
	}
	graph->edges[graph->edge_count++] = (Edge){from, to, kind};
}

/* leads_to returns whether equalities among the columns of one block lead from a node to another. */
static bool
leads_to(const CjKeyGraph *graph, int from, int to)
{
	int block = graph->nodes[from].block;
	List *seen = list_make1_int(from);

	/* the list grows while it is scanned */
	for (int i = 0; i < list_length(seen); i++)
	{
		for (int e = 0; e < graph->edge_count; e++)
		{
			const Edge *edge = &graph->edges[e];

			if (edge->kind == CJ_EDGE_EQUAL && edge->from == list_nth_int(seen, i) &&
				graph->nodes[edge->to].block == block)
				seen = list_append_unique_int(seen, edge->to);
		}
	}
	return list_member_int(seen, to);
}

bool
cj_column_graph_are_equated(const CjKeyGraph *graph, int a, int b)
{
	if (graph->nodes[a].block != graph->nodes[b].block)
		return false;
	return leads_to(graph, a, b) && leads_to(graph, b, a);
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

	graph->reach = MemoryContextAllocZero(graph->memory, sizeof(CjReach) * graph->node_count);
	graph->reach[key] = CJ_REACH_COPIED;
	while (changed)
	{
		changed = false;
		for (int e = 0; e < graph->edge_count; e++)
		{
			const Edge *edge = &graph->edges[e];
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
	List *seen = list_make1_int(node);

	/* the list grows while it is scanned */
	for (int i = 0; i < list_length(seen); i++)
	{
		for (int e = 0; e < graph->edge_count; e++)
		{
			if (graph->edges[e].from == list_nth_int(seen, i))
				seen = list_append_unique_int(seen, graph->edges[e].to);
		}
	}
	return seen;
}
