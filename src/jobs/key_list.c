/* jobs/key_list.c: a list of keys of the app that outlives transactions. */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "jobs/key_list.h"

CjKeyList *
cj_key_list_create(MemoryContext memory, Oid key_type, int value_count, const Oid *value_types)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	CjKeyList *list = palloc0(sizeof(CjKeyList));
	TupleDesc desc = CreateTemplateTupleDesc(value_count + 1);

	TupleDescInitEntry(desc, 1, "key", key_type, -1, 0);
	for (int i = 0; i < value_count; i++)
		TupleDescInitEntry(desc, i + 2, "value", value_types[i], -1, 0);
	list->key_type = key_type;
	list->value_count = value_count;
	list->memory = memory;
	list->chunk = AllocSetContextCreate(memory, "challenge_jobs keys", ALLOCSET_DEFAULT_SIZES);
	list->store = tuplestore_begin_heap(false, true, work_mem);
	list->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(caller);
	return list;
}

void
cj_key_list_check_type(const CjKeyList *list, Oid key_type)
{
	if (list->key_type == key_type)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("the type of the keys changed from %s to %s while the job was running",
					format_type_be(list->key_type), format_type_be(key_type)),
			 errhint("Fill in and run: CALL challenge_jobs.run('<job>');")));
}

int64
cj_key_list_fill(CjKeyList *list, const CjStatement *statement, const char *text, CjParams *params)
{
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	int64 count;

	SetTuplestoreDestReceiverParams(dest, list->store, list->memory, true, NULL, NULL);
	count = cj_sql_run_into(statement, text, params, dest);
	dest->rDestroy(dest);
	return count;
}

void
cj_key_list_append(CjKeyList *list, const CjRows *rows, uint64 row)
{
	Datum values[CJ_KEY_LIST_MAX_VALUES + 1];
	bool nulls[CJ_KEY_LIST_MAX_VALUES + 1];

	for (int i = 0; i <= list->value_count; i++)
		values[i] = cj_sql_datum(rows, row, i + 1, &nulls[i]);
	tuplestore_putvalues(list->store, list->slot->tts_tupleDescriptor, values, nulls);
}

static Datum
copy_column(const CjKeyList *list, int column, bool *isnull)
{
	Form_pg_attribute attr = TupleDescAttr(list->slot->tts_tupleDescriptor, column - 1);
	Datum value = slot_getattr(list->slot, column, isnull);

	return *isnull ? (Datum) 0 : datumCopy(value, attr->attbyval, attr->attlen);
}

bool
cj_key_list_read(CjKeyList *list, int size)
{
	MemoryContext caller;
	bool isnull;

	MemoryContextReset(list->chunk);
	caller = MemoryContextSwitchTo(list->chunk);
	list->keys = palloc(sizeof(Datum) * size);
	for (int i = 0; i < list->value_count; i++)
	{
		list->values[i] = palloc(sizeof(Datum) * size);
		list->nulls[i] = palloc(sizeof(bool) * size);
	}
	for (list->count = 0; list->count < size; list->count++)
	{
		if (!tuplestore_gettupleslot(list->store, true, false, list->slot))
			break;
		list->keys[list->count] = copy_column(list, 1, &isnull);
		for (int i = 0; i < list->value_count; i++)
			list->values[i][list->count] = copy_column(list, i + 2, &list->nulls[i][list->count]);
	}
	list->read_count += list->count;
	/* a tuple that was read from disk is the slot's, and lives in the chunk */
	ExecClearTuple(list->slot);
	MemoryContextSwitchTo(caller);
	return list->count > 0;
}

int64
cj_key_list_unread(const CjKeyList *list)
{
	return tuplestore_tuple_count(list->store) - list->read_count;
}

void
cj_key_list_rewind(CjKeyList *list)
{
	tuplestore_rescan(list->store);
	list->read_count = 0;
}

void
cj_key_list_clear(CjKeyList *list)
{
	tuplestore_clear(list->store);
	list->read_count = 0;
}

Datum
cj_key_list_keys(const CjKeyList *list, int from, int to)
{
	return cj_sql_array(list->keys + from, to - from, list->key_type);
}

char *
cj_key_list_describe(const CjKeyList *list, int item)
{
	Oid output;
	bool is_varlena;

	getTypeOutputInfo(list->key_type, &output, &is_varlena);
	return OidOutputFunctionCall(output, list->keys[item]);
}

void
cj_key_list_free(CjKeyList *list)
{
	if (list)
		tuplestore_end(list->store);
}
