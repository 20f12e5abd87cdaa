/*
 * config/job_config.h
 *		The configuration of the jobs: defaults in C, what differs in challenge_jobs.job_override.
 *
 * The caller is connected to SPI (but for the default values). Results are palloc'd in the current
 * memory context.
 */
#ifndef CJ_CONFIG_JOB_CONFIG_H
#define CJ_CONFIG_JOB_CONFIG_H

#include "datatype/timestamp.h"

#include "config/cron.h"
#include "config/settings.h"

/* What a job is by default. */
typedef struct CjJobDefinition
{
	const char *name; /* also of its job function */
	const char *description;
	uint16 number;           /* of the job's lock; never given to another job */
	const char *schedule;    /* cron expression, UTC */
	const char *max_runtime; /* intervals, as text */
	const char *retry_delay;
	const char *grace;
	int max_retries;
	const char *catch_up;
	const CjSetting *settings; /* ends in one without a name */
} CjJobDefinition;

/* What is in force for a job. */
typedef struct CjJobConfig
{
	bool enabled;
	char *schedule;
	CjCronExpression cron; /* of the schedule */
	char *engine;          /* NULL: not scheduled */
	int max_runtime_ms;    /* 0: no limit */
	Jsonb *settings;       /* every setting of the job, checked */
} CjJobConfig;

/* What alter_job changes; pointers that are NULL leave things as they are. */
typedef struct CjJobChange
{
	const char *schedule;
	const bool *enabled;
	const Interval *max_runtime;
	const int *max_retries;
	const Interval *retry_delay;
	const char *catch_up;
	const Interval *grace;
	Jsonb *settings;
} CjJobChange;

/*
 * Reads what is in force. Raises invalid_parameter_value if what is stored is not valid for this
 * version of the library.
 */
extern CjJobConfig *cj_job_config_load(const CjJobDefinition *job);

/*
 * Returns the zone that the app's columns of type timestamp are read in, for all jobs: the setting timestamp_time_zone of
 * auto_complete_challenges. Raises invalid_parameter_value.
 */
extern char *cj_job_config_timestamp_time_zone(void);

/*
 * Checks and stores a change. A new schedule, and enabling, set scheduled_at anew: scheduled times from before do not
 * count. Raises invalid_parameter_value, datetime_field_overflow.
 */
extern void cj_job_config_alter(const CjJobDefinition *job, const CjJobChange *change);

/* Takes a job back to its defaults; engine and scheduled_at stay. */
extern void cj_job_config_reset(const CjJobDefinition *job);

/*
 * Notes by which engine a job is scheduled, or with NULL that it is not. The moment of the first
 * call with an engine is kept when it is called again with the same one.
 */
extern void cj_job_config_set_engine(const CjJobDefinition *job, const char *engine);

/* Returns how late a tick of the worker may come that is not late: two naps, in microseconds. */
extern int64 cj_job_config_shortest_grace(void);

#endif /* CJ_CONFIG_JOB_CONFIG_H */
