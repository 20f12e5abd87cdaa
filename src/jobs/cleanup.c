/*
 * jobs/cleanup.c
 *		The job cleanup_expired_notifications: remove old notifications, and the extension's own old
 *		history.
 *
 * The history first: it is little, and is not to wait for the app's tables. Then table by table (the
 * bound one, or each of its partitions), in turns:
 *
 *	read	on in the table, until a batch of addresses has been found
 *	delete	what they name, if it is still expired and nobody has it locked
 *
 * or, where much is expired,
 *
 *	delete	what is expired in a range of blocks
 *
 * each in a transaction of its own under run(). A table that cannot be read keeps none of the others
 * waiting, and neither does a row that cannot be deleted.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/json.h"
#include "base/sql.h"
#include "config/pg_cron.h"
#include "jobs/cleanup_history.h"
#include "jobs/cleanup_ranges.h"
#include "jobs/cleanup_rows.h"
#include "run/batch.h"
#include "run/findings.h"
#include "run/job.h"

/* A hundred years, and days that are long enough. */
#define MAX_RETENTION (36525.0 * SECS_PER_DAY)

/* How long the ledger of reminders is kept: whoever was reminded then is not reminded for it again. */
#define REMINDER_DAYS 7

static const char *const never[] = {"never", NULL};
static const char *const unread_words[] = {"never", "none", NULL};

/* Described one by one in doc/reference.md. */
static const CjSetting settings[] = {
	{"notification_retention", CJ_SETTING_INTERVAL, "\"30 days\"", 0, MAX_RETENTION, NULL},
	{"retention_by_type", CJ_SETTING_INTERVALS, "{}", 0, MAX_RETENTION, never},
	{"unread_retention", CJ_SETTING_INTERVAL, "\"none\"", 0, MAX_RETENTION, unread_words},
	{"run_retention", CJ_SETTING_INTERVAL, "\"90 days\"", 0, MAX_RETENTION, NULL},
	{"failed_run_retention", CJ_SETTING_INTERVAL, "\"1 year\"", 0, MAX_RETENTION, NULL},
	{"max_runs_per_job", CJ_SETTING_INTEGER, "10000", 0, 10000000, NULL},
	{"prune_cron_history", CJ_SETTING_BOOLEAN, "false", 0, 0, NULL},
	{"batch_size", CJ_SETTING_INTEGER, "2500", 1, 50000, NULL},
	{NULL}};

enum
{
	NOTIFICATIONS,
	JOB_RUNS
};

static const char *const figures[] = {"notifications", "job_runs", NULL};

static const CjIndexAdvice indexes[] = {
	{CJ_NOTIFICATIONS, -1, CJ_NOTIFICATIONS_CREATED_AT, false,
	 "the job reads the whole table, also when nothing is expired", true, true},
	{CJ_NOTIFICATIONS, -1, CJ_NOTIFICATIONS_EXPIRES_AT, false,
	 "the job reads the whole table, also when nothing is expired", true, true},
	{0},
};

static const CjStatement find_of_cleanup = CJ_CALL_ROWS("find_of_cleanup($1, $2, $3)");

static const CjStatement find_unindexed = CJ_CALL_ROWS("find_unindexed($1, $2, $3, $4)");

/* ---- the state of a run ---- */

typedef struct State
{
	int batch_size;
	CjExpiry expiry;
	List *tables;
	int ways[CJ_WAY_COUNT]; /* how many tables were read in which way */
	CjKeyList *found;

	/* the table at hand */
	CjExpiredTable *table;
	CjExpiredRange range;
	bool worked; /* the last step on the table as a whole */

	/* what the range at hand has done */
	int64 deleted;
	int64 locked;

	/* found, but neither deleted nor locked: kept by triggers, or changed meanwhile */
	int64 kept;
} State;

/* unread_differs returns whether what is unread is kept longer. */
static bool
unread_differs(const CjJobConfig *config)
{
	return strcmp(cj_settings_text(config->settings, "unread_retention"), "none") != 0;
}

