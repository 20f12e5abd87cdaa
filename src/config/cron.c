/*
 * config/cron.c
 *		Schedules in the notation of cron.
 *
 * What is accepted here means what it means to pg_cron 1.4 to 1.6, but for @yearly and @annually, which
 * 1.6 never fires (it sets no month): pg_cron is given the five fields of a nickname. In particular, a day
 * has to match both the day of month and the day of week if one of the two fields begins with *, and
 * either of them if neither does.
 *
 * Refused here, though pg_cron accepts it:
 * - seconds ('30 seconds', from 1.5 on), since scheduled times are minutes; @reboot and @restart, since it
 *   cannot be told in advance when the scheduled time will be, and so not whether it was missed;
 * - what pg_cron does not read: anything after the fifth field or a nickname (a sixth field means
 *   seconds or years elsewhere), and anything after the part of a field that it understands ("*5" is
 *   "*" to it, "5.5" is "5"), newlines and comments about the fields;
 * - ranges that run backwards ("22-2", "fri-sun"): the empty set to 1.4 and 1.5, a set that depends on
 *   the layout of its bit strings to 1.6;
 * - steps greater than the field's last value ("*" "/60"), as from 1.6.5 on; earlier ones take the first
 *   value alone, which is hardly what was meant;
 * - numbers that wrap around to a valid value.
 *
 * Accepted here, though pg_cron refuses it: $ for the last day of the month before 1.6 (then schedule()
 * fails with the error of pg_cron), and nicknames in upper case (it is given them spelled out).
 *
 * Both accept days that do not exist (30 February): there are then no scheduled times.
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "config/cron.h"

#define MINUTES_PER_DAY (HOURS_PER_DAY * MINS_PER_HOUR)

/* The Gregorian calendar, weekdays included, repeats after 400 years. */
#define DAYS_PER_CYCLE (400 * 365 + 97)

/* pg_cron takes no longer ones. */
#define MAX_LENGTH 999

typedef struct Field
{
	const char *name;
	int first;
	int last;
	const char *const *names; /* of the values from `first` on, NULL-terminated; or NULL */
} Field;

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
										  "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum
{
	FIELD_MINUTE,
	FIELD_HOUR,
	FIELD_DAY_OF_MONTH,
	FIELD_MONTH,
	FIELD_DAY_OF_WEEK
};

/* In the day of week, 7 is Sunday, too. */
static const Field fields[] = {
	[FIELD_MINUTE] = {"minute", 0, 59, NULL},
	[FIELD_HOUR] = {"hour", 0, 23, NULL},
	[FIELD_DAY_OF_MONTH] = {"day of month", 1, 31, NULL},
	[FIELD_MONTH] = {"month", 1, 12, month_names},
	[FIELD_DAY_OF_WEEK] = {"day of week", 0, 7, weekday_names},
};

