/*
 * matview/apply/diff_query.c
 *		What keeps the stored rows of a materialized view from being what its definition gives.
 *
 * The query joins the rows that the definition gives for some keys with those that are stored for them:
 *
 *     SELECT n.c1, …, s.c1, …, s.address
 *       FROM (SELECT d.* FROM app.view AS d (c1, …) WHERE d.c1 = ANY ($1)) AS n
 *       FULL JOIN (SELECT v.*, v.ctid FROM app.view AS v (c1, …) WHERE v.c1 = ANY ($1))
 *                 AS s (c1, …, address)
 *         ON n.c1 = s.c1 AND n.c2 = s.c2
 *
 * Once it has been analyzed, the view is replaced by its definition in the first of the two places: by the
 * stored query tree, as REFRESH runs it. So nothing of the definition is looked up by its name again, and
 * the planner takes the condition on the key down into it as far as it goes.
 *
 * There is no ANALYZE of what is joined, and none is needed: a full join is done by sorting or hashing,
 * so that a wrong estimate costs little. Whether two rows are the same is left to the caller, who compares
 * key bytes; to compare composite values here would mean making them for every row.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "base/catalog.h"
#include "base/compat.h"
#include "base/unique_index.h"
#include "matview/apply/diff_query.h"

struct CjViewDifference
{
	char *text;
	Query *query; /* rewritten, not planned */
	int columns;
	AttrNumber matched; /* a column that is null in no matched row */
	Oid keys_type;      /* of the parameter; InvalidOid: there is none */
};

/* ---- the text ---- */

/* append_columns appends the view's columns, which are known by their numbers alone. */
static void
append_columns(StringInfo text, const char *prefix, int count)
{
	for (int i = 1; i <= count; i++)
		appendStringInfo(text, "%s%sc%d", i > 1 ? ", " : "", prefix, i);
}

/*
 * as_base writes a column as what its domain is over, which operators of polymorphic types (those of enums, for instance)
 * do not look through; an index on the column serves all the same.
 */
static char *
as_base(char *column, Oid *type)
{
	Oid base = getBaseType(*type);

	if (base == *type)
		return column;
	*type = base;
	return psprintf("%s::%s", column, format_type_extended(base, -1, FORMAT_TYPE_FORCE_QUALIFY));
}

static void
append_match(StringInfo text, Relation view, Oid index_oid)
{
	Relation index = index_open(index_oid, AccessShareLock);

	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber column = index->rd_index->indkey.values[i];
		Oid type = TupleDescAttr(RelationGetDescr(view), column - 1)->atttypid;
		Oid left = type;
		Oid right = type;
		char *defined = as_base(psprintf("n.c%d", column), &left);
		char *stored = as_base(psprintf("s.c%d", column), &right);

		if (i > 0)
			appendStringInfoString(text, " AND ");
		generate_operator_clause(text, defined, left, cj_unique_index_equality(index, i), stored,
								 right);
	}
	index_close(index, NoLock);
}

/* append_key_condition appends the condition on the key; returns the type of the parameter's elements. */
static Oid
append_key_condition(StringInfo text, char *column, Oid type, bool of_null)
{
	Oid equals;
	Oid left;
	Oid right;

	if (of_null)
	{
		appendStringInfo(text, "%s IS NULL", column);
		return InvalidOid;
	}
	column = as_base(column, &type);
	equals = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	if (!OidIsValid(equals) || !OidIsValid(get_array_type(type)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows cannot be found by a column of type %s", format_type_be(type))));

	/*
	 * Both sides are of the very types of the operator, so that the parser cannot prefer another one of the
	 * same name: the column by a cast, the parameter as it is declared (the values are the same).
	 */
	op_input_types(equals, &left, &right);
	generate_operator_clause(text, column, type, equals, "ANY ($1)", right);
	return IsPolymorphicType(right) || right == RECORDOID ? type : right;
}

/* make_text makes the text of the query; returns the type of the parameter's elements. */
static Oid
make_text(StringInfo text, Relation view, Oid index, AttrNumber key, bool of_null)
{
	const char *name = cj_catalog_name(RelationGetRelid(view));
	Oid type = TupleDescAttr(RelationGetDescr(view), key - 1)->atttypid;
	int count = RelationGetNumberOfAttributes(view);
	Oid parameter;

	appendStringInfoString(text, "SELECT ");
	append_columns(text, "n.", count);
	appendStringInfoString(text, ", ");
	append_columns(text, "s.", count);
	appendStringInfo(text, ", s.address FROM (SELECT d.* FROM %s AS d (", name);
	append_columns(text, "", count);
	appendStringInfoString(text, ") WHERE ");
	parameter = append_key_condition(text, psprintf("d.c%d", key), type, of_null);
	appendStringInfo(text, ") AS n FULL JOIN (SELECT v.*, v.ctid FROM %s AS v (", name);
	append_columns(text, "", count);
	appendStringInfoString(text, ") WHERE ");
	(void) append_key_condition(text, psprintf("v.c%d", key), type, of_null);
	appendStringInfoString(text, ") AS s (");
	append_columns(text, "", count);
	appendStringInfoString(text, ", address) ON ");
	append_match(text, view, index);
	return parameter;
}

/* ---- the query ---- */

/* view_in returns the entry of the view in a subquery that reads nothing else. */
static RangeTblEntry *
view_in(Query *query, int number, Relation view)
{
	Query *subquery = rt_fetch(number, query->rtable)->subquery;
	RangeTblEntry *entry = linitial_node(RangeTblEntry, subquery->rtable);

	/* its schema can be renamed while we hold a lock on the view */
	if (entry->relid != RelationGetRelid(view))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the schema of \"%s\" was renamed concurrently",
						RelationGetRelationName(view))));
	return entry;
}

