/*
 * jobs/reminder_zones.c
 *		In which zones of the users reminder_time was just reached, and what that says about streaks.
 *
 * Zones are resolved here and not in SQL: a statement over the zones of all users would have to convert a time for
 * each user, every quarter of an hour. There are a few hundred zones, however many users there are, and an index
 * on the column gives them without reading the users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "app/app_sql.h"
#include "base/local_time.h"
#include "jobs/reminder_zones.h"
#include "run/findings.h"

/* $1: the table, $2: the column, $3: its collation, $4: the operator family that sorts its type */
static const CjStatement find_zone_index = {
	"find an index on the users' zones",
	"SELECT 1"
	"  FROM pg_catalog.pg_index i"
	"  JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]"
	" WHERE i.indrelid = $1"
	"   AND i.indkey[0] = $2"
	"   AND i.indcollation[0] = $3"
	"   AND o.opcfamily = $4"
	"   AND i.indisvalid"
	"   AND i.indpred IS NULL"
	" LIMIT 1",
	SPI_OK_SELECT};

/* One look into the index for each zone: from one to the next greater one. */
static const CjStatement list_zones_by_index = {
	"list the users' zones by an index",
	"WITH RECURSIVE zone(value) AS (\n"
	"    (SELECT u.{users.timezone}\n"
	"       FROM {users} u\n"
	"      WHERE u.{users.timezone} IS NOT NULL\n"
	"      ORDER BY 1\n"
	"      LIMIT 1)\n"
	"     UNION ALL\n"
	"    SELECT (SELECT u.{users.timezone}\n"
	"              FROM {users} u\n"
	"             WHERE u.{users.timezone} {users.timezone>} z.value\n"
	"             ORDER BY 1\n"
	"             LIMIT 1)\n"
	"      FROM zone z\n"
	"     WHERE z.value IS NOT NULL)\n"
	"SELECT z.value, z.value::pg_catalog.text\n"
	"  FROM zone z\n"
	" WHERE z.value IS NOT NULL\n"
	" UNION ALL\n"
	"SELECT NULL, NULL\n"
	" WHERE EXISTS (SELECT 1 FROM {users} u WHERE u.{users.timezone} IS NULL)",
	SPI_OK_SELECT};

static const CjStatement list_zones_by_scan = {
	"list the users' zones by reading all users",
	"SELECT z.value, z.value::pg_catalog.text\n"
	"  FROM (SELECT DISTINCT u.{users.timezone} FROM {users} u) z(value)",
	SPI_OK_SELECT};

static const CjStatement count_users = {
	"count the users of some zones, and those without a zone",
	"SELECT pg_catalog.count(u.{users.timezone}), pg_catalog.count(*)\n"
	"  FROM {users} u\n"
	" WHERE u.{users.timezone} {users.timezone=} ANY ($1)\n"
	"    OR u.{users.timezone} IS NULL",
	SPI_OK_SELECT};

static const CjStatement count_all_users = {
	"count the users", "SELECT pg_catalog.count(*), pg_catalog.count(*) FROM {users} u",
	SPI_OK_SELECT};

/* How many unknown zones the doctor names. */
#define MAX_ZONES_NAMED 5

static const CjBoundColumn *
zone_column(const CjBinding *binding)
{
	return &binding->entities[CJ_USERS].columns[CJ_USERS_TIMEZONE];
}

/* list_zones returns the zones that users have: the value and its text, null for none. */
static CjRows
list_zones(const CjBinding *binding)
{
	const CjBoundColumn *column = zone_column(binding);
	CjParams params = {0};
	bool has_index;

	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(binding->entities[CJ_USERS].relid), false);
	cj_sql_param(&params, INT2OID, Int16GetDatum(column->number), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(column->collation), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(cj_entity_order(column->base_type)), false);
	has_index = cj_sql_execute_own(&find_zone_index, &params) > 0;
	return cj_app_sql_run(has_index ? &list_zones_by_index : &list_zones_by_scan, binding, NULL,
						  NULL);
}

/* first_moment returns when a date begins; of one that a zone never had, the one before or after (step -1 or 1). */
static TimestampTz
first_moment(DateADT date, int step, const CjDueZoneRule *rule, pg_tz *tz)
{
	TimestampTz moment;

	while (!cj_local_time_moment(date, rule->day_starts_at, tz, &moment))
		date += step;
	return moment;
}

/*
 * describe_date says of a date in a zone when it begins and ends and which last check-ins have a streak at stake: those of
 * streak_days before. Apps may count by the server's date: of a daily streak one of the day before in UTC counts as well.
 */
static CjDueDate
describe_date(DateADT date, const CjDueZoneRule *rule, pg_tz *tz)
{
	CjDueDate due = {date, first_moment(date, 1, rule, tz), first_moment(date + 1, 1, rule, tz),
					 DT_NOBEGIN};

	due.checkin_before = due.begin;
	if (rule->streak_days == 0)
		return due;
	due.checkin_from = first_moment(date - rule->streak_days, -1, rule, tz);
	if (rule->streak_days == 1)
		due.checkin_from = Min(due.checkin_from, first_moment(date - 1, -1, rule, pg_tzset("GMT")));
	else
		due.checkin_before = first_moment(date - rule->streak_days + 1, 1, rule, tz);
	return due;
}

