/*
 * config/pg_cron.h
 *		Schedules: by which engine a job is fired, and the cron jobs of pg_cron.
 *
 * The caller is connected to SPI.
 */
#ifndef CJ_CONFIG_PG_CRON_H
#define CJ_CONFIG_PG_CRON_H

#include "config/job_config.h"

/* How a job is scheduled. */
typedef struct CjSchedule
{
	const char *engine;
	const char *schedule;
	const char *command; /* NULL: none is needed */
} CjSchedule;

/*
 * Schedules a job with an engine; NULL: the one it has, else pg_cron. Idempotent. With `of_all`, hints
 * are about all jobs. Raises
 * invalid_parameter_value for an unknown engine, object_not_in_prerequisite_state where pg_cron is
 * not installed in this database; warns where pg_cron does not run in UTC.
 */
extern CjSchedule cj_pg_cron_schedule(const CjJobDefinition *job, const char *engine, bool of_all);

/* Ends the schedule of a job; returns the engine that it had, or NULL. */
extern const char *cj_pg_cron_unschedule(const CjJobDefinition *job);

/*
 * Brings the cron job up to date after the job's configuration has changed; does nothing for a job
 * that pg_cron does not fire.
 */
extern void cj_pg_cron_update(const CjJobDefinition *job);

/*
 * Says what is wrong with the cron job of a job that pg_cron is to fire, as a sentence, or NULL; how
 * to mend it in `hint`.
 */
extern const char *cj_pg_cron_problem(const CjJobDefinition *job, const CjJobConfig *config,
									  const char **hint);

/*
 * Says what keeps pg_cron's records of our cron jobs from being removed, as a sentence, or NULL; how to
 * mend it in `hint`.
 */
extern const char *cj_pg_cron_prune_problem(const char **hint);

/*
 * Removes up to `limit` of pg_cron's records of our cron jobs that ended before a moment, of those after
 * *last, which becomes the last one; returns how many.
 */
extern int cj_pg_cron_prune(TimestampTz before, int limit, int64 *last);

/*
 * Says why the worker does not serve this database, or NULL if it does; how to mend it in `hint`.
 */
extern const char *cj_pg_cron_worker_problem(const char **hint);

/* Warns of it. */
extern void cj_pg_cron_warn_of_worker(void);

/* Returns the zone that pg_cron reads schedules in if that is not UTC, else NULL. */
extern const char *cj_pg_cron_foreign_time_zone(void);

#endif /* CJ_CONFIG_PG_CRON_H */
