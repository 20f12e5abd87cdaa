/*
 * jobs/auto_complete_evaluation.c
 *		The outcomes, before anything is changed: the average completion rate of each due challenge against its threshold.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "app/app_sql.h"
#include "base/json.h"
#include "base/template.h"
#include "jobs/auto_complete_evaluation.h"

/* How many times the cost of a single pass chunks may cost before the single pass is chosen. */
#define DECISIVE_RATIO 2

/*
 * The rule of completion; $2: the threshold, $3: the digits that count, which leave out the noise of rates that were
 * rounded, or are floating point, $4: what a NULL counts as, $5: the statuses of members who count. An average of NaN is no
 * success.
 */
#define RATE "s.{challenge_member_stats.completion_rate}::pg_catalog.numeric"
#define AVERAGE \
	"pg_catalog.trim_scale(pg_catalog.round(pg_catalog.avg(COALESCE(" RATE ", $4)), $3)) AS average"
#define MEMBERS "pg_catalog.count(COALESCE(" RATE ", $4)) AS members"
#define COUNTS                                                                                       \
	"{?challenge_members.status}{?challenge_member_stats.user_id}\n"                                 \
	"                AND ($5 IS NULL OR EXISTS (SELECT FROM {challenge_members} m\n"                 \
	"                             WHERE m.{challenge_members.challenge_id} "                         \
	"{challenge_members.challenge_id=} s.{challenge_member_stats.challenge_id}"                      \
	"{challenge_member_stats.challenge_id~}\n"                                                       \
	"                               AND m.{challenge_members.user_id} {challenge_members.user_id=} " \
	"s.{challenge_member_stats.user_id}{challenge_member_stats.user_id~}\n"                          \
	"                               AND m.{challenge_members.status} {challenge_members.status=} ANY ($5))){/}{/}\n"
/* What is said of rates: how many are NULL, how many above 100, the highest. */
#define SUMMARY                                                         \
	"pg_catalog.count(*) FILTER (WHERE " RATE " IS NULL) AS nulls, "    \
	"pg_catalog.count(*) FILTER (WHERE " RATE                           \
	" OPERATOR(pg_catalog.>) 100) AS above, LEAST(pg_catalog.max(" RATE \
	"), 1000)::pg_catalog.float8 AS highest"
/* That of a challenge c, if it has one. */
#define THRESHOLD \
	"COALESCE({?challenges.threshold}c.{challenges.threshold}::pg_catalog.numeric, {/}$2)"
/* What is kept of the evaluation v of a challenge: whether it is completed, the average, how many count, the threshold. */
#define EVALUATION                                          \
	"COALESCE(v.average OPERATOR(pg_catalog.>=) " THRESHOLD \
	" AND v.average OPERATOR(pg_catalog.<) 'NaN', false), v.average, COALESCE(v.members, 0), " THRESHOLD


static const CjStatement find_due = {
	"find due challenges",
	"SELECT c.{challenges.id}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1\n"
	"   AND c.{challenges.id} IS NOT NULL",
	SPI_OK_SELECT};

/* As find_due and evaluate in one. */
static const CjStatement find_due_and_evaluate = {
	"find due challenges and evaluate them",
	"SELECT c.{challenges.id}, " EVALUATION "\n"
	"  FROM {challenges} c\n"
	"  LEFT JOIN (SELECT s.{challenge_member_stats.challenge_id} AS id,\n"
	"                    " AVERAGE ", " MEMBERS "\n"
	"               FROM {challenge_member_stats!} s\n"
	"              WHERE true" COUNTS "              GROUP BY 1) v\n"
	"    ON v.id {challenge_member_stats.challenge_id=} c.{challenges.id}{challenges.id~}\n"
	" WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1\n"
	"   AND c.{challenges.id} IS NOT NULL",
	SPI_OK_SELECT};

/* Of all that find_due_and_evaluate evaluates. */
static const CjStatement summarize = {
	"summarize the rates of due challenges",
	"SELECT " SUMMARY "\n"
	"  FROM {challenge_member_stats!} s\n"
	" WHERE EXISTS (SELECT FROM {challenges} c\n"
	"                WHERE c.{challenges.id} {challenges.id=} s.{challenge_member_stats.challenge_id}"
	"{challenge_member_stats.challenge_id~}\n"
	"                  AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"                  AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1)" COUNTS,
	SPI_OK_SELECT};

/*
 * $2: the threshold. In the order of the keys, which is that of the table: that is how the table is best
 * written.
 */
