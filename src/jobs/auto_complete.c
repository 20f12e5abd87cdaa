/*
 * jobs/auto_complete.c
 *		The job auto_complete_challenges: decide the challenges whose end date has passed, and notify
 *		their members.
 *
 * In two steps. First the outcomes: what is due is read into a list (a tuplestore, which goes to disk
 * when it is large; keys only), and the average completion rate of each is compared with the
 * threshold, in chunks of keys, before anything is changed: the statistics may be a view over active
 * challenges, or one in which challenges are compared. Then, batch by batch:
 *
 *	claim		lock those that are still active and due, passing over what others have locked
 *	update		to completed or failed, testing the active status once more
 *	notify		one notification for every member row of what was updated
 *
 * The test in the update, not the lock, is what makes it exactly once: it also holds where rows cannot
 * be locked (distributed tables). Status and notifications are of one subtransaction: a challenge is
 * never decided without its members being notified.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "app/app_sql.h"
#include "app/notifications.h"
#include "base/identity.h"
#include "base/json.h"
#include "base/local_time.h"
#include "base/template.h"
#include "jobs/auto_complete_decisions.h"
#include "jobs/auto_complete_examine.h"
#include "jobs/auto_complete_statistics.h"
#include "jobs/key_list.h"
#include "run/batch.h"
#include "run/findings.h"
#include "run/job.h"
#include "run/run_log.h"

static const char *const placeholders[] = {"challenge_id", "challenge_name", "status", "average",
										   "threshold",    "my_rate",        NULL};
static const char *const templates[] = {"completed_title", "completed_body", "failed_title",
										"failed_body"};
static const char *const sources[] = {"live", "stored", NULL};
static const char *const same_zone[] = {"day_time_zone", NULL};
static const char *const every_status[] = {"all", NULL};
static const char *const no_limit[] = {"unlimited", NULL};

#define CENTURY (36525.0 * SECS_PER_DAY)

/* Described one by one in doc/reference.md. */
static const CjSetting settings[] = {
	{"completion_threshold", CJ_SETTING_NUMBER, "80", 0, 1000000, NULL},
	{"completion_digits", CJ_SETTING_INTEGER, "6", 0, 15, NULL},
	{"completion_source", CJ_SETTING_CHOICE, "\"live\"", 0, 0, sources},
	{"count_member_statuses", CJ_SETTING_LABELS, "\"all\"", 0, 0, every_status},
	{"count_nulls_as_zero", CJ_SETTING_BOOLEAN, "false", 0, 0, NULL},
	{"day_time_zone", CJ_SETTING_TIME_ZONE, "\"UTC\"", 0, 0, NULL},
	{"timestamp_time_zone", CJ_SETTING_TIME_ZONE, "\"day_time_zone\"", 0, 0, same_zone},
	{"settle_after", CJ_SETTING_INTERVAL, "\"0\"", 0, 30 * SECS_PER_DAY, NULL},
	{"notify", CJ_SETTING_BOOLEAN, "true", 0, 0, NULL},
	{"notify_within", CJ_SETTING_INTERVAL, "\"7 days\"", 0, CENTURY, no_limit},
	{"completed_title", CJ_SETTING_TEMPLATE, "\"Challenge Completed!\"", 0, 0, placeholders},
	{"completed_body", CJ_SETTING_TEMPLATE, "\"Your challenge \\\"{challenge_name}\\\" has ended\"",
	 0, 0, placeholders},
	{"failed_title", CJ_SETTING_TEMPLATE, "\"Challenge Completed!\"", 0, 0, placeholders},
	{"failed_body", CJ_SETTING_TEMPLATE, "\"Your challenge \\\"{challenge_name}\\\" has ended\"", 0,
	 0, placeholders},
	{"batch_size", CJ_SETTING_INTEGER, "2500", 1, 10000, NULL},
	{"decide_without_statistics", CJ_SETTING_BOOLEAN, "false", 0, 0, NULL},
	{"insert", CJ_SETTING_CHOICE, "\"auto\"", 0, 0, cj_notifications_insert_methods},
	{NULL}};

enum
{
	COMPLETED,
	FAILED,
	NOTIFIED,
	UNDECIDABLE,
	NOT_NOTIFIED
};

static const char *const figures[] = {"completed",   "failed",       "notified",
									  "undecidable", "not_notified", NULL};

static const CjIndexAdvice indexes[] = {
	{CJ_CHALLENGES, -1, CJ_CHALLENGES_ID, false, "the job reads the whole table"},
	{CJ_CHALLENGES, -1, CJ_CHALLENGES_ID, true,
	 "of challenges with the same key each would be notified of all"},
	{CJ_CHALLENGES, CJ_CHALLENGES_STATUS, CJ_CHALLENGES_END_DATE, false,
	 "the job reads the whole table"},
	{CJ_CHALLENGE_MEMBERS, -1, CJ_MEMBERS_CHALLENGE_ID, false, "the job reads the whole table"},
	{0},
};

/* How many challenges are evaluated by one statement. */
#define CHUNK_SIZE 10000

/* How many times the cost of a single pass chunks may cost before the single pass is chosen. */
#define DECISIVE_RATIO 2

/*
 * The rule of completion; $2: the threshold, $3: the digits that count, which leave out the noise of rates that were
 * rounded, or are floating point, $4: what a NULL counts as, $5: the statuses of members who count. An average of NaN is no
 * success.
 */
#define RATE "s.{challenge_member_stats.completion_rate}::pg_catalog.numeric"
#define AVERAGE \
	"pg_catalog.trim_scale(pg_catalog.round(pg_catalog.avg(COALESCE(" RATE ", $4)), $3)) AS average"
#define MEMBERS "pg_catalog.count(COALESCE(" RATE ", $4)) AS members"
#define COUNTS                                                                                       \
	"{?challenge_members.status}\n"                                                                  \
	"                AND EXISTS (SELECT FROM {challenge_members} m\n"                                \
	"                             WHERE m.{challenge_members.challenge_id} "                         \
	"{challenge_members.challenge_id=} s.{challenge_member_stats.challenge_id}"                      \
	"{challenge_member_stats.challenge_id~}\n"                                                       \
	"                               AND m.{challenge_members.user_id} {challenge_members.user_id=} " \
	"s.{challenge_member_stats.user_id}{challenge_member_stats.user_id~}\n"                          \
	"                               AND m.{challenge_members.status} {challenge_members.status=} ANY ($5)){/}\n"
