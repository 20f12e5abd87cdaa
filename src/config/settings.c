/*
 * config/settings.c
 *		The settings of a job: what there is, what is allowed, what is in force.
 *
 * Everything that is set is checked here, once when it is set and again when it is read from the table, so that a
 * job can rely on what it gets.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "base/local_time.h"
#include "base/template.h"
#include "config/settings.h"

static const CjSetting *
find_setting(const CjSetting *settings, const char *name, int len)
{
	for (const CjSetting *s = settings; s->name; s++)
	{
		if (strlen(s->name) == len && strncmp(s->name, name, len) == 0)
			return s;
	}
	return NULL;
}

/* join_words makes a readable list of words, each between `left` and `right`. */
static char *
join_words(const char *const *words, const char *left, const char *right)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; words && words[i]; i++)
		appendStringInfo(&list, "%s%s%s%s", i > 0 ? ", " : "", left, words[i], right);
	return list.data;
}

static char *
list_settings(const CjSetting *settings)
{
	StringInfoData list;

	if (settings->name == NULL)
		return pstrdup("It has no settings.");
	initStringInfo(&list);
	for (const CjSetting *s = settings; s->name; s++)
		appendStringInfo(&list, "%s%s", s == settings ? "Its settings are: " : ", ", s->name);
	appendStringInfoChar(&list, '.');
	return list.data;
}

static void
reject(const char *job, const CjSetting *setting, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for setting \"%s\" of job \"%s\"", setting->name, job),
			 errdetail("%s", what),
			 errhint("Run: SELECT challenge_jobs.alter_job('%s', settings => %s);", job,
					 quote_literal_cstr(psprintf("{\"%s\": %s}", setting->name,
												 setting->default_json)))));
}

/* number_of returns a jsonb number as double precision; numbers out of its range are infinite. */
static double
number_of(const JsonbValue *value)
{
	char *text =
		DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

	return strtod(text, NULL);
}

static void
check_number(const char *job, const CjSetting *setting, const JsonbValue *value)
{
	bool integer = setting->type == CJ_SETTING_INTEGER;
	double number;

	if (value->type == jbvNumeric)
	{
		number = number_of(value);
		if (number >= setting->min && number <= setting->max &&
			(!integer || number == (double) (int64) number))
			return;
	}
	reject(job, setting,
		   psprintf("The setting takes %s from %.15g to %.15g.",
					integer ? "a whole number" : "a number", setting->min, setting->max));
}

/* parse_interval reads an interval; false if it is none. Pure, as interval_in cannot be asked softly. */
static bool
parse_interval(const char *text, Interval *interval)
{
	char buffer[256];
	char *fields[MAXDATEFIELDS];
	int types[MAXDATEFIELDS];
	int count;
	int type;
	struct pg_itm_in parts = {0};

	if (strlen(text) >= sizeof(buffer) / 2)
		return false;
	if (ParseDateTime(text, buffer, sizeof(buffer), fields, types, MAXDATEFIELDS, &count) != 0 ||
		DecodeInterval(fields, types, count, INTERVAL_FULL_RANGE, &type, &parts) != 0)
	{
		parts = (struct pg_itm_in){0};
		if (DecodeISO8601Interval(unconstify(char *, text), &type, &parts) != 0)
			return false;
	}
	return type == DTK_DELTA && itmin2interval(&parts, interval) == 0;
}

/* seconds_of returns the length of an interval in seconds, a month being 30 days. */
static double
seconds_of(const Interval *interval)
{
	return ((double) interval->month * DAYS_PER_MONTH + interval->day) * SECS_PER_DAY +
		   (double) interval->time / USECS_PER_SEC;
}

static char *
describe_seconds(double seconds)
{
	static const struct
	{
		const char *name;
		int seconds;
	} units[] = {{"day", SECS_PER_DAY}, {"hour", SECS_PER_HOUR}, {"minute", SECS_PER_MINUTE}};
	int64 whole = (int64) seconds;

	for (int i = 0; i < lengthof(units); i++)
	{
		if (whole > 0 && whole % units[i].seconds == 0)
			return psprintf(INT64_FORMAT " %s%s", whole / units[i].seconds, units[i].name,
							whole == units[i].seconds ? "" : "s");
	}
	return psprintf(INT64_FORMAT " seconds", whole);
}

