/*
 * jobs/auto_complete_notices.c
 *		Notifying the members of what was decided.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/template.h"
#include "jobs/auto_complete_notices.h"

const char *const cj_auto_complete_placeholders[] = {
	"challenge_id", "challenge_name", "status", "average", "threshold", "my_rate", NULL};

/* What stands for {my_rate} in a text until the member is known: no text of an app has it. */
#define MY_RATE "\001"

/* The creator as one more member; compared as members are. */
#define CREATOR "c.{challenges.creator_id}{challenge_members.user_id~}"

/*
 * What app/notifications inserts. $1 to $5: lists of challenges, $6: the run, $7: the statuses of members who are
 * notified, or NULL, $8 to $10: lists of members' own rates. The run and the challenge are what a notification of a
 * decision is found by. `data` is made once for each challenge. In the order of users: that is how the indexes of
 * notifications are ordered. Each user of a challenge once.
 */
static const CjStatement notify = {
	"notify the members",
	"WITH decided AS MATERIALIZED (\n"
	"    SELECT u.id, u.title, u.body"
	"{?notifications.data}, pg_catalog.jsonb_build_object('challenge_id', u.id, 'status', u.status,\n"
	"                                     'average', u.average, 'run_id', $6) AS data{/}\n"
	"      FROM unnest($1, $2, $3, $4, $5) AS u(id, status, title, body, average))\n"
	"SELECT DISTINCT ON (d.user_id, d.id) d.user_id"
	"{?notifications.type}, {notifications.type:challenge_completed}{/}"
	"{?notifications.title}, pg_catalog.replace(d.title, E'\\001', own.rate){/}"
	"{?notifications.body}, pg_catalog.replace(d.body, E'\\001', own.rate){/}"
	"{?notifications.data}, d.data{/}"
	"{?notifications.created_at}, pg_catalog.now(){/}\n"
	"  FROM (SELECT m.{challenge_members.user_id} AS user_id, d.*\n"
	"          FROM decided d\n"
	"          JOIN {challenge_members} m\n"
	"            ON m.{challenge_members.challenge_id} {challenge_members.challenge_id=} d.id"
	"{?challenge_members.status}\n"
	"           AND ($7 IS NULL OR m.{challenge_members.status} {challenge_members.status=} ANY ($7)){/}"
	"{?challenges.creator_id}\n"
	"         UNION ALL\n"
	"        SELECT " CREATOR ", d.*\n"
	"          FROM decided d\n"
	"          JOIN {challenges} c ON c.{challenges.id} {challenges.id=} d.id\n"
	"         WHERE c.{challenges.creator_id} IS NOT NULL{/}) d\n"
	"{?challenge_member_stats.user_id}"
	"  LEFT JOIN unnest($8, $9, $10) AS r(challenge_id, user_id, rate)\n"
	"    ON r.challenge_id {challenge_member_stats.challenge_id=} d.id\n"
	"   AND r.user_id {challenge_member_stats.user_id=} d.user_id{challenge_members.user_id~}\n{/}"
	" CROSS JOIN LATERAL (SELECT COALESCE(NULLIF(pg_catalog.concat(''"
	"{?challenge_member_stats.user_id}, r.rate{/}), ''), '" CJ_NO_RATE "') AS rate) own\n"
	" ORDER BY d.user_id, d.id",
	SPI_OK_SELECT};

/* $2: the bound of notify_within, $3: as $7 above. The members to be notified, and the challenges of which nobody is. */
static const CjStatement count_members = {
	"count the members to be notified",
	"SELECT (SELECT pg_catalog.count(*)\n"
	"          FROM (SELECT DISTINCT m.{challenge_members.challenge_id}, m.{challenge_members.user_id}\n"
	"                  FROM {challenge_members} m\n"
	"                  JOIN {challenges} c\n"
	"                    ON m.{challenge_members.challenge_id} {challenge_members.challenge_id=} "
	"c.{challenges.id}{challenges.id~}\n"
	"                 WHERE m.{challenge_members.challenge_id} {challenge_members.challenge_id=} ANY ($1)\n"
	"                   AND c.{challenges.end_date} OPERATOR(pg_catalog.>=) $2"
	"{?challenge_members.status}\n"
	"                   AND ($3 IS NULL OR m.{challenge_members.status} {challenge_members.status=} ANY ($3)){/}"
	"{?challenges.creator_id}\n"
	"                 UNION\n"
	"                SELECT c.{challenges.id}{challenge_members.challenge_id~}, " CREATOR "\n"
	"                  FROM {challenges} c\n"
	"                 WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"                   AND c.{challenges.end_date} OPERATOR(pg_catalog.>=) $2\n"
	"                   AND c.{challenges.creator_id} IS NOT NULL{/}) d),\n"
	"       (SELECT pg_catalog.count(*)\n"
	"          FROM {challenges} c\n"
	"         WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"           AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2)",
	SPI_OK_SELECT};

