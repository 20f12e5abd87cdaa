/*
 * jobs/reminder_zones.h
 *		In which zones of the users a time of day has just come to pass.
 */
#ifndef CJ_JOBS_REMINDER_ZONES_H
#define CJ_JOBS_REMINDER_ZONES_H

#include "pgtime.h"

#include "jobs/reminder_ledger.h"
#include "run/job.h"

/* What makes a time zone due. */
typedef struct CjDueZoneRule
{
	TimestampTz as_of;
	TimeADT time;        /* of day, microseconds */
	int64 window;        /* after which it is past, microseconds, less than a day */
	pg_tz *default_zone; /* of users without a zone, or with one that is unknown */
} CjDueZoneRule;

/* Zones in which the same date began at the same moment. */
typedef struct CjDueZones
{
	DateADT date;
	TimestampTz midnight; /* its first moment */
	int count;
	Datum *zones;      /* as in the users' column, of its base type; 0: users without a zone */
	CjZoneNote *notes; /* on the zones, likewise */
} CjDueZones;

/*
 * Returns a List of CjDueZones in `memory`: every zone that users have (loosely: values that are equal
 * count once) in which reminder_time was just reached. Where users have no column for it, they all are without a zone.
 * The caller has become the owner of the tables.
 */
extern List *cj_reminder_zones_find(const CjBinding *binding, const CjDueZoneRule *rule,
									MemoryContext memory);

/* Adds a finding for users with an unknown zone or none; runs as the owner of the tables. */
extern void cj_reminder_zones_examine(const CjBinding *binding, const char *default_zone,
									  CjFindings *findings);

#endif /* CJ_JOBS_REMINDER_ZONES_H */
