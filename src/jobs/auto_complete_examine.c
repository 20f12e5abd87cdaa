/*
 * jobs/auto_complete_examine.c
 *		For the doctor: whether the rule of completion, and the schedule, fit the app's data.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "app/app_sql.h"
#include "base/identity.h"
#include "base/local_time.h"
#include "jobs/auto_complete_examine.h"
#include "run/job.h"

/* From this estimated cost on, the statistics are not read for the doctor. */
#define MAX_COST 500000

/* How many rates that are not whole are to say how many digits they have. */
#define MIN_RATES "20"

/*
 * $1: the threshold, $2: the digits that count. A part of the rates is enough: how many they are, how many of them are NULL
 * and above 100, by how many digits they are rounded, the threshold as a fraction where they are all fractions, and in
 * per cent where they are not and it is one.
 */
static const CjStatement examine_rates = {
	"examine the completion rates",
	"SELECT x.rates, x.nulls, x.above,\n"
	"       CASE WHEN x.broken >= " MIN_RATES " AND x.scale BETWEEN 1 AND 2 AND x.scale < $2\n"
	"            THEN x.scale::pg_catalog.text END,\n"
	"       CASE WHEN x.highest > 0 AND x.highest <= 1 AND $1 > 1\n"
	"            THEN pg_catalog.trim_scale($1 / 100)::pg_catalog.text END,\n"
	"       CASE WHEN x.highest > 1 AND $1 > 0 AND $1 <= 1\n"
	"            THEN pg_catalog.trim_scale($1 * 100)::pg_catalog.text END\n"
	"  FROM (SELECT pg_catalog.count(*) AS rates,\n"
	"               pg_catalog.count(*) FILTER (WHERE s.rate IS NULL) AS nulls,\n"
	"               pg_catalog.count(*) FILTER (WHERE s.rate > 100) AS above,\n"
	"               pg_catalog.count(*) FILTER (WHERE s.rate <> pg_catalog.trunc(s.rate)) AS broken,\n"
	"               pg_catalog.max(s.rate) AS highest, pg_catalog.max(pg_catalog.min_scale(s.rate)) AS scale\n"
	"          FROM (SELECT s.{challenge_member_stats.completion_rate}::pg_catalog.numeric AS rate\n"
	"                  FROM {challenge_member_stats} s LIMIT 100000) s) x",
	SPI_OK_SELECT};

/* $1: a status, as text */
static const CjStatement find_status = {
	"look whether members have a status",
	"SELECT EXISTS (SELECT FROM {challenge_members} m\n"
	"                WHERE m.{challenge_members.status}::pg_catalog.text OPERATOR(pg_catalog.=) $1)\n"
	"    OR NOT EXISTS (SELECT FROM {challenge_members} m)",
	SPI_OK_SELECT};

/* $1: a bound of end_date. Some of them are enough. */
static const CjStatement count_old = {
	"count challenges that ended long ago and are active",
	"SELECT pg_catalog.count(*)\n"
	"  FROM (SELECT FROM {challenges} c\n"
	"         WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"           AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1 LIMIT 10000) c",
	SPI_OK_SELECT};

/* How many days after their end challenges should have been decided. */
#define OLD_DAYS 30

/* add_setting_finding adds a finding whose remedy is to set a setting. */
static void
add_setting_finding(CjFindings *findings, const char *check_name, const char *finding,
					const char *setting, const char *value)
{
	cj_findings_add(findings, check_name, "warning", finding,
					psprintf("SELECT challenge_jobs.alter_job('auto_complete_challenges', "
							 "settings => '{\"%s\": %s}');",
							 setting, value));
}

/* add_rate_findings says what the rates are like. */
static void
add_rate_findings(const CjJobConfig *config, const CjRows *rows, CjFindings *findings)
{
	int64 count = cj_sql_int64(rows, 0, 1);
	int64 nulls = cj_sql_int64(rows, 0, 2);
	int64 above = cj_sql_int64(rows, 0, 3);
	const char *digits = cj_sql_text(rows, 0, 4);
	const char *fraction = cj_sql_text(rows, 0, 5);
	const char *percentage = cj_sql_text(rows, 0, 6);

	if (nulls > 0 && !cj_settings_bool(config->settings, "count_nulls_as_zero"))
		add_setting_finding(findings, "null_rates:challenge_member_stats",
							psprintf(INT64_FORMAT " of " INT64_FORMAT
												  " completion rates are NULL, and do not count",
									 nulls, count),
							"count_nulls_as_zero", "true");
	if (above > 0)
		cj_findings_add_hint(
			findings, "high_rates:challenge_member_stats", "warning",
			psprintf(INT64_FORMAT " of " INT64_FORMAT " completion rates are above 100", above,
					 count),
			"One member can lift the average of all others; limit the rates in the view, as in: least(rate, 100).");
	if (digits)
		add_setting_finding(
			findings, "digits:challenge_member_stats",
			psprintf(
				"completion rates are rounded to %s digits, and their average is compared by %d: an average that an app shows as the threshold can be below it",
				digits, cj_settings_int(config->settings, "completion_digits")),
			"completion_digits", digits);
	if (percentage)
		add_setting_finding(
			findings, "fractions:challenge_member_stats",
			"completion rates are above 1, so that nearly every challenge is completed: the threshold may have to be in per cent",
			"completion_threshold", percentage);
	if (fraction)
		add_setting_finding(
			findings, "fractions:challenge_member_stats",
			"no completion rate is above 1, so that every challenge fails: they may be fractions",
			"completion_threshold", fraction);
}

