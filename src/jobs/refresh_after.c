/*
 * jobs/refresh_after.c
 *		The refresh that follows runs which have decided challenges.
 *
 * The worker starts it (worker/due). Which runs a refresh has seen it says itself, in its result: the row of a run becomes
 * visible together with what it has decided, so that no clocks have to be compared.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "config/pg_cron.h"
#include "jobs/refresh_after.h"
#include "run/run_log.h"

/* How long after challenges were decided a refresh may come, and how long after it one is proposed, in minutes. */
#define TOLERANCE 15
#define LATER     5

/* Runs that take so long are waited for by a refresh that is due in the same minute, in seconds. */
#define PATIENCE 30

/* Fields of a schedule that leave nothing out. */
#define ALL_HOURS    UINT64CONST(0xFFFFFF)
#define ALL_DAYS     UINT64CONST(0xFFFFFFFE)
#define ALL_MONTHS   0x1FFE
#define ALL_WEEKDAYS 0x7F

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

/* ---- for the doctor ---- */

static const CjStatement find_habits = {
	"find how long challenges are being decided, and whether a view is tracked",
	"SELECT COALESCE(pg_catalog.ceil(EXTRACT(epoch FROM s.p95_duration)), 0)::pg_catalog.int8,"
	"       EXISTS (SELECT FROM challenge_jobs.tracking)"
	"  FROM challenge_jobs.job_status s"
	" WHERE s.job = '" CJ_DECIDING_JOB "'",
	SPI_OK_SELECT};

/* From when challenges are decided to the refresh that sees it. */
typedef struct Gap
{
	TimestampTz from;
	TimestampTz to;
} Gap;

/* find_longest_gap looks at the next hundred times at which challenges are decided, by runs that take so many seconds. */
static Gap
find_longest_gap(const CjCronExpression *deciding, const CjCronExpression *refresh, int64 seconds)
{
	Gap longest = {0};
	Gap gap = {.from = GetCurrentTimestamp()};
	int64 begins = seconds > PATIENCE ? seconds * USECS_PER_SEC : 0;

	for (int i = 0; i < 100 && cj_cron_next(deciding, gap.from, &gap.from); i++)
	{
		if (cj_cron_next(refresh, gap.from + begins - 1, &gap.to) &&
			gap.to - gap.from > longest.to - longest.from)
			longest = gap;
	}
	return longest;
}

/* put_field appends a field of a schedule. */
static void
put_field(StringInfo schedule, uint64 bits, int count)
{
	const char *separator = "";

	for (int i = 0; i < count; i++)
	{
		if (bits & UINT64CONST(1) << i)
		{
			appendStringInfo(schedule, "%s%d", separator, i);
			separator = ",";
		}
	}
}

/*
 * propose_schedule returns the schedule of the refresh with a time so many minutes after each at which challenges are
 * decided. A single minute of the hour gives way. NULL: it is too special.
 */
static char *
propose_schedule(const CjCronExpression *deciding, const CjCronExpression *refresh, int later)
{
	uint64 minutes = (refresh->minutes & (refresh->minutes - 1)) == 0 ? 0 : refresh->minutes;
	uint64 hours = refresh->hours;
	StringInfoData schedule;

	if (refresh->days != ALL_DAYS || refresh->months != ALL_MONTHS ||
		refresh->weekdays != ALL_WEEKDAYS)
		return NULL;
	for (int minute = 0; minute < 60; minute++)
	{
		int carry = (minute + later) / 60 % 24;

		if ((deciding->minutes & UINT64CONST(1) << minute) == 0)
			continue;
		minutes |= UINT64CONST(1) << (minute + later) % 60;
		hours |= (uint64) deciding->hours << carry | (uint64) deciding->hours >> (24 - carry);
	}
	initStringInfo(&schedule);
	put_field(&schedule, minutes, 60);
	appendStringInfoChar(&schedule, ' ');
	if ((hours & ALL_HOURS) == ALL_HOURS)
		appendStringInfoChar(&schedule, '*');
	else
		put_field(&schedule, hours, 24);
	appendStringInfoString(&schedule, " * * *");
	return schedule.data;
}

/* add_gap adds what was found, and what closes the gap: the worker by its setting, another schedule, or a worker. */
static void
add_gap(CjFindings *findings, const Gap *gap, const char *proposal, const char *worker_hint)
{
	const char *finding =
		psprintf("what is decided at %s is in the statistics from %s on: %s",
				 pstrdup(timestamptz_to_str(gap->from)), pstrdup(timestamptz_to_str(gap->to)),
				 worker_hint ? "no worker refreshes them right after"
							 : "no view is tracked, and the worker refreshes tracked views only");
	const char *hint = worker_hint;

	if (worker_hint == NULL)
		hint = "Run: SELECT challenge_jobs.alter_job('" CJ_DECIDING_JOB
			   "', settings => '{\"refresh_after\": \"all\"}');";
	else if (proposal)
		hint = psprintf("Run: SELECT challenge_jobs.alter_job('" CJ_FOLLOWING_JOB
						"', schedule => '%s');",
						proposal);
	cj_findings_add_hint(findings, "refresh_after", "warning", finding, hint);
}

void
cj_refresh_after_examine(const CjJobConfig *config, CjFindings *findings)
{
	const CjJobConfig *deciding = cj_job_config_load(&cj_job_auto_complete_challenges.definition);
	const char *views = cj_settings_text(deciding->settings, "refresh_after");
	const char *hint = NULL;
	CjRows rows;
	int64 seconds;
	bool has_tracked;
	bool has_worker;
	int later;
	Gap gap;

	if (config->engine == NULL || deciding->engine == NULL || !deciding->enabled ||
		strcmp(views, "off") == 0)
		return;
	rows = cj_sql_run_own(&find_habits, NULL);
	seconds = cj_sql_int64(&rows, 0, 1);
	has_tracked = cj_sql_bool(&rows, 0, 2);
	cj_sql_free(&rows);
	has_worker = cj_pg_cron_worker_problem(&hint) == NULL;
	if (has_worker && (has_tracked || strcmp(views, "all") == 0))
		return;
	later = (int) Max(LATER, seconds / SECS_PER_MINUTE + 2);
	gap = find_longest_gap(&deciding->cron, &config->cron, seconds);
	if (gap.to - gap.from > Max(TOLERANCE, later) * USECS_PER_MINUTE)
		add_gap(findings, &gap, propose_schedule(&deciding->cron, &config->cron, later),
				has_worker ? NULL : hint);
}
