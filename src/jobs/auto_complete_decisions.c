/*
 * jobs/auto_complete_decisions.c
 *		What was decided, and on which average: the table challenge_jobs.decision.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/sql.h"
#include "jobs/auto_complete_decisions.h"

/* $1: the run; the rest: lists. Challenges with the same key are decided as one. */
static const CjStatement write_decisions = {
	"keep decisions",
	"INSERT INTO challenge_jobs.decision (run_id, challenge_key, outcome, average, threshold, members)"
	"SELECT $1, d.*"
	"  FROM unnest($2, $3, $4, $5, $6) AS d(challenge_key, outcome, average, threshold, members)"
	"    ON CONFLICT DO NOTHING",
	SPI_OK_INSERT};

static int
compare(const void *a, const void *b)
{
	return strcmp(((const CjDecision *) a)->challenge_key, ((const CjDecision *) b)->challenge_key);
}

void
cj_decisions_sort(CjDecision *decisions, int count)
{
	qsort(decisions, count, sizeof(CjDecision), compare);
}

CjDecision *
cj_decisions_find(CjDecision *decisions, int count, const char *challenge_key)
{
	CjDecision key = {challenge_key};

	return bsearch(&key, decisions, count, sizeof(CjDecision), compare);
}

void
cj_decisions_write(int64 run_id, const CjDecision *decisions, int count)
{
	Datum *columns[5];
	bool *no_average = palloc(sizeof(bool) * count);
	int decided = 0;

	for (int i = 0; i < lengthof(columns); i++)
		columns[i] = palloc(sizeof(Datum) * count);
	for (const CjDecision *decision = decisions; decision < decisions + count; decision++)
	{
		if (decision->outcome == NULL)
			continue;
		columns[0][decided] = CStringGetTextDatum(decision->challenge_key);
		columns[1][decided] = CStringGetTextDatum(decision->outcome);
		columns[2][decided] = decision->average;
		columns[3][decided] = decision->threshold;
		columns[4][decided] = Int64GetDatum(decision->members);
		no_average[decided++] = !decision->has_average;
	}
	cj_sql_execute_own(
		&write_decisions,
		CJ_PARAMS(CJ_INT8(run_id), CJ_ARRAY(TEXTOID, cj_sql_array(columns[0], decided, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(columns[1], decided, TEXTOID)),
				  CJ_ARRAY(NUMERICOID,
						   cj_sql_array_with_nulls(columns[2], no_average, decided, NUMERICOID)),
				  CJ_ARRAY(NUMERICOID, cj_sql_array(columns[3], decided, NUMERICOID)),
				  CJ_ARRAY(INT8OID, cj_sql_array(columns[4], decided, INT8OID))));
}
