/*
 * matview/analysis/key_mapping.c
 *		How a changed row of what a view reads leads to keys of the view.
 *
 * A tracked view is refreshed by recomputing the rows of some keys, those that changed rows lead to. A key that is
 * left out stays wrong for ever, so that this is the claim that all rests on: if a row of a source is added to or
 * removed from the tables, then only rows of the view change whose key one of the source's key paths gives for that
 * row. (An update is a removal and an addition. Where a table stands at several places, the change is made at one
 * after the other, as if they were tables of their own.)
 *
 * Columns are nodes of a graph (column_graph). Three kinds of edges are drawn (query_graph):
 *
 * - an equality that has to be true for a row to count: `a = b` as a part of its own, under nothing but
 *   AND, of WHERE or of the ON of an inner join, both ways. In the ON of an outer join from the side that
 *   is replaced by NULLs only: rows of the other side count without a partner. Of a full join: none. From
 *   the column of a query inside an expression or LATERAL to the one of the outer query: without such
 *   an equality the inner row is nothing to the outer one. Not back: the outer row counts without inner
 *   rows. `x IN (SELECT y …)` from y to x, where it has to be true.
 * - the output of a query that is a plain column, from the column to the output: if the query shows for
 *   each value of the column the same, whatever is in the rows with others. So each step of the query
 *   has to keep them apart: GROUP BY, PARTITION BY of each window, DISTINCT ON have the column, or one
 *   that is equal to it; there is neither LIMIT nor OFFSET. Set operations compare whole rows and so keep
 *   all of their columns apart. Of recursive queries: none.
 * - back from an output to the column: a row of the output comes from rows with its value.
 *
 * Why ways of such edges may be trusted. Let r be the row, u its column, and call changed the rows of a
 * join that are there only with r or only without it. Claim: in each changed row, each column that u
 * reaches inside the join has the value of u, or its entry has been replaced by NULLs. By induction over
 * the tree of joins:
 * - inner join, WHERE: a changed row consists of a changed row of the side of r and a row of the other one.
 *   The conditions are true in it, so that both ends of each of their equalities are there and equal. Up
 *   to the first such edge the way is inside the side of r, where the claim holds; at that edge there is
 *   no NULL, so the value is that of u; each further column is there and equal.
 * - outer join, r on the side that is replaced: rows with partner are as before. A row without partner is
 *   changed only because it had or has a changed partner: with it, it is a row as before, which has the
 *   same columns on the kept side; the other side is NULL.
 * - outer join, r on the kept side: with partner as before; without one, the way cannot have left the
 *   kept side, since the edges of the condition lead only from the replaced one.
 * - full join: no edge leaves a side by its condition.
 * - a query in an expression, whose value changes for an outer row: some row of its join changed, whatever
 *   aggregates, windows and limits make of them, and in it the outer column has the value of u. Where that
 *   expression is the ON of an outer join, a pair of rows has changed, and what was said of pairs holds.
 * The rest follows: groups, partitions and the like change only where one of their rows does, and all of
 * their rows have the value, so the output has it, too. What an outer join has replaced by NULLs is then
 * given out as NULL, which is a value of its own: such an edge is one to the key only if an equality comes
 * after it. By the same argument a NULL in u leads to no change at all if there is an equality on the way.
 *
 * A key path through another table M is a way from u to a column m of M, and a way from another column k of
 * the same row of M to the key. In each changed row the value of u is that of m in a row of M from which
 * the key is that of k. The rows of M may be looked up at any time up to the refresh: a row that has been
 * changed in between leads to its key itself.
 *
 * Values that are equal are taken for the same, which they are to the `=` by which keys are compared: all
 * equalities on the way are the default one of one type, with collations that tell different texts apart.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "base/catalog.h"
#include "base/unique_index.h"
#include "matview/analysis/key_mapping.h"
#include "matview/analysis/query_graph.h"
#include "matview/analysis/source_table.h"

static bool
refuse(CjViewAnalysis *analysis, const char *refusal, const char *hint)
{
	analysis->refusal = refusal;
	analysis->hint = hint;
	return false;
}

/* ---- the view and its key ---- */

/* allow_view checks what can be said of a view without its definition. */
static bool
allow_view(CjViewAnalysis *analysis, Relation rel)
{
	const char *name = cj_catalog_name(RelationGetRelid(rel));

	if (rel->rd_rel->relkind != RELKIND_MATVIEW)
		return refuse(analysis, psprintf("%s is not a materialized view.", name), NULL);
	if (!OidIsValid(cj_unique_index_find(rel, InvalidAttrNumber)))
		return refuse(
			analysis,
			psprintf("%s has no valid unique index on plain columns without WHERE, by which "
					 "its rows could be distinguished.",
					 name),
			psprintf("Fill in and run: CREATE UNIQUE INDEX ON %s (<column>);", name));
	/* a stored row, the same one as defined, and its address */
	if (2 * RelationGetNumberOfAttributes(rel) + 1 > MaxTupleAttributeNumber)
		return refuse(analysis,
					  psprintf("%s has too many columns for a query that compares its rows with "
							   "what they should be.",
							   name),
					  NULL);
	return true;
}

