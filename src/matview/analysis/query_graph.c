/*
 * matview/analysis/query_graph.c
 *		What the definition of a view reads, and how columns of what it reads come together.
 *
 * A definition is read once, each reference to a query as a block of its own. The first reason to refuse
 * the view ends it: a walker returns true to stop.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/catalog.h"
#include "base/compat.h"
#include "matview/analysis/query_graph.h"
#include "matview/analysis/source_table.h"

/* CTEs that name each other twice double the blocks each time. */
#define MAX_BLOCKS 1000

/* For the walker over expressions: in whose columns they are written. */
typedef struct Place
{
	CjViewGraph *view;
	CjQueryBlock *block;
} Place;

static CjQueryBlock *visit_query(CjViewGraph *view, Query *query, CjQueryBlock *outer,
								 CjQueryBlock *container, bool is_opaque);
static bool examine(Node *node, void *context);

/* refuse notes the first reason to refuse the view; returns true, which stops a walker. */
static bool
refuse(CjViewGraph *view, const char *refusal, const char *hint)
{
	if (view->outcome.refusal == NULL)
	{
		view->outcome.refusal = refusal;
		view->outcome.hint = hint;
	}
	return true;
}

/* examine_in goes through an expression that is written in the columns of a block. */
static bool
examine_in(CjViewGraph *view, CjQueryBlock *block, void *expression)
{
	Place place = {view, block};

	return examine(expression, &place);
}

/* ---- tables ---- */

CjOccurrence *
cj_query_graph_occurrence(const CjViewGraph *view, int block, int entry)
{
	ListCell *cell;

	foreach(cell, view->occurrences)
	{
		CjOccurrence *occurrence = lfirst(cell);

		if (occurrence->block->number == block && occurrence->entry == entry)
			return occurrence;
	}
	return NULL;
}

/* add_occurrences notes the tables that a block names, before anything names their columns. */
static void
add_occurrences(CjViewGraph *view, CjQueryBlock *block)
{
	ListCell *cell;

	foreach(cell, block->entries)
	{
		RangeTblEntry *entry = cj_query_block_entry(block, lfirst_int(cell));
		CjOccurrence *occurrence;

		if (entry->rtekind != RTE_RELATION || get_rel_relkind(entry->relid) == RELKIND_VIEW)
			continue;
		occurrence = palloc0(sizeof(CjOccurrence));
		occurrence->block = block;
		occurrence->entry = lfirst_int(cell);
		occurrence->relid = entry->relid;
		view->occurrences = lappend(view->occurrences, occurrence);
	}
}

static void
visit_table(CjViewGraph *view, RangeTblEntry *entry)
{
	Relation rel = table_open(entry->relid, AccessShareLock);

	if (entry->tablesample)
		refuse(view,
			   psprintf("It reads a sample of %s: which rows it is depends on their addresses.",
						cj_catalog_name(entry->relid)),
			   NULL);
	else if (view->outcome.refusal == NULL)
		(void) cj_source_table_allow(rel, &view->outcome.refusal, &view->outcome.hint);
	table_close(rel, NoLock);
}

/* ---- expressions ---- */

/* examine_column notes what is read by naming a column, which may stand for an expression. */
static bool
examine_column(const Place *place, const Var *var)
{
	CjQueryBlock *block = cj_query_block_outer(place->block, var->varlevelsup);
	RangeTblEntry *entry = cj_query_block_entry(block, var->varno);
	CjOccurrence *occurrence;

	if (entry->rtekind == RTE_JOIN && var->varattno == 0)
		return examine_in(place->view, block, entry->joinaliasvars);
	if (entry->rtekind == RTE_JOIN || cj_compat_group_expressions(entry) != NIL)
		return examine_in(place->view, block, cj_query_block_expand(block, var));
	occurrence = cj_query_graph_occurrence(place->view, block->number, var->varno);
	return occurrence &&
		   !cj_source_table_note_column(occurrence->relid, var->varattno, &occurrence->columns,
										&place->view->outcome.refusal, &place->view->outcome.hint);
}

/* examine goes through an expression: what it reads, what it calls, the queries in it. */
static bool
examine(Node *node, void *context)
{
	Place *place = context;

	if (node == NULL)
		return false;
	check_stack_depth();
	if (!cj_allowed_functions_allow(node, &place->view->outcome))
		return true;
	if (IsA(node, Var))
		return examine_column(place, (Var *) node);
	if (IsA(node, SubLink))
	{
		SubLink *link = (SubLink *) node;

		if (examine(link->testexpr, context))
			return true;
		visit_query(place->view, castNode(Query, link->subselect), place->block, place->block,
					false);
		return place->view->outcome.refusal != NULL;
	}
	return expression_tree_walker(node, examine, context);
}

