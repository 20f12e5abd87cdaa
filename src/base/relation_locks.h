/* base/relation_locks.h: locks on several relations of the app at once. */
#ifndef CJ_BASE_RELATION_LOCKS_H
#define CJ_BASE_RELATION_LOCKS_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* Adds a relation to a list of what is to be locked; one that is in it already keeps the stronger lock. */
extern List *cj_relation_locks_add(List *locks, Oid relid, LOCKMODE mode);

/* As above, with the partitions of a table as they are now. */
extern List *cj_relation_locks_add_table(List *locks, Oid relid, LOCKMODE mode);

/*
 * Adds all that the definition of a view reads with ACCESS SHARE, and those of the tables with the lock whose owner's
 * rights a role has.
 */
extern List *cj_relation_locks_add_read(List *locks, Oid view, LOCKMODE mode, Oid role);

/* Returns whether a relation is in a list. */
extern bool cj_relation_locks_has(List *locks, Oid relid);

/*
 * Takes the locks to the end of the transaction, those of relations that have gone as well. Waits with nothing of
 * the list in hand for as long as challenge_jobs.lock_timeout allows, and then raises lock_not_available. What the
 * relations are like has to be looked up again afterwards.
 */
extern void cj_relation_locks_take(List *locks);

#endif /* CJ_BASE_RELATION_LOCKS_H */
