/* worker/watchdog.h: watches that the jobs run when they should: scheduled times, overdue runs, catch-up, retries. */
#ifndef CJ_WORKER_WATCHDOG_H
#define CJ_WORKER_WATCHDOG_H

#include "access/tupdesc.h"
#include "utils/tuplestore.h"

#include "run/run_log.h"

/* Starts a run in a process of its own; false: there is no room for one now. */
typedef bool (*CjStartRun)(const char *job, const CjRunTrigger *trigger);

/*
 * Looks after every scheduled job of this database: raises alerts for scheduled times that were missed, and has
 * the runs started that are due. Called outside of a transaction; begins its own, which write nothing
 * unless there is an alert. What goes wrong with one job is raised when all have been looked at. The current
 * memory context must outlive transactions.
 */
extern void cj_watchdog_check(CjStartRun start_run);

/*
 * Adds a row for every job to what challenge_jobs.watchdog() returns: what cj_watchdog_check() would do
 * at that moment. The caller is connected to SPI.
 */
extern void cj_watchdog_report(TimestampTz at, Tuplestorestate *store, TupleDesc desc);

#endif /* CJ_WORKER_WATCHDOG_H */
