/*
 * run/rolled_back_runs.c
 *		Runs whose row does not outlive the caller's transaction: job functions that fail or are rolled back.
 *
 * What is to be recorded is put into the ring in shared memory, from which the worker writes it to job_run:
 *
 * - a job function that raised an error: at once, with the error, whatever the caller does about it;
 * - a job function that did its work, in a transaction or subtransaction that is rolled back afterwards: by a
 *   callback of the abort, which finds the record ready and allocates nothing;
 * - a job function whose session is ended in the middle (FATAL): by the same callback.
 *
 * A dry run that is rolled back is not recorded: it did nothing that could be undone. A dry run that
 * fails is. With PREPARE TRANSACTION the run is out of our hands: if it is rolled back in the second
 * phase, by whatever session and however much later, there is no callback, and no record.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "config/database_list.h"
#include "run/rolled_back_runs.h"
#include "run/shared_state.h"

/* So many job functions of one transaction are remembered one by one; of more, the number is all that is known. */
#define MAX_PENDING (CJ_RING_SIZE / 2)

struct CjUnrecordedRun
{
	CjUnrecordedRun *next;
	SubTransactionId subtransaction; /* with which the run is rolled back */
	bool is_at_work;
	CjRunRecord record;
};

/* The job functions of this transaction that are at work or have done their work, the last one first. */
static CjUnrecordedRun *pending = NULL;
static int pending_count = 0;

/* What stands for all those beyond MAX_PENDING, and how many have done their work. */
static CjUnrecordedRun beyond;
static uint64 beyond_count = 0;

/* Where a failure is put together: there may be no memory to be had. */
static CjRunRecord failure;

static MemoryContext pending_memory = NULL;

/* ---- records ---- */

/* put_text cuts a text to fit, at the border of a character. */
static void
put_text(char *to, size_t size, const char *text)
{
	int length = text ? (int) strlen(text) : 0;

	if (length >= (int) size)
		length = pg_mbcliplen(text, length, (int) size - 1);
	if (length > 0)
		memcpy(to, text, length);
	to[length] = '\0';
}

static void
put_start(CjRunRecord *record, const CjRunStart *start)
{
	memset(record, 0, offsetof(CjRunRecord, job));
	record->database = MyDatabaseId;
	record->pid = MyProcPid;
	record->dry_run = start->dry_run;
	record->as_of = start->as_of;
	record->started_at = start->started_at;
	put_text(record->job, sizeof(record->job), start->job);
	put_text(record->triggered_by, sizeof(record->triggered_by), start->trigger.triggered_by);
	put_text(record->role_name, sizeof(record->role_name), start->role_name);
}

/* put_end puts into a record what is known of it when it has ended, but for the result. */
static void
put_end(CjRunRecord *record, const CjRunEnd *end)
{
	const ErrorData *error = end->error;

	record->status = end->status;
	record->rows_affected = end->rows_affected;
	record->finished_at = GetCurrentTimestamp();
	record->result[0] = '\0';
	put_text(record->sqlstate, sizeof(record->sqlstate),
			 error ? unpack_sql_state(error->sqlerrcode) : NULL);
	put_text(record->message, sizeof(record->message), error ? error->message : end->message);
	put_text(record->detail, sizeof(record->detail), error ? error->detail : end->detail);
	put_text(record->hint, sizeof(record->hint), error ? error->hint : NULL);
	put_text(record->context, sizeof(record->context), error ? error->context : NULL);
}

/* put_result adds the figures, which do not make sense if they are cut. */
static void
put_result(CjRunRecord *record, Jsonb *result)
{
	char *text = result ? JsonbToCString(NULL, &result->root, VARSIZE(result)) : NULL;

	if (text && strlen(text) < sizeof(record->result))
		strcpy(record->result, text);
}

/* ---- the list ---- */

static void
forget(CjUnrecordedRun *run)
{
	CjUnrecordedRun **link = &pending;

	if (run == &beyond)
		return;
	while (*link && *link != run)
		link = &(*link)->next;
	if (*link == NULL)
		return;
	*link = run->next;
	pending_count--;
	pfree(run);
}

static void
forget_all(void)
{
	pending = NULL;
	pending_count = 0;
	beyond_count = 0;
	if (pending_memory)
		MemoryContextReset(pending_memory);
}

/* record_rolled_back has a run recorded whose work has been undone. */
static void
record_rolled_back(CjUnrecordedRun *run)
{
	if (run->is_at_work)
		run->record.finished_at = GetCurrentTimestamp();
	else if (run->record.dry_run)
		return;
	cj_shared_state_push(&run->record);
}