/* Parallel lists over the challenges to be notified of. */
typedef struct Lists
{
	int count;
	Datum *ids;
	Datum *statuses;
	Datum *titles;
	Datum *bodies;
	Datum *averages;
	bool *no_average;
} Lists;

/* rate_text returns a rate as people read it. */
static char *
rate_text(Datum rate)
{
	Datum cut = DirectFunctionCall2(numeric_trunc, rate, Int32GetDatum(CJ_RATE_DECIMALS));

	return DatumGetCString(
		DirectFunctionCall1(numeric_out, DirectFunctionCall1(numeric_trim_scale, cut)));
}

/* add appends a challenge. */
static void
add(Lists *lists, const CjRun *run, const CjAutoCompleteScope *scope, const CjDecision *decision)
{
	Jsonb *settings = run->config->settings;
	bool is_completed = decision->label == CJ_CHALLENGES_COMPLETED;
	const char *status = scope->binding->entities[CJ_CHALLENGES].labels[decision->label];
	const char *values[] = {decision->challenge_key,
							decision->name ? decision->name : decision->challenge_key,
							status,
							decision->has_average ? rate_text(decision->average) : CJ_NO_RATE,
							rate_text(decision->threshold),
							MY_RATE};
	char *title = cj_settings_text(settings, is_completed ? "completed_title" : "failed_title");
	char *body = cj_settings_text(settings, is_completed ? "completed_body" : "failed_body");
	int i = lists->count++;

	lists->ids[i] = decision->key;
	lists->statuses[i] = CStringGetTextDatum(status);
	lists->titles[i] =
		CStringGetTextDatum(cj_template_expand(title, cj_auto_complete_placeholders, values));
	lists->bodies[i] =
		CStringGetTextDatum(cj_template_expand(body, cj_auto_complete_placeholders, values));
	lists->averages[i] = decision->average;
	lists->no_average[i] = !decision->has_average;
}

/* insert notifies the members of the challenges of the lists. */
static int64
insert(CjRun *run, CjAutoComplete *state, const CjAutoCompleteScope *scope, const Lists *lists,
	   const CjRows *own_rates)
{
	const CjBoundColumn *stats = scope->binding->entities[CJ_CHALLENGE_MEMBER_STATS].columns;
	int count = lists->count;
	CjParams *params =
		CJ_PARAMS(CJ_ARRAY(state->key_type, cj_sql_array(lists->ids, count, state->key_type)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(lists->statuses, count, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(lists->titles, count, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(lists->bodies, count, TEXTOID)),
				  CJ_ARRAY(NUMERICOID, cj_sql_array_with_nulls(lists->averages, lists->no_average,
															   count, NUMERICOID)),
				  CJ_INT8(cj_run_id(run)),
				  cj_auto_complete_statuses(scope, "notify_member_statuses",
											state->notified_statuses));

	if (stats[CJ_STATS_USER_ID].present)
	{
		Oid types[] = {stats[CJ_STATS_CHALLENGE_ID].base_type, stats[CJ_STATS_USER_ID].base_type,
					   TEXTOID};

		for (int i = 0; i < lengthof(types); i++)
			cj_sql_param_array(params, types[i], cj_sql_column(own_rates, i + 1, types[i]));
	}
	return cj_notifications_insert(scope->binding, &notify, params, &state->insert);
}

void
cj_auto_complete_notify(CjRun *run, CjAutoComplete *state, const CjAutoCompleteScope *scope,
						const CjDecision *decisions, int count, const CjRows *own_rates)
{
	Lists lists = {0,
				   palloc(sizeof(Datum) * count),
				   palloc(sizeof(Datum) * count),
				   palloc(sizeof(Datum) * count),
				   palloc(sizeof(Datum) * count),
				   palloc(sizeof(Datum) * count),
				   palloc(sizeof(bool) * count)};

	for (int i = 0; i < count; i++)
	{
		if (decisions[i].is_decided && decisions[i].is_recent)
			add(&lists, run, scope, &decisions[i]);
		else if (decisions[i].is_decided)
			state->figures[CJ_AUTO_COMPLETE_NOT_NOTIFIED]++;
	}
	if (lists.count > 0)
		state->figures[CJ_AUTO_COMPLETE_NOTIFIED] = insert(run, state, scope, &lists, own_rates);
}

void
cj_auto_complete_count_notices(CjAutoComplete *state, const CjAutoCompleteScope *scope, Datum keys)
{
	CjRows rows =
		cj_auto_complete_run_sql(scope, &count_members,
								 CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
										   CJ_VALUE(scope->bound_type, scope->notify_bound, false),
										   cj_auto_complete_statuses(scope,
																	 "notify_member_statuses",
																	 state->notified_statuses)));

	state->figures[CJ_AUTO_COMPLETE_NOTIFIED] = cj_sql_int64(&rows, 0, 1);
	state->figures[CJ_AUTO_COMPLETE_NOT_NOTIFIED] = cj_sql_int64(&rows, 0, 2);
	cj_sql_free(&rows);
}
