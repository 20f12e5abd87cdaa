/*
 * matview/analysis/allowed_functions.c
 *		Which expressions the definition of a tracked view may use.
 *
 * A view whose rows are computed at different times must give the same for the same tables whenever it is
 * computed: not after the clock, the session, the catalogs, or tables that nobody watches. IMMUTABLE functions are
 * taken at their word. Of those that PostgreSQL calls STABLE some depend on nothing but their arguments and the
 * settings that are the same in each refresh (TimeZone, DateStyle, IntervalStyle, bytea_output,
 * extra_float_digits): these are listed here, by name. Node types that are not listed are refused, also those that
 * later versions of PostgreSQL will bring.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "matview/analysis/allowed_functions.h"

/* What the result of a STABLE function of PostgreSQL's depends on besides its arguments. */
typedef enum Dependence
{
	ON_OTHERS,        /* on what nobody watches */
	ON_SETTINGS,      /* on the settings that are the same in each refresh */
	ON_TEXT_FORM,     /* on how its arguments are written as text */
	ON_DATE_PATTERN,  /* and on lc_time, if the pattern says so */
	ON_NUMBER_PATTERN /* and on lc_numeric and lc_monetary, if the pattern says so */
} Dependence;

/*
 * Functions of pg_catalog by name: what is said holds for all functions of the name that are STABLE.
 * Not here, though it might seem so: timetz(time) and timezone(…, timetz) take the offset of today,
 * date_in and its like understand 'now', age() of one argument counts from today, and money is written
 * by lc_monetary.
 */
static const char *const stable_functions[] = {
	[ON_OTHERS] = "",
	/* time zones, then comparisons, input and output */
	[ON_SETTINGS] =
		" date date_add date_part date_subtract date_trunc extract generate_series in_range"
		" interval_pl_timestamptz make_timestamptz overlaps time timestamp timestamptz"
		" timestamptz_mi_interval timestamptz_pl_interval"
		" date_cmp_timestamptz date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz"
		" date_le_timestamptz date_lt_timestamptz date_ne_timestamptz timestamp_cmp_timestamptz"
		" timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz"
		" timestamp_le_timestamptz timestamp_lt_timestamptz timestamp_ne_timestamptz"
		" timestamptz_cmp_date timestamptz_eq_date timestamptz_ge_date timestamptz_gt_date"
		" timestamptz_le_date timestamptz_lt_date timestamptz_ne_date timestamptz_cmp_timestamp"
		" timestamptz_eq_timestamp timestamptz_ge_timestamp timestamptz_gt_timestamp"
		" timestamptz_le_timestamp timestamptz_lt_timestamp timestamptz_ne_timestamp"
		" date_out interval_in interval_out timestamp_out timestamptz_out ",
	/* text, then JSON */
	[ON_TEXT_FORM] =
		" anytextcat array_to_string concat concat_ws format textanycat"
		" array_to_json json_agg json_agg_strict json_build_array json_build_object json_object_agg"
		" json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict jsonb_agg"
		" jsonb_agg_strict jsonb_build_array jsonb_build_object jsonb_object_agg"
		" jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict row_to_json"
		" to_json to_jsonb ",
	/* patterns; of to_char the type of its first argument decides */
	[ON_NUMBER_PATTERN] = " to_char to_number ",
	[ON_DATE_PATTERN] = " to_date to_timestamp ",
};

static bool
refuse(CjFunctionOutcome *outcome, const char *refusal, const char *hint)
{
	if (outcome->refusal == NULL)
	{
		outcome->refusal = refusal;
		outcome->hint = hint;
	}
	return false;
}

static bool
is_own(Oid oid)
{
	return oid < FirstNormalObjectId;
}

/* find_dependence returns what a STABLE function of PostgreSQL's depends on. */
static Dependence
find_dependence(Oid function)
{
	char *name = get_func_name(function);

	for (int i = 0; name && i < lengthof(stable_functions); i++)
	{
		if (strstr(stable_functions[i], psprintf(" %s ", name)))
			return (Dependence) i;
	}
	return ON_OTHERS;
}

