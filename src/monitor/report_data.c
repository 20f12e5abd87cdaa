/*
 * monitor/report_data.c
 *		The data of the report, read from the extension's own tables.
 *
 * What is read does not grow with the log: runs come by the index on job and started_at, the newest first and so
 * many of a job at most, and are counted by slice where they are read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "config/cron.h"
#include "monitor/report_data.h"

/* $1 jobs */
static const CjStatement find_jobs = {
	"find how the jobs are doing",
	"SELECT s.job, s.state, s.engine, s.schedule, s.last_run, s.last_status, s.last_success, s.next_due,"
	"       s.consecutive_failures::pg_catalog.int8, s.avg_duration, s.p95_duration"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS j(name, n)"
	"  JOIN challenge_jobs.job_status s ON s.job = j.name"
	" ORDER BY j.n",
	SPI_OK_SELECT};

/* $1 the job, $2 since when, $3 how many runs are looked at, $4 the length of a slice in seconds, $5 the number of the last one */
static const CjStatement count_runs = {
	"count the runs of a job by slice and status",
	"SELECT GREATEST(0, LEAST($5, pg_catalog.floor(pg_catalog.date_part('epoch', r.started_at - $2) / $4)))::pg_catalog.int8"
	"       AS slice,"
	"       r.status, r.dry_run, pg_catalog.count(*), pg_catalog.min(r.started_at), pg_catalog.max(r.started_at),"
	"       pg_catalog.min(r.duration), pg_catalog.avg(r.duration), pg_catalog.max(r.duration),"
	"       LEAST(pg_catalog.sum(r.rows_affected), 9e18)::pg_catalog.int8"
	"  FROM (SELECT n.status, n.dry_run, n.started_at, n.duration, n.rows_affected"
	"          FROM challenge_jobs.job_run n"
	"         WHERE n.job = $1 AND n.started_at >= $2 AND n.started_at < 'infinity'"
	"         ORDER BY n.started_at DESC"
	"         LIMIT $3) r"
	" GROUP BY slice, r.status, r.dry_run",
	SPI_OK_SELECT};

/* $1 jobs, $2 since when, $3 how many runs of each are looked at, $4 how many are wanted, $5 how much of a text */
static const CjStatement find_failures = {
	"find the last runs that went wrong",
	"SELECT f.run_id, f.job, f.status, f.started_at, f.duration,"
	"       f.attempt::pg_catalog.int8, pg_catalog.left(f.triggered_by, $5), pg_catalog.left(f.role_name, $5),"
	"       pg_catalog.left(f.sqlstate, $5), pg_catalog.left(f.message, $5), pg_catalog.left(f.detail, $5),"
	"       pg_catalog.left(f.hint, $5), pg_catalog.left(f.context, $5)"
	"  FROM pg_catalog.unnest($1) AS j(name)"
	" CROSS JOIN LATERAL (SELECT r.*"
	"                       FROM (SELECT n.*"
	"                               FROM challenge_jobs.job_run n"
	"                              WHERE n.job = j.name AND n.started_at >= $2 AND n.started_at < 'infinity'"
	"                              ORDER BY n.started_at DESC"
	"                              LIMIT $3) r"
	"                      WHERE r.status IN ('failed', 'crashed', 'cancelled') AND NOT r.dry_run"
	"                      ORDER BY r.started_at DESC"
	"                      LIMIT $4) f"
	" ORDER BY f.started_at DESC, f.run_id DESC"
	" LIMIT $4",
	SPI_OK_SELECT};

/* $1 how many are wanted, $2 how much of a text */
static const CjStatement find_alerts = {
	"find alerts that are not delivered",
	"SELECT a.alert_id, pg_catalog.left(a.job, $2), a.kind, a.raised_at, a.attempts::pg_catalog.int8,"
	"       pg_catalog.left(a.payload ->> 'message', $2), pg_catalog.left(a.last_error, $2)"
	"  FROM challenge_jobs.alert a"
	" WHERE a.next_attempt_at IS NOT NULL"
	" ORDER BY a.alert_id DESC"
	" LIMIT $1",
	SPI_OK_SELECT};

/* $1 up to how many */
static const CjStatement count_alerts = {
	"count alerts that are not delivered",
	"SELECT pg_catalog.count(*)"
	"  FROM (SELECT FROM challenge_jobs.alert a WHERE a.next_attempt_at IS NOT NULL LIMIT $1) a",
	SPI_OK_SELECT};

