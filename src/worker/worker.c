/*
 * worker/worker.c
 *		Background workers that live for a moment: to look after a database, or for one run.
 *
 * Started by launcher and, for runs, by the tasks of the first kind. Neither stays connected: a connected
 * worker would keep its database from being dropped. The first kind does what stands in the table of
 * tasks, each in transactions of its own; an error of one is logged when it is new, and keeps none of the
 * others from being done. The second kind calls the runner as CALL challenge_jobs.run() would, and ends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "alerts/alert.h"
#include "alerts/delivery.h"
#include "base/compat.h"
#include "base/error_log.h"
#include "base/identity.h"
#include "base/job_lock.h"
#include "base/own_transaction.h"
#include "base/sql.h"
#include "config/installation.h"
#include "jobs/auto_complete_undo.h"
#include "jobs/job_list.h"
#include "run/runner.h"
#include "run/shared_state.h"
#include "worker/overlong_run.h"
#include "worker/watchdog.h"
#include "worker/worker.h"

/* The arguments of the worker of a run. */
typedef struct RunOrder
{
	char job[NAMEDATALEN];
	char triggered_by[NAMEDATALEN / 2];
	TimestampTz scheduled_for;
	int attempt;
	Oid user; /* as whom to connect; InvalidOid: the superuser that initdb made */
} RunOrder;

StaticAssertDecl(sizeof(RunOrder) <= BGW_EXTRALEN, "RunOrder must fit into bgw_extra");

/* Memory of the task at hand. */
static MemoryContext task_memory;

/* Something to be done for a database; begins and ends its own transactions. */
typedef struct Task
{
	const char *name;
	void (*work)(void);
} Task;

/* ---- starting workers ---- */

static void
describe_worker(BackgroundWorker *worker, const char *type, const char *what, const char *function,
				Oid database)
{
	memset(worker, 0, sizeof(*worker));
	snprintf(worker->bgw_name, BGW_MAXLEN, "%s: %s", type, what);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "challenge_jobs", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	worker->bgw_main_arg = ObjectIdGetDatum(database);
}

BackgroundWorkerHandle *
cj_worker_start_tick(Oid database, const char *name)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	describe_worker(&worker, "challenge_jobs worker", name, "cj_worker_tick_main", database);
	strlcpy(worker.bgw_extra, name, NAMEDATALEN);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* check_may_connect refuses what the worker of a run would end with, each time anew and without a row. */
static void
check_may_connect(Oid owner)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool may_log_in = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	const char *name = quote_identifier(GetUserNameFromId(owner, false));
	const char *database = quote_identifier(get_database_name(MyDatabaseId));

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!may_log_in && CJ_COMPAT_BYPASS_LOGIN_CHECK == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of the extension, %s, is not permitted to log in", name),
				 errdetail("Runs that the worker starts are sessions of that role."),
				 errhint("Run: ALTER ROLE %s LOGIN;", name)));
	if (!DatumGetBool(DirectFunctionCall3(has_database_privilege_id_id, ObjectIdGetDatum(owner),
										  ObjectIdGetDatum(MyDatabaseId),
										  CStringGetTextDatum("CONNECT"))))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of the extension, %s, may not connect to the database", name),
				 errdetail("Runs that the worker starts are sessions of that role."),
				 errhint("Run: GRANT CONNECT ON DATABASE %s TO %s;", database, name)));
}

/*
 * choose_user returns as whom the worker of a run is to connect. Code of the app may come to run there as the
 * owner of the extension, at a commit, outside of the restrictions of a statement (deferred triggers). So the
 * session must not have been begun by a superuser unless the owner is one: SET SESSION AUTHORIZATION would
 * lead back.
 */
static Oid
choose_user(void)
{
	bool is_own = !IsTransactionState();
	Oid owner;

	if (is_own)
		cj_own_transaction_begin();
	owner = cj_identity_extension().owner;
	/* need not be allowed to log in */
	if (superuser_arg(owner))
		owner = InvalidOid;
	else
		check_may_connect(owner);
	if (is_own)
		cj_own_transaction_commit();
	return owner;
}

bool
cj_worker_start_run(const char *job, const CjRunTrigger *trigger)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	RunOrder order = {.scheduled_for = trigger->scheduled_for,
					  .attempt = trigger->attempt,
					  .user = choose_user()};

	strlcpy(order.job, job, sizeof(order.job));
	strlcpy(order.triggered_by, trigger->triggered_by, sizeof(order.triggered_by));
	describe_worker(&worker, "challenge_jobs run", job, "cj_worker_run_main", MyDatabaseId);
	memcpy(worker.bgw_extra, &order, sizeof(order));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	pfree(handle);
	return true;
}