/* usage says what the job uses of the app's tables. */
static int
usage(const CjJobConfig *config, bool dry_run, CjUsage *items)
{
	uint32 required = CJ_BIT(CJ_NOTIFICATIONS_CREATED_AT);
	uint32 optional = CJ_BIT(CJ_NOTIFICATIONS_EXPIRES_AT);
	char **types;
	Interval **intervals;

	/* statements use a column that is there: only where a setting asks for it */
	if (cj_settings_intervals(config->settings, "retention_by_type", &types, &intervals) > 0)
		required |= CJ_BIT(CJ_NOTIFICATIONS_TYPE);
	if (unread_differs(config))
		optional |= CJ_BIT(CJ_NOTIFICATIONS_IS_READ) | CJ_BIT(CJ_NOTIFICATIONS_READ_AT);
	items[0] = (CjUsage){CJ_NOTIFICATIONS,
						 required | optional,
						 0,
						 dry_run ? AccessShareLock : RowExclusiveLock,
						 ACL_SELECT | ACL_UPDATE | ACL_DELETE, /* UPDATE: to lock rows */
						 required};
	return 1;
}

/* moment_before returns the moment that lies so long before as_of, in UTC; never one after it. NULL: never. */
static TimestampTz
moment_before(const CjRun *run, const Interval *interval)
{
	Datum moment;

	if (interval == NULL)
		return DT_NOBEGIN;
	moment = DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(run->as_of),
								 IntervalPGetDatum(interval));
	return Min(DatumGetTimestamp(moment), run->as_of);
}

static TimestampTz
before(const CjRun *run, const char *setting)
{
	return moment_before(run, cj_settings_interval(run->config->settings, setting));
}

/* set_expiry computes what is expired, in the run's memory. */
static void
set_expiry(const CjRun *run, CjExpiry *expiry)
{
	char **types;
	Interval **intervals;

	expiry->created_before = before(run, "notification_retention");
	expiry->expires_before = run->as_of;
	expiry->time_zone = cj_job_config_timestamp_time_zone();
	expiry->type_count =
		cj_settings_intervals(run->config->settings, "retention_by_type", &types, &intervals);
	expiry->types = palloc(sizeof(CjTypeExpiry) * expiry->type_count);
	for (int i = 0; i < expiry->type_count; i++)
		expiry->types[i] = (CjTypeExpiry){types[i], moment_before(run, intervals[i])};
	expiry->unread_differs = unread_differs(run->config);
	expiry->unread_before = before(run, "unread_retention");
}

/* ---- steps on a table as a whole; each is a batch of one item, the table ---- */

static char *
describe_table(CjRun *run, int item, void *arg)
{
	return pstrdup(((State *) arg)->table->name);
}

/* choose is the step that chooses how to read the table. */
static void
choose(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;

	*opened = true;
	cj_cleanup_rows_choose(run, &state->expiry, state->table);
	if (state->table->way == CJ_WAY_HEAP)
		cj_cleanup_ranges_prepare(run, &state->expiry, state->table->relid, state->table->blocks,
								  state->batch_size, &state->range);
}

/* read_on is the step that reads on in the table. */
static void
read_on(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;

	*opened = true;
	cj_cleanup_rows_read(run, &state->expiry, state->table, state->batch_size, state->found);
}

static void
delete_by_statement(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;

	*opened = true;
	state->locked = 0;
	state->deleted = cj_cleanup_rows_delete_all(run, &state->expiry, state->table);
}

static void
step_worked(CjRun *run, int from, int to, void *arg)
{
	((State *) arg)->worked = true;
}

/* do_step does a step on the table; false if it failed, which has been noted. */
static bool
do_step(CjRun *run, State *state, void (*work)(CjRun *, int, int, bool *, void *))
{
	CjBatch step = {1, work, step_worked, describe_table, state, true};

	state->worked = false;
	cj_batch_process(run, &step);
	return state->worked;
}

/* ---- batches of rows ---- */

/* describe_row names a row by its address. */
static char *
describe_row(CjRun *run, int item, void *arg)
{
	State *state = arg;

	return psprintf("row %s of %s", cj_key_list_describe(state->found, item), state->table->name);
}

/*
 * delete_range deletes a range of the batch, in a subtransaction. A part of the batch is tried when the
 * whole has failed, and has left its marks on the rows.
 */
static void
delete_range(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;

	if (to - from < state->found->count)
		cj_cleanup_rows_suspect(state->found, from, to);
	state->deleted = cj_cleanup_rows_delete(run, &state->expiry, state->table, state->found, from,
											to, opened, &state->locked);
}

static void
range_deleted(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	run->figures[NOTIFICATIONS] += state->deleted;
	run->rows_affected += state->deleted;
	run->locked += state->locked;
}

