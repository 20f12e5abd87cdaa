/* worker/launcher.h: the background worker that is always there, and has the databases looked after. */
#ifndef CJ_WORKER_LAUNCHER_H
#define CJ_WORKER_LAUNCHER_H

/* Defines challenge_jobs.worker_naptime, and registers the launcher where the library is preloaded. */
extern void cj_launcher_init(void);

/* The process itself; called by PostgreSQL by name. */
extern PGDLLEXPORT void cj_launcher_main(Datum arg);

#endif /* CJ_WORKER_LAUNCHER_H */
