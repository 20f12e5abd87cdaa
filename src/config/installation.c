/*
 * config/installation.c
 *		Which installation this is, and whether its jobs are held back.
 *
 * A schedule holds in the database in which it was made, and in no copy of it. CREATE EXTENSION writes a random id and the
 * OID of the database into the table installation, which is not dumped; what is scheduled carries the id, and is. So a
 * dump that is restored has schedules with an id that is not its own, and a database made from a template has another
 * OID; pg_upgrade, promotion and a physical copy have both as they were. The column `held` of the view job says what
 * follows for each job.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/identity.h"
#include "config/installation.h"

static const CjStatement installed_version = {
	"read the version of the extension",
	"SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'challenge_jobs'",
	SPI_OK_SELECT};

static const CjStatement find_hold = {"find out whether a job is held back",
									  "SELECT j.held, p.reason"
									  "  FROM challenge_jobs.job j"
									  "  LEFT JOIN challenge_jobs.pause p ON true"
									  " WHERE j.job = $1",
									  SPI_OK_SELECT};

static const CjStatement start_pause = {
	"pause the jobs",
	"INSERT INTO challenge_jobs.pause AS p (paused_at, reason, role_name)"
	"VALUES (pg_catalog.clock_timestamp(), $1, $2)"
	"    ON CONFLICT ((true)) DO UPDATE SET reason = COALESCE(excluded.reason, p.reason)",
	SPI_OK_INSERT};

static const CjStatement find_runs_at_work = {"find the runs that are at work",
											  "SELECT w.run_id, w.job, w.pid, w.started_at"
											  "  FROM challenge_jobs.run_at_work w"
											  " ORDER BY w.job, w.started_at",
											  SPI_OK_SELECT};

/* $1: this database */
static const CjStatement renew = {
	"make the database an installation of its own",
	"UPDATE challenge_jobs.installation"
	"   SET installation_id = pg_catalog.gen_random_uuid(), database_id = $1"
	" WHERE database_id <> $1",
	SPI_OK_UPDATE};

static const CjStatement end_pause = {"end the pause", "DELETE FROM challenge_jobs.pause",
									  SPI_OK_DELETE};

static const CjStatement note_resumption = {
	"note when the jobs were resumed",
	"UPDATE challenge_jobs.installation SET resumed_at = pg_catalog.clock_timestamp()",
	SPI_OK_UPDATE};

static const CjStatement forget_missed = {"forget scheduled times that are not to be caught up",
										  "UPDATE challenge_jobs.job_override o"
										  "   SET scheduled_at = pg_catalog.clock_timestamp()"
										  "  FROM challenge_jobs.job j"
										  " WHERE j.job = o.job"
										  "   AND o.engine IS NOT NULL"
										  "   AND j.catch_up = 'skip'",
										  SPI_OK_UPDATE};

static const CjStatement list_scheduled = {"list the scheduled jobs",
										   "SELECT j.job, j.engine, w.next_scheduled"
										   "  FROM challenge_jobs.job j"
										   "  JOIN challenge_jobs.watchdog() w ON w.job = j.job"
										   " WHERE j.engine IS NOT NULL"
										   " ORDER BY j.job",
										   SPI_OK_SELECT};

static const CjStatement list_restored = {
	"list the jobs that came with a copy",
	"SELECT j.job FROM challenge_jobs.job j WHERE j.held = 'restored' AND j.engine IS NOT NULL ORDER BY j.job",
	SPI_OK_SELECT};

char *
cj_installation_version(void)
{
	return cj_sql_text_own(&installed_version, NULL);
}

CjHold
cj_installation_hold(const char *job)
{
	CjHold hold = {0};
	CjIdentity saved;
	CjRows rows;
	const char *held;
	const char *reason;

	cj_identity_become_extension(&saved);
	rows = cj_sql_run_at(&find_hold, NULL, CJ_PARAMS(CJ_TEXT(job)), GetLatestSnapshot());
	cj_identity_restore(&saved);
	held = cj_sql_text(&rows, 0, 1);
	reason = cj_sql_text(&rows, 0, 2);
	cj_sql_free(&rows);
	if (held && strcmp(held, "paused") == 0)
	{
		hold.message = "all jobs are paused";
		hold.detail = reason;
	}
	else if (held)
	{
		hold.message = "this database is a copy, in which nothing runs until it is resumed";
		hold.detail =
			"Its jobs were scheduled in another database, or in the one that it was made from.";
	}
	return hold;
}

void
cj_installation_pause(const char *reason)
{
	cj_sql_execute_own(&start_pause,
					   CJ_PARAMS(CJ_TEXT(reason), CJ_TEXT(GetUserNameFromId(GetUserId(), false))));
}

CjRows
cj_installation_runs_at_work(void)
{
	return cj_sql_run_own(&find_runs_at_work, NULL);
}

void
cj_installation_renew(void)
{
	cj_sql_execute_own(&renew, CJ_PARAMS(CJ_OID(MyDatabaseId)));
}

void
cj_installation_end_pause(void)
{
	if (cj_sql_execute_own(&end_pause, NULL) == 0)
		return;
	cj_sql_execute_own(&note_resumption, NULL);
	cj_sql_execute_own(&forget_missed, NULL);
}

CjRows
cj_installation_scheduled_jobs(void)
{
	return cj_sql_run_own(&list_scheduled, NULL);
}

CjRows
cj_installation_restored_jobs(void)
{
	return cj_sql_run_own(&list_restored, NULL);
}
