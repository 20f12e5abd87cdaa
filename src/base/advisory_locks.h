/*
 * base/advisory_locks.h
 *		Advisory locks of the session that code of the app has taken.
 *
 * Lists live in the current memory context. Neither function needs a transaction that can still be used.
 */
#ifndef CJ_BASE_ADVISORY_LOCKS_H
#define CJ_BASE_ADVISORY_LOCKS_H

#include "nodes/pg_list.h"

/* Returns the advisory locks that this session holds, of whatever kind. */
extern List *cj_advisory_locks_list(void);

/* Releases the session's advisory locks that are not in the list; those of the transaction stay. */
extern void cj_advisory_locks_release_others(List *before);

#endif /* CJ_BASE_ADVISORY_LOCKS_H */
