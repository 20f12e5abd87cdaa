/*
 * worker/watchdog.c
 *		Watches that the jobs run when they should.
 *
 * The rules are in due.c; here the facts are read and the outcomes are carried out. It runs nothing itself.
 *
 * Nothing is kept in memory from one tick to the next: a scheduled time that was covered, a run that was started
 * for it, an alert that was raised are rows. What is looked for in the log is found by an index, or
 * among the last rows of the job, so that the size of the log does not matter.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "base/job_lock.h"
#include "base/own_transaction.h"
#include "base/sql.h"
#include "jobs/job_list.h"
#include "worker/due.h"
#include "worker/watchdog.h"

/* What a row may hold that was written by hand is bounded: 10 years, in microseconds. */
#define MICROSECONDS(interval) \
	"(GREATEST(0, LEAST(315360000, EXTRACT(epoch FROM " interval "))) * 1000000)::pg_catalog.int8"

static const CjStatement load_jobs = {
	"load what is in force for all jobs",
	"SELECT j.job, j.enabled, j.engine, j.schedule, j.scheduled_at, j.catch_up = 'once',"
	"       j.max_retries::pg_catalog.int8, " MICROSECONDS("j.grace") ", " MICROSECONDS(
		"j.retry_delay") ", j.held, i.resumed_at,"
						 "       j.settings ->> 'refresh_after' IN ('tracked', 'all'),"
						 "       CASE j.settings ->> 'refresh_after' WHEN 'all' THEN true"
						 "            WHEN 'tracked' THEN EXISTS (SELECT FROM challenge_jobs.tracking) END"
						 "  FROM challenge_jobs.job j"
						 "  LEFT JOIN challenge_jobs.installation i ON true"
						 " ORDER BY j.job",
	SPI_OK_SELECT};

/*
 * $1 jobs, $2 their last scheduled times, $3 the last ones whose grace is over. Each fact is the first row of an
 * index, whatever the log holds. (EXISTS with >= would let the planner hope for a row that comes soon, and read the
 * whole log.)
 */
static const CjStatement load_history = {
	"load what the log says of the jobs",
	"SELECT (SELECT pg_catalog.max(s.as_of)"
	"          FROM challenge_jobs.job_run s"
	"         WHERE s.job = j.name AND " CJ_RUN_COVERS(
		"s") "),"
			 "       (SELECT s.run_id FROM challenge_jobs.job_run s"
			 "         WHERE s.job = j.name AND s.status = 'running'"
			 "         ORDER BY s.job LIMIT 1) IS NOT NULL,"
			 "       COALESCE((SELECT s.scheduled_for FROM challenge_jobs.job_run s"
			 "                  WHERE s.job = j.name AND s.scheduled_for IS NOT NULL"
			 "                  ORDER BY s.scheduled_for DESC LIMIT 1) >= j.last, false),"
			 "       COALESCE((SELECT s.scheduled_for FROM challenge_jobs.job_run s"
			 "                  WHERE s.job = j.name AND s.scheduled_for IS NOT NULL AND s.triggered_by = 'catch_up'"
			 "                  ORDER BY s.scheduled_for DESC LIMIT 1) >= j.expired, false),"
			 "       r.run_id, r.status, r.sqlstate, r.attempt::pg_catalog.int8,"
			 "       CASE WHEN pg_catalog.jsonb_typeof(r.result -> 'locked') = 'number'"
			 "            THEN (r.result ->> 'locked')::pg_catalog.numeric > 0"
			 "                 OR COALESCE(r.result ->> 'undecidable', '0') <> '0' END,"
			 "       r.as_of, r.scheduled_for, r.started_at, r.finished_at,"
			 "       r.triggered_by = '" CJ_AFTER_DECISIONS "', r.result ? 'after_run',"
			 "       d.run_id, d.finished_at,"
			 "       (SELECT CASE WHEN pg_catalog.jsonb_typeof(s.result -> 'after_run') = 'number'"
			 "                    THEN (s.result ->> 'after_run')::pg_catalog.int8 END"
			 "          FROM challenge_jobs.job_run s"
			 "         WHERE s.job = j.name AND NOT s.dry_run AND s.status <> 'rolled_back' AND s.result ? 'after_run'"
			 "         ORDER BY - s.run_id LIMIT 1)"
			 "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
			 "       WITH ORDINALITY AS j(name, last, expired, n)"
			 "  LEFT JOIN LATERAL (SELECT s.*"
			 "                       FROM challenge_jobs.job_run s"
			 "                      WHERE s.job = j.name AND NOT s.dry_run AND s.triggered_by <> 'function'"
			 "                      ORDER BY - s.run_id LIMIT 1) r ON true"
			 "  LEFT JOIN LATERAL (" CJ_LAST_DECIDING_RUN(
				 "s.run_id, s.finished_at") ") d ON j.name = '" CJ_FOLLOWING_JOB "'"
											" ORDER BY j.n",
	SPI_OK_SELECT};

