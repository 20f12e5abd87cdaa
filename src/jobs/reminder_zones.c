/*
 * jobs/reminder_zones.c
 *		In which zones of the users reminder_time was just reached, and what that says about streaks.
 *
 * Zones are resolved here and not in SQL: a statement over the zones of all users would have to convert a time for
 * each user, every quarter of an hour. There are a few hundred zones, however many users there are, and an index
 * on the column gives them without reading the users.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "app/app_sql.h"
#include "base/catalog.h"
#include "base/local_time.h"
#include "jobs/reminder_zones.h"
#include "run/findings.h"

/*
 * $1: the table, $2: the column, $3: its collation, $4: the operator family that sorts its type, $5: the next column,
 * 0: any
 */
static const CjStatement find_zone_index = {
	"find an index on the users' zones",
	"SELECT 1"
	"  FROM pg_catalog.pg_index i"
	"  JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]"
	" WHERE i.indrelid = $1"
	"   AND i.indkey[0] = $2"
	"   AND $5 IN (0, i.indkey[1])"
	"   AND i.indcollation[0] = $3"
	"   AND o.opcfamily = $4"
	"   AND i.indisvalid"
	"   AND i.indpred IS NULL"
	" LIMIT 1",
	SPI_OK_SELECT};

static const CjStatement list_zones_by_index = {
	"list the users' zones by an index",
	CJ_LISTED_BY_INDEX("users",
					   "users.timezone") "SELECT l.value, l.value::pg_catalog.text FROM listed l",
	SPI_OK_SELECT};

static const CjStatement list_zones_by_scan = {
	"list the users' zones by reading all users",
	"SELECT z.value, z.value::pg_catalog.text\n"
	"  FROM (SELECT DISTINCT u.{users.timezone} FROM {users} u) z(value)",
	SPI_OK_SELECT};

static const CjStatement list_no_zone = {"list users without a column for zones",
										 "SELECT NULL::pg_catalog.text, NULL::pg_catalog.text",
										 SPI_OK_SELECT};

/* $1: zones; $2: also users with a reminder_time of their own. */
static const CjStatement count_users = {
	"count the users of some zones, and those without a zone",
	"SELECT pg_catalog.count(*){?users.timezone}, pg_catalog.count(u.{users.timezone}){/}\n"
	"  FROM {users} u\n"
	" WHERE true"
	"{?users.timezone}\n"
	"   AND (u.{users.timezone} {users.timezone=} ANY ($1) OR u.{users.timezone} IS NULL){/}"
	"{?users.reminder_time}\n"
	"   AND ($2 OR u.{users.reminder_time} IS NULL){/}",
	SPI_OK_SELECT};

/* Zones, and the times of day to look for in each. */
#define RANGES   "  FROM unnest($1, $2, $3) WITH ORDINALITY AS k(zone, earliest, latest, position)\n"
#define OWN_TIME "u.{users.reminder_time}::pg_catalog.time, pg_catalog.count(*)"
#define IN_RANGE                                                   \
	"u.{users.reminder_time} OPERATOR(pg_catalog.>=) k.earliest\n" \
	"   AND u.{users.reminder_time} OPERATOR(pg_catalog.<=) k.latest\n"
#define IN_ZONE      "   AND u.{users.timezone} {users.timezone=} k.zone\n"
#define WITHOUT_ZONE "   AND k.zone IS NULL{?users.timezone} AND u.{users.timezone} IS NULL{/}\n"

/* A look into the index for each range: left to itself the planner might read all users, in every run. */
#define BY_INDEX(condition)                                                        \
	"SELECT k.position, t.*\n" RANGES " CROSS JOIN LATERAL (SELECT " OWN_TIME "\n" \
	"  FROM {users} u WHERE " IN_RANGE condition " GROUP BY 1) t\n"
#define BY_SCAN(condition)                                                               \
	"SELECT k.position, " OWN_TIME "\n" RANGES "  JOIN {users} u ON " IN_RANGE condition \
	" GROUP BY 1, 2\n"