static bool
allow_key(CjViewAnalysis *analysis, Relation rel, const char *key)
{
	Form_pg_attribute column;
	TypeCacheEntry *type;

	analysis->key = get_attnum(RelationGetRelid(rel), key);
	if (analysis->key <= 0)
		return refuse(analysis,
					  psprintf("%s has no column \"%s\".", cj_catalog_name(RelationGetRelid(rel)),
							   key),
					  NULL);
	column = TupleDescAttr(RelationGetDescr(rel), analysis->key - 1);
	analysis->key_type = column->atttypid;
	type = lookup_type_cache(cj_query_block_compared_type(column->atttypid),
							 TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR | TYPECACHE_HASH_PROC);
	if (!OidIsValid(type->hash_proc) || !OidIsValid(type->lt_opr) ||
		!OidIsValid(get_array_type(type->type_id)) ||
		!cj_query_block_is_equality(type->eq_opr, type->type_id, InvalidOid))
		return refuse(
			analysis,
			psprintf("Its type %s does not have what keys need: an equality that can be sorted "
					 "and hashed by, and arrays.",
					 format_type_be(column->atttypid)),
			NULL);
	if (!cj_query_block_is_equality(type->eq_opr, type->type_id, column->attcollation))
		return refuse(analysis, "Its collation takes different texts for equal.", NULL);
	return true;
}

/* allow_obstacle refuses what the view has that mixes keys, if it has something. */
static bool
allow_obstacle(CjViewAnalysis *analysis, const char *obstacle)
{
	if (obstacle == NULL)
		return true;
	return refuse(analysis,
				  psprintf("The view has %s, so that rows depend on rows of other keys.", obstacle),
				  NULL);
}

/* allow_top checks that the view itself keeps its keys apart. */
static bool
allow_top(CjViewAnalysis *analysis, CjViewGraph *view)
{
	CjQueryBlock *top = view->top;
	const TargetEntry *target = cj_query_block_output(top->query, analysis->key);
	CjQueryBlock *owner;
	int node;

	if (top->query->setOperations)
		return allow_obstacle(analysis, cj_query_block_find_obstacle(top, NULL, -1, view->graph));
	node = cj_query_block_resolve(top, (Node *) target->expr, view->graph, &owner);
	if (node < 0)
		return refuse(analysis,
					  "It is computed: a key has to be a column of what the view reads, as it is.",
					  NULL);
	if (bms_is_member(cj_column_graph_get(view->graph, node)->entry, top->nullable))
		return refuse(
			analysis,
			"It is of the side of an outer join that is replaced by NULLs where there is no "
			"partner.",
			"Select the column of the other side that it is equated with.");
	return allow_obstacle(analysis, cj_query_block_find_obstacle(top, target, node, view->graph));
}

/* ---- key paths ---- */

/* find_direct returns the best node of an occurrence that reaches the key; -1: none. */
static int
find_direct(const CjViewGraph *view, const CjOccurrence *occurrence)
{
	int best = -1;
	ListCell *cell;

	foreach(cell,
			cj_column_graph_nodes_of(view->graph, occurrence->block->number, occurrence->entry))
	{
		int node = lfirst_int(cell);
		CjReach reach = cj_column_graph_reach(view->graph, node);

		if (reach != CJ_REACH_NONE &&
			(best < 0 || reach > cj_column_graph_reach(view->graph, best)))
			best = node;
	}
	return best;
}

/* make_direct makes the key path of an occurrence whose column is the key; NULL: there is none. */
static CjKeyPath *
make_direct(const CjViewGraph *view, const CjOccurrence *occurrence)
{
	int node = find_direct(view, occurrence);
	CjKeyPath *key_path;

	if (node < 0)
		return NULL;
	key_path = palloc0(sizeof(CjKeyPath));
	key_path->kind = CJ_KEY_PATH_DIRECT;
	key_path->column = cj_column_graph_get(view->graph, node)->column;
	key_path->null_is_key = cj_column_graph_reach(view->graph, node) == CJ_REACH_COPIED;
	return key_path;
}

/* make_via makes the key path of a column by way of another table; NULL: there is none. */
static CjKeyPath *
make_via(const CjViewGraph *view, const CjOccurrence *occurrence, int from)
{
	ListCell *cell;

	foreach(cell, cj_column_graph_reachable(view->graph, from))
	{
		const CjKeyNode *node = cj_column_graph_get(view->graph, lfirst_int(cell));
		const CjOccurrence *via = cj_query_graph_occurrence(view, node->block, node->entry);
		CjKeyPath *key_path = via && via != occurrence ? make_direct(view, via) : NULL;

		if (key_path == NULL)
			continue;
		key_path->kind = CJ_KEY_PATH_VIA;
		key_path->via = via->relid;
		key_path->via_column = node->column;
		key_path->via_key = key_path->column;
		key_path->column = cj_column_graph_get(view->graph, from)->column;
		return key_path;
	}
	return NULL;
}

