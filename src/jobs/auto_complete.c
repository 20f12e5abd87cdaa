/*
 * jobs/auto_complete.c
 *		The job auto_complete_challenges: decide the challenges whose end date has passed, and notify
 *		their members.
 *
 * In two steps. First the outcomes (jobs/auto_complete_evaluation): what is due is read into a list (a tuplestore,
 * which goes to disk when it is large; keys only), and the average completion rate of each is compared with the
 * threshold, in chunks of keys, before anything is changed: the statistics may be a view over active challenges, or
 * one in which challenges are compared. Then, batch by batch:
 *
 *	claim		lock those that are still active and due, passing over what others have locked
 *	update		to completed or failed, testing the active status once more
 *	notify		one notification for every member row of what was updated (jobs/auto_complete_notices)
 *
 * The test in the update, not the lock, is what makes it exactly once: it also holds where rows cannot
 * be locked (distributed tables). Status and notifications are of one subtransaction: a challenge is
 * never decided without its members being notified.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "app/app_sql.h"
#include "base/json.h"
#include "jobs/auto_complete_evaluation.h"
#include "jobs/auto_complete_examine.h"
#include "jobs/auto_complete_notices.h"
#include "jobs/auto_complete_preview.h"
#include "jobs/auto_complete_statistics.h"
#include "run/batch.h"
#include "run/run_log.h"

static const char *const sources[] = {"live", "stored", NULL};
static const char *const same_zone[] = {"day_time_zone", NULL};
static const char *const every_status[] = {"all", NULL};
static const char *const no_limit[] = {"unlimited", NULL};
static const char *const refreshes[] = {"tracked", "all", "off", NULL};

#define CENTURY (36525.0 * SECS_PER_DAY)

/* Described one by one in doc/reference.md. */
static const CjSetting settings[] = {
	{"completion_threshold", CJ_SETTING_NUMBER, "80", 0, 1000000, NULL},
	{"completion_digits", CJ_SETTING_INTEGER, "6", 0, 15, NULL},
	{"completion_source", CJ_SETTING_CHOICE, "\"live\"", 0, 0, sources},
	{"count_member_statuses", CJ_SETTING_LABELS, "\"all\"", 0, 0, every_status},
	{"count_nulls_as_zero", CJ_SETTING_BOOLEAN, "false", 0, 0, NULL},
	{"day_time_zone", CJ_SETTING_TIME_ZONE, "\"UTC\"", 0, 0, NULL},
	{"timestamp_time_zone", CJ_SETTING_TIME_ZONE, "\"day_time_zone\"", 0, 0, same_zone},
	{"settle_after", CJ_SETTING_INTERVAL, "\"0\"", 0, 30 * SECS_PER_DAY, NULL},
	{"notify", CJ_SETTING_BOOLEAN, "true", 0, 0, NULL},
	{"notify_member_statuses", CJ_SETTING_LABELS, "\"all\"", 0, 0, every_status},
	{"notify_within", CJ_SETTING_INTERVAL, "\"7 days\"", 0, CENTURY, no_limit},
	{"completed_title", CJ_SETTING_TEMPLATE, "\"Challenge Completed!\"", 0, 0,
	 cj_auto_complete_placeholders},
	{"completed_body", CJ_SETTING_TEMPLATE, "\"Your challenge \\\"{challenge_name}\\\" has ended\"",
	 0, 0, cj_auto_complete_placeholders},
	{"failed_title", CJ_SETTING_TEMPLATE, "\"Challenge Completed!\"", 0, 0,
	 cj_auto_complete_placeholders},
	{"failed_body", CJ_SETTING_TEMPLATE, "\"Your challenge \\\"{challenge_name}\\\" has ended\"", 0,
	 0, cj_auto_complete_placeholders},
	{"batch_size", CJ_SETTING_INTEGER, "2500", 1, 10000, NULL},
	{"decide_without_statistics", CJ_SETTING_BOOLEAN, "false", 0, 0, NULL},
	{"insert", CJ_SETTING_CHOICE, "\"auto\"", 0, 0, cj_notifications_insert_methods},
	{"refresh_after", CJ_SETTING_CHOICE, "\"tracked\"", 0, 0, refreshes},
	{NULL}};

static const char *const figures[] = {"completed",   "failed",       "notified",
									  "undecidable", "not_notified", NULL};

static const CjIndexAdvice indexes[] = {
	{CJ_CHALLENGES, -1, CJ_CHALLENGES_ID, false, "the job reads the whole table"},
	{CJ_CHALLENGES, -1, CJ_CHALLENGES_ID, true,
	 "of challenges with the same key each would be notified of all"},
	{CJ_CHALLENGES, CJ_CHALLENGES_STATUS, CJ_CHALLENGES_END_DATE, false,
	 "the job reads the whole table"},
	{CJ_CHALLENGE_MEMBERS, -1, CJ_MEMBERS_CHALLENGE_ID, false, "the job reads the whole table"},
	{0},
};