static const CjStatement list_own_times_by_index = {
	"list the users' own times of day in zones by an index",
	"{?users.timezone}" BY_INDEX(IN_ZONE) " UNION ALL\n{/}" BY_INDEX(WITHOUT_ZONE), SPI_OK_SELECT};

static const CjStatement list_own_times_by_scan = {
	"list the users' own times of day in zones",
	"{?users.timezone}" BY_SCAN(IN_ZONE) " UNION ALL\n{/}" BY_SCAN(WITHOUT_ZONE), SPI_OK_SELECT};

/* How many unknown zones the doctor names. */
#define MAX_ZONES_NAMED 5

static const CjBoundColumn *
zone_column(const CjBinding *binding)
{
	return &binding->entities[CJ_USERS].columns[CJ_USERS_TIMEZONE];
}

/* zone_type returns the type of the users' zones, also where they have no column for them. */
static Oid
zone_type(const CjBinding *binding)
{
	return zone_column(binding)->present ? zone_column(binding)->base_type : TEXTOID;
}

/* has_zone_index returns whether there is an index on the users' zones, and then on another column, if it is not 0. */
static bool
has_zone_index(const CjBinding *binding, AttrNumber next)
{
	const CjBoundColumn *column = zone_column(binding);

	return cj_sql_execute_own(&find_zone_index,
							  CJ_PARAMS(CJ_OID(binding->entities[CJ_USERS].relid),
										CJ_INT2(column->number), CJ_OID(column->collation),
										CJ_OID(cj_catalog_order(column->base_type)),
										CJ_INT2(next))) > 0;
}

/* list_zones returns the zones that users have: the value and its text, null for none. */
static CjRows
list_zones(const CjBinding *binding)
{
	const CjStatement *statement = &list_no_zone;

	if (zone_column(binding)->present)
		statement = has_zone_index(binding, 0) ? &list_zones_by_index : &list_zones_by_scan;
	return cj_app_sql_run(statement, binding, NULL, NULL);
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
	CjDueDate due = {date, date, first_moment(date, 1, rule, tz),
					 first_moment(date + 1, 1, rule, tz), DT_NOBEGIN};

	/* dates of another zone are compared with the date there when the user is reminded */
	if (rule->checkin_zone)
		due.checkin_date =
			cj_local_time_date(due.begin - rule->day_starts_at + rule->time +
								   (rule->time < rule->day_starts_at ? USECS_PER_DAY : 0),
							   rule->checkin_zone);
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
		if (memcmp(&due->date, date, sizeof(CjDueDate)) == 0)
			return due;
	}
	due = palloc0(sizeof(CjDueZones));
	due->date = *date;
	*due_zones = lappend(*due_zones, due);
	return due;
}

/* What is found about the zones of the users. */
typedef struct Search
{
	const CjDueZoneRule *rule;
	List *due_zones;
	Datum *missed; /* zones in which reminder_time passed without a run */
	int missed_count;
	bool missed_without_zone; /* and so it did for users without one */
	int64 missed_users;       /* and so did a time of their own */
} Search;

/*
 * is_missed returns whether reminder_time was last reached in a zone after the last run, and that is past by now: longer ago
 * than the window, or on another day (is_over).
 */
static bool
is_missed(const CjDueZoneRule *rule, pg_tz *tz, bool is_over)
{
	DateADT date;
	TimestampTz moment;

	/* the usual case: the runs follow each other closely */
	return !TIMESTAMP_IS_NOBEGIN(rule->last_as_of) &&
		   (is_over || rule->last_as_of < rule->as_of - rule->window) &&
		   cj_local_time_due(rule->as_of, rule->time, USECS_PER_DAY - 1, tz, &date) &&
		   cj_local_time_moment(date, rule->time, tz, &moment) && moment > rule->last_as_of &&
		   (is_over || moment < rule->as_of - rule->window);
}