static CjKeyPath *
make_whole_view(const CjOccurrence *occurrence)
{
	CjKeyPath *key_path = palloc0(sizeof(CjKeyPath));
	const char *obstacle = NULL;

	/* the view itself has none for its key */
	for (CjQueryBlock *block = occurrence->block; block->container && obstacle == NULL;
		 block = block->container)
		obstacle = block->obstacle;
	key_path->kind = CJ_KEY_PATH_WHOLE_VIEW;
	if (obstacle)
		key_path->reason = psprintf("it is read in a query with %s", obstacle);
	else
		key_path->reason = pstrdup(
			"none of its columns has to be equal to the key, or to a column of a table with it");
	return key_path;
}

static CjKeyPath *
make_key_path(const CjViewGraph *view, const CjOccurrence *occurrence)
{
	CjKeyPath *key_path = make_direct(view, occurrence);
	List *nodes =
		cj_column_graph_nodes_of(view->graph, occurrence->block->number, occurrence->entry);
	ListCell *cell;

	foreach(cell, nodes)
	{
		if (key_path == NULL)
			key_path = make_via(view, occurrence, lfirst_int(cell));
	}
	return key_path ? key_path : make_whole_view(occurrence);
}

/* ---- sources ---- */

static bool
are_same(const CjKeyPath *a, const CjKeyPath *b)
{
	return a->kind == b->kind && a->column == b->column && a->via == b->via &&
		   a->via_column == b->via_column && a->via_key == b->via_key;
}

static void
add_key_path(CjViewSource *source, CjKeyPath *key_path)
{
	ListCell *cell;

	if (source->key_paths &&
		((CjKeyPath *) linitial(source->key_paths))->kind == CJ_KEY_PATH_WHOLE_VIEW)
		return;
	if (key_path->kind == CJ_KEY_PATH_WHOLE_VIEW)
		source->key_paths = NIL;
	foreach(cell, source->key_paths)
	{
		CjKeyPath *other = lfirst(cell);

		if (are_same(other, key_path))
		{
			other->null_is_key |= key_path->null_is_key;
			return;
		}
	}
	source->key_paths = lappend(source->key_paths, key_path);
}

static CjViewSource *
get_source(CjViewAnalysis *analysis, Oid relid)
{
	CjViewSource *source;
	ListCell *cell;

	foreach(cell, analysis->sources)
	{
		source = lfirst(cell);
		if (source->relid == relid)
			return source;
	}
	source = palloc0(sizeof(CjViewSource));
	source->relid = relid;
	source->name = cj_catalog_name(relid);
	analysis->sources = lappend(analysis->sources, source);
	return source;
}

static int
compare_sources(const ListCell *a, const ListCell *b)
{
	return strcmp(((CjViewSource *) lfirst(a))->name, ((CjViewSource *) lfirst(b))->name);
}

static void
add_sources(CjViewAnalysis *analysis, const CjViewGraph *view)
{
	ListCell *cell;

	foreach(cell, view->occurrences)
	{
		const CjOccurrence *occurrence = lfirst(cell);
		CjViewSource *source = get_source(analysis, occurrence->relid);

		source->columns = bms_add_members(source->columns, occurrence->columns);
		add_key_path(source, make_key_path(view, occurrence));
	}
	list_sort(analysis->sources, compare_sources);
}

static void
analyse_definition(CjViewAnalysis *analysis, Relation rel)
{
	CjViewGraph *view = cj_query_graph_make(rel);

	analysis->views = view->views;
	analysis->functions = view->outcome.functions;
	if (view->outcome.refusal)
	{
		(void) refuse(analysis, view->outcome.refusal, view->outcome.hint);
		return;
	}
	if (!allow_top(analysis, view))
		return;
	cj_column_graph_search(view->graph,
						   cj_column_graph_node(view->graph, view->top->number, 0, analysis->key));
	add_sources(analysis, view);
}

CjViewAnalysis *
cj_key_mapping_make(Oid relid, const char *key)
{
	CjViewAnalysis *analysis = palloc0(sizeof(CjViewAnalysis));
	Relation rel = relation_open(relid, NoLock);

	analysis->relid = relid;
	if (allow_view(analysis, rel) && allow_key(analysis, rel, key))
		analyse_definition(analysis, rel);
	relation_close(rel, NoLock);
	return analysis;
}

/* ---- in words ---- */

static char *
column_name(Oid relid, AttrNumber column)
{
	return get_attname(relid, column, false);
}

void
cj_key_mapping_describe_key_path(const CjViewSource *source, const CjKeyPath *key_path,
								 const char *texts[CJ_KEY_PATH_TEXTS])
{
	static const char *const kinds[] = {"direct", "via", "whole_view"};

	texts[0] = source->name;
	texts[1] = key_path->column ? column_name(source->relid, key_path->column) : NULL;
	texts[2] = kinds[key_path->kind];
	texts[3] = NULL;
	if (key_path->kind == CJ_KEY_PATH_VIA)
		texts[3] = psprintf("%s: %s -> %s", cj_catalog_name(key_path->via),
							quote_identifier(column_name(key_path->via, key_path->via_column)),
							quote_identifier(column_name(key_path->via, key_path->via_key)));
	texts[4] = key_path->reason;
}
