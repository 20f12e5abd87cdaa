/*
 * config/settings.h
 *		The settings of a job: what there is, what is allowed, what is in force.
 *
 * A job declares its settings as an array of CjSetting that ends in one without a name. Values are
 * kept as a jsonb object. No SPI, no catalog access; raises errors as said below.
 */
#ifndef CJ_CONFIG_SETTINGS_H
#define CJ_CONFIG_SETTINGS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

typedef enum CjSettingType
{
	CJ_SETTING_BOOLEAN,
	CJ_SETTING_INTEGER, /* between min and max */
	CJ_SETTING_NUMBER,  /* between min and max, any precision */
	CJ_SETTING_CHOICE,  /* one of `words` */
	CJ_SETTING_INTERVAL, /* as text; between min and max seconds, a month being 30 days; or one of `words` */
	CJ_SETTING_DAYS,      /* the same, of whole days */
	CJ_SETTING_INTERVALS, /* an object: names, each with an interval as above */
	CJ_SETTING_TIME,      /* time of day: HH:MM or HH:MM:SS; up to max seconds, 0: any */
	CJ_SETTING_TIME_ZONE, /* a zone as SET TIME ZONE takes it; or one of `words` */
	CJ_SETTING_LABELS,    /* a list of texts; or one of `words` */
	CJ_SETTING_TEMPLATE   /* a text with the placeholders in `words` */
} CjSettingType;

typedef struct CjSetting
{
	const char *name;
	CjSettingType type;
	const char *default_json; /* as JSON text */
	double min;
	double max;
	const char *const *
		words; /* NULL-terminated; choices, placeholders or, besides an interval or a zone, other values */
} CjSetting;

/* Returns the default values of the settings as a jsonb object. */
extern Jsonb *cj_settings_default(const CjSetting *settings);

/*
 * Checks a jsonb object of settings of a job: known keys, types, ranges, placeholders. A value may
 * be null, which stands for the default, where `allow_null`. Raises invalid_parameter_value.
 */
extern void cj_settings_check(const char *job, const CjSetting *settings, Jsonb *values,
							  bool allow_null);

/*
 * Read a value out of checked settings that hold every key; results are palloc'd. A key that is
 * missing is an internal error.
 */
extern bool cj_settings_bool(Jsonb *values, const char *name);
extern int cj_settings_int(Jsonb *values, const char *name);
extern Numeric cj_settings_numeric(Jsonb *values, const char *name);
extern char *cj_settings_text(Jsonb *values, const char *name);
extern Interval *cj_settings_interval(Jsonb *values, const char *name); /* NULL: it is a word */
extern int64 cj_settings_microseconds(Jsonb *values,
									  const char *name); /* a month is 30 days; -1: it is a word */
extern List *cj_settings_labels(Jsonb *values, const char *name); /* of texts; NIL: it is a word */
/* Returns how many names there are, and for each its interval; NULL: a word. */
extern int cj_settings_intervals(Jsonb *values, const char *name, char ***names,
								 Interval ***intervals);
extern TimeADT cj_settings_time(Jsonb *values, const char *name); /* microseconds since midnight */

#endif /* CJ_CONFIG_SETTINGS_H */
