/*
 * jobs/auto_complete_examine.c
 *		For the doctor: whether the rule of completion, and the schedule, fit the app's data.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "app/app_sql.h"
#include "base/identity.h"
#include "jobs/auto_complete_examine.h"

/* From this estimated cost on, the statistics are not read for the doctor. */
#define MAX_COST 500000

/* How many rates that are not whole are to say how many digits they have. */
#define MIN_RATES "20"

/* $1: the threshold, $2: the digits that count. A part of the rates is enough. */
static const CjStatement examine_rates = {
	"examine the completion rates",
	"SELECT CASE WHEN x.broken >= " MIN_RATES " AND x.scale BETWEEN 1 AND 2 AND x.scale < $2\n"
	"            THEN x.scale::pg_catalog.text END\n"
	"  FROM (SELECT pg_catalog.count(*) FILTER (WHERE s.rate <> pg_catalog.trunc(s.rate)) AS broken,\n"
	"               pg_catalog.max(pg_catalog.min_scale(s.rate)) AS scale\n"
	"          FROM (SELECT s.{challenge_member_stats.completion_rate}::pg_catalog.numeric AS rate\n"
	"                  FROM {challenge_member_stats} s LIMIT 100000) s) x",
	SPI_OK_SELECT};

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

/* examine_rates_as_owner adds the findings about the rates. */
static void
examine_rates_as_owner(const CjJobConfig *config, const CjBinding *binding, CjFindings *findings)
{
	const char *text = cj_app_sql_expand(&examine_rates, binding, NULL);
	CjParams params = {0};
	CjRows rows;
	const char *digits;

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
	digits = cj_sql_text(&rows, 0, 1);
	if (digits)
		add_setting_finding(
			findings, "digits:challenge_member_stats",
			psprintf(
				"completion rates are rounded to %s digits, and their average is compared by %d: an average that an app shows as the threshold can be below it",
				digits, cj_settings_int(config->settings, "completion_digits")),
			"completion_digits", digits);
	cj_sql_free(&rows);
}

void
cj_auto_complete_examine_rates(const CjJobConfig *config, const CjBinding *binding,
							   CjFindings *findings)
{
	CjIdentity identity;

	if (!binding->entities[CJ_CHALLENGE_MEMBER_STATS].is_populated)
		return;
	cj_identity_become_owner(&identity, binding->owner, binding->search_path, "UTC");
	examine_rates_as_owner(config, binding, findings);
	cj_identity_restore(&identity);
}
