/* jobs/reminder_zones.h: in which zones of the users reminder_time was just reached, and what that says about streaks. */
#ifndef CJ_JOBS_REMINDER_ZONES_H
#define CJ_JOBS_REMINDER_ZONES_H

#include "pgtime.h"

#include "jobs/reminder_zone_notes.h"

/* What makes a time zone due. */
typedef struct CjDueZoneRule
{
	TimestampTz as_of;
	TimeADT time; /* of day, microseconds; of users without one of their own */
	int64 window; /* after which it is past, microseconds, less than a day */
	pg_tz *
		default_zone; /* of users without a zone, or with one that is unknown; NULL: they are not reminded */
	TimeADT day_starts_at;
	pg_tz *checkin_zone; /* of check-in dates; NULL: the user's */
	int streak_days;     /* so long after a check-in the next one is due; 0: any time */
	TimestampTz
		last_as_of; /* that of the last run, DT_NOBEGIN: none; what passed since is missed */
} CjDueZoneRule;

/* When a local date begins and ends, and between which moments a last check-in has a streak at stake on it. */
typedef struct CjDueDate
{
	DateADT date;
	DateADT checkin_date; /* of a check-in on that date, as the app counts dates of check-ins */
	TimestampTz begin;
	TimestampTz end;          /* the first moment of the next date */
	TimestampTz checkin_from; /* DT_NOBEGIN: any */
	TimestampTz checkin_before;
} CjDueDate;

/* Zones, and times of day in them, for which all of that is the same. */
typedef struct CjDueZones
{
	CjDueDate date;
	List *notes; /* of CjZoneNote; `value` is of the base type of the users' column */
} CjDueZones;

/*
 * Returns a List of CjDueZones in `memory`: every zone that users have (loosely: values that are equal count once) in
 * which reminder_time was just reached, that of the setting or users' own. Where users have no column for zones, they
 * all are without one. *missed becomes the number of users for whom it was reached since the last run, but is past.
 * The caller has become the owner of the tables.
 */
extern List *cj_reminder_zones_find(const CjBinding *binding, const CjDueZoneRule *rule,
									MemoryContext memory, int64 *missed);

/*
 * Adds a finding for users with an unknown zone or none; runs as the owner of the tables. Returns the zone that is furthest
 * west, of those that a country could have, or NULL.
 */
extern const char *cj_reminder_zones_examine(const CjBinding *binding, const char *default_zone,
											 CjFindings *findings);

#endif /* CJ_JOBS_REMINDER_ZONES_H */