/* put_definition puts the definition of the view in the place of the first reference to it. */
static void
put_definition(Query *query, Relation view)
{
	RangeTblEntry *entry = view_in(query, 1, view);

	(void) view_in(query, 2, view);
	cj_compat_forget_permissions(rt_fetch(1, query->rtable)->subquery, entry);
	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = cj_catalog_view_definition(view);
	entry->relid = InvalidOid;
	entry->relkind = 0;
	entry->rellockmode = 0;
	entry->inh = false;
}

/* make_query analyzes the text, puts the definition in, and has it rewritten. */
static Query *
make_query(const char *text, Oid *keys_type, Relation view)
{
	List *parsed = pg_parse_query(text);
	Query *query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), text, keys_type,
											 OidIsValid(*keys_type) ? 1 : 0, NULL);
	List *rewritten;

	put_definition(query, view);
	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for a query over \"%s\"",
			 RelationGetRelationName(view));
	return linitial_node(Query, rewritten);
}

CjViewDifference *
cj_diff_query_make(Relation view, Oid index_oid, AttrNumber key, bool of_null)
{
	CjViewDifference *difference = palloc0(sizeof(CjViewDifference));
	Relation index = index_open(index_oid, AccessShareLock);
	StringInfoData text;
	Oid element;

	difference->matched = index->rd_index->indkey.values[0];
	index_close(index, NoLock);
	difference->columns = RelationGetNumberOfAttributes(view);
	initStringInfo(&text);
	element = make_text(&text, view, index_oid, key, of_null);
	difference->text = text.data;
	difference->keys_type = of_null ? InvalidOid : get_array_type(element);

	/* locks of the rewriter and the analysis are the transaction's: nobody changes what has been rewritten */
	PushActiveSnapshot(GetTransactionSnapshot());
	difference->query = make_query(difference->text, &difference->keys_type, view);
	PopActiveSnapshot();
	return difference;
}

/* ---- running it ---- */

/* Takes the rows of the query. */
typedef struct Receiver
{
	DestReceiver dest;
	const CjViewDifference *difference;
	CjTakeRowPair take;
	void *arg;
} Receiver;

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Receiver *receiver = (Receiver *) self;
	int count = receiver->difference->columns;
	CjRowPair pair = {0};

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	if (!slot->tts_isnull[2 * count])
	{
		pair.stored.values = slot->tts_values + count;
		pair.stored.nulls = slot->tts_isnull + count;
		pair.address = (ItemPointer) DatumGetPointer(slot->tts_values[2 * count]);
	}
	/* a stored row that is matched agrees with the other in columns that are not null */
	if (pair.address == NULL || !slot->tts_isnull[receiver->difference->matched - 1])
	{
		pair.defined.values = slot->tts_values;
		pair.defined.nulls = slot->tts_isnull;
	}
	receiver->take(&pair, receiver->arg);
	return true;
}

/* start_nothing and end_nothing: the receiver has nothing to set up. */
static void
start_nothing(DestReceiver *self, int operation, TupleDesc descriptor)
{
}

static void
end_nothing(DestReceiver *self)
{
}

/* make_parameters makes the parameter, whose value the planner may use as a constant. */
static ParamListInfo
make_parameters(const CjViewDifference *difference, Datum keys)
{
	ParamListInfo list;

	if (!OidIsValid(difference->keys_type))
		return NULL;
	list = makeParamList(1);
	list->params[0].value = keys;
	list->params[0].isnull = false;
	list->params[0].pflags = PARAM_FLAG_CONST;
	list->params[0].ptype = difference->keys_type;
	return list;
}

static void
execute(PlannedStmt *plan, const char *text, ParamListInfo parameters, DestReceiver *dest)
{
	QueryDesc *query = CreateQueryDesc(plan, text, GetActiveSnapshot(), InvalidSnapshot, dest,
									   parameters, NULL, 0);

	ExecutorStart(query, 0);
	cj_compat_executor_run(query);
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
}

void
cj_diff_query_run(const CjViewDifference *difference, Datum keys, Snapshot snapshot,
				  CjTakeRowPair take, void *arg)
{
	Receiver receiver = {
		.dest = {receive, start_nothing, end_nothing, end_nothing, DestNone},
		.difference = difference,
		.take = take,
		.arg = arg,
	};
	ParamListInfo parameters = make_parameters(difference, keys);
	PlannedStmt *plan;

	/* what this transaction has done to the view so far is to be seen, and what comes next is not */
	PushCopiedSnapshot(snapshot);
	UpdateActiveSnapshotCommandId();
	/* not in parallel, as then nothing may be written while it runs */
	plan = pg_plan_query(copyObject(difference->query), difference->text, 0, parameters);
	execute(plan, difference->text, parameters, &receiver.dest);
	PopActiveSnapshot();
}