/*
 * $1: the job. The moment of the last run that covers. If decisions have been taken back since, what they decided is due
 * as it was then: the moment of the first of their runs, and of the last run before that.
 */
static const CjStatement find_last_runs = {
	"find since when challenges are new",
	"WITH undone AS ("
	"    SELECT pg_catalog.min((u.result ->> 'undone_run')::pg_catalog.int8) AS run_id"
	"      FROM challenge_jobs.job_run u"
	"     WHERE u.job = 'undo_decisions'"
	"       AND u.run_id > (SELECT COALESCE(pg_catalog.max(r.run_id), 0)"
	"                         FROM challenge_jobs.job_run r"
	"                        WHERE r.job = $1 AND challenge_jobs.run_covers(r)))"
	"SELECT (SELECT pg_catalog.max(r.as_of)"
	"          FROM challenge_jobs.job_run r"
	"         WHERE r.job = $1 AND challenge_jobs.run_covers(r)"
	"           AND (u.run_id IS NULL OR r.run_id < u.run_id)),"
	"       (SELECT r.as_of FROM challenge_jobs.job_run r WHERE r.run_id = u.run_id)"
	"  FROM undone u",
	SPI_OK_SELECT};

/* $1: keys, $2: the bound of end_date */

/* NO KEY UPDATE: check-ins and memberships that refer to a challenge do not stand in the way. */
static const CjStatement claim = {
	"claim challenges",
	"SELECT c.{challenges.id}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2\n"
	"   FOR NO KEY UPDATE SKIP LOCKED",
	SPI_OK_SELECT};

static const CjStatement count_unclaimed = {
	"count challenges that others have locked",
	"SELECT pg_catalog.count(*)\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND NOT (c.{challenges.id} {challenges.id=} ANY ($3))\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2",
	SPI_OK_SELECT};

/*
 * $3: the keys of those that pass, $4: from which end on members are notified, $5: the keys of those without members. A
 * trigger of the app may have given a row another status than ours: a column each says which status the row has.
 */
static const CjStatement decide = {
	"update decided challenges",
	"UPDATE {challenges} AS c\n"
	"   SET {challenges.status} =\n"
	"       CASE WHEN c.{challenges.id} {challenges.id=} ANY ($3) THEN {challenges.status:completed}\n"
	"{?challenges.status:cancelled}"
	"            WHEN c.{challenges.id} {challenges.id=} ANY ($5) THEN {challenges.status:cancelled}\n{/}"
	"            ELSE {challenges.status:failed} END\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2\n"
	"RETURNING c.{challenges.id},\n"
	"       c.{challenges.status} {challenges.status=} {challenges.status:completed},\n"
	"       c.{challenges.status} {challenges.status=} {challenges.status:failed},\n"
	"       false{?challenges.status:cancelled}"
	" OR c.{challenges.status} {challenges.status=} {challenges.status:cancelled}{/},\n"
	"       c.{challenges.end_date} OPERATOR(pg_catalog.>=) $4"
	"{?challenges.name},\n       c.{challenges.name}::pg_catalog.text{/}",
	SPI_OK_UPDATE_RETURNING};

/* Where the label "cancelled" is bound. $2: the statuses of members who count, or NULL. */
static const CjStatement find_memberless = {
	"find challenges without members",
	"SELECT c.{challenges.id}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND NOT EXISTS (SELECT FROM {challenge_members} m\n"
	"                    WHERE m.{challenge_members.challenge_id} {challenge_members.challenge_id=} "
	"c.{challenges.id}{challenges.id~}"
	"{?challenge_members.status}\n"
	"                      AND ($2 IS NULL OR m.{challenge_members.status} {challenge_members.status=} ANY ($2)){/})",
	SPI_OK_SELECT};

/* describe_due and describe_evaluated name a challenge of the chunk or batch at hand. */
static char *
describe_due(CjRun *run, int item, void *arg)
{
	return psprintf("challenge %s", cj_key_list_describe(((CjAutoComplete *) arg)->due, item));
}

static char *
describe_evaluated(CjRun *run, int item, void *arg)
{
	return psprintf("challenge %s",
					cj_key_list_describe(((CjAutoComplete *) arg)->evaluated, item));
}

