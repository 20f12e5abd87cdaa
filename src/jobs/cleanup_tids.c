/*
 * jobs/cleanup_tids.c
 *		A list of addresses of rows that outlives transactions; it goes to disk when it is large.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "app/app_sql.h"
#include "jobs/cleanup_tids.h"

void
cj_cleanup_tids_create(CjAddressList *list, MemoryContext memory)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	TupleDesc desc = CreateTemplateTupleDesc(3);

	TupleDescInitEntry(desc, 1, "ctid", TIDOID, -1, 0);
	TupleDescInitEntry(desc, 2, "key", TIMESTAMPTZOID, -1, 0); /* or timestamp: alike */
	TupleDescInitEntry(desc, 3, "suspect", BOOLOID, -1, 0);
	list->memory = memory;
	list->store = tuplestore_begin_heap(false, true, work_mem);
	list->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	list->taken = 0;
	list->count = 0;
	MemoryContextSwitchTo(caller);
}

void
cj_cleanup_tids_end(CjAddressList *list)
{
	if (list->store)
		tuplestore_end(list->store);
	list->store = NULL;
}

void
cj_cleanup_tids_clear(CjAddressList *list)
{
	tuplestore_clear(list->store);
	list->taken = 0;
	list->count = 0;
}

int64
cj_cleanup_tids_fill(CjAddressList *list, const CjStatement *statement, const CjBinding *binding,
					 CjParams *params)
{
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	int64 count;

	SetTuplestoreDestReceiverParams(dest, list->store, list->memory, false, NULL, NULL);
	count = cj_sql_run_into(statement, cj_app_sql_expand(statement, binding, NULL), params, dest);
	dest->rDestroy(dest);
	/* also what a statement that failed has left there */
	list->count = tuplestore_tuple_count(list->store) - list->taken;
	return count;
}

int
cj_cleanup_tids_take(CjAddressList *list, CjAddress *addresses, int size, TimestampTz *key)
{
	bool isnull;
	int count;

	for (count = 0; count < size && list->count > 0; count++)
	{
		if (!tuplestore_gettupleslot(list->store, true, false, list->slot))
			elog(ERROR, "the list of addresses is shorter than it should be");
		addresses[count].tid = *(ItemPointer) DatumGetPointer(slot_getattr(list->slot, 1, &isnull));
		/* by index: never null, since it was compared */
		*key = DatumGetTimestampTz(slot_getattr(list->slot, 2, &isnull));
		addresses[count].suspect = DatumGetBool(slot_getattr(list->slot, 3, &isnull));
		list->taken++;
		list->count--;
	}
	ExecClearTuple(list->slot);
	if (list->count == 0)
		cj_cleanup_tids_clear(list);
	return count;
}