/* examine_outputs goes through all of a block that is not in its join tree. */
static void
examine_outputs(CjViewGraph *view, CjQueryBlock *block)
{
	Query *query = block->query;
	void *parts[] = {query->targetList,     query->havingQual,   query->limitOffset,
					 query->limitCount,     query->windowClause, query->groupClause,
					 query->distinctClause, query->sortClause};

	for (int i = 0; i < lengthof(parts); i++)
	{
		if (examine_in(view, block, parts[i]))
			return;
	}
}

/* ---- conditions ---- */

/* Which columns may lead to others by a condition that is true of each row that counts. */
typedef struct Condition
{
	CjQueryBlock *block;
	bool of_all;   /* WHERE, inner join: whatever the block reads */
	List *entries; /* else: what an outer join may replace by NULLs, for then nothing is replaced */
} Condition;

static bool
may_lead(const Condition *condition, const CjQueryBlock *owner, int entry)
{
	return owner == condition->block &&
		   (condition->of_all || list_member_int(condition->entries, entry));
}

/*
 * add_equality draws the edges of an equality, if it is one. From a column of an outer query leads none: the
 * condition says nothing of those of its rows for which there is no row here.
 */
static void
add_equality(CjViewGraph *view, const Condition *condition, OpExpr *equality)
{
	CjKeyGraph *graph = view->graph;
	CjQueryBlock *owners[2];
	int nodes[2];

	if (list_length(equality->args) != 2 ||
		!cj_query_block_is_equality(equality->opno, exprType(linitial(equality->args)),
									equality->inputcollid) ||
		!cj_query_block_is_equality(equality->opno, exprType(lsecond(equality->args)),
									equality->inputcollid))
		return;
	for (int i = 0; i < 2; i++)
		nodes[i] = cj_query_block_resolve(condition->block, list_nth(equality->args, i), graph,
										  &owners[i]);
	if (nodes[0] < 0 || nodes[1] < 0 || nodes[0] == nodes[1])
		return;
	for (int i = 0; i < 2; i++)
	{
		if (may_lead(condition, owners[i], cj_column_graph_get(graph, nodes[i])->entry))
			cj_column_graph_add(graph, nodes[i], nodes[1 - i], CJ_EDGE_EQUAL);
	}
}

/*
 * add_membership draws the edge of `x IN (SELECT y …)`: from y to x. True is what has to be told from the
 * rest here, so that whether the rest is false or NULL does not matter.
 */
static void
add_membership(CjViewGraph *view, const Condition *condition, Node *test, const CjQueryBlock *inner)
{
	OpExpr *equality = (OpExpr *) test;
	CjQueryBlock *owner;
	Param *param;
	int node;

	if (test == NULL || !IsA(test, OpExpr) || list_length(equality->args) != 2 ||
		!IsA(lsecond(equality->args), Param))
		return;
	param = lsecond(equality->args);
	if (!cj_query_block_is_equality(equality->opno, exprType(linitial(equality->args)),
									equality->inputcollid) ||
		!cj_query_block_is_equality(equality->opno, param->paramtype, equality->inputcollid))
		return;
	node = cj_query_block_resolve(condition->block, linitial(equality->args), view->graph, &owner);
	if (node >= 0)
		cj_column_graph_add(view->graph,
							cj_column_graph_node(view->graph, inner->number, 0, param->paramid),
							node, CJ_EDGE_EQUAL);
}

static void
visit_membership(CjViewGraph *view, const Condition *condition, SubLink *link)
{
	CjQueryBlock *inner;
	ListCell *cell;

	if (examine_in(view, condition->block, link->testexpr))
		return;
	inner = visit_query(view, castNode(Query, link->subselect), condition->block, condition->block,
						false);
	if (condition->block->is_opaque || view->outcome.refusal)
		return;
	if (!is_andclause(link->testexpr))
		add_membership(view, condition, link->testexpr, inner);
	else
	{
		foreach(cell, ((BoolExpr *) link->testexpr)->args)
			add_membership(view, condition, lfirst(cell), inner);
	}
}

/* visit_condition goes through WHERE or ON: each part that has to be true by itself. */
static void
visit_condition(CjViewGraph *view, const Condition *condition, Node *node)
{
	ListCell *cell;

	if (node == NULL || view->outcome.refusal)
		return;
	if (is_andclause(node))
	{
		foreach(cell, ((BoolExpr *) node)->args)
			visit_condition(view, condition, lfirst(cell));
	}
	else if (IsA(node, SubLink) && ((SubLink *) node)->subLinkType == ANY_SUBLINK)
		visit_membership(view, condition, (SubLink *) node);
	else
	{
		if (IsA(node, OpExpr) && !condition->block->is_opaque)
			add_equality(view, condition, (OpExpr *) node);
		(void) examine_in(view, condition->block, node);
	}
}

