/*
 * run/shared_state.c
 *		What the processes of the server share: a ring of runs to be recorded, what the worker knows of
 *		each database, and how far runs are.
 *
 * One LWLock protects all of it but the progress, where each slot has a spinlock: it is written often, by one
 * process, and read rarely.
 *
 * The ring is an array in which records of several databases lie side by side. It is searched, not
 * walked round: it is small, and a database whose records nobody fetches must not keep the others'
 * waiting.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "config/database_list.h"
#include "run/shared_state.h"

#define SEGMENT "challenge_jobs"

/* How often it is tried to write a record: something in it or in the table may make that impossible. */
#define MAX_ATTEMPTS 5

/* How many runs can be shown at once. */
#define PROGRESS_SLOTS 64

/* How many kinds of refused calls are distinguished in all, and in a database. */
#define REFUSAL_SLOTS        256
#define REFUSALS_OF_DATABASE 64

/* After so long a kind is forgotten, and begins anew; as often a kind has the launcher woken. In microseconds. */
#define REFUSAL_QUIET (INT64CONST(600) * 1000000)
#define REFUSAL_PAUSE (INT64CONST(10) * 1000000)

/* A slot is free if its database is none, or what it holds has been written and is past its time. */
typedef struct RefusalSlot
{
	TimestampTz written_at;
	CjRefusal refusal;
} RefusalSlot;

typedef struct RingSlot
{
	uint64 ticket; /* 0: free; else in the order in which the records came */
	int attempts;
	CjRunRecord record;
} RingSlot;

typedef struct DatabaseSlot
{
	Oid database; /* InvalidOid: free */
	int worker;   /* process id, or 0 */
	bool is_woken;
	CjService service;
	uint64 lost;
	uint32 notes[CJ_MAX_NOTES];
} DatabaseSlot;

typedef struct ProgressSlot
{
	slock_t mutex;
	CjProgress progress; /* pid 0: free */
} ProgressSlot;

typedef struct SharedState
{
	int launcher; /* process id, or 0 */
	Latch *launcher_latch;
	bool is_woken; /* by a database that has no slot yet */
	uint64 last_ticket;
	DatabaseSlot databases[CJ_MAX_DATABASES];
	RingSlot ring[CJ_RING_SIZE];
	RefusalSlot refusals[REFUSAL_SLOTS];
	ProgressSlot progress[PROGRESS_SLOTS];
} SharedState;

static SharedState *state = NULL;
static LWLock *lock = NULL;

/* The slot that shows the run of this process, if any. */
static ProgressSlot *my_progress = NULL;
static bool has_progress_callback = false;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* ---- the segment ---- */

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedState)));
	RequestNamedLWLockTranche(SEGMENT, 1);
}

/* attach_memory finds the shared memory, or makes it. */
static void
attach_memory(void)
{
	bool is_there;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	state = ShmemInitStruct(SEGMENT, sizeof(SharedState), &is_there);
	if (!is_there)
	{
		memset(state, 0, sizeof(SharedState));
		for (int i = 0; i < PROGRESS_SLOTS; i++)
			SpinLockInit(&state->progress[i].mutex);
	}
	lock = &GetNamedLWLockTranche(SEGMENT)->lock;
	LWLockRelease(AddinShmemInitLock);
}

void
cj_shared_state_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

bool
cj_shared_state_is_there(void)
{
	return state != NULL;
}

bool
cj_shared_state_is_unattended(void)
{
	return MyBackendType == B_BG_WORKER ||
		   (application_name != NULL && strcmp(application_name, "pg_cron") == 0);
}

/* find_database returns the slot of a database, or NULL; the lock is held. */
static DatabaseSlot *
find_database(Oid database)
{
	for (int i = 0; i < CJ_MAX_DATABASES; i++)
	{
		if (OidIsValid(database) && state->databases[i].database == database)
			return &state->databases[i];
	}
	return NULL;
}

/* ---- the ring ---- */

static bool
is_same_kind(const CjRunRecord *a, const CjRunRecord *b)
{
	return a->database == b->database && strcmp(a->sqlstate, b->sqlstate) == 0 &&
		   strcmp(a->job, b->job) == 0 && strcmp(a->role_name, b->role_name) == 0;
}

/*
 * find_room returns a free slot of the ring for a record, or NULL. Whoever may call a job function can have it fail
 * as often as he likes, and can roll it back: neither may push out what befalls others.
 */
