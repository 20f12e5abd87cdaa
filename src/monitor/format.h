/*
 * monitor/format.h
 *		Moments, durations and numbers as people read them.
 *
 * Pure. Texts are ASCII, palloc'd in the current memory context. Moments are in UTC, whatever the session's TimeZone.
 */
#ifndef CJ_MONITOR_FORMAT_H
#define CJ_MONITOR_FORMAT_H

#include "datatype/timestamp.h"

/* How exactly a moment is written. */
typedef enum CjMomentFormat
{
	CJ_FORMAT_SECOND, /* 2026-11-25 10:05:30 */
	CJ_FORMAT_MINUTE, /* 2026-11-25 10:05 */
	CJ_FORMAT_TIME,   /* 10:05 */
	CJ_FORMAT_DATE,   /* 25 Nov */
	CJ_FORMAT_YEAR,   /* Nov 2026 */
	CJ_FORMAT_MACHINE /* 2026-11-25T10:05:30Z */
} CjMomentFormat;

/* "never" for one that is not finite. */
extern char *cj_format_moment(TimestampTz moment, CjMomentFormat as);

/* Two units at most: 4.2 ms, 420 ms, 3.5 s, 4 min 12 s, 3 h 20 min, 2 d 4 h. */
extern char *cj_format_duration(int64 microseconds);

/* 1,234,567 */
extern char *cj_format_count(int64 count);

/* "1 run", "1,234 runs" */
extern char *cj_format_number_of(int64 count, const char *singular, const char *plural);

#endif /* CJ_MONITOR_FORMAT_H */