static const char *const status_names[CJ_REPORT_STATUSES] = {
	[CJ_REPORT_CRASHED] = "crashed",         [CJ_REPORT_FAILED] = "failed",
	[CJ_REPORT_CANCELLED] = "cancelled",     [CJ_REPORT_SUCCEEDED] = "succeeded",
	[CJ_REPORT_RUNNING] = "running",         [CJ_REPORT_SKIPPED] = "skipped",
	[CJ_REPORT_ROLLED_BACK] = "rolled_back",
};

/* ---- reading values ---- */

static CjReportStatus
find_status(const char *name)
{
	for (int status = 0; status < CJ_REPORT_STATUSES; status++)
	{
		if (strcmp(status_names[status], name) == 0)
			return (CjReportStatus) status;
	}
	elog(ERROR, "unknown status \"%s\"", name);
}

/* get_duration reads an interval in microseconds, within what an int64 holds; false: there is none. */
static bool
get_duration(const CjRows *rows, uint64 row, int column, int64 *duration)
{
	bool isnull;
	const Interval *interval = DatumGetIntervalP(cj_sql_datum(rows, row, column, &isnull));
	double exact;

	if (isnull)
		return false;
	exact = interval->time +
			((double) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
	*duration = (int64) Max(-9e18, Min(9e18, exact));
	return true;
}

static Datum
array_of_names(const char *const *names)
{
	int count = 0;
	Datum *values;

	while (names[count])
		count++;
	values = palloc(sizeof(Datum) * count);
	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(names[i]);
	return cj_sql_array(values, count, TEXTOID);
}

/* ---- the jobs ---- */

/* find_scheduled_times finds the scheduled times of a job that are to come, beginning with that of job_status. */
static void
find_scheduled_times(CjReportJob *job, TimestampTz next_due)
{
	CjCronExpression cron;

	if (TIMESTAMP_NOT_FINITE(next_due) || cj_cron_parse(job->schedule, &cron) != NULL)
		return;
	do
		job->next[job->next_count++] = next_due;
	while (job->next_count < CJ_REPORT_MAX_NEXT && cj_cron_next(&cron, next_due, &next_due));
}

static void
read_jobs(CjReportData *data, const char *const *names)
{
	CjRows rows = cj_sql_run_own(&find_jobs, CJ_PARAMS(CJ_ARRAY(TEXTOID, array_of_names(names))));

	data->job_count = (int) rows.processed;
	data->jobs = palloc0(sizeof(CjReportJob) * Max(data->job_count, 1));
	for (int i = 0; i < data->job_count; i++)
	{
		CjReportJob *job = &data->jobs[i];

		job->name = cj_sql_text(&rows, i, 1);
		job->state = cj_sql_text(&rows, i, 2);
		job->engine = cj_sql_text(&rows, i, 3);
		job->schedule = cj_sql_text(&rows, i, 4);
		job->last_run = cj_sql_moment(&rows, i, 5);
		job->last_status = cj_sql_text(&rows, i, 6);
		job->last_success = cj_sql_moment(&rows, i, 7);
		job->consecutive_failures = cj_sql_int64(&rows, i, 9);
		job->has_durations = get_duration(&rows, i, 10, &job->mean_duration) &&
							 get_duration(&rows, i, 11, &job->p95_duration);
		find_scheduled_times(job, cj_sql_moment(&rows, i, 8));
	}
	cj_sql_free(&rows);
}

/* ---- their runs ---- */

static void
note_runs(CjReportJob *job, const CjRows *rows, uint64 row)
{
	CjReportStatus status = find_status(cj_sql_text(rows, row, 2));
	CjReportRuns *runs = &job->slices[cj_sql_int64(rows, row, 1)][status];
	int64 count = cj_sql_int64(rows, row, 4);
	TimestampTz first = cj_sql_moment(rows, row, 5);

	if (job->looked_at == 0 || first < job->oldest)
		job->oldest = first;
	job->looked_at += count;
	if (cj_sql_bool(rows, row, 3))
		return; /* dry runs count for nothing else */

	job->totals[status] += count;
	runs->count = count;
	runs->first = first;
	runs->last = cj_sql_moment(rows, row, 6);
	(void) get_duration(rows, row, 7, &runs->shortest);
	(void) get_duration(rows, row, 8, &runs->mean);
	(void) get_duration(rows, row, 9, &runs->longest);
	runs->rows = cj_sql_int64(rows, row, 10);
}

static void
read_runs(const CjReportData *data, CjReportJob *job)
{
	double slice = (data->now - data->since) / (double) USECS_PER_SEC / CJ_REPORT_SLICES;
	CjRows rows =
		cj_sql_run_own(&count_runs,
					   CJ_PARAMS(CJ_TEXT(job->name), CJ_MOMENT(data->since),
								 CJ_INT8(CJ_REPORT_MAX_RUNS),
								 CJ_VALUE(FLOAT8OID, Float8GetDatum(slice), false),
								 CJ_VALUE(FLOAT8OID, Float8GetDatum(CJ_REPORT_SLICES - 1), false)));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CHECK_FOR_INTERRUPTS();
		note_runs(job, &rows, row);
	}
	cj_sql_free(&rows);
}

