/* worker/overlong_run.h: runs that are at work for longer than they may, and do not heed being cancelled. */
#ifndef CJ_WORKER_OVERLONG_RUN_H
#define CJ_WORKER_OVERLONG_RUN_H

/*
 * Terminates runs of the worker and of pg_cron that are at work for longer than max_runtime and grace of their job. Other
 * sessions that run a job for so long are cancelled, and an alert is raised. A task of the worker: begins and ends its own
 * transactions; the user of the session is a superuser.
 */
extern void cj_overlong_run_end(void);

#endif /* CJ_WORKER_OVERLONG_RUN_H */
