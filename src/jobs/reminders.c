/*
 * jobs/reminders.c
 *		The job send_streak_reminders: in the morning of each user's own time zone, remind those whose
 *		streak is at stake.
 *
 * First the due time zones: the zones of the users in which the local time reminder_time was reached
 * within the window before as_of (jobs/reminder_zones). Then, for each local date, a list of the users of its zones
 * (keys only, read at once), and batch by batch:
 *
 *	look	whose streak is at stake, over all their challenges: those that run on the date, and whose last check-in
 *			keeps the streak alive but is not of the date
 *	enter	those users in the ledger, for the local date; who is there already drops out
 *	notify	one notification for each of the others
 *
 * Entry and notification are of one subtransaction. The ledger, not the time, is what makes it exactly
 * once: zones are looked at again and again, users move between them, runs crash.
 *
 * When all users of a date's zones are done, these are noted as done, with a hash of what the
 * result depends on: settings, binding, and the counters of how many rows of users, members and
 * challenges have been written. While it stays the same, the zones are not looked at again.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"

#include "app/app_sql.h"
#include "app/notifications.h"
#include "base/identity.h"
#include "base/local_time.h"
#include "base/template.h"
#include "config/cron.h"
#include "jobs/auto_complete_examine.h"
#include "jobs/key_list.h"
#include "jobs/reminder_ledger.h"
#include "jobs/reminder_zones.h"
#include "run/batch.h"
#include "run/findings.h"
#include "run/job.h"
#include "run/run_log.h"

static const char *const placeholders[] = {"streak", "challenge_count", "challenge_name", NULL};
static const char *const no_zone[] = {"none", NULL};
static const char *const no_period[] = {"off", NULL};
static const char *const local_dates[] = {"local", NULL};
static const char *const other_expiries[] = {"end of local day", "never", NULL};

/* Described one by one in doc/job-send_streak_reminders.md. */
static const CjSetting settings[] = {
	{"reminder_time", CJ_SETTING_TIME, "\"08:00\"", 0, 0, NULL},
	{"window", CJ_SETTING_INTERVAL, "\"2 hours\"", SECS_PER_MINUTE, 12 * SECS_PER_HOUR, NULL},
	{"default_time_zone", CJ_SETTING_TIME_ZONE, "\"UTC\"", 0, 0, no_zone},
	{"minimum_streak", CJ_SETTING_INTEGER, "1", 0, 1000000, NULL},
	{"streak_period", CJ_SETTING_DAYS, "\"1 day\"", SECS_PER_DAY, 366 * SECS_PER_DAY, no_period},
	{"day_starts_at", CJ_SETTING_TIME, "\"00:00\"", 0, 6 * SECS_PER_HOUR, NULL},
	{"checkin_date_zone", CJ_SETTING_TIME_ZONE, "\"local\"", 0, 0, local_dates},
	{"expires_after", CJ_SETTING_INTERVAL, "\"end of local day\"", SECS_PER_MINUTE,
	 30 * SECS_PER_DAY, other_expiries},
	{"title", CJ_SETTING_TEMPLATE, "\"Your streak is at stake!\"", 0, 0, placeholders},
	{"body", CJ_SETTING_TEMPLATE,
	 "\"Check in today to keep your streak of {streak} in \\\"{challenge_name}\\\"\"", 0, 0,
	 placeholders},
	{"batch_size", CJ_SETTING_INTEGER, "2500", 1, 10000, NULL},
	{"insert", CJ_SETTING_CHOICE, "\"auto\"", 0, 0, cj_notifications_insert_methods},
	{NULL}};

enum
{
	TIME_ZONES,
	REMINDED,
	MISSED
};

static const char *const figures[] = {"time_zones", "reminded", "missed", NULL};

static const CjIndexAdvice indexes[] = {
	{CJ_USERS, -1, CJ_USERS_TIMEZONE, false, "every run reads the whole table", true, false},
	{CJ_USERS, CJ_USERS_TIMEZONE, CJ_USERS_REMINDER_TIME, false,
	 "every run reads all users of each zone"},
	{CJ_USERS, -1, CJ_USERS_ID, true, "users with the same key count as one"},
	{CJ_CHALLENGE_MEMBERS, -1, CJ_MEMBERS_USER_ID, false, "each batch reads the whole table"},
	{CJ_CHALLENGES, -1, CJ_CHALLENGES_ID, false, "each batch reads the whole table"},
	{0},
};