/* claim_keys locks what is still to be done of a list of keys, and counts what others have locked. */
static Datum
claim_keys(CjAutoComplete *state, const CjAutoCompleteScope *scope, Datum keys, int count)
{
	CjParams *params = CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
								 CJ_VALUE(scope->bound_type, scope->bound, false));
	CjRows rows;
	Datum claimed;

	if (!cj_app_sql_can_lock_rows())
		return keys;

	rows = cj_auto_complete_run_sql(scope, &claim, params);
	claimed = cj_sql_column(&rows, 1, state->key_type);
	cj_sql_free(&rows);
	if (rows.processed < count)
	{
		cj_sql_param_array(params, state->key_type, claimed);
		rows = cj_auto_complete_run_sql(scope, &count_unclaimed, params);
		state->locked = cj_sql_int64(&rows, 0, 1);
		cj_sql_free(&rows);
	}
	return claimed;
}

/* cancel_memberless changes the outcome of challenges without members, where the app has a status of its own for them. */
static void
cancel_memberless(const CjAutoComplete *state, const CjAutoCompleteScope *scope, Datum keys,
				  CjDecision *decisions, int count)
{
	CjRows rows;

	if (scope->binding->entities[CJ_CHALLENGES].labels[CJ_CHALLENGES_CANCELLED] == NULL)
		return;
	rows =
		cj_auto_complete_run_sql(scope, &find_memberless,
								 CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
										   cj_auto_complete_statuses(scope, "count_member_statuses",
																	 state->counted_statuses)));
	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjDecision *decision = cj_decisions_find(decisions, count, cj_sql_text(&rows, row, 1));

		if (decision->label == CJ_CHALLENGES_FAILED)
			decision->label = CJ_CHALLENGES_CANCELLED;
	}
	cj_sql_free(&rows);
}

/* count_outcome counts a decision. */
static void
count_outcome(CjAutoComplete *state, const CjDecision *decision)
{
	bool is_completed = decision->label == CJ_CHALLENGES_COMPLETED;

	state->figures[is_completed ? CJ_AUTO_COMPLETE_COMPLETED : CJ_AUTO_COMPLETE_FAILED]++;
	state->cancelled_now += decision->label == CJ_CHALLENGES_CANCELLED;
}

/* update_claimed carries the outcomes out on a list of claimed keys, and notes in the decisions what was decided. */
static void
update_claimed(CjAutoComplete *state, const CjAutoCompleteScope *scope, Datum claimed,
			   CjDecision *decisions, int count)
{
	bool has_name = scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_NAME].present;
	Oid type = state->key_type;
	CjRows rows = cj_auto_complete_run_sql(
		scope, &decide,
		CJ_PARAMS(
			CJ_ARRAY(type, claimed), CJ_VALUE(scope->bound_type, scope->bound, false),
			CJ_ARRAY(type, cj_decisions_keys(decisions, count, CJ_CHALLENGES_COMPLETED, type)),
			CJ_VALUE(scope->bound_type, scope->notify_bound, false),
			CJ_ARRAY(type, cj_decisions_keys(decisions, count, CJ_CHALLENGES_CANCELLED, type))));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjDecision *decision = cj_decisions_find(decisions, count, cj_sql_text(&rows, row, 1));

		decision->is_decided = cj_sql_bool(&rows, row, 1 + decision->label);
		decision->is_recent = cj_sql_bool(&rows, row, 5);
		decision->name = has_name ? cj_sql_text(&rows, row, 6) : NULL;
		if (decision->is_decided)
			count_outcome(state, decision);
	}
	cj_sql_free(&rows);
}

/* carry_out carries the outcomes of a range of the batch out, in a subtransaction. */
static void
carry_out(CjRun *run, int from, int to, bool *opened, void *arg)
{
	CjAutoComplete *state = arg;
	int count = to - from;
	Datum keys = cj_key_list_keys(state->evaluated, from, to);
	CjDecision *decisions = cj_decisions_list(state->evaluated, from, to);
	CjAutoCompleteScope scope;
	CjRows own_rates;

	memset(state->figures, 0, sizeof(state->figures));
	state->cancelled_now = 0;
	state->locked = 0;
	own_rates = cj_auto_complete_own_rates(run, state, keys);
	cj_auto_complete_open(run, state, &scope, false);
	*opened = true;

	cancel_memberless(state, &scope, keys, decisions, count);
	if (run->is_preview)
		cj_auto_complete_put_preview(run, state, &scope, keys, decisions, count);
	else if (run->dry_run)
	{
		for (int i = 0; i < count; i++)
			count_outcome(state, &decisions[i]);
		if (state->notify)
			cj_auto_complete_count_notices(state, &scope, keys);
	}
	else
	{
		update_claimed(state, &scope, claim_keys(state, &scope, keys, count), decisions, count);
		if (state->notify)
			cj_auto_complete_notify(run, state, &scope, decisions, count, &own_rates);
	}
	cj_auto_complete_close(&scope);
	if (!run->dry_run)
		cj_decisions_write(cj_run_id(run), decisions, count);
}