static void
listed_deleted(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	range_deleted(run, from, to, arg);
	state->kept += to - from - state->deleted - state->locked;
}

static void
delete_batch(CjRun *run, State *state)
{
	CjBatch batch = {0, delete_range, listed_deleted, describe_row, state};

	batch.count = cj_cleanup_rows_take(state->table, state->found, state->batch_size);
	cj_batch_process(run, &batch);
	cj_cleanup_ranges_batch_deleted(&state->range);
}

/* ---- ranges of blocks ---- */

/* delete_in_range is the step that deletes what is expired in the next range of blocks. */
static void
delete_in_range(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;

	*opened = true;
	state->locked = 0;
	cj_cleanup_ranges_delete(run, &state->expiry, &state->table->position, state->found,
							 &state->range);
	state->deleted = state->range.deleted;
}

static void
in_range_deleted(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	range_deleted(run, from, to, arg);
	cj_cleanup_rows_passed(state->table, state->range.end);
}

/* clean_range cleans the next range of blocks, if that is to be tried now; false if nothing was done. */
static bool
clean_range(CjRun *run, State *state)
{
	CjBatch step = {1, delete_in_range, in_range_deleted, describe_table, state};
	bool worked;

	if (!cj_cleanup_ranges_is_due(&state->range))
		return false;
	worked = cj_batch_try(run, &step);
	cj_cleanup_ranges_tried(&state->range, worked);
	return worked;
}

/* ---- the run ---- */

/* clean_by_address goes through a table, deleting batch by batch what it finds. */
static void
clean_by_address(CjRun *run, State *state)
{
	while (!state->table->at_end)
	{
		int64 enough = state->batch_size;

		CHECK_FOR_INTERRUPTS();
		if (!clean_range(run, state) && !do_step(run, state, read_on))
			return;
		/* what is less than a batch waits for more, to the end of the table or the page of an index */
		if (state->table->at_end || state->table->way == CJ_WAY_INDEX)
			enough = 1;
		while (cj_key_list_unread(state->found) >= enough)
			delete_batch(run, state);
	}
}

static void
clean_table(CjRun *run, State *state)
{
	cj_key_list_clear(state->found);
	state->range = (CjExpiredRange){0};
	if (!do_step(run, state, choose))
		return;
	state->ways[state->table->way]++;
	switch (state->table->way)
	{
		case CJ_WAY_STATEMENT:
			if (do_step(run, state, delete_by_statement))
				range_deleted(run, 0, 1, state);
			break;
		case CJ_WAY_HEAP:
		case CJ_WAY_INDEX:
			clean_by_address(run, state);
			break;
		default:
			break;
	}
}

/* list_tables lists the tables; the work of an attempt. */
static void
list_tables(CjRun *run, void *arg)
{
	State *state = arg;

	state->tables = cj_cleanup_rows_tables(run);
}

/* count_only counts what is expired; the work of an attempt. */
static void
count_only(CjRun *run, void *arg)
{
	State *state = arg;

	state->deleted = cj_cleanup_rows_count(run, &state->expiry);
}

/* note_ways adds to the result how the tables were read, and how many rows were kept by triggers. */
static void
note_ways(CjRun *run, const State *state)
{
	StringInfo json = run->more_result;

	cj_json_begin(json, "tables", '{');
	cj_json_int64(json, "none_expired", state->ways[CJ_WAY_NONE]);
	cj_json_int64(json, "by_heap", state->ways[CJ_WAY_HEAP]);
	cj_json_int64(json, "by_index", state->ways[CJ_WAY_INDEX]);
	cj_json_int64(json, "by_statement", state->ways[CJ_WAY_STATEMENT]);
	cj_json_end(json, '}');
	cj_json_int64(json, "kept", state->kept);
}

/* clean_history removes or counts the extension's own history. */
static void
clean_history(CjRun *run, const State *state)
{
	CjHistoryLimits limits = {
		.runs_before = before(run, "run_retention"),
		.failed_runs_before = before(run, "failed_run_retention"),
		.max_runs = cj_settings_int(run->config->settings, "max_runs_per_job"),
		.reminders_before = run->as_of - REMINDER_DAYS * USECS_PER_DAY,
		.prune_cron = cj_settings_bool(run->config->settings, "prune_cron_history"),
		.batch_size = state->batch_size,
	};

	run->figures[JOB_RUNS] = cj_cleanup_history_clean(run, &limits);
}