/* ---- statements ---- */

/* $1: zones. A row for each user: the key, and its text for the ledger. */
static const CjStatement list_users = {
	"list the users of some time zones",
	"SELECT u.{users.id}, u.{users.id}::pg_catalog.text\n"
	"  FROM {users} u\n"
	" WHERE u.{users.timezone} {users.timezone=} ANY ($1)\n"
	"   AND u.{users.id} IS NOT NULL"
	"{?users.reminder_time}\n   AND u.{users.reminder_time} IS NULL{/}",
	SPI_OK_SELECT};

static const CjStatement list_users_without_zone = {
	"list the users without a time zone",
	"SELECT u.{users.id}, u.{users.id}::pg_catalog.text\n"
	"  FROM {users} u\n"
	" WHERE u.{users.id} IS NOT NULL"
	"{?users.timezone}\n   AND u.{users.timezone} IS NULL{/}"
	"{?users.reminder_time}\n   AND u.{users.reminder_time} IS NULL{/}",
	SPI_OK_SELECT};

/* $1: zones, $2: times of day. */
#define OF_THEIR_OWN                                                 \
	"SELECT u.{users.id}, u.{users.id}::pg_catalog.text\n"           \
	"  FROM unnest($1, $2) AS k(zone, time)\n"                       \
	"  JOIN {users} u\n"                                             \
	"    ON u.{users.reminder_time} OPERATOR(pg_catalog.=) k.time\n" \
	"   AND u.{users.id} IS NOT NULL\n"

static const CjStatement list_users_of_times = {
	"list the users with times of their own",
	"{?users.timezone}" OF_THEIR_OWN "   AND u.{users.timezone} {users.timezone=} k.zone\n"
	" UNION ALL\n"
	"{/}" OF_THEIR_OWN "   AND k.zone IS NULL{?users.timezone} AND u.{users.timezone} IS NULL{/}",
	SPI_OK_SELECT};

/* The order of a user's challenges: by the streak, then by the key. */
#define LONGEST_FIRST "s.streak DESC, s.id"

/*
 * $1: users, $2: minimum_streak, $3: the local date; bounds of dates and moments, each as its column has it: $4 and
 * $5 of the last check-in, $6 after which the challenge ends, $7 before which it starts; $8: whether a streak can be
 * over, $9 the bound of a check-in on the date. Where the next check-in is due on the date, the last one may be of
 * any time. A row for each user whose streak is at stake: the position, how many challenges, the notification's data,
 * the name of the challenge with the longest streak, that streak. In the order of users, as are indexes of
 * notifications. A challenge counts once, however many member rows the user has in it.
 */