/* What is said of rates: how many are NULL, how many above 100, the highest. */
#define SUMMARY                                                         \
	"pg_catalog.count(*) FILTER (WHERE " RATE " IS NULL) AS nulls, "    \
	"pg_catalog.count(*) FILTER (WHERE " RATE                           \
	" OPERATOR(pg_catalog.>) 100) AS above, LEAST(pg_catalog.max(" RATE \
	"), 1000)::pg_catalog.float8 AS highest"
/* That of a challenge c, if it has one. */
#define THRESHOLD \
	"COALESCE({?challenges.threshold}c.{challenges.threshold}::pg_catalog.numeric, {/}$2)"
/* What is kept of the evaluation v of a challenge: whether it is completed, the average, how many count, the threshold. */
#define EVALUATION                                          \
	"COALESCE(v.average OPERATOR(pg_catalog.>=) " THRESHOLD \
	" AND v.average OPERATOR(pg_catalog.<) 'NaN', false), v.average, COALESCE(v.members, 0), " THRESHOLD

/* ---- statements; $1 is the list of keys, $2 the bound of end_date, where they have them ---- */

static const CjStatement find_due = {
	"find due challenges",
	"SELECT c.{challenges.id}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1\n"
	"   AND c.{challenges.id} IS NOT NULL",
	SPI_OK_SELECT};

/* As find_due and evaluate in one. */
static const CjStatement find_due_and_evaluate = {
	"find due challenges and evaluate them",
	"SELECT c.{challenges.id}, " EVALUATION "\n"
	"  FROM {challenges} c\n"
	"  LEFT JOIN (SELECT s.{challenge_member_stats.challenge_id} AS id,\n"
	"                    " AVERAGE ", " MEMBERS "\n"
	"               FROM {challenge_member_stats!} s\n"
	"              WHERE true" COUNTS "              GROUP BY 1) v\n"
	"    ON v.id {challenge_member_stats.challenge_id=} c.{challenges.id}{challenges.id~}\n"
	" WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1\n"
	"   AND c.{challenges.id} IS NOT NULL",
	SPI_OK_SELECT};

/* Of all that find_due_and_evaluate evaluates. */
static const CjStatement summarize = {
	"summarize the rates of due challenges",
	"SELECT " SUMMARY "\n"
	"  FROM {challenge_member_stats!} s\n"
	" WHERE EXISTS (SELECT FROM {challenges} c\n"
	"                WHERE c.{challenges.id} {challenges.id=} s.{challenge_member_stats.challenge_id}"
	"{challenge_member_stats.challenge_id~}\n"
	"                  AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"                  AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $1)" COUNTS,
	SPI_OK_SELECT};

/* NO KEY UPDATE: check-ins and memberships that refer to a challenge do not stand in the way. */
static const CjStatement claim = {
	"claim challenges",
	"SELECT c.{challenges.id}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2\n"
	"   FOR NO KEY UPDATE SKIP LOCKED",
	SPI_OK_SELECT};

static const CjStatement count_unclaimed = {
	"count challenges that others have locked",
	"SELECT pg_catalog.count(*)\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND NOT (c.{challenges.id} {challenges.id=} ANY ($3))\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2",
	SPI_OK_SELECT};

/*
 * $2: the threshold. In the order of the keys, which is that of the table: that is how the table is best
 * written.
 */
static const CjStatement evaluate = {
	"evaluate by the average completion rate",
	"SELECT k.id, " EVALUATION ", v.id IS NOT NULL,\n"
	"       COALESCE(v.nulls, 0), COALESCE(v.above, 0), v.highest\n"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(id, position)\n"
	"  LEFT JOIN (SELECT s.{challenge_member_stats.challenge_id} AS id,\n"
	"                    " AVERAGE ", " MEMBERS ",\n"
	"                    " SUMMARY "\n"
	"               FROM {challenge_member_stats!} s\n"
	"              WHERE s.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=}\n"
	"                    ANY ($1)" COUNTS
	"              GROUP BY 1) v ON v.id {challenge_member_stats.challenge_id=} k.id\n"
	"{?challenges.threshold}  LEFT JOIN {challenges} c ON c.{challenges.id} {challenges.id=} k.id\n{/}"
	" ORDER BY k.position",
	SPI_OK_SELECT};

/*
 * $3: the keys of those that pass. A trigger of the app may have given a row another status than ours:
 * the second column says whether the row is what it should be, the third whether its end is recent enough ($4) to notify of.
 */
static const CjStatement complete = {
	"update completed challenges",
	"UPDATE {challenges} AS c\n"
	"   SET {challenges.status} = {challenges.status:completed}\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND c.{challenges.id} {challenges.id=} ANY ($3)\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2\n"
	"RETURNING c.{challenges.id},\n"
	"       c.{challenges.status} {challenges.status=} {challenges.status:completed},\n"
	"       c.{challenges.end_date} OPERATOR(pg_catalog.>=) $4"
	"{?challenges.name},\n       c.{challenges.name}::pg_catalog.text{/}",
	SPI_OK_UPDATE_RETURNING};

static const CjStatement fail = {
	"update failed challenges",
	"UPDATE {challenges} AS c\n"
	"   SET {challenges.status} = {challenges.status:failed}\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	"   AND NOT (c.{challenges.id} {challenges.id=} ANY ($3))\n"
	"   AND c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"   AND c.{challenges.end_date} OPERATOR(pg_catalog.<) $2\n"
	"RETURNING c.{challenges.id},\n"
	"       c.{challenges.status} {challenges.status=} {challenges.status:failed},\n"
	"       c.{challenges.end_date} OPERATOR(pg_catalog.>=) $4"
	"{?challenges.name},\n       c.{challenges.name}::pg_catalog.text{/}",
	SPI_OK_UPDATE_RETURNING};

/* A rate as people read it, in C and SQL: cut, not rounded, so that 79.998 does not read as 80; where there is none, this. */
#define DECIMALS 2
#define NO_RATE  "-"

/* What stands for {my_rate} in a text until the member is known: no text of an app has it. */
#define MY_RATE "\001"