/* ---- sessions ---- */

/*
 * start_session connects to the database, with InvalidOid as the superuser that initdb made. What ALTER
 * DATABASE … SET and ALTER ROLE … SET say is for the sessions of users.
 */
static void
start_session(Oid database, Oid user)
{
	static const char *const settings[][2] = {
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"transaction_timeout", "0"}, /* from 17 on */
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"role", "none"},
	};

	pqsignal(SIGHUP, SIG_IGN);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, user, CJ_COMPAT_BYPASS_LOGIN_CHECK);
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false))
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* ---- tasks ---- */

/* log_losses says when records begin to be lost. */
static void
log_losses(void)
{
	uint64 lost;
	bool is_losing;
	bool was_losing;

	(void) cj_shared_state_waiting(&lost);
	is_losing = cj_shared_state_note(CJ_NOTE_LOST, (uint32) lost) != (uint32) lost;
	was_losing = cj_shared_state_note(CJ_NOTE_LOSING, is_losing) != 0;
	if (is_losing && !was_losing)
		ereport(LOG,
				(errmsg("challenge_jobs: more job functions fail or are rolled back in database \"%s\" than can be "
						"recorded",
						MyBgworkerEntry->bgw_extra),
				 errdetail("challenge_jobs.doctor() counts those that are not recorded.")));
}

/*
 * write_unrecorded_runs writes what is in the ring, each record in a transaction of its own: one that cannot be
 * written is put off, and does not take the others with it.
 */
static void
write_unrecorded_runs(void)
{
	CjRunRecord record;
	uint64 ticket;

	log_losses();
	while (cj_shared_state_next(&record, &ticket))
	{
		CHECK_FOR_INTERRUPTS();
		PG_TRY();
		{
			cj_own_transaction_begin();
			cj_run_log_write_unrecorded(&record);
			/* nothing may come between: a record must not be written twice */
			HOLD_INTERRUPTS();
			cj_own_transaction_commit();
			cj_shared_state_done(ticket);
			RESUME_INTERRUPTS();
		}
		PG_CATCH();
		{
			cj_shared_state_put_off(ticket);
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
}

/* write_refusals writes which calls were refused, each kind in a transaction of its own. */
static void
write_refusals(void)
{
	CjRefusal refusal;
	int index = 0;

	while (cj_shared_state_next_refusal(&index, &refusal))
	{
		CHECK_FOR_INTERRUPTS();
		cj_own_transaction_begin();
		cj_run_log_record_refusal(&refusal);
		/* nothing may come between: calls must not be counted twice */
		HOLD_INTERRUPTS();
		cj_own_transaction_commit();
		cj_shared_state_refusal_done(index, &refusal);
		RESUME_INTERRUPTS();
	}
	cj_own_transaction_begin();
	cj_run_log_remove_refusals();
	cj_own_transaction_commit();
}

static void
close_crashed_runs_of(const char *job, uint16 number)
{
	int64 last = cj_run_log_last_running(job);
	CjJobLock lock = cj_job_lock_of(number);

	if (last > 0 && !cj_job_lock_is_held(&lock))
		(void) cj_run_log_close_crashed(job, last);
}

/*
 * close_crashed_runs closes the rows of runs that do not live any more. Whoever writes such a row holds the
 * job's lock from before it is there until it is finished. So a row that is seen, without the lock being
 * held afterwards, was left behind (or has been finished meanwhile, and then is not touched).
 */
static void
close_crashed_runs(void)
{
	const CjJob *const *jobs = cj_job_list_jobs();

	cj_own_transaction_begin();
	for (int i = 0; jobs[i]; i++)
		close_crashed_runs_of(jobs[i]->definition.name, jobs[i]->definition.number);
	close_crashed_runs_of(cj_job_undo_decisions.definition.name,
						  cj_job_undo_decisions.base->definition.number);
	cj_own_transaction_commit();
}

/* report_copy reports that this database is a copy, in which jobs that were scheduled do not run. */
static void
report_copy(void)
{
	CjRows rows;
	uint32 count;

	cj_own_transaction_begin();
	rows = cj_installation_restored_jobs();
	count = (uint32) rows.processed;
	for (uint64 row = 0; row < rows.processed; row++)
		cj_alert_raise_restored(cj_sql_text(&rows, row, 1));
	cj_own_transaction_commit();
	/* 0 is what is noted before anything was looked at */
	if (cj_shared_state_note(CJ_NOTE_HELD, count + 1) != count + 1 && count > 0)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("challenge_jobs: database \"%s\" is a copy: %u jobs were scheduled in another one, "
						"and do not run",
						MyBgworkerEntry->bgw_extra, count),
				 errhint("Run in this database: SELECT * FROM challenge_jobs.resume();")));
}

