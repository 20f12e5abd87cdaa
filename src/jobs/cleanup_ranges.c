/*
 * jobs/cleanup_ranges.c
 *		Ranges of blocks whose expired rows are deleted without having been found first.
 *
 * To find rows and then to delete them by their addresses is to visit each twice, nearly twice the work of one
 * DELETE. Where much is expired, one is enough: how many rows a DELETE over a range of blocks can come upon is
 * counted in the blocks themselves, before, and so it is never more than a batch.
 *
 * The DELETE takes no row that somebody has marked: locked, changed, or once locked. Those that are left
 * are looked for afterwards, while the blocks are in memory, and go the other way. What it has passed
 * over for other reasons (a trigger that keeps a row) has been asked once, and is not asked again.
 *
 * If anything in a range fails, nothing of it remains and the range goes the other way, which isolates
 * the row. The same way goes what has few expired rows: there it is cheaper to look for many ranges' rows
 * first. How often this is tried again depends on how often it has been in vain.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "app/app_sql.h"
#include "jobs/cleanup_ranges.h"

/* How many blocks at most, however few rows they have: what can be read from disk in a moment. */
#define MAX_WIDTH 1024

/* It is worth while where one row of so many is expired. */
#define WORTHWHILE_SHARE 8

/* The longest pause, in batches. */
#define MAX_PAUSE 63

/*
 * $1 and $2 are the bounds of created_at and expires_at, $7 and $8 addresses. The condition is written
 * so that no index can serve it: the planner is left all choice, since code of the app may run, and
 * there must be no other good one.
 */
static const CjStatement delete_range = {"delete expired notifications in a range of blocks",
										 "DELETE FROM {notifications} AS n\n"
										 " WHERE n.ctid OPERATOR(pg_catalog.>) $7\n"
										 "   AND n.ctid OPERATOR(pg_catalog.<) $8\n"
										 "   AND " CJ_IS_UNTOUCHED "\n"
										 "   AND COALESCE(" CJ_IS_EXPIRED ", false)",
										 SPI_OK_DELETE};

/* $9: our own mark */
static const CjStatement find_marked = {"find expired notifications that others have marked",
										"SELECT n.ctid, n.{notifications.created_at}, true\n"
										"  FROM {notifications} n\n"
										" WHERE n.ctid OPERATOR(pg_catalog.>) $7\n"
										"   AND n.ctid OPERATOR(pg_catalog.<) $8\n"
										"   AND NOT " CJ_IS_UNTOUCHED "\n"
										"   AND n.xmax OPERATOR(pg_catalog.<>) $9\n"
										"   AND " CJ_IS_EXPIRED,
										SPI_OK_SELECT};

/* range_params makes the parameters of a statement over a range: bounds and addresses. */
static CjParams *
range_params(const CjExpiredScope *scope, ItemPointer behind, ItemPointer end)
{
	CjParams *params = cj_cleanup_scope_params(scope);

	cj_sql_param(params, TIDOID, PointerGetDatum(behind), false);
	cj_sql_param(params, TIDOID, PointerGetDatum(end), false);
	return params;
}

/*
 * The planner is asked about half of the table. What it would do for that it does for less, so no range is
 * ever wider.
 */
void
cj_cleanup_ranges_prepare(CjRun *run, const CjExpiry *expiry, Oid relid, BlockNumber blocks,
						  int size, CjExpiredRange *range)
{
	CjExpiredScope scope;
	CjParams *params;
	ItemPointerData begin;
	ItemPointerData end;

	*range = (CjExpiredRange){.relid = relid,
							  .blocks = blocks,
							  .width = Min(blocks / 2, MAX_WIDTH),
							  .size = size,
							  .pause = 1};
	/* a block must not have more rows than a batch */
	if (range->width == 0 || size < MaxHeapTuplesPerPage ||
		!cj_cleanup_scope_open(run, expiry, relid, false, &scope))
		return;
	ItemPointerSet(&begin, 0, 0);
	ItemPointerSet(&end, blocks / 2, 0);
	params = range_params(&scope, &begin, &end);
	range->possible =
		cj_sql_access(&delete_range, cj_app_sql_expand(&delete_range, scope.binding, NULL),
					  params) == CJ_ACCESS_RANGE;
	cj_identity_restore(&scope.identity);
}