static void
examine_rates_as_owner(const CjJobConfig *config, const CjBinding *binding, CjFindings *findings)
{
	const char *text = cj_app_sql_expand(&examine_rates, binding, NULL);
	CjParams params = {0};
	CjRows rows;

	cj_sql_param(&params, NUMERICOID,
				 NumericGetDatum(cj_settings_numeric(config->settings, "completion_threshold")),
				 false);
	cj_sql_param(&params, INT4OID,
				 Int32GetDatum(cj_settings_int(config->settings, "completion_digits")), false);
	if (cj_sql_estimate(&examine_rates, text, &params) > MAX_COST)
	{
		cj_findings_add(findings, "rates:challenge_member_stats", "ok",
						"completion rates are not examined, since reading them takes long", NULL);
		return;
	}
	rows = cj_sql_run(&examine_rates, text, &params);
	add_rate_findings(config, &rows, findings);
	cj_sql_free(&rows);
}

/* examine_statuses reports statuses that are to count and that no member has; raises an error if none can have it. */
static void
examine_statuses(const CjJobConfig *config, const CjBinding *binding, CjFindings *findings)
{
	ListCell *cell;

	foreach(cell, cj_settings_labels(config->settings, "count_member_statuses"))
	{
		CjRows rows;

		(void) cj_bound_table_setting_value(
			"count_member_statuses",
			&binding->entities[CJ_CHALLENGE_MEMBERS].columns[CJ_MEMBERS_STATUS], lfirst(cell));
		rows = cj_app_sql_run(&find_status, binding, NULL, CJ_PARAMS(CJ_TEXT(lfirst(cell))));
		if (!cj_sql_bool(&rows, 0, 1))
			cj_findings_add_hint(
				findings, "statuses:challenge_members", "warning",
				psprintf("no member has the status \"%s\" of count_member_statuses",
						 (char *) lfirst(cell)),
				"Set count_member_statuses to the statuses of members whose rates count.");
		cj_sql_free(&rows);
	}
}

void
cj_auto_complete_examine_rates(const CjJobConfig *config, const CjBinding *binding,
							   CjFindings *findings)
{
	CjIdentity identity;

	cj_identity_become_owner(&identity, binding->owner, binding->search_path, "UTC");
	if (binding->entities[CJ_CHALLENGE_MEMBER_STATS].is_populated)
		examine_rates_as_owner(config, binding, findings);
	examine_statuses(config, binding, findings);
	cj_identity_restore(&identity);
}

/* ---- when ---- */

/* How many days are looked at: all offsets of a zone occur in a year. */
#define DAYS 366

/* How late a due challenge may be decided without a word. */
#define TOLERATED_MINUTES 60

/* end_of_day returns when a day from today on ends in a zone; false if the zone does not have the next one. */
static bool
end_of_day(int day, pg_tz *zone, TimestampTz *end)
{
	return cj_local_time_moment(cj_local_time_date(GetCurrentTimestamp(), zone) + day + 1, 0, zone,
								end);
}

static pg_tz *
day_time_zone(const CjJobConfig *config)
{
	return cj_local_time_zone(cj_settings_text(config->settings, "day_time_zone"));
}

/* append_members writes the members of a set of numbers, as a field of a schedule has them. */
static void
append_members(StringInfo schedule, uint64 set)
{
	const char *separator = "";

	for (int i = 0; i < 64; i++)
	{
		if (set & UINT64CONST(1) << i)
		{
			appendStringInfo(schedule, "%s%d", separator, i);
			separator = ",";
		}
	}
}

/* propose_schedule returns a schedule that fires when days are over in day_time_zone, and settled. */
static char *
propose_schedule(const CjJobConfig *config, int64 settle_after)
{
	pg_tz *zone = day_time_zone(config);
	uint64 minutes = 0;
	uint64 hours = 0;
	StringInfoData schedule;
	TimestampTz due;

	for (int day = 0; day < DAYS; day++)
	{
		if (end_of_day(day, zone, &due))
		{
			int64 minute = (due + settle_after + USECS_PER_MINUTE - 1) / USECS_PER_MINUTE;

			minutes |= UINT64CONST(1) << minute % MINS_PER_HOUR;
			hours |= UINT64CONST(1) << minute / MINS_PER_HOUR % HOURS_PER_DAY;
		}
	}
	initStringInfo(&schedule);
	append_members(&schedule, minutes);
	appendStringInfoChar(&schedule, ' ');
	append_members(&schedule, hours);
	appendStringInfoString(&schedule, " * * *");
	return schedule.data;
}

