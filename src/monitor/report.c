/*
 * monitor/report.c
 *		A page that shows how the jobs are doing: HTML that is well-formed XML as well.
 *
 * report_page() of the install script makes it, as the owner of the extension: what is passed to it is what the
 * caller alone can be asked for. The page loads nothing and runs nothing, and says so to the browser.
 *
 * To call the function takes the right to do so and no other: whoever has it is shown what the extension's
 * owner can read in the extension's tables.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "alerts/command.h"
#include "base/sql.h"
#include "monitor/report.h"

#define MAX_YEARS 100
#define EXAMPLE   "Run: SELECT challenge_jobs.report_html('7 days');"

/* $1 the caller */
static const CjStatement may_call_doctor = {
	"find whether the caller may call the doctor",
	"SELECT pg_catalog.has_schema_privilege($1, 'challenge_jobs', 'USAGE')"
	"   AND pg_catalog.has_function_privilege($1, 'challenge_jobs.doctor()', 'EXECUTE')",
	SPI_OK_SELECT};

/* As the caller, who may have any search_path. */
static const CjStatement ask_doctor = {"ask the doctor",
									   "SELECT COALESCE(pg_catalog.jsonb_agg(d), '[]')"
									   "  FROM challenge_jobs.doctor() d"
									   " WHERE d.status OPERATOR(pg_catalog.<>) 'ok'",
									   SPI_OK_SELECT};

/* $1 since when and $2 until when, in UTC, $3 the findings or null, $4 whether alerts have a command, $5 the version */
static const CjStatement make_page = CJ_CALL("report_page($1, $2, $3, $4, $5)");

/* is_within returns whether a part of an interval is at most so large, in either direction. */
static bool
is_within(int64 part, int64 limit)
{
	return part >= -limit && part <= limit;
}

static TimestampTz
find_since(const Interval *since, TimestampTz now)
{
	TimestampTz begin = now;

	/* a timestamp without a zone is the same number, and knows no zone whose days could be longer */
	if (is_within(since->month, MAX_YEARS * MONTHS_PER_YEAR) &&
		is_within(since->day, MAX_YEARS * 366) &&
		is_within(since->time, MAX_YEARS * 366 * USECS_PER_DAY))
		begin = DatumGetTimestamp(
			DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(now),
								IntervalPGetDatum(unconstify(Interval *, since))));
	if (now - begin < USECS_PER_MINUTE || now - begin > MAX_YEARS * 366 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("since must be from 1 minute to %d years", MAX_YEARS),
				 errhint(EXAMPLE)));
	return begin;
}

/* find_findings returns what the doctor says that is not ok, or null if the caller may not ask. */
static CjValue
find_findings(void)
{
	CjRows rows = cj_sql_run_own(&may_call_doctor, CJ_PARAMS(CJ_OID(GetUserId())));
	CjValue findings = CJ_VALUE(JSONBOID, (Datum) 0, true);

	if (!cj_sql_bool(&rows, 0, 1))
		return findings;
	rows = cj_sql_run(&ask_doctor, NULL, NULL);
	findings.datum = cj_sql_datum(&rows, 0, 1, &findings.isnull);
	cj_sql_free(&rows);
	return findings;
}

char *
cj_report_html(const Interval *since)
{
	TimestampTz now = GetCurrentTimestamp();

	return cj_sql_text_own(
		&make_page,
		CJ_PARAMS(CJ_VALUE(TIMESTAMPOID, TimestampGetDatum(find_since(since, now)), false),
				  CJ_VALUE(TIMESTAMPOID, TimestampGetDatum(now), false), find_findings(),
				  CJ_BOOL(cj_alert_command_is_set()), CJ_TEXT(CJ_VERSION)));
}
