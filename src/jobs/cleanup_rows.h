/*
 * jobs/cleanup_rows.h
 *		The expired rows of the app's notifications: finding their addresses, and deleting them.
 *
 * A table is read once at most, a piece at a time, each piece in a transaction that may be its own.
 * The functions that take a table run statements over it: they are to be called in an attempt of the
 * run, and raise what those statements raise.
 */
#ifndef CJ_JOBS_CLEANUP_ROWS_H
#define CJ_JOBS_CLEANUP_ROWS_H

#include "nodes/pg_list.h"
#include "storage/block.h"
#include "storage/itemptr.h"

#include "jobs/cleanup_scope.h"
#include "jobs/key_list.h"

/* How the expired rows of a table are come by. */
typedef enum CjWay
{
	CJ_WAY_NONE,      /* its constraints say that there are none */
	CJ_WAY_HEAP,      /* block after block */
	CJ_WAY_INDEX,     /* in the order of created_at, then in that of expires_at */
	CJ_WAY_STATEMENT, /* all by one statement: rows without an address of their own */
	CJ_WAY_COUNT
} CjWay;

/* A table that holds notifications: the bound one, a partition of it, or a child that inherits. */
typedef struct CjExpiredTable
{
	Oid relid;
	char *name;
	bool is_heap; /* a table whose rows have addresses */
	CjWay way;

	/* how far it has been read */
	bool at_end;
	List *passes;             /* by index: what is read after what */
	int pass;                 /* by index: which of them */
	bool in_pass;             /* by index: `key` is known */
	TimestampTz key;          /* by index: of the last row read; or a timestamp, which is alike */
	BlockNumber blocks;       /* by heap: how many there were at the beginning */
	BlockNumber width;        /* by heap: how many to read at once */
	ItemPointerData position; /* by heap: everything up to here has been read */
} CjExpiredTable;

/* Makes an empty list for what is found. */
extern CjKeyList *cj_cleanup_rows_list(MemoryContext memory);

/* Lists the tables, in the run's memory. */
extern List *cj_cleanup_rows_tables(CjRun *run);

/* Chooses how to read a table. */
extern void cj_cleanup_rows_choose(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table);

/*
 * Reads on in a table, until `wanted` rows (or a few more) have been found, or for a moment. Sets
 * table->at_end when there is nothing left to be read. What it has found has to be taken out of the
 * list before it is called again; by heap, what is less than `wanted` may stay.
 */
extern void cj_cleanup_rows_read(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table,
								 int wanted, CjKeyList *found);

/* By heap: notes that everything before a block has been done in another way. */
extern void cj_cleanup_rows_passed(CjExpiredTable *table, BlockNumber block);

/* Takes a chunk of up to `size` addresses out of the list; returns how many. */
extern int cj_cleanup_rows_take(CjExpiredTable *table, CjKeyList *found, int size);

/* Notes of some addresses of the chunk at hand that the rows may be locked by somebody. */
extern void cj_cleanup_rows_suspect(CjKeyList *found, int from, int to);

/*
 * Deletes what is still there and expired of some addresses of the chunk at hand, passing over what others have
 * locked, which is counted in *locked; returns how many rows have been deleted. Sets *opened once the table has
 * been found and locked.
 */
extern int64 cj_cleanup_rows_delete(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table,
									CjKeyList *found, int from, int to, bool *opened,
									int64 *locked);

/* Deletes all expired rows of a table by one statement; returns their number. */
extern int64 cj_cleanup_rows_delete_all(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table);

/* Returns the number of all expired rows of the bound table, for a dry run. */
extern int64 cj_cleanup_rows_count(CjRun *run, const CjExpiry *expiry);

#endif /* CJ_JOBS_CLEANUP_ROWS_H */