/* longest_delay returns how many minutes after a day has settled the schedule fires, at most. */
static int
longest_delay(const CjJobConfig *config, int64 settle_after)
{
	pg_tz *zone = day_time_zone(config);
	int64 delay = 0;
	TimestampTz due;
	TimestampTz fires;

	for (int day = 0; day < DAYS; day++)
	{
		if (end_of_day(day, zone, &due) &&
			cj_cron_next(&config->cron, due + settle_after - 1, &fires))
			delay = Max(delay, fires - due - settle_after);
	}
	return delay / USECS_PER_MINUTE;
}

static bool
ends_with_day(const CjBinding *binding)
{
	return binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_END_DATE].base_type == DATEOID;
}

/* A schedule that leaves out days is meant so. */
void
cj_auto_complete_examine_schedule(const CjJobConfig *config, const CjBinding *binding,
								  CjFindings *findings)
{
	int64 settle_after = cj_settings_microseconds(config->settings, "settle_after");
	int gap = cj_cron_longest_gap(&config->cron);
	int delay = ends_with_day(binding) ? longest_delay(config, settle_after) : gap;

	if (gap > MINS_PER_HOUR * HOURS_PER_DAY || delay <= TOLERATED_MINUTES)
		return;
	cj_findings_add(
		findings, "late:auto_complete_challenges", "warning",
		psprintf("challenges are decided by \"%s\" up to %d hours after they are due",
				 config->schedule, (delay + MINS_PER_HOUR - 1) / MINS_PER_HOUR),
		psprintf("SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '%s');",
				 ends_with_day(binding) ? propose_schedule(config, settle_after) : "*/15 * * * *"));
}

void
cj_auto_complete_examine_zone(const char *west, const CjBinding *binding, CjFindings *findings)
{
	const CjJobConfig *config = cj_job_config_load(&cj_job_auto_complete_challenges.definition);
	int64 settle_after = cj_settings_microseconds(config->settings, "settle_after");
	int64 lag = 0;
	int hours;
	TimestampTz end;
	TimestampTz west_end;

	if (!ends_with_day(binding))
		return;
	for (int day = 0; day < DAYS; day++)
	{
		DateADT date = cj_local_time_date(GetCurrentTimestamp(), day_time_zone(config)) + day;

		if (cj_local_time_moment(date, 0, day_time_zone(config), &end) &&
			cj_local_time_moment(date, 0, cj_local_time_zone(west), &west_end))
			lag = Max(lag, west_end - end);
	}
	if (lag <= settle_after)
		return;
	hours = (lag + USECS_PER_HOUR - 1) / USECS_PER_HOUR;
	cj_findings_add(
		findings, "settle:auto_complete_challenges", "warning",
		psprintf(
			"the day ends up to %d hours later for users in \"%s\" than in day_time_zone \"%s\": "
			"what they check in on the last evening comes after the decision",
			hours, west, cj_settings_text(config->settings, "day_time_zone")),
		psprintf("SELECT challenge_jobs.alter_job('auto_complete_challenges', schedule => '%s', "
				 "settings => '{\"settle_after\": \"%d hours\"}');",
				 propose_schedule(config, hours * USECS_PER_HOUR), hours));
}

void
cj_auto_complete_examine_old(const CjJobConfig *config, const CjBinding *binding,
							 CjFindings *findings)
{
	Oid type = binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_END_DATE].base_type;
	TimestampTz bound = GetCurrentTimestamp() - OLD_DAYS * USECS_PER_DAY;
	pg_tz *zone = day_time_zone(config);
	bool notifies = strcmp(cj_settings_text(config->settings, "notify_within"), "unlimited") == 0;
	CjIdentity identity;
	CjParams params = {0};
	CjRows rows;
	int64 count;

	if (type == DATEOID)
		cj_sql_param(&params, type, DateADTGetDatum(cj_local_time_date(bound, zone)), false);
	else if (type == TIMESTAMPOID)
		cj_sql_param(&params, type, TimestampGetDatum(cj_local_time_of(bound, zone)), false);
	else
		cj_sql_param(&params, type, TimestampTzGetDatum(bound), false);
	cj_identity_become_owner(&identity, binding->owner, binding->search_path, "UTC");
	rows = cj_app_sql_run(&count_old, binding, NULL, &params);
	count = cj_sql_int64(&rows, 0, 1);
	cj_sql_free(&rows);
	cj_identity_restore(&identity);
	if (count > 0)
		cj_findings_add(
			findings, "old:auto_complete_challenges", "warning",
			psprintf(
				INT64_FORMAT
				" active challenges ended more than %d days ago: the next run decides them, and %s",
				count, OLD_DAYS,
				notifies ? "notifies all their members"
						 : "notifies members only within notify_within"),
			psprintf("SELECT * FROM %s(dry_run => true);",
					 quote_qualified_identifier(get_namespace_name(cj_identity_extension().schema),
												cj_job_auto_complete_challenges.definition.name)));
}
