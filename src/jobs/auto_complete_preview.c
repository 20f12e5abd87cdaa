/*
 * jobs/auto_complete_preview.c
 *		What would be decided, as the rows of challenge_jobs.preview().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "jobs/auto_complete_preview.h"

/*
 * $2: how long after its end_date a challenge has ended, $3: the zone of that. A moment comes as the session's zone has it,
 * which is that of timestamps, and so back to what it is.
 */
static const CjStatement describe_due = {
	"describe due challenges",
	"SELECT c.{challenges.id},\n"
	"       pg_catalog.timezone($3, c.{challenges.end_date}::pg_catalog.timestamp OPERATOR(pg_catalog.+) $2)"
	"{?challenges.name},\n       c.{challenges.name}::pg_catalog.text{/}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	" ORDER BY c.{challenges.end_date}",
	SPI_OK_SELECT};

void
cj_auto_complete_put_preview(CjRun *run, const CjAutoComplete *state,
							 const CjAutoCompleteScope *scope, Datum keys, CjDecision *decisions,
							 int count)
{
	bool is_date = scope->bound_type == DATEOID;
	const CjLabelDefinition *labels = cj_entity_definitions[CJ_CHALLENGES].labels;
	bool has_name = scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_NAME].present;
	Interval after = {.day = is_date ? 1 : 0};
	CjRows rows =
		cj_auto_complete_run_sql(scope, &describe_due,
								 CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
										   CJ_VALUE(INTERVALOID, IntervalPGetDatum(&after), false),
										   CJ_TEXT(is_date ? state->day_time_zone
														   : state->time_zone)));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		char *key = cj_sql_text(&rows, row, 1);
		char *name = has_name ? cj_sql_text(&rows, row, 3) : NULL;
		CjDecision *decision = cj_decisions_find(decisions, count, key);
		bool nulls[8] = {[1] = name == NULL, [4] = !decision->has_average};
		TimestampTz ended_at = DatumGetTimestampTz(cj_sql_datum(&rows, row, 2, &nulls[2]));
		Datum values[8] = {CStringGetTextDatum(key),
						   name ? CStringGetTextDatum(name) : (Datum) 0,
						   TimestampTzGetDatum(ended_at),
						   (Datum) 0,
						   decision->average,
						   decision->threshold,
						   Int64GetDatum(decision->members),
						   CStringGetTextDatum(labels[decision->label].name)};

		nulls[3] = TIMESTAMP_NOT_FINITE(ended_at);
		if (!nulls[3])
			values[3] =
				DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(run->as_of), values[2]);
		cj_run_put_row(run, values, nulls);
	}
	cj_sql_free(&rows);
}