/* All there is to know of a job at a moment. */
typedef struct Outlook
{
	const char *name;
	const char *engine;   /* or NULL */
	const char *schedule; /* as it stands in the configuration */
	CjDueJob job;
	CjDueTimes times;
	CjDueHistory history;
	CjDueOutcome outcome;
	bool is_waited_for; /* another job waits for it, */
	bool is_followed;   /* and is started after it has changed something */
	const char *waits_for;
} Outlook;

static const char *const action_names[] = {NULL, "worker", "retry", "catch_up", CJ_AFTER_DECISIONS};

/* ---- reading ---- */

static void
read_job(const CjRows *rows, uint64 row, Outlook *outlook)
{
	CjDueJob *job = &outlook->job;

	outlook->name = cj_sql_text(rows, row, 1);
	outlook->engine = cj_sql_text(rows, row, 3);
	outlook->schedule = cj_sql_text(rows, row, 4);
	job->enabled = cj_sql_bool(rows, row, 2);
	job->scheduled = outlook->engine != NULL;
	job->fired_by_worker = outlook->engine && strcmp(outlook->engine, "worker") == 0;
	job->valid = cj_cron_parse(outlook->schedule, &job->schedule) == NULL;
	job->scheduled_at = cj_sql_moment(rows, row, 5);
	job->catch_up = cj_sql_bool(rows, row, 6);
	job->max_retries = (int) cj_sql_int64(rows, row, 7);
	job->grace = cj_sql_int64(rows, row, 8);
	job->retry_delay = cj_sql_int64(rows, row, 9);
	job->held = cj_sql_text(rows, row, 10);
	job->resumed_at = cj_sql_moment(rows, row, 11);
	outlook->is_waited_for = cj_sql_bool(rows, row, 12);
	outlook->is_followed = cj_sql_bool(rows, row, 13);
	if (job->fired_by_worker)
		job->grace = Max(job->grace, cj_job_config_shortest_grace());
}

static void
read_history(const CjRows *rows, uint64 row, CjDueHistory *history)
{
	CjDueRun *run = &history->last;

	history->covered_until = cj_sql_moment(rows, row, 1);
	history->running = cj_sql_bool(rows, row, 2);
	history->tried = cj_sql_bool(rows, row, 3);
	history->caught_up = cj_sql_bool(rows, row, 4);
	history->salt = MyDatabaseId;
	run->run_id = cj_sql_int64(rows, row, 5);
	run->status = cj_sql_text(rows, row, 6);
	run->sqlstate = cj_sql_text(rows, row, 7);
	run->attempt = (int) cj_sql_int64(rows, row, 8);
	run->locked = cj_sql_bool(rows, row, 9);
	run->as_of = cj_sql_moment(rows, row, 10);
	run->scheduled_for = cj_sql_moment(rows, row, 11);
	if (TIMESTAMP_IS_NOBEGIN(run->scheduled_for))
		run->scheduled_for = 0; /* not known */
	run->started_at = cj_sql_moment(rows, row, 12);
	run->finished_at = cj_sql_moment(rows, row, 13);
	run->is_following = cj_sql_bool(rows, row, 14);
	run->has_seen = cj_sql_bool(rows, row, 15);
	history->followed = cj_sql_int64(rows, row, 16);
	history->followed_at = cj_sql_moment(rows, row, 17);
	history->seen = cj_sql_int64(rows, row, 18);
}

