/*
 * jobs/reminder_zones.c
 *		In which zones of the users a time of day has just come to pass.
 *
 * Zones are resolved here and not in SQL: a statement over the zones of all users would have to convert a time for
 * each user, every quarter of an hour. There are a few hundred zones, however many users there are, and an index
 * on the column gives them without reading the users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "app/app_sql.h"
#include "base/local_time.h"
#include "jobs/reminder_zones.h"

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
	CjRows index;
	bool has_index;

	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(binding->entities[CJ_USERS].relid), false);
	cj_sql_param(&params, INT2OID, Int16GetDatum(column->number), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(column->collation), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(cj_entity_order(column->base_type)), false);
	index = cj_sql_run_own(&find_zone_index, &params);
	has_index = index.processed > 0;
	cj_sql_free(&index);
	return cj_app_sql_run(has_index ? &list_zones_by_index : &list_zones_by_scan, binding, NULL,
						  NULL);
}

/* find_morning returns the morning of a date that began at a moment; a new one if there is none yet. */
static CjMorning *
find_morning(List **mornings, DateADT date, TimestampTz midnight)
{
	CjMorning *morning;
	ListCell *cell;

	foreach(cell, *mornings)
	{
		morning = lfirst(cell);
		if (morning->date == date && morning->midnight == midnight)
			return morning;
	}
	morning = palloc0(sizeof(CjMorning));
	morning->date = date;
	morning->midnight = midnight;
	*mornings = lappend(*mornings, morning);
	return morning;
}

/* add_zone adds a zone to a morning; `zone` and `name` are 0 for users without one. */
static void
add_zone(CjMorning *morning, Datum zone, Datum name)
{
	int i = morning->count++;

	/* lengths are powers of two */
	if (i == 0)
	{
		morning->zones = palloc(sizeof(Datum));
		morning->notes = palloc(sizeof(CjZoneNote));
	}
	else if ((i & (i - 1)) == 0)
	{
		morning->zones = repalloc(morning->zones, sizeof(Datum) * i * 2);
		morning->notes = repalloc(morning->notes, sizeof(CjZoneNote) * i * 2);
	}
	morning->zones[i] = zone;
	morning->notes[i] = (CjZoneNote){.zone = name, .date = morning->date};
}

/* consider adds a zone to the mornings if it is morning there; `name` is NULL for users without one. */
static void
consider(List **mornings, const CjMorningRule *rule, Datum zone, const char *name)
{
	bool one_too_many;
	pg_tz *tz = name ? cj_local_time_zone_of_user(name, &one_too_many) : NULL;
	DateADT date;
	TimestampTz midnight;

	if (tz == NULL)
		tz = rule->default_zone;
	if (cj_local_time_due(rule->as_of, rule->time, rule->window, tz, &date) &&
		cj_local_time_moment(date, 0, tz, &midnight))
		add_zone(find_morning(mornings, date, midnight), zone,
				 name ? CStringGetTextDatum(name) : (Datum) 0);
}

List *
cj_reminder_zones_find(const CjBinding *binding, const CjMorningRule *rule, MemoryContext memory)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	List *mornings = NIL;
	CjRows rows;
	bool isnull;

	if (!zone_column(binding)->present)
		consider(&mornings, rule, (Datum) 0, NULL);
	else
	{
		rows = list_zones(binding);
		for (uint64 row = 0; row < rows.processed; row++)
		{
			CHECK_FOR_INTERRUPTS();
			consider(&mornings, rule, cj_sql_datum(&rows, row, 1, &isnull),
					 cj_sql_text(&rows, row, 2));
		}
		cj_sql_free(&rows);
	}
	MemoryContextSwitchTo(caller);
	return mornings;
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

/* add_zone_finding tells of users whose zone is unknown, or who have none. */
static void
add_zone_finding(const CjBinding *binding, const char *default_zone, Datum unknown,
				 const char *named, const CjReport *report, CjAddFinding add)
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
		add(report, "time_zones:users", "ok", "every user has a known time zone", NULL);
	else
		add(report, "time_zones:users", "warning",
			psprintf(INT64_FORMAT " users have no time zone and " INT64_FORMAT
								  " one that is unknown%s%s%s: \"%s\" stands in",
					 all - with_zone, with_zone, named[0] ? " (" : "", named, named[0] ? ")" : "",
					 default_zone),
			list_zones_call(binding));
}

/*
 * is_reversed tells of a name such as UTC+2 or +05:30, which PostgreSQL takes for hours west, as POSIX has
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

void
cj_reminder_zones_examine(const CjBinding *binding, const char *default_zone,
						  const CjReport *report, CjAddFinding add)
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

	initStringInfo(&unknown_names);
	initStringInfo(&reversed_names);
	for (uint64 row = 0; row < rows.processed; row++)
	{
		char *name = cj_sql_text(&rows, row, 2);

		if (name == NULL)
			continue;
		if (cj_local_time_zone_of_user(name, &is_beyond) == NULL)
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
					 unknown_names.data, report, add);
	if (beyond > 0)
		add(report, "time_zones:users", "warning",
			psprintf(
				"users have so many time zones of their own making that %d of them are not used: \"%s\" "
				"stands in",
				beyond, default_zone),
			list_zones_call(binding));
	if (reversed_count > 0)
		add(report, "time_zones:users", "warning",
			psprintf("PostgreSQL takes what follows a + for hours west of Greenwich, and a - for "
					 "hours east, in %s",
					 reversed_names.data),
			list_zones_call(binding));
}