static const CjStatement find_streaks = {
	"find streaks at stake",
	"SELECT s.position, pg_catalog.count(*),\n"
	"       pg_catalog.jsonb_build_object(\n"
	"           'local_date', $3,\n"
	"           'streak', COALESCE(pg_catalog.to_jsonb(pg_catalog.max(s.streak)), 'null'::pg_catalog.jsonb),\n"
	"           'challenge_ids', pg_catalog.jsonb_agg(s.id ORDER BY " LONGEST_FIRST ")),\n"
	"       (pg_catalog.array_agg(s.name ORDER BY " LONGEST_FIRST "))[1],\n"
	"       pg_catalog.max(s.streak)::pg_catalog.text\n"
	"  FROM (SELECT k.position, k.id AS user_id, c.{challenges.id} AS id,\n"
	"               COALESCE({?challenges.name}c.{challenges.name}::pg_catalog.text, {/}"
	"c.{challenges.id}::pg_catalog.text) AS name,\n"
	"               COALESCE({?challenge_members.current_streak}"
	"pg_catalog.max(m.{challenge_members.current_streak}), {/}NULL) AS streak\n"
	"          FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(id, position)\n"
	"          JOIN {challenge_members} m\n"
	"            ON m.{challenge_members.user_id} {challenge_members.user_id=} k.id\n"
	"          JOIN {challenges} c\n"
	"            ON m.{challenge_members.challenge_id} {challenge_members.challenge_id=} c.{challenges.id}"
	"{challenges.id~}\n"
	"         WHERE c.{challenges.status} {challenges.status=} {challenges.status:active}\n"
	"           AND (c.{challenges.end_date} IS NULL OR c.{challenges.end_date} OPERATOR(pg_catalog.>) $6)"
	"{?challenges.start_date}\n"
	"           AND (c.{challenges.start_date} IS NULL OR c.{challenges.start_date} OPERATOR(pg_catalog.<) $7){/}"
	"{?challenge_members.status}\n"
	"           AND m.{challenge_members.status} {challenge_members.status=} {challenge_members.status:active}{/}"
	"{?challenge_members.current_streak}\n"
	"           AND m.{challenge_members.current_streak} OPERATOR(pg_catalog.>=) $2{/}"
	"{?challenge_members.next_due_on}\n"
	"           AND (m.{challenge_members.next_due_on} IS NULL\n"
	"                OR m.{challenge_members.next_due_on} OPERATOR(pg_catalog.=) $3\n"
	"                OR m.{challenge_members.next_due_on} OPERATOR(pg_catalog.<) $3\n"
	"               AND (NOT $8{?challenge_members.last_checkin_at}"
	" OR m.{challenge_members.last_checkin_at} OPERATOR(pg_catalog.>=) $4{/})){/}"
	"{?challenge_members.last_checkin_at}\n"
	"           AND (m.{challenge_members.last_checkin_at} IS NULL\n"
	"                OR m.{challenge_members.last_checkin_at} OPERATOR(pg_catalog.>=) $4\n"
	"               AND m.{challenge_members.last_checkin_at} OPERATOR(pg_catalog.<) $5"
	"{?challenge_members.next_due_on}\n"
	"                OR m.{challenge_members.next_due_on} OPERATOR(pg_catalog.=) $3\n"
	"               AND m.{challenge_members.last_checkin_at} OPERATOR(pg_catalog.<) $9{/}){/}\n"
	"         GROUP BY k.position, k.id, c.{challenges.id}{?challenges.name}, c.{challenges.name}{/}) s\n"
	" GROUP BY s.position, s.user_id\n"
	" ORDER BY s.user_id",
	SPI_OK_SELECT};

static const CjStatement notify = {"remind users of their streaks",
								   "SELECT n.user_id"
								   "{?notifications.type}, {notifications.type:streak_reminder}{/}"
								   "{?notifications.title}, n.title{/}"
								   "{?notifications.body}, n.body{/}"
								   "{?notifications.data}, n.data{/}"
								   "{?notifications.created_at}, pg_catalog.now(){/}"
								   "{?notifications.expires_at}, $5{/}\n"
								   "  FROM unnest($1, $2, $3, $4) AS n(user_id, title, body, data)",
								   SPI_OK_SELECT};

/* ---- the state of a run ---- */

typedef struct State
{
	/* settings */
	CjDueZoneRule rule;
	char *time_zone;     /* in which columns of type timestamp are read */
	bool expires;        /* notifications do */
	int64 expires_after; /* microseconds; -1: with the local day */
	int minimum_streak;
	char *title;
	char *body;
	int batch_size;
	CjInsertMethod insert;
	int64 user_count; /* of the zones at hand */

	List *due_zones;
	Oid zone_type;    /* of the due time zones */
	uint64 hash;      /* of what the result depends on; 0: not known */
	CjDueZones *due;  /* the one at hand */
	CjKeyList *users; /* of these zones */
	int64 reminded;   /* by the range at hand */
} State;

/* An open transaction's view of the app's tables. */
typedef struct Scope
{
	CjBinding *binding;
	CjIdentity identity;
} Scope;

