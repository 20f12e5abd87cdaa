/*
 * local_time.c
 *		From moments to local dates and times of a zone, and back.
 *
 * Called by settings (zone names) and by the jobs (what is due). Needs no transaction.
 *
 * A statement must not convert a column of the app from one zone to another: that would be a STABLE
 * function over a column, which no index serves and a distributed planner refuses.
 * So the bound to compare with is computed here, once.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "local_time.h"

/* cj_local_time_zone resolves a zone name as SET TIME ZONE does. */
pg_tz *
cj_local_time_zone(const char *name)
{
	pg_tz *zone;

	if (strlen(name) > TZ_STRLEN_MAX)
		return NULL;
	zone = pg_tzset(name);
	return (zone != NULL && pg_tz_acceptable(zone)) ? zone : NULL;
}

/* to_local returns the local time of a moment. */
static Timestamp
to_local(TimestampTz moment, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;
	Timestamp local;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0 ||
		tm2timestamp(&tm, fsec, NULL, &local) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
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
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &moment) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return moment;
}

/* cj_local_time_date returns the local date of a moment. */
DateADT
cj_local_time_date(TimestampTz moment, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
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
	Timestamp local = to_local(moment, zone);
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
