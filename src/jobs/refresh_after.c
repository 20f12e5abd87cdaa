/*
 * jobs/refresh_after.c
 *		The refresh that follows runs which have decided challenges.
 *
 * The worker starts it (worker/due). Which runs a refresh has seen it says itself, in its result: the row of a run becomes
 * visible together with what it has decided, so that no clocks have to be compared.
 */
#include "postgres.h"

#include "base/sql.h"
#include "jobs/refresh_after.h"
#include "run/run_log.h"

static const CjStatement find_last_run = {"find the last run that decided challenges",
										  "SELECT COALESCE((" CJ_LAST_DECIDING_RUN(
											  "s.run_id") "), 0)",
										  SPI_OK_SELECT};

bool
cj_refresh_after_is_limited(const CjRun *run)
{
	const CjJobConfig *config;

	if (strcmp(run->triggered_by, CJ_AFTER_DECISIONS) != 0)
		return false;
	config = cj_job_config_load(&cj_job_auto_complete_challenges.definition);
	return strcmp(cj_settings_text(config->settings, "refresh_after"), "tracked") == 0;
}

int64
cj_refresh_after_last_run(void)
{
	return cj_sql_int64_own(&find_last_run, NULL);
}

void
cj_refresh_after_examine(const CjJobConfig *config, CjFindings *findings)
{
}
