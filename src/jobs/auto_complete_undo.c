/*
 * jobs/auto_complete_undo.c
 *		challenge_jobs.undo_decisions: one wrong night is taken back.
 *
 * Batch by batch: what is still as decided becomes active again, its unread notifications are removed, and so are the
 * decisions. A notification is found by the run and the challenge that stand in its data as text, whatever the type of the
 * column; what the app has changed there is not ours any more. Only the newest decision of a challenge is taken back.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "app/app_sql.h"
#include "base/identity.h"
#include "base/json.h"
#include "base/local_time.h"
#include "jobs/auto_complete_undo.h"
#include "jobs/key_list.h"
#include "run/batch.h"

/* How far from the moment of the decision the app's created_at may be, which is why it is only used to narrow the search. */
#define CREATED_WITHIN USECS_PER_DAY

#define BATCH_SIZE 1000

enum
{
	UNDONE,
	KEPT,
	REMOVED
};

static const char *const figures[] = {"undone", "kept", "notifications_removed", NULL};

static const CjStatement summarize = {
	"count the decisions of a run",
	"SELECT pg_catalog.count(*), pg_catalog.min(d.decided_at), pg_catalog.max(d.decided_at)"
	"  FROM challenge_jobs.decision d"
	" WHERE d.run_id = $1",
	SPI_OK_SELECT};

static const CjStatement find_newest = {
	"find the decisions to take back",
	"SELECT d.challenge_key, d.outcome"
	"  FROM challenge_jobs.decision d"
	" WHERE d.run_id = $1"
	"   AND NOT EXISTS (SELECT"
	"                     FROM challenge_jobs.decision n"
	"                    WHERE n.challenge_key = d.challenge_key AND n.run_id > d.run_id)"
	" ORDER BY d.challenge_key",
	SPI_OK_SELECT};

static const CjStatement delete_decisions = {"delete decisions that were taken back",
											 "DELETE FROM challenge_jobs.decision d"
											 " WHERE d.run_id = $1"
											 "   AND d.challenge_key = ANY ($2)",
											 SPI_OK_DELETE};

/* $1: keys, $2: the status that was decided. A trigger of the app may have given a row another status than ours. */
static const CjStatement reactivate = {
	"set challenges back to active",
	"UPDATE {challenges} AS c\n"
	"   SET {challenges.status} = {challenges.status:active}\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND c.{challenges.status} {challenges.status=} $2\n"
	"RETURNING c.{challenges.id}, pg_catalog.to_jsonb(c.{challenges.id})::pg_catalog.text,\n"
	"       c.{challenges.status} {challenges.status=} {challenges.status:active}",
	SPI_OK_UPDATE_RETURNING};

/*
 * $1: the run, $2: challenges, as in JSON, $3, $4: where the two stand in the data, $5, $6: between what they were
 * created.
 */
static const CjStatement remove_unread = {
	"remove unread notifications",
	"DELETE FROM {notifications} AS n\n"
	" WHERE pg_catalog.substring(n.{notifications.data}::pg_catalog.text, $3) OPERATOR(pg_catalog.=) $1\n"
	"   AND pg_catalog.substring(n.{notifications.data}::pg_catalog.text, $4) OPERATOR(pg_catalog.=) ANY ($2)"
	"{?notifications.type}\n   AND n.{notifications.type} {notifications.type=} "
	"{notifications.type:challenge_completed}{/}"
	"{?notifications.created_at}\n   AND n.{notifications.created_at} OPERATOR(pg_catalog.>=) $5\n"
	"   AND n.{notifications.created_at} OPERATOR(pg_catalog.<=) $6{/}"
	"{?notifications.is_read}\n   AND n.{notifications.is_read} IS NOT TRUE{/}"
	"{?notifications.read_at}\n   AND n.{notifications.read_at} IS NULL{/}",
	SPI_OK_DELETE};

#define RUN_IN_DATA       "\"run_id\": *([0-9]+)"
#define CHALLENGE_IN_DATA "\"challenge_id\": *(\"(?:[^\"\\\\]|\\\\.)*\"|[^],} ]+)"

typedef struct State
{
	bool notifies;
	char *time_zone;        /* of timestamps */
	const char *stay_since; /* why notifications are not removed, or NULL */
	TimestampTz first;
	TimestampTz last;
	CjKeyList *decisions; /* keys as text, and outcomes */

	/* what the range at hand has done */
	int64 figures[lengthof(figures)];
} State;