/* $2: what a NULL counts as. To be read before the challenges are updated, as the averages are. */
static const CjStatement read_own_rates = {
	"read the members' own rates",
	"SELECT s.{challenge_member_stats.challenge_id}, s.{challenge_member_stats.user_id},\n"
	"       pg_catalog.trim_scale(pg_catalog.trunc(pg_catalog.avg(COALESCE(" RATE
	", $2)), " CppAsString2(
		DECIMALS) "))::pg_catalog.text\n"
				  "  FROM {challenge_member_stats!} s\n"
				  " WHERE s.{challenge_member_stats.challenge_id} {challenge_member_stats.challenge_id=} ANY ($1)\n"
				  "   AND s.{challenge_member_stats.user_id} IS NOT NULL\n"
				  " GROUP BY 1, 2\n"
				  "HAVING pg_catalog.avg(COALESCE(" RATE ", $2)) IS NOT NULL",
	SPI_OK_SELECT};

/* The creator as one more member; compared as members are. */
#define CREATOR "c.{challenges.creator_id}{challenge_members.user_id~}"

/*
 * $1 to $5: lists of challenges, $6: the run, $7 to $9: lists of members' own rates. The run and the challenge are what a
 * notification of a decision is found by. In the order of users: that is how the indexes of notifications are ordered. Each
 * user of a challenge once.
 */
static const CjStatement notify = {
	"notify the members",
	"SELECT DISTINCT ON (d.user_id, d.id) d.user_id"
	"{?notifications.type}, {notifications.type:challenge_completed}{/}"
	"{?notifications.title}, pg_catalog.replace(d.title, E'\\001', own.rate){/}"
	"{?notifications.body}, pg_catalog.replace(d.body, E'\\001', own.rate){/}"
	"{?notifications.data},\n"
	"       pg_catalog.jsonb_build_object('challenge_id', d.id, 'status', d.status, 'average', d.average, 'run_id', $6){/}"
	"{?notifications.created_at}, pg_catalog.now(){/}\n"
	"  FROM (SELECT m.{challenge_members.user_id} AS user_id, d.*\n"
	"          FROM unnest($1, $2, $3, $4, $5) AS d(id, status, title, body, average)\n"
	"          JOIN {challenge_members} m\n"
	"            ON m.{challenge_members.challenge_id} {challenge_members.challenge_id=} d.id"
	"{?challenges.creator_id}\n"
	"         UNION ALL\n"
	"        SELECT " CREATOR ", d.*\n"
	"          FROM unnest($1, $2, $3, $4, $5) AS d(id, status, title, body, average)\n"
	"          JOIN {challenges} c ON c.{challenges.id} {challenges.id=} d.id\n"
	"         WHERE c.{challenges.creator_id} IS NOT NULL{/}) d\n"
	"{?challenge_member_stats.user_id}"
	"  LEFT JOIN unnest($7, $8, $9) AS r(challenge_id, user_id, rate)\n"
	"    ON r.challenge_id {challenge_member_stats.challenge_id=} d.id\n"
	"   AND r.user_id {challenge_member_stats.user_id=} d.user_id{challenge_members.user_id~}\n{/}"
	" CROSS JOIN LATERAL (SELECT COALESCE(NULLIF(pg_catalog.concat(''"
	"{?challenge_member_stats.user_id}, r.rate{/}), ''), '" NO_RATE "') AS rate) own\n"
	" ORDER BY d.user_id, d.id",
	SPI_OK_SELECT};

/* Without a condition on the key: is there anything at all? */
static const CjStatement find_statistics = {
	"look whether there are statistics",
	"SELECT EXISTS (SELECT FROM {challenge_member_stats!} s)\n"
	"    OR NOT EXISTS (SELECT FROM {challenge_members} m)",
	SPI_OK_SELECT};

/* $2: the bound of notify_within. The members to be notified, and the challenges of which nobody is. */
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

/*
 * $2: how long after its end_date a challenge has ended, $3: the zone of that. A moment comes as the session's zone has it,
 * which is that of timestamps, and so back to what it is.
 */
static const CjStatement preview = {
	"describe due challenges",
	"SELECT c.{challenges.id},\n"
	"       pg_catalog.timezone($3, c.{challenges.end_date}::pg_catalog.timestamp OPERATOR(pg_catalog.+) $2)"
	"{?challenges.name},\n       c.{challenges.name}::pg_catalog.text{/}\n"
	"  FROM {challenges} c\n"
	" WHERE c.{challenges.id} {challenges.id=} ANY ($1)\n"
	" ORDER BY c.{challenges.end_date}",
	SPI_OK_SELECT};

/* ---- the state of a run ---- */

typedef struct State
{
	/* settings */
	bool live;
	bool notify;
	TimestampTz
		notify_since; /* of what was not due yet at this moment members are notified; DT_NOBEGIN: of all */
	Numeric threshold;
	int digits;
	List *counted_statuses; /* of members; NIL: all */
	bool counts_nulls;
	bool shows_own_rate; /* a text does */
	char *day_time_zone;
	char *time_zone;    /* of timestamps */
	int64 settle_after; /* microseconds */
	int batch_size;

	/* what is due: keys; then keys and their evaluations, as EVALUATION has them */
	Oid key_type;
	int64 due_count;
	CjKeyList *due;
	CjKeyList *evaluated;
	bool has_statistics; /* of one of them at least */
	int64 null_rates;
	int64 rates_above_100;
	double highest_rate;

	CjInsertMethod insert;

	/* what the range at hand has done */
	int64 figures[lengthof(figures)];
	int64 locked;
} State;

/* An open transaction's view of the app's tables. */
typedef struct Scope
{
	CjBinding *binding;
	char *definition;   /* of the statistics, where they are computed live */
	Datum bound;        /* of end_date */
	Datum notify_bound; /* the same, as of notify_since */
	Oid bound_type;
	CjIdentity identity;
} Scope;

/* shows_own_rate returns whether a text has the placeholder {my_rate}. */
static bool
shows_own_rate(const CjJobConfig *config)
{
	for (int i = 0; i < lengthof(templates); i++)
	{
		if (strstr(cj_settings_text(config->settings, templates[i]), "{my_rate}"))
			return true;
	}
	return false;
}