/* load_outlooks reads all jobs; the log is still to be asked. */
static Outlook *
load_outlooks(TimestampTz at, int *count)
{
	CjRows rows = cj_sql_run_own(&load_jobs, NULL);
	Outlook *outlooks = palloc0(sizeof(Outlook) * Max(rows.processed, 1));

	*count = (int) rows.processed;
	for (int i = 0; i < *count; i++)
	{
		read_job(&rows, i, &outlooks[i]);
		cj_due_times(&outlooks[i].job, at, &outlooks[i].times);
	}
	cj_sql_free(&rows);
	return outlooks;
}

static void
load_histories(Outlook *outlooks, int count)
{
	Datum *names = palloc(sizeof(Datum) * count);
	Datum *last = palloc(sizeof(Datum) * count);
	Datum *expired = palloc(sizeof(Datum) * count);
	CjRows rows;

	for (int i = 0; i < count; i++)
	{
		names[i] = CStringGetTextDatum(outlooks[i].name);
		last[i] = TimestampTzGetDatum(outlooks[i].times.last);
		expired[i] = TimestampTzGetDatum(outlooks[i].times.expired);
	}
	rows = cj_sql_run_own(
		&load_history,
		CJ_PARAMS(CJ_ARRAY(TEXTOID, cj_sql_array(names, count, TEXTOID)),
				  CJ_ARRAY(TIMESTAMPTZOID, cj_sql_array(last, count, TIMESTAMPTZOID)),
				  CJ_ARRAY(TIMESTAMPTZOID, cj_sql_array(expired, count, TIMESTAMPTZOID))));
	for (int i = 0; i < count; i++)
		read_history(&rows, i, &outlooks[i].history);
	cj_sql_free(&rows);
}

static Outlook *
find(Outlook *outlooks, int count, const char *name)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(outlooks[i].name, name) == 0)
			return &outlooks[i];
	}
	return NULL;
}

/* put_off has nothing started yet of a job that waits for another one. */
static void
put_off(Outlook *outlook, const Outlook *other, TimestampTz at)
{
	CjDueOutcome *outcome = &outlook->outcome;

	if (!other->is_waited_for || !cj_due_waits(&outlook->job, &outlook->times, &other->times,
											   &other->history, &other->outcome, at))
		return;
	outlook->waits_for = other->name;
	if (outcome->action == CJ_DUE_NOTHING || outcome->at > at)
		return;
	outcome->action = CJ_DUE_NOTHING;
	outcome->reason = psprintf("it waits for %s, which is due in the same minute", other->name);
}

static Outlook *
look(TimestampTz at, int *count)
{
	Outlook *outlooks = load_outlooks(at, count);
	Outlook *deciding = find(outlooks, *count, CJ_DECIDING_JOB);
	Outlook *following = find(outlooks, *count, CJ_FOLLOWING_JOB);

	load_histories(outlooks, *count);
	if (deciding && following && !deciding->is_followed)
		following->history.followed = 0;
	for (int i = 0; i < *count; i++)
		cj_due_decide(&outlooks[i].job, &outlooks[i].times, &outlooks[i].history, at,
					  &outlooks[i].outcome);
	if (deciding && following)
		put_off(following, deciding, at);
	return outlooks;
}

/* ---- acting ---- */

/* act carries out what has been decided for a job. */
static void
act(const Outlook *outlook, CjStartRun start_run)
{
	const CjDueOutcome *outcome = &outlook->outcome;

	if (outcome->overdue)
	{
		cj_own_transaction_begin();
		cj_alert_raise_overdue(outlook->name, outlook->times.expired);
		cj_own_transaction_commit();
	}
	if (outcome->action != CJ_DUE_NOTHING && outcome->at <= GetCurrentTimestamp())
	{
		CjRunTrigger trigger = {.triggered_by = action_names[outcome->action],
								.scheduled_for = outcome->scheduled_for,
								.attempt = outcome->attempt};

		(void) start_run(outlook->name, &trigger);
	}
}

