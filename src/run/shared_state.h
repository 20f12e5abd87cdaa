/*
 * run/shared_state.h
 *		What the processes of the server share: a ring of runs to be recorded, what the worker knows of
 *		each database, and how far runs are.
 *
 * All of it needs the library to be preloaded. Without that cj_shared_state_is_there() is false, and
 * the other functions do nothing, or say that there is nothing. Nothing here raises an error, allocates
 * memory, or waits for more than an LWLock that is held for some microseconds: everything may be called
 * from callbacks of aborting transactions. Everything is lost when the server restarts, also after a
 * crash.
 */
#ifndef CJ_RUN_SHARED_STATE_H
#define CJ_RUN_SHARED_STATE_H

#include "datatype/timestamp.h"

/* How many runs can wait to be recorded. */
#define CJ_RING_SIZE 256

/* A run whose row could not be written in the transaction that it belongs to. Texts are cut to fit. */
typedef struct CjRunRecord
{
	Oid database;
	int pid;
	int status; /* CjRunStatus */
	bool dry_run;
	int64 rows_affected;
	TimestampTz as_of;
	TimestampTz started_at;
	TimestampTz finished_at;
	char job[NAMEDATALEN];
	char triggered_by[NAMEDATALEN];
	char role_name[NAMEDATALEN];
	char sqlstate[6];
	char message[1024];
	char detail[1024];
	char hint[512];
	char context[1024];
	char result[512]; /* JSON, or empty: none, or too long */
} CjRunRecord;

extern void cj_shared_state_init(void);
extern bool cj_shared_state_is_there(void);

/* Returns whether no client waits for this process: a background process, or a session of pg_cron. */
extern bool cj_shared_state_is_unattended(void);

/* ---- the ring ---- */

/*
 * Adds a record and wakes the launcher. Where there is no room, the record is lost, and counted. Of several
 * databases, one can have no more than half of the ring; of one kind (job, role, SQLSTATE), failures can have no more
 * than an eighth, and what is rolled back leaves a quarter to the others.
 */
extern void cj_shared_state_push(const CjRunRecord *record);

/* Counts records of this database that are lost for other reasons. */
extern void cj_shared_state_lose(uint64 count);

/* Copies the record of this database that is next to be written; false if there is none. */
extern bool cj_shared_state_next(CjRunRecord *record, uint64 *ticket);

/* Removes a record, which has been written. */
extern void cj_shared_state_done(uint64 ticket);

/* Notes that a record could not be written; after some attempts it is lost, and counted. */
extern void cj_shared_state_put_off(uint64 ticket);

/* Returns how many records of this database are waiting, and how many have been lost. */
extern int cj_shared_state_waiting(uint64 *lost);

/* ---- refusals ---- */

/* Calls of a job function that were refused: of one job and role, with one SQLSTATE. Texts are cut to fit. */
typedef struct CjRefusal
{
	Oid database;
	char job[NAMEDATALEN];
	char role_name[NAMEDATALEN];
	char sqlstate[6];
	char message[256]; /* of the last one */
	int64 calls;
	TimestampTz first_at;
	TimestampTz last_at;
} CjRefusal;

/*
 * Counts a call. Kinds for which there is no room are counted together, by database, as job, role and SQLSTATE "other".
 * Returns whether calls of that kind begin to be refused: it is new, or has been quiet for ten minutes.
 */
extern bool cj_shared_state_refuse(const CjRefusal *refusal);

/* Copies the next kind of this database that is to be written; *index starts from 0. False: there are no more. */
extern bool cj_shared_state_next_refusal(int *index, CjRefusal *refusal);

/* Notes that the calls of a copy, taken with the index before, have been written. */
extern void cj_shared_state_refusal_done(int index, const CjRefusal *refusal);

/* ---- databases ---- */

/* What is remembered of a database, so that it is logged when it changes and not again and again. */
typedef enum CjNote
{
	CJ_NOTE_EXTENSION, /* whether the extension is there and usable */
	CJ_NOTE_LOST,      /* how many records have been lost */
	CJ_NOTE_LOSING,    /* whether records are being lost */
	CJ_NOTE_READ_ONLY, /* whether the database is read-only by default */
	CJ_NOTE_HELD,      /* how many jobs are held back since the database is a copy, and one */
	CJ_NOTE_TASKS      /* the first task; the others follow */
} CjNote;

#define CJ_MAX_NOTES 16

/* Says which databases are served; what is known of others goes. The launcher's. */
extern void cj_shared_state_serve(const Oid *databases, int count);

/* Returns whether this database is being served. */
extern bool cj_shared_state_is_served(void);

/* Notes something of this database, and returns what was noted before, at first 0. */
extern uint32 cj_shared_state_note(int note, uint32 value);

/* Says that this process is the one that works on this database; false if there is another one. */
extern bool cj_shared_state_claim(void);

/* What keeps a database from being looked after, and when it was looked after last. */
typedef struct CjService
{
	TimestampTz served_since; /* by this launcher */
	TimestampTz looked_after; /* when a worker last came to its end; 0: never */
	TimestampTz
		no_worker_since; /* since when there has been no free background worker; 0: there is one */
} CjService;

/* Notes whether there was a free background worker for a database. The launcher's. */
extern void cj_shared_state_note_worker(Oid database, bool is_there);

/* Notes that this database has been looked after. The worker's. */
extern void cj_shared_state_looked_after(void);

/* Finds how this database is served; false if it is not. */
extern bool cj_shared_state_service(CjService *service);

/* ---- the launcher ---- */

/* Says that this process is the launcher, until it ends. */
extern void cj_shared_state_be_launcher(void);

/* Returns the process id of the launcher, or 0. */
extern int cj_shared_state_launcher(void);

/* Has the launcher look after this database at once. */
extern void cj_shared_state_wake(void);

/* Returns whether a database has to be looked after at once, and forgets it. */
extern bool cj_shared_state_take_wake(Oid database);

/* ---- progress ---- */

typedef struct CjProgress
{
	Oid database;
	int pid;
	int64 run_id; /* 0: of a job function, whose row has no number yet */
	char job[NAMEDATALEN];
	char phase[NAMEDATALEN];
	int64 done;
	int64 total; /* 0: not known */
	TimestampTz started_at;
	bool is_unattended; /* a background process, or a session of pg_cron: no client waits for it */
} CjProgress;

/* Shows a run of this process until cj_shared_state_end_progress, or the end of the process. */
extern void cj_shared_state_begin_progress(const char *job, int64 run_id, TimestampTz started_at);
extern void cj_shared_state_set_phase(const char *phase, int64 total);
extern void cj_shared_state_advance(int64 done);
extern void cj_shared_state_end_progress(void);

/* Copies the progress of a run of this database; *index starts from 0. False: there are no more. */
extern bool cj_shared_state_read_progress(int *index, CjProgress *progress);

#endif /* CJ_RUN_SHARED_STATE_H */