/* A zone of users. */
typedef struct UserZone
{
	CjZoneNote note; /* of users without a time of their own */
	pg_tz *tz;       /* NULL: they are not reminded */
} UserZone;

/* user_zone describes a zone of users; `name` is NULL for users without one. */
static UserZone
user_zone(const CjDueZoneRule *rule, Datum value, const char *name)
{
	bool one_too_many;
	UserZone zone = {{.value = value, .time = -1}};

	if (name)
	{
		zone.note.zone = CStringGetTextDatum(name);
		zone.tz = cj_local_time_zone_of_user(name, &one_too_many);
	}
	if (zone.tz == NULL)
		zone.tz = rule->default_zone;
	return zone;
}

/*
 * consider adds a zone to the due ones if a time of day was just reached there: `own_time` of some users, or the
 * setting's (-1).
 */
static void
consider(Search *search, const UserZone *zone, TimeADT own_time, int64 users)
{
	CjDueZoneRule rule = *search->rule;
	CjZoneNote note = zone->note;
	CjDueDate due_date;
	DateADT date;
	bool is_due;

	if (zone->tz == NULL)
		return;
	note.time = own_time;
	if (own_time >= 0)
		rule.time = own_time % USECS_PER_DAY; /* there is 24:00 */
	is_due = cj_local_time_due(rule.as_of, rule.time, rule.window, zone->tz, &date);
	if (is_due)
	{
		/* what is before the day starts is of the day before */
		note.date = date - (rule.time < rule.day_starts_at ? 1 : 0);
		due_date = describe_date(note.date, &rule, zone->tz);
	}
	if (is_due && rule.as_of < due_date.end)
	{
		CjDueZones *due = find_due(&search->due_zones, &due_date);
		CjZoneNote *added = palloc(sizeof(CjZoneNote));

		*added = note;
		due->notes = lappend(due->notes, added);
	}
	else if (!is_missed(&rule, zone->tz, is_due))
		return;
	else if (own_time >= 0)
		search->missed_users += users;
	else if (note.zone)
		search->missed[search->missed_count++] = note.value;
	else
		search->missed_without_zone = true;
}

/* Ranges of times of day to look for in zones: parallel lists. */
typedef struct Ranges
{
	int count;
	Datum *zones; /* values of the users' column */
	bool *is_null;
	Datum *earliest;
	Datum *latest;
	int *indexes; /* of the zones */
} Ranges;

static void
add_range(Ranges *ranges, const UserZone *zones, int index, TimeADT earliest, TimeADT latest)
{
	int i = ranges->count++;

	ranges->zones[i] = zones[index].note.value;
	ranges->is_null[i] = zones[index].note.zone == (Datum) 0;
	ranges->earliest[i] = TimeADTGetDatum(earliest);
	ranges->latest[i] = TimeADTGetDatum(latest);
	ranges->indexes[i] = index;
}

/*
 * add_ranges adds the times of day to look for in a zone: all that can have been reached within the window, and maybe
 * others.
 */
static void
add_ranges(Ranges *ranges, const CjDueZoneRule *rule, const UserZone *zones, int index)
{
	pg_tz *tz = zones[index].tz;
	bool is_late =
		!TIMESTAMP_IS_NOBEGIN(rule->last_as_of) && rule->last_as_of < rule->as_of - rule->window;
	Timestamp from = cj_local_time_of(rule->as_of - rule->window - 1, tz);
	Timestamp until = cj_local_time_of(rule->as_of, tz);
	TimeADT first = (from % USECS_PER_DAY + USECS_PER_DAY) % USECS_PER_DAY;
	TimeADT last = (until % USECS_PER_DAY + USECS_PER_DAY) % USECS_PER_DAY;

	/* clocks were changed, or a run has been missed */
	if (is_late || until - from != rule->window + 1)
		add_range(ranges, zones, index, 0, USECS_PER_DAY);
	else if (first < last)
		add_range(ranges, zones, index, first, last);
	else
	{
		add_range(ranges, zones, index, first, USECS_PER_DAY);
		add_range(ranges, zones, index, 0, last);
	}
}