/* usage says what the job uses of the app's tables. */
static int
usage(const CjJobConfig *config, bool dry_run, CjUsage *items)
{
	LOCKMODE write = dry_run ? AccessShareLock : RowExclusiveLock;
	bool notifies = cj_settings_bool(config->settings, "notify");
	bool counts_some = cj_settings_labels(config->settings, "count_member_statuses") != NIL;
	int count = 0;

	items[count++] = (CjUsage){CJ_CHALLENGES,
							   CJ_BIT(CJ_CHALLENGES_ID) | CJ_BIT(CJ_CHALLENGES_STATUS) |
								   CJ_BIT(CJ_CHALLENGES_END_DATE) | CJ_BIT(CJ_CHALLENGES_NAME) |
								   CJ_BIT(CJ_CHALLENGES_THRESHOLD) |
								   (notifies ? CJ_BIT(CJ_CHALLENGES_CREATOR_ID) : 0),
							   CJ_BIT(CJ_CHALLENGES_ACTIVE) | CJ_BIT(CJ_CHALLENGES_COMPLETED) |
								   CJ_BIT(CJ_CHALLENGES_FAILED),
							   write, ACL_SELECT | ACL_UPDATE};
	items[count] = (CjUsage){CJ_CHALLENGE_MEMBER_STATS,
							 CJ_BIT(CJ_STATS_CHALLENGE_ID) | CJ_BIT(CJ_STATS_COMPLETION_RATE), 0,
							 AccessShareLock, ACL_SELECT};
	if (counts_some)
		items[count].columns |= items[count].required = CJ_BIT(CJ_STATS_USER_ID);
	else if (notifies && shows_own_rate(config))
		items[count].columns |= CJ_BIT(CJ_STATS_USER_ID);
	count++;
	if (!notifies && !counts_some)
		return count;

	items[count] = (CjUsage){CJ_CHALLENGE_MEMBERS,
							 CJ_BIT(CJ_MEMBERS_CHALLENGE_ID) | CJ_BIT(CJ_MEMBERS_USER_ID), 0,
							 AccessShareLock, ACL_SELECT};
	if (counts_some)
		items[count].columns |= items[count].required = CJ_BIT(CJ_MEMBERS_STATUS);
	count++;
	if (!notifies)
		return count;

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
end_bound(Oid type, TimestampTz moment, const State *state)
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

/*
 * open_scope resolves the tables in this transaction and becomes their owner, to evaluate or to write
 * and notify.
 */
static void
open_scope(CjRun *run, State *state, Scope *scope, bool to_evaluate)
{
	CjUsage items[CJ_ENTITY_COUNT];
	int count = usage(run->config, run->dry_run, items);
	const CjBoundEntity *stats;

	scope->binding = cj_binding_resolve(items, count);
	if (state->due)
		cj_key_list_check_type(
			state->due,
			scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_ID].base_type);
	stats = &scope->binding->entities[CJ_CHALLENGE_MEMBER_STATS];
	cj_binding_leave_to_default(scope->binding, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_CREATED_AT);

	scope->definition = NULL;
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

/* run_app_sql runs a statement over the app's tables. */
static CjRows
run_app_sql(const Scope *scope, const CjStatement *statement, CjParams *params)
{
	return cj_app_sql_run(statement, scope->binding, scope->definition, params);
}

/* key_params makes parameters: a list of keys, and the bound of end_date. */
static CjParams
key_params(const Scope *scope, Oid key_type, Datum keys)
{
	CjParams params = {0};

	cj_sql_param_array(&params, key_type, keys);
	cj_sql_param(&params, scope->bound_type, scope->bound, false);
	return params;
}

/* ---- outcomes ---- */

/* describe_due and describe_evaluated name a challenge of the chunk or batch at hand. */
static char *
describe_due(CjRun *run, int item, void *arg)
{
	return psprintf("challenge %s", cj_key_list_describe(((State *) arg)->due, item));
}

static char *
describe_evaluated(CjRun *run, int item, void *arg)
{
	return psprintf("challenge %s", cj_key_list_describe(((State *) arg)->evaluated, item));
}

/* fill_list runs a statement over the app's tables whose rows are the list. */
static int64
fill_list(CjKeyList *list, const Scope *scope, const CjStatement *statement, CjParams *params)
{
	return cj_key_list_fill(list, statement,
							cj_app_sql_expand(statement, scope->binding, scope->definition),
							params);
}

/* status_array makes the list of statuses that count: values of the column's type. */
static Datum
status_array(List *labels, Oid type)
{
	Datum *values = palloc(sizeof(Datum) * list_length(labels));
	Oid input;
	Oid param;
	int count = 0;
	ListCell *cell;

	getTypeInputInfo(type, &input, &param);
	foreach(cell, labels)
		values[count++] = OidInputFunctionCall(input, lfirst(cell), param, -1);
	return cj_sql_array(values, count, type);
}

/* add_rule adds the parameters of the rule of completion. */
static void
add_rule(const State *state, const Scope *scope, CjParams *params)
{
	Oid type = scope->binding->entities[CJ_CHALLENGE_MEMBERS].columns[CJ_MEMBERS_STATUS].base_type;

	cj_sql_param(params, NUMERICOID, NumericGetDatum(state->threshold), false);
	cj_sql_param(params, INT4OID, Int32GetDatum(state->digits), false);
	cj_sql_param(params, NUMERICOID, NumericGetDatum(int64_to_numeric(0)), !state->counts_nulls);
	if (state->counted_statuses)
		cj_sql_param_array(params, type, status_array(state->counted_statuses, type));
	else
		cj_sql_param(params, TEXTARRAYOID, (Datum) 0, true);
}

/* evaluation_params makes the parameters of evaluate for some of the keys at hand. */
static CjParams
evaluation_params(const State *state, const Scope *scope, int from, int to)
{
	CjParams params = {0};

	cj_sql_param_array(&params, state->key_type, cj_key_list_keys(state->due, from, to));
	add_rule(state, scope, &params);
	return params;
}

/* add_summary adds what is said of rates: from this column of a row on. */
static void
add_summary(State *state, const CjRows *rows, uint64 row, int column)
{
	bool isnull;
	double highest = DatumGetFloat8(cj_sql_datum(rows, row, column + 2, &isnull));

	state->null_rates += cj_sql_int64(rows, row, column);
	state->rates_above_100 += cj_sql_int64(rows, row, column + 1);
	if (!isnull)
		state->highest_rate = Max(state->highest_rate, highest);
}

/*
 * prefer_single_pass returns whether to evaluate all challenges at once rather than in chunks.
 *
 * In chunks only what is due is looked at. But each chunk costs as much as all together where the
 * restriction to its keys does not reach the base tables (a window or an aggregate over all
 * challenges, no index on challenge_id). The planner distinguishes the two; small differences are not to
 * be trusted, since it does not know that what one chunk has read is in memory for the next.
 */
static bool
prefer_single_pass(State *state, const Scope *scope, CjParams *at_once_params)
{
	int64 chunks = (state->due_count + CHUNK_SIZE - 1) / CHUNK_SIZE;
	CjParams chunk_params;
	double chunk_cost;
	double at_once_cost;

	if (chunks <= DECISIVE_RATIO)
		return false;

	(void) cj_key_list_read(state->due, CHUNK_SIZE);
	cj_key_list_rewind(state->due);
	chunk_params = evaluation_params(state, scope, 0, state->due->count);
	chunk_cost =
		cj_sql_estimate(&evaluate, cj_app_sql_expand(&evaluate, scope->binding, scope->definition),
						&chunk_params);
	at_once_cost = cj_sql_estimate(&find_due_and_evaluate,
								   cj_app_sql_expand(&find_due_and_evaluate, scope->binding,
													 scope->definition),
								   at_once_params);
	elog(DEBUG1,
		 "challenge_jobs: to evaluate " INT64_FORMAT " chunks costs %.0f each, all at once %.0f",
		 chunks, chunk_cost, at_once_cost);
	return chunks * chunk_cost > DECISIVE_RATIO * at_once_cost;
}

/* prepare reads what is due, and evaluates all of it where chunks would cost more; the work of an attempt. */
static void
prepare(CjRun *run, void *arg)
{
	State *state = arg;
	Scope scope;
	CjParams params = {0};
	CjRows rows;

	open_scope(run, state, &scope, true);
	state->key_type = scope.binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_ID].base_type;
	state->due = cj_key_list_create(run->memory, state->key_type, 0, NULL);
	state->evaluated = cj_key_list_create(run->memory, state->key_type, 4,
										  (Oid[]){BOOLOID, NUMERICOID, INT8OID, NUMERICOID});

	cj_sql_param(&params, scope.bound_type, scope.bound, false);
	state->due_count = fill_list(state->due, &scope, &find_due, &params);
	add_rule(state, &scope, &params);
	if (prefer_single_pass(state, &scope, &params))
	{
		cj_key_list_clear(state->due);
		state->due_count = fill_list(state->evaluated, &scope, &find_due_and_evaluate, &params);
		rows = cj_app_sql_run(&summarize, scope.binding, scope.definition, &params);
		add_summary(state, &rows, 0, 1);
		cj_sql_free(&rows);
	}
	cj_identity_restore(&scope.identity);
}