/* ---- types as text ---- */

/* has_fixed_output returns whether the output function of a base type depends on its argument alone. */
static bool
has_fixed_output(Oid type)
{
	Oid output;
	bool is_varlena;

	/* JSON functions use a cast to json where a type of the app has one */
	if (!is_own(type) &&
		SearchSysCacheExists2(CASTSOURCETARGET, ObjectIdGetDatum(type), ObjectIdGetDatum(JSONOID)))
		return false;
	getTypeOutputInfo(type, &output, &is_varlena);
	return func_volatile(output) == PROVOLATILE_IMMUTABLE ||
		   (is_own(output) && find_dependence(output) == ON_SETTINGS);
}

/*
 * has_fixed_text returns whether a value of a type is always written as the same text. Labels of an enum can
 * be renamed, and so can the attributes of a type, whose names are in the JSON; what the types of object
 * identifiers are written as stands in the catalogs.
 */
static bool
has_fixed_text(Oid type)
{
	Oid base = getBaseType(type);
	Oid element = get_element_type(base);

	if (OidIsValid(element))
		return has_fixed_text(element);
	switch (get_typtype(base))
	{
		case TYPTYPE_BASE:
			return has_fixed_output(base);
		case TYPTYPE_RANGE:
			return has_fixed_text(get_range_subtype(base));
		case TYPTYPE_MULTIRANGE:
			return has_fixed_text(get_range_subtype(get_multirange_range(base)));
		default:
			return base == UNKNOWNOID;
	}
}

/* has_fixed_columns returns whether each column of a row type is always written as the same text. */
static bool
has_fixed_columns(Oid type)
{
	TupleDesc desc = lookup_rowtype_tupdesc(type, -1);
	bool fixed = true;

	for (int i = 0; fixed && i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		fixed = column->attisdropped || has_fixed_text(column->atttypid);
	}
	ReleaseTupleDesc(desc);
	return fixed;
}

/*
 * is_fixed_argument returns whether an argument is always written as the same text. The columns of a row that
 * the view reads as a whole are renamed with what it reads.
 */
static bool
is_fixed_argument(Node *node)
{
	ListCell *cell;

	if (IsA(node, TargetEntry))
		node = (Node *) ((TargetEntry *) node)->expr;
	if (IsA(node, Var) && ((Var *) node)->varattno == 0 && exprType(node) != RECORDOID)
		return has_fixed_columns(exprType(node));
	if (!IsA(node, RowExpr) || ((RowExpr *) node)->row_typeid != RECORDOID)
		return has_fixed_text(exprType(node));
	foreach(cell, ((RowExpr *) node)->args)
	{
		if (!is_fixed_argument(lfirst(cell)))
			return false;
	}
	return true;
}

static bool
refuse_text(Oid type, CjFunctionOutcome *outcome)
{
	if (get_typtype(getBaseType(type)) == TYPTYPE_ENUM)
		return refuse(
			outcome,
			psprintf("It turns values of the enum %s into text or back, and labels can be renamed.",
					 format_type_be(type)),
			"Leave the column in its own type.");
	return refuse(
		outcome,
		psprintf("It writes values of type %s as text or reads them from text, which depends "
				 "on more than the value.",
				 format_type_be(type)),
		NULL);
}

/* ---- functions ---- */

static bool
refuse_function(Oid function, char volatility, CjFunctionOutcome *outcome)
{
	const char *name = format_procedure(function);

	if (is_own(function))
		return refuse(outcome,
					  psprintf("It calls %s, whose result depends on more than its arguments: the "
							   "time, the session, the catalogs or chance.",
							   name),
					  NULL);
	return refuse(
		outcome,
		psprintf("It calls %s, which is %s: its result may depend on what nobody watches.", name,
				 volatility == PROVOLATILE_STABLE ? "STABLE" : "VOLATILE"),
		psprintf("If its result depends on nothing but its arguments: ALTER FUNCTION %s "
				 "IMMUTABLE;",
				 format_procedure_qualified(function)));
}

