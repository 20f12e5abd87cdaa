/*
 * run/batch.c
 *		Working on the items of a batch so that a bad one keeps none of the others waiting.
 *
 * A failed range is divided into tenths rather than halves: to isolate one bad item of 1000, three levels are gone
 * through instead of ten, which matters when each failure is a wait for a lock, and less work is done twice.
 *
 * Each range that works is committed by itself (cj_run_commit_batch), so that locks are short.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/elog.h"

#include "run/batch.h"

/* Into how many parts a range that failed is divided. */
#define PARTS 10

/*
 * After so many waits for locks in a row that all ended in vain the run ends, and the rest is for the
 * next one: something bigger than a row is locked. More than the levels of dividing a batch.
 */
#define MAX_LOCK_TIMEOUTS 20

/* How many failed items are named in the detail of the error. */
#define MAX_ITEMS_NAMED 20

/* So much of the message of an error is given with an item. */
#define MAX_CAUSE_BYTES 200

typedef struct Range
{
	const CjBatch *batch;
	int from;
	int to;
	bool opened;
} Range;

static void
work_on_range(CjRun *run, void *arg)
{
	Range *range = arg;

	range->batch->work(run, range->from, range->to, &range->opened, range->batch->arg);
}

/*
 * is_by_server returns whether an error comes from the server's own handling of interrupts: the app's code
 * can raise an error with any SQLSTATE, also one that looks like a cancellation or a lock timeout.
 */
static bool
is_by_server(const ErrorData *error)
{
	return error->funcname && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/* is_raised_by_app accepts errors that were raised by a statement of the app's code, RAISE. */
static bool
is_raised_by_app(const ErrorData *error)
{
	return error->funcname && strcmp(error->funcname, "exec_stmt_raise") == 0;
}

/* is_lock_conflict accepts errors that say that another transaction was in the way. */
static bool
is_lock_conflict(const ErrorData *error)
{
	return (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
			error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
		   !is_raised_by_app(error);
}

/*
 * ends_run accepts errors that are not about the items: the user or the server wants the run to end, or
 * the caller's snapshot is too old. All others are divided, whatever they are called: an item that always
 * fails with "out of memory" or "admin shutdown" must not keep the others waiting, either.
 */
static bool
ends_run(const CjRun *run, const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !run->is_over_limit &&
		(is_by_server(error) || run->is_cancelled))
		return true;
	return IsolationUsesXactSnapshot() &&
		   ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

/* note_failure counts an item that failed and names it, with the cause where it is another one than that of the first. */
static void
note_failure(CjRun *run, const CjBatch *batch, int item, ErrorData *error)
{
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	if (run->first_error == NULL)
	{
		run->first_error = error;
		run->failed_items = makeStringInfo();
	}
	if (run->failures < MAX_ITEMS_NAMED)
	{
		appendStringInfo(run->failed_items, "%s%s", run->failures > 0 ? ", " : "",
						 batch->describe(run, item, batch->arg));
		if (strcmp(error->message, run->first_error->message) != 0)
			appendStringInfo(run->failed_items, " (%.*s)",
							 pg_mbcliplen(error->message, strlen(error->message), MAX_CAUSE_BYTES),
							 error->message);
	}
	run->failures++;
	MemoryContextSwitchTo(caller);
	if (run->first_error != error)
		FreeErrorData(error);
}

/*
 * try_range does a range of items as a whole. Returns the error that it failed with, or NULL; raises it
 * if it is not one that smaller ranges would help against.
 */
static ErrorData *
try_range(CjRun *run, Range *range)
{
	const CjBatch *batch = range->batch;
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	error = cj_run_attempt(run, work_on_range, range);
	if (error == NULL)
		error = cj_run_commit_batch(run);
	if (error == NULL)
	{
		if (batch->done)
			batch->done(run, range->from, range->to, batch->arg);
		run->lock_timeouts = 0;
		cj_run_advance(run, batch->is_step ? 0 : range->to - range->from);
		return NULL;
	}

	if (!range->opened || ends_run(run, error))
		ReThrowError(error);
	if (is_lock_conflict(error) && ++run->lock_timeouts >= MAX_LOCK_TIMEOUTS)
		ReThrowError(error);
	return error;
}

static void
process_range(CjRun *run, const CjBatch *batch, int from, int to)
{
	Range range = {batch, from, to, false};
	ErrorData *error = try_range(run, &range);
	int part = (to - from + PARTS - 1) / PARTS;

	if (error == NULL)
		return;
	if (to - from == 1)
	{
		if (is_lock_conflict(error))
		{
			run->locked++;
			FreeErrorData(error);
		}
		else
			note_failure(run, batch, from, error);
		cj_run_advance(run, batch->is_step ? 0 : 1);
		return;
	}

	FreeErrorData(error);
	for (int start = from; start < to; start += part)
		process_range(run, batch, start, Min(start + part, to));
}

bool
cj_batch_try(CjRun *run, const CjBatch *batch)
{
	Range range = {batch, 0, batch->count, false};
	ErrorData *error = try_range(run, &range);

	if (error)
		FreeErrorData(error);
	return error == NULL;
}

void
cj_batch_process(CjRun *run, const CjBatch *batch)
{
	if (batch->count > 0)
		process_range(run, batch, 0, batch->count);
}

void
cj_batch_step(CjRun *run, CjWork work, void *arg)
{
	ErrorData *error = cj_run_attempt(run, work, arg);

	if (error == NULL)
		error = cj_run_commit_batch(run);
	if (error)
		ReThrowError(error);
}
