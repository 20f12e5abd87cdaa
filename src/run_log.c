/*
 * run_log.c
 *		The execution log: table challenge_jobs.job_run.
 *
 * Called by runner. A run changes its state in one place only, cj_run_log_finish, and only from
 * "running".
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "run_log.h"
#include "sql.h"

static const char *const status_names[] = {"running", "succeeded", "failed",
										   "skipped", "cancelled", "crashed"};

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

static const CjStatement record_run = {
	"record a run",
	"INSERT INTO challenge_jobs.job_run"
	"       (job, triggered_by, scheduled_for, attempt, dry_run, as_of, started_at, role_name, pid,"
	"        status, rows_affected, result, sqlstate, message, detail, hint, context, finished_at)"
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
	"        pg_catalog.clock_timestamp())",
	SPI_OK_INSERT};

static const CjStatement close_crashed = {
	"close crashed runs",
	"UPDATE challenge_jobs.job_run"
	"   SET status = 'crashed', finished_at = pg_catalog.clock_timestamp(),"
	"       message = 'the backend ended without finishing the run'"
	" WHERE job = $1"
	"   AND status = 'running'",
	SPI_OK_UPDATE};

/* add_start adds what is known of a run when it starts. */
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

/* add_end adds what is known of it when it has ended. */
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

/* cj_run_log_start writes the row of a run that begins. */
int64
cj_run_log_start(const CjRunStart *start)
{
	CjParams params = {0};
	CjRows rows;
	int64 run_id;

	add_start(&params, start);
	rows = cj_sql_run_own(&start_run, &params);
	run_id = cj_sql_int64(&rows, 0, 1);
	cj_sql_free(&rows);
	return run_id;
}

/* cj_run_log_finish ends a run. */
void
cj_run_log_finish(int64 run_id, const CjRunEnd *end)
{
	CjParams params = {0};
	CjRows rows;

	add_end(&params, end);
	cj_sql_param(&params, INT8OID, Int64GetDatum(run_id), false);
	rows = cj_sql_run_own(&finish_run, &params);
	if (rows.processed != 1)
		ereport(WARNING,
				(errmsg("run " INT64_FORMAT " is not \"running\" in challenge_jobs.job_run any more",
						run_id),
				 errdetail("It ended as \"%s\".", status_names[end->status])));
	cj_sql_free(&rows);
}

/* cj_run_log_record writes the row of a run that has ended. */
void
cj_run_log_record(const CjRunStart *start, const CjRunEnd *end)
{
	CjParams params = {0};
	CjRows rows;

	add_start(&params, start);
	add_end(&params, end);
	rows = cj_sql_run_own(&record_run, &params);
	cj_sql_free(&rows);
}

/* cj_run_log_close_crashed closes rows whose run does not live any more. */
uint64
cj_run_log_close_crashed(const char *job)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, job);
	rows = cj_sql_run_own(&close_crashed, &params);
	cj_sql_free(&rows);
	return rows.processed;
}