/* usage says what the job uses of the app's tables. */
static int
usage(const CjJobConfig *config, bool dry_run, CjUsage *items)
{
	int count = 0;

	items[count++] = (CjUsage){CJ_CHALLENGES,
							   CJ_BIT(CJ_CHALLENGES_ID) | CJ_BIT(CJ_CHALLENGES_STATUS) |
								   CJ_BIT(CJ_CHALLENGES_NAME) | CJ_BIT(CJ_CHALLENGES_END_DATE) |
								   CJ_BIT(CJ_CHALLENGES_START_DATE),
							   CJ_BIT(CJ_CHALLENGES_ACTIVE), AccessShareLock, ACL_SELECT};
	items[count++] =
		(CjUsage){CJ_CHALLENGE_MEMBERS,
				  CJ_BIT(CJ_MEMBERS_CHALLENGE_ID) | CJ_BIT(CJ_MEMBERS_USER_ID) |
					  CJ_BIT(CJ_MEMBERS_STATUS) | CJ_BIT(CJ_MEMBERS_CURRENT_STREAK) |
					  CJ_BIT(CJ_MEMBERS_LAST_CHECKIN_AT) | CJ_BIT(CJ_MEMBERS_NEXT_DUE_ON),
				  CJ_BIT(CJ_MEMBERS_ACTIVE), AccessShareLock, ACL_SELECT};
	items[count++] =
		(CjUsage){CJ_USERS,
				  CJ_BIT(CJ_USERS_ID) | CJ_BIT(CJ_USERS_TIMEZONE) | CJ_BIT(CJ_USERS_REMINDER_TIME),
				  0, AccessShareLock, ACL_SELECT};
	items[count++] =
		(CjUsage){CJ_NOTIFICATIONS,
				  CJ_BIT(CJ_NOTIFICATIONS_USER_ID) | CJ_BIT(CJ_NOTIFICATIONS_TYPE) |
					  CJ_BIT(CJ_NOTIFICATIONS_TITLE) | CJ_BIT(CJ_NOTIFICATIONS_BODY) |
					  CJ_BIT(CJ_NOTIFICATIONS_DATA) | CJ_BIT(CJ_NOTIFICATIONS_CREATED_AT) |
					  CJ_BIT(CJ_NOTIFICATIONS_EXPIRES_AT),
				  CJ_BIT(CJ_NOTIFICATIONS_STREAK_REMINDER),
				  dry_run ? AccessShareLock : RowExclusiveLock, ACL_INSERT};
	return count;
}

static void
become_owner(const State *state, Scope *scope)
{
	cj_identity_become_owner(&scope->identity, scope->binding->owner, scope->binding->search_path,
							 state->time_zone);
}

/* resolve_scope resolves the tables in this transaction, to write or only to read. */
static void
resolve_scope(CjRun *run, const State *state, Scope *scope, bool to_write)
{
	CjUsage items[CJ_ENTITY_COUNT];
	int count = usage(run->config, run->dry_run, items);
	CjBoundEntity *notifications;
	CjBoundColumn *expires_at;

	scope->binding = cj_binding_resolve(items, count);
	notifications = &scope->binding->entities[CJ_NOTIFICATIONS];
	expires_at = &notifications->columns[CJ_NOTIFICATIONS_EXPIRES_AT];
	/* the app computes it, or wants none */
	if (!state->expires ||
		(expires_at->present && get_attgenerated(notifications->relid, expires_at->number)))
		expires_at->present = false;
	cj_binding_leave_to_default(scope->binding, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_CREATED_AT);
	if (!to_write || run->dry_run)
		; /* nothing is written */
	else if (run->own_transactions)
		cj_app_sql_set_all_constraints_immediate();
	else
		cj_app_sql_set_constraints_immediate(scope->binding, CJ_NOTIFICATIONS);
}

/* open_scope resolves the tables to read them, and becomes their owner. */
static void
open_scope(CjRun *run, const State *state, Scope *scope)
{
	resolve_scope(run, state, scope, false);
	become_owner(state, scope);
}

/* ---- due time zones ---- */

/* find_due_zones finds the zones that have to be looked at; the work of an attempt. */
static void
find_due_zones(CjRun *run, void *arg)
{
	State *state = arg;
	const CjBoundColumn *id;
	MemoryContext caller;
	ListCell *cell;
	Scope scope;

	state->rule.last_as_of = cj_run_log_last_covering(run->job->definition.name);
	open_scope(run, state, &scope);
	id = &scope.binding->entities[CJ_USERS].columns[CJ_USERS_ID];
	state->zone_type = scope.binding->entities[CJ_USERS].columns[CJ_USERS_TIMEZONE].base_type;
	if (!OidIsValid(state->zone_type))
		state->zone_type = TEXTOID;
	state->due_zones =
		cj_reminder_zones_find(scope.binding, &state->rule, run->memory, &run->figures[MISSED]);
	cj_identity_restore(&scope.identity);
	if (state->due_zones == NIL)
		return;

	/* before anything is read: what is written meanwhile makes another hash */
	state->hash = cj_reminder_zone_notes_state(run, state->time_zone, scope.binding);
	caller = MemoryContextSwitchTo(run->memory);
	foreach(cell, state->due_zones)
	{
		CjDueZones *due = lfirst(cell);

		due->notes = cj_reminder_zone_notes_read(due->notes, state->hash);
	}
	MemoryContextSwitchTo(caller);
	state->users = cj_key_list_create(run->memory, id->base_type, 1, (Oid[]){TEXTOID});
}

