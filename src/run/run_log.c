/*
 * run/run_log.c
 *		The execution log: table challenge_jobs.job_run.
 *
 * A run changes its state in one place only, cj_run_log_finish, and only from "running". Whoever writes how a run
 * has ended raises the alert for it, in the same transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "base/sql.h"
#include "run/run_log.h"

static const char *const status_names[] = {"running",   "succeeded", "failed",     "skipped",
										   "cancelled", "crashed",   "rolled_back"};

static const CjStatement start_run = {
	"start a run",
	"INSERT INTO challenge_jobs.job_run"
	"       (job, triggered_by, scheduled_for, attempt, dry_run, as_of, started_at, role_name, pid,"
	"        status)"
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running')"
	"RETURNING run_id",
	SPI_OK_INSERT_RETURNING};

static const CjStatement finish_run = {
	"finish a run",
	"UPDATE challenge_jobs.job_run"
	"   SET status = $1, rows_affected = $2, result = $3,"
	"       sqlstate = $4, message = $5, detail = $6, hint = $7, context = $8,"
	"       finished_at = pg_catalog.clock_timestamp()"
	" WHERE run_id = $9"
	"   AND status = 'running'",
	SPI_OK_UPDATE};

#define NEXT_RUN_ID "pg_catalog.nextval('challenge_jobs.job_run_run_id_seq')"

static const CjStatement reserve_run_id = {"reserve a run_id", "SELECT " NEXT_RUN_ID,
										   SPI_OK_SELECT};

static const CjStatement record_run = {
	"record a run",
	"INSERT INTO challenge_jobs.job_run"
	"       (job, triggered_by, scheduled_for, attempt, dry_run, as_of, started_at, role_name, pid,"
	"        status, rows_affected, result, sqlstate, message, detail, hint, context, finished_at, run_id)"
	"OVERRIDING SYSTEM VALUE "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
	"        pg_catalog.clock_timestamp(), COALESCE($18, " NEXT_RUN_ID "))"
	"RETURNING run_id",
	SPI_OK_INSERT_RETURNING};

static const CjStatement write_unrecorded = {
	"record a run that left no row",
	"INSERT INTO challenge_jobs.job_run"
	"       (job, triggered_by, dry_run, as_of, started_at, role_name, pid, status, rows_affected, result,"
	"        sqlstate, message, detail, hint, context, finished_at)"
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::pg_catalog.jsonb, $11, $12, $13, $14, $15, $16)"
	"RETURNING run_id",
	SPI_OK_INSERT_RETURNING};

static const CjStatement last_running = {"find runs that are running",
										 "SELECT COALESCE(pg_catalog.max(r.run_id), 0)"
										 "  FROM challenge_jobs.job_run r"
										 " WHERE r.job = $1"
										 "   AND r.status = 'running'",
										 SPI_OK_SELECT};

static const CjStatement last_covering = {"find the last run that covers",
										  "SELECT pg_catalog.max(r.as_of)"
										  "  FROM challenge_jobs.job_run r"
										  " WHERE r.job = $1 AND " CJ_RUN_COVERS("r"),
										  SPI_OK_SELECT};

/* $1 the run, $2 the message, $3 the hint; the row is closed when its backend is gone */
static const CjStatement mark_terminated = {"mark a run that is being terminated",
											"UPDATE challenge_jobs.job_run"
											"   SET sqlstate = '57P01', message = $2, hint = $3"
											" WHERE run_id = $1"
											"   AND status = 'running'",
											SPI_OK_UPDATE};

static const CjStatement close_crashed = {
	"close crashed runs",
	"UPDATE challenge_jobs.job_run"
	"   SET status = CASE WHEN sqlstate = '57P01' THEN 'cancelled' ELSE 'crashed' END,"
	"       finished_at = pg_catalog.clock_timestamp(),"
	"       message = COALESCE(message, 'the backend ended without finishing the run')"
	" WHERE job = $1"
	"   AND run_id <= $2"
	"   AND status = 'running'"
	"RETURNING run_id",
	SPI_OK_UPDATE_RETURNING};

/* $1 to $7: the columns. Only the worker writes here: nobody waits for an open transaction of a caller. */
static const CjStatement record_refusal = {
	"record calls that were refused",
	"INSERT INTO challenge_jobs.refusal AS f"
	"       (job, role_name, sqlstate, message, calls, first_at, last_at)"
	"VALUES ($1, $2, $3, $4, $5, $6, $7)"
	"    ON CONFLICT (job, role_name, sqlstate) DO UPDATE"
	"   SET message = EXCLUDED.message, calls = f.calls + EXCLUDED.calls,"
	"       first_at = LEAST(f.first_at, EXCLUDED.first_at),"
	"       last_at = GREATEST(f.last_at, EXCLUDED.last_at)",
	SPI_OK_INSERT};

static const CjStatement remove_refusals = {
	"remove old records of calls that were refused",
	"DELETE FROM challenge_jobs.refusal f"
	" WHERE f.last_at < pg_catalog.clock_timestamp() - '30 days'::pg_catalog.interval",
	SPI_OK_DELETE};

static void
add_start(CjParams *params, const CjRunStart *start)
{
	cj_sql_param_text(params, start->job);
	cj_sql_param_text(params, start->trigger.triggered_by);
	cj_sql_param(params, TIMESTAMPTZOID, TimestampTzGetDatum(start->trigger.scheduled_for),
				 start->trigger.scheduled_for == 0);
	cj_sql_param(params, INT4OID, Int32GetDatum(start->trigger.attempt), false);
	cj_sql_param(params, BOOLOID, BoolGetDatum(start->dry_run), false);
	cj_sql_param(params, TIMESTAMPTZOID, TimestampTzGetDatum(start->as_of), false);
	cj_sql_param(params, TIMESTAMPTZOID, TimestampTzGetDatum(start->started_at), false);
	cj_sql_param_text(params, start->role_name);
	cj_sql_param(params, INT4OID, Int32GetDatum(MyProcPid), false);
}