/* count_rows counts the rows of a block, visible or not, or those that are marked by others than `own`. */
static int
count_rows(Relation rel, BlockNumber block, bool marked_only, TransactionId own)
{
	Buffer buffer = ReadBuffer(rel, block);
	int count = 0;
	OffsetNumber last;
	Page page;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	last = PageIsNew(page) ? 0 : PageGetMaxOffsetNumber(page);
	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		ItemId item = PageGetItemId(page, i);
		TransactionId mark;

		if (!ItemIdIsNormal(item))
			continue;
		mark = HeapTupleHeaderGetRawXmax((HeapTupleHeader) PageGetItem(page, item));
		if (!marked_only || (TransactionIdIsValid(mark) && mark != own))
			count++;
	}
	UnlockReleaseBuffer(buffer);
	return count;
}

/* measure finds out how far the next range goes: as many blocks as have no more rows than a batch. */
static void
measure(BlockNumber begin, CjExpiredRange *range)
{
	Relation rel = table_open(range->relid, NoLock);
	BlockNumber last = Min(range->blocks, RelationGetNumberOfBlocks(rel));
	BlockNumber stop = Min(last, begin + range->width);

	range->rows = 0;
	for (range->end = begin; range->end < stop; range->end++)
	{
		int rows = count_rows(rel, range->end, false, InvalidTransactionId);

		CHECK_FOR_INTERRUPTS();
		if (range->rows + rows > range->size)
			break;
		range->rows += rows;
	}
	if (range->end >= last)
		range->end = range->blocks;
	table_close(rel, NoLock);
}

static bool
has_marked(BlockNumber begin, const CjExpiredRange *range, TransactionId own)
{
	Relation rel = table_open(range->relid, NoLock);
	BlockNumber end = Min(range->end, RelationGetNumberOfBlocks(rel));
	bool result = false;

	for (BlockNumber block = begin; block < end && !result; block++)
		result = count_rows(rel, block, true, own) > 0;
	table_close(rel, NoLock);
	return result;
}

void
cj_cleanup_ranges_delete(CjRun *run, const CjExpiry *expiry, ItemPointer behind, CjKeyList *found,
						 CjExpiredRange *range)
{
	BlockNumber begin = ItemPointerGetBlockNumberNoCheck(behind);
	CjExpiredScope scope;
	CjParams *params;
	ItemPointerData end;
	TransactionId own;

	range->deleted = 0;
	range->end = range->blocks;
	if (!cj_cleanup_scope_open(run, expiry, range->relid, true, &scope))
		return;
	measure(begin, range);
	ItemPointerSet(&end, range->end, 0);
	params = range_params(&scope, behind, &end);
	range->deleted = cj_app_sql_run(&delete_range, scope.binding, NULL, params).processed;

	own = GetCurrentTransactionIdIfAny();
	if (has_marked(begin, range, own))
	{
		cj_sql_param(params, XIDOID, TransactionIdGetDatum(own), false);
		cj_cleanup_scope_leave_no_choice(false);
		(void) cj_key_list_fill(found, &find_marked,
								cj_app_sql_expand(&find_marked, scope.binding, NULL), params);
	}
	cj_identity_restore(&scope.identity);
}

bool
cj_cleanup_ranges_is_due(const CjExpiredRange *range)
{
	return range->possible && range->pause == 0;
}

void
cj_cleanup_ranges_tried(CjExpiredRange *range, bool worked)
{
	if (worked && range->deleted * WORTHWHILE_SHARE >= range->rows)
		range->next_pause /= 2;
	else
	{
		range->next_pause = Min(range->next_pause * 2 + 1, MAX_PAUSE);
		range->pause = range->next_pause;
	}
}

void
cj_cleanup_ranges_batch_deleted(CjExpiredRange *range)
{
	if (range->pause > 0)
		range->pause--;
}
