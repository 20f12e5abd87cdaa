/*
 * worker/due.h
 *		What is to be done about a job: the rules of scheduled times, overdue runs, catch-up and retries.
 *
 * No SPI, no catalog access, no clock. A scheduled time is a moment of the schedule. It is covered by a run
 * that succeeded, was not dry, and whose as_of is not before it. Scheduled times before scheduled_at never count.
 * DT_NOBEGIN stands for "there is none".
 */
#ifndef CJ_WORKER_DUE_H
#define CJ_WORKER_DUE_H

#include "config/cron.h"

typedef enum CjDueAction
{
	CJ_DUE_NOTHING,
	CJ_DUE_RUN,      /* a scheduled time has come that the worker is to fire on */
	CJ_DUE_RETRY,    /* the last run has to be repeated */
	CJ_DUE_CATCH_UP, /* scheduled times were missed */
	CJ_DUE_FOLLOW    /* the job that this one follows has changed something */
} CjDueAction;

/* What is in force for a job. Times are in microseconds. */
typedef struct CjDueJob
{
	bool enabled;
	const char *held; /* why no run may begin: "paused" or "restored"; NULL: one may */
	bool scheduled;
	bool fired_by_worker;
	bool valid; /* `schedule` could be read */
	CjCronExpression schedule;
	TimestampTz scheduled_at;
	TimestampTz resumed_at; /* when a pause last ended; DT_NOBEGIN: never */
	bool catch_up;
	int64 grace;
	int max_retries;
	int64 retry_delay;
} CjDueJob;

/* The scheduled times that matter at a moment. */
typedef struct CjDueTimes
{
	TimestampTz next;    /* the first one after it */
	TimestampTz last;    /* the last one that has come */
	TimestampTz expired; /* the last one whose grace is over, at most `last` */
} CjDueTimes;

/* A run that run() has made. */
typedef struct CjDueRun
{
	int64 run_id; /* 0: there is none */
	const char *status;
	const char *sqlstate; /* or NULL */
	int attempt;
	bool locked; /* rows that others had locked */
	bool
		is_following; /* it was started since the job that this one follows had changed something */
	bool has_seen;    /* it says what it has seen of that job */
	TimestampTz as_of;
	TimestampTz scheduled_for; /* 0: not known */
	TimestampTz started_at;
	TimestampTz finished_at;
} CjDueRun;

/* What the log says of a job. */
typedef struct CjDueHistory
{
	TimestampTz covered_until; /* the latest as_of of a run that covers */
	bool running;
	bool tried;              /* a run was started for times.last, or a later one */
	bool caught_up;          /* a run was started to catch up, for times.expired or a later one */
	CjDueRun last;           /* the last run() */
	int64 followed;          /* the last run that this job has to follow; 0: there is none */
	TimestampTz followed_at; /* when that ended */
	int64 seen;              /* the last run of that job that one of this job has seen */
	uint32 salt;             /* of the jitter: what differs between databases */
} CjDueHistory;

/* What is to be done. */
typedef struct CjDueOutcome
{
	bool overdue;
	CjDueAction action;
	TimestampTz at; /* when; not before the moment asked for */
	TimestampTz scheduled_for;
	int attempt;
	const char *reason; /* of what is done or not done, as a readable text */
} CjDueOutcome;

/* Finds the scheduled times that matter at a moment; none of them if the schedule is not valid. */
extern void cj_due_times(const CjDueJob *job, TimestampTz at, CjDueTimes *times);

/* Decides what is to be done at a moment. */
extern void cj_due_decide(const CjDueJob *job, const CjDueTimes *times, const CjDueHistory *history,
						  TimestampTz at, CjDueOutcome *outcome);

/*
 * Returns whether a job that follows another one waits for it at a moment: both have the same last scheduled time,
 * and the other one has not come to an end. For PATIENCE at most from when that time came or the other one began.
 */
extern bool cj_due_waits(const CjDueJob *job, const CjDueTimes *times,
						 const CjDueTimes *other_times, const CjDueHistory *other,
						 const CjDueOutcome *other_outcome, TimestampTz at);

/* Returns why an error will not go away by repeating, or NULL if it may. */
extern const char *cj_due_permanent_error(const char *sqlstate);

#endif /* CJ_WORKER_DUE_H */
