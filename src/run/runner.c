/*
 * run/runner.c
 *		Runs of jobs: the lock, the transactions, the run row, errors.
 *
 * The only file that begins, commits or aborts (sub)transactions of a run. (The first one of CALL run is its caller's: a
 * client's, or that of worker/worker, which begins and commits it as a session would.)
 *
 * A job function works in the caller's transaction: the lock, the work and the run row all last or vanish
 * with it. CALL run works in transactions of its own:
 *
 *		take the job's lock, for the session
 *		transaction:	close rows of runs that crashed, write the run row, commit
 *		transactions:	the job's batches, each committed by the job's call of commit_batch
 *		transaction:	finish the run row, commit
 *		release the lock; raise the first error, if there was one
 *
 * Through all of the work a subtransaction is open. An error may come from any depth of nested SPI
 * calls, and from there the transaction can continue only after the subtransaction has been
 * rolled back; that also brings back identity and settings.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "alerts/alert.h"
#include "base/advisory_locks.h"
#include "base/error_log.h"
#include "base/identity.h"
#include "base/job_lock.h"
#include "base/json.h"
#include "base/sql.h"
#include "config/installation.h"
#include "run/rolled_back_runs.h"
#include "run/run_log.h"
#include "run/runner.h"
#include "run/shared_state.h"

/* A run in this backend, as the runner sees it. */
typedef struct Execution
{
	CjRun run; /* first: the job knows this part */
	CjRunStart start;
	int64 run_id; /* 0: not known (a job function, which writes its row at the end) */
	CjJobLock lock;
	CjUnrecordedRun *unrecorded_run; /* what watches over a job function, or NULL */
	bool is_refused;                 /* the job was not started, for what is no failure of it */
	bool has_begun;                  /* a job function: all that comes before the work is done */
	List *advisory_locks;            /* of this session, before the work begins */
	bool holds_lock; /* for the session; false after a failed commit until it is taken again */
	MemoryContext attempt_memory;
	Tuplestorestate *rows; /* of a job function that returns a table, else NULL */
	TupleDesc rows_desc;
} Execution;

/* The job that this backend is running, if any: a job must not be started from inside a job. */
static const CjJob *running_job = NULL;

/* A limit of time, of the run or of an attempt: a timeout of this backend, and whether it has gone off. */
typedef struct TimeLimit
{
	TimeoutId timeout;
	timeout_handler_proc handler;
	volatile sig_atomic_t exceeded;
} TimeLimit;

static void on_max_runtime(void);
static void on_time_limit(void);

static TimeLimit max_runtime = {MAX_TIMEOUTS, on_max_runtime};
static TimeLimit time_limit = {MAX_TIMEOUTS, on_time_limit};

/* How long a run waits for another job, and how often it looks whether it still has to, in milliseconds. */
#define PATIENCE   30000
#define LOOK_AFTER 250

/* $1 the job */
static const CjStatement find_wait = {
	"find out whether the run waits for another job",
	"SELECT w.waits_for IS NOT NULL FROM challenge_jobs.watchdog() w WHERE w.job = $1",
	SPI_OK_SELECT};

/* Code of the app can catch a cancellation. So it comes again, so many milliseconds later. */
#define REPEAT_AFTER 1000

/* base_of returns the definition of the job whose lock and configuration a job has. */
static const CjJobDefinition *
base_of(const CjJob *job)
{
	return job->base ? &job->base->definition : &job->definition;
}

/* ---- limits of time ---- */

/* exceed cancels what the backend is doing; runs in a signal handler. */
static void
exceed(TimeLimit *limit)
{
	limit->exceeded = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
on_max_runtime(void)
{
	exceed(&max_runtime);
}

static void
on_time_limit(void)
{
	exceed(&time_limit);
}

static void
arm(TimeLimit *limit, int milliseconds)
{
	if (limit->timeout == MAX_TIMEOUTS)
		limit->timeout = RegisterTimeout(USER_TIMEOUT, limit->handler);
	limit->exceeded = false;
	if (milliseconds > 0)
		enable_timeout_every(limit->timeout,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds),
							 REPEAT_AFTER);
}

/* disarm ends it; a cancellation that has not been noticed yet is forgotten. */
static void
disarm(TimeLimit *limit)
{
	if (limit->timeout != MAX_TIMEOUTS)
		disable_timeout(limit->timeout, false);
	if (limit->exceeded)
		QueryCancelPending = false;
	limit->exceeded = false;
}

