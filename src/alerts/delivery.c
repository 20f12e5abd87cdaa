/*
 * alerts/delivery.c
 *		Bringing alerts to whoever is to know: log, NOTIFY, challenge_jobs.alert_command.
 *
 * Each alert goes through
 *
 *		transaction:	claim it: count the attempt and set the time of the next one, commit
 *		no transaction:	run the command
 *		transaction:	note that it was delivered, or what went wrong; commit
 *
 * so that whatever ends us in between, the alert is tried again: it is delivered at least once. One process
 * at a time delivers in a database; it holds a lock of the session, of the kind of a job's lock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "alerts/command.h"
#include "alerts/delivery.h"
#include "base/job_lock.h"
#include "base/own_transaction.h"

/* The number of the lock, beyond those of the jobs. */
#define DELIVERY_LOCK 0xFFFF

/* A delivery: how it has its transactions, and what it has done. */
typedef struct Delivery
{
	bool by_hand;
	void (*begin)(void);
	void (*commit)(void);
	MemoryContext memory; /* of one alert */
	CjJobLock lock;
	bool has_lock;
	int64 last; /* alert that was tried */
	int64 delivered;
	int64 failed;
} Delivery;

/* ---- delivering ---- */

/* prepare announces what is new, and takes the lock if there is a command to run. */
static void
prepare(Delivery *delivery)
{
	List *announced;
	int64 given_up = 0;

	delivery->begin();
	cj_alert_settle_runs();
	cj_alert_settle();
	announced = cj_alert_announce(delivery->memory);
	if (cj_alert_command_is_set())
	{
		delivery->lock = cj_job_lock_of(DELIVERY_LOCK);
		delivery->has_lock = cj_job_lock_try(&delivery->lock, true);
	}
	if (delivery->has_lock)
		given_up = cj_alert_give_up();
	delivery->commit();

	cj_alert_log(announced);
	if (given_up > 0)
		ereport(LOG_SERVER_ONLY,
				(errmsg("challenge_jobs: " INT64_FORMAT " alerts were given up", given_up),
				 errdetail("They could not be delivered for 7 days."),
				 errhint("Run: SELECT * FROM challenge_jobs.alert WHERE delivered_at IS NULL AND next_attempt_at IS NULL;")));
}

/* report_problem reports that an alert could not be delivered: the log once for each alert. */
static void
report_problem(const Delivery *delivery, const CjAlert *alert, const char *problem)
{
	if (alert->attempts == 1)
		ereport(LOG_SERVER_ONLY,
				(errmsg("challenge_jobs: alert " INT64_FORMAT " could not be delivered: %s",
						alert->alert_id, problem),
				 errdetail("Delivery is retried until the alert is 7 days old.")));
	if (delivery->by_hand)
		ereport(NOTICE,
				(errmsg("alert " INT64_FORMAT " could not be delivered: %s", alert->alert_id, problem)));
}

/* deliver_one delivers the next alert; false if there is none. */
static bool
deliver_one(Delivery *delivery)
{
	CjAlert alert;
	const char *problem;
	bool found;

	MemoryContextReset(delivery->memory);
	delivery->begin();
	MemoryContextSwitchTo(delivery->memory);
	found = cj_alert_claim(delivery->last, delivery->by_hand, cj_alert_command_timeout() + 60000,
						   &alert);
	delivery->commit();
	if (!found)
		return false;

	MemoryContextSwitchTo(delivery->memory);
	problem = cj_alert_command_run(psprintf("%s\n", alert.json));

	delivery->begin();
	cj_alert_finish(&alert, problem);
	delivery->commit();
	delivery->last = alert.alert_id;
	if (problem)
	{
		delivery->failed++;
		report_problem(delivery, &alert, problem);
	}
	else
		delivery->delivered++;
	return true;
}

static void
deliver_all(Delivery *delivery)
{
	TimestampTz begin = GetCurrentTimestamp();
	MemoryContext caller = CurrentMemoryContext;

	while (deliver_one(delivery))
	{
		MemoryContextSwitchTo(caller);
		CHECK_FOR_INTERRUPTS();
		if (delivery->by_hand)
			continue;
		if (delivery->failed > 0 ||
			TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), cj_alert_command_timeout()))
			break;
	}
	MemoryContextSwitchTo(caller);
}

/*
 * release_lock releases the lock when an error or the end of our process comes between. The abort of a
 * transaction does so, but the worker may have none open; then nobody would, and the lock would outlive us.
 */
static void
release_lock(int code, Datum arg)
{
	Delivery *delivery = (Delivery *) DatumGetPointer(arg);

	if (delivery->has_lock && !IsTransactionState())
		cj_job_lock_release(&delivery->lock, true);
}

static void
deliver(Delivery *delivery)
{
	delivery->memory = AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs alerts",
											 ALLOCSET_DEFAULT_SIZES);
	PG_ENSURE_ERROR_CLEANUP(release_lock, PointerGetDatum(delivery));
	{
		prepare(delivery);
		if (delivery->has_lock)
			deliver_all(delivery);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_lock, PointerGetDatum(delivery));
	if (delivery->has_lock)
		cj_job_lock_release(&delivery->lock, true);
	MemoryContextDelete(delivery->memory);
}

void
cj_alert_deliver(void)
{
	Delivery delivery = {.begin = cj_own_transaction_begin, .commit = cj_own_transaction_commit};

	deliver(&delivery);
}

void
cj_alert_deliver_by_hand(void)
{
	/*
	 * CALL is in a transaction at any time, of which nothing is to be seen: it needs a snapshot. That which follows a
	 * commit has no snapshot, no number and no lock.
	 */
	Delivery delivery = {.by_hand = true,
						 .begin = EnsurePortalSnapshotExists,
						 .commit = SPI_commit};

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to deliver alerts"),
				 errdetail("Only superusers may run challenge_jobs.alert_command, which runs as the operating-system user of the server.")));
	PreventCommandIfReadOnly("CALL challenge_jobs.deliver_alerts()");
	deliver(&delivery);

	if (!cj_alert_command_is_set())
		ereport(NOTICE,
				(errmsg("challenge_jobs.alert_command is not set: alerts go to the server log and NOTIFY only"),
				 errhint("Set challenge_jobs.alert_command in postgresql.conf, then run: SELECT pg_reload_conf();")));
	else if (!delivery.has_lock)
		ereport(NOTICE, (errmsg("another process is delivering alerts")));
	else
		ereport(NOTICE,
				(errmsg("alerts delivered: " INT64_FORMAT ", not delivered: " INT64_FORMAT,
						delivery.delivered, delivery.failed)));
}
