/*
 * config/job_config.c
 *		The configuration of the jobs.
 *
 * The view challenge_jobs.job is the one place where defaults and overrides are put together; C reads it, too.
 * Only what differs from the default is stored, so that a dump carries no copy of defaults that a later version
 * may change.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/local_time.h"
#include "base/sql.h"
#include "config/cron.h"
#include "config/job_config.h"

/* Upper limit of durations: what a timeout in milliseconds can hold. */
#define MAX_DURATION_DAYS 24

static const CjStatement load_job = {
	"load the configuration of a job",
	"SELECT j.enabled, j.schedule, j.engine,"
	"       (EXTRACT(epoch FROM j.max_runtime) * 1000)::pg_catalog.int8,"
	"       j.settings"
	"  FROM challenge_jobs.job j"
	" WHERE j.job = $1",
	SPI_OK_SELECT};

static const CjStatement load_timestamp_time_zone = {
	"load the time zone of timestamps",
	"SELECT COALESCE(NULLIF(j.settings ->> 'timestamp_time_zone', 'day_time_zone'), j.settings ->> 'day_time_zone')"
	"  FROM challenge_jobs.job j"
	" WHERE j.job = 'auto_complete_challenges'",
	SPI_OK_SELECT};

static const CjStatement override_job = CJ_CALL("override_job($1, $2, $3, $4, $5, $6, $7, $8, $9)");
static const CjStatement drop_override = CJ_CALL("drop_override($1)");
static const CjStatement set_engine = CJ_CALL("set_engine($1, $2)");

/* add_stored_context says that the invalid settings are stored ones, and how to remove them. */
static void
add_stored_context(void *arg)
{
	errcontext("stored settings of the job; SELECT challenge_jobs.reset_job('%s') removes them",
			   ((const CjJobDefinition *) arg)->name);
}

CjJobConfig *
cj_job_config_load(const CjJobDefinition *job)
{
	CjJobConfig *config = palloc0(sizeof(CjJobConfig));
	CjRows rows = cj_sql_run_own(&load_job, CJ_PARAMS(CJ_TEXT(job->name)));
	ErrorContextCallback context = {error_context_stack, add_stored_context,
									unconstify(CjJobDefinition *, job)};
	char *problem;
	bool isnull;

	if (rows.processed != 1)
		elog(ERROR, "job \"%s\" is not in challenge_jobs.job", job->name);
	config->enabled = cj_sql_bool(&rows, 0, 1);
	config->schedule = cj_sql_text(&rows, 0, 2);
	config->engine = cj_sql_text(&rows, 0, 3);
	config->max_runtime_ms = (int) Min(Max(cj_sql_int64(&rows, 0, 4), 0), PG_INT32_MAX);
	config->settings = DatumGetJsonbP(cj_sql_datum(&rows, 0, 5, &isnull));
	cj_sql_free(&rows);

	/* the table may have been written by another version, or by hand */
	error_context_stack = &context;
	cj_settings_check(job->name, job->settings, config->settings, false);
	problem = cj_cron_parse(config->schedule, &config->cron);
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stored schedule \"%s\" of job \"%s\" is not valid", config->schedule,
						job->name),
				 errdetail("%s", problem),
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', schedule => '%s');", job->name,
						 job->schedule)));
	error_context_stack = context.previous;
	return config;
}

char *
cj_job_config_timestamp_time_zone(void)
{
	char *name = cj_sql_text_own(&load_timestamp_time_zone, NULL);

	if (name == NULL || cj_local_time_zone(name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stored setting \"timestamp_time_zone\" or \"day_time_zone\" is not a time zone"),
				 errhint("Run: SELECT challenge_jobs.reset_job('auto_complete_challenges');")));
	return name;
}

/* reject raises the error of a value that is not valid; the default, as SQL, is the one that could be typed. */
static void
reject(const CjJobDefinition *job, const char *name, const char *detail, const char *default_value)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s for job \"%s\"", name, job->name), errdetail("%s", detail),
			 errhint("Run: SELECT challenge_jobs.alter_job('%s', %s => %s);", job->name, name,
					 default_value)));
}