/* fill appends users that a statement lists. */
static void
fill(State *state, const CjBinding *binding, const CjStatement *statement, CjParams *params)
{
	state->user_count += cj_key_list_fill(state->users, statement,
										  cj_app_sql_expand(statement, binding, NULL), params);
}

/* read_users reads the users of the zones at hand; the work of an attempt. */
static void
read_users(CjRun *run, void *arg)
{
	State *state = arg;
	Oid type = state->zone_type;
	ArrayBuildState *zones = initArrayResult(type, CurrentMemoryContext, false);
	ArrayBuildState *own_zones = initArrayResult(type, CurrentMemoryContext, false);
	ArrayBuildState *own_times = initArrayResult(TIMEOID, CurrentMemoryContext, false);
	bool without_zone = false;
	ListCell *cell;
	Scope scope;

	foreach(cell, state->due->notes)
	{
		const CjZoneNote *note = lfirst(cell);
		bool no_zone = note->zone == (Datum) 0;

		if (note->time >= 0)
		{
			accumArrayResult(own_zones, note->value, no_zone, type, CurrentMemoryContext);
			accumArrayResult(own_times, TimeADTGetDatum(note->time), false, TIMEOID,
							 CurrentMemoryContext);
		}
		else if (no_zone)
			without_zone = true;
		else
			accumArrayResult(zones, note->value, false, type, CurrentMemoryContext);
	}

	open_scope(run, state, &scope);
	cj_key_list_check_type(state->users,
						   scope.binding->entities[CJ_USERS].columns[CJ_USERS_ID].base_type);
	if (zones->nelems > 0)
		fill(state, scope.binding, &list_users,
			 CJ_PARAMS(CJ_ARRAY(type, makeArrayResult(zones, CurrentMemoryContext))));
	if (own_times->nelems > 0)
		fill(state, scope.binding, &list_users_of_times,
			 CJ_PARAMS(CJ_ARRAY(type, makeArrayResult(own_zones, CurrentMemoryContext)),
					   CJ_ARRAY(TIMEOID, makeArrayResult(own_times, CurrentMemoryContext))));
	if (without_zone)
		fill(state, scope.binding, &list_users_without_zone, NULL);
	cj_identity_restore(&scope.identity);
}

/* note_due_zones notes that the zones at hand are done; the work of an attempt. */
static void
note_due_zones(CjRun *run, void *arg)
{
	State *state = arg;

	cj_reminder_zone_notes_write(state->due->notes, state->hash);
}

/* ---- a range of a batch ---- */

/* A notification batch: parallel lists. */
typedef struct Batch
{
	int count;
	Datum *users;
	Datum *user_keys; /* as text */
	Datum *titles;
	Datum *bodies;
	Datum *data;
} Batch;

/* bound makes a bound for a column, as its type has it: a date, or a moment (which may be infinite). */
static CjValue
bound(const State *state, const CjBoundColumn *column, DateADT date, TimestampTz moment)
{
	if (column->base_type == DATEOID)
		return CJ_DATE(date);
	if (column->base_type != TIMESTAMPOID)
		return CJ_MOMENT(moment);
	if (!TIMESTAMP_NOT_FINITE(moment))
		moment = cj_local_time_of(moment, cj_local_time_zone(state->time_zone));
	return CJ_VALUE(TIMESTAMPOID, TimestampGetDatum(moment), false);
}

/* is_looked_at_again returns whether some due time zone was done before. */
static bool
is_looked_at_again(const CjDueZones *due)
{
	ListCell *cell;

	foreach(cell, due->notes)
	{
		if (((CjZoneNote *) lfirst(cell))->is_noted)
			return true;
	}
	return false;
}

/*
 * list_candidates lists the positions, in the batch at hand, of the users of a range to look at. When a
 * zone is looked at again, most of its users have been reminded: the ledger answers faster than their
 * challenges do.
 */
static int
list_candidates(const State *state, int from, int to, int *users)
{
	int count = to - from;

	if (is_looked_at_again(state->due))
		count = cj_reminder_ledger_missing(state->users->values[0] + from, count,
										   state->due->date.date, false, users);
	else
	{
		for (int i = 0; i < count; i++)
			users[i] = i;
	}
	for (int i = 0; i < count; i++)
		users[i] += from;
	return count;
}

/*
 * run_find_streaks finds out whose streak is at stake. A challenge that ends or starts at a moment is in progress as of
 * as_of.
 */