/* allow_aggregate evaluates what an aggregate of the app is made of: the aggregate itself has no say. */
static bool
allow_aggregate(Oid function, CjFunctionOutcome *outcome)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	Form_pg_aggregate form;
	Oid parts[8];
	bool allowed = true;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", function);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	parts[0] = form->aggtransfn;
	parts[1] = form->aggfinalfn;
	parts[2] = form->aggcombinefn;
	parts[3] = form->aggserialfn;
	parts[4] = form->aggdeserialfn;
	parts[5] = form->aggmtransfn;
	parts[6] = form->aggminvtransfn;
	parts[7] = form->aggmfinalfn;
	ReleaseSysCache(tuple);
	for (int i = 0; allowed && i < lengthof(parts); i++)
		allowed = cj_allowed_functions_allow_function(parts[i], outcome);
	return allowed;
}

bool
cj_allowed_functions_allow_function(Oid function, CjFunctionOutcome *outcome)
{
	char volatility;

	if (!OidIsValid(function))
		return true;
	volatility = func_volatile(function);
	if (!is_own(function))
		outcome->functions = list_append_unique_oid(outcome->functions, function);
	if (volatility == PROVOLATILE_IMMUTABLE)
		return is_own(function) || get_func_prokind(function) != PROKIND_AGGREGATE ||
			   allow_aggregate(function, outcome);
	if (volatility == PROVOLATILE_STABLE && is_own(function) &&
		find_dependence(function) == ON_SETTINGS)
		return true;
	return refuse_function(function, volatility, outcome);
}

bool
cj_allowed_functions_allow_operator(Oid operator, CjFunctionOutcome * outcome)
{
	return !OidIsValid(operator) ||
		   cj_allowed_functions_allow_function(get_opcode(operator), outcome);
}

/* is_plain_pattern returns whether a pattern is a constant that asks for nothing of the locale. */
static bool
is_plain_pattern(Node *node, bool of_date)
{
	const char *pattern;

	if (!IsA(node, Const) || ((Const *) node)->consttype != TEXTOID)
		return false;
	if (((Const *) node)->constisnull)
		return true;
	pattern = TextDatumGetCString(((Const *) node)->constvalue);
	return of_date ? strstr(asc_toupper(pattern, strlen(pattern)), "TM") == NULL
				   : strpbrk(pattern, "LlDdGgSs") == NULL;
}

/* allow_pattern evaluates a function that writes or reads by a pattern, its second argument. */
static bool
allow_pattern(Oid function, List *args, Dependence dependence, CjFunctionOutcome *outcome)
{
	/* to_number reads a text by a pattern for numbers */
	bool of_date = dependence == ON_DATE_PATTERN ||
				   (strcmp(get_func_name(function), "to_char") == 0 &&
					TypeCategory(exprType(linitial(args))) != TYPCATEGORY_NUMERIC);

	if (list_length(args) == 2 && is_plain_pattern(lsecond(args), of_date))
		return true;
	return refuse(outcome,
				  psprintf("It calls %s with a pattern that is no constant, or that asks for the "
						   "names, signs or separators of a locale.",
						   format_procedure(function)),
				  of_date ? "Use a constant pattern without TM."
						  : "Use a constant pattern without D, G, L and S.");
}

static bool
allow_call(Oid function, List *args, CjFunctionOutcome *outcome)
{
	Dependence dependence = ON_OTHERS;
	ListCell *cell;

	if (is_own(function) && func_volatile(function) == PROVOLATILE_STABLE)
		dependence = find_dependence(function);
	switch (dependence)
	{
		case ON_OTHERS:
		case ON_SETTINGS:
			return cj_allowed_functions_allow_function(function, outcome);
		case ON_DATE_PATTERN:
		case ON_NUMBER_PATTERN:
			return allow_pattern(function, args, dependence, outcome);
		case ON_TEXT_FORM:
			break;
	}
	foreach(cell, args)
	{
		if (!is_fixed_argument(lfirst(cell)))
			return refuse_text(exprType(lfirst(cell)), outcome);
	}
	return true;
}

