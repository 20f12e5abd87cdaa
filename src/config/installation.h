/*
 * config/installation.h
 *		Which installation this is, and whether its jobs are held back: paused, or scheduled in another database.
 *
 * The caller is connected to SPI. Results are palloc'd in the current memory context.
 */
#ifndef CJ_CONFIG_INSTALLATION_H
#define CJ_CONFIG_INSTALLATION_H

#include "base/sql.h"

/* Returns the version of the extension, which must be there; that of the library is CJ_VERSION. */
extern char *cj_installation_version(void);

/* Why the runs of a job are held back. */
typedef struct CjHold
{
	const char *message; /* NULL: they are not */
	const char *detail;  /* or NULL */
} CjHold;

/*
 * Returns whether the runs of a job are held back as of now, whatever the caller's snapshot: whoever has paused the jobs,
 * committed, and found nobody holding the job's lock afterwards knows that no run will begin. To be asked with the lock.
 */
extern CjHold cj_installation_hold(const char *job);

/* Pauses all jobs; paused again, only a reason that is not NULL changes. */
extern void cj_installation_pause(const char *reason);

/* Returns the runs that are at work: run_id (null: of a job function), job, pid, started_at. */
extern CjRows cj_installation_runs_at_work(void);

/*
 * Makes this database an installation of its own, if it is a copy that came with the row of another one (a template, a
 * database renamed by OID): schedules made from then on hold here, those that came with the copy do not.
 */
extern void cj_installation_renew(void);

/*
 * Ends a pause. Scheduled times that were missed meanwhile are not overdue; where catch_up is "skip" they are
 * forgotten. What came with a copy stays held back until it is scheduled again.
 */
extern void cj_installation_end_pause(void);

/* Returns the jobs that are scheduled: job, engine, the next scheduled time. */
extern CjRows cj_installation_scheduled_jobs(void);

/* Returns the names of the jobs that were scheduled in the database that this one is a copy of. */
extern CjRows cj_installation_restored_jobs(void);

#endif /* CJ_CONFIG_INSTALLATION_H */
