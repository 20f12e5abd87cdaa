/*
 * worker/launcher.c
 *		The background worker that is always there, and has the databases looked after.
 *
 * It is connected to no database, so that it keeps none from being dropped and needs none to be there. For
 * each database of challenge_jobs.databases it starts a short-lived worker (worker.c), every
 * challenge_jobs.worker_naptime, and soon after it has been woken for it. PostgreSQL starts it when recovery
 * is over: never on a standby, at once after promotion.
 *
 * Time is measured by a clock that only goes forward, so that setting the server's clock back does not make
 * for a long nap.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "config/database_list.h"
#include "run/shared_state.h"
#include "worker/launcher.h"
#include "worker/worker.h"

/* A database is not looked after more often than that, however often it is asked for. */
#define SHORTEST_NAP_MS 1000

/* When there was no room for a worker, how long until the next attempt at the latest. */
#define RETRY_MS 5000

/* So many databases are looked after at the same time: the workers are not all ours. */
#define MAX_WORKERS 4

/* After so many seconds PostgreSQL starts a launcher that has ended anew. */
#define RESTART_SECONDS 5

/* What keeps a database from being looked after. */
typedef enum Obstacle
{
	OBSTACLE_NONE,
	OBSTACLE_MISSING,
	OBSTACLE_NO_CONNECTIONS,
	OBSTACLE_NO_WORKER
} Obstacle;

/* A database of the list. */
typedef struct Served
{
	char name[NAMEDATALEN];
	Oid oid; /* InvalidOid: it does not exist, or takes no connections */
	bool is_due;
	double started_at; /* when its last worker was started */
	Obstacle obstacle; /* as logged */
	BackgroundWorkerHandle *worker;
} Served;

static int worker_naptime = 60;

static Served served[CJ_MAX_DATABASES];
static int served_count = 0;

/* When all databases are looked after the next time. */
static double next_round = 0;

/* ---- the list ---- */

/* read_list takes over challenge_jobs.databases, and what is known of those that were there before. */
static void
read_list(void)
{
	static Served before[CJ_MAX_DATABASES];
	int before_count = served_count;
	ListCell *cell;

	memcpy(before, served, sizeof(before));
	memset(served, 0, sizeof(served));
	served_count = 0;
	foreach(cell, cj_database_list_names())
	{
		Served *database = &served[served_count];
		bool is_there = false;

		strlcpy(database->name, lfirst(cell), NAMEDATALEN);
		for (int i = 0; i < served_count; i++)
			is_there |= strcmp(served[i].name, database->name) == 0;
		if (is_there)
			continue;
		served_count++;
		for (int i = 0; i < before_count; i++)
		{
			if (strcmp(before[i].name, database->name) == 0)
				*database = before[i];
		}
	}
}

/* note_obstacle notes what keeps a database from being looked after, and logs it if it is new. */
static void
note_obstacle(Served *database, Obstacle obstacle)
{
	if (database->obstacle == obstacle)
		return;
	database->obstacle = obstacle;
	if (obstacle == OBSTACLE_MISSING)
		ereport(LOG,
				(errmsg("challenge_jobs: there is no database \"%s\"", database->name),
				 errdetail("It is named in challenge_jobs.databases, and is served once it exists.")));
	else if (obstacle == OBSTACLE_NO_CONNECTIONS)
		ereport(LOG,
				(errmsg("challenge_jobs: database \"%s\" does not accept connections",
						database->name)));
	else if (obstacle == OBSTACLE_NO_WORKER)
		ereport(LOG,
				(errmsg("challenge_jobs: there is no free background worker for database \"%s\"",
						database->name),
				 errhint("Increase max_worker_processes and restart the server.")));
}

/* find_oids looks the databases up; anything else but what is in pg_database may have been dropped. */
static void
find_oids(void)
{
	bool takes_connections[CJ_MAX_DATABASES] = {0};
	Relation catalog;
	TableScanDesc scan;
	HeapTuple tuple;

	for (int i = 0; i < served_count; i++)
		served[i].oid = InvalidOid;

	/* as autovacuum's launcher does: an index cannot be relied on without a database */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		for (int i = 0; i < served_count; i++)
		{
			if (strcmp(served[i].name, NameStr(form->datname)) == 0)
			{
				served[i].oid = form->oid;
				/* -2: DROP DATABASE was interrupted */
				takes_connections[i] = form->datallowconn && form->datconnlimit != -2;
			}
		}
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();

	for (int i = 0; i < served_count; i++)
	{
		if (!OidIsValid(served[i].oid))
			note_obstacle(&served[i], OBSTACLE_MISSING);
		else if (!takes_connections[i])
		{
			note_obstacle(&served[i], OBSTACLE_NO_CONNECTIONS);
			served[i].oid = InvalidOid;
		}
	}
}

