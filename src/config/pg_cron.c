/*
 * config/pg_cron.c
 *		Schedules: by which engine a job is fired, and the cron jobs of pg_cron.
 *
 * The only file that names anything of pg_cron, which need not be there.
 *
 * The cron jobs belong to the owner of the extension, whoever calls schedule(): there is one for a
 * job, not one for every role that has called, and all it does is our own CALL.
 */
#include "postgres.h"

#include <libgen.h>

#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/sql.h"
#include "config/cron.h"
#include "config/database_list.h"
#include "config/installation.h"
#include "config/pg_cron.h"

#define ENGINE_PG_CRON  "pg_cron"
#define ENGINE_WORKER   "worker"
#define ENGINE_EXTERNAL "external"

/* schedule() of pg_cron replaces a job of the same name of the same user. */
static const CjStatement put_cron_job = {
	"put the cron job", "SELECT cron.alter_job(cron.schedule($1, $2, $3), active => $4)",
	SPI_OK_SELECT};

static const CjStatement remove_cron_job = {"remove the cron job",
											"SELECT cron.unschedule(j.jobid)"
											"  FROM cron.job j"
											" WHERE j.jobname = $1"
											"   AND j.database = pg_catalog.current_database()"
											"   AND j.username = CURRENT_USER",
											SPI_OK_SELECT};

static const CjStatement find_problem = CJ_CALL_ROWS("cron_problem($1, $2, $3, $4, $5)");

/* May we see and delete records? Those of cron jobs of other roles are hidden by a policy from most. */
static const CjStatement may_prune = {
	"see whether cron's records can be deleted",
	"SELECT pg_catalog.has_table_privilege('cron.job_run_details', 'SELECT')"
	"   AND pg_catalog.has_table_privilege('cron.job_run_details', 'DELETE')"
	"   AND (r.rolsuper OR r.rolbypassrls OR NOT c.relrowsecurity),"
	"       pg_catalog.quote_ident(r.rolname)"
	"  FROM pg_catalog.pg_roles r, pg_catalog.pg_class c"
	" WHERE r.rolname = CURRENT_USER"
	"   AND c.oid = 'cron.job_run_details'::pg_catalog.regclass",
	SPI_OK_SELECT};

/* $1: the bound; $2: the last of the page before; $3: how many */
static const CjStatement find_records = {
	"find cron's old records",
	"SELECT d.runid"
	"  FROM cron.job_run_details d"
	" WHERE d.runid > $2"
	"   AND d.jobid IN (SELECT j.jobid"
	"                     FROM cron.job j"
	"                    WHERE j.jobname LIKE 'challenge\\_jobs:%'"
	"                      AND j.database = pg_catalog.current_database()"
	"                      AND j.username = CURRENT_USER)"
	"   AND COALESCE(d.end_time, d.start_time) < $1"
	" ORDER BY d.runid"
	" LIMIT $3",
	SPI_OK_SELECT};

static const CjStatement delete_records = {
	"delete cron's old records", "DELETE FROM cron.job_run_details d WHERE d.runid = ANY ($1)",
	SPI_OK_DELETE};

static char *
cron_job_name(const CjJobDefinition *job)
{
	return psprintf("challenge_jobs:%s", job->name);
}

/* run_call returns the command that fires a job, or NULL where none is needed. */
static char *
run_call(const CjJobDefinition *job, const char *engine)
{
	if (strcmp(engine, ENGINE_WORKER) == 0)
		return NULL;
	return psprintf("CALL challenge_jobs.run('%s', '%s')", job->name, engine);
}

static bool
is_installed(void)
{
	return OidIsValid(get_extension_oid("pg_cron", true));
}

/* require_pg_cron raises an error with the way out where pg_cron is not installed here. */
static void
require_pg_cron(const CjJobDefinition *job, const CjJobConfig *config)
{
	const char *home = GetConfigOption("cron.database_name", true, false);
	const char *here = get_database_name(MyDatabaseId);
	const char *name = job->name;

	if (is_installed())
		return;
	if (home == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not loaded in this server"),
				 errdetail("To load it, add pg_cron to shared_preload_libraries, set "
						   "cron.database_name = '%s', restart, and CREATE EXTENSION pg_cron.", here),
				 errhint("To fire the job without it, run: SELECT * FROM challenge_jobs.schedule('%s', 'worker');", name)));
	if (strcmp(home, here) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"pg_cron\" is not installed in this database"),
				 errhint("Run: CREATE EXTENSION pg_cron;")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pg_cron is installed in database \"%s\", not in this one", home),
			 errdetail("Run the statement of the hint in database \"%s\", and "
					   "SELECT * FROM challenge_jobs.schedule('%s', 'external'); in this one.",
					   home, name),
			 errhint("Run: SELECT cron.schedule_in_database(%s, %s, %s, %s);",
					 quote_literal_cstr(psprintf("%s@%s", cron_job_name(job), here)),
					 quote_literal_cstr(cj_cron_spell_out(config->schedule)),
					 quote_literal_cstr(run_call(job, ENGINE_PG_CRON)),
					 quote_literal_cstr(here))));
}

