/*
 * base/local_time.c
 *		From moments to local dates and times of a zone, and back.
 *
 * Needs no transaction.
 *
 * A statement must not convert a column of the app from one zone to another: that would be a STABLE
 * function over a column, which no index serves and a distributed planner refuses.
 * So the bound to compare with is computed here, once.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/local_time.h"

/* No zone is further from Greenwich; POSIX forms go to a day and a little. */
#define MAX_OFFSET_HOURS 26

/*
 * So many texts of users that may be no names of the zone database are taken by a session: PostgreSQL keeps each zone
 * that it has once made out of a text, some 20 kB, for as long as the session lives.
 */
#define MAX_OTHER_ZONES 100

/* load_zone makes a zone out of a text, if it can, as SET TIME ZONE does; it stays for as long as the session lives. */
static pg_tz *
load_zone(const char *name)
{
	char *end;
	double hours = strtod(name, &end);

	if (end != name && *end == '\0')
	{
		/* SET TIME ZONE '5.5' means that many hours east; as it does, the sign is turned */
		if (isnan(hours) || fabs(hours) > MAX_OFFSET_HOURS)
			return NULL;
		return pg_tzset_offset(-(long int) rint(hours * SECS_PER_HOUR));
	}
	return strlen(name) > TZ_STRLEN_MAX ? NULL : pg_tzset(name);
}

pg_tz *
cj_local_time_zone(const char *name)
{
	pg_tz *zone = load_zone(name);

	return (zone != NULL && pg_tz_acceptable(zone)) ? zone : NULL;
}

static bool
has_name(const List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (pg_strcasecmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* has_digit returns whether a text has a digit. What the zone database does not have has one: an offset. */
static bool
has_digit(const char *name)
{
	return strpbrk(name, "0123456789") != NULL;
}

/* list_names_with_digits returns the names of the zone database that have a digit: Etc/GMT+5, EST5EDT. Reads all of it. */
static List *
list_names_with_digits(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	pg_tzenum *zones = pg_tzenumerate_start();
	List *names = NIL;
	pg_tz *zone;

	while ((zone = pg_tzenumerate_next(zones)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (has_digit(pg_get_timezone_name(zone)))
			names = lappend(names, pstrdup(pg_get_timezone_name(zone)));
	}
	pg_tzenumerate_end(zones);
	MemoryContextSwitchTo(caller);
	return names;
}

pg_tz *
cj_local_time_zone_of_user(const char *name, bool *one_too_many)
{
	static List *known = NIL;
	static List *database_names = NIL;
	bool is_new = has_digit(name) && !has_name(known, name);
	MemoryContext caller;
	pg_tz *zone;

	*one_too_many = false;
	if (is_new && list_length(known) >= MAX_OTHER_ZONES)
	{
		if (database_names == NIL)
			database_names = list_names_with_digits();
		*one_too_many = !has_name(database_names, name);
	}
	if (*one_too_many)
		return NULL;

	zone = load_zone(name);
	if (zone && is_new && list_length(known) < MAX_OTHER_ZONES)
	{
		caller = MemoryContextSwitchTo(TopMemoryContext);
		known = lappend(known, pstrdup(name));
		MemoryContextSwitchTo(caller);
	}
	return zone && pg_tz_acceptable(zone) ? zone : NULL;
}

static void
raise_out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
}

Timestamp
cj_local_time_of(TimestampTz moment, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;
	Timestamp local;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0 ||
		tm2timestamp(&tm, fsec, NULL, &local) != 0)
		raise_out_of_range();
	return local;
}

/* to_moment reads a local time in a zone, as `local AT TIME ZONE zone` does. */
static TimestampTz
to_moment(Timestamp local, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;
	TimestampTz moment;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		raise_out_of_range();
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &moment) != 0)
		raise_out_of_range();
	return moment;
}

DateADT
cj_local_time_date(TimestampTz moment, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0)
		raise_out_of_range();
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