static void
explain_max_runtime(CjRun *run, ErrorData *error)
{
	run->is_cancelled = true;
	error->message =
		psprintf("job \"%s\" has been running for longer than its max_runtime of %d ms",
				 run->job->definition.name, run->config->max_runtime_ms);
	error->hint = psprintf("Run: SELECT challenge_jobs.alter_job('%s', max_runtime => '%lld ms');",
						   base_of(run->job)->name, 2LL * run->config->max_runtime_ms);
}

static void
explain_time_limit(CjRun *run, ErrorData *error)
{
	run->is_over_limit = true;
	error->message = psprintf("it took longer than the %s of %d ms", run->time_limit_setting,
							  run->time_limit_ms);
	error->hint =
		psprintf("Run: SELECT challenge_jobs.alter_job('%s', settings => '{\"%s\": \"%lld ms\"}');",
				 run->job->definition.name, run->time_limit_setting, 2LL * run->time_limit_ms);
}

/* explain_cancellation says so in an error if it was a limit of time that cancelled. */
static void
explain_cancellation(CjRun *run, ErrorData *error)
{
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		return;
	if (max_runtime.exceeded)
		explain_max_runtime(run, error);
	else if (time_limit.exceeded)
		explain_time_limit(run, error);
}

/* ---- what the runner does for the job ---- */

/* do_attempt does a piece of work, within the limit of time of an attempt. */
static void
do_attempt(CjRun *run, CjWork work, void *arg)
{
	run->is_over_limit = false;
	arm(&time_limit, run->time_limit_ms);
	/* a trigger of the app may have caught the cancellation */
	if (max_runtime.exceeded)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement due to user request")));
	work(run, arg);
	disarm(&time_limit);
}

ErrorData *
cj_run_attempt(CjRun *run, CjWork work, void *arg)
{
	Execution *execution = (Execution *) run;
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(execution->attempt_memory);
	PG_TRY();
	{
		do_attempt(run, work, arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(run->memory);
		error = CopyErrorData();
		FlushErrorState();
		explain_cancellation(run, error);
		disarm(&time_limit);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	MemoryContextReset(execution->attempt_memory);
	return error;
}

/* next_transaction commits and begins the next transaction, with a snapshot for what follows. */
static void
next_transaction(void)
{
	SPI_commit();
	EnsurePortalSnapshotExists();
}

/* begin_work opens the subtransaction that is open through all of the work of CALL run. */
static void
begin_work(MemoryContext memory)
{
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
}

/* regain_lock takes the job's lock again: the abort of a transaction releases it with all others. */
static void
regain_lock(Execution *execution)
{
	execution->holds_lock = cj_job_lock_try(&execution->lock, true);
	if (!execution->holds_lock)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("job \"%s\" was started in another session after a failed commit",
						execution->start.job)));
}

/* try_to_commit commits, and a subtransaction before that if there is one; returns the error if that fails. */
static ErrorData *
try_to_commit(Execution *execution, bool in_subtransaction)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *error = NULL;

	PG_TRY();
	{
		if (in_subtransaction)
			ReleaseCurrentSubTransaction();
		/* SPI_commit keeps its error where we are: not in memory of the transaction */
		MemoryContextSwitchTo(execution->attempt_memory);
		next_transaction();
	}
	PG_CATCH();
	{
		/* SPI_commit has rolled back and begun another transaction by itself */
		MemoryContextSwitchTo(execution->run.memory);
		error = CopyErrorData();
		FlushErrorState();
		EnsurePortalSnapshotExists();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(execution->attempt_memory);
	return error;
}

ErrorData *
cj_run_commit_batch(CjRun *run)
{
	Execution *execution = (Execution *) run;
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *error;

	if (!run->own_transactions)
		return NULL;
	error = try_to_commit(execution, true);
	begin_work(caller);
	if (error)
		regain_lock(execution);
	return error;
}

int64
cj_run_id(CjRun *run)
{
	Execution *execution = (Execution *) run;

	if (execution->run_id > 0)
		return execution->run_id;
	if (execution->start.run_id == 0)
		execution->start.run_id = cj_run_log_reserve();
	return execution->start.run_id;
}