const char *
cj_pg_cron_foreign_time_zone(void)
{
	/* before 1.5 there is no such setting, and schedules are in GMT */
	const char *zone = GetConfigOption("cron.timezone", true, false);

	if (zone == NULL || pg_strcasecmp(zone, "GMT") == 0 || pg_strcasecmp(zone, "UTC") == 0 ||
		pg_strcasecmp(zone, "Etc/GMT") == 0 || pg_strcasecmp(zone, "Etc/UTC") == 0 ||
		pg_strcasecmp(zone, "Zulu") == 0)
		return NULL;
	return zone;
}

static void
put_job(const CjJobDefinition *job, const CjJobConfig *config)
{
	cj_sql_execute_own(&put_cron_job,
					   CJ_PARAMS(CJ_TEXT(cron_job_name(job)),
								 CJ_TEXT(cj_cron_spell_out(config->schedule)),
								 CJ_TEXT(run_call(job, ENGINE_PG_CRON)), CJ_BOOL(config->enabled)));
}

static void
remove_job(const CjJobDefinition *job)
{
	if (!is_installed())
		return;
	cj_sql_execute_own(&remove_cron_job, CJ_PARAMS(CJ_TEXT(cron_job_name(job))));
}

static bool
is_preloaded(void)
{
	const char *setting = GetConfigOption("shared_preload_libraries", true, false);
	List *libraries = NIL;
	ListCell *cell;

	if (setting == NULL || !SplitDirectoriesString(pstrdup(setting), ',', &libraries))
		return false;
	foreach(cell, libraries)
	{
		char *name = basename(lfirst(cell));

		if (strcmp(name, "challenge_jobs") == 0 || strcmp(name, "challenge_jobs.so") == 0)
			return true;
	}
	return false;
}

const char *
cj_pg_cron_worker_problem(const char **hint)
{
	const char *here = get_database_name(MyDatabaseId);

	if (!is_preloaded())
	{
		*hint =
			psprintf("Add challenge_jobs to shared_preload_libraries and set "
					 "challenge_jobs.databases = %s in postgresql.conf, then restart the server.",
					 cj_database_list_with(here));
		return "the library is not in shared_preload_libraries, so there is no worker";
	}
	if (cj_database_list_has(here))
		return NULL;
	*hint =
		psprintf("Run: ALTER SYSTEM SET challenge_jobs.databases = %s; SELECT pg_reload_conf();",
				 cj_database_list_with(here));
	return "this database is not in challenge_jobs.databases, so the worker does not serve it";
}

void
cj_pg_cron_warn_of_worker(void)
{
	const char *hint;
	const char *problem = cj_pg_cron_worker_problem(&hint);

	if (problem)
		ereport(WARNING,
				(errmsg("the jobs will not be fired yet"), errdetail_internal("%c%s.", pg_toupper(problem[0]), problem + 1),
				 errhint("%s", hint)));
}

static const char *
choose_engine(const CjJobDefinition *job, const CjJobConfig *config, const char *engine,
			  bool of_all)
{
	if (engine == NULL)
		return config->engine ? config->engine : ENGINE_PG_CRON;
	if (strcmp(engine, ENGINE_PG_CRON) == 0 || strcmp(engine, ENGINE_WORKER) == 0 ||
		strcmp(engine, ENGINE_EXTERNAL) == 0)
		return engine;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no engine \"%s\"", engine),
			 errdetail("The engines are: pg_cron, worker, external."),
			 of_all ?
			 errhint("Run: SELECT * FROM challenge_jobs.schedule(engine => 'pg_cron');") :
			 errhint("Run: SELECT * FROM challenge_jobs.schedule('%s', 'pg_cron');", job->name)));
	return NULL;
}

