/*
 * jobs/auto_complete_scope.c
 *		What a run of auto_complete_challenges works on: its settings, and the app's tables as one transaction sees them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "app/app_sql.h"
#include "base/local_time.h"
#include "jobs/auto_complete_scope.h"

const char *const cj_auto_complete_templates[] = {"completed_title", "completed_body",
												  "failed_title", "failed_body", NULL};

/* More changed keys than these are not looked for: their challenges would have to be computed anyway. */
#define MAX_CHANGED_KEYS 100000

/* The number of the parameter that has them: behind those of every statement. */
#define CHANGED_KEYS 6

/* Statistics of which the rows of changed keys are computed, and the others are as stored. */
static const CjStatement tracked = {
	"read the statistics as they are now",
	"(SELECT s.* FROM {challenge_member_stats} s\n"
	"  WHERE NOT (s.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=} ANY "
	"($" CppAsString2(
		CHANGED_KEYS) "))\n"
					  "  UNION ALL\n"
					  " SELECT d.* FROM {challenge_member_stats!} d\n"
					  "  WHERE d.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=} ANY "
					  "($" CppAsString2(CHANGED_KEYS) "))",
	SPI_OK_SELECT};

/* shows_own_rate returns whether a text has the placeholder {my_rate}. */
static bool
shows_own_rate(const CjJobConfig *config)
{
	for (int i = 0; cj_auto_complete_templates[i]; i++)
	{
		if (strstr(cj_settings_text(config->settings, cj_auto_complete_templates[i]), "{my_rate}"))
			return true;
	}
	return false;
}

void
cj_auto_complete_load(CjAutoComplete *state, const CjJobConfig *config)
{
	Jsonb *values = config->settings;

	state->live = strcmp(cj_settings_text(values, "completion_source"), "live") == 0;
	state->notify = cj_settings_bool(values, "notify");
	state->threshold = cj_settings_numeric(values, "completion_threshold");
	state->digits = cj_settings_int(values, "completion_digits");
	state->counted_statuses = cj_settings_labels(values, "count_member_statuses");
	state->notified_statuses = cj_settings_labels(values, "notify_member_statuses");
	state->counts_nulls = cj_settings_bool(values, "count_nulls_as_zero");
	state->shows_own_rate = shows_own_rate(config);
	state->day_time_zone = cj_settings_text(values, "day_time_zone");
	state->time_zone = cj_settings_text(values, "timestamp_time_zone");
	if (strcmp(state->time_zone, "day_time_zone") == 0)
		state->time_zone = state->day_time_zone;
	state->settle_after = cj_settings_microseconds(values, "settle_after");
	state->insert.may_be_bulk = strcmp(cj_settings_text(values, "insert"), "auto") == 0;
}

int
cj_auto_complete_usage(const CjJobConfig *config, bool dry_run, CjUsage *items)
{
	LOCKMODE write = dry_run ? AccessShareLock : RowExclusiveLock;
	bool notifies = cj_settings_bool(config->settings, "notify");
	bool counts_some = cj_settings_labels(config->settings, "count_member_statuses") != NIL;
	bool notifies_some =
		notifies && cj_settings_labels(config->settings, "notify_member_statuses") != NIL;
	int count = 0;

	items[count++] = (CjUsage){CJ_CHALLENGES,
							   CJ_BIT(CJ_CHALLENGES_ID) | CJ_BIT(CJ_CHALLENGES_STATUS) |
								   CJ_BIT(CJ_CHALLENGES_END_DATE) | CJ_BIT(CJ_CHALLENGES_NAME) |
								   CJ_BIT(CJ_CHALLENGES_THRESHOLD) |
								   (notifies ? CJ_BIT(CJ_CHALLENGES_CREATOR_ID) : 0),
							   CJ_BIT(CJ_CHALLENGES_ACTIVE) | CJ_BIT(CJ_CHALLENGES_COMPLETED) |
								   CJ_BIT(CJ_CHALLENGES_FAILED) | CJ_BIT(CJ_CHALLENGES_CANCELLED),
							   write, ACL_SELECT | ACL_UPDATE};
	items[count] = (CjUsage){CJ_CHALLENGE_MEMBER_STATS,
							 CJ_BIT(CJ_STATS_CHALLENGE_ID) | CJ_BIT(CJ_STATS_COMPLETION_RATE), 0,
							 AccessShareLock, ACL_SELECT};
	if (counts_some)
		items[count].columns |= items[count].required = CJ_BIT(CJ_STATS_USER_ID);
	else if (notifies && shows_own_rate(config))
		items[count].columns |= CJ_BIT(CJ_STATS_USER_ID);
	count++;

	items[count] = (CjUsage){CJ_CHALLENGE_MEMBERS,
							 CJ_BIT(CJ_MEMBERS_CHALLENGE_ID) | CJ_BIT(CJ_MEMBERS_USER_ID), 0,
							 AccessShareLock, ACL_SELECT};
	items[count].only_to_cancel = !notifies && !counts_some;
	if (counts_some || notifies_some)
		items[count].columns |= items[count].required = CJ_BIT(CJ_MEMBERS_STATUS);
	count++;

	if (notifies)
		items[count++] =
			(CjUsage){CJ_NOTIFICATIONS,
					  CJ_BIT(CJ_NOTIFICATIONS_USER_ID) | CJ_BIT(CJ_NOTIFICATIONS_TYPE) |
						  CJ_BIT(CJ_NOTIFICATIONS_TITLE) | CJ_BIT(CJ_NOTIFICATIONS_BODY) |
						  CJ_BIT(CJ_NOTIFICATIONS_DATA) | CJ_BIT(CJ_NOTIFICATIONS_CREATED_AT),
					  CJ_BIT(CJ_NOTIFICATIONS_CHALLENGE_COMPLETED), write, ACL_INSERT};
	return count;
}