/*
 * cj_local_time_bound returns the first local time that is later than the moment.
 *
 * That is the local time of the moment, except while clocks run through an hour that will come a
 * second time: PostgreSQL reads such a local time as the second one, which is still ahead, and so is
 * everything from the beginning of the repeated hour on.
 */
Timestamp
cj_local_time_bound(TimestampTz moment, pg_tz *zone)
{
	Timestamp local = cj_local_time_of(moment, zone);
	pg_time_t now;
	pg_time_t boundary;
	long int before_offset;
	long int after_offset;
	int before_isdst;
	int after_isdst;

	if (to_moment(local, zone) <= moment)
		return local + 1;

	now = timestamptz_to_time_t(moment);
	if (pg_next_dst_boundary(&now, &before_offset, &before_isdst, &boundary, &after_offset,
							 &after_isdst, zone) == 1)
		return time_t_to_timestamptz(boundary) + (Timestamp) after_offset * USECS_PER_SEC;
	return local + 1;
}

/*
 * first_moment returns the first moment at which the clocks of a zone show a local time or a later one.
 *
 * It goes through the stretches of time between two changes of the zone's offset, from well before
 * the local time can be reached in any zone. In each, clocks show the local time at one moment; if that
 * is before the stretch begins, the change jumped over it, and the beginning is the end of the gap.
 */
static TimestampTz
first_moment(Timestamp local, pg_tz *zone)
{
	TimestampTz begin = local - MAX_OFFSET_HOURS * USECS_PER_HOUR;
	pg_time_t now = timestamptz_to_time_t(begin);
	pg_time_t boundary;
	long int before_offset;
	long int after_offset;
	int before_isdst;
	int after_isdst;

	for (;;)
	{
		int more = pg_next_dst_boundary(&now, &before_offset, &before_isdst, &boundary,
										&after_offset, &after_isdst, zone);
		TimestampTz moment = Max(local - before_offset * USECS_PER_SEC, begin);

		/* without another change, the offset stays as it is */
		if (more != 1 || moment < time_t_to_timestamptz(boundary))
			return moment;
		now = boundary;
		begin = time_t_to_timestamptz(boundary);
	}
}

bool
cj_local_time_moment(DateADT date, TimeADT time, pg_tz *zone, TimestampTz *moment)
{
	Timestamp midnight = date * USECS_PER_DAY;

	if (cj_local_time_date(first_moment(midnight, zone), zone) != date)
		return false;
	*moment = first_moment(midnight + time, zone);
	return true;
}

/*
 * is_steady returns whether the clocks of a zone are not changed for two days before and after a moment,
 * and by how many seconds they are then ahead.
 */
static bool
is_steady(TimestampTz moment, pg_tz *zone, long int *offset)
{
	pg_time_t from = timestamptz_to_time_t(moment) - 2 * SECS_PER_DAY;
	pg_time_t boundary;
	long int after_offset;
	int before_isdst;
	int after_isdst;
	int more = pg_next_dst_boundary(&from, offset, &before_isdst, &boundary, &after_offset,
									&after_isdst, zone);

	return more == 0 || (more == 1 && boundary > from + 4 * SECS_PER_DAY);
}

bool
cj_local_time_due(TimestampTz as_of, TimeADT time, int64 window, pg_tz *zone, DateADT *date)
{
	DateADT today = cj_local_time_date(as_of, zone);
	long int offset;
	TimestampTz moment;

	/* nearly always there is nothing to search for */
	if (is_steady(as_of, zone, &offset))
	{
		int64 since = as_of + offset * USECS_PER_SEC - (today * USECS_PER_DAY + time);

		*date = since >= 0 ? today : today - 1;
		return (since >= 0 ? since : since + USECS_PER_DAY) <= window;
	}

	/* tomorrow: a time of today that a gap at midnight swallowed comes to pass tomorrow */
	for (*date = today + 1; *date >= today - 2; (*date)--)
	{
		if (cj_local_time_moment(*date, time, zone, &moment) && moment <= as_of &&
			as_of - moment <= window)
			return true;
	}
	return false;
}