/* has_decided returns whether a run of this transaction has decided challenges. */
static bool
has_decided(void)
{
	for (CjUnrecordedRun *run = pending; run; run = run->next)
	{
		if (run->record.rows_affected > 0 && !run->record.dry_run &&
			strcmp(run->record.job, CJ_DECIDING_JOB) == 0)
			return true;
	}
	return false;
}

/* on_transaction_end sees to it that what is rolled back is recorded. */
static void
on_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
	{
		/* in the order in which they were called: the list is from the last to the first */
		while (pending)
		{
			CjUnrecordedRun *first = pending;

			while (first->next)
				first = first->next;
			record_rolled_back(first);
			forget(first);
		}
		cj_shared_state_lose(beyond_count);
	}
	if (event == XACT_EVENT_COMMIT && has_decided())
		cj_shared_state_wake();
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		forget_all();
}

/* on_subtransaction_end does the same for a subtransaction; what lasts is its parent's from then on. */
static void
on_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	CjUnrecordedRun *next;

	for (CjUnrecordedRun *run = pending; run; run = next)
	{
		next = run->next;
		if (run->subtransaction != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			run->subtransaction = parent;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			record_rolled_back(run);
			forget(run);
		}
	}
}

/* ---- what the runner calls ---- */

/* is_served returns whether there is someone who writes down what is lost in this database. */
static bool
is_served(void)
{
	if (!cj_shared_state_is_there() || RecoveryInProgress())
		return false;
	/* the launcher may not have noticed a database that is new */
	return cj_shared_state_is_served() || cj_database_list_has(get_database_name(MyDatabaseId));
}

CjUnrecordedRun *
cj_rolled_back_runs_begin(const CjRunStart *start)
{
	CjUnrecordedRun *run;

	if (!is_served())
		return NULL;
	if (pending_count >= MAX_PENDING)
		return &beyond;
	if (pending_memory == NULL)
	{
		pending_memory = AllocSetContextCreate(TopMemoryContext, "challenge_jobs unrecorded runs",
											   ALLOCSET_DEFAULT_SIZES);
		RegisterXactCallback(on_transaction_end, NULL);
		RegisterSubXactCallback(on_subtransaction_end, NULL);
	}
	run = MemoryContextAlloc(pending_memory, sizeof(CjUnrecordedRun));
	run->subtransaction = GetCurrentSubTransactionId();
	run->is_at_work = true;
	put_start(&run->record, start);
	put_end(&run->record,
			&(CjRunEnd){.status = CJ_RUN_CRASHED,
						.message = "the session ended while the job function was running"});
	run->next = pending;
	pending = run;
	pending_count++;
	return run;
}

void
cj_rolled_back_runs_end(CjUnrecordedRun *run, const CjRunStart *start, const CjRunEnd *end)
{
	CjRunEnd rolled_back = *end;

	if (run == NULL)
		return;
	if (run == &beyond)
	{
		beyond_count += start->dry_run ? 0 : 1;
		return;
	}
	rolled_back.status = CJ_RUN_ROLLED_BACK;
	if (rolled_back.error == NULL)
		rolled_back.message = "the caller rolled back the work of the job function";
	put_end(&run->record, &rolled_back);
	put_result(&run->record, end->result);
	run->is_at_work = false;
}

void
cj_rolled_back_runs_fail(CjUnrecordedRun *run, const CjRunStart *start, const CjRunEnd *end)
{
	if (run == NULL)
		return;
	put_start(&failure, start);
	put_end(&failure, end);
	cj_shared_state_push(&failure);
	forget(run);
}

bool
cj_rolled_back_runs_refuse(CjUnrecordedRun *run, const CjRunStart *start, const ErrorData *error)
{
	CjRefusal refusal = {.database = MyDatabaseId, .calls = 1};

	if (run == NULL)
		return false;
	put_text(refusal.job, sizeof(refusal.job), start->job);
	put_text(refusal.role_name, sizeof(refusal.role_name), start->role_name);
	put_text(refusal.sqlstate, sizeof(refusal.sqlstate), unpack_sql_state(error->sqlerrcode));
	put_text(refusal.message, sizeof(refusal.message), error->message);
	refusal.first_at = refusal.last_at = GetCurrentTimestamp();
	forget(run);
	return cj_shared_state_refuse(&refusal);
}