static int
usage(const CjJobConfig *config, bool dry_run, CjUsage *items)
{
	int count = 0;

	items[count++] =
		(CjUsage){CJ_CHALLENGES, CJ_BIT(CJ_CHALLENGES_ID) | CJ_BIT(CJ_CHALLENGES_STATUS),
				  CJ_BIT(CJ_CHALLENGES_ACTIVE) | CJ_BIT(CJ_CHALLENGES_COMPLETED) |
					  CJ_BIT(CJ_CHALLENGES_FAILED) | CJ_BIT(CJ_CHALLENGES_CANCELLED),
				  RowExclusiveLock, ACL_SELECT | ACL_UPDATE};
	if (cj_settings_bool(config->settings, "notify"))
		items[count++] =
			(CjUsage){CJ_NOTIFICATIONS,
					  CJ_BIT(CJ_NOTIFICATIONS_USER_ID) | CJ_BIT(CJ_NOTIFICATIONS_TYPE) |
						  CJ_BIT(CJ_NOTIFICATIONS_DATA) | CJ_BIT(CJ_NOTIFICATIONS_CREATED_AT) |
						  CJ_BIT(CJ_NOTIFICATIONS_IS_READ) | CJ_BIT(CJ_NOTIFICATIONS_READ_AT),
					  CJ_BIT(CJ_NOTIFICATIONS_CHALLENGE_COMPLETED), RowExclusiveLock,
					  ACL_SELECT | ACL_DELETE};
	return count;
}

/* why_stay returns why notifications cannot be removed, or NULL. */
static const char *
why_stay(const State *state, const CjBinding *binding)
{
	const CjBoundColumn *columns = binding->entities[CJ_NOTIFICATIONS].columns;

	if (!state->notifies)
		return "setting \"notify\" is off";
	if (!columns[CJ_NOTIFICATIONS_DATA].present)
		return "entity \"notifications\" has no column \"data\" to find them by";
	if (!columns[CJ_NOTIFICATIONS_IS_READ].present && !columns[CJ_NOTIFICATIONS_READ_AT].present)
		return "entity \"notifications\" has no column \"is_read\" or \"read_at\" that says which are unread";
	return NULL;
}

/* from_text makes a value of a type of the app; as the owner of the tables. */
static Datum
from_text(char *text, Oid type)
{
	Oid input;
	Oid param;

	getTypeInputInfo(type, &input, &param);
	return OidInputFunctionCall(input, text, param, -1);
}

/* What a range has taken back: keys as text, and as in JSON. */
typedef struct Undone
{
	int count;
	Datum *keys;
	Datum *json_keys;
} Undone;

/* undo_outcome sets back those challenges of a range that were decided this way. */
static void
undo_outcome(const State *state, const CjBinding *binding, int label, int from, int to,
			 Undone *undone)
{
	const CjBoundEntity *challenges = &binding->entities[CJ_CHALLENGES];
	const char *outcome = cj_entity_definitions[CJ_CHALLENGES].labels[label].name;
	Oid key_type = challenges->columns[CJ_CHALLENGES_ID].base_type;
	Oid status_type = challenges->columns[CJ_CHALLENGES_STATUS].base_type;
	Datum *keys = palloc(sizeof(Datum) * (to - from));
	int count = 0;
	CjRows rows;

	for (int i = from; i < to; i++)
	{
		if (strcmp(TextDatumGetCString(state->decisions->values[0][i]), outcome) == 0)
			keys[count++] = from_text(TextDatumGetCString(state->decisions->keys[i]), key_type);
	}
	if (count == 0 || challenges->labels[label] == NULL)
		return;
	rows = cj_app_sql_run(
		&reactivate, binding, NULL,
		CJ_PARAMS(CJ_ARRAY(key_type, cj_sql_array(keys, count, key_type)),
				  CJ_VALUE(status_type, from_text(challenges->labels[label], status_type), false)));
	for (uint64 row = 0; row < rows.processed && undone->count < to - from; row++)
	{
		if (!cj_sql_bool(&rows, row, 3))
			continue;
		undone->keys[undone->count] = CStringGetTextDatum(cj_sql_text(&rows, row, 1));
		undone->json_keys[undone->count++] = CStringGetTextDatum(cj_sql_text(&rows, row, 2));
	}
	cj_sql_free(&rows);
}

/* created_bound returns a moment as created_at has it. */
static CjValue
created_bound(const State *state, const CjBinding *binding, TimestampTz moment)
{
	Oid type = binding->entities[CJ_NOTIFICATIONS].columns[CJ_NOTIFICATIONS_CREATED_AT].base_type;

	if (type != TIMESTAMPOID)
		return CJ_MOMENT(moment);
	return CJ_VALUE(type,
					TimestampGetDatum(
						cj_local_time_bound(moment, cj_local_time_zone(state->time_zone))),
					false);
}