static void
carried_out(CjRun *run, int from, int to, void *arg)
{
	CjAutoComplete *state = arg;

	for (int i = 0; figures[i]; i++)
		run->figures[i] += state->figures[i];
	run->rows_affected += state->figures[CJ_AUTO_COMPLETE_COMPLETED] +
						  state->figures[CJ_AUTO_COMPLETE_FAILED] +
						  state->figures[CJ_AUTO_COMPLETE_NOTIFIED];
	run->locked += state->locked;
	state->cancelled += state->cancelled_now;
}

/* process works through a list of challenges in batches. */
static void
process(CjRun *run, CjKeyList *list, int size, CjBatch *batch)
{
	while (cj_key_list_read(list, size))
	{
		batch->count = list->count;
		cj_batch_process(run, batch);
	}
}

/*
 * find_notify_since finds of which challenges members are notified: those that ended within notify_within, and those that
 * became due since the last run, however long ago that was; of what was taken back as if it had never been decided. The work
 * of an attempt.
 */
static void
find_notify_since(CjRun *run, void *arg)
{
	CjAutoComplete *state = arg;
	int64 within = cj_settings_microseconds(run->config->settings, "notify_within");
	CjRows rows = cj_sql_run_own(&find_last_runs, CJ_PARAMS(CJ_TEXT(run->job->definition.name)));
	TimestampTz last_run = cj_sql_moment(&rows, 0, 1);
	TimestampTz undone_run = cj_sql_moment(&rows, 0, 2);

	cj_sql_free(&rows);
	if (TIMESTAMP_IS_NOBEGIN(undone_run))
		undone_run = run->as_of;
	state->notify_since = within < 0 ? DT_NOBEGIN : Min(run->as_of, undone_run) - within;
	if (!TIMESTAMP_IS_NOBEGIN(last_run))
		state->notify_since = Min(state->notify_since, last_run - state->settle_after);
}

static void
run_job(CjRun *run)
{
	Jsonb *settings = run->config->settings;
	CjAutoComplete *state = MemoryContextAllocZero(run->memory, sizeof(CjAutoComplete));
	CjBatch chunk = {0, cj_auto_complete_evaluate, NULL, describe_due, state};
	CjBatch batch = {0, carry_out, carried_out, describe_evaluated, state};
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	cj_auto_complete_load(state, run->config);
	MemoryContextSwitchTo(caller);

	PG_TRY();
	{
		cj_batch_step(run, find_notify_since, state);
		cj_batch_step(run, cj_auto_complete_prepare, state);
		cj_run_begin_phase(run, "evaluating", state->due_count);
		process(run, state->due, CJ_AUTO_COMPLETE_CHUNK, &chunk);
		cj_auto_complete_report_rates(run, state);
		if (state->due_count > 0 && !cj_settings_bool(settings, "decide_without_statistics"))
			cj_batch_step(run, cj_auto_complete_statistics_check, state);
		cj_run_begin_phase(run, "deciding", state->due_count);
		process(run, state->evaluated, cj_settings_int(settings, "batch_size"), &batch);
		if (state->cancelled > 0)
			cj_json_int64(run->more_result, "cancelled", state->cancelled);
		if (state->averages)
			cj_json_text(run->more_result, "averages", state->averages);
		cj_notifications_report(&state->insert, run->more_result);
	}
	PG_FINALLY();
	{
		cj_key_list_free(state->due);
		cj_key_list_free(state->evaluated);
	}
	PG_END_TRY();
}

static void
examine(const CjJobConfig *config, CjBinding *binding, CjFindings *findings)
{
	cj_auto_complete_statistics_examine(cj_job_auto_complete_challenges.definition.name, findings);
	cj_auto_complete_examine_rates(config, binding, findings);
	cj_auto_complete_examine_schedule(config, binding, findings);
	cj_auto_complete_examine_old(config, binding, findings);
}

const CjJob cj_job_auto_complete_challenges = {
	{
		.name = "auto_complete_challenges",
		.description =
			"decides every active challenge whose end date has passed and notifies its members",
		.number = 1,
		.schedule = "0 0 * * *",
		.max_runtime = "1 hour",
		.retry_delay = "1 minute",
		.grace = "15 minutes",
		.max_retries = 3,
		.catch_up = "once",
		.settings = settings,
	},
	.figures = figures,
	.usage = cj_auto_complete_usage,
	.run = run_job,
	.indexes = indexes,
	.examine = examine,
};
