/*
 * alerts/alert.h
 *		Alerts: table challenge_jobs.alert.
 *
 * The caller is connected to SPI. Rows are written in the current transaction, as the owner of the
 * extension.
 */
#ifndef CJ_ALERTS_ALERT_H
#define CJ_ALERTS_ALERT_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* In SQL: whether a run r covers the scheduled times up to its as_of, and ends failures. */
#define CJ_RUN_COVERS(r) "challenge_jobs.run_covers(" r ")"

/* ---- raising ---- */

/*
 * Notes how a run of a job has ended, in the transaction that writes its row, when the row is written: raises an alert if
 * that is a change of the job's state.
 */
extern void cj_alert_note_run(int64 run_id);

/*
 * Leaves it to cj_alert_settle_runs to note how a run of a caller has ended, whose transaction can stay open for
 * long, or see what was long ago: nothing is read or written there that others wait for.
 */
extern void cj_alert_leave_run(int64 run_id);

/* Notes how the runs of callers have ended that are committed; in a short transaction of a run or of the worker. */
extern void cj_alert_settle_runs(void);

/*
 * Raises an alert of a kind (raise_alert() of the install script lists them) unless the job's state says so already.
 * `run_id` may be 0: none. `more`, an object, is added to what is known of the job.
 */
extern void cj_alert_raise(const char *job, const char *kind, int64 run_id, Jsonb *more);

/* Raises an alert "restored" for a job that was scheduled where this database was copied from, unless there is one. */
extern void cj_alert_raise_restored(const char *job);

/* The same for "overdue": for each scheduled time there can be one alert, however many raise it at the same time. */
extern void cj_alert_raise_overdue(const char *job, TimestampTz scheduled_for);

/*
 * Raises "recovered" for jobs whose scheduled time was overdue, and has been covered by a run that did not know: it was
 * not to be seen yet that the scheduled time was overdue when the run ended.
 */
extern void cj_alert_settle(void);

/* Returns the name of the host, as far as it is ASCII, or NULL. */
extern char *cj_alert_host_name(void);

/* ---- telling ---- */

/* Whether this backend has raised an alert since it last announced. */
extern bool cj_alert_has_unannounced(void);

/*
 * Takes all alerts that have not been announced yet and notifies the channel challenge_jobs_alert of them.
 * Returns them, in `memory`, for cj_alert_log, which writes them to the server log when the transaction
 * has been committed.
 *
 * NOTIFY takes a lock at commit that is one for the whole server, fails if the queue is full, and cannot be
 * prepared for a two-phase commit: this is to be done in a short transaction of its own, never in a caller's.
 */
extern List *cj_alert_announce(MemoryContext memory);
extern void cj_alert_log(List *announced);

/* ---- delivering ---- */

/* An alert that is to be delivered now. */
typedef struct CjAlert
{
	int64 alert_id;
	int attempts; /* with this one */
	char *json;   /* one line of UTF-8 */
} CjAlert;

/*
 * Claims the first alert after `after` that is due, or with `all` the first that waits, for an attempt that
 * takes at most so many milliseconds; false if there is none. Alerts of a job come in their order, until one has been
 * tried for some time. What is returned lives in the current memory context.
 */
extern bool cj_alert_claim(int64 after, bool all, int milliseconds, CjAlert *alert);

/* Records how an attempt ended; `problem` is NULL if the alert was delivered. */
extern void cj_alert_finish(const CjAlert *alert, const char *problem);

/* Gives up the alerts that have been waiting for too long; returns how many. */
extern int64 cj_alert_give_up(void);

/* ---- clean-up ---- */

/*
 * Removes at most so many of the alerts that were raised before a moment, have been delivered or given up, and
 * tell nothing of how the job is now; returns how many.
 */
extern int64 cj_alert_remove(TimestampTz before, int limit);

#endif /* CJ_ALERTS_ALERT_H */