static RingSlot *
find_room(const CjRunRecord *record)
{
	RingSlot *room = NULL;
	int served = 0;
	int used = 0;
	int own = 0;
	int same = 0;

	for (int i = 0; i < CJ_MAX_DATABASES; i++)
		served += OidIsValid(state->databases[i].database) ? 1 : 0;
	for (int i = 0; i < CJ_RING_SIZE; i++)
	{
		const RingSlot *slot = &state->ring[i];

		if (slot->ticket == 0)
		{
			room = &state->ring[i];
			continue;
		}
		used++;
		own += slot->record.database == record->database ? 1 : 0;
		same += is_same_kind(&slot->record, record) ? 1 : 0;
	}
	if (served > 1 && own >= CJ_RING_SIZE / 2)
		return NULL;
	/* without an SQLSTATE: rolled back */
	if (record->sqlstate[0] == '\0' ? used >= CJ_RING_SIZE / 4 * 3 : same >= CJ_RING_SIZE / 8)
		return NULL;
	return room;
}

/* wake_launcher notes that a database has to be looked after; the lock is held. */
static void
wake_launcher(DatabaseSlot *database)
{
	if (database)
		database->is_woken = true;
	else
		state->is_woken = true;
	if (state->launcher_latch)
		SetLatch(state->launcher_latch);
}

