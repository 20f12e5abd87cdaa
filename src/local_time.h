/*
 * local_time.h
 *		From moments to local dates and times of a zone, and back.
 *
 * Pure but for the zone database that the server has in memory: no SPI. Moments must be finite.
 */
#ifndef CJ_LOCAL_TIME_H
#define CJ_LOCAL_TIME_H

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/date.h"

/*
 * Returns the zone of that name as SET TIME ZONE resolves it (case-insensitive names of the zone
 * database, POSIX forms), or NULL if there is none or it has leap seconds. The zone is never freed.
 */
extern pg_tz *cj_local_time_zone(const char *name);

/* Returns the local date of a moment. */
extern DateADT cj_local_time_date(TimestampTz moment, pg_tz *zone);

/*
 * Returns the local time L such that every local time before L, read in the zone as PostgreSQL reads
 * it (`t AT TIME ZONE zone`), is at or before the moment, and no local time from L on is.
 */
extern Timestamp cj_local_time_bound(TimestampTz moment, pg_tz *zone);

#endif /* CJ_LOCAL_TIME_H */