static void
add_end(CjParams *params, const CjRunEnd *end)
{
	const ErrorData *error = end->error;

	Assert(end->status != CJ_RUN_RUNNING);

	cj_sql_param_text(params, status_names[end->status]);
	cj_sql_param(params, INT8OID, Int64GetDatum(end->rows_affected), false);
	cj_sql_param(params, JSONBOID, PointerGetDatum(end->result), end->result == NULL);
	cj_sql_param_text(params, error ? unpack_sql_state(error->sqlerrcode) : NULL);
	cj_sql_param_text(params, error ? error->message : end->message);
	cj_sql_param_text(params, error ? error->detail : end->detail);
	cj_sql_param_text(params, error ? error->hint : NULL);
	cj_sql_param_text(params, error ? error->context : NULL);
}

int64
cj_run_log_reserve(void)
{
	return cj_sql_int64_own(&reserve_run_id, NULL);
}

int64
cj_run_log_start(const CjRunStart *start)
{
	CjParams params = {0};

	add_start(&params, start);
	return cj_sql_int64_own(&start_run, &params);
}

void
cj_run_log_finish(int64 run_id, const CjRunEnd *end)
{
	CjParams params = {0};

	add_end(&params, end);
	cj_sql_param(&params, INT8OID, Int64GetDatum(run_id), false);
	if (cj_sql_execute_own(&finish_run, &params) != 1)
		ereport(WARNING,
				(errmsg("run " INT64_FORMAT " is no longer \"running\" in challenge_jobs.job_run",
						run_id),
				 errdetail("It ended as \"%s\".", status_names[end->status])));
	else
		cj_alert_note_run(run_id);
}

/* record writes the row of a run that has ended; returns its run_id. */
static int64
record(const CjRunStart *start, const CjRunEnd *end)
{
	CjParams params = {0};

	add_start(&params, start);
	add_end(&params, end);
	cj_sql_param(&params, INT8OID, Int64GetDatum(start->run_id), start->run_id == 0);
	return cj_sql_int64_own(&record_run, &params);
}

void
cj_run_log_record(const CjRunStart *start, const CjRunEnd *end)
{
	int64 run_id = record(start, end);

	if (!end->has_not_begun)
		cj_alert_note_run(run_id);
}

void
cj_run_log_record_for_caller(const CjRunStart *start, const CjRunEnd *end)
{
	int64 run_id = record(start, end);

	if (!start->dry_run)
		cj_alert_leave_run(run_id);
}

/* filled returns a text; one that is empty is not there. */
static const char *
filled(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

void
cj_run_log_write_unrecorded(const CjRunRecord *record)
{
	CjRows rows =
		cj_sql_run_own(&write_unrecorded,
					   CJ_PARAMS(CJ_TEXT(record->job), CJ_TEXT(record->triggered_by),
								 CJ_BOOL(record->dry_run), CJ_MOMENT(record->as_of),
								 CJ_MOMENT(record->started_at), CJ_TEXT(record->role_name),
								 CJ_INT4(record->pid), CJ_TEXT(status_names[record->status]),
								 CJ_INT8(record->rows_affected), CJ_TEXT(filled(record->result)),
								 CJ_TEXT(filled(record->sqlstate)),
								 CJ_TEXT(filled(record->message)), CJ_TEXT(filled(record->detail)),
								 CJ_TEXT(filled(record->hint)), CJ_TEXT(filled(record->context)),
								 CJ_MOMENT(record->finished_at)));

	cj_alert_note_run(cj_sql_int64(&rows, 0, 1));
	cj_sql_free(&rows);
}

int64
cj_run_log_last_running(const char *job)
{
	return cj_sql_int64_own(&last_running, CJ_PARAMS(CJ_TEXT(job)));
}

void
cj_run_log_mark_terminated(int64 run_id, const char *message, const char *hint)
{
	cj_sql_execute_own(&mark_terminated,
					   CJ_PARAMS(CJ_INT8(run_id), CJ_TEXT(message), CJ_TEXT(hint)));
}

uint64
cj_run_log_close_crashed(const char *job, int64 last)
{
	CjRows rows = cj_sql_run_own(&close_crashed, CJ_PARAMS(CJ_TEXT(job), CJ_INT8(last)));

	for (uint64 row = 0; row < rows.processed; row++)
		cj_alert_note_run(cj_sql_int64(&rows, row, 1));
	cj_sql_free(&rows);
	return rows.processed;
}

void
cj_run_log_record_refusal(const CjRefusal *refusal)
{
	cj_sql_execute_own(&record_refusal,
					   CJ_PARAMS(CJ_TEXT(refusal->job), CJ_TEXT(refusal->role_name),
								 CJ_TEXT(refusal->sqlstate), CJ_TEXT(refusal->message),
								 CJ_INT8(refusal->calls), CJ_MOMENT(refusal->first_at),
								 CJ_MOMENT(refusal->last_at)));
}

void
cj_run_log_remove_refusals(void)
{
	cj_sql_execute_own(&remove_refusals, NULL);
}

TimestampTz
cj_run_log_last_covering(const char *job)
{
	CjRows rows = cj_sql_run_own(&last_covering, CJ_PARAMS(CJ_TEXT(job)));
	TimestampTz as_of = cj_sql_moment(&rows, 0, 1);

	cj_sql_free(&rows);
	return as_of;
}