static void
visit_conditions(CjViewGraph *view, CjQueryBlock *block, Node *tree)
{
	Condition condition = {block, true, NIL};
	ListCell *cell;

	if (IsA(tree, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) tree;

		visit_conditions(view, block, join->larg);
		visit_conditions(view, block, join->rarg);
		condition.of_all = join->jointype == JOIN_INNER;
		if (join->jointype == JOIN_LEFT)
			condition.entries = cj_query_block_entries_in(join->rarg);
		if (join->jointype == JOIN_RIGHT)
			condition.entries = cj_query_block_entries_in(join->larg);
		visit_condition(view, &condition, join->quals);
	}
	else if (IsA(tree, FromExpr))
	{
		foreach(cell, ((FromExpr *) tree)->fromlist)
			visit_conditions(view, block, lfirst(cell));
		visit_condition(view, &condition, ((FromExpr *) tree)->quals);
	}
}

/* ---- what is joined ---- */

/* link_outputs draws the edges between what a query gives out and the entry that it is in a block. */
static void
link_outputs(CjViewGraph *view, const CjQueryBlock *block, int entry, const CjQueryBlock *inner)
{
	ListCell *cell;

	foreach(cell, inner->query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);
		int output;
		int column;

		if (target->resjunk)
			continue;
		output = cj_column_graph_node(view->graph, inner->number, 0, target->resno);
		column = cj_column_graph_node(view->graph, block->number, entry, target->resno);
		cj_column_graph_add(view->graph, output, column, CJ_EDGE_COPY);
		cj_column_graph_add(view->graph, column, output, CJ_EDGE_COPY);
	}
}

/* read_definition returns a copy of the query of a view, with all that it reads locked. */
static Query *
read_definition(Relation view)
{
	Query *query = cj_catalog_view_definition(view);

	AcquireRewriteLocks(query, false, false);
	return query;
}

/* visit_view goes through a plain view, which sees nothing of the block that reads it. */
static CjQueryBlock *
visit_view(CjViewGraph *view, CjQueryBlock *block, Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Query *query = read_definition(rel);

	view->views = list_append_unique_oid(view->views, relid);
	relation_close(rel, NoLock);
	return visit_query(view, query, NULL, block, block->is_opaque);
}

/* visit_cte goes through a query of WITH, once for each time that it is named. */
static CjQueryBlock *
visit_cte(CjViewGraph *view, CjQueryBlock *block, const RangeTblEntry *entry)
{
	CjQueryBlock *owner = cj_query_block_outer(block, entry->ctelevelsup);
	ListCell *cell;

	/* the recursion itself: its rows come from what the other arm reads */
	if (entry->self_reference)
		return NULL;
	foreach(cell, owner->query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);

		if (strcmp(cte->ctename, entry->ctename) != 0)
			continue;
		return visit_query(view, castNode(Query, cte->ctequery), owner, block,
						   block->is_opaque || owner->is_opaque || cte->cterecursive);
	}
	elog(ERROR, "a view names the query \"%s\" of WITH, which it does not have", entry->ctename);
	return NULL;
}

static void
visit_entry(CjViewGraph *view, CjQueryBlock *block, int index)
{
	RangeTblEntry *entry = cj_query_block_entry(block, index);
	CjQueryBlock *inner = NULL;
	ListCell *cell;

	switch (entry->rtekind)
	{
		case RTE_RELATION:
			if (cj_query_graph_occurrence(view, block->number, index))
				visit_table(view, entry);
			else
				inner = visit_view(view, block, entry->relid);
			break;
		case RTE_SUBQUERY:
			inner = visit_query(view, entry->subquery, block, block, block->is_opaque);
			break;
		case RTE_CTE:
			inner = visit_cte(view, block, entry);
			break;
		case RTE_FUNCTION:
			foreach(cell, entry->functions)
				(void) examine_in(view, block, lfirst_node(RangeTblFunction, cell)->funcexpr);
			break;
		case RTE_VALUES:
			(void) examine_in(view, block, entry->values_lists);
			break;
		default:
			refuse(view, "It reads XMLTABLE, JSON_TABLE or something else that is no table.", NULL);
	}
	if (inner && !inner->is_opaque && view->outcome.refusal == NULL)
		link_outputs(view, block, index, inner);
}

/* ---- outputs ---- */

