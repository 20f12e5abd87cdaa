/* run/batch.h: working on the items of a batch so that a bad one keeps none of the others waiting. */
#ifndef CJ_RUN_BATCH_H
#define CJ_RUN_BATCH_H

#include "run/job.h"

/*
 * A batch of items, numbered from 0, and what is done with them.
 *
 * `work` does items `from` to `to - 1` in a subtransaction, by itself: if it raises an error, nothing
 * of it remains. It sets *opened once everything that does not depend on the items has been done
 * (tables found, checked and locked): an error before that ends the run. `done`, which may be NULL, is
 * called after the work of such a range has been committed (or is part of the caller's transaction),
 * to add up its figures; what `work` keeps for it must not live in memory of the transaction.
 * `describe` returns a readable name of an item (palloc'd).
 */
typedef struct CjBatch
{
	int count;
	void (*work)(CjRun *run, int from, int to, bool *opened, void *arg);
	void (*done)(CjRun *run, int from, int to, void *arg);
	char *(*describe)(CjRun *run, int item, void *arg);
	void *arg;
	bool is_step; /* its items are not counted in the progress of the run */
} CjBatch;

/*
 * Does all items of a batch. What fails is divided until the bad item stands alone; that one is noted
 * in run->failures, or in run->locked if someone else's lock was in its way. Raises errors that
 * are not about an item: cancellation, tables that cannot be used, a snapshot that is too old.
 */
extern void cj_batch_process(CjRun *run, const CjBatch *batch);

/*
 * Does all items of a batch if that works as a whole; else nothing of it remains, nothing is noted, and
 * false is returned: the caller has another way to do them. Raises what cj_batch_process does.
 */
extern bool cj_batch_try(CjRun *run, const CjBatch *batch);

/* Does a piece of work that is not about items, and commits it; raises its error. */
extern void cj_batch_step(CjRun *run, CjWork work, void *arg);

#endif /* CJ_RUN_BATCH_H */