/* try_to_act acts; returns the error, in the caller's memory context, if that fails. */
static ErrorData *
try_to_act(const Outlook *outlook, CjStartRun start_run)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *error = NULL;

	PG_TRY();
	{
		act(outlook, start_run);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return error;
}

void
cj_watchdog_check(CjStartRun start_run)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext memory =
		AllocSetContextCreate(caller, "challenge_jobs watchdog", ALLOCSET_DEFAULT_SIZES);
	ErrorData *first_error = NULL;
	Outlook *outlooks;
	int count;

	cj_own_transaction_begin();
	MemoryContextSwitchTo(memory);
	outlooks = look(GetCurrentTimestamp(), &count);
	cj_own_transaction_commit();
	MemoryContextSwitchTo(memory);
	for (int i = 0; i < count; i++)
	{
		ErrorData *error = try_to_act(&outlooks[i], start_run);

		CHECK_FOR_INTERRUPTS();
		if (first_error == NULL)
			first_error = error;
	}
	MemoryContextSwitchTo(caller);
	if (first_error)
		ReThrowError(first_error);
	MemoryContextDelete(memory);
}

/* ---- showing ---- */

/* put_timestamp sets a value of a row; a scheduled time that is not there is null. */
static void
put_timestamp(Datum *value, bool *isnull, TimestampTz moment)
{
	*isnull = TIMESTAMP_NOT_FINITE(moment) || moment == 0;
	*value = TimestampTzGetDatum(moment);
}

/*
 * is_alive returns whether somebody runs a job whose row says so: a row may have been left behind. On a standby nobody can
 * see who does.
 */
static bool
is_alive(const char *name)
{
	const CjJob *job = cj_job_list_find(name);
	CjJobLock lock;

	if (job == NULL || RecoveryInProgress())
		return true;
	lock = cj_job_lock_of(job->definition.number);
	return cj_job_lock_is_held(&lock);
}

void
cj_watchdog_report(TimestampTz at, Tuplestorestate *store, TupleDesc desc)
{
	int count;
	Outlook *outlooks = look(at, &count);

	for (int i = 0; i < count; i++)
	{
		const Outlook *outlook = &outlooks[i];
		const CjDueOutcome *outcome = &outlook->outcome;
		bool idle = outcome->action == CJ_DUE_NOTHING;
		Datum values[13] = {0};
		bool nulls[13] = {0};

		values[0] = CStringGetTextDatum(outlook->name);
		put_timestamp(&values[1], &nulls[1], outlook->times.next);
		put_timestamp(&values[2], &nulls[2], outlook->times.last);
		put_timestamp(&values[3], &nulls[3], outlook->history.covered_until);
		values[4] = BoolGetDatum(outcome->overdue);
		put_timestamp(&values[5], &nulls[5],
					  outcome->overdue ? outlook->times.expired : DT_NOBEGIN);
		nulls[6] = nulls[7] = nulls[8] = nulls[9] = idle;
		if (!idle)
		{
			values[6] = CStringGetTextDatum(action_names[outcome->action]);
			put_timestamp(&values[7], &nulls[7], outcome->at);
			put_timestamp(&values[8], &nulls[8], outcome->scheduled_for);
			values[9] = Int32GetDatum(outcome->attempt);
		}
		nulls[10] = outcome->reason == NULL;
		values[10] = nulls[10] ? (Datum) 0 : CStringGetTextDatum(outcome->reason);
		values[11] = BoolGetDatum(outlook->history.running && is_alive(outlook->name));
		nulls[12] = outlook->waits_for == NULL;
		values[12] = nulls[12] ? (Datum) 0 : CStringGetTextDatum(outlook->waits_for);
		tuplestore_putvalues(store, desc, values, nulls);
	}
}
