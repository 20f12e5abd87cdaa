/*
 * worker/overlong_run.c
 *		Runs that are at work for longer than they may.
 *
 * A run is cancelled by a timeout of its own when max_runtime is over, again and again. Code of the app can catch that for
 * ever (EXCEPTION WHEN query_canceled, in a loop), but not the end of its backend. Whoever is to be ended is looked at
 * once more as the superuser that the worker is: the process must be of this database, older than the run, and hold the
 * lock of this very job. So a process that has got the number of one that is gone is left alone, and so is one that
 * has left a row of a run behind and does something else by now.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "base/job_lock.h"
#include "base/json.h"
#include "base/own_transaction.h"
#include "base/sql.h"
#include "jobs/job_list.h"
#include "run/run_log.h"
#include "run/shared_state.h"
#include "worker/overlong_run.h"

static const CjStatement find_overlong = {
	"find runs that are at work for too long",
	"SELECT w.run_id, w.job, w.pid, w.started_at, j.max_runtime::pg_catalog.text, j.grace::pg_catalog.text"
	"  FROM challenge_jobs.run_at_work w"
	"  JOIN challenge_jobs.job j ON j.job = w.job"
	" WHERE j.max_runtime > '0'"
	"   AND w.started_at + j.max_runtime + j.grace < pg_catalog.clock_timestamp()",
	SPI_OK_SELECT};

/* $1 the process, $2 when its run was started, $3 the database, $4 to $6 what the job's lock is on */
static const CjStatement find_process = {
	"find the process of a run",
	"SELECT a.backend_type <> 'client backend'"
	"  FROM pg_catalog.pg_stat_activity a"
	" WHERE a.pid = $1 AND a.backend_start <= $2 AND a.datid = $3"
	"   AND EXISTS (SELECT"
	"                 FROM pg_catalog.pg_locks l"
	"                WHERE l.pid = a.pid AND l.granted AND l.locktype = 'object' AND l.database = a.datid"
	"                  AND l.classid = $4 AND l.objid = $5 AND l.objsubid = $6)",
	SPI_OK_SELECT};

#define HINT \
	"Look for EXCEPTION WHEN query_canceled or WHEN OTHERS in triggers and functions of the app; see max_runtime in the documentation."

static void
terminate(int64 run_id, int pid, const char *message)
{
	cj_run_log_mark_terminated(run_id, message, HINT);
	(void) DirectFunctionCall2(pg_terminate_backend, Int32GetDatum(pid), Int64GetDatum(0));
	ereport(LOG, (errmsg("challenge_jobs: process %d is being terminated", pid),
				  errdetail("Its run exceeded the job's max_runtime and grace.")));
}

/* cancel cancels what a client's session does; an alert reports it. */
static void
cancel(const char *job, int64 run_id, int pid, const char *message)
{
	StringInfoData payload;

	initStringInfo(&payload);
	cj_json_begin(&payload, NULL, '{');
	cj_json_text(&payload, "message", message);
	cj_json_text(&payload, "detail",
				 psprintf("Process %d is a client session, which is cancelled, not terminated.",
						  pid));
	cj_json_text(&payload, "hint", psprintf("Run: SELECT pg_terminate_backend(%d);", pid));
	/* a job function has no row yet */
	if (run_id == 0)
		cj_json_text(&payload, "triggered_by", "function");
	cj_json_end(&payload, '}');
	cj_alert_raise(job, "failed", run_id, cj_json_to_jsonb(&payload));
	(void) DirectFunctionCall1(pg_cancel_backend, Int32GetDatum(pid));
	ereport(LOG, (errmsg("challenge_jobs: the statement of process %d is being cancelled", pid),
				  errdetail("Its run exceeded the job's max_runtime and grace.")));
}

/* is_unattended returns whether no client waits for what a process runs, as far as is known. */
static bool
is_unattended(int pid)
{
	CjProgress progress;
	int index = 0;

	while (cj_shared_state_read_progress(&index, &progress))
	{
		if (progress.pid == pid)
			return progress.is_unattended;
	}
	return false;
}

/* end_run ends a run that was found, if it is still there. */
static void
end_run(const CjRows *found, uint64 row)
{
	int64 run_id = cj_sql_int64(found, row, 1);
	const char *job = cj_sql_text(found, row, 2);
	bool isnull;
	Datum pid = cj_sql_datum(found, row, 3, &isnull);
	CjJobLock lock = cj_job_lock_of(cj_job_list_find(job)->definition.number);
	const char *message = psprintf(
		"job \"%s\" has been running for longer than its max_runtime of %s and a grace of %s", job,
		cj_sql_text(found, row, 5), cj_sql_text(found, row, 6));
	CjRows process =
		cj_sql_run(&find_process, NULL,
				   CJ_PARAMS(CJ_VALUE(INT4OID, pid, false),
							 CJ_VALUE(TIMESTAMPTZOID, cj_sql_datum(found, row, 4, &isnull), false),
							 CJ_OID(lock.tag.locktag_field1), CJ_OID(lock.tag.locktag_field2),
							 CJ_OID(lock.tag.locktag_field3), CJ_INT8(lock.tag.locktag_field4)));

	if (process.processed == 0)
		return;
	if (cj_sql_bool(&process, 0, 1) || is_unattended(DatumGetInt32(pid)))
		terminate(run_id, DatumGetInt32(pid), message);
	else
		cancel(job, run_id, DatumGetInt32(pid), message);
}

void
cj_overlong_run_end(void)
{
	CjRows rows;

	cj_own_transaction_begin();
	rows = cj_sql_run_own(&find_overlong, NULL);
	for (uint64 row = 0; row < rows.processed; row++)
		end_run(&rows, row);
	cj_own_transaction_commit();
}
