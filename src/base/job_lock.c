/*
 * base/job_lock.c
 *		The lock of a job: whoever runs the job holds it.
 *
 * It is an object lock on the extension, with a sub-object number that stands for the job. No SQL command takes
 * such a lock, so nobody can keep a job from running; an advisory lock could be held by anyone.
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "miscadmin.h"

#include "base/identity.h"
#include "base/job_lock.h"
#include "base/sql.h"

/* $1, $2, $3: what the lock is on. Of a transaction that has been prepared the process is null. */
static const CjStatement find_lock_holder = {
	"find who holds the lock of the job",
	"SELECT l.pid::pg_catalog.int8,"
	"       (SELECT pg_catalog.quote_literal(p.gid)"
	"          FROM pg_catalog.pg_locks t"
	"          JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = t.transactionid"
	"         WHERE l.pid IS NULL"
	"           AND t.pid IS NULL"
	"           AND t.locktype = 'transactionid'"
	"           AND t.virtualtransaction = l.virtualtransaction"
	"         LIMIT 1)"
	"  FROM pg_catalog.pg_locks l"
	" WHERE l.locktype = 'object'"
	"   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d"
	"                      WHERE d.datname = pg_catalog.current_database())"
	"   AND l.classid = $1"
	"   AND l.objid = $2"
	"   AND l.objsubid = $3"
	"   AND l.granted",
	SPI_OK_SELECT};

CjJobLock
cj_job_lock_of(uint16 job_number)
{
	CjJobLock lock;

	SET_LOCKTAG_OBJECT(lock.tag, MyDatabaseId, ExtensionRelationId, cj_identity_extension().oid,
					   job_number);
	return lock;
}

bool
cj_job_lock_try(const CjJobLock *lock, bool session)
{
	return LockAcquire(&lock->tag, ExclusiveLock, session, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
cj_job_lock_release(const CjJobLock *lock, bool session)
{
	(void) LockRelease(&lock->tag, ExclusiveLock, session);
}

/* find_holder returns a row with the process that holds the lock, or none. */
static CjRows
find_holder(const CjJobLock *lock)
{
	return cj_sql_run_own(&find_lock_holder, CJ_PARAMS(CJ_OID(lock->tag.locktag_field2),
													   CJ_OID(lock->tag.locktag_field3),
													   CJ_INT8(lock->tag.locktag_field4)));
}

bool
cj_job_lock_is_held(const CjJobLock *lock)
{
	CjRows rows = find_holder(lock);
	bool is_held = rows.processed > 0;

	cj_sql_free(&rows);
	return is_held;
}

char *
cj_job_lock_prepared(const CjJobLock *lock)
{
	CjRows rows = find_holder(lock);
	char *gid = rows.processed > 0 ? cj_sql_text(&rows, 0, 2) : NULL;

	cj_sql_free(&rows);
	return gid;
}

char *
cj_job_lock_hint(const CjJobLock *lock)
{
	CjRows rows = find_holder(lock);
	bool is_held = rows.processed > 0;
	int pid = is_held ? (int) cj_sql_int64(&rows, 0, 1) : 0;
	char *gid = is_held ? cj_sql_text(&rows, 0, 2) : NULL;

	cj_sql_free(&rows);
	if (!is_held)
		return pstrdup("Try again: the other run has just ended.");
	if (gid)
		return psprintf("Run: ROLLBACK PREPARED %s;", gid);
	return pid > 0 ? psprintf("Run: SELECT * FROM pg_stat_activity WHERE pid = %d;", pid)
				   : pstrdup("Run: SELECT * FROM pg_prepared_xacts;");
}