/* find_due returns the due time zones of a date; new ones if there are none yet. */
static CjDueZones *
find_due(List **due_zones, const CjDueDate *date)
{
	CjDueZones *due;
	ListCell *cell;

	foreach(cell, *due_zones)
	{
		due = lfirst(cell);
		if (due->date.date == date->date && due->date.begin == date->begin &&
			due->date.end == date->end && due->date.checkin_from == date->checkin_from &&
			due->date.checkin_before == date->checkin_before)
			return due;
	}
	due = palloc0(sizeof(CjDueZones));
	due->date = *date;
	*due_zones = lappend(*due_zones, due);
	return due;
}

/* add_zone adds a zone to those of a date; `zone` and `name` are 0 for users without one. */
static void
add_zone(CjDueZones *due, Datum zone, Datum name)
{
	int i = due->count++;

	/* lengths are powers of two */
	if (i == 0)
	{
		due->zones = palloc(sizeof(Datum));
		due->notes = palloc(sizeof(CjZoneNote));
	}
	else if ((i & (i - 1)) == 0)
	{
		due->zones = repalloc(due->zones, sizeof(Datum) * i * 2);
		due->notes = repalloc(due->notes, sizeof(CjZoneNote) * i * 2);
	}
	due->zones[i] = zone;
	due->notes[i] = (CjZoneNote){.zone = name, .date = due->date.date};
}

/* What is found about the zones of the users. */
typedef struct Search
{
	const CjDueZoneRule *rule;
	List *due_zones;
	Datum *missed; /* zones in which reminder_time passed without a run */
	int missed_count;
	bool missed_without_zone; /* and so it did for users without one */
} Search;

/* is_missed returns whether reminder_time was last reached in a zone after the last run, and more than a window ago. */
static bool
is_missed(const CjDueZoneRule *rule, pg_tz *tz)
{
	DateADT date;
	TimestampTz moment;

	/* the usual case: the runs follow each other closely */
	return !TIMESTAMP_IS_NOBEGIN(rule->last_as_of) &&
		   rule->last_as_of < rule->as_of - rule->window &&
		   cj_local_time_due(rule->as_of, rule->time, USECS_PER_DAY - 1, tz, &date) &&
		   cj_local_time_moment(date, rule->time, tz, &moment) && moment > rule->last_as_of &&
		   moment < rule->as_of - rule->window;
}

/* consider adds a zone to the due ones if reminder_time was just reached there; `name` is NULL for users without one. */
static void
consider(Search *search, Datum zone, const char *name)
{
	const CjDueZoneRule *rule = search->rule;
	bool one_too_many;
	pg_tz *tz = name ? cj_local_time_zone_of_user(name, &one_too_many) : NULL;
	DateADT date;

	if (tz == NULL)
		tz = rule->default_zone;
	if (tz == NULL)
		return;
	if (cj_local_time_due(rule->as_of, rule->time, rule->window, tz, &date))
	{
		CjDueDate due = describe_date(date, rule, tz);

		add_zone(find_due(&search->due_zones, &due), zone,
				 name ? CStringGetTextDatum(name) : (Datum) 0);
	}
	else if (is_missed(rule, tz))
	{
		if (name)
			search->missed[search->missed_count++] = zone;
		else
			search->missed_without_zone = true;
	}
}

/* count_missed counts the users of the zones in which reminder_time passed without a run. */
static int64
count_missed(const CjBinding *binding, const Search *search)
{
	CjParams params = {0};
	CjRows rows;
	int64 count;

	if (search->missed_count == 0 && !search->missed_without_zone)
		return 0;
	if (!zone_column(binding)->present)
		rows = cj_app_sql_run(&count_all_users, binding, NULL, NULL);
	else
	{
		cj_sql_param_array(&params, zone_column(binding)->base_type,
						   cj_sql_array(search->missed, search->missed_count,
										zone_column(binding)->base_type));
		rows = cj_app_sql_run(&count_users, binding, NULL, &params);
	}
	count = cj_sql_int64(&rows, 0, search->missed_without_zone ? 2 : 1);
	cj_sql_free(&rows);
	return count;
}

List *
cj_reminder_zones_find(const CjBinding *binding, const CjDueZoneRule *rule, MemoryContext memory,
					   int64 *missed)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	Search search = {rule};
	CjRows rows;
	bool isnull;

	if (!zone_column(binding)->present)
		consider(&search, (Datum) 0, NULL);
	else
	{
		rows = list_zones(binding);
		search.missed = palloc(sizeof(Datum) * Max(rows.processed, 1));
		for (uint64 row = 0; row < rows.processed; row++)
		{
			CHECK_FOR_INTERRUPTS();
			consider(&search, cj_sql_datum(&rows, row, 1, &isnull), cj_sql_text(&rows, row, 2));
		}
		cj_sql_free(&rows);
	}
	*missed = count_missed(binding, &search);
	MemoryContextSwitchTo(caller);
	return search.due_zones;
}