void
cj_run_put_row(CjRun *run, Datum *values, bool *nulls)
{
	Execution *execution = (Execution *) run;

	if (execution->rows)
		tuplestore_putvalues(execution->rows, execution->rows_desc, values, nulls);
}

void
cj_run_begin_phase(CjRun *run, const char *phase, int64 total)
{
	cj_shared_state_set_phase(phase, total);
}

void
cj_run_advance(CjRun *run, int64 done)
{
	cj_shared_state_advance(done);
}

/* ---- before and after ---- */

static void
note_advisory_locks(Execution *execution)
{
	MemoryContext caller = MemoryContextSwitchTo(execution->run.memory);

	execution->advisory_locks = cj_advisory_locks_list();
	MemoryContextSwitchTo(caller);
}

/* create_execution makes what there is to know of a run before it starts. */
static Execution *
create_execution(const CjJob *job, const CjRunTrigger *trigger, TimestampTz as_of, bool dry_run,
				 bool own_transactions)
{
	MemoryContext memory =
		AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs run", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	Execution *execution = palloc0(sizeof(Execution));

	execution->run.job = job;
	execution->run.as_of = as_of;
	execution->run.dry_run = dry_run;
	execution->run.own_transactions = own_transactions;
	execution->run.undoes = trigger->undoes;
	execution->run.memory = memory;
	execution->run.more_result = makeStringInfo();
	execution->attempt_memory =
		AllocSetContextCreate(memory, "challenge_jobs attempt", ALLOCSET_DEFAULT_SIZES);
	execution->lock = cj_job_lock_of(base_of(job)->number);
	execution->start.job = job->definition.name;
	execution->start.trigger = *trigger;
	execution->run.triggered_by = execution->start.trigger.triggered_by =
		pstrdup(trigger->triggered_by);
	execution->start.dry_run = dry_run;
	execution->start.as_of = as_of;
	execution->start.started_at = GetCurrentTimestamp();
	execution->start.role_name = GetUserNameFromId(GetUserId(), false);
	MemoryContextSwitchTo(caller);
	return execution;
}

/* load_config reads the configuration into the run's memory; can be the work of an attempt. */
static void
load_config(CjRun *run, void *arg)
{
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	run->config = cj_job_config_load(base_of(run->job));
	MemoryContextSwitchTo(caller);
}

/* add_run_context adds to an error the job and run it comes from. */
static void
add_run_context(void *arg)
{
	const Execution *execution = arg;

	if (execution->run_id > 0)
		errcontext("challenge_jobs job \"%s\", run " INT64_FORMAT " (%s)", execution->start.job,
				   execution->run_id, execution->start.trigger.triggered_by);
	else
		errcontext("challenge_jobs job \"%s\" (%s)", execution->start.job,
				   execution->start.trigger.triggered_by);
}

static Jsonb *
make_result(const CjRun *run)
{
	StringInfoData json;

	initStringInfo(&json);
	cj_json_begin(&json, NULL, '{');
	for (int i = 0; run->job->figures[i]; i++)
		cj_json_int64(&json, run->job->figures[i], run->figures[i]);
	if (run->more_result->len > 0)
		cj_json_raw(&json, NULL, run->more_result->data);
	cj_json_int64(&json, "locked", run->locked);
	cj_json_int64(&json, "errors", run->failures);
	cj_json_end(&json, '}');
	return cj_json_to_jsonb(&json);
}

/* name_failed_items adds to the first error which items could not be done. */
static void
name_failed_items(const CjRun *run)
{
	MemoryContext caller = MemoryContextSwitchTo(run->memory);
	ErrorData *error = run->first_error;
	char *items = psprintf("Not done (" INT64_FORMAT "): %s%s.", run->failures,
						   run->failed_items->data, run->failures > 20 ? ", ..." : "");

	error->detail = error->detail ? psprintf("%s\n%s", error->detail, items) : items;
	MemoryContextSwitchTo(caller);
}

/* make_end says how a run ended; `error` is what ended it, if something did. */
static CjRunEnd
make_end(CjRun *run, ErrorData *error)
{
	CjRunEnd end = {CJ_RUN_SUCCEEDED};

	if (run->failures > 0)
		name_failed_items(run);
	end.error = error ? error : run->first_error;
	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		end.status = CJ_RUN_CANCELLED;
	else if (end.error)
		end.status = CJ_RUN_FAILED;
	end.rows_affected = run->rows_affected;
	end.result = make_result(run);
	return end;
}

