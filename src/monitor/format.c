/*
 * monitor/format.c
 *		Moments, durations and numbers as people read them.
 *
 * Pure.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "monitor/format.h"

char *
cj_format_moment(TimestampTz moment, CjMomentFormat as)
{
	struct pg_tm tm;
	fsec_t fsec;
	const char *month;

	/* without a zone the moment is taken apart as it is stored, which is in UTC */
	if (TIMESTAMP_NOT_FINITE(moment) || timestamp2tm(moment, NULL, &tm, &fsec, NULL, NULL) != 0)
		return pstrdup("never");
	month = months[tm.tm_mon - 1];
	switch (as)
	{
		case CJ_FORMAT_SECOND:
			return psprintf("%d-%02d-%02d %02d:%02d:%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
							tm.tm_hour, tm.tm_min, tm.tm_sec);
		case CJ_FORMAT_MINUTE:
			return psprintf("%d-%02d-%02d %02d:%02d", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
							tm.tm_min);
		case CJ_FORMAT_TIME:
			return psprintf("%02d:%02d", tm.tm_hour, tm.tm_min);
		case CJ_FORMAT_DATE:
			return psprintf("%d %s", tm.tm_mday, month);
		case CJ_FORMAT_YEAR:
			return psprintf("%s %d", month, tm.tm_year);
		case CJ_FORMAT_MACHINE:
			break;
	}
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
					tm.tm_min, tm.tm_sec);
}

static char *
format_units(int64 number, int64 in_large, const char *large, const char *small)
{
	if (number % in_large == 0)
		return psprintf(INT64_FORMAT " %s", number / in_large, large);
	return psprintf(INT64_FORMAT " %s " INT64_FORMAT " %s", number / in_large, large,
					number % in_large, small);
}

/* format_decimal formats a quantity below 1000 with two or three digits. */
static char *
format_decimal(double quantity, const char *unit)
{
	char *text;

	if (quantity >= 9.95)
		return psprintf("%.0f %s", quantity, unit);
	text = psprintf("%.1f", quantity);
	if (strcmp(text + strlen(text) - 2, ".0") == 0)
		text[strlen(text) - 2] = '\0';
	return psprintf("%s %s", text, unit);
}

char *
cj_format_duration(int64 microseconds)
{
	int64 seconds;

	/* of a clock that was set back meanwhile */
	if (microseconds < 0)
		return psprintf("-%s", cj_format_duration(Min(-(microseconds + 1), PG_INT64_MAX - 1) + 1));

	/* where rounding would make 1000 ms or 60 s of it, the next unit begins */
	if (microseconds < INT64CONST(999500))
		return format_decimal(microseconds / 1000.0, "ms");
	if (microseconds < INT64CONST(59500000))
		return format_decimal(microseconds / 1000000.0, "s");
	seconds = microseconds / USECS_PER_SEC + (microseconds % USECS_PER_SEC >= USECS_PER_SEC / 2);
	if (seconds < SECS_PER_HOUR)
		return format_units(seconds, SECS_PER_MINUTE, "min", "s");
	if (seconds < SECS_PER_DAY)
		return format_units(seconds / SECS_PER_MINUTE, MINS_PER_HOUR, "h", "min");
	return format_units(seconds / SECS_PER_HOUR, HOURS_PER_DAY, "d", "h");
}

char *
cj_format_count(int64 count)
{
	char *digits = psprintf(INT64_FORMAT, count);
	int length = strlen(digits);
	char *text = palloc(length + length / 3 + 1);
	char *end = text;

	for (int i = 0; i < length; i++)
	{
		*end++ = digits[i];
		if ((length - 1 - i) % 3 == 0 && i < length - 1 && digits[i] != '-')
			*end++ = ',';
	}
	*end = '\0';
	return text;
}

char *
cj_format_number_of(int64 count, const char *singular, const char *plural)
{
	return psprintf("%s %s", cj_format_count(count), count == 1 ? singular : plural);
}