static void
check_interval(const char *job, const CjSetting *setting, const char *text)
{
	bool whole_days = setting->type == CJ_SETTING_DAYS;
	bool has_unit = text[strspn(text, "0123456789.+- ")] != '\0';
	Interval interval;

	/* PostgreSQL takes a number alone for seconds: "30" is not what keeps notifications for a month */
	if (!has_unit && strspn(text, "0.+- ") < strlen(text))
		reject(job, setting,
			   psprintf("The setting takes an interval with its unit, as in \"%s days\".", text));
	if (parse_interval(text, &interval) && seconds_of(&interval) >= setting->min &&
		seconds_of(&interval) <= setting->max &&
		!(whole_days && fmod(seconds_of(&interval), SECS_PER_DAY) != 0))
		return;
	reject(job, setting,
		   psprintf("The setting takes %s from %s to %s%s%s.",
					whole_days ? "an interval of whole days" : "an interval",
					describe_seconds(setting->min), describe_seconds(setting->max),
					setting->words ? ", or " : "",
					setting->words ? join_words(setting->words, "\"", "\"") : ""));
}

/* has_word returns whether a text is one of the words of a setting, which may have none. */
static bool
has_word(const CjSetting *setting, const char *text)
{
	for (int i = 0; setting->words && setting->words[i]; i++)
	{
		if (strcmp(text, setting->words[i]) == 0)
			return true;
	}
	return false;
}

/* parse_time reads a time of day, HH:MM or HH:MM:SS; false if it is none. */
static bool
parse_time(const char *text, TimeADT *time)
{
	int part[3] = {0, 0, 0};
	int count = 0;

	for (const char *p = text; count < 3; p += 3)
	{
		if (!isdigit((unsigned char) p[0]) || !isdigit((unsigned char) p[1]))
			return false;
		part[count++] = (p[0] - '0') * 10 + (p[1] - '0');
		if (p[2] == '\0')
			break;
		if (p[2] != ':' || count == 3)
			return false;
	}
	*time = ((part[0] * 60 + part[1]) * 60 + part[2]) * USECS_PER_SEC;
	return count >= 2 && part[0] < 24 && part[1] < 60 && part[2] < 60;
}

static void
check_text(const char *job, const CjSetting *setting, const char *text)
{
	char *unknown;
	TimeADT time;

	switch (setting->type)
	{
		case CJ_SETTING_INTERVAL:
		case CJ_SETTING_DAYS:
		case CJ_SETTING_INTERVALS:
			if (!has_word(setting, text))
				check_interval(job, setting, text);
			break;
		case CJ_SETTING_TIME:
			if (!parse_time(text, &time) ||
				(setting->max > 0 && time > (int64) setting->max * USECS_PER_SEC))
				reject(
					job, setting,
					psprintf(
						"The setting takes a time of day from 00:00 to %s, as HH:MM or HH:MM:SS.",
						setting->max > 0 ? psprintf("%02d:00", (int) setting->max / SECS_PER_HOUR)
										 : "23:59:59"));
			break;
		case CJ_SETTING_CHOICE:
			if (!has_word(setting, text))
				reject(job, setting,
					   psprintf("The setting takes one of %s, not \"%s\".",
								join_words(setting->words, "\"", "\""), text));
			break;
		case CJ_SETTING_TIME_ZONE:
			if (!has_word(setting, text) && cj_local_time_zone(text) == NULL)
				reject(job, setting, psprintf("There is no time zone \"%s\".", text));
			break;
		default:
			unknown = cj_template_unknown(text, setting->words);
			if (unknown)
				reject(job, setting,
					   psprintf("The placeholder {%s} is none of %s.", unknown,
								join_words(setting->words, "{", "}")));
	}
}

/* read_labels returns the texts of a JSON list, NIL if it is none or holds anything else. */
static List *
read_labels(const JsonbValue *value)
{
	List *labels = NIL;
	JsonbIterator *it;
	JsonbValue item;
	JsonbIteratorToken token;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return NIL;
	it = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&it, &item, true);
	while ((token = JsonbIteratorNext(&it, &item, true)) == WJB_ELEM)
	{
		if (item.type != jbvString)
			return NIL;
		labels = lappend(labels, pnstrdup(item.val.string.val, item.val.string.len));
	}
	return labels;
}

static void
check_labels(const char *job, const CjSetting *setting, const JsonbValue *value)
{
	if (value->type == jbvString &&
		has_word(setting, pnstrdup(value->val.string.val, value->val.string.len)))
		return;
	if (read_labels(value) == NIL)
		reject(job, setting,
			   psprintf("The setting takes a list of texts, or %s.",
						join_words(setting->words, "\"", "\"")));
}

static void
check_intervals(const char *job, const CjSetting *setting, const JsonbValue *object)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue value;

	if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
		reject(job, setting, "The setting takes an object of names and intervals.");
	it = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString)
			reject(job, setting, "The setting takes an object of names and intervals.");
		check_text(job, setting, pnstrdup(value.val.string.val, value.val.string.len));
	}
}