/* evaluate_range evaluates a range of the chunk, in a subtransaction. */
static void
evaluate_range(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;
	Scope scope;
	CjParams params;
	CjRows rows;

	open_scope(run, state, &scope, true);
	*opened = true;
	params = evaluation_params(state, &scope, from, to);
	rows = cj_app_sql_run(&evaluate, scope.binding, scope.definition, &params);
	cj_identity_restore(&scope.identity);

	/*
	 * Last, since the list knows no rollback. Should the commit fail that follows, keys are appended
	 * twice, and the second time there is nothing left to do for them.
	 */
	for (uint64 row = 0; row < rows.processed; row++)
	{
		cj_key_list_append(state->evaluated, &rows, row);
		state->has_statistics |= cj_sql_bool(&rows, row, 6);
		add_summary(state, &rows, row, 7);
	}
	cj_sql_free(&rows);
}

/*
 * report_rates puts rates that need attention into the result of the run, and warns of fractions: with a threshold in per
 * cent everything fails.
 */
static void
report_rates(CjRun *run, const State *state)
{
	double threshold =
		DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(state->threshold)));

	if (state->null_rates > 0)
		cj_json_int64(run->more_result, "null_rates", state->null_rates);
	if (state->rates_above_100 > 0)
		cj_json_int64(run->more_result, "rates_above_100", state->rates_above_100);
	if (run->dry_run && threshold > 1 && state->highest_rate > 0 && state->highest_rate <= 1)
		ereport(WARNING,
				(errmsg("job \"auto_complete_challenges\" compares rates of at most %g with a threshold of %g",
						state->highest_rate, threshold),
				 errhint("If the rates are fractions, run: SELECT challenge_jobs.alter_job('auto_complete_challenges', "
						 "settings => '{\"completion_threshold\": %g}');",
						 threshold / 100)));
}

/* ---- is there anything to decide on? ---- */

/* find_emptied returns the first of the tables that had rows before and have none now, though they are still read. */
static const char *
find_emptied(List *before, List *sources, List *filled)
{
	ListCell *cell;

	foreach(cell, before)
	{
		String *name = makeString(lfirst(cell));

		if (list_member(sources, name) && !list_member(filled, name))
			return lfirst(cell);
	}
	return NULL;
}

/* as_strings makes a list of nodes, which can be searched, of a list of texts. */
static List *
as_strings(List *texts)
{
	List *strings = NIL;
	ListCell *cell;

	foreach(cell, texts)
		strings = lappend(strings, makeString(lfirst(cell)));
	return strings;
}

/* keep_sources puts the tables that have rows into the result of the run, for the next one. */
static void
keep_sources(CjRun *run, List *filled)
{
	ListCell *cell;

	cj_json_begin(run->more_result, "sources", '[');
	foreach(cell, filled)
		cj_json_text(run->more_result, NULL, lfirst(cell));
	cj_json_end(run->more_result, ']');
}

/* leave_undecided leaves what is due to a later run, and says why. */
static void
leave_undecided(CjRun *run, State *state, const char *why)
{
	run->figures[UNDECIDABLE] = state->due_count;
	cj_key_list_clear(state->evaluated);
	ereport(WARNING,
			(errmsg("job \"auto_complete_challenges\" left " INT64_FORMAT " due challenges undecided",
					state->due_count),
			 errdetail("%s", why),
			 errhint("To decide them without statistics, run: SELECT challenge_jobs.alter_job('auto_complete_challenges', "
					 "settings => '{\"decide_without_statistics\": true}');")));
}