static CjRows
run_find_streaks(const CjRun *run, const State *state, const CjBinding *binding, const int *users,
				 int count)
{
	const CjBoundColumn *challenges = binding->entities[CJ_CHALLENGES].columns;
	const CjBoundColumn *checkin =
		&binding->entities[CJ_CHALLENGE_MEMBERS].columns[CJ_MEMBERS_LAST_CHECKIN_AT];
	const CjDueDate *due = &state->due->date;
	int days = state->rule.streak_days;
	DateADT today = due->checkin_date;
	Oid type = state->users->key_type;
	Datum *keys = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		keys[i] = state->users->keys[users[i]];
	return cj_app_sql_run(
		&find_streaks, binding, NULL,
		CJ_PARAMS(CJ_ARRAY(type, cj_sql_array(keys, count, type)), CJ_INT4(state->minimum_streak),
				  CJ_DATE(due->date),
				  bound(state, checkin, days > 0 ? today - days : DATEVAL_NOBEGIN,
						due->checkin_from),
				  bound(state, checkin, days > 1 ? today - days + 1 : today, due->checkin_before),
				  bound(state, &challenges[CJ_CHALLENGES_END_DATE], due->date - 1, run->as_of),
				  bound(state, &challenges[CJ_CHALLENGES_START_DATE], due->date + 1, due->end),
				  CJ_BOOL(days > 0), bound(state, checkin, today, due->begin)));
}

/* make_batch makes the notifications for what find_streaks returned for some users. */
static void
make_batch(const State *state, const CjBinding *binding, const int *users, const CjRows *rows,
		   Batch *batch)
{
	const CjBoundColumn *streak =
		&binding->entities[CJ_CHALLENGE_MEMBERS].columns[CJ_MEMBERS_CURRENT_STREAK];
	Size size = sizeof(Datum) * Max(rows->processed, 1);
	bool isnull;

	batch->count = (int) rows->processed;
	batch->users = palloc(size);
	batch->user_keys = palloc(size);
	batch->titles = palloc(size);
	batch->bodies = palloc(size);
	batch->data = palloc(size);
	for (int i = 0; i < batch->count; i++)
	{
		int user = users[cj_sql_int64(rows, i, 1) - 1];
		const char *values[] = {streak->present ? cj_sql_text(rows, i, 5) : NULL,
								cj_sql_text(rows, i, 2), cj_sql_text(rows, i, 4)};

		batch->users[i] = state->users->keys[user];
		batch->user_keys[i] = state->users->values[0][user];
		batch->titles[i] =
			CStringGetTextDatum(cj_template_expand(state->title, placeholders, values));
		batch->bodies[i] =
			CStringGetTextDatum(cj_template_expand(state->body, placeholders, values));
		batch->data[i] = cj_sql_datum(rows, i, 3, &isnull);
	}
}

static void
find_batch(const CjRun *run, const State *state, Scope *scope, int from, int to, Batch *batch)
{
	int *users = palloc(sizeof(int) * (to - from));
	int count = list_candidates(state, from, to, users);
	CjRows rows;

	batch->count = 0;
	if (count == 0)
		return;
	become_owner(state, scope);
	rows = run_find_streaks(run, state, scope->binding, users, count);
	cj_identity_restore(&scope->identity);
	make_batch(state, scope->binding, users, &rows, batch);
	cj_sql_free(&rows);
}

/* drop_reminded drops from the batch those who are in the ledger, and enters the others, but for a dry run. */
static void
drop_reminded(const CjRun *run, const State *state, Batch *batch)
{
	int *missing = palloc(sizeof(int) * batch->count);

	batch->count = cj_reminder_ledger_missing(batch->user_keys, batch->count, state->due->date.date,
											  !run->dry_run, missing);
	for (int i = 0; i < batch->count; i++)
	{
		int from = missing[i];

		batch->users[i] = batch->users[from];
		batch->titles[i] = batch->titles[from];
		batch->bodies[i] = batch->bodies[from];
		batch->data[i] = batch->data[from];
	}
}