static void
check_value(const char *job, const CjSetting *setting, const JsonbValue *value)
{
	switch (setting->type)
	{
		case CJ_SETTING_BOOLEAN:
			if (value->type != jbvBool)
				reject(job, setting, "The setting takes true or false.");
			break;
		case CJ_SETTING_INTEGER:
		case CJ_SETTING_NUMBER:
			check_number(job, setting, value);
			break;
		case CJ_SETTING_LABELS:
			check_labels(job, setting, value);
			break;
		case CJ_SETTING_INTERVALS:
			check_intervals(job, setting, value);
			break;
		case CJ_SETTING_CHOICE:
		case CJ_SETTING_INTERVAL:
		case CJ_SETTING_DAYS:
		case CJ_SETTING_TIME:
		case CJ_SETTING_TIME_ZONE:
		case CJ_SETTING_TEMPLATE:
			if (value->type != jbvString)
				reject(job, setting, "The setting takes a text.");
			check_text(job, setting, pnstrdup(value->val.string.val, value->val.string.len));
			break;
	}
}

Jsonb *
cj_settings_default(const CjSetting *settings)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (const CjSetting *s = settings; s->name; s++)
		appendStringInfo(&json, "%s\"%s\": %s", s == settings ? "" : ", ", s->name,
						 s->default_json);
	appendStringInfoChar(&json, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

void
cj_settings_check(const char *job, const CjSetting *settings, Jsonb *values, bool allow_null)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(values))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("settings of job \"%s\" are not a JSON object", job),
				 settings->name ?
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', settings => '{\"%s\": %s}');", job,
						 settings->name, settings->default_json) :
				 errdetail("It has no settings.")));

	it = JsonbIteratorInit(&values->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const CjSetting *setting;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		setting = find_setting(settings, key.val.string.val, key.val.string.len);
		if (setting == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\" has no setting \"%.*s\"", job, key.val.string.len,
							key.val.string.val),
					 errdetail("%s", list_settings(settings)),
					 errhint("Run: SELECT settings FROM challenge_jobs.job WHERE job = '%s';", job)));
		if (!(allow_null && value.type == jbvNull))
			check_value(job, setting, &value);
	}
}

static void
get_value(Jsonb *values, const char *name, enum jbvType type, JsonbValue *value)
{
	if (getKeyJsonValueFromContainer(&values->root, name, strlen(name), value) == NULL ||
		value->type != type)
		elog(ERROR, "setting \"%s\" is missing or of an unexpected type", name);
}

bool
cj_settings_bool(Jsonb *values, const char *name)
{
	JsonbValue value;

	get_value(values, name, jbvBool, &value);
	return value.val.boolean;
}

int
cj_settings_int(Jsonb *values, const char *name)
{
	JsonbValue value;

	get_value(values, name, jbvNumeric, &value);
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value.val.numeric)));
}

Numeric
cj_settings_numeric(Jsonb *values, const char *name)
{
	JsonbValue value;

	get_value(values, name, jbvNumeric, &value);
	return DatumGetNumericCopy(NumericGetDatum(value.val.numeric));
}

char *
cj_settings_text(Jsonb *values, const char *name)
{
	JsonbValue value;

	get_value(values, name, jbvString, &value);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

Interval *
cj_settings_interval(Jsonb *values, const char *name)
{
	Interval *interval = palloc(sizeof(Interval));

	return parse_interval(cj_settings_text(values, name), interval) ? interval : NULL;
}

int
cj_settings_intervals(Jsonb *values, const char *name, char ***names, Interval ***intervals)
{
	JsonbValue object;
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;
	JsonbIteratorToken token;
	int count = 0;

	get_value(values, name, jbvBinary, &object);
	*names = palloc(sizeof(char *) * JsonContainerSize(object.val.binary.data));
	*intervals = palloc(sizeof(Interval *) * JsonContainerSize(object.val.binary.data));
	it = JsonbIteratorInit(object.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		Interval *interval = palloc(sizeof(Interval));

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		(*names)[count] = pnstrdup(key.val.string.val, key.val.string.len);
		(*intervals)[count++] =
			parse_interval(pnstrdup(value.val.string.val, value.val.string.len), interval)
				? interval
				: NULL;
	}
	return count;
}

int64
cj_settings_microseconds(Jsonb *values, const char *name)
{
	const Interval *interval = cj_settings_interval(values, name);

	if (interval == NULL)
		return -1;
	return ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY +
		   interval->time;
}

List *
cj_settings_labels(Jsonb *values, const char *name)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(&values->root, name, strlen(name), &value) == NULL)
		elog(ERROR, "setting \"%s\" is missing", name);
	return read_labels(&value);
}

TimeADT
cj_settings_time(Jsonb *values, const char *name)
{
	TimeADT time;

	if (!parse_time(cj_settings_text(values, name), &time))
		elog(ERROR, "setting \"%s\" is not a time of day", name);
	return time;
}