static void
check_not_nested(const CjJob *job)
{
	if (running_job)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job \"%s\" cannot be started: this session is running job \"%s\"",
						job->definition.name, running_job->definition.name),
				 errdetail("A trigger or function of the app called it from inside the job.")));
}

static void
notice_locked(const CjRun *run)
{
	const char *items = run->job->items ? run->job->items : "rows";

	if (run->locked > 0)
		ereport(NOTICE,
				(errmsg("job \"%s\" skipped " INT64_FORMAT " %s locked by other transactions",
						run->job->definition.name, run->locked, items)));
}

/* ---- job functions ---- */

/* The first moment that a job function can work as of, 1800-01-01 in UTC; a dry run, which alarms nobody, also before. */
#define EARLIEST_AS_OF (INT64CONST(-73048) * USECS_PER_DAY)

/* check_as_of refuses moments that make no sense, and those that would decide what is not to be decided yet. */
static void
check_as_of(const CjJob *job, TimestampTz as_of, bool dry_run)
{
	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be finite"), errhint("Omit it to use now().")));
	if (!dry_run && as_of < EARLIEST_AS_OF)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of is before 1800-01-01 00:00:00+00"),
				 errhint("Omit it to use now().")));
	/* who does not see what was written since could have the job succeed as of now */
	if (!dry_run && IsolationUsesXactSnapshot() && as_of > GetCurrentTransactionStartTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of is after the beginning of the transaction"),
				 errdetail("A transaction with a snapshot of its own does not see what was written since."),
				 errhint("Omit it to use now().")));
	if (!dry_run && as_of > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of is in the future"),
				 errdetail("Only a dry run can look ahead."),
				 errhint("Run: SELECT * FROM %s(as_of => '%s', dry_run => true);",
						 quote_qualified_identifier(
							 get_namespace_name(cj_identity_extension().schema),
							 job->definition.name),
						 timestamptz_to_str(as_of))));
}

static void
check_enabled(Execution *execution)
{
	const CjRun *run = &execution->run;
	const char *name = run->job->definition.name;

	execution->is_refused = !run->config->enabled && !run->dry_run;
	if (execution->is_refused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" is disabled", name),
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', enabled => true);", name)));
}

/* check_not_held refuses a run while the jobs are paused, or in a copy; under the job's lock. */
static void
check_not_held(Execution *execution)
{
	const char *name = execution->run.job->definition.name;
	CjHold hold = {0};

	if (!execution->run.dry_run)
		hold = cj_installation_hold(name);
	execution->is_refused = hold.message != NULL;
	if (execution->is_refused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" is held back: %s", name, hold.message),
				 hold.detail ? errdetail("%s", hold.detail) : 0,
				 errhint("Run: SELECT * FROM challenge_jobs.resume();")));
}