/* ---- what went wrong ---- */

static void
read_failures(CjReportData *data, const char *const *names)
{
	CjRows rows =
		cj_sql_run_own(&find_failures,
					   CJ_PARAMS(CJ_ARRAY(TEXTOID, array_of_names(names)), CJ_MOMENT(data->since),
								 CJ_INT8(CJ_REPORT_MAX_RUNS), CJ_INT8(CJ_REPORT_MAX_FAILURES),
								 CJ_INT4(CJ_REPORT_MAX_TEXT + 1)));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjReportFailure *failure = palloc0(sizeof(CjReportFailure));

		failure->run_id = cj_sql_int64(&rows, row, 1);
		failure->job = cj_sql_text(&rows, row, 2);
		failure->status = find_status(cj_sql_text(&rows, row, 3));
		failure->started_at = cj_sql_moment(&rows, row, 4);
		failure->has_duration = get_duration(&rows, row, 5, &failure->duration);
		failure->attempt = cj_sql_int64(&rows, row, 6);
		failure->triggered_by = cj_sql_text(&rows, row, 7);
		failure->role_name = cj_sql_text(&rows, row, 8);
		failure->sqlstate = cj_sql_text(&rows, row, 9);
		failure->message = cj_sql_text(&rows, row, 10);
		failure->detail = cj_sql_text(&rows, row, 11);
		failure->hint = cj_sql_text(&rows, row, 12);
		failure->context = cj_sql_text(&rows, row, 13);
		data->failures = lappend(data->failures, failure);
	}
	cj_sql_free(&rows);
}

static void
read_alerts(CjReportData *data)
{
	CjRows rows = cj_sql_run_own(&find_alerts, CJ_PARAMS(CJ_INT8(CJ_REPORT_MAX_ALERTS),
														 CJ_INT4(CJ_REPORT_MAX_TEXT + 1)));

	data->waiting_alerts =
		cj_sql_int64_own(&count_alerts, CJ_PARAMS(CJ_INT8(CJ_REPORT_MAX_COUNTED + 1)));
	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjReportAlert *alert = palloc0(sizeof(CjReportAlert));

		alert->alert_id = cj_sql_int64(&rows, row, 1);
		alert->job = cj_sql_text(&rows, row, 2);
		alert->kind = cj_sql_text(&rows, row, 3);
		alert->raised_at = cj_sql_moment(&rows, row, 4);
		alert->attempts = cj_sql_int64(&rows, row, 5);
		alert->message = cj_sql_text(&rows, row, 6);
		alert->last_error = cj_sql_text(&rows, row, 7);
		data->alerts = lappend(data->alerts, alert);
	}
	cj_sql_free(&rows);
}

/* ---- for the caller ---- */

CjReportData *
cj_report_data_read(const char *const *names, TimestampTz since, TimestampTz now)
{
	CjReportData *data = palloc0(sizeof(CjReportData));

	data->since = since;
	data->now = now;
	data->database = get_database_name(MyDatabaseId);
	read_jobs(data, names);
	for (int i = 0; i < data->job_count; i++)
		read_runs(data, &data->jobs[i]);
	read_failures(data, names);
	read_alerts(data);
	return data;
}

int64
cj_report_data_runs(const CjReportJob *job)
{
	int64 runs = 0;

	for (int status = 0; status < CJ_REPORT_STATUSES; status++)
		runs += job->totals[status];
	return runs;
}

int64
cj_report_data_failures(const CjReportJob *job)
{
	return job->totals[CJ_REPORT_FAILED] + job->totals[CJ_REPORT_CRASHED] +
		   job->totals[CJ_REPORT_CANCELLED];
}

const char *
cj_report_data_status_name(CjReportStatus status)
{
	return status_names[status];
}