/* add_output draws the edges between an output and the column that it is, if it is one. */
static void
add_output(CjViewGraph *view, CjQueryBlock *block, const TargetEntry *target)
{
	CjKeyGraph *graph = view->graph;
	CjQueryBlock *owner;
	int node = cj_query_block_resolve(block, (Node *) target->expr, graph, &owner);
	int output;
	const char *obstacle;

	if (node < 0)
		return;
	output = cj_column_graph_node(graph, block->number, 0, target->resno);

	/* a row that is given out comes from rows with its value; but grouping sets put NULLs */
	if (block->query->groupingSets == NIL)
		cj_column_graph_add(graph, output, node, CJ_EDGE_COPY);
	if (owner != block)
		return;
	obstacle = cj_query_block_find_obstacle(block, target, node, graph);
	if (obstacle == NULL)
		cj_column_graph_add(graph, node, output,
							bms_is_member(cj_column_graph_get(graph, node)->entry, block->nullable)
								? CJ_EDGE_NULLABLE_COPY
								: CJ_EDGE_COPY);
	else if (block->obstacle == NULL)
		block->obstacle = obstacle;
}

static void
add_outputs(CjViewGraph *view, CjQueryBlock *block)
{
	ListCell *cell;

	if (block->is_opaque)
	{
		block->obstacle = "a recursive query";
		return;
	}
	foreach(cell, block->query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (!target->resjunk)
			add_output(view, block, target);
	}
}

/* ---- set operations ---- */

/*
 * add_arm draws the edges from an arm of a set operation to the outputs that have the types of the arm:
 * others are converted.
 */
static void
add_arm(CjViewGraph *view, CjQueryBlock *block, int arm)
{
	Query *query = cj_query_block_entry(block, arm)->subquery;
	SetOperationStmt *operation = castNode(SetOperationStmt, block->query->setOperations);
	const char *obstacle = cj_query_block_find_obstacle(block, NULL, -1, view->graph);

	if (obstacle)
		block->obstacle = obstacle;
	if (obstacle || block->is_opaque)
		return;
	for (int i = 0; i < list_length(operation->colTypes); i++)
	{
		const TargetEntry *target = cj_query_block_output(query, i + 1);
		Oid collation = list_nth_oid(operation->colCollations, i);

		if (exprType((Node *) target->expr) == list_nth_oid(operation->colTypes, i) &&
			(!OidIsValid(collation) || get_collation_isdeterministic(collation)))
			cj_column_graph_add(view->graph,
								cj_column_graph_node(view->graph, block->number, arm, i + 1),
								cj_column_graph_node(view->graph, block->number, 0, i + 1),
								CJ_EDGE_COPY);
	}
}

static void
visit_arms(CjViewGraph *view, CjQueryBlock *block, Node *tree)
{
	if (view->outcome.refusal)
		return;
	check_stack_depth();
	if (IsA(tree, SetOperationStmt))
	{
		SetOperationStmt *operation = (SetOperationStmt *) tree;

		if (examine_in(view, block, operation->groupClauses))
			return;
		visit_arms(view, block, operation->larg);
		visit_arms(view, block, operation->rarg);
	}
	else
	{
		int arm = castNode(RangeTblRef, tree)->rtindex;

		visit_entry(view, block, arm);
		if (view->outcome.refusal == NULL)
			add_arm(view, block, arm);
	}
}

/* ---- blocks ---- */

/* may_visit returns whether a query is of a kind that is understood. */
static bool
may_visit(CjViewGraph *view, const Query *query)
{
	if (view->outcome.refusal)
		return false;
	if (view->block_count == MAX_BLOCKS)
		refuse(view, "It consists of too many queries, each counted as often as it is named.",
			   NULL);
	else if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks)
		refuse(view, "It does more than to read (FOR UPDATE, for instance).", NULL);
	return view->outcome.refusal == NULL;
}

/*
 * visit_query goes through a query: `outer` is the block whose columns it may name, `container` the one
 * that it stands in. The order matters: equalities come before outputs, which ask for them.
 */
static CjQueryBlock *
visit_query(CjViewGraph *view, Query *query, CjQueryBlock *outer, CjQueryBlock *container,
			bool is_opaque)
{
	CjQueryBlock *block;
	ListCell *cell;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (!may_visit(view, query))
		return NULL;
	block = cj_query_block_make(++view->block_count, query, outer, container);
	block->is_opaque = is_opaque || (outer && outer->is_opaque);
	if (query->setOperations)
	{
		visit_arms(view, block, query->setOperations);
		examine_outputs(view, block);
		return block;
	}
	add_occurrences(view, block);
	foreach(cell, block->entries)
	{
		if (view->outcome.refusal == NULL)
			visit_entry(view, block, lfirst_int(cell));
	}
	visit_conditions(view, block, (Node *) query->jointree);
	if (view->outcome.refusal == NULL)
	{
		examine_outputs(view, block);
		add_outputs(view, block);
	}
	return block;
}

CjViewGraph *
cj_query_graph_make(Relation rel)
{
	CjViewGraph *view = palloc0(sizeof(CjViewGraph));

	view->graph = cj_column_graph_make();
	view->top = visit_query(view, read_definition(rel), NULL, NULL, false);
	return view;
}