CjSchedule
cj_pg_cron_schedule(const CjJobDefinition *job, const char *engine, bool of_all)
{
	CjJobConfig *config = cj_job_config_load(job);
	CjSchedule schedule;
	const char *zone;

	schedule.engine = choose_engine(job, config, engine, of_all);
	schedule.schedule = config->schedule;
	schedule.command = run_call(job, schedule.engine);
	if (strcmp(schedule.engine, ENGINE_PG_CRON) == 0)
	{
		require_pg_cron(job, config);
		put_job(job, config);
		zone = cj_pg_cron_foreign_time_zone();
		if (zone)
			ereport(WARNING,
					(errmsg("pg_cron reads schedules in the time zone \"%s\", not in UTC", zone),
					 errhint("Run: ALTER SYSTEM SET cron.timezone = 'GMT'; then restart the server.")));
	}
	else
		remove_job(job);
	cj_installation_renew();
	cj_job_config_set_engine(job, schedule.engine);
	return schedule;
}

const char *
cj_pg_cron_unschedule(const CjJobDefinition *job)
{
	CjJobConfig *config = cj_job_config_load(job);

	if (config->engine == NULL)
		return NULL;
	if (strcmp(config->engine, ENGINE_PG_CRON) == 0)
		remove_job(job);
	cj_job_config_set_engine(job, NULL);
	return config->engine;
}

void
cj_pg_cron_update(const CjJobDefinition *job)
{
	CjJobConfig *config = cj_job_config_load(job);

	if (config->engine == NULL || strcmp(config->engine, ENGINE_PG_CRON) != 0)
		return;
	if (is_installed())
		put_job(job, config);
	else
		ereport(WARNING,
				(errmsg("job \"%s\" is scheduled by pg_cron, which is not installed in this database",
						job->name),
				 errhint("Run: SELECT * FROM challenge_jobs.unschedule('%s');", job->name)));
}

const char *
cj_pg_cron_problem(const CjJobDefinition *job, const CjJobConfig *config, const char **hint)
{
	CjRows rows;
	const char *problem = NULL;

	if (!is_installed())
	{
		*hint =
			psprintf("Run: SELECT * FROM challenge_jobs.schedule('%s', 'external');", job->name);
		return "extension \"pg_cron\" is not installed in this database";
	}
	rows = cj_sql_run_own(&find_problem, CJ_PARAMS(CJ_TEXT(job->name), CJ_TEXT(cron_job_name(job)),
												   CJ_TEXT(cj_cron_spell_out(config->schedule)),
												   CJ_TEXT(run_call(job, ENGINE_PG_CRON)),
												   CJ_BOOL(config->enabled)));
	if (rows.processed > 0)
	{
		problem = cj_sql_text(&rows, 0, 1);
		*hint = cj_sql_text(&rows, 0, 2);
	}
	cj_sql_free(&rows);
	return problem;
}

const char *
cj_pg_cron_prune_problem(const char **hint)
{
	CjRows rows;
	const char *problem = NULL;

	*hint = "Run: SELECT challenge_jobs.alter_job('cleanup_expired_notifications', "
			"settings => '{\"prune_cron_history\": false}');";
	if (!is_installed())
		return "extension \"pg_cron\" is not installed in this database";
	rows = cj_sql_run_own(&may_prune, NULL);
	if (!cj_sql_bool(&rows, 0, 1))
	{
		problem = "the owner of the extension may not delete from cron.job_run_details";
		*hint = psprintf("Run: ALTER ROLE %s BYPASSRLS; "
						 "GRANT SELECT, DELETE ON cron.job_run_details TO %s;",
						 cj_sql_text(&rows, 0, 2), cj_sql_text(&rows, 0, 2));
	}
	cj_sql_free(&rows);
	return problem;
}

int
cj_pg_cron_prune(TimestampTz before, int limit, int64 *last)
{
	CjRows rows =
		cj_sql_run_own(&find_records, CJ_PARAMS(CJ_MOMENT(before), CJ_INT8(*last), CJ_INT8(limit)));
	int count = (int) rows.processed;

	if (count == 0)
		return count;
	*last = cj_sql_int64(&rows, count - 1, 1);
	cj_sql_execute_own(&delete_records,
					   CJ_PARAMS(CJ_ARRAY(INT8OID, cj_sql_column(&rows, 1, INT8OID))));
	cj_sql_free(&rows);
	return count;
}
