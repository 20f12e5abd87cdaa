/*
 * base/local_time.h
 *		From moments to local dates and times of a zone, and back.
 *
 * Pure but for the zone database that the server has in memory: no SPI. Moments must be finite.
 */
#ifndef CJ_BASE_LOCAL_TIME_H
#define CJ_BASE_LOCAL_TIME_H

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/date.h"

/*
 * Returns the zone of that name as SET TIME ZONE resolves it (case-insensitive names of the zone
 * database, POSIX forms, hours east of Greenwich), or NULL if there is none or it has leap seconds. The
 * zone is never freed.
 */
extern pg_tz *cj_local_time_zone(const char *name);

/*
 * The same for texts that users choose, who can make up any number of zones (POSIX forms, hours): of texts that are
 * no names of the zone database a session takes 100. NULL and *one_too_many for those beyond.
 */
extern pg_tz *cj_local_time_zone_of_user(const char *name, bool *one_too_many);

/* Returns the local date of a moment. */
extern DateADT cj_local_time_date(TimestampTz moment, pg_tz *zone);

/* Returns the local time of a moment. */
extern Timestamp cj_local_time_of(TimestampTz moment, pg_tz *zone);

/*
 * Returns the local time L such that every local time before L, read in the zone as PostgreSQL reads
 * it (`t AT TIME ZONE zone`), is at or before the moment, and no local time from L on is.
 */
extern Timestamp cj_local_time_bound(TimestampTz moment, pg_tz *zone);

/*
 * Returns the moment at which the clocks of the zone first reach a time of day (microseconds) of a
 * date: the first time where it occurs twice, the end of the gap where clocks jump over it. False if the
 * zone never had that date (the date line was moved).
 */
extern bool cj_local_time_moment(DateADT date, TimeADT time, pg_tz *zone, TimestampTz *moment);

/*
 * Finds the latest date whose time of day came to pass at `as_of` or at most `window` microseconds
 * before; false if there is none. The window is shorter than a day.
 */
extern bool cj_local_time_due(TimestampTz as_of, TimeADT time, int64 window, pg_tz *zone,
							  DateADT *date);

#endif /* CJ_BASE_LOCAL_TIME_H */