static const struct
{
	const char *name;
	const char *expression;
} nicknames[] = {
	{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
	{"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
	{"@hourly", "0 * * * *"},
};

/* ---- reading ---- */

/*
 * read_number reads an unsigned number and moves on; false if there is none. From 1000 on they are all
 * the same: too large.
 */
static bool
read_number(const char **p, int *number)
{
	const char *start = *p;

	for (*number = 0; **p >= '0' && **p <= '9'; (*p)++)
		*number = Min(*number * 10 + (**p - '0'), 1000);
	return *p > start;
}

/* read_value reads a number or a name of the field and moves on; false if there is neither. */
static bool
read_value(const char **p, const Field *field, int *value)
{
	if (read_number(p, value))
		return *value >= field->first && *value <= field->last;

	for (int i = 0; field->names && field->names[i]; i++)
	{
		if (pg_strncasecmp(*p, field->names[i], 3) == 0)
		{
			*p += 3;
			*value = field->first + i;
			return true;
		}
	}
	return false;
}

/* read_item reads one item of a list (`*`, `5`, `1-5`, with a step: `*` `/15`) into the set. */
static bool
read_item(const char **p, const Field *field, uint64 *set)
{
	int from = field->first;
	int to = field->last;
	int step = 1;
	bool is_range = true;

	if (**p == '*')
		(*p)++;
	else
	{
		if (!read_value(p, field, &from))
			return false;
		to = from;
		is_range = **p == '-';
		if (is_range)
		{
			(*p)++;
			if (!read_value(p, field, &to) || to < from)
				return false;
		}
	}
	if (**p == '/')
	{
		(*p)++;
		if (!is_range || !read_number(p, &step) || step < 1 || step > field->last)
			return false;
	}
	for (int value = from; value <= to; value += step)
		*set |= UINT64CONST(1) << value;
	return true;
}

/* read_field reads a list of items up to a blank or the end. */
static bool
read_field(const char **p, const Field *field, uint64 *set)
{
	*set = 0;
	for (;;)
	{
		if (!read_item(p, field, set))
			return false;
		if (**p != ',')
			break;
		(*p)++;
	}
	return **p == '\0' || **p == ' ' || **p == '\t';
}

static void
skip_blanks(const char **p)
{
	while (**p == ' ' || **p == '\t')
		(*p)++;
}

/* read_last_day reads $ if it is the whole field; false, without moving on, if it is not. */
static bool
read_last_day(const char **p)
{
	if ((*p)[0] != '$' || ((*p)[1] != ' ' && (*p)[1] != '\t'))
		return false;
	(*p)++;
	return true;
}

const char *
cj_cron_spell_out(const char *text)
{
	const char *name = text;
	const char *rest;
	size_t length;

	skip_blanks(&name);
	length = strcspn(name, " \t");
	rest = name + length;
	skip_blanks(&rest);
	for (int i = 0; i < lengthof(nicknames); i++)
	{
		if (*rest == '\0' && strlen(nicknames[i].name) == length &&
			pg_strncasecmp(name, nicknames[i].name, length) == 0)
			return nicknames[i].expression;
	}
	return text;
}

/* refuse_nickname says why a text that begins with @ is not valid. */
static char *
refuse_nickname(const char *text)
{
	const char *reason = "";

	if (pg_strcasecmp(text, "@reboot") == 0 || pg_strcasecmp(text, "@restart") == 0)
		reason = ", and when the server starts cannot be told in advance";
	return psprintf("\"%s\" is none of @yearly, @annually, @monthly, @weekly, @daily, @midnight, "
					"@hourly%s.",
					text, reason);
}

/* is_seconds returns whether a text is one of pg_cron's intervals, such as "30 seconds". */
static bool
is_seconds(const char *p)
{
	int number;

	if (!read_number(&p, &number))
		return false;
	skip_blanks(&p);
	return pg_strncasecmp(p, "second", strlen("second")) == 0;
}

char *
cj_cron_parse(const char *text, CjCronExpression *result)
{
	const char *p = cj_cron_spell_out(text);
	uint64 sets[lengthof(fields)];
	bool any[lengthof(fields)];
	bool last_day = false;

	if (strlen(p) > MAX_LENGTH)
		return psprintf("A schedule has at most %d bytes.", MAX_LENGTH);
	skip_blanks(&p);
	if (*p == '@')
		return refuse_nickname(p);
	if (is_seconds(p))
		return pstrdup("A schedule is to the minute, it cannot be an interval of seconds.");

	for (int i = 0; i < lengthof(fields); i++)
	{
		skip_blanks(&p);
		if (*p == '\0')
			return psprintf("A schedule has five fields, this one has %d.", i);
		any[i] = *p == '*';
		sets[i] = 0;
		if (i == FIELD_DAY_OF_MONTH && read_last_day(&p))
			last_day = true;
		else if (!read_field(&p, &fields[i], &sets[i]))
			return psprintf("The field %d (%s, %d to %d) is not valid.", i + 1, fields[i].name,
							fields[i].first, fields[i].last);
	}
	skip_blanks(&p);
	if (*p != '\0')
		return pstrdup("A schedule has five fields, this one has more.");

	result->minutes = sets[FIELD_MINUTE];
	result->hours = (uint32) sets[FIELD_HOUR];
	result->days = (uint32) sets[FIELD_DAY_OF_MONTH];
	result->months = (uint16) sets[FIELD_MONTH];
	result->weekdays = (uint8) ((sets[FIELD_DAY_OF_WEEK] | sets[FIELD_DAY_OF_WEEK] >> 7) & 0x7f);
	result->last_day = last_day;
	result->any_day = any[FIELD_DAY_OF_MONTH];
	result->any_weekday = any[FIELD_DAY_OF_WEEK];
	return NULL;
}

/* ---- scheduled times ---- */

/* is_day returns whether a Julian day is one that matches. */
static bool
is_day(const CjCronExpression *expression, int julian)
{
	int year;
	int month;
	int day;
	bool in_days;
	bool in_weekdays = (expression->weekdays >> j2day(julian) & 1) != 0;

	j2date(julian, &year, &month, &day);
	if ((expression->months >> month & 1) == 0)
		return false;
	in_days = (expression->days >> day & 1) != 0 ||
			  (expression->last_day && day == day_tab[isleap(year)][month - 1]);
	return expression->any_day || expression->any_weekday ? in_days && in_weekdays
														  : in_days || in_weekdays;
}

/* is_time returns whether a minute of the day is one that matches. */
static bool
is_time(const CjCronExpression *expression, int minute)
{
	return (expression->hours >> (minute / MINS_PER_HOUR) & 1) != 0 &&
		   (expression->minutes >> (minute % MINS_PER_HOUR) & 1) != 0;
}

/* minute_of returns in which minute since the beginning of Julian day 0 a moment is. */
static int64
minute_of(TimestampTz moment)
{
	/* the difference can be too large for an int64 */
	return (int64) (((uint64) moment - (uint64) MIN_TIMESTAMP) / USECS_PER_MINUTE);
}

/* search finds the first minute that matches, from one on, by a step of 1 or back by -1; false if there is none in range. */
static bool
search(const CjCronExpression *expression, int64 minute, int step, TimestampTz *moment)
{
	int day = (int) (minute / MINUTES_PER_DAY);
	int time = (int) (minute % MINUTES_PER_DAY);

	for (int i = 0; i <= DAYS_PER_CYCLE && day >= 0 && day < TIMESTAMP_END_JULIAN; i++)
	{
		bool matches = is_day(expression, day);

		for (; matches && time >= 0 && time < MINUTES_PER_DAY; time += step)
		{
			if (!is_time(expression, time))
				continue;
			*moment = (day - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY + time * USECS_PER_MINUTE;
			return true;
		}
		day += step;
		time = step > 0 ? 0 : MINUTES_PER_DAY - 1;
	}
	return false;
}

bool
cj_cron_next(const CjCronExpression *expression, TimestampTz after, TimestampTz *moment)
{
	if (after >= END_TIMESTAMP)
		return false;
	return search(expression, after < MIN_TIMESTAMP ? 0 : minute_of(after) + 1, 1, moment);
}

bool
cj_cron_previous(const CjCronExpression *expression, TimestampTz at, TimestampTz *moment)
{
	if (at < MIN_TIMESTAMP)
		return false;
	return search(expression, minute_of(Min(at, END_TIMESTAMP - 1)), -1, moment);
}

static bool
is_daily(const CjCronExpression *expression)
{
	bool days = expression->days == 0xfffffffe;
	bool weekdays = expression->weekdays == 0x7f;

	if (expression->months != 0x1ffe)
		return false;
	/* where both fields restrict, a day need be in one of them only */
	return expression->any_day || expression->any_weekday ? days && weekdays : days || weekdays;
}

int
cj_cron_longest_gap(const CjCronExpression *expression)
{
	int last = -1;
	int longest = 0;

	if (!is_daily(expression))
		return 2 * MINUTES_PER_DAY;
	/* once around the clock, and on to the first scheduled time of the next day */
	for (int minute = 0; minute < 2 * MINUTES_PER_DAY; minute++)
	{
		if (!is_time(expression, minute % MINUTES_PER_DAY))
			continue;
		if (last >= 0)
			longest = Max(longest, minute - last);
		last = minute;
	}
	return longest;
}
