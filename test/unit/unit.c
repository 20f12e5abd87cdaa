/*
 * unit.c
 *		What needs no database, callable from SQL as it is.
 *
 * Built and loaded by test/t/010_cron_expression.pl alone; no part of the extension.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "config/cron.h"

PG_MODULE_MAGIC;

#define UNIT_FUNCTION(name)                          \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

UNIT_FUNCTION(unit_cron_problem);
UNIT_FUNCTION(unit_cron_next);
UNIT_FUNCTION(unit_cron_previous);

/* parse reads an expression that has to be valid. */
static CjCronExpression
parse(const text *expression)
{
	CjCronExpression result;
	char *problem = cj_cron_parse(text_to_cstring(expression), &result);

	if (problem)
		elog(ERROR, "%s", problem);
	return result;
}

/* unit_cron_problem(expression text) returns text */
Datum
unit_cron_problem(PG_FUNCTION_ARGS)
{
	CjCronExpression result;
	char *problem = cj_cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &result);

	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* unit_cron_next(expression text, after timestamptz) returns timestamptz */
Datum
unit_cron_next(PG_FUNCTION_ARGS)
{
	CjCronExpression expression = parse(PG_GETARG_TEXT_PP(0));
	TimestampTz slot;

	if (!cj_cron_next(&expression, PG_GETARG_TIMESTAMPTZ(1), &slot))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(slot);
}

/* unit_cron_previous(expression text, at timestamptz) returns timestamptz */
Datum
unit_cron_previous(PG_FUNCTION_ARGS)
{
	CjCronExpression expression = parse(PG_GETARG_TEXT_PP(0));
	TimestampTz slot;

	if (!cj_cron_previous(&expression, PG_GETARG_TIMESTAMPTZ(1), &slot))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(slot);
}