static void
look_after_schedules(void)
{
	cj_watchdog_check(cj_worker_start_run);
}

/* What is done for a database, in this order. */
static const Task tasks[] = {
	{"write unrecorded runs", write_unrecorded_runs},
	{"write refused calls", write_refusals},
	{"end overlong runs", cj_overlong_run_end},
	{"close crashed runs", close_crashed_runs},
	{"report that the database is a copy", report_copy},
	{"start due and missed runs", look_after_schedules},
	/* last, since it can take as long as the command may */
	{"deliver alerts", cj_alert_deliver},
};

StaticAssertDecl(CJ_NOTE_TASKS + lengthof(tasks) < CJ_MAX_NOTES, "too many tasks for CJ_MAX_NOTES");

/* ---- doing tasks ---- */

static void
log_error(const Task *task, const ErrorData *error)
{
	cj_error_log_report(LOG, error,
						psprintf("background task \"%s\" failed in database \"%s\": %s", task->name,
								 MyBgworkerEntry->bgw_extra, error->message));
}

/* where_from returns what distinguishes errors: their origin, since their texts may differ each time. */
static uint32
where_from(const ErrorData *error)
{
	const char *file = error->filename ? error->filename : "";
	uint32 hash = hash_bytes((const unsigned char *) file, (int) strlen(file));

	hash ^= hash_bytes_uint32((uint32) error->sqlerrcode) ^ (uint32) error->lineno;
	return Max(hash, 1);
}

