/*
 * jobs/mornings.h
 *		In which zones of the users a time of day has just come to pass.
 */
#ifndef CJ_MORNINGS_H
#define CJ_MORNINGS_H

#include "pgtime.h"

#include "jobs/job.h"
#include "reminder_ledger.h"

/* What a morning is. */
typedef struct CjMorningRule
{
	TimestampTz as_of;
	TimeADT time;        /* of day, microseconds */
	int64 window;        /* after which it is past, microseconds, less than a day */
	pg_tz *default_zone; /* of users without a zone, or with one that is unknown */
} CjMorningRule;

/* Zones in which the same date began at the same moment. */
typedef struct CjMorning
{
	DateADT date;
	TimestampTz midnight; /* its first moment */
	int count;
	Datum *zones;      /* as in the users' column, of its base type; 0: users without a zone */
	CjZoneNote *notes; /* on the zones, likewise */
} CjMorning;

/*
 * Returns a List of CjMorning in `memory`: every zone that users have (loosely: values that are equal
 * count once) in which it is morning. Where users have no column for it, they all are without a zone.
 * The caller has become the owner of the tables.
 */
extern List *cj_mornings_find(const CjBinding *binding, const CjMorningRule *rule,
							  MemoryContext memory);

/* Tells the doctor of users without a zone, or with one that is unknown; as the owner of the tables. */
extern void cj_mornings_examine(const CjBinding *binding, const char *default_zone,
								const CjReport *report, CjAddFinding add);

#endif /* CJ_MORNINGS_H */