static const CjStatement evaluate = {
	"evaluate by the average completion rate",
	"SELECT k.id, " EVALUATION ", v.id IS NOT NULL,\n"
	"       COALESCE(v.nulls, 0), COALESCE(v.above, 0), v.highest\n"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(id, position)\n"
	"  LEFT JOIN (SELECT s.{challenge_member_stats.challenge_id} AS id,\n"
	"                    " AVERAGE ", " MEMBERS ",\n"
	"                    " SUMMARY "\n"
	"               FROM {challenge_member_stats!} s\n"
	"              WHERE s.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=}\n"
	"                    ANY ($1)" COUNTS
	"              GROUP BY 1) v ON v.id {challenge_member_stats.challenge_id=} k.id\n"
	"{?challenges.threshold}  LEFT JOIN {challenges} c ON c.{challenges.id} {challenges.id=} k.id\n{/}"
	" ORDER BY k.position",
	SPI_OK_SELECT};

/* $2: what a NULL counts as, $3: the decimals. */
static const CjStatement read_own_rates = {
	"read the members' own rates",
	"SELECT s.{challenge_member_stats.challenge_id}, s.{challenge_member_stats.user_id},\n"
	"       pg_catalog.trim_scale(pg_catalog.trunc(pg_catalog.avg(COALESCE(" RATE
	", $2)), $3))::pg_catalog.text\n"
	"  FROM {challenge_member_stats!} s\n"
	" WHERE s.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=} ANY ($1)\n"
	"   AND s.{challenge_member_stats.user_id} IS NOT NULL\n"
	" GROUP BY 1, 2\n"
	"HAVING pg_catalog.avg(COALESCE(" RATE ", $2)) IS NOT NULL",
	SPI_OK_SELECT};

/* fill_list runs a statement over the app's tables whose rows are the list. */
static int64
fill_list(CjKeyList *list, const CjAutoCompleteScope *scope, const CjStatement *statement,
		  CjParams *params)
{
	char *text = cj_auto_complete_expand(scope, statement, params);

	return cj_key_list_fill(list, statement, text, params);
}

/* add_rule adds the parameters of the rule of completion. */
static void
add_rule(const CjAutoComplete *state, const CjAutoCompleteScope *scope, CjParams *params)
{
	CjValue statuses =
		cj_auto_complete_statuses(scope, "count_member_statuses", state->counted_statuses);

	cj_sql_param(params, NUMERICOID, NumericGetDatum(state->threshold), false);
	cj_sql_param(params, INT4OID, Int32GetDatum(state->digits), false);
	cj_sql_param(params, NUMERICOID, NumericGetDatum(int64_to_numeric(0)), !state->counts_nulls);
	cj_sql_param(params, statuses.type, statuses.datum, statuses.isnull);
}

/* evaluation_params makes the parameters of evaluate for some of the keys at hand. */
static CjParams
evaluation_params(const CjAutoComplete *state, const CjAutoCompleteScope *scope, int from, int to)
{
	CjParams params = {0};

	cj_sql_param_array(&params, state->key_type, cj_key_list_keys(state->due, from, to));
	add_rule(state, scope, &params);
	return params;
}

/* add_summary adds what is said of rates: from this column of a row on. */
static void
add_summary(CjAutoComplete *state, const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	double highest = DatumGetFloat8(cj_sql_datum(rows, row, column + 2, &isnull));

	state->null_rates += cj_sql_int64(rows, row, column);
	state->rates_above_100 += cj_sql_int64(rows, row, column + 1);
	if (!isnull)
		state->highest_rate = Max(state->highest_rate, highest);
}

/*
 * prefer_single_pass returns whether to evaluate all challenges at once rather than in chunks.
 *
 * In chunks only what is due is looked at. But each chunk costs as much as all together where the
 * restriction to its keys does not reach the base tables (a window or an aggregate over all
 * challenges, no index on challenge_id). The planner distinguishes the two; small differences are not to
 * be trusted, since it does not know that what one chunk has read is in memory for the next.
 */
static bool
prefer_single_pass(CjAutoComplete *state, const CjAutoCompleteScope *scope,
				   CjParams *at_once_params)
{
	int64 chunks = (state->due_count + CJ_AUTO_COMPLETE_CHUNK - 1) / CJ_AUTO_COMPLETE_CHUNK;
	CjAutoCompleteScope tracked = *scope;
	CjParams chunk_params;
	char *chunk_text;
	double chunk_cost;
	double at_once_cost;

	if (chunks <= DECISIVE_RATIO)
		return false;

	(void) cj_key_list_read(state->due, CJ_AUTO_COMPLETE_CHUNK);
	cj_key_list_rewind(state->due);
	cj_auto_complete_track(state, &tracked);
	chunk_params = evaluation_params(state, scope, 0, state->due->count);
	chunk_text = cj_auto_complete_expand(&tracked, &evaluate, &chunk_params);
	chunk_cost = cj_sql_estimate(&evaluate, chunk_text, &chunk_params);
	at_once_cost =
		cj_sql_estimate(&find_due_and_evaluate,
						cj_auto_complete_expand(scope, &find_due_and_evaluate, at_once_params),
						at_once_params);
	if (tracked.changed)
		UnregisterSnapshot(tracked.snapshot);
	elog(DEBUG1,
		 "challenge_jobs: to evaluate " INT64_FORMAT " chunks costs %.0f each, all at once %.0f",
		 chunks, chunk_cost, at_once_cost);
	return chunks * chunk_cost > DECISIVE_RATIO * at_once_cost;
}

