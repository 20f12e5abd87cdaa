/* base/job_lock.h: the lock of a job: whoever runs the job holds it. */
#ifndef CJ_BASE_JOB_LOCK_H
#define CJ_BASE_JOB_LOCK_H

#include "storage/lock.h"

typedef struct CjJobLock
{
	LOCKTAG tag;
} CjJobLock;

/* Returns the lock of the job with that number, in this database. */
extern CjJobLock cj_job_lock_of(uint16 job_number);

/*
 * Takes the lock without waiting, for the session or for the transaction; false if somebody else has
 * it. The abort of a transaction releases it in either case, the commit only the transaction's.
 */
extern bool cj_job_lock_try(const CjJobLock *lock, bool session);

extern void cj_job_lock_release(const CjJobLock *lock, bool session);

/*
 * Returns whether anybody holds the lock, be it a prepared transaction, without taking it: who looks must not
 * keep a run from starting. The caller is connected to SPI.
 */
extern bool cj_job_lock_is_held(const CjJobLock *lock);

/*
 * Returns the identifier, as a literal, of the prepared transaction that holds the lock; NULL: none does. It holds it until
 * somebody ends it. The caller is connected to SPI.
 */
extern char *cj_job_lock_prepared(const CjJobLock *lock);

/*
 * Says how to find out who holds the lock, as a hint: a statement about the process, or about transactions that have
 * been prepared. In the current memory context; the caller is connected to SPI.
 */
extern char *cj_job_lock_hint(const CjJobLock *lock);

#endif /* CJ_BASE_JOB_LOCK_H */