void
cj_shared_state_push(const CjRunRecord *record)
{
	DatabaseSlot *database;
	RingSlot *slot;

	if (state == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(record->database);
	slot = find_room(record);
	if (slot)
	{
		slot->record = *record;
		slot->attempts = 0;
		slot->ticket = ++state->last_ticket;
	}
	else if (database)
		database->lost++;
	wake_launcher(database);
	LWLockRelease(lock);
}

void
cj_shared_state_lose(uint64 count)
{
	DatabaseSlot *database;

	if (state == NULL || count == 0)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(MyDatabaseId);
	if (database)
		database->lost += count;
	wake_launcher(database);
	LWLockRelease(lock);
}

/* comes_before orders two records: what never failed, then what is older. */
static bool
comes_before(const RingSlot *a, const RingSlot *b)
{
	if (a->attempts != b->attempts)
		return a->attempts < b->attempts;
	return a->ticket < b->ticket;
}

bool
cj_shared_state_next(CjRunRecord *record, uint64 *ticket)
{
	const RingSlot *first = NULL;

	if (state == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < CJ_RING_SIZE; i++)
	{
		const RingSlot *slot = &state->ring[i];

		if (slot->ticket != 0 && slot->record.database == MyDatabaseId &&
			(first == NULL || comes_before(slot, first)))
			first = slot;
	}
	if (first)
	{
		*record = first->record;
		*ticket = first->ticket;
	}
	LWLockRelease(lock);
	return first != NULL;
}

/* find_ticket returns the slot of a record, or NULL; the lock is held. */
static RingSlot *
find_ticket(uint64 ticket)
{
	for (int i = 0; i < CJ_RING_SIZE; i++)
	{
		if (state->ring[i].ticket == ticket)
			return &state->ring[i];
	}
	return NULL;
}

void
cj_shared_state_done(uint64 ticket)
{
	RingSlot *slot;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_ticket(ticket);
	if (slot)
		slot->ticket = 0;
	LWLockRelease(lock);
}

void
cj_shared_state_put_off(uint64 ticket)
{
	DatabaseSlot *database;
	RingSlot *slot;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_ticket(ticket);
	if (slot && ++slot->attempts >= MAX_ATTEMPTS)
	{
		slot->ticket = 0;
		database = find_database(slot->record.database);
		if (database)
			database->lost++;
	}
	LWLockRelease(lock);
}

int
cj_shared_state_waiting(uint64 *lost)
{
	const DatabaseSlot *database;
	int waiting = 0;

	*lost = 0;
	if (state == NULL)
		return 0;
	LWLockAcquire(lock, LW_SHARED);
	database = find_database(MyDatabaseId);
	if (database)
		*lost = database->lost;
	for (int i = 0; i < CJ_RING_SIZE; i++)
	{
		if (state->ring[i].ticket != 0 && state->ring[i].record.database == MyDatabaseId)
			waiting++;
	}
	LWLockRelease(lock);
	return waiting;
}

/* ---- refusals ---- */

static bool
is_kind(const CjRefusal *slot, const CjRefusal *refusal)
{
	return slot->database == refusal->database && strcmp(slot->sqlstate, refusal->sqlstate) == 0 &&
		   strcmp(slot->job, refusal->job) == 0 && strcmp(slot->role_name, refusal->role_name) == 0;
}

/* find_refusal returns the slot of a kind, else a free one if the database has not had its share, else NULL. */
static RefusalSlot *
find_refusal(const CjRefusal *refusal, bool whatever_share)
{
	RefusalSlot *room = NULL;
	int own = 0;

	for (int i = 0; i < REFUSAL_SLOTS; i++)
	{
		RefusalSlot *slot = &state->refusals[i];
		bool is_over =
			slot->refusal.calls == 0 && slot->refusal.last_at < refusal->last_at - REFUSAL_QUIET;

		if (OidIsValid(slot->refusal.database) && is_kind(&slot->refusal, refusal))
			return slot;
		if (!OidIsValid(slot->refusal.database) || is_over)
			room = slot;
		else if (slot->refusal.database == refusal->database)
			own++;
	}
	return whatever_share || own < REFUSALS_OF_DATABASE ? room : NULL;
}

bool
cj_shared_state_refuse(const CjRefusal *refusal)
{
	CjRefusal other = *refusal;
	RefusalSlot *slot;
	CjRefusal *counted;
	bool begins = false;

	if (state == NULL)
		return false;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_refusal(refusal, false);
	if (slot == NULL)
	{
		strlcpy(other.job, "other", sizeof(other.job));
		strlcpy(other.role_name, "other", sizeof(other.role_name));
		strlcpy(other.sqlstate, "other", sizeof(other.sqlstate));
		refusal = &other;
		slot = find_refusal(refusal, true);
	}
	if (slot)
	{
		counted = &slot->refusal;
		begins = !is_kind(counted, refusal) ||
				 (counted->calls == 0 && counted->last_at < refusal->last_at - REFUSAL_QUIET);
		if (begins)
			slot->written_at = 0;
		if (begins || counted->calls == 0)
		{
			*counted = *refusal;
			if (slot->written_at < refusal->last_at - REFUSAL_PAUSE)
				wake_launcher(find_database(refusal->database));
		}
		else
		{
			counted->calls++;
			counted->last_at = refusal->last_at;
			strlcpy(counted->message, refusal->message, sizeof(counted->message));
		}
	}
	LWLockRelease(lock);
	return begins;
}

bool
cj_shared_state_next_refusal(int *index, CjRefusal *refusal)
{
	bool found = false;

	if (state == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	while (!found && *index < REFUSAL_SLOTS)
	{
		*refusal = state->refusals[(*index)++].refusal;
		found = refusal->database == MyDatabaseId && refusal->calls > 0;
	}
	LWLockRelease(lock);
	return found;
}

void
cj_shared_state_refusal_done(int index, const CjRefusal *refusal)
{
	RefusalSlot *slot = &state->refusals[index - 1];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (is_kind(&slot->refusal, refusal))
	{
		slot->refusal.calls -= refusal->calls;
		slot->refusal.first_at = refusal->last_at;
		slot->written_at = GetCurrentTimestamp();
	}
	LWLockRelease(lock);
}

/* ---- databases ---- */

static bool
is_one_of(Oid oid, const Oid *oids, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (oids[i] == oid)
			return true;
	}
	return false;
}

void
cj_shared_state_serve(const Oid *databases, int count)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < CJ_MAX_DATABASES; i++)
	{
		if (!is_one_of(state->databases[i].database, databases, count))
			memset(&state->databases[i], 0, sizeof(DatabaseSlot));
	}
	for (int i = 0; i < CJ_RING_SIZE; i++)
	{
		if (!is_one_of(state->ring[i].record.database, databases, count))
			state->ring[i].ticket = 0;
	}
	for (int i = 0; i < REFUSAL_SLOTS; i++)
	{
		if (!is_one_of(state->refusals[i].refusal.database, databases, count))
			memset(&state->refusals[i], 0, sizeof(RefusalSlot));
	}
	for (int i = 0; i < count; i++)
	{
		for (int j = 0; j < CJ_MAX_DATABASES && find_database(databases[i]) == NULL; j++)
		{
			if (OidIsValid(state->databases[j].database))
				continue;
			state->databases[j].database = databases[i];
			state->databases[j].service.served_since = now;
		}
	}
	LWLockRelease(lock);
}

void
cj_shared_state_note_worker(Oid database_id, bool is_there)
{
	TimestampTz now = GetCurrentTimestamp();
	DatabaseSlot *database;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(database_id);
	if (database && (is_there || database->service.no_worker_since == 0))
		database->service.no_worker_since = is_there ? 0 : now;
	LWLockRelease(lock);
}

void
cj_shared_state_looked_after(void)
{
	TimestampTz now = GetCurrentTimestamp();
	DatabaseSlot *database;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(MyDatabaseId);
	if (database)
		database->service.looked_after = now;
	LWLockRelease(lock);
}

