/*
 * base/sql.c
 *		Statements over SPI.
 *
 * A statement over the app's tables runs as whoever the caller has become (identity.h); cj_sql_run_own is for the
 * extension's own tables.
 *
 * Statements are planned for each execution with the values at hand: they are few, each is over many
 * rows, and a plan made for other values or another state of the tables costs more than planning.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "base/identity.h"
#include "base/sql.h"

static void
add_context(void *arg)
{
	errcontext("challenge_jobs statement \"%s\"", ((const CjStatement *) arg)->name);
}

void
cj_sql_param(CjParams *params, Oid type, Datum value, bool isnull)
{
	if (params->count >= CJ_SQL_MAX_PARAMS)
		elog(ERROR, "too many parameters");
	params->types[params->count] = type;
	params->values[params->count] = value;
	params->nulls[params->count] = isnull ? 'n' : ' ';
	params->count++;
}

void
cj_sql_param_text(CjParams *params, const char *value)
{
	CjValue text = cj_sql_text_value(value);

	cj_sql_param(params, text.type, text.datum, text.isnull);
}

CjValue
cj_sql_text_value(const char *text)
{
	return CJ_VALUE(TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

CjParams *
cj_sql_params(int count, const CjValue *values)
{
	CjParams *params = palloc0(sizeof(CjParams));

	for (int i = 0; i < count; i++)
		cj_sql_param(params, values[i].type, values[i].datum, values[i].isnull);
	return params;
}

/* make_param_list makes parameters whose values the planner may use as constants. */
static ParamListInfo
make_param_list(const CjParams *params)
{
	ParamListInfo list = makeParamList(params->count);

	for (int i = 0; i < params->count; i++)
	{
		list->params[i].value = params->values[i];
		list->params[i].isnull = params->nulls[i] == 'n';
		list->params[i].pflags = PARAM_FLAG_CONST;
		list->params[i].ptype = params->types[i];
	}
	return list;
}

/*
 * execute runs a statement with SPI and checks the result code. `at`: a query, as of the snapshot that is the
 * active one.
 */
static void
execute(const CjStatement *statement, const char *text, CjParams *params, DestReceiver *dest,
		bool at)
{
	CjParams none = {0};
	CjParams *p = params ? params : &none;
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback context = {error_context_stack, add_context,
									unconstify(CjStatement *, statement)};
	int code;

	error_context_stack = &context;

	if (dest)
	{
		SPIPlanPtr plan = SPI_prepare_cursor(text ? text : statement->text, p->count, p->types,
											 CURSOR_OPT_PARALLEL_OK | CURSOR_OPT_CUSTOM_PLAN);
		SPIExecuteOptions options = {0};

		if (plan == NULL)
			elog(ERROR, "SPI_prepare_cursor failed: %s", SPI_result_code_string(SPI_result));
		options.params = make_param_list(p);
		options.dest = dest;
		code = SPI_execute_plan_extended(plan, &options);
		SPI_freeplan(plan);
	}
	else
		code = SPI_execute_with_args(text ? text : statement->text, p->count, p->types, p->values,
									 p->nulls, at, 0);
	if (code == SPI_OK_REWRITTEN)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a rule replaces the statement of the job"),
				 errhint("Replace the rule by a trigger. To list rules, run: SELECT * FROM pg_rules;")));
	if (code != statement->expected)
		elog(ERROR, "statement returned \"%s\" instead of \"%s\"", SPI_result_code_string(code),
			 SPI_result_code_string(statement->expected));

	error_context_stack = context.previous;
	MemoryContextSwitchTo(caller);
}

CjRows
cj_sql_run(const CjStatement *statement, const char *text, CjParams *params)
{
	CjRows rows;

	execute(statement, text, params, NULL, false);
	rows.processed = SPI_processed;
	rows.table = SPI_tuptable;
	return rows;
}

CjRows
cj_sql_run_at(const CjStatement *statement, const char *text, CjParams *params, Snapshot snapshot)
{
	CjRows rows;

	PushActiveSnapshot(snapshot);
	execute(statement, text, params, NULL, true);
	PopActiveSnapshot();
	rows.processed = SPI_processed;
	rows.table = SPI_tuptable;
	return rows;
}

uint64
cj_sql_run_into(const CjStatement *statement, const char *text, CjParams *params,
				DestReceiver *dest)
{
	execute(statement, text, params, dest, false);
	return SPI_processed;
}

CjRows
cj_sql_run_own(const CjStatement *statement, CjParams *params)
{
	CjIdentity saved;
	CjRows rows;

	cj_identity_become_extension(&saved);
	rows = cj_sql_run(statement, NULL, params);
	cj_identity_restore(&saved);
	return rows;
}

uint64
cj_sql_execute_own(const CjStatement *statement, CjParams *params)
{
	CjRows rows = cj_sql_run_own(statement, params);

	cj_sql_free(&rows);
	return rows.processed;
}

char *
cj_sql_text_own(const CjStatement *statement, CjParams *params)
{
	CjRows rows = cj_sql_run_own(statement, params);
	char *text = rows.processed > 0 ? cj_sql_text(&rows, 0, 1) : NULL;

	cj_sql_free(&rows);
	return text;
}

int64
cj_sql_int64_own(const CjStatement *statement, CjParams *params)
{
	CjRows rows = cj_sql_run_own(statement, params);
	int64 number = cj_sql_int64(&rows, 0, 1);

	cj_sql_free(&rows);
	return number;
}

/* A statement as planned; to be released with release_plan. */
typedef struct Planned
{
	SPIPlanPtr plan;
	CachedPlan *cached;
	Plan *top;
} Planned;

