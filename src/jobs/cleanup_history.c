/*
 * jobs/cleanup_history.c
 *		The extension's own history: rows that are past their time are removed.
 *
 * Statements run as the owner of the extension. Each table is read once, in the order of an index, a page
 * at a time: the next page begins behind the last row of the one before, so that what cannot be removed yet (rows
 * that others have locked) is passed once, and what has been removed in this transaction is not read again.
 */
#include "postgres.h"

#include "utils/date.h"
#include "utils/memutils.h"

#include "alerts/alert.h"
#include "base/json.h"
#include "base/sql.h"
#include "config/pg_cron.h"
#include "jobs/cleanup_history.h"
#include "run/batch.h"

/* ---- job_run ---- */

static const CjStatement next_job = {
	"find the next job that has run",
	"SELECT pg_catalog.min(r.job) FROM challenge_jobs.job_run r WHERE r.job > $1", SPI_OK_SELECT};

/* Parameters: see run_params. */
static const CjStatement find_surplus = {"find runs that are too many",
										 "SELECT r.started_at, r.run_id"
										 "  FROM challenge_jobs.runs_of_kind($1, $2, $3) r"
										 " ORDER BY r.started_at DESC, r.run_id DESC"
										 " OFFSET $9"
										 " LIMIT 1",
										 SPI_OK_SELECT};

static const CjStatement count_runs = {
	"count old runs",
	"SELECT pg_catalog.count(*) FROM challenge_jobs.runs_that_go($1, $2, $3, $4, $5, $6)",
	SPI_OK_SELECT};

static const CjStatement remove_runs =
	CJ_CALL_ROWS("remove_runs($1, $2, $3, $4, $5, $6, $7, $8, $9)");

/* ---- reminder ---- */

/* $1: what is before; $2: how many; $3, $4: the last row of the page before */
static const CjStatement remove_reminders = CJ_CALL_ROWS("remove_reminders($1, $2, $3, $4)");

/* Few: one for each zone, date, and time of day that users have chosen. */
static const CjStatement delete_zones = {
	"delete old notes of zones",
	"DELETE FROM challenge_jobs.reminder_zone z"
	" WHERE z.local_date < ($1 AT TIME ZONE 'UTC')::pg_catalog.date",
	SPI_OK_DELETE};

/* How far a table has been read. */
typedef struct Progress
{
	const CjHistoryLimits *limits;
	int64 found; /* by the last page */
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

/* run_params makes parameters: the kind of runs, which of them go, the last of the page before, and how many. */
static CjParams *
run_params(const Progress *progress, int how_many)
{
	return CJ_PARAMS(CJ_TEXT(progress->job), CJ_BOOL(progress->went_well),
					 CJ_BOOL(progress->counts), CJ_MOMENT(progress->before),
					 CJ_MOMENT(progress->surplus_started_at), CJ_INT8(progress->surplus_run_id),
					 CJ_MOMENT(progress->last_started_at), CJ_INT8(progress->last_run_id),
					 CJ_INT4(how_many));
}

static void
find_newest_surplus(Progress *progress)
{
	CjRows rows;

	progress->surplus_started_at = DT_NOBEGIN;
	progress->surplus_run_id = 0;
	if (progress->limits->max_runs == 0)
		return;
	rows = cj_sql_run_own(&find_surplus, run_params(progress, progress->limits->max_runs));
	if (rows.processed > 0)
	{
		progress->surplus_started_at = cj_sql_moment(&rows, 0, 1);
		progress->surplus_run_id = cj_sql_int64(&rows, 0, 2);
	}
	cj_sql_free(&rows);
}

/* delete_page_of_runs removes a page of runs of one kind; the work of an attempt. */
static void
delete_page_of_runs(CjRun *run, void *arg)
{
	Progress *progress = arg;
	CjRows rows = cj_sql_run_own(&remove_runs, run_params(progress, progress->limits->batch_size));

	progress->found = cj_sql_int64(&rows, 0, 1);
	progress->count += cj_sql_int64(&rows, 0, 2);
	progress->last_started_at = cj_sql_moment(&rows, 0, 3);
	progress->last_run_id = cj_sql_int64(&rows, 0, 4);
	cj_sql_free(&rows);
}

/* clean_kind removes or counts the runs of a job that went well, or that did not. */
static void
clean_kind(CjRun *run, Progress *progress)
{
	find_newest_surplus(progress);
	progress->last_started_at = DT_NOBEGIN;
	progress->last_run_id = 0;
	if (run->dry_run)
		progress->count += cj_sql_int64_own(&count_runs, run_params(progress, 0));
	else
		do_pages(run, delete_page_of_runs, progress);
}

/* find_next_job moves on to the next of the jobs that have run, also of those that are no more; false: that was the last. */
static bool
find_next_job(CjRun *run, Progress *progress)
{
	char *job = cj_sql_text_own(&next_job, CJ_PARAMS(CJ_TEXT(progress->job)));

	progress->job = job ? MemoryContextStrdup(run->memory, job) : NULL;
	return job != NULL;
}

/* ---- reminder ---- */

/* delete_page_of_reminders removes a page of the ledger; the work of an attempt. */
static void
delete_page_of_reminders(CjRun *run, void *arg)
{
	Progress *progress = arg;
	const CjHistoryLimits *limits = progress->limits;
	CjRows rows =
		cj_sql_run_own(&remove_reminders,
					   CJ_PARAMS(CJ_MOMENT(limits->reminders_before), CJ_INT4(limits->batch_size),
								 CJ_DATE(progress->last_date), CJ_TEXT(progress->last_key)));
	bool isnull;

	progress->found = cj_sql_int64(&rows, 0, 1);
	if (progress->found > 0)
	{
		progress->last_date = DatumGetDateADT(cj_sql_datum(&rows, 0, 2, &isnull));
		pfree(progress->last_key);
		progress->last_key = MemoryContextStrdup(run->memory, cj_sql_text(&rows, 0, 3));
	}
	cj_sql_free(&rows);
}

/* delete_notes_of_zones removes the notes of zones that were served; the work of an attempt. */
static void
delete_notes_of_zones(CjRun *run, void *arg)
{
	const CjHistoryLimits *limits = ((Progress *) arg)->limits;

	cj_sql_execute_own(&delete_zones, CJ_PARAMS(CJ_MOMENT(limits->reminders_before)));
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

	progress.last_date = DATEVAL_NOBEGIN;
	progress.last_key = MemoryContextStrdup(run->memory, "");
	do_pages(run, delete_page_of_reminders, &progress);
	cj_batch_step(run, delete_notes_of_zones, &progress);
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
	Progress progress = {limits, .job = ""};

	while (find_next_job(run, &progress))
	{
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
