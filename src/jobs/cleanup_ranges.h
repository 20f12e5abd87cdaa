/*
 * jobs/cleanup_ranges.h
 *		Ranges of blocks whose expired rows are deleted without having been found first.
 *
 * The quick way through a table of which much is expired: a range of so many blocks as hold one batch of
 * rows, by one DELETE. What others have in their hands is found afterwards, to be deleted row by row.
 */
#ifndef CJ_JOBS_CLEANUP_RANGES_H
#define CJ_JOBS_CLEANUP_RANGES_H

#include "storage/block.h"
#include "storage/itemptr.h"

#include "jobs/cleanup_scope.h"
#include "jobs/key_list.h"

typedef struct CjExpiredRange
{
	Oid relid;
	bool possible;
	BlockNumber blocks; /* how far to go */
	BlockNumber width;  /* how many at most at once */
	int size;           /* how many rows at most at once */
	int pause;      /* so many batches are to be deleted row by row before this is tried again */
	int next_pause; /* how long the next pause will be */

	/* the range at hand */
	BlockNumber end; /* the first block behind it */
	int rows;        /* that it may have, expired or not */
	int64 deleted;
} CjExpiredRange;

/* Finds out whether a table of so many blocks can be cleaned range by range, in batches of `size` rows. */
extern void cj_cleanup_ranges_prepare(CjRun *run, const CjExpiry *expiry, Oid relid,
									  BlockNumber blocks, int size, CjExpiredRange *range);

/*
 * Deletes what is expired in the next range, which begins behind an address, but for what others have (or
 * once had) marked as theirs: that is added to the list. To be called in an attempt of the run; raises
 * what the statements raise.
 */
extern void cj_cleanup_ranges_delete(CjRun *run, const CjExpiry *expiry, ItemPointer behind,
									 CjKeyList *found, CjExpiredRange *range);

/* Returns whether the next range is to be tried now. */
extern bool cj_cleanup_ranges_is_due(const CjExpiredRange *range);

/* Notes how trying it went, or that a batch has been deleted row by row. */
extern void cj_cleanup_ranges_tried(CjExpiredRange *range, bool worked);
extern void cj_cleanup_ranges_batch_deleted(CjExpiredRange *range);

#endif /* CJ_JOBS_CLEANUP_RANGES_H */