void
cj_auto_complete_prepare(CjRun *run, void *arg)
{
	CjAutoComplete *state = arg;
	CjAutoCompleteScope scope;
	CjParams params = {0};
	CjRows rows;

	cj_auto_complete_open(run, state, &scope, true);
	state->key_type = scope.binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_ID].base_type;
	state->due = cj_key_list_create(run->memory, state->key_type, 0, NULL);
	state->evaluated = cj_key_list_create(run->memory, state->key_type, 4,
										  (Oid[]){BOOLOID, NUMERICOID, INT8OID, NUMERICOID});

	cj_sql_param(&params, scope.bound_type, scope.bound, false);
	state->due_count = fill_list(state->due, &scope, &find_due, &params);
	add_rule(state, &scope, &params);
	if (prefer_single_pass(state, &scope, &params))
	{
		cj_key_list_clear(state->due);
		state->due_count = fill_list(state->evaluated, &scope, &find_due_and_evaluate, &params);
		state->averages = scope.definition ? "live" : NULL;
		rows = cj_auto_complete_run_sql(&scope, &summarize, &params);
		add_summary(state, &rows, 0, 1);
		cj_sql_free(&rows);
	}
	cj_auto_complete_close(&scope);
}

void
cj_auto_complete_evaluate(CjRun *run, int from, int to, bool *opened, void *arg)
{
	CjAutoComplete *state = arg;
	CjAutoCompleteScope scope;
	CjParams params;
	CjRows rows;

	cj_auto_complete_open(run, state, &scope, true);
	*opened = true;
	cj_auto_complete_track(state, &scope);
	params = evaluation_params(state, &scope, from, to);
	rows = cj_auto_complete_run_sql(&scope, &evaluate, &params);
	cj_auto_complete_close(&scope);

	/*
	 * Last, since the list knows no rollback. Should the commit fail that follows, keys are appended
	 * twice, and the second time there is nothing left to do for them.
	 */
	for (uint64 row = 0; row < rows.processed; row++)
	{
		cj_key_list_append(state->evaluated, &rows, row);
		state->has_statistics |= cj_sql_bool(&rows, row, 6);
		add_summary(state, &rows, row, 7);
	}
	cj_sql_free(&rows);
}

void
cj_auto_complete_report_rates(CjRun *run, const CjAutoComplete *state)
{
	double threshold =
		DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(state->threshold)));

	if (state->null_rates > 0)
		cj_json_int64(run->more_result, "null_rates", state->null_rates);
	if (state->rates_above_100 > 0)
		cj_json_int64(run->more_result, "rates_above_100", state->rates_above_100);
	if (run->dry_run && threshold > 1 && state->highest_rate > 0 && state->highest_rate <= 1)
		ereport(WARNING,
				(errmsg("job \"auto_complete_challenges\" compares rates of at most %g with a threshold of %g",
						state->highest_rate, threshold),
				 errhint("If the rates are fractions, run: SELECT challenge_jobs.alter_job('auto_complete_challenges', "
						 "settings => '{\"completion_threshold\": %g}');",
						 threshold / 100)));
	if (run->dry_run && threshold > 0 && threshold <= 1 && state->highest_rate > 1)
		ereport(WARNING,
				(errmsg("job \"auto_complete_challenges\" compares rates of up to %g with a threshold of %g",
						state->highest_rate, threshold),
				 errhint("If the rates are per cent, run: SELECT challenge_jobs.alter_job('auto_complete_challenges', "
						 "settings => '{\"completion_threshold\": %g}');",
						 threshold * 100)));
}

CjRows
cj_auto_complete_own_rates(CjRun *run, CjAutoComplete *state, Datum keys)
{
	CjRows rows = {0};
	CjAutoCompleteScope scope;

	if (!state->notify || !state->shows_own_rate || run->dry_run)
		return rows;
	cj_auto_complete_open(run, state, &scope, true);
	cj_auto_complete_track(state, &scope);
	if (scope.binding->entities[CJ_CHALLENGE_MEMBER_STATS].columns[CJ_STATS_USER_ID].present)
		rows = cj_auto_complete_run_sql(&scope, &read_own_rates,
										CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
												  CJ_VALUE(NUMERICOID,
														   NumericGetDatum(int64_to_numeric(0)),
														   !state->counts_nulls),
												  CJ_INT4(CJ_RATE_DECIMALS)));
	cj_auto_complete_close(&scope);
	return rows;
}