/* clean_notifications removes the expired notifications of all tables. */
static void
clean_notifications(CjRun *run, State *state)
{
	ListCell *cell;

	cj_batch_step(run, list_tables, state);
	state->found = cj_cleanup_rows_list(run->memory);
	PG_TRY();
	{
		foreach(cell, state->tables)
		{
			state->table = lfirst(cell);
			clean_table(run, state);
		}
	}
	PG_FINALLY();
	{
		cj_key_list_free(state->found);
	}
	PG_END_TRY();
	note_ways(run, state);
}

/* run_job removes all that is past its time. */
static void
run_job(CjRun *run)
{
	State *state = MemoryContextAllocZero(run->memory, sizeof(State));
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	state->batch_size = cj_settings_int(run->config->settings, "batch_size");
	set_expiry(run, &state->expiry);
	MemoryContextSwitchTo(caller);

	cj_run_begin_phase(run, "cleaning own history", 0);
	clean_history(run, state);
	cj_run_begin_phase(run, "deleting notifications", 0);
	if (!run->dry_run)
	{
		clean_notifications(run, state);
		return;
	}
	cj_batch_step(run, count_only, state);
	run->figures[NOTIFICATIONS] = run->rows_affected = state->deleted;
}

/* require_index reports that an index is missing, without which what is kept is read each night. */
static void
require_index(const CjBoundEntity *entity, bool by_type, const char *read, CjFindings *findings)
{
	Datum columns[] = {Int16GetDatum(entity->columns[CJ_NOTIFICATIONS_TYPE].number),
					   Int16GetDatum(entity->columns[CJ_NOTIFICATIONS_CREATED_AT].number)};
	Datum array = cj_sql_array(columns + !by_type, by_type ? 2 : 1, INT2OID);

	cj_findings_add_found(findings, &find_unindexed,
						  CJ_PARAMS(CJ_OID(entity->relid), CJ_TEXT(entity->relation),
									CJ_ARRAY(INT2OID, array), CJ_TEXT(read)));
}

/* examine_retention reports what the settings that keep some notifications longer lack. */
static void
examine_retention(const CjJobConfig *config, const CjBinding *binding, CjFindings *findings)
{
	const CjBoundEntity *entity = &binding->entities[CJ_NOTIFICATIONS];
	const CjBoundColumn *is_read = &entity->columns[CJ_NOTIFICATIONS_IS_READ];
	bool by_type = entity->columns[CJ_NOTIFICATIONS_TYPE].present;

	if (by_type)
		require_index(entity, true, NULL, findings);
	if (!unread_differs(config))
		return;
	cj_cleanup_scope_check_read(binding);
	require_index(entity, by_type,
				  is_read->present
					  ? quote_identifier(is_read->name)
					  : psprintf("(%s IS NOT NULL)",
								 quote_identifier(entity->columns[CJ_NOTIFICATIONS_READ_AT].name)),
				  findings);
}

static void
examine(const CjJobConfig *config, CjBinding *binding, CjFindings *findings)
{
	const CjBoundEntity *table = &binding->entities[CJ_NOTIFICATIONS];
	const char *problem;
	const char *hint;

	examine_retention(config, binding, findings);
	cj_findings_add_found(findings, &find_of_cleanup,
						  CJ_PARAMS(CJ_OID(table->relid), CJ_OID(binding->owner),
									CJ_TEXT(table->relation)));
	if (!cj_settings_bool(config->settings, "prune_cron_history"))
		return;
	problem = cj_pg_cron_prune_problem(&hint);
	if (problem)
		cj_findings_add_hint(findings, "prune_cron_history", "warning", problem, hint);
	else
		cj_findings_add(findings, "prune_cron_history", "ok",
						"pg_cron's records of our cron jobs can be removed", NULL);
}

const CjJob cj_job_cleanup_expired_notifications = {
	{
		.name = "cleanup_expired_notifications",
		.description =
			"removes notifications that are old or past their own expiry, and the extension's own old history",
		.number = 4,
		.schedule = "0 3 * * *",
		.max_runtime = "1 hour",
		.retry_delay = "5 minutes",
		.grace = "1 hour",
		.max_retries = 3,
		.catch_up = "once",
		.settings = settings,
	},
	.figures = figures,
	.usage = usage,
	.run = run_job,
	.indexes = indexes,
	.examine = examine,
};
