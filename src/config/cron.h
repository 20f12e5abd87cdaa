/*
 * config/cron.h
 *		Schedules in the notation of cron: five fields (minute, hour, day of month, month, day of
 *		week) with lists, ranges, steps and English names, $ for the last day of the month, or a
 *		nickname such as @daily. In UTC.
 *
 * Pure: no SPI, no catalog access. A scheduled time is a minute that matches, as the moment in which it begins.
 */
#ifndef CJ_CONFIG_CRON_H
#define CJ_CONFIG_CRON_H

#include "datatype/timestamp.h"

typedef struct CjCronExpression
{
	uint64 minutes;   /* bit n: minute n, 0 to 59 */
	uint32 hours;     /* bit n: hour n, 0 to 23 */
	uint32 days;      /* bit n: day n of the month, 1 to 31 */
	uint16 months;    /* bit n: month n, 1 to 12 */
	uint8 weekdays;   /* bit n: day n of the week, 0 (Sunday) to 6 */
	bool last_day;    /* the last day of the month, too ($) */
	bool any_day;     /* the day of month field begins with * */
	bool any_weekday; /* the day of week field begins with * */
} CjCronExpression;

/*
 * Reads an expression. Returns NULL if it is valid, else what is wrong with it, as a sentence for an
 * errdetail (palloc'd).
 */
extern char *cj_cron_parse(const char *text, CjCronExpression *result);

/*
 * Returns the five fields that a nickname stands for, and any other text as it is. For pg_cron, which
 * from 1.6 on accepts @yearly and @annually and never fires them.
 */
extern const char *cj_cron_spell_out(const char *text);

/*
 * Finds the first scheduled time after a moment, or the last one at or before it; false if there is none within
 * the range of timestamps (30 February). The moment may be infinite.
 */
extern bool cj_cron_next(const CjCronExpression *expression, TimestampTz after,
						 TimestampTz *moment);
extern bool cj_cron_previous(const CjCronExpression *expression, TimestampTz at,
							 TimestampTz *moment);

/*
 * Returns the longest time between one scheduled time and the next, in minutes, of a schedule that has scheduled times every
 * day; for one that leaves out days, that of two days.
 */
extern int cj_cron_longest_gap(const CjCronExpression *expression);

#endif /* CJ_CONFIG_CRON_H */