static Planned
make_plan(const CjStatement *statement, const char *text, CjParams *params, int options)
{
	MemoryContext caller = CurrentMemoryContext;
	Planned planned = {0};

	planned.plan =
		SPI_prepare_cursor(text, params->count, params->types, options | CURSOR_OPT_CUSTOM_PLAN);
	if (planned.plan == NULL)
		elog(ERROR, "could not prepare statement \"%s\": %s", statement->name,
			 SPI_result_code_string(SPI_result));
	planned.cached = GetCachedPlan(linitial(SPI_plan_get_plan_sources(planned.plan)),
								   make_param_list(params), NULL, NULL);
	/* a rule may have made a utility statement of it, or nothing at all */
	if (planned.cached->stmt_list != NIL)
		planned.top = linitial_node(PlannedStmt, planned.cached->stmt_list)->planTree;
	MemoryContextSwitchTo(caller);
	return planned;
}

static void
release_plan(Planned *planned)
{
	MemoryContext caller = CurrentMemoryContext;

	ReleaseCachedPlan(planned->cached, NULL);
	SPI_freeplan(planned->plan);
	MemoryContextSwitchTo(caller);
}

double
cj_sql_estimate(const CjStatement *statement, const char *text, CjParams *params)
{
	Planned planned = make_plan(statement, text, params, CURSOR_OPT_PARALLEL_OK);
	double cost = planned.top ? planned.top->total_cost : 0;

	release_plan(&planned);
	return cost;
}

CjAccess
cj_sql_access(const CjStatement *statement, const char *text, CjParams *params)
{
	Planned planned = make_plan(statement, text, params, 0);
	Plan *plan = planned.top;
	CjAccess access = CJ_ACCESS_OTHER;

	if (plan && (IsA(plan, Limit) || IsA(plan, ModifyTable)))
		plan = outerPlan(plan);
	if (plan && IsA(plan, Sort) && IsA(outerPlan(plan), Result))
		plan = outerPlan(plan); /* nothing, in order */
	if (plan == NULL)
		access = CJ_ACCESS_OTHER;
	else if (IsA(plan, Result) && outerPlan(plan) == NULL)
		access = CJ_ACCESS_NONE;
	else if (IsA(plan, IndexScan) || IsA(plan, IndexOnlyScan))
		access = plan->qual == NIL ? CJ_ACCESS_INDEX_ONLY : CJ_ACCESS_INDEX;
	else if (IsA(plan, BitmapHeapScan))
		access = CJ_ACCESS_INDEX;
	else if (IsA(plan, TidRangeScan))
		access = CJ_ACCESS_RANGE;
	release_plan(&planned);
	return access;
}

void
cj_sql_free(CjRows *rows)
{
	if (rows->table)
		SPI_freetuptable(rows->table);
	rows->table = NULL;
}

/* raw_value returns a value that lives in SPI's memory. */
static Datum
raw_value(const CjRows *rows, uint64 row, int column, bool *isnull)
{
	if (rows->table == NULL || row >= rows->table->numvals)
		elog(ERROR, "row " UINT64_FORMAT " is not there", row);
	return SPI_getbinval(rows->table->vals[row], rows->table->tupdesc, column, isnull);
}

Datum
cj_sql_datum(const CjRows *rows, uint64 row, int column, bool *isnull)
{
	Form_pg_attribute attr = TupleDescAttr(rows->table->tupdesc, column - 1);
	Datum value = raw_value(rows, row, column, isnull);

	if (*isnull)
		return (Datum) 0;
	if (attr->attlen == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, attr->attbyval, attr->attlen);
}

Datum
cj_sql_column(const CjRows *rows, int column, Oid type)
{
	Datum *values = palloc(sizeof(Datum) * rows->processed);
	bool isnull;

	for (uint64 row = 0; row < rows->processed; row++)
	{
		values[row] = cj_sql_datum(rows, row, column, &isnull);
		if (isnull)
			elog(ERROR, "unexpected null in row " UINT64_FORMAT, row);
	}
	return cj_sql_array(values, (int) rows->processed, type);
}

Datum
cj_sql_array(Datum *values, int count, Oid type)
{
	Datum *copy = palloc(sizeof(Datum) * Max(count, 1));
	int16 length;
	bool by_value;
	char alignment;

	/* construct_array puts what it has detoasted into the list that it is given */
	memcpy(copy, values, sizeof(Datum) * count);
	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	return PointerGetDatum(construct_array(copy, count, type, length, by_value, alignment));
}

Datum
cj_sql_oids(List *oids)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell *cell;

	foreach(cell, oids)
		values[foreach_current_index(cell)] = ObjectIdGetDatum(lfirst_oid(cell));
	return cj_sql_array(values, list_length(oids), OIDOID);
}

Datum
cj_sql_array_with_nulls(Datum *values, bool *nulls, int count, Oid type)
{
	int dims[] = {count};
	int lower_bounds[] = {1};
	int16 length;
	bool by_value;
	char alignment;

	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower_bounds, type, length,
											  by_value, alignment));
}

void
cj_sql_param_array(CjParams *params, Oid element_type, Datum array)
{
	cj_sql_param(params, get_array_type(element_type), array, false);
}

char *
cj_sql_text(const CjRows *rows, uint64 row, int column)
{
	if (rows->table == NULL || row >= rows->table->numvals)
		elog(ERROR, "row " UINT64_FORMAT " is not there", row);
	return SPI_getvalue(rows->table->vals[row], rows->table->tupdesc, column);
}

bool
cj_sql_bool(const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	Datum value = raw_value(rows, row, column, &isnull);

	return isnull ? false : DatumGetBool(value);
}

int64
cj_sql_int64(const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	Datum value = raw_value(rows, row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

TimestampTz
cj_sql_moment(const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	Datum value = raw_value(rows, row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

Oid
cj_sql_oid(const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	Datum value = raw_value(rows, row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}