/* report_failed_items warns the caller of a job function, or raises the error if nothing was done. */
static void
report_failed_items(const CjRun *run)
{
	ErrorData *error = run->first_error;

	if (run->rows_affected == 0 && !run->has_done)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("job \"%s\" could not do everything: %s", run->job->definition.name,
					error->message),
			 errdetail_internal("%s", error->detail),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static void
run_in_transaction(Execution *execution)
{
	CjRun *run = &execution->run;
	CjRunEnd end;

	run->job->run(run);
	disarm(&max_runtime);
	end = make_end(run, NULL);
	if (run->first_error)
		report_failed_items(run);
	if (!XactReadOnly && !run->is_preview)
		cj_run_log_record_for_caller(&execution->start, &end);
	cj_rolled_back_runs_end(execution->unrecorded_run, &execution->start, &end);
	notice_locked(run);
}

/*
 * log_failure writes the failure of a job function to the server log: the run row goes with the caller's
 * transaction, and the caller may catch the error.
 */
static void
log_failure(const Execution *execution, ErrorData *error)
{
	cj_error_log_report(LOG_SERVER_ONLY, error,
						psprintf("job \"%s\" failed: %s", execution->start.job, error->message));
}

/* keep_failure has the failure of a job function recorded, which its row will not survive. */
static void
keep_failure(const Execution *execution, ErrorData *error)
{
	bool is_cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	CjRunEnd end = {.status = is_cancelled ? CJ_RUN_CANCELLED : CJ_RUN_FAILED, .error = error};

	cj_rolled_back_runs_fail(execution->unrecorded_run, &execution->start, &end);
}

/*
 * count_refusal counts a call that was refused. It is no failure of the job and leaves no row, as whoever may call could
 * fill the log with them; the server log says when calls of a kind begin to be refused.
 */
static void
count_refusal(const Execution *execution, ErrorData *error)
{
	const CjRunStart *start = &execution->start;

	if (cj_rolled_back_runs_refuse(execution->unrecorded_run, start, error))
		ereport(LOG_SERVER_ONLY,
				(errcode(error->sqlerrcode),
				 errmsg("challenge_jobs: calls of job \"%s\" by role \"%s\" are being refused: %s",
						start->job, start->role_name, error->message),
				 errdetail("They are counted in challenge_jobs.refusal.")));
}

/* lock_for_function takes the job's lock to the end of the caller's transaction. */
static void
lock_for_function(Execution *execution)
{
	const char *name = execution->start.job;

	/* on a standby a dry run is all there can be, and such locks cannot be taken */
	if (RecoveryInProgress())
		return;
	execution->is_refused = !cj_job_lock_try(&execution->lock, false);
	if (execution->is_refused)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("job \"%s\" is running in another session", name),
				 errhint("%s", cj_job_lock_hint(&execution->lock))));
	/* a dry run has learned what it wanted to know, and must not keep the job from running */
	if (execution->run.dry_run)
		cj_job_lock_release(&execution->lock, false);
}

/* run_job_function does everything that a job function does; whatever it raises is a failure of the run. */
static void
run_job_function(Execution *execution)
{
	CjRun *run = &execution->run;
	const CjJob *job = run->job;

	/* whoever may call the job function could have everybody alarmed by calling it wrongly */
	execution->is_refused = true;
	check_not_nested(job);
	check_as_of(job, run->as_of, run->dry_run);
	if (!run->dry_run)
		PreventCommandIfReadOnly(job->definition.name);
	execution->is_refused = false;
	load_config(run, NULL);
	check_enabled(execution);
	lock_for_function(execution);
	check_not_held(execution);
	note_advisory_locks(execution);
	execution->has_begun = true;

	running_job = job;
	cj_shared_state_begin_progress(job->definition.name, 0, execution->start.started_at);
	arm(&max_runtime, run->config->max_runtime_ms);
	run_in_transaction(execution);
}

void
cj_runner_run_function(const CjJob *job, const CjFunctionCall *call, int64 *figures)
{
	MemoryContext caller = CurrentMemoryContext;
	const CjJob *outer_job = running_job;
	CjRunTrigger trigger = {.triggered_by = "function", .attempt = 1};
	Execution *execution = create_execution(job, &trigger, call->as_of, call->dry_run, false);
	CjRun *run = &execution->run;
	ErrorContextCallback context = {error_context_stack, add_run_context, execution};
	int count;

	run->force_full = call->force_full;
	run->is_preview = call->is_preview;
	execution->rows = call->rows;
	execution->rows_desc = call->rows_desc;
	error_context_stack = &context;
	execution->unrecorded_run = cj_rolled_back_runs_begin(&execution->start);
	PG_TRY();
	{
		run_job_function(execution);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		if (outer_job == NULL)
		{
			explain_cancellation(run, error);
			disarm(&max_runtime);
			cj_shared_state_end_progress();
		}
		running_job = outer_job;
		error_context_stack = context.previous;
		if (execution->has_begun)
			cj_advisory_locks_release_others(execution->advisory_locks);
		/* who is cancelled before the work has begun has learned nothing about the job */
		if (execution->is_refused ||
			(!execution->has_begun && error->sqlerrcode == ERRCODE_QUERY_CANCELED))
			count_refusal(execution, error);
		else
		{
			log_failure(execution, error);
			keep_failure(execution, error);
		}
		ReThrowError(error);
	}
	PG_END_TRY();
	cj_advisory_locks_release_others(execution->advisory_locks);
	cj_shared_state_end_progress();
	running_job = outer_job;
	error_context_stack = context.previous;

	for (count = 0; job->figures[count]; count++)
		figures[count] = run->figures[count];
	figures[count++] = run->locked;
	figures[count] = run->failures;
	MemoryContextDelete(run->memory);
}