/* consider_own_times adds zones in which a time of day was just reached that users there have for themselves. */
static void
consider_own_times(const CjBinding *binding, Search *search, const UserZone *zones, int count)
{
	AttrNumber column = binding->entities[CJ_USERS].columns[CJ_USERS_REMINDER_TIME].number;
	bool has_index = zone_column(binding)->present && has_zone_index(binding, column);
	Oid type = zone_type(binding);
	Size size = sizeof(Datum) * 2 * Max(count, 1);
	Ranges ranges = {0, palloc(size), palloc(size), palloc(size), palloc(size), palloc(size)};
	CjRows rows;
	bool isnull;

	for (int i = 0; i < count; i++)
	{
		if (zones[i].tz)
			add_ranges(&ranges, search->rule, zones, i);
	}
	rows = cj_app_sql_run(
		has_index ? &list_own_times_by_index : &list_own_times_by_scan, binding, NULL,
		CJ_PARAMS(CJ_ARRAY(type, cj_sql_array_with_nulls(ranges.zones, ranges.is_null, ranges.count,
														 type)),
				  CJ_ARRAY(TIMEOID, cj_sql_array(ranges.earliest, ranges.count, TIMEOID)),
				  CJ_ARRAY(TIMEOID, cj_sql_array(ranges.latest, ranges.count, TIMEOID))));
	for (uint64 row = 0; row < rows.processed; row++)
	{
		CHECK_FOR_INTERRUPTS();
		consider(search, &zones[ranges.indexes[cj_sql_int64(&rows, row, 1) - 1]],
				 DatumGetTimeADT(cj_sql_datum(&rows, row, 2, &isnull)),
				 cj_sql_int64(&rows, row, 3));
	}
	cj_sql_free(&rows);
}

/* run_count counts the users of some zones and those without one, and the first of these alone where there is a column. */
static CjRows
run_count(const CjBinding *binding, Datum *zones, int count, bool all_times)
{
	Oid type = zone_type(binding);

	return cj_app_sql_run(&count_users, binding, NULL,
						  CJ_PARAMS(CJ_ARRAY(type, cj_sql_array(zones, count, type)),
									CJ_BOOL(all_times)));
}

/* count_missed counts the users of the zones in which reminder_time passed without a run. */
static int64
count_missed(const CjBinding *binding, const Search *search)
{
	CjRows rows;
	int64 count;

	if (search->missed_count == 0 && !search->missed_without_zone)
		return search->missed_users;
	rows = run_count(binding, search->missed, search->missed_count, false);
	count = cj_sql_int64(&rows, 0, search->missed_without_zone ? 1 : 2);
	cj_sql_free(&rows);
	return count + search->missed_users;
}

List *
cj_reminder_zones_find(const CjBinding *binding, const CjDueZoneRule *rule, MemoryContext memory,
					   int64 *missed)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	Search search = {rule};
	CjRows rows = list_zones(binding);
	int count = (int) rows.processed;
	UserZone *zones = palloc(sizeof(UserZone) * Max(count, 1));
	bool isnull;

	search.missed = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		zones[i] = user_zone(rule, cj_sql_datum(&rows, i, 1, &isnull), cj_sql_text(&rows, i, 2));
		consider(&search, &zones[i], -1, 0);
	}
	cj_sql_free(&rows);
	if (binding->entities[CJ_USERS].columns[CJ_USERS_REMINDER_TIME].present)
		consider_own_times(binding, &search, zones, count);
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
add_zone_finding(const CjBinding *binding, const char *default_zone, Datum *unknown,
				 int unknown_count, const char *named, CjFindings *findings)
{
	CjRows rows = run_count(binding, unknown, unknown_count, true);
	int64 with_zone;
	int64 all;

	all = cj_sql_int64(&rows, 0, 1);
	with_zone = cj_sql_int64(&rows, 0, 2);
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
	add_zone_finding(binding, default_zone, unknown, unknown_count, unknown_names.data, findings);
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