/* check_duration checks that a duration is from 0 to MAX_DURATION_DAYS. */
static void
check_duration(const CjJobDefinition *job, const char *name, const Interval *value,
			   const char *default_value)
{
	const int64 limit = MAX_DURATION_DAYS * USECS_PER_DAY;

	if (value == NULL)
		return;
	if (value->month == 0 && value->day >= 0 && value->day <= MAX_DURATION_DAYS)
	{
		int64 usecs = value->day * USECS_PER_DAY + Max(Min(value->time, 2 * limit), -2 * limit);

		if (usecs >= 0 && usecs <= limit)
			return;
	}
	reject(job, name,
		   psprintf("It takes an interval from 0 to %d days, without months.", MAX_DURATION_DAYS),
		   quote_literal_cstr(default_value));
}

/* check_schedule checks a schedule, and warns of one that never comes. */
static void
check_schedule(const CjJobDefinition *job, const char *schedule)
{
	CjCronExpression cron;
	TimestampTz moment;
	char *problem = cj_cron_parse(schedule, &cron);

	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\" for job \"%s\"", schedule, job->name),
				 errdetail("%s", problem),
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', schedule => '%s');", job->name,
						 job->schedule)));
	if (!cj_cron_next(&cron, GetCurrentTimestamp(), &moment))
		ereport(WARNING,
				(errmsg("schedule \"%s\" of job \"%s\" names a day that does not exist", schedule,
						job->name),
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', schedule => '%s');", job->name,
						 job->schedule)));
}

static void
check_change(const CjJobDefinition *job, const CjJobChange *change)
{
	if (change->schedule)
		check_schedule(job, change->schedule);
	check_duration(job, "max_runtime", change->max_runtime, job->max_runtime);
	check_duration(job, "retry_delay", change->retry_delay, job->retry_delay);
	check_duration(job, "grace", change->grace, job->grace);
	if (change->max_retries && (*change->max_retries < 0 || *change->max_retries > 100))
		reject(job, "max_retries",
			   psprintf("It takes a number from 0 to 100, not %d.", *change->max_retries),
			   psprintf("%d", job->max_retries));
	if (change->catch_up && strcmp(change->catch_up, "once") != 0 &&
		strcmp(change->catch_up, "skip") != 0)
		reject(job, "catch_up",
			   psprintf("It takes \"once\" or \"skip\", not \"%s\".", change->catch_up),
			   quote_literal_cstr(job->catch_up));
	if (change->settings)
		cj_settings_check(job->name, job->settings, change->settings, true);
}

void
cj_job_config_alter(const CjJobDefinition *job, const CjJobChange *change)
{
	check_change(job, change);
	cj_sql_execute_own(
		&override_job,
		CJ_PARAMS(CJ_TEXT(job->name), CJ_TEXT(change->schedule),
				  CJ_VALUE(BOOLOID, BoolGetDatum(change->enabled ? *change->enabled : false),
						   change->enabled == NULL),
				  CJ_VALUE(INTERVALOID, PointerGetDatum(change->max_runtime),
						   change->max_runtime == NULL),
				  CJ_VALUE(INT4OID, Int32GetDatum(change->max_retries ? *change->max_retries : 0),
						   change->max_retries == NULL),
				  CJ_VALUE(INTERVALOID, PointerGetDatum(change->retry_delay),
						   change->retry_delay == NULL),
				  CJ_TEXT(change->catch_up),
				  CJ_VALUE(INTERVALOID, PointerGetDatum(change->grace), change->grace == NULL),
				  CJ_VALUE(JSONBOID, PointerGetDatum(change->settings), change->settings == NULL)));
}

void
cj_job_config_reset(const CjJobDefinition *job)
{
	cj_sql_execute_own(&drop_override, CJ_PARAMS(CJ_TEXT(job->name)));
}

void
cj_job_config_set_engine(const CjJobDefinition *job, const char *engine)
{
	cj_sql_execute_own(&set_engine, CJ_PARAMS(CJ_TEXT(job->name), CJ_TEXT(engine)));
}

int64
cj_job_config_shortest_grace(void)
{
	const char *naptime = GetConfigOptionByName("challenge_jobs.worker_naptime", NULL, true);
	int milliseconds;

	if (naptime == NULL || !parse_int(naptime, &milliseconds, GUC_UNIT_MS, NULL))
		return 0;
	return milliseconds * INT64CONST(2000);
}