static int64
notify_users(const CjRun *run, State *state, const CjBinding *binding, const Batch *batch)
{
	TimestampTz expires_at =
		state->expires_after >= 0 ? run->as_of + state->expires_after : state->due->date.end;
	Oid type = state->users->key_type;
	int count = batch->count;

	return cj_notifications_insert(
		binding, &notify,
		CJ_PARAMS(CJ_ARRAY(type, cj_sql_array(batch->users, count, type)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(batch->titles, count, TEXTOID)),
				  CJ_ARRAY(TEXTOID, cj_sql_array(batch->bodies, count, TEXTOID)),
				  CJ_ARRAY(JSONBOID, cj_sql_array(batch->data, count, JSONBOID)),
				  CJ_MOMENT(expires_at)),
		&state->insert);
}

/* remind reminds a range of the users of the batch at hand, in a subtransaction. */
static void
remind(CjRun *run, int from, int to, bool *opened, void *arg)
{
	State *state = arg;
	Batch batch;
	Scope scope;

	resolve_scope(run, state, &scope, true);
	*opened = true;
	find_batch(run, state, &scope, from, to, &batch);
	if (batch.count > 0)
		drop_reminded(run, state, &batch);
	state->reminded = batch.count;
	if (batch.count == 0 || run->dry_run)
		return;
	become_owner(state, &scope);
	state->reminded = notify_users(run, state, scope.binding, &batch);
	cj_identity_restore(&scope.identity);
}

static void
reminded(CjRun *run, int from, int to, void *arg)
{
	State *state = arg;

	run->figures[REMINDED] += state->reminded;
	run->rows_affected += state->reminded;
}

static char *
describe(CjRun *run, int item, void *arg)
{
	return psprintf("user %s", cj_key_list_describe(((State *) arg)->users, item));
}

/* ---- the run ---- */

/* remind_due_zones reminds the users of the zones at hand. */
static void
remind_due_zones(CjRun *run, State *state)
{
	CjBatch batch = {0, remind, reminded, describe, state};
	ListCell *cell;
	int64 undone = run->locked + run->failures;

	cj_run_begin_phase(run, "listing", 0);
	cj_key_list_clear(state->users);
	state->user_count = 0;
	cj_batch_step(run, read_users, state);
	cj_run_begin_phase(run, "reminding", state->user_count);
	while (cj_key_list_read(state->users, state->batch_size))
	{
		batch.count = state->users->count;
		cj_batch_process(run, &batch);
	}

	/* users that were locked are looked at again */
	if (run->locked + run->failures > undone)
		return;
	foreach(cell, state->due->notes)
		run->figures[TIME_ZONES] += !((CjZoneNote *) lfirst(cell))->is_noted;
	if (!run->dry_run)
		cj_batch_step(run, note_due_zones, state);
}

static void
read_settings(CjRun *run, State *state)
{
	Jsonb *values = run->config->settings;
	char *checkin_zone = cj_settings_text(values, "checkin_date_zone");

	state->rule.as_of = run->as_of;
	state->rule.time = cj_settings_time(values, "reminder_time");
	state->rule.window = cj_settings_microseconds(values, "window");
	state->rule.default_zone = cj_local_time_zone(cj_settings_text(values, "default_time_zone"));
	state->rule.day_starts_at = cj_settings_time(values, "day_starts_at");
	state->rule.streak_days =
		(int) Max(0, cj_settings_microseconds(values, "streak_period") / USECS_PER_DAY);
	if (strcmp(checkin_zone, "local") != 0)
		state->rule.checkin_zone = cj_local_time_zone(checkin_zone);
	state->expires = strcmp(cj_settings_text(values, "expires_after"), "never") != 0;
	state->expires_after = cj_settings_microseconds(values, "expires_after");
	state->minimum_streak = cj_settings_int(values, "minimum_streak");
	state->title = cj_settings_text(values, "title");
	state->body = cj_settings_text(values, "body");
	state->batch_size = cj_settings_int(values, "batch_size");
	state->insert.may_be_bulk = strcmp(cj_settings_text(values, "insert"), "auto") == 0;
	state->time_zone = cj_job_config_timestamp_time_zone();
}

/* run_job reminds the users of all due time zones. */
static void
run_job(CjRun *run)
{
	State *state = MemoryContextAllocZero(run->memory, sizeof(State));
	MemoryContext caller = MemoryContextSwitchTo(run->memory);
	ListCell *cell;

	read_settings(run, state);
	MemoryContextSwitchTo(caller);

	PG_TRY();
	{
		cj_batch_step(run, find_due_zones, state);
		foreach(cell, state->due_zones)
		{
			state->due = lfirst(cell);
			if (state->due->notes != NIL)
				remind_due_zones(run, state);
		}
		cj_notifications_report(&state->insert, run->more_result);
	}
	PG_FINALLY();
	{
		cj_key_list_free(state->users);
	}
	PG_END_TRY();
}