/* ---- CALL run ---- */

/* skip records a run that did not take place. */
static void
skip(Execution *execution, const char *why, const char *detail)
{
	CjRunEnd end = {.status = CJ_RUN_SKIPPED, .message = why, .detail = detail};

	cj_run_log_record(&execution->start, &end);
	next_transaction();
	ereport(NOTICE,
			(errmsg("job \"%s\" skipped: %s", execution->start.job, why)));
}

/* fail_at_once records a run that failed before it began. */
static void
fail_at_once(Execution *execution, ErrorData *error)
{
	bool is_cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	CjRunEnd end = {.status = is_cancelled ? CJ_RUN_CANCELLED : CJ_RUN_FAILED,
					.has_not_begun = is_cancelled,
					.error = error};

	cj_run_log_record(&execution->start, &end);
	next_transaction();
}

/* do_work calls the job; returns the error that ended it, if one did. */
static ErrorData *
do_work(Execution *execution)
{
	CjRun *run = &execution->run;
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	begin_work(caller);
	PG_TRY();
	{
		run->job->run(run);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(run->memory);
		error = CopyErrorData();
		FlushErrorState();
		explain_cancellation(run, error);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	run->time_limit_ms = 0;
	MemoryContextSwitchTo(caller);
	return error;
}

/* finish_row finishes the row of the run; the work of an attempt. */
static void
finish_row(CjRun *run, void *arg)
{
	cj_run_log_finish(((Execution *) run)->run_id, arg);
}

/*
 * record_end finishes the row of the run and commits; returns the error that kept it from it.
 *
 * A cancellation that comes now must not lose the row, so it is tried twice. Cancellations cannot just
 * be held off: lock_timeout is one of them.
 */
static ErrorData *
record_end(Execution *execution, CjRunEnd *end)
{
	ErrorData *error = cj_run_attempt(&execution->run, finish_row, end);

	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		error = cj_run_attempt(&execution->run, finish_row, end);
	next_transaction();
	return error;
}

/* run_in_own_transactions does the work of CALL run under the job's lock; returns its error. */
static ErrorData *
run_in_own_transactions(Execution *execution)
{
	CjRun *run = &execution->run;
	ErrorData *error;
	CjRunEnd end;

	cj_alert_settle_runs();
	(void) cj_run_log_close_crashed(execution->start.job, PG_INT64_MAX);
	execution->run_id = cj_run_log_start(&execution->start);
	next_transaction();

	cj_shared_state_begin_progress(execution->start.job, execution->run_id,
								   execution->start.started_at);
	arm(&max_runtime, run->config->max_runtime_ms);
	note_advisory_locks(execution);
	error = do_work(execution);
	disarm(&max_runtime);

	next_transaction();
	cj_advisory_locks_release_others(execution->advisory_locks);
	end = make_end(run, error);
	error = record_end(execution, &end);
	return end.error ? end.error : error;
}

static ErrorData *
run_locked(Execution *execution)
{
	ErrorData *error;

	running_job = execution->run.job;
	execution->holds_lock = true;
	PG_TRY();
	{
		error = run_in_own_transactions(execution);
	}
	PG_CATCH();
	{
		/* the abort of the transaction releases locks of the session, too */
		running_job = NULL;
		disarm(&max_runtime);
		cj_shared_state_end_progress();
		PG_RE_THROW();
	}
	PG_END_TRY();
	cj_shared_state_end_progress();
	running_job = NULL;
	if (execution->holds_lock)
		cj_job_lock_release(&execution->lock, true);
	return error;
}

/* run_unless_held runs the job under its lock, unless runs are held back; then the run is recorded as skipped. */
static ErrorData *
run_unless_held(Execution *execution)
{
	CjHold hold = cj_installation_hold(base_of(execution->run.job)->name);

	if (hold.message == NULL || execution->run.job->base)
		return run_locked(execution);
	skip(execution, hold.message, hold.detail);
	cj_job_lock_release(&execution->lock, true);
	return NULL;
}

/* check_held refuses to take back what the next run of the base job would do again. */
static void
check_held(const CjRun *run)
{
	const char *base = run->job->base->definition.name;

	if (run->config->enabled && cj_installation_hold(base).message == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" is neither paused nor disabled", base),
				 errdetail("Its next run would do again what job \"%s\" takes back.",
						   run->job->definition.name),
				 errhint("Run: SELECT challenge_jobs.alter_job('%s', enabled => false);", base)));
}