/*
 * examine_statistics sees to it that nothing is decided on data that is not there: tables that are being restored, or
 * loaded anew. No row for a challenge means that it has failed, but no row at all means nothing. The work of an attempt.
 */
static void
examine_statistics(CjRun *run, void *arg)
{
	State *state = arg;
	Scope scope;
	List *before = cj_auto_complete_statistics_filled_before(run->job->definition.name);
	List *sources;
	List *filled;
	const char *emptied;
	bool has_any = true;

	open_scope(run, state, &scope, true);
	sources = cj_auto_complete_statistics_sources(scope.binding);
	filled = cj_auto_complete_statistics_filled(sources);
	if (state->notify && !state->has_statistics)
	{
		CjRows rows = run_app_sql(&scope, &find_statistics, NULL);

		has_any = cj_sql_bool(&rows, 0, 1);
		cj_sql_free(&rows);
	}
	cj_identity_restore(&scope.identity);

	emptied = find_emptied(before, as_strings(sources), as_strings(filled));
	if (emptied)
		leave_undecided(run, state,
						psprintf("%s had rows when challenges were last decided, and has none now.",
								 emptied));
	else if (!has_any)
		leave_undecided(run, state, "The statistics have no row at all, though there are members.");
	else
		keep_sources(run, filled);
}

/* ---- a range of a batch ---- */

static Datum
completed_keys(const State *state, int from, int to, int *count)
{
	Datum *keys = palloc(sizeof(Datum) * (to - from));

	*count = 0;
	for (int i = from; i < to; i++)
	{
		if (DatumGetBool(state->evaluated->values[0][i]))
			keys[(*count)++] = state->evaluated->keys[i];
	}
	return cj_sql_array(keys, *count, state->key_type);
}

/* claim_keys locks what is still to be done of a list of keys, and counts what others have locked. */
static Datum
claim_keys(State *state, const Scope *scope, Datum keys, int count)
{
	CjParams params = key_params(scope, state->key_type, keys);
	CjRows rows;
	Datum claimed;

	if (!cj_app_sql_can_lock_rows())
		return keys;

	rows = run_app_sql(scope, &claim, &params);
	claimed = cj_sql_column(&rows, 1, state->key_type);
	cj_sql_free(&rows);
	if (rows.processed < count)
	{
		cj_sql_param_array(&params, state->key_type, claimed);
		rows = run_app_sql(scope, &count_unclaimed, &params);
		state->locked = cj_sql_int64(&rows, 0, 1);
		cj_sql_free(&rows);
	}
	return claimed;
}

/* list_decisions lists the challenges of a range of the batch. */
static CjDecision *
list_decisions(const State *state, int from, int to)
{
	const CjKeyList *list = state->evaluated;
	CjDecision *decisions = palloc0(sizeof(CjDecision) * (to - from));

	for (int i = from; i < to; i++)
		decisions[i - from] = (CjDecision){.challenge_key = cj_key_list_describe(list, i),
										   .is_completed = DatumGetBool(list->values[0][i]),
										   .average = list->values[1][i],
										   .has_average = !list->nulls[1][i],
										   .threshold = list->values[3][i],
										   .members = DatumGetInt64(list->values[2][i])};
	cj_decisions_sort(decisions, to - from);
	return decisions;
}

/* own_rates reads the rates of members of a range of the batch, where texts show them. */
static CjRows
own_rates(CjRun *run, State *state, int from, int to)
{
	CjRows rows = {0};
	Scope scope;

	if (!state->notify || !state->shows_own_rate || run->dry_run)
		return rows;
	open_scope(run, state, &scope, true);
	if (scope.binding->entities[CJ_CHALLENGE_MEMBER_STATS].columns[CJ_STATS_USER_ID].present)
		rows = run_app_sql(&scope, &read_own_rates,
						   CJ_PARAMS(CJ_ARRAY(state->key_type,
											  cj_key_list_keys(state->evaluated, from, to)),
									 CJ_VALUE(NUMERICOID, NumericGetDatum(int64_to_numeric(0)),
											  !state->counts_nulls)));
	cj_identity_restore(&scope.identity);
	return rows;
}

/* A notification batch: parallel lists over the challenges that were updated. */
typedef struct Batch
{
	CjDecision *decisions; /* all challenges of the batch, also those that were not updated */
	int decision_count;
	int count;
	int too_old; /* challenges that ended too long ago to notify of, which are not in the lists */
	Datum *ids;
	Datum *statuses;
	Datum *titles;
	Datum *bodies;
	Datum *averages;
	bool *no_average;
	const CjRows *own_rates;
} Batch;

/* rate_text returns a rate as people read it. */
static char *
rate_text(Datum rate)
{
	Datum cut = DirectFunctionCall2(numeric_trunc, rate, Int32GetDatum(DECIMALS));

	return DatumGetCString(
		DirectFunctionCall1(numeric_out, DirectFunctionCall1(numeric_trim_scale, cut)));
}

/*
 * add_to_batch appends notifications for updated challenges, and returns how many have been
 * decided: those that a trigger has given another status have not.
 */