/* ---- for the doctor ---- */

static void
examine_schedule(const CjJobConfig *config, CjFindings *findings)
{
	CjCronExpression schedule;
	const char *window = cj_settings_text(config->settings, "window");
	TimeADT time = cj_settings_time(config->settings, "reminder_time");
	TimeADT day_end = cj_settings_time(config->settings, "day_starts_at");
	int64 gap;

	if (cj_cron_parse(config->schedule, &schedule) != NULL)
		return;
	gap = cj_cron_longest_gap(&schedule) * USECS_PER_MINUTE;
	day_end += time < day_end ? 0 : USECS_PER_DAY;
	if (gap >= cj_settings_microseconds(config->settings, "window"))
		cj_findings_add(
			findings, "window:send_streak_reminders", "warning",
			psprintf("\"%s\" does not fire within every window of \"%s\", so mornings are missed",
					 config->schedule, window),
			"SELECT challenge_jobs.alter_job('send_streak_reminders', schedule => '*/15 * * * *', "
			"settings => '{\"window\": \"2 hours\"}');");
	else if (gap > day_end - time)
		cj_findings_add(
			findings, "window:send_streak_reminders", "warning",
			psprintf(
				"\"%s\" does not fire every day between reminder_time and the end of the day, so mornings are missed",
				config->schedule),
			"SELECT challenge_jobs.alter_job('send_streak_reminders', schedule => '* * * * *');");
}

static void
examine_streak(const CjJobConfig *config, CjFindings *findings)
{
	bool is_shown = strstr(cj_settings_text(config->settings, "title"), "{streak}") != NULL ||
					strstr(cj_settings_text(config->settings, "body"), "{streak}") != NULL;

	if (is_shown)
		cj_findings_add(
			findings, "columns:challenge_members", "warning",
			"without current_streak every active member is reminded, and {streak} is empty in title and body",
			"SELECT challenge_jobs.alter_job('send_streak_reminders', "
			"settings => '{\"title\": null, \"body\": \"Check in today in {challenge_name}\"}');");
	else
		cj_findings_add(findings, "columns:challenge_members", "warning",
						"without current_streak every active member is reminded", NULL);
}

/* examine reports what the job has to do without, and what makes it miss a morning. */
static void
examine(const CjJobConfig *config, CjBinding *binding, CjFindings *findings)
{
	const CjBoundEntity *members = &binding->entities[CJ_CHALLENGE_MEMBERS];
	const char *default_zone = cj_settings_text(config->settings, "default_time_zone");
	const char *west;
	CjIdentity identity;

	examine_schedule(config, findings);
	if (!members->columns[CJ_MEMBERS_CURRENT_STREAK].present)
		examine_streak(config, findings);
	if (!members->columns[CJ_MEMBERS_LAST_CHECKIN_AT].present)
		cj_findings_add(
			findings, "columns:challenge_members", "warning",
			"without last_checkin_at, users who have already checked in are reminded, too", NULL);
	else if (members->columns[CJ_MEMBERS_LAST_CHECKIN_AT].base_type == DATEOID)
		cj_findings_add_hint(
			findings, "checkin_date:challenge_members", "ok",
			psprintf("last_checkin_at is a date, read with checkin_date_zone \"%s\"",
					 cj_settings_text(config->settings, "checkin_date_zone")),
			"Where your server fills it with its own date, set checkin_date_zone to the server's zone; \"local\" is the user's date.");
	if (!binding->entities[CJ_USERS].columns[CJ_USERS_TIMEZONE].present)
	{
		cj_findings_add(findings, "time_zones:users", "warning",
						psprintf("without a time zone column all users are assumed to be in \"%s\"",
								 default_zone),
						NULL);
		return;
	}
	cj_identity_become_owner(&identity, binding->owner, binding->search_path, "UTC");
	west = cj_reminder_zones_examine(binding, default_zone, findings);
	cj_identity_restore(&identity);
	if (west)
		cj_auto_complete_examine_zone(west, binding, findings);
}

const CjJob cj_job_send_streak_reminders = {
	{
		.name = "send_streak_reminders",
		.description =
			"in the morning of each user's own time zone, reminds those whose streak is at "
			"stake",
		.number = 3,
		.schedule = "*/15 * * * *",
		.max_runtime = "30 minutes",
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
