/*
 * jobs/cleanup_tids.h
 *		A list of addresses of rows that outlives transactions; it goes to disk when it is large.
 */
#ifndef CJ_JOBS_CLEANUP_TIDS_H
#define CJ_JOBS_CLEANUP_TIDS_H

#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/tuplestore.h"

#include "app/binding.h"
#include "base/sql.h"

/* The address of a row, and whether the row may be locked by somebody (or was, once). */
typedef struct CjAddress
{
	ItemPointerData tid;
	bool suspect;
} CjAddress;

typedef struct CjAddressList
{
	MemoryContext memory;
	Tuplestorestate *store;
	TupleTableSlot *slot;
	int64 taken;
	int64 count; /* that have not been taken out */
} CjAddressList;

/* Makes an empty list in a context; it has to be ended, since its files outlive transactions. */
extern void cj_cleanup_tids_create(CjAddressList *list, MemoryContext memory);
extern void cj_cleanup_tids_end(CjAddressList *list);

/* Empties a list. */
extern void cj_cleanup_tids_clear(CjAddressList *list);

/*
 * Appends the rows of a statement over the app's tables: address, key (a timestamp of either type),
 * whether it is a suspect. Returns their number. What came before an error is in the list, or not.
 */
extern int64 cj_cleanup_tids_fill(CjAddressList *list, const CjStatement *statement,
								  const CjBinding *binding, CjParams *params);

/* Takes up to `size` addresses out of a list; returns how many, and the key of the last one. */
extern int cj_cleanup_tids_take(CjAddressList *list, CjAddress *addresses, int size,
								TimestampTz *key);

#endif /* CJ_JOBS_CLEANUP_TIDS_H */
