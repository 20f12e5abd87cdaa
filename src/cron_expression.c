/*
 * cron_expression.c
 *		Schedules in the notation of cron.
 *
 * Called by registry, to check a schedule when it is set. Accepts what cron.schedule() of pg_cron 1.4
 * accepts of it: five fields, separated by blanks, and the nicknames; neither seconds nor @reboot,
 * as a slot must be a moment that can be told in advance.
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "cron_expression.h"

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

/* In the day of week, 7 is Sunday, too. */
static const Field fields[] = {
	{"minute", 0, 59, NULL},
	{"hour", 0, 23, NULL},
	{"day of month", 1, 31, NULL},
	{"month", 1, 12, month_names},
	{"day of week", 0, 7, weekday_names},
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

/* read_number reads an unsigned number below 1000 and moves on; false if there is none. */
static bool
read_number(const char **p, int *number)
{
	const char *start = *p;

	*number = 0;
	while (**p >= '0' && **p <= '9' && *p - start < 3)
		*number = *number * 10 + (*(*p)++ - '0');
	return *p > start && !(**p >= '0' && **p <= '9');
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

/* skip_blanks moves on to the next character that is neither blank nor tab. */
static void
skip_blanks(const char **p)
{
	while (**p == ' ' || **p == '\t')
		(*p)++;
}

/* cj_cron_expression_parse reads an expression; returns what is wrong with it, or NULL. */
char *
cj_cron_expression_parse(const char *text, CjCronExpression *result)
{
	const char *p = text;
	uint64 sets[lengthof(fields)];
	bool any[lengthof(fields)];

	skip_blanks(&p);
	if (*p == '@')
	{
		bool known = false;

		for (int i = 0; i < lengthof(nicknames) && !known; i++)
		{
			known = pg_strcasecmp(p, nicknames[i].name) == 0;
			if (known)
				p = nicknames[i].expression;
		}
		if (!known)
			return psprintf("\"%s\" is none of @yearly, @annually, @monthly, @weekly, @daily, "
							"@midnight, @hourly.",
							p);
	}

	for (int i = 0; i < lengthof(fields); i++)
	{
		skip_blanks(&p);
		if (*p == '\0')
			return psprintf("A schedule has five fields, this one has %d.", i);
		any[i] = *p == '*';
		if (!read_field(&p, &fields[i], &sets[i]))
			return psprintf("The field %d (%s, %d to %d) is not valid.", i + 1, fields[i].name,
							fields[i].first, fields[i].last);
	}
	skip_blanks(&p);
	if (*p != '\0')
		return pstrdup("A schedule has five fields, this one has more.");

	result->minutes = sets[0];
	result->hours = (uint32) sets[1];
	result->days = (uint32) sets[2];
	result->months = (uint16) sets[3];
	result->weekdays = (uint8) ((sets[4] | sets[4] >> 7) & 0x7f);
	result->any_day = any[2];
	result->any_weekday = any[4];
	return NULL;
}

/* is_daily tells whether a schedule has slots every day. */
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

/* cj_cron_expression_longest_pause returns the longest time between two slots, in minutes. */
int
cj_cron_expression_longest_pause(const CjCronExpression *expression)
{
	int day = HOURS_PER_DAY * MINS_PER_HOUR;
	int last = -1;
	int longest = 0;

	if (!is_daily(expression))
		return 2 * day;
	/* once around the clock, and on to the first slot of the next day */
	for (int minute = 0; minute < 2 * day; minute++)
	{
		if ((expression->hours >> (minute % day / MINS_PER_HOUR) & 1) == 0 ||
			(expression->minutes >> (minute % MINS_PER_HOUR) & 1) == 0)
			continue;
		if (last >= 0)
			longest = Max(longest, minute - last);
		last = minute;
	}
	return longest;
}