static int64
add_to_batch(Batch *batch, const CjRun *run, const State *state, const Scope *scope,
			 const CjRows *rows, int label, const char *title_setting, const char *body_setting)
{
	const CjBoundEntity *challenges = &scope->binding->entities[CJ_CHALLENGES];
	char *title = cj_settings_text(run->config->settings, title_setting);
	char *body = cj_settings_text(run->config->settings, body_setting);
	int64 decided = 0;
	bool isnull;

	for (uint64 row = 0; row < rows->processed; row++)
	{
		char *id = cj_sql_text(rows, row, 1);
		char *name =
			challenges->columns[CJ_CHALLENGES_NAME].present ? cj_sql_text(rows, row, 4) : NULL;
		CjDecision *decision = cj_decisions_find(batch->decisions, batch->decision_count, id);
		bool has_average = decision && decision->has_average;
		const char *values[] = {id,
								name ? name : id,
								challenges->labels[label],
								has_average ? rate_text(decision->average) : NO_RATE,
								rate_text(decision ? decision->threshold
												   : NumericGetDatum(state->threshold)),
								MY_RATE};
		int i = batch->count;

		if (!cj_sql_bool(rows, row, 2))
			continue;
		decided++;
		if (decision)
			decision->outcome = cj_entity_definitions[CJ_CHALLENGES].labels[label].name;
		if (!cj_sql_bool(rows, row, 3))
		{
			batch->too_old++;
			continue;
		}
		batch->ids[i] = cj_sql_datum(rows, row, 1, &isnull);
		batch->statuses[i] = CStringGetTextDatum(challenges->labels[label]);
		batch->titles[i] = CStringGetTextDatum(cj_template_expand(title, placeholders, values));
		batch->bodies[i] = CStringGetTextDatum(cj_template_expand(body, placeholders, values));
		batch->averages[i] = has_average ? decision->average : (Datum) 0;
		batch->no_average[i] = !has_average;
		batch->count++;
	}
	return decided;
}

static int64
notify_members(CjRun *run, State *state, const Scope *scope, const Batch *batch)
{
	const CjBoundColumn *stats = scope->binding->entities[CJ_CHALLENGE_MEMBER_STATS].columns;
	CjParams *params =
		CJ_PARAMS(CJ_ARRAY(state->key_type,
						   cj_sql_array(batch->ids, batch->count, state->key_type)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(batch->statuses, batch->count, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(batch->titles, batch->count, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(batch->bodies, batch->count, TEXTOID)),
				  CJ_ARRAY(NUMERICOID, cj_sql_array_with_nulls(batch->averages, batch->no_average,
															   batch->count, NUMERICOID)),
				  CJ_INT8(cj_run_id(run)));

	if (stats[CJ_STATS_USER_ID].present)
	{
		Oid types[] = {stats[CJ_STATS_CHALLENGE_ID].base_type, stats[CJ_STATS_USER_ID].base_type,
					   TEXTOID};

		for (int i = 0; i < lengthof(types); i++)
			cj_sql_param_array(params, types[i], cj_sql_column(batch->own_rates, i + 1, types[i]));
	}
	return cj_notifications_insert(scope->binding, &notify, params, &state->insert);
}

/* write_and_notify carries the outcomes out on a list of claimed keys; notes in the decisions what was decided. */
static void
write_and_notify(CjRun *run, State *state, const Scope *scope, int from, int to, Datum claimed,
				 CjDecision *decisions, const CjRows *own_rates)
{
	CjParams params = key_params(scope, state->key_type, claimed);
	Batch batch = {decisions, to - from, .own_rates = own_rates};
	int count;
	CjRows completed_rows;
	CjRows failed_rows;
	uint64 updated;

	cj_sql_param_array(&params, state->key_type, completed_keys(state, from, to, &count));
	cj_sql_param(&params, scope->bound_type, scope->notify_bound, false);
	completed_rows = run_app_sql(scope, &complete, &params);
	failed_rows = run_app_sql(scope, &fail, &params);
	updated = completed_rows.processed + failed_rows.processed;
	batch.ids = palloc(sizeof(Datum) * Max(updated, 1));
	batch.statuses = palloc(sizeof(Datum) * Max(updated, 1));
	batch.titles = palloc(sizeof(Datum) * Max(updated, 1));
	batch.bodies = palloc(sizeof(Datum) * Max(updated, 1));
	batch.averages = palloc(sizeof(Datum) * Max(updated, 1));
	batch.no_average = palloc(sizeof(bool) * Max(updated, 1));
	state->figures[COMPLETED] =
		add_to_batch(&batch, run, state, scope, &completed_rows, CJ_CHALLENGES_COMPLETED,
					 "completed_title", "completed_body");
	state->figures[FAILED] = add_to_batch(&batch, run, state, scope, &failed_rows,
										  CJ_CHALLENGES_FAILED, "failed_title", "failed_body");
	if (state->notify)
		state->figures[NOT_NOTIFIED] = batch.too_old;
	if (state->notify && batch.count > 0)
		state->figures[NOTIFIED] = notify_members(run, state, scope, &batch);
	cj_sql_free(&completed_rows);
	cj_sql_free(&failed_rows);
}

/* count_only computes the figures that write_and_notify would give. */
static void
count_only(State *state, const Scope *scope, int from, int to, Datum keys)
{
	CjParams params = {0};
	CjRows rows;
	int completed;

	(void) completed_keys(state, from, to, &completed);
	state->figures[COMPLETED] = completed;
	state->figures[FAILED] = (to - from) - completed;
	if (state->notify)
	{
		cj_sql_param_array(&params, state->key_type, keys);
		cj_sql_param(&params, scope->bound_type, scope->notify_bound, false);
		rows = run_app_sql(scope, &count_members, &params);
		state->figures[NOTIFIED] = cj_sql_int64(&rows, 0, 1);
		state->figures[NOT_NOTIFIED] = cj_sql_int64(&rows, 0, 2);
		cj_sql_free(&rows);
	}
}

/* put_preview returns what would be decided as rows. */
static void
put_preview(CjRun *run, const State *state, const Scope *scope, Datum keys, CjDecision *decisions,
			int count)
{
	bool is_date = scope->bound_type == DATEOID;
	const CjLabelDefinition *labels = cj_entity_definitions[CJ_CHALLENGES].labels;
	bool has_name = scope->binding->entities[CJ_CHALLENGES].columns[CJ_CHALLENGES_NAME].present;
	Interval after = {.day = is_date ? 1 : 0};
	CjRows rows =
		run_app_sql(scope, &preview,
					CJ_PARAMS(CJ_ARRAY(state->key_type, keys),
							  CJ_VALUE(INTERVALOID, IntervalPGetDatum(&after), false),
							  CJ_TEXT(is_date ? state->day_time_zone : state->time_zone)));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		char *key = cj_sql_text(&rows, row, 1);
		char *name = has_name ? cj_sql_text(&rows, row, 3) : NULL;
		CjDecision *decision = cj_decisions_find(decisions, count, key);
		bool nulls[8] = {[1] = name == NULL};
		TimestampTz ended_at = DatumGetTimestampTz(cj_sql_datum(&rows, row, 2, &nulls[2]));
		bool is_completed = decision && decision->is_completed;
		int outcome = is_completed ? CJ_CHALLENGES_COMPLETED : CJ_CHALLENGES_FAILED;
		Datum values[8] = {CStringGetTextDatum(key),
						   name ? CStringGetTextDatum(name) : (Datum) 0,
						   TimestampTzGetDatum(ended_at),
						   (Datum) 0,
						   decision ? decision->average : (Datum) 0,
						   decision ? decision->threshold : NumericGetDatum(state->threshold),
						   Int64GetDatum(decision ? decision->members : 0),
						   CStringGetTextDatum(labels[outcome].name)};

		nulls[3] = TIMESTAMP_NOT_FINITE(ended_at);
		if (!nulls[3])
			values[3] =
				DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(run->as_of), values[2]);
		nulls[4] = decision == NULL || !decision->has_average;
		cj_run_put_row(run, values, nulls);
	}
	cj_sql_free(&rows);
}

