/*
 * jobs/cleanup_history.c
 *		The extension's own history: rows that are past their time are removed.
 *
 * Statements run as the owner of the extension. Each table is read once, in the order of an index, a page
 * at a time: the next page begins behind the last row of the one before, so that what cannot be removed yet (rows
 * that others have locked) is passed once, and what has been removed in this transaction is not read again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "base/json.h"
#include "base/sql.h"
#include "config/pg_cron.h"
#include "jobs/cleanup_history.h"
#include "run/batch.h"

/* ---- job_run ---- */

static const CjStatement list_jobs = {
	"list the jobs that have run",
	"WITH RECURSIVE j(job) AS ("
	"    (SELECT r.job FROM challenge_jobs.job_run r ORDER BY r.job LIMIT 1)"
	"     UNION ALL "
	"    SELECT (SELECT r.job FROM challenge_jobs.job_run r WHERE r.job > j.job ORDER BY r.job LIMIT 1)"
	"      FROM j"
	"     WHERE j.job IS NOT NULL"
	")"
	"SELECT j.job FROM j WHERE j.job IS NOT NULL",
	SPI_OK_SELECT};

/*
 * $1 the job, $2 whether the runs went well, $3 whether they count: what is dry, skipped or rolled back says nothing about
 * the job, and has a bound of its own, as whoever may call can add as much of it as he likes.
 */
#define RUNS_OF_KIND                                     \
	"  FROM challenge_jobs.job_run r"                    \
	" WHERE r.job = $1"                                  \
	"   AND r.status <> 'running'"                       \
	"   AND (r.status IN ('succeeded', 'skipped')) = $2" \
	"   AND (NOT r.dry_run AND r.status NOT IN ('skipped', 'rolled_back')) = $3"

/* $4: how many are kept; the newest of those that are not */
static const CjStatement find_surplus = {"find runs that are too many",
										 "SELECT r.started_at, r.run_id" RUNS_OF_KIND
										 " ORDER BY r.started_at DESC, r.run_id DESC "
										 "OFFSET $4 LIMIT 1",
										 SPI_OK_SELECT};

/* $1 the job. What its state is known by is never removed: the last runs, and those as of the latest moments. */
static const CjStatement find_lasting = {
	"find the runs by which the state of a job is known",
	"(SELECT r.run_id"
	"   FROM challenge_jobs.job_run r"
	"  WHERE r.job = $1 AND " CJ_RUN_COVERS(
		"r") " AND r.as_of IS NOT NULL"
			 "  ORDER BY r.as_of DESC, r.run_id DESC LIMIT 1)"
			 " UNION ALL "
			 "(SELECT r.run_id"
			 "   FROM challenge_jobs.job_run r"
			 "  WHERE r.job = $1 AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run"
			 "  ORDER BY - r.run_id LIMIT 1)"
			 " UNION ALL "
			 "(SELECT r.run_id"
			 "   FROM challenge_jobs.job_run r"
			 "  WHERE r.job = $1 AND r.status IN ('failed', 'cancelled', 'crashed') AND NOT r.dry_run"
			 "    AND r.as_of IS NOT NULL"
			 "  ORDER BY r.as_of DESC LIMIT 1)",
	SPI_OK_SELECT};

/* $4: the bound by age; $5, $6: the newest of those that are too many; $7: those that last */
#define RUNS_THAT_GO                                                      \
	RUNS_OF_KIND                                                          \
	"   AND r.started_at <= GREATEST($4, $5)"                             \
	"   AND (r.finished_at < $4 OR (r.started_at, r.run_id) <= ($5, $6))" \
	"   AND r.run_id <> ALL ($7)"

/* $8, $9: the last run of the page before; $10: how many */
static const CjStatement find_runs = {"find old runs",
									  "SELECT r.run_id, r.started_at" RUNS_THAT_GO
									  "   AND (r.started_at, r.run_id) > ($8, $9)"
									  " ORDER BY r.started_at, r.run_id"
									  " LIMIT $10"
									  "   FOR UPDATE SKIP LOCKED",
									  SPI_OK_SELECT};