/*
 * end_bound returns what end_date has to be below for a challenge to have ended at a moment: a date when the day is over in
 * day_time_zone, a moment when it has come.
 */
static Datum
end_bound(Oid type, TimestampTz moment, const CjAutoComplete *state)
{
	pg_tz *zone = cj_local_time_zone(type == DATEOID ? state->day_time_zone : state->time_zone);

	switch (type)
	{
		case DATEOID:
			return DateADTGetDatum(TIMESTAMP_IS_NOBEGIN(moment) ? DATEVAL_NOBEGIN
																: cj_local_time_date(moment, zone));
		case TIMESTAMPOID:
			return TimestampGetDatum(
				TIMESTAMP_IS_NOBEGIN(moment) ? DT_NOBEGIN : cj_local_time_bound(moment, zone));
		default:
			return TimestampTzGetDatum(TIMESTAMP_IS_NOBEGIN(moment) ? moment : moment + 1);
	}
}

/* check_populated refuses to evaluate by a materialized view without data. */
static void
check_populated(const CjBoundEntity *stats)
{
	if (!stats->is_populated)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"challenge_member_stats\": materialized view %s has not been populated",
						stats->relation),
				 errhint("Run: REFRESH MATERIALIZED VIEW %s;", stats->relation)));
}

void
cj_auto_complete_open(CjRun *run, const CjAutoComplete *state, CjAutoCompleteScope *scope,
					  bool to_evaluate)
{
	CjUsage items[CJ_ENTITY_COUNT];
	int count = cj_auto_complete_usage(run->config, run->dry_run, items);
	const CjBoundEntity *stats;

	scope->binding = cj_binding_resolve(items, count);
	if (state->due)
		cj_key_list_check_type(
			state->due,
			scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_ID].base_type);
	stats = &scope->binding->entities[CJ_CHALLENGE_MEMBER_STATS];
	cj_binding_leave_to_default(scope->binding, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_CREATED_AT);

	scope->definition = NULL;
	scope->changed = NULL;
	if (to_evaluate && state->live)
		scope->definition = cj_app_sql_definition(stats, &scope->binding->search_path);
	else if (to_evaluate)
		check_populated(stats);
	scope->bound_type =
		scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_END_DATE].base_type;
	scope->bound =
		end_bound(scope->bound_type, Max(run->as_of - state->settle_after, MIN_TIMESTAMP), state);
	scope->notify_bound = end_bound(scope->bound_type, state->notify_since, state);

	if (to_evaluate || run->dry_run)
		; /* nothing is written */
	else if (run->own_transactions)
		cj_app_sql_set_all_constraints_immediate();
	else
	{
		cj_app_sql_set_constraints_immediate(scope->binding, CJ_CHALLENGES);
		if (state->notify)
			cj_app_sql_set_constraints_immediate(scope->binding, CJ_NOTIFICATIONS);
	}
	cj_identity_become_owner(&scope->identity, scope->binding->owner, scope->binding->search_path,
							 state->time_zone);
}

CjValue
cj_auto_complete_statuses(const CjAutoCompleteScope *scope, const char *setting, List *labels)
{
	const CjBoundColumn *column =
		&scope->binding->entities[CJ_CHALLENGE_MEMBERS].columns[CJ_MEMBERS_STATUS];
	Datum *values = palloc(sizeof(Datum) * Max(list_length(labels), 1));
	int count = 0;
	ListCell *cell;

	if (labels == NIL)
		return CJ_VALUE(column->present ? get_array_type(column->base_type) : TEXTARRAYOID,
						(Datum) 0, true);
	foreach(cell, labels)
		values[count++] = cj_bound_table_setting_value(setting, column, lfirst(cell));
	return CJ_ARRAY(column->base_type, cj_sql_array(values, count, column->base_type));
}

void
cj_auto_complete_track(CjAutoComplete *state, CjAutoCompleteScope *scope)
{
	const CjBoundEntity *stats = &scope->binding->entities[CJ_CHALLENGE_MEMBER_STATS];

	if (scope->definition == NULL)
		return;
	scope->changed =
		cj_changed_keys_look(stats->relation, stats->columns[CJ_STATS_CHALLENGE_ID].number,
							 MAX_CHANGED_KEYS, state->time_zone, &scope->snapshot);
	if (scope->changed && scope->changed->count > 0)
		scope->definition = cj_app_sql_expand(&tracked, scope->binding, scope->definition);
	else if (scope->changed)
		scope->definition = NULL;
	if (scope->changed == NULL)
		state->averages = "live";
	else if (state->averages == NULL)
		state->averages = "tracked";
}

char *
cj_auto_complete_expand(const CjAutoCompleteScope *scope, const CjStatement *statement,
						CjParams *params)
{
	if (scope->changed && scope->changed->count > 0)
	{
		while (params->count < CHANGED_KEYS - 1)
			cj_sql_param(params, INT4OID, (Datum) 0, true);
		cj_sql_param_array(params, scope->changed->type,
						   cj_sql_array(scope->changed->keys, scope->changed->count,
										scope->changed->type));
	}
	return cj_app_sql_expand(statement, scope->binding, scope->definition);
}

CjRows
cj_auto_complete_run_sql(const CjAutoCompleteScope *scope, const CjStatement *statement,
						 CjParams *params)
{
	char *text = cj_auto_complete_expand(scope, statement, params);

	if (scope->changed)
		return cj_sql_run_at(statement, text, params, scope->snapshot);
	return cj_sql_run(statement, text, params);
}

void
cj_auto_complete_close(CjAutoCompleteScope *scope)
{
	cj_identity_restore(&scope->identity);
	if (scope->changed)
		UnregisterSnapshot(scope->snapshot);
}
