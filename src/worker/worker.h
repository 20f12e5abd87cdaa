/* worker/worker.h: background workers that live for a moment: to look after a database, or for one run. */
#ifndef CJ_WORKER_WORKER_H
#define CJ_WORKER_WORKER_H

#include "postmaster/bgworker.h"

#include "run/run_log.h"

/*
 * Starts a worker that looks after a database once; returns a handle, in the current memory context, or
 * NULL if max_worker_processes are there already. The caller is told of its end (SIGUSR1).
 */
extern BackgroundWorkerHandle *cj_worker_start_tick(Oid database, const char *name);

/*
 * Starts a run in a worker of its own, as the owner of the extension, in this database; false: there are
 * max_worker_processes already.
 */
extern bool cj_worker_start_run(const char *job, const CjRunTrigger *trigger);

/* The processes themselves; called by PostgreSQL by name. */
extern PGDLLEXPORT void cj_worker_tick_main(Datum database);
extern PGDLLEXPORT void cj_worker_run_main(Datum database);

#endif /* CJ_WORKER_WORKER_H */