static const CjStatement count_runs = {"count old runs", "SELECT pg_catalog.count(*)" RUNS_THAT_GO,
									   SPI_OK_SELECT};

/* $2: how many */
static const CjStatement delete_decisions = {
	"delete the decisions of old runs",
	"DELETE FROM challenge_jobs.decision d"
	" WHERE (d.run_id, d.challenge_key) IN (SELECT o.run_id, o.challenge_key"
	"                                         FROM challenge_jobs.decision o"
	"                                        WHERE o.run_id = ANY ($1)"
	"                                        LIMIT $2)",
	SPI_OK_DELETE};

static const CjStatement delete_runs = {
	"delete old runs",
	"WITH unsettled AS (DELETE FROM challenge_jobs.unsettled_run u WHERE u.run_id = ANY ($1))"
	"DELETE FROM challenge_jobs.job_run r"
	" WHERE r.run_id = ANY ($1)"
	"   AND r.status <> 'running'",
	SPI_OK_DELETE};

/* ---- reminder ---- */

/* $1, $2: what is before; $3, $4: the last row of the page before; $5: how many */
static const CjStatement find_reminders = {"find old reminders",
										   "SELECT r.local_date, r.user_key"
										   "  FROM challenge_jobs.reminder r"
										   " WHERE r.local_date < $1"
										   "   AND r.reminded_at < $2"
										   "   AND (r.local_date, r.user_key) > ($3, $4)"
										   " ORDER BY r.local_date, r.user_key"
										   " LIMIT $5"
										   "   FOR UPDATE SKIP LOCKED",
										   SPI_OK_SELECT};

static const CjStatement delete_reminders = {"delete old reminders",
											 "DELETE FROM challenge_jobs.reminder r"
											 " USING unnest($1, $2) AS k(local_date, user_key)"
											 " WHERE r.local_date = k.local_date"
											 "   AND r.user_key = k.user_key",
											 SPI_OK_DELETE};

/* Few: one for each zone, date, and time of day that users have chosen. */
static const CjStatement delete_zones = {"delete old notes of zones",
										 "DELETE FROM challenge_jobs.reminder_zone z"
										 " WHERE z.local_date < $1",
										 SPI_OK_DELETE};

/* How far a table has been read. */
typedef struct Progress
{
	const CjHistoryLimits *limits;
	int found;   /* by the last page */
	int64 count; /* removed, or for a dry run counted */

	/* job_run */
	const char *job;
	bool went_well;
	bool counts;
	TimestampTz before;
	TimestampTz surplus_started_at;
	int64 surplus_run_id;
	TimestampTz last_started_at;
	int64 last_run_id;

	/* reminder */
	DateADT date_before;
	DateADT last_date;
	char *last_key; /* in the run's memory */

	/* pg_cron's records */
	int64 last_cron_run;
} Progress;

/* do_pages repeats a piece of work, each time in a transaction that may be its own, to the last page. */
static void
do_pages(CjRun *run, CjWork work, Progress *progress)
{
	do
	{
		cj_batch_step(run, work, progress);
	} while (progress->found == progress->limits->batch_size);
}

/* ---- job_run ---- */

/* kind_params makes parameters: a job, whether its runs went well, and whether they count. */
static CjParams
kind_params(const Progress *progress)
{
	CjParams params = {0};

	cj_sql_param_text(&params, progress->job);
	cj_sql_param(&params, BOOLOID, BoolGetDatum(progress->went_well), false);
	cj_sql_param(&params, BOOLOID, BoolGetDatum(progress->counts), false);
	return params;
}

static void
find_newest_surplus(Progress *progress)
{
	CjParams params = kind_params(progress);
	CjRows rows;
	bool isnull;

	progress->surplus_started_at = DT_NOBEGIN;
	progress->surplus_run_id = 0;
	if (progress->limits->max_runs == 0)
		return;
	cj_sql_param(&params, INT8OID, Int64GetDatum(progress->limits->max_runs), false);
	rows = cj_sql_run_own(&find_surplus, &params);
	if (rows.processed > 0)
	{
		progress->surplus_started_at = DatumGetTimestampTz(cj_sql_datum(&rows, 0, 1, &isnull));
		progress->surplus_run_id = cj_sql_int64(&rows, 0, 2);
	}
	cj_sql_free(&rows);
}

