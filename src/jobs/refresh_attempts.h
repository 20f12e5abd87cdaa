/*
 * jobs/refresh_attempts.h
 *		Which views a run began to refresh without coming to an end: they go last, so that a view that takes for ever keeps
 *		none of the others from being refreshed.
 *
 * The caller is connected to SPI; statements run as the owner of the extension.
 */
#ifndef CJ_JOBS_REFRESH_ATTEMPTS_H
#define CJ_JOBS_REFRESH_ATTEMPTS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/*
 * Returns the names with those at the end whose refresh did not come to an end, the one that was tried longest ago first;
 * the order of the others stays. A new list of the same names.
 */
extern List *cj_refresh_attempts_order(const List *names);

/* Notes that the refresh of a view begins: to be committed before it does. Forgets views other than `names`. */
extern void cj_refresh_attempts_begin(const char *name, const List *names);

/* Notes that it came to an end; to be committed with it. */
extern void cj_refresh_attempts_end(const char *name);

/* Finds since when a refresh of the view has not ended; false if the last one ended. */
extern bool cj_refresh_attempts_since(const char *name, TimestampTz *since);

#endif /* CJ_JOBS_REFRESH_ATTEMPTS_H */
