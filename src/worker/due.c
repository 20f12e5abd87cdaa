/*
 * worker/due.c
 *		What is to be done about a job.
 *
 * Everything that the worker decides by itself is decided here, from what it is given and nothing else: asked
 * again with the same facts, the answer is the same, so that restarts change nothing.
 *
 * Comparisons are "at or after" and never "equal", so that a clock that is set back repeats nothing.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "datatype/timestamp.h"

#include "worker/due.h"

/* The delay of retries doubles up to this, or to retry_delay where that is longer. */
#define MAX_RETRY_DELAY USECS_PER_HOUR

/* How long a job waits for the one that it follows; or half of its grace, so that it is not overdue for that. */
#define PATIENCE (30 * USECS_PER_SEC)

/* What repeating cannot mend, by class or SQLSTATE. */
static const struct
{
	const char *prefix;
	const char *reason;
} permanent_errors[] = {
	{"42", "a table, column, privilege or statement is wrong"}, /* bindings; code of the app */
	{"0A", "what is asked for is not supported"},
	{"22023", "a setting or argument is wrong"},
	{"25006", "the session is read-only"},
	{"28", "the role may not do that"},
	{"2F", "a routine of the app is declared wrongly"},
	{"3D", "a database does not exist"},
	{"3F", "a schema does not exist"},
	{"54", "a limit of the server is exceeded"},
	{"57014",
	 "a limit of time was exceeded"}, /* of a part: a run that is cancelled is no failure */
	{"55000", "an object is not in the state that is needed"}, /* not populated, disabled */
	{"XX001", "data is corrupted"},
	{"XX002", "an index is corrupted"},
};

static bool
is_scheduled(TimestampTz moment)
{
	return !TIMESTAMP_IS_NOBEGIN(moment);
}

/* last_scheduled returns the last scheduled time at or before a moment that counts. */
static TimestampTz
last_scheduled(const CjDueJob *job, TimestampTz at)
{
	TimestampTz moment;

	if (!cj_cron_previous(&job->schedule, at, &moment) || moment < job->scheduled_at)
		return DT_NOBEGIN;
	return moment;
}

void
cj_due_times(const CjDueJob *job, TimestampTz at, CjDueTimes *times)
{
	times->next = times->last = times->expired = DT_NOBEGIN;
	if (!job->enabled || job->held || !job->scheduled || !job->valid)
		return;
	if (!cj_cron_next(&job->schedule, Max(at, job->scheduled_at - 1), &times->next))
		times->next = DT_NOBEGIN;
	times->last = last_scheduled(job, at);
	times->expired = last_scheduled(job, at - job->grace);
}

const char *
cj_due_permanent_error(const char *sqlstate)
{
	for (int i = 0; sqlstate && i < lengthof(permanent_errors); i++)
	{
		if (strncmp(sqlstate, permanent_errors[i].prefix, strlen(permanent_errors[i].prefix)) == 0)
			return permanent_errors[i].reason;
	}
	return NULL;
}

/* retry_delay returns how long to wait after a run: doubling, and up to a quarter more by chance. */
static int64
retry_delay(const CjDueJob *job, const CjDueHistory *history)
{
	int64 longest = Max(job->retry_delay, MAX_RETRY_DELAY);
	int64 delay = job->retry_delay;
	uint32 chance = murmurhash32((uint32) history->last.run_id ^ history->salt) % 1024;

	for (int attempt = 1; attempt < history->last.attempt && delay < longest; attempt++)
		delay = Min(delay * 2, longest);
	return delay + delay / 4096 * chance;
}

/* is_behind returns whether the job that this one follows has changed something that no run has seen. */
static bool
is_behind(const CjDueJob *job, const CjDueHistory *history)
{
	return history->followed > history->seen && history->followed_at >= job->scheduled_at;
}

/*
 * has_to_follow returns whether a run is to be started for that. One that was started for it, and ended before it
 * came to look, is left to the rules of retries. Times are not compared: a run in a caller's transaction can be seen
 * long after it has ended.
 */
static bool
has_to_follow(const CjDueJob *job, const CjDueHistory *history)
{
	const CjDueRun *run = &history->last;

	return is_behind(job, history) &&
		   !(run->is_following && !run->has_seen && run->run_id > history->followed);
}

/* is_unfinished returns whether a run has left something to be done by repeating it; or why not. */
static bool
is_unfinished(const CjDueJob *job, const CjDueTimes *times, const CjDueHistory *history,
			  const char **reason)
{
	const CjDueRun *run = &history->last;
	bool failed = strcmp(run->status, "failed") == 0;

	if (strcmp(run->status, "succeeded") == 0)
		return run->locked;
	/* whoever was in its way may have done the work as of a moment before the scheduled time */
	if (strcmp(run->status, "skipped") == 0)
		return (is_scheduled(times->last) && history->covered_until < times->last) ||
			   is_behind(job, history);
	if (!failed && strcmp(run->status, "crashed") != 0)
		return false;
	if (history->covered_until >= run->as_of)
		return false;
	if (failed && cj_due_permanent_error(run->sqlstate))
	{
		*reason = psprintf("the last run failed with SQLSTATE %s: %s, which repeating cannot mend",
						   run->sqlstate, cj_due_permanent_error(run->sqlstate));
		return false;
	}
	return true;
}