/* limit_params makes parameters: as above, and what goes of them. */
static CjParams
limit_params(const Progress *progress)
{
	CjParams params = kind_params(progress);
	CjParams job = {0};
	CjRows rows;

	cj_sql_param_text(&job, progress->job);
	rows = cj_sql_run_own(&find_lasting, &job);
	cj_sql_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(progress->before), false);
	cj_sql_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(progress->surplus_started_at), false);
	cj_sql_param(&params, INT8OID, Int64GetDatum(progress->surplus_run_id), false);
	cj_sql_param_array(&params, INT8OID, cj_sql_column(&rows, 1, INT8OID));
	cj_sql_free(&rows);
	return params;
}

/* delete_page_of_runs removes a page of runs of one kind; the work of an attempt. */
static void
delete_page_of_runs(CjRun *run, void *arg)
{
	Progress *progress = arg;
	CjParams params = limit_params(progress);
	CjParams keys = {0};
	CjParams decisions;
	CjRows rows;
	bool isnull;

	cj_sql_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(progress->last_started_at), false);
	cj_sql_param(&params, INT8OID, Int64GetDatum(progress->last_run_id), false);
	cj_sql_param(&params, INT8OID, Int64GetDatum(progress->limits->batch_size), false);
	rows = cj_sql_run_own(&find_runs, &params);
	progress->found = rows.processed;
	if (progress->found == 0)
		return;
	cj_sql_param_array(&keys, INT8OID, cj_sql_column(&rows, 1, INT8OID));
	decisions = keys;
	cj_sql_param(&decisions, INT8OID, Int64GetDatum(progress->limits->batch_size), false);
	if (cj_sql_execute_own(&delete_decisions, &decisions) == progress->limits->batch_size)
	{
		/* there may be more of them: the same page again */
		progress->found = progress->limits->batch_size;
		return;
	}
	progress->last_run_id = cj_sql_int64(&rows, rows.processed - 1, 1);
	progress->last_started_at =
		DatumGetTimestampTz(cj_sql_datum(&rows, rows.processed - 1, 2, &isnull));
	cj_sql_free(&rows);
	rows = cj_sql_run_own(&delete_runs, &keys);
	progress->count += rows.processed;
}

/* clean_kind removes or counts the runs of a job that went well, or that did not. */
static void
clean_kind(CjRun *run, Progress *progress)
{
	CjParams params;

	find_newest_surplus(progress);
	progress->last_started_at = DT_NOBEGIN;
	progress->last_run_id = 0;
	if (!run->dry_run)
	{
		do_pages(run, delete_page_of_runs, progress);
		return;
	}
	params = limit_params(progress);
	progress->count += cj_sql_int64_own(&count_runs, &params);
}

/* read_jobs lists the names of the jobs that have run, also of those that are no more. */
static List *
read_jobs(CjRun *run)
{
	CjRows rows = cj_sql_run_own(&list_jobs, NULL);
	MemoryContext caller = MemoryContextSwitchTo(run->memory);
	List *jobs = NIL;

	for (uint64 row = 0; row < rows.processed; row++)
		jobs = lappend(jobs, pstrdup(cj_sql_text(&rows, row, 1)));
	MemoryContextSwitchTo(caller);
	cj_sql_free(&rows);
	return jobs;
}

/* ---- reminder ---- */

/* delete_page_of_reminders removes a page of the ledger; the work of an attempt. */
static void
delete_page_of_reminders(CjRun *run, void *arg)
{
	Progress *progress = arg;
	CjParams params = {0};
	CjParams keys = {0};
	CjRows rows;
	bool isnull;

	cj_sql_param(&params, DATEOID, DateADTGetDatum(progress->date_before), false);
	cj_sql_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(progress->limits->reminders_before),
				 false);
	cj_sql_param(&params, DATEOID, DateADTGetDatum(progress->last_date), false);
	cj_sql_param_text(&params, progress->last_key);
	cj_sql_param(&params, INT8OID, Int64GetDatum(progress->limits->batch_size), false);
	rows = cj_sql_run_own(&find_reminders, &params);
	progress->found = rows.processed;
	if (progress->found == 0)
		return;
	progress->last_date = DatumGetDateADT(cj_sql_datum(&rows, rows.processed - 1, 1, &isnull));
	pfree(progress->last_key);
	progress->last_key =
		MemoryContextStrdup(run->memory, cj_sql_text(&rows, rows.processed - 1, 2));
	cj_sql_param_array(&keys, DATEOID, cj_sql_column(&rows, 1, DATEOID));
	cj_sql_param_array(&keys, TEXTOID, cj_sql_column(&rows, 2, TEXTOID));
	cj_sql_free(&rows);
	rows = cj_sql_run_own(&delete_reminders, &keys);
}