bool
cj_shared_state_service(CjService *service)
{
	const DatabaseSlot *database;

	if (state == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	database = find_database(MyDatabaseId);
	if (database)
		*service = database->service;
	LWLockRelease(lock);
	return database != NULL;
}

bool
cj_shared_state_is_served(void)
{
	bool is_served;

	if (state == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	is_served = find_database(MyDatabaseId) != NULL;
	LWLockRelease(lock);
	return is_served;
}

uint32
cj_shared_state_note(int note, uint32 value)
{
	DatabaseSlot *database;
	uint32 before = value;

	Assert(note < CJ_MAX_NOTES);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(MyDatabaseId);
	if (database)
	{
		before = database->notes[note];
		database->notes[note] = value;
	}
	LWLockRelease(lock);
	return before;
}

static void
release_claim(int code, Datum arg)
{
	DatabaseSlot *database;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(MyDatabaseId);
	if (database && database->worker == MyProcPid)
		database->worker = 0;
	LWLockRelease(lock);
}

bool
cj_shared_state_claim(void)
{
	DatabaseSlot *database;
	bool is_mine = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	database = find_database(MyDatabaseId);
	/* a launcher that was ended and started again does not know of the worker of the one before */
	if (database && (database->worker == 0 || BackendPidGetProc(database->worker) == NULL))
	{
		database->worker = MyProcPid;
		is_mine = true;
	}
	LWLockRelease(lock);
	if (is_mine)
		before_shmem_exit(release_claim, (Datum) 0);
	return is_mine;
}

/* ---- the launcher ---- */

static void
resign(int code, Datum arg)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->launcher = 0;
	state->launcher_latch = NULL;
	LWLockRelease(lock);
}

void
cj_shared_state_be_launcher(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->launcher = MyProcPid;
	state->launcher_latch = MyLatch;
	LWLockRelease(lock);
	before_shmem_exit(resign, (Datum) 0);
}

int
cj_shared_state_launcher(void)
{
	return state ? state->launcher : 0;
}

void
cj_shared_state_wake(void)
{
	if (state == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	wake_launcher(find_database(MyDatabaseId));
	LWLockRelease(lock);
}

bool
cj_shared_state_take_wake(Oid database)
{
	DatabaseSlot *slot;
	bool *is_woken;
	bool result = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_database(database);
	is_woken = slot ? &slot->is_woken : OidIsValid(database) ? NULL : &state->is_woken;
	if (is_woken)
	{
		result = *is_woken;
		*is_woken = false;
	}
	LWLockRelease(lock);
	return result;
}

/* ---- progress ---- */

static void
clear_progress(int code, Datum arg)
{
	cj_shared_state_end_progress();
}

void
cj_shared_state_begin_progress(const char *job, int64 run_id, TimestampTz started_at)
{
	CjProgress progress = {.database = MyDatabaseId, .pid = MyProcPid, .run_id = run_id};

	/* as it is before code of the app runs, which could change the name */
	progress.is_unattended = cj_shared_state_is_unattended();

	if (state == NULL)
		return;
	if (!has_progress_callback)
		before_shmem_exit(clear_progress, (Datum) 0);
	has_progress_callback = true;
	strlcpy(progress.job, job, sizeof(progress.job));
	progress.started_at = started_at;

	for (int i = 0; i < PROGRESS_SLOTS && my_progress == NULL; i++)
	{
		ProgressSlot *slot = &state->progress[i];

		SpinLockAcquire(&slot->mutex);
		if (slot->progress.pid == 0)
			my_progress = slot;
		if (my_progress)
			slot->progress = progress;
		SpinLockRelease(&slot->mutex);
	}
}

void
cj_shared_state_set_phase(const char *phase, int64 total)
{
	if (my_progress == NULL)
		return;
	SpinLockAcquire(&my_progress->mutex);
	strlcpy(my_progress->progress.phase, phase, sizeof(my_progress->progress.phase));
	my_progress->progress.done = 0;
	my_progress->progress.total = total;
	SpinLockRelease(&my_progress->mutex);
}

void
cj_shared_state_advance(int64 done)
{
	if (my_progress == NULL)
		return;
	SpinLockAcquire(&my_progress->mutex);
	my_progress->progress.done += done;
	SpinLockRelease(&my_progress->mutex);
}

void
cj_shared_state_end_progress(void)
{
	ProgressSlot *slot = my_progress;

	if (slot == NULL)
		return;
	my_progress = NULL;
	SpinLockAcquire(&slot->mutex);
	slot->progress.pid = 0;
	SpinLockRelease(&slot->mutex);
}

bool
cj_shared_state_read_progress(int *index, CjProgress *progress)
{
	while (state && *index < PROGRESS_SLOTS)
	{
		ProgressSlot *slot = &state->progress[(*index)++];

		SpinLockAcquire(&slot->mutex);
		*progress = slot->progress;
		SpinLockRelease(&slot->mutex);
		if (progress->pid != 0 && progress->database == MyDatabaseId)
			return true;
	}
	return false;
}