/* do_task does a task. Its error is logged if it differs from that of the last time. */
static void
do_task(const Task *task, int note)
{
	/* what a commit leaves us in is another one */
	MemoryContextSwitchTo(task_memory);
	pgstat_report_activity(STATE_RUNNING, psprintf("challenge_jobs: %s", task->name));
	PG_TRY();
	{
		task->work();
		if (cj_shared_state_note(note, 0) != 0)
			ereport(LOG,
					(errmsg("challenge_jobs: background task \"%s\" works again in database \"%s\"", task->name,
							MyBgworkerEntry->bgw_extra)));
	}
	PG_CATCH();
	{
		ErrorData *error;
		uint32 origin;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(task_memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(task_memory);
		origin = where_from(error);
		if (cj_shared_state_note(note, origin) != origin)
			log_error(task, error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextReset(task_memory);
}

/* How the extension can be found in a database; 0 stands for "not looked at yet". */
typedef enum Finding
{
	FINDING_USABLE = 1,
	FINDING_MISSING,
	FINDING_OTHER_VERSION
} Finding;

/* log_finding says what was found, if that is new. */
static void
log_finding(Finding finding, const char *version)
{
	const char *database = MyBgworkerEntry->bgw_extra;

	if (cj_shared_state_note(CJ_NOTE_EXTENSION, finding) == finding)
		return;
	if (finding == FINDING_USABLE)
		ereport(LOG, (errmsg("challenge_jobs: database \"%s\" is being served", database)));
	else if (finding == FINDING_MISSING)
		ereport(LOG,
				(errmsg("challenge_jobs: database \"%s\" does not have the extension", database),
				 errhint("Run: CREATE EXTENSION challenge_jobs; or take the database out of "
						 "challenge_jobs.databases.")));
	else
		ereport(LOG,
				(errmsg("challenge_jobs: in database \"%s\" the extension is %s, the library %s",
						database, version, CJ_VERSION),
				 errdetail("The database is not served until they are the same."),
				 errhint("Run: ALTER EXTENSION challenge_jobs UPDATE;")));
}

/* What examine_extension found out. */
static bool is_usable;

/* examine_extension finds out whether the extension is there, in the version of this library. */
static void
examine_extension(void)
{
	Finding finding = FINDING_MISSING;
	char *version = NULL;

	is_usable = false;
	cj_own_transaction_begin_without_extension();
	if (OidIsValid(get_extension_oid("challenge_jobs", true)))
	{
		version = cj_installation_version();
		finding = strcmp(version, CJ_VERSION) == 0 ? FINDING_USABLE : FINDING_OTHER_VERSION;
		if (finding == FINDING_USABLE)
			cj_identity_check_script();
	}
	log_finding(finding, version);
	cj_own_transaction_commit();
	is_usable = finding == FINDING_USABLE;
}

/*
 * is_frozen returns whether the database is read-only by default, and says so when that changes. Whoever has set it wants
 * nothing to be written: runs that are due wait, and so does what is to be recorded.
 */
static bool
is_frozen(void)
{
	uint32 value = DefaultXactReadOnly ? 2 : 1;
	uint32 before = cj_shared_state_note(CJ_NOTE_READ_ONLY, value);

	if (DefaultXactReadOnly && before != value)
		ereport(LOG,
				(errmsg("challenge_jobs: database \"%s\" is read-only by default, so its jobs do not run",
						MyBgworkerEntry->bgw_extra),
				 errhint("Jobs run again once default_transaction_read_only is off.")));
	else if (!DefaultXactReadOnly && before == 2)
		ereport(LOG,
				(errmsg("challenge_jobs: database \"%s\" is no longer read-only by default",
						MyBgworkerEntry->bgw_extra)));
	return DefaultXactReadOnly;
}

void
cj_worker_tick_main(Datum database)
{
	static const Task examine = {"look at the extension", examine_extension};

	start_session(DatumGetObjectId(database), InvalidOid);
	/* as autovacuum does: a standby that does not answer must not hold up DROP DATABASE */
	if (synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
	if (!cj_shared_state_claim())
		proc_exit(0);
	task_memory =
		AllocSetContextCreate(TopMemoryContext, "challenge_jobs task", ALLOCSET_DEFAULT_SIZES);

	do_task(&examine, CJ_NOTE_TASKS + lengthof(tasks));
	if (is_frozen())
	{
		cj_shared_state_looked_after();
		proc_exit(0);
	}
	for (int i = 0; is_usable && i < lengthof(tasks); i++)
		do_task(&tasks[i], CJ_NOTE_TASKS + i);
	cj_shared_state_looked_after();
	proc_exit(0);
}

/* ---- runs ---- */

/* become_owner makes the owner of the extension the user of the session, if that is not so yet. */
static void
become_owner(void)
{
	Oid owner;

	cj_own_transaction_begin_without_extension();
	cj_identity_check_script();
	owner = cj_identity_extension().owner;
	if (owner != GetUserId() && !(superuser() && superuser_arg(owner)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the owner of the extension changed while a run was starting")));
	if (owner != GetUserId())
		SetConfigOption("session_authorization", GetUserNameFromId(owner, false), PGC_SUSET,
						PGC_S_OVERRIDE);
	cj_own_transaction_commit();
}

/*
 * run calls the runner inside of a portal, as a procedure is called: a procedure that commits finds its
 * snapshot there again.
 */
static void
run(const RunOrder *order, const char *text)
{
	CjRunTrigger trigger = {order->triggered_by, order->scheduled_for, order->attempt};
	Portal portal;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	portal = CreatePortal("challenge_jobs run", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, text, CMDTAG_CALL, NIL, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	MarkPortalActive(portal);
	ActivePortal = portal;
	CurrentResourceOwner = portal->resowner;
	PortalContext = portal->portalContext;
	MemoryContextSwitchTo(PortalContext);
	EnsurePortalSnapshotExists();

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PG_TRY();
	{
		cj_runner_run_procedure(cj_job_list_find(order->job), &trigger);
	}
	PG_CATCH();
	{
		MarkPortalFailed(portal);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");

	if (portal->portalSnapshot && ActiveSnapshotSet())
		PopActiveSnapshot();
	portal->portalSnapshot = NULL;
	MarkPortalDone(portal);
	ActivePortal = NULL;
	PortalContext = NULL;
	MemoryContextSwitchTo(TopTransactionContext);
	PortalDrop(portal, false);
	CommitTransactionCommand();
}

void
cj_worker_run_main(Datum database)
{
	MemoryContext memory;
	RunOrder order;
	char *text;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	start_session(DatumGetObjectId(database), order.user);
	memory = AllocSetContextCreate(TopMemoryContext, "challenge_jobs run", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(memory);
	text = psprintf("CALL challenge_jobs.run('%s', '%s')", order.job, order.triggered_by);
	debug_query_string = text;
	pgstat_report_activity(STATE_RUNNING, text);
	PG_TRY();
	{
		become_owner();
		run(&order, text);
	}
	PG_CATCH();
	{
		/* the run has been recorded; the log has it as for any session */
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	proc_exit(0);
}
