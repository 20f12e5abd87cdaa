/*
 * jobs/auto_complete_decisions.c
 *		What was decided, and on which average: the table challenge_jobs.decision.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "app/entity.h"
#include "jobs/auto_complete_decisions.h"
#include "jobs/auto_complete_scope.h"

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

CjDecision *
cj_decisions_list(const CjKeyList *evaluated, int from, int to)
{
	CjDecision *decisions = palloc0(sizeof(CjDecision) * (to - from));

	for (int i = from; i < to; i++)
		decisions[i - from] =
			(CjDecision){.challenge_key = cj_key_list_describe(evaluated, i),
						 .key = evaluated->keys[i],
						 .label = DatumGetBool(evaluated->values[CJ_EVALUATION_IS_COMPLETED][i])
									  ? CJ_CHALLENGES_COMPLETED
									  : CJ_CHALLENGES_FAILED,
						 .average = evaluated->values[CJ_EVALUATION_AVERAGE][i],
						 .has_average = !evaluated->nulls[CJ_EVALUATION_AVERAGE][i],
						 .threshold = evaluated->values[CJ_EVALUATION_THRESHOLD][i],
						 .members = DatumGetInt64(evaluated->values[CJ_EVALUATION_MEMBERS][i])};
	qsort(decisions, to - from, sizeof(CjDecision), compare);
	return decisions;
}

CjDecision *
cj_decisions_find(CjDecision *decisions, int count, const char *challenge_key)
{
	CjDecision key = {challenge_key};
	CjDecision *found = bsearch(&key, decisions, count, sizeof(CjDecision), compare);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the key of challenge %s was changed while it was decided", challenge_key)));
	return found;
}

Datum
cj_decisions_keys(const CjDecision *decisions, int count, int label, Oid key_type)
{
	Datum *keys = palloc(sizeof(Datum) * count);
	int found = 0;

	for (int i = 0; i < count; i++)
	{
		if (decisions[i].label == label)
			keys[found++] = decisions[i].key;
	}
	return cj_sql_array(keys, found, key_type);
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
		if (!decision->is_decided)
			continue;
		columns[0][decided] = CStringGetTextDatum(decision->challenge_key);
		columns[1][decided] =
			CStringGetTextDatum(cj_entity_definitions[CJ_CHALLENGES].labels[decision->label].name);
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
