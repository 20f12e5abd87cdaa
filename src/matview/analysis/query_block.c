/*
 * matview/analysis/query_block.c
 *		A query block, as it is met in the definition of a view.
 *
 * Answers what can be said of one block: which entries are joined, which column an expression is, and whether the
 * block keeps rows apart whose values of a column differ.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "matview/analysis/query_block.h"

/* ---- the join tree ---- */

List *
cj_query_block_entries_in(Node *tree)
{
	List *entries = NIL;
	ListCell *cell;

	if (IsA(tree, RangeTblRef))
		return list_make1_int(((RangeTblRef *) tree)->rtindex);
	if (IsA(tree, JoinExpr))
		return list_concat(cj_query_block_entries_in(((JoinExpr *) tree)->larg),
						   cj_query_block_entries_in(((JoinExpr *) tree)->rarg));
	foreach(cell, castNode(FromExpr, tree)->fromlist)
		entries = list_concat(entries, cj_query_block_entries_in(lfirst(cell)));
	return entries;
}

static Bitmapset *
add_entries(Bitmapset *set, Node *tree)
{
	ListCell *cell;

	foreach(cell, cj_query_block_entries_in(tree))
		set = bms_add_member(set, lfirst_int(cell));
	return set;
}

/* find_nullable returns the entries for which an outer join in a part of a tree may put NULLs. */
static Bitmapset *
find_nullable(Node *tree)
{
	Bitmapset *set = NULL;
	ListCell *cell;

	if (IsA(tree, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) tree;

		set = bms_join(find_nullable(join->larg), find_nullable(join->rarg));
		if (join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL)
			set = add_entries(set, join->rarg);
		if (join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL)
			set = add_entries(set, join->larg);
	}
	else if (IsA(tree, FromExpr))
	{
		foreach(cell, ((FromExpr *) tree)->fromlist)
			set = bms_join(set, find_nullable(lfirst(cell)));
	}
	return set;
}

CjQueryBlock *
cj_query_block_make(int number, Query *query, CjQueryBlock *outer, CjQueryBlock *container)
{
	CjQueryBlock *block = palloc0(sizeof(CjQueryBlock));

	block->number = number;
	block->query = query;
	block->outer = outer;
	block->container = container;
	block->entries = cj_query_block_entries_in((Node *) query->jointree);

	/* where WHERE has no use for NULLs of an entry, the outer join adds none */
	block->nullable = bms_difference(find_nullable((Node *) query->jointree),
									 find_nonnullable_rels(query->jointree->quals));
	return block;
}

CjQueryBlock *
cj_query_block_outer(CjQueryBlock *block, Index levels)
{
	for (; levels > 0; levels--)
	{
		block = block->outer;
		if (block == NULL)
			elog(ERROR, "a column of a view refers to no query");
	}
	return block;
}

RangeTblEntry *
cj_query_block_entry(const CjQueryBlock *block, int entry)
{
	return rt_fetch(entry, block->query->rtable);
}

const TargetEntry *
cj_query_block_output(const Query *query, AttrNumber column)
{
	ListCell *cell;

	foreach(cell, query->targetList)
	{
		const TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (!target->resjunk && target->resno == column)
			return target;
	}
	elog(ERROR, "a query of a view has no output %d", column);
	return NULL;
}

/* ---- types ---- */

Oid
cj_query_block_compared_type(Oid type)
{
	Oid base = getBaseType(type);

	return base == VARCHAROID ? TEXTOID : base;
}

/* is_deterministic returns whether a collation takes only the same texts for equal. */
static bool
is_deterministic(Oid collation)
{
	return !OidIsValid(collation) || get_collation_isdeterministic(collation);
}

/* is_plain returns whether values of a type have no columns or bounds with an equality of their own. */
static bool
is_plain(Oid type)
{
	Oid element = get_element_type(type);
	char kind = get_typtype(OidIsValid(element) ? getBaseType(element) : type);

	return kind == TYPTYPE_BASE || kind == TYPTYPE_ENUM;
}

bool
cj_query_block_is_equality(Oid operator, Oid type, Oid collation)
{
	Oid compared = cj_query_block_compared_type(type);
	TypeCacheEntry *entry = lookup_type_cache(compared, TYPECACHE_EQ_OPR);

	return operator== entry->eq_opr && is_plain(compared) && op_strict(operator) &&
		   is_deterministic(collation) &&
		   (op_mergejoinable(operator, compared) || op_hashjoinable(operator, compared));
}