static bool
allow_conversion(CoerceViaIO *coercion, CjFunctionOutcome *outcome)
{
	Oid from = exprType((Node *) coercion->arg);
	Oid to = getBaseType(coercion->resulttype);
	Oid element = get_element_type(to);
	Oid input;
	Oid param;

	if (!is_fixed_argument((Node *) coercion->arg))
		return refuse_text(from, outcome);
	to = OidIsValid(element) ? getBaseType(element) : to;
	if (get_typtype(to) != TYPTYPE_BASE)
		return refuse_text(to, outcome);
	getTypeInputInfo(to, &input, &param);
	if (func_volatile(input) == PROVOLATILE_IMMUTABLE)
		return cj_allowed_functions_allow_function(input, outcome);
	if (is_own(input) && find_dependence(input) == ON_SETTINGS)
		return true;
	if (TypeCategory(to) == TYPCATEGORY_DATETIME)
		return refuse(outcome,
					  psprintf("It reads values of type %s from text, where 'now' is one of them.",
							   format_type_be(to)),
					  "Use to_date() or to_timestamp() with a constant pattern.");
	return refuse_text(to, outcome);
}

static bool
allow_row_comparison(RowCompareExpr *comparison, CjFunctionOutcome *outcome)
{
	ListCell *cell;

	foreach(cell, comparison->opnos)
	{
		if (!cj_allowed_functions_allow_operator(lfirst_oid(cell), outcome))
			return false;
	}
	return true;
}

bool
cj_allowed_functions_allow(Node *node, CjFunctionOutcome *outcome)
{
	switch (nodeTag(node))
	{
		case T_FuncExpr:
			return allow_call(((FuncExpr *) node)->funcid, ((FuncExpr *) node)->args, outcome);
		case T_Aggref:
			return allow_call(((Aggref *) node)->aggfnoid, ((Aggref *) node)->args, outcome);
		case T_WindowFunc:
			return allow_call(((WindowFunc *) node)->winfnoid, ((WindowFunc *) node)->args,
							  outcome);
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			return allow_call(get_opcode(((OpExpr *) node)->opno), ((OpExpr *) node)->args,
							  outcome);
		case T_ScalarArrayOpExpr:
			return cj_allowed_functions_allow_operator(((ScalarArrayOpExpr *) node)->opno, outcome);
		case T_SortGroupClause:
			return cj_allowed_functions_allow_operator(((SortGroupClause *) node)->eqop, outcome) &&
				   cj_allowed_functions_allow_operator(((SortGroupClause *) node)->sortop, outcome);
		case T_WindowClause:
			return cj_allowed_functions_allow_function(((WindowClause *) node)->startInRangeFunc,
													   outcome) &&
				   cj_allowed_functions_allow_function(((WindowClause *) node)->endInRangeFunc,
													   outcome);
		case T_RowCompareExpr:
			return allow_row_comparison((RowCompareExpr *) node, outcome);
		case T_CoerceViaIO:
			return allow_conversion((CoerceViaIO *) node, outcome);
		case T_Param:
			if (((Param *) node)->paramkind == PARAM_SUBLINK)
				return true;
			return refuse(outcome, "It has a parameter.", NULL);
		case T_SQLValueFunction:
			return refuse(
				outcome,
				"It asks for the time or the user (CURRENT_DATE, CURRENT_USER and the like).",
				"Leave the comparison with the time to the queries that read the view.");
		case T_List:
		case T_TargetEntry:
		case T_Const:
		case T_Var:
		case T_SubLink:
		case T_GroupingFunc:
		case T_SubscriptingRef:
		case T_NamedArgExpr:
		case T_BoolExpr:
		case T_FieldSelect:
		case T_RelabelType:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_CollateExpr:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_CoerceToDomain:
			return true;
		default:
			return refuse(
				outcome,
				"It uses an expression that is not known to depend on the tables alone, such "
				"as the SQL syntax for XML and JSON.",
				"Use the functions for JSON (json_build_object() and the like).");
	}
}