/* publish_databases makes known which databases are served. */
static void
publish_databases(void)
{
	Oid oids[CJ_MAX_DATABASES];
	int count = 0;

	for (int i = 0; i < served_count; i++)
	{
		if (OidIsValid(served[i].oid))
			oids[count++] = served[i].oid;
	}
	cj_shared_state_serve(oids, count);
}

/* ---- workers ---- */

static bool
is_at_work(Served *database)
{
	pid_t pid;

	if (database->worker == NULL)
		return false;
	if (GetBackgroundWorkerPid(database->worker, &pid) == BGWH_STOPPED)
	{
		pfree(database->worker);
		database->worker = NULL;
	}
	return database->worker != NULL;
}

/* start_worker starts the worker of a database that is due, if there is room. */
static void
start_worker(Served *database, double now)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	database->worker = cj_worker_start_tick(database->oid, database->name);
	MemoryContextSwitchTo(caller);
	cj_shared_state_note_worker(database->oid, database->worker != NULL);
	if (database->worker)
	{
		note_obstacle(database, OBSTACLE_NONE);
		database->is_due = false;
		database->started_at = now;
	}
	else
		note_obstacle(database, OBSTACLE_NO_WORKER);
}

/* start_workers starts those that are due; returns the milliseconds until there is one to be tried again. */
static double
start_workers(double now)
{
	double nap = worker_naptime * 1000.0;
	int at_work = 0;

	for (int i = 0; i < served_count; i++)
		at_work += is_at_work(&served[i]);
	for (int i = 0; i < served_count; i++)
	{
		Served *database = &served[i];
		double rest = database->started_at + SHORTEST_NAP_MS - now;

		/* the end of a worker wakes us */
		if (!database->is_due || !OidIsValid(database->oid) || database->worker)
			continue;
		if (database->started_at > 0 && rest > 0)
			nap = Min(nap, rest);
		else if (at_work < MAX_WORKERS)
		{
			start_worker(database, now);
			if (database->worker)
				at_work++;
			else
				nap = Min(nap, RETRY_MS);
		}
	}
	return nap;
}

/* ---- the process ---- */

/* now_ms returns the time of a clock that only goes forward, in milliseconds. */
static double
now_ms(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* note_due notes which databases are due; returns whether there are any. */
static bool
note_due(double now)
{
	bool all = cj_shared_state_take_wake(InvalidOid);
	bool any = false;

	if (now >= next_round)
	{
		all = true;
		next_round = now + worker_naptime * 1000.0;
	}
	for (int i = 0; i < served_count; i++)
	{
		if (all || cj_shared_state_take_wake(served[i].oid))
			served[i].is_due = true;
		any |= served[i].is_due;
	}
	return any;
}

/* look_round starts the workers that are due; returns for how many milliseconds there is nothing to do. */
static double
look_round(void)
{
	double now = now_ms();
	double nap;

	if (note_due(now))
	{
		pgstat_report_activity(STATE_RUNNING, "challenge_jobs: looking for databases");
		find_oids();
		publish_databases();
	}
	nap = start_workers(now);
	return Max(Min(nap, next_round - now_ms()), 1);
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	read_list();
	find_oids();
	publish_databases();
	next_round = 0;
}

void
cj_launcher_main(Datum arg)
{
	MemoryContext memory;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	/* there is nothing to cancel: an error would end it */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	cj_shared_state_be_launcher();
	memory =
		AllocSetContextCreate(TopMemoryContext, "challenge_jobs launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(memory);
	ConfigReloadPending = true;

	while (!ShutdownRequestPending)
	{
		double nap = -1;
		int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		if (served_count > 0)
		{
			nap = look_round();
			events |= WL_TIMEOUT;
		}
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(memory);
		MemoryContextReset(memory);
		(void) WaitLatch(MyLatch, events, (long) nap, PG_WAIT_EXTENSION);
	}
	/* 0 would mean that it is not to be started again */
	proc_exit(1);
}

static void
register_launcher(void)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "challenge_jobs launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "challenge_jobs launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, "challenge_jobs", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "cj_launcher_main", sizeof(worker.bgw_function_name));
	RegisterBackgroundWorker(&worker);
}

void
cj_launcher_init(void)
{
	/*
	 * How long a database is left alone, if nothing happens in it: 1 s to 1 day, by default 1 min. A failure
	 * or a change of the settings is seen to at once; what is overdue, or left by a crash, after this time.
	 */
	DefineCustomIntVariable("challenge_jobs.worker_naptime",
							"How often the background worker of challenge_jobs looks after each database.",
							NULL,
							&worker_naptime,
							60, 1, SECS_PER_DAY,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
		register_launcher();
}