/* ---- columns ---- */

Node *
cj_query_block_expand(const CjQueryBlock *block, const Var *var)
{
	RangeTblEntry *entry = cj_query_block_entry(block, var->varno);
	List *expressions =
		entry->rtekind == RTE_JOIN ? entry->joinaliasvars : cj_compat_group_expressions(entry);

	if (var->varattno <= 0 || var->varattno > list_length(expressions))
		return NULL;
	return list_nth(expressions, var->varattno - 1);
}

/* strip_relabels takes casts off that change neither the value nor how it is compared. */
static Node *
strip_relabels(Node *expression)
{
	while (expression && IsA(expression, RelabelType))
	{
		RelabelType *relabel = (RelabelType *) expression;

		if (cj_query_block_compared_type(exprType((Node *) relabel->arg)) !=
				cj_query_block_compared_type(relabel->resulttype) ||
			!is_deterministic(relabel->resultcollid))
			return NULL;
		expression = (Node *) relabel->arg;
	}
	return expression;
}

int
cj_query_block_resolve(CjQueryBlock *block, Node *expression, CjKeyGraph *graph,
					   CjQueryBlock **owner)
{
	Var *var = (Var *) strip_relabels(expression);
	Node *expanded;

	if (var == NULL || !IsA(var, Var) || var->varattno <= 0 || !is_deterministic(var->varcollid))
		return -1;
	*owner = cj_query_block_outer(block, var->varlevelsup);
	expanded = cj_query_block_expand(*owner, var);
	if (expanded)
		return cj_query_block_resolve(*owner, expanded, graph, owner);

	/* what a set operation calls the columns of its first arm are those of all arms */
	if (!list_member_int((*owner)->entries, var->varno))
		return -1;
	return cj_column_graph_node(graph, (*owner)->number, var->varno, var->varattno);
}

/* ---- what keeps rows apart ---- */

/* distinguishes returns whether among clauses of GROUP BY and the like is one for a node, or for its equal. */
static bool
distinguishes(CjQueryBlock *block, List *clauses, int node, CjKeyGraph *graph)
{
	ListCell *cell;

	foreach(cell, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		Node *expression = get_sortgroupclause_expr(clause, block->query->targetList);
		CjQueryBlock *owner;
		int other = cj_query_block_resolve(block, expression, graph, &owner);

		if (other < 0 || owner != block ||
			!cj_query_block_is_equality(clause->eqop, exprType(expression),
										exprCollation(expression)))
			continue;
		if (other == node || cj_column_graph_are_equated(graph, other, node))
			return true;
	}
	return false;
}

/* distinguishes_output returns whether DISTINCT compares an output by its default equality. */
static bool
distinguishes_output(List *clauses, const TargetEntry *target)
{
	SortGroupClause *clause = get_sortgroupref_clause_noerr(target->ressortgroupref, clauses);

	return clause != NULL &&
		   cj_query_block_is_equality(clause->eqop, exprType((Node *) target->expr),
									  exprCollation((Node *) target->expr));
}

const char *
cj_query_block_find_obstacle(CjQueryBlock *block, const TargetEntry *target, int node,
							 CjKeyGraph *graph)
{
	Query *query = block->query;
	ListCell *cell;

	if (query->limitCount || query->limitOffset)
		return "LIMIT or OFFSET";
	if (query->setOperations)
		return NULL;
	if (query->groupingSets)
		return "GROUPING SETS";
	if ((query->hasAggs || query->groupClause || query->havingQual) &&
		!distinguishes(block, query->groupClause, node, graph))
		return "a GROUP BY that lacks the key";
	foreach(cell, query->windowClause)
	{
		if (!distinguishes(block, lfirst_node(WindowClause, cell)->partitionClause, node, graph))
			return "a window function whose PARTITION BY lacks the key";
	}
	if (query->hasDistinctOn && !distinguishes(block, query->distinctClause, node, graph))
		return "a DISTINCT ON that lacks the key";
	if (query->distinctClause && !query->hasDistinctOn &&
		!distinguishes_output(query->distinctClause, target))
		return "a DISTINCT with an equality of its own";
	return NULL;
}
