/*
 * job_lock.h
 *		The lock of a job: whoever runs the job holds it.
 */
#ifndef CJ_JOB_LOCK_H
#define CJ_JOB_LOCK_H

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
 * Tells whether anybody holds the lock, be it a prepared transaction, without taking it: who looks must not
 * keep a run from starting. The caller is connected to SPI.
 */
extern bool cj_job_lock_is_held(const CjJobLock *lock);

/*
 * Returns the process that holds the lock, or 0 if it has just let it go, or a prepared transaction has it. The
 * caller is connected to SPI.
 */
extern int cj_job_lock_holder(const CjJobLock *lock);

#endif /* CJ_JOB_LOCK_H */