/* delete_notes_of_zones removes the notes of zones that were served; the work of an attempt. */
static void
delete_notes_of_zones(CjRun *run, void *arg)
{
	Progress *progress = arg;
	CjParams params = {0};

	cj_sql_param(&params, DATEOID, DateADTGetDatum(progress->date_before), false);
	cj_sql_execute_own(&delete_zones, &params);
	progress->found = 0;
}

/* ---- alert ---- */

/* delete_page_of_alerts removes a page of alerts; the work of an attempt. */
static void
delete_page_of_alerts(CjRun *run, void *arg)
{
	Progress *progress = arg;

	progress->found =
		cj_alert_remove(progress->limits->failed_runs_before, progress->limits->batch_size);
}

/* ---- pg_cron ---- */

/* delete_page_of_cron_runs removes a page of pg_cron's records; the work of an attempt. */
static void
delete_page_of_cron_runs(CjRun *run, void *arg)
{
	Progress *progress = arg;
	int64 last = progress->last_cron_run;

	progress->found = 0;
	progress->found =
		cj_pg_cron_prune(progress->limits->runs_before, progress->limits->batch_size, &last);
	progress->last_cron_run = last;
	progress->count += progress->found;
}

/*
 * clean_cron removes pg_cron's records of our cron jobs. They are not ours: what is in the way of that
 * is told, and is no failure of the run.
 */
static void
clean_cron(CjRun *run, Progress *progress)
{
	const char *hint;
	const char *problem = cj_pg_cron_prune_problem(&hint);

	do
	{
		ErrorData *error = NULL;

		if (problem == NULL)
			error = cj_run_attempt(run, delete_page_of_cron_runs, progress);
		if (error == NULL)
			error = cj_run_commit_batch(run);
		if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		if (error)
			problem = error->message;
	} while (problem == NULL && progress->found == progress->limits->batch_size);
	if (problem)
		ereport(NOTICE,
				(errmsg("job \"%s\" cannot prune pg_cron's history: %s", run->job->definition.name,
						problem)));
}

/* clean_more removes what is not counted as job_run; nothing for a dry run. */
static void
clean_more(CjRun *run, const CjHistoryLimits *limits)
{
	Progress progress = {limits};

	progress.date_before = DatumGetDateADT(
		DirectFunctionCall1(timestamp_date, TimestampGetDatum(limits->reminders_before)));
	progress.last_date = DATEVAL_NOBEGIN;
	progress.last_key = MemoryContextStrdup(run->memory, "");
	do_pages(run, delete_page_of_reminders, &progress);
	do_pages(run, delete_notes_of_zones, &progress);
	do_pages(run, delete_page_of_alerts, &progress);
	if (limits->prune_cron)
	{
		clean_cron(run, &progress);
		cj_json_int64(run->more_result, "cron_runs", progress.count);
	}
}

int64
cj_cleanup_history_clean(CjRun *run, const CjHistoryLimits *limits)
{
	Progress progress = {limits};
	List *jobs = read_jobs(run);
	ListCell *cell;

	foreach(cell, jobs)
	{
		progress.job = lfirst(cell);
		for (int kind = 0; kind < 4; kind++)
		{
			progress.went_well = (kind & 1) != 0;
			progress.counts = (kind & 2) != 0;
			progress.before = progress.went_well ? limits->runs_before : limits->failed_runs_before;
			clean_kind(run, &progress);
		}
	}
	if (!run->dry_run)
		clean_more(run, limits);
	return progress.count;
}