static void
announce(CjRun *run, void *arg)
{
	*(List **) arg = cj_alert_announce(run->memory);
}

/*
 * announce_alerts reports the alerts that have been raised, in a transaction of its own. What fails here
 * does not concern the run, and is left to whoever announces next.
 */
static void
announce_alerts(Execution *execution)
{
	List *announced = NIL;
	ErrorData *error;
	ErrorData *commit_error;

	if (!cj_alert_has_unannounced())
		return;
	error = cj_run_attempt(&execution->run, announce, &announced);
	commit_error = try_to_commit(execution, false);
	if (commit_error)
		error = commit_error;
	if (error)
		ereport(LOG_SERVER_ONLY,
				(errcode(error->sqlerrcode),
				 errmsg("challenge_jobs: alerts could not be announced: %s", error->message)));
	else
	{
		cj_alert_log(announced);
		/* delivery need not wait for the next tick */
		cj_shared_state_wake();
	}
}

/* ask_whether_to_wait is the work of an attempt. */
static void
ask_whether_to_wait(CjRun *run, void *arg)
{
	CjRows rows = cj_sql_run_own(&find_wait, CJ_PARAMS(CJ_TEXT(run->job->definition.name)));

	*(bool *) arg = rows.processed > 0 && cj_sql_bool(&rows, 0, 1);
	cj_sql_free(&rows);
}

/* take_a_nap is the work of an attempt, so that a cancellation is recorded. */
static void
take_a_nap(CjRun *run, void *arg)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_AFTER,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * wait_for_other_job waits until no other job is in the way that is due in the same minute, without a lock or a
 * snapshot. The run begins afterwards: it sees what that job has done. Returns the error that ended the wait, if one
 * did.
 */
static ErrorData *
wait_for_other_job(Execution *execution)
{
	CjRun *run = &execution->run;
	instr_time begun;
	instr_time waited;
	bool waits = false;
	ErrorData *error = cj_run_attempt(run, ask_whether_to_wait, &waits);

	INSTR_TIME_SET_CURRENT(begun);
	INSTR_TIME_SET_ZERO(waited);
	while (error == NULL && waits && INSTR_TIME_GET_MILLISEC(waited) < PATIENCE)
	{
		SPI_commit();
		error = cj_run_attempt(run, take_a_nap, NULL);
		EnsurePortalSnapshotExists();
		if (error == NULL)
			error = cj_run_attempt(run, ask_whether_to_wait, &waits);
		INSTR_TIME_SET_CURRENT(waited);
		INSTR_TIME_SUBTRACT(waited, begun);
	}
	run->as_of = execution->start.as_of = execution->start.started_at = GetCurrentTimestamp();
	return error;
}

void
cj_runner_run_procedure(const CjJob *job, const CjRunTrigger *trigger)
{
	ErrorContextCallback context = {error_context_stack, add_run_context};
	Execution *execution;
	CjRun *run;
	ErrorData *error;

	check_not_nested(job);
	PreventCommandIfReadOnly("CALL challenge_jobs.run()");

	execution = create_execution(job, trigger, GetCurrentTimestamp(), false, true);
	run = &execution->run;
	context.arg = execution;
	error_context_stack = &context;
	error = trigger->may_wait ? wait_for_other_job(execution) : NULL;
	if (error == NULL)
		error = cj_run_attempt(run, load_config, NULL);
	if (error == NULL && job->base)
		check_held(run);
	if (error)
		fail_at_once(execution, error);
	else if (!run->config->enabled && !job->base)
		skip(execution, "the job is disabled", NULL);
	else if (!cj_job_lock_try(&execution->lock, true))
		skip(execution, "the job is running in another session",
			 cj_job_lock_hint(&execution->lock));
	else
		error = run_unless_held(execution);
	announce_alerts(execution);
	/* whoever follows or waits need not do so until the next tick */
	if (strcmp(execution->start.job, CJ_DECIDING_JOB) == 0 ||
		strcmp(execution->start.job, CJ_FOLLOWING_JOB) == 0)
		cj_shared_state_wake();

	error_context_stack = context.previous;
	if (error)
		ReThrowError(error);
	notice_locked(run);
	MemoryContextDelete(run->memory);
}