/* ---- for the doctor ---- */

/* list_zones_call returns the statement that shows which zones users have. */
static char *
list_zones_call(const CjBinding *binding)
{
	return psprintf("SELECT %s, count(*) FROM %s GROUP BY 1 ORDER BY 2;",
					quote_identifier(zone_column(binding)->name),
					binding->entities[CJ_USERS].relation);
}

/* instead says what becomes of users without a usable zone. */
static const char *
instead(const char *default_zone)
{
	return strcmp(default_zone, "none") == 0 ? "they are not reminded"
											 : psprintf("\"%s\" is used instead", default_zone);
}

/* add_zone_finding reports users whose zone is unknown, or who have none. */
static void
add_zone_finding(const CjBinding *binding, const char *default_zone, Datum unknown,
				 const char *named, CjFindings *findings)
{
	CjParams params = {0};
	CjRows rows;
	int64 with_zone;
	int64 all;

	cj_sql_param_array(&params, zone_column(binding)->base_type, unknown);
	rows = cj_app_sql_run(&count_users, binding, NULL, &params);
	with_zone = cj_sql_int64(&rows, 0, 1);
	all = cj_sql_int64(&rows, 0, 2);
	cj_sql_free(&rows);
	if (all == 0)
		cj_findings_add(findings, "time_zones:users", "ok", "every user has a known time zone",
						NULL);
	else
		cj_findings_add(findings, "time_zones:users", "warning",
						psprintf(INT64_FORMAT " users have no time zone, and " INT64_FORMAT
											  " have an unknown one%s%s%s: %s",
								 all - with_zone, with_zone, named[0] ? " (" : "", named,
								 named[0] ? ")" : "", instead(default_zone)),
						list_zones_call(binding));
}

/*
 * is_reversed finds a name such as UTC+2 or +05:30, which PostgreSQL takes for hours west, as POSIX has
 * it. (A number alone it takes for hours east.)
 */
static bool
is_reversed(const char *name)
{
	size_t letters = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
								  "abcdefghijklmnopqrstuvwxyz");
	const char *offset = name + letters;

	return (*offset == '+' || *offset == '-') && offset[1] != '\0' &&
		   strspn(offset + 1, "0123456789:") == strlen(offset + 1) &&
		   (letters > 0 || strchr(offset, ':') != NULL);
}

static void
add_name(StringInfo named, int count, const char *name)
{
	if (count < MAX_ZONES_NAMED)
		appendStringInfo(named, "%s\"%s\"", count > 0 ? ", " : "", name);
	else if (count == MAX_ZONES_NAMED)
		appendStringInfoString(named, ", ...");
}

const char *
cj_reminder_zones_examine(const CjBinding *binding, const char *default_zone, CjFindings *findings)
{
	CjRows rows = list_zones(binding);
	Datum *unknown = palloc(sizeof(Datum) * Max(rows.processed, 1));
	StringInfoData unknown_names;
	StringInfoData reversed_names;
	int unknown_count = 0;
	int reversed_count = 0;
	int beyond = 0;
	bool is_beyond;
	bool isnull;
	TimestampTz now = GetCurrentTimestamp();
	Timestamp west_time = now;
	const char *west = NULL;

	initStringInfo(&unknown_names);
	initStringInfo(&reversed_names);
	for (uint64 row = 0; row < rows.processed; row++)
	{
		char *name = cj_sql_text(&rows, row, 2);
		pg_tz *zone = name ? cj_local_time_zone_of_user(name, &is_beyond) : NULL;
		Timestamp time = zone ? cj_local_time_of(now, zone) : 0;

		if (name == NULL)
			continue;
		if (zone && time < west_time && time >= now - 12 * USECS_PER_HOUR)
		{
			west_time = time;
			west = name;
		}
		if (zone == NULL)
		{
			beyond += is_beyond;
			add_name(&unknown_names, unknown_count, name);
			unknown[unknown_count++] = cj_sql_datum(&rows, row, 1, &isnull);
		}
		else if (is_reversed(name))
			add_name(&reversed_names, reversed_count++, name);
	}
	cj_sql_free(&rows);
	add_zone_finding(binding, default_zone,
					 cj_sql_array(unknown, unknown_count, zone_column(binding)->base_type),
					 unknown_names.data, findings);
	if (beyond > 0)
		cj_findings_add(
			findings, "time_zones:users", "warning",
			psprintf(
				"users have too many time zones that are not in the zone database, %d of which are not used: %s",
				beyond, instead(default_zone)),
			list_zones_call(binding));
	if (reversed_count > 0)
		cj_findings_add(
			findings, "time_zones:users", "warning",
			psprintf("PostgreSQL reads + as hours west of Greenwich and - as hours east in %s",
					 reversed_names.data),
			list_zones_call(binding));
	return west;
}