/* undo takes back a range of decisions, in a subtransaction. */
static void
undo(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;
	CjUsage items[CJ_ENTITY_COUNT];
	CjBinding *binding = cj_binding_resolve(items, usage(run->config, false, items));
	Undone undone = {0, palloc(sizeof(Datum) * (to - from)), palloc(sizeof(Datum) * (to - from))};
	CjIdentity identity;

	memset(state->figures, 0, sizeof(state->figures));
	state->stay_since = why_stay(state, binding);
	cj_app_sql_set_all_constraints_immediate();
	cj_identity_become_owner(&identity, binding->owner, binding->search_path, state->time_zone);
	*opened = true;
	for (int label = CJ_CHALLENGES_COMPLETED; label <= CJ_CHALLENGES_CANCELLED; label++)
		undo_outcome(state, binding, label, from, to, &undone);
	if (undone.count > 0 && state->stay_since == NULL)
	{
		CjRows rows =
			cj_app_sql_run(&remove_unread, binding, NULL,
						   CJ_PARAMS(CJ_TEXT(psprintf(INT64_FORMAT, run->undoes)),
									 CJ_ARRAY(TEXTOID, cj_sql_array(undone.json_keys, undone.count,
																	TEXTOID)),
									 CJ_TEXT(RUN_IN_DATA), CJ_TEXT(CHALLENGE_IN_DATA),
									 created_bound(state, binding, state->first - CREATED_WITHIN),
									 created_bound(state, binding, state->last + CREATED_WITHIN)));

		state->figures[REMOVED] = rows.processed;
	}
	cj_identity_restore(&identity);
	cj_sql_execute_own(&delete_decisions,
					   CJ_PARAMS(CJ_INT8(run->undoes),
								 CJ_ARRAY(TEXTOID,
										  cj_sql_array(undone.keys, undone.count, TEXTOID))));
	state->figures[UNDONE] = undone.count;
	state->figures[KEPT] = to - from - undone.count;
}

static void
undone(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	for (int i = 0; figures[i]; i++)
		run->figures[i] += state->figures[i];
	run->rows_affected += state->figures[UNDONE] + state->figures[REMOVED];
}

static char *
describe(CjRun *run, int item, void *arg)
{
	return psprintf("challenge %s", cj_key_list_describe(((State *) arg)->decisions, item));
}

/* find_decisions lists what is to be taken back; the work of an attempt. */
static void
find_decisions(CjRun *run, void *arg)
{
	State *state = arg;
	CjParams *params = CJ_PARAMS(CJ_INT8(run->undoes));
	CjRows rows = cj_sql_run_own(&summarize, params);
	CjIdentity identity;
	bool isnull;

	run->figures[KEPT] = cj_sql_int64(&rows, 0, 1);
	state->first = DatumGetTimestampTz(cj_sql_datum(&rows, 0, 2, &isnull));
	state->last = DatumGetTimestampTz(cj_sql_datum(&rows, 0, 3, &isnull));
	cj_identity_become_extension(&identity);
	run->figures[KEPT] -=
		cj_key_list_fill(state->decisions, &find_newest, find_newest.text, params);
	cj_identity_restore(&identity);
}

static void
report(CjRun *run, const State *state)
{
	cj_json_int64(run->more_result, "undone_run", run->undoes);
	if (state->stay_since)
		cj_json_text(run->more_result, "notifications_stay", state->stay_since);
	ereport(NOTICE,
			(errmsg("of run " INT64_FORMAT ", " INT64_FORMAT " decisions were taken back and " INT64_FORMAT
					" unread notifications removed",
					run->undoes, run->figures[UNDONE], run->figures[REMOVED]),
			 state->stay_since ? errdetail("Notifications stay: %s.", state->stay_since) : 0));
}

static void
run_undo(CjRun *run)
{
	State *state = MemoryContextAllocZero(run->memory, sizeof(State));
	CjBatch batch = {0, undo, undone, describe, state};
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	state->notifies = cj_settings_bool(run->config->settings, "notify");
	state->time_zone = cj_job_config_timestamp_time_zone();
	state->decisions = cj_key_list_create(run->memory, TEXTOID, 1, (Oid[]){TEXTOID});
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		cj_batch_step(run, find_decisions, state);
		while (cj_key_list_read(state->decisions, BATCH_SIZE))
		{
			batch.count = state->decisions->count;
			cj_batch_process(run, &batch);
		}
		report(run, state);
	}
	PG_FINALLY();
	{
		cj_key_list_free(state->decisions);
	}
	PG_END_TRY();
}

void
cj_auto_complete_undo_check(int64 run_id)
{
	if (cj_sql_int64_own(&summarize, CJ_PARAMS(CJ_INT8(run_id))) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no decisions of run " INT64_FORMAT, run_id),
				 errhint("Run: SELECT run_id, min(decided_at), count(*) FROM challenge_jobs.decision GROUP BY run_id ORDER BY run_id DESC;")));
}

const CjJob cj_job_undo_decisions = {
	{.name = "undo_decisions", .description = "takes back the decisions of a run"},
	.figures = figures,
	.usage = usage,
	.run = run_undo,
	.items = "challenges",
	.base = &cj_job_auto_complete_challenges,
};