/* carry_out carries the outcomes of a range of the batch out, in a subtransaction. */
static void
carry_out(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;
	Scope scope;
	CjDecision *decisions;
	CjRows rates;
	Datum keys;

	memset(state->figures, 0, sizeof(state->figures));
	state->locked = 0;
	rates = own_rates(run, state, from, to);
	open_scope(run, state, &scope, false);
	*opened = true;

	keys = cj_key_list_keys(state->evaluated, from, to);
	decisions = list_decisions(state, from, to);
	if (run->is_preview)
		put_preview(run, state, &scope, keys, decisions, to - from);
	else if (run->dry_run)
		count_only(state, &scope, from, to, keys);
	else
		write_and_notify(run, state, &scope, from, to, claim_keys(state, &scope, keys, to - from),
						 decisions, &rates);
	cj_identity_restore(&scope.identity);
	if (state->figures[COMPLETED] + state->figures[FAILED] > 0 && !run->dry_run)
		cj_decisions_write(cj_run_id(run), decisions, to - from);
}

static void
carried_out(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	for (int i = 0; figures[i]; i++)
		run->figures[i] += state->figures[i];
	run->rows_affected +=
		state->figures[COMPLETED] + state->figures[FAILED] + state->figures[NOTIFIED];
	run->locked += state->locked;
}

/* process works through a list of challenges in batches. */
static void
process(CjRun *run, CjKeyList *list, int size, CjBatch *batch)
{
	while (cj_key_list_read(list, size))
	{
		batch->count = list->count;
		cj_batch_process(run, batch);
	}
}

/*
 * find_notify_since finds of which challenges members are notified: those that ended within notify_within, and those that
 * became due since the last run, however long ago that was. The work of an attempt.
 */
static void
find_notify_since(CjRun *run, void *arg)
{
	State *state = arg;
	int64 within = cj_settings_microseconds(run->config->settings, "notify_within");
	TimestampTz last_run = cj_run_log_last_covering(run->job->definition.name);

	state->notify_since = within < 0 ? DT_NOBEGIN : run->as_of - within;
	if (!TIMESTAMP_IS_NOBEGIN(last_run))
		state->notify_since = Min(state->notify_since, last_run - state->settle_after);
}

static void
run_job(CjRun *run)
{
	Jsonb *values = run->config->settings;
	State *state = MemoryContextAllocZero(run->memory, sizeof(State));
	CjBatch chunk = {0, evaluate_range, NULL, describe_due, state};
	CjBatch batch = {0, carry_out, carried_out, describe_evaluated, state};
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	state->live = strcmp(cj_settings_text(values, "completion_source"), "live") == 0;
	state->notify = cj_settings_bool(values, "notify");
	state->threshold = cj_settings_numeric(values, "completion_threshold");
	state->digits = cj_settings_int(values, "completion_digits");
	state->counted_statuses = cj_settings_labels(values, "count_member_statuses");
	state->counts_nulls = cj_settings_bool(values, "count_nulls_as_zero");
	state->shows_own_rate = shows_own_rate(run->config);
	state->day_time_zone = cj_settings_text(values, "day_time_zone");
	state->time_zone = cj_settings_text(values, "timestamp_time_zone");
	if (strcmp(state->time_zone, same_zone[0]) == 0)
		state->time_zone = state->day_time_zone;
	state->settle_after = cj_settings_microseconds(values, "settle_after");
	state->batch_size = cj_settings_int(values, "batch_size");
	state->insert.may_be_bulk = strcmp(cj_settings_text(values, "insert"), "auto") == 0;
	MemoryContextSwitchTo(caller);

	PG_TRY();
	{
		cj_batch_step(run, find_notify_since, state);
		cj_batch_step(run, prepare, state);
		cj_run_begin_phase(run, "evaluating", state->due_count);
		process(run, state->due, CHUNK_SIZE, &chunk);
		report_rates(run, state);
		if (state->due_count > 0 && !cj_settings_bool(values, "decide_without_statistics"))
			cj_batch_step(run, examine_statistics, state);
		cj_run_begin_phase(run, "deciding", state->due_count);
		process(run, state->evaluated, state->batch_size, &batch);
		cj_notifications_report(&state->insert, run->more_result);
	}
	PG_FINALLY();
	{
		cj_key_list_free(state->due);
		cj_key_list_free(state->evaluated);
	}
	PG_END_TRY();
}

static void
examine(const CjJobConfig *config, CjBinding *binding, CjFindings *findings)
{
	cj_auto_complete_statistics_examine(cj_job_auto_complete_challenges.definition.name, findings);
	cj_auto_complete_examine_rates(config, binding, findings);
	cj_auto_complete_examine_schedule(config, binding, findings);
	cj_auto_complete_examine_old(config, binding, findings);
}

const CjJob cj_job_auto_complete_challenges = {
	{
		.name = "auto_complete_challenges",
		.description =
			"decides every active challenge whose end date has passed and notifies its members",
		.number = 1,
		.schedule = "0 0 * * *",
		.max_runtime = "1 hour",
		.retry_delay = "1 minute",
		.grace = "15 minutes",
		.max_retries = 3,
		.catch_up = "once",
		.settings = settings,
	},
	.figures = figures,
	.usage = usage,
	.run = run_job,
	.indexes = indexes,
	.examine = examine,
};