/* decide_retry decides whether the last run is to be repeated, and when. */
static bool
decide_retry(const CjDueJob *job, const CjDueTimes *times, const CjDueHistory *history,
			 TimestampTz at, CjDueOutcome *outcome)
{
	const CjDueRun *run = &history->last;
	int64 delay;

	/* what was done under another schedule, or before the job was enabled, is over */
	if (run->run_id == 0 || run->started_at < job->scheduled_at ||
		!is_unfinished(job, times, history, &outcome->reason))
		return false;
	if (run->attempt > job->max_retries)
	{
		outcome->reason = psprintf("the last run was attempt %d, and max_retries is %d",
								   run->attempt, job->max_retries);
		return false;
	}
	delay = retry_delay(job, history);
	/* what followed does so again, and leaves out the same */
	outcome->action = run->is_following ? CJ_DUE_FOLLOW : CJ_DUE_RETRY;
	outcome->scheduled_for = run->scheduled_for;
	outcome->attempt = run->attempt + 1;
	/* a run that ends in the future: the clock was set back, and what it said then means nothing */
	outcome->at = run->finished_at > at + delay ? at : Max(at, run->finished_at + delay);
	outcome->reason =
		psprintf("the last run %s%s", strcmp(run->status, "skipped") == 0 ? "was " : "",
				 run->locked ? "found rows locked" : run->status);
	return true;
}

/* start says that a run is to be started now, for the last scheduled time. */
static void
start(CjDueOutcome *outcome, CjDueAction action, const CjDueTimes *times, const char *reason)
{
	outcome->action = action;
	outcome->scheduled_for = times->last;
	outcome->reason = reason;
}

void
cj_due_decide(const CjDueJob *job, const CjDueTimes *times, const CjDueHistory *history,
			  TimestampTz at, CjDueOutcome *outcome)
{
	bool missed_in_pause = is_scheduled(times->last) && times->last < job->resumed_at &&
						   history->covered_until < times->last;

	*outcome = (CjDueOutcome){.at = at, .attempt = 1};
	if (job->held && job->scheduled)
	{
		outcome->reason =
			strcmp(job->held, "paused") == 0 ? "all jobs are paused" : "this database is a copy";
		return;
	}
	if (!job->enabled || !job->scheduled)
	{
		outcome->reason = job->enabled ? "the job is not scheduled" : "the job is disabled";
		return;
	}
	if (!job->valid)
	{
		/* nobody can say when it is due: as good as missed */
		outcome->overdue = true;
		outcome->reason = "the stored schedule is not valid";
		return;
	}
	outcome->overdue = is_scheduled(times->expired) && times->expired >= job->resumed_at &&
					   history->covered_until < times->expired;

	if (history->running)
		outcome->reason = "a run is at work";
	else if (job->fired_by_worker && times->last > times->expired &&
			 history->covered_until < times->last && !history->tried)
		start(outcome, CJ_DUE_RUN, times, "its time has come");
	else if (missed_in_pause && job->catch_up && !history->tried)
		start(outcome, CJ_DUE_CATCH_UP, times, "a scheduled time was missed during a pause");
	else if (decide_retry(job, times, history, at, outcome))
		return;
	else if (outcome->overdue && job->catch_up && !history->caught_up)
		start(outcome, CJ_DUE_CATCH_UP, times, "a scheduled time was missed");
	else if (has_to_follow(job, history))
	{
		start(outcome, CJ_DUE_FOLLOW, times, "challenges were decided since the last run");
		outcome->scheduled_for = 0;
	}
	else if (outcome->overdue && !job->catch_up)
		outcome->reason = "a scheduled time was missed, and catch_up is \"skip\"";
	else if (outcome->overdue)
		outcome->reason = "a scheduled time was missed, and the run to catch up did not succeed";
}

bool
cj_due_waits(const CjDueJob *job, const CjDueTimes *times, const CjDueTimes *other_times,
			 const CjDueHistory *other, const CjDueOutcome *other_outcome, TimestampTz at)
{
	int64 patience = Min(PATIENCE, job->grace / 2);
	TimestampTz moment = times->last;
	TimestampTz begun = other->last.started_at;

	if (!is_scheduled(moment) || other_times->last != moment || other->covered_until >= moment)
		return false;
	/* it may have begun since the clock was asked; long after that: the clock was set back */
	if (other->running)
		return begun < at + patience && at < begun + patience;
	/* whoever cannot start the one can start the other no sooner */
	if (other_outcome->action == CJ_DUE_RUN || other_outcome->action == CJ_DUE_CATCH_UP)
		return true;
	return begun < moment && at < moment + patience;
}
