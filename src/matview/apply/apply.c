/*
 * matview/apply/apply.c
 *		Bringing some rows of a materialized view up to date, in place.
 *
 * SQL may not write to a materialized view; we do it as the executor would, through the table access method and
 * the indexes. There are no triggers, constraints and publications to be thought of: a materialized view cannot
 * have them.
 *
 * Rows may be moved between keys, and unique indexes may collide on the way where they do not in the end (two
 * members who swap ranks). So while keys are being worked on, what is stored in the unique indexes only
 * becomes less: rows are deleted, or updated where no unique index is touched. Everything else (new rows, and
 * those whose unique columns have changed) waits in a tuplestore for the end.
 *
 * The rows of a call are written while the query that finds them runs. It does not see that, as it has
 * the snapshot of an earlier command, just as an UPDATE does not.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/unique_index.h"
#include "matview/apply/apply.h"
#include "matview/apply/diff_query.h"
#include "matview/apply/tid_set.h"

struct CjViewPatch
{
	MemoryContext memory; /* of the patch */
	MemoryContext batch;  /* of one call */
	Relation view;
	AttrNumber key;
	Oid index; /* by which rows are matched */
	Snapshot snapshot;
	CjViewDifference *of_keys;
	CjViewDifference *of_null; /* made when there is need of it */

	EState *estate;
	ResultRelInfo *indexes;
	bool *is_unique; /* by column: whether a unique index depends on it */

	TupleTableSlot *slot;     /* a row to be written */
	Tuplestorestate *waiting; /* rows to be inserted at the end */
	CjRowSet *matched;        /* rows that have been matched in this call */
	CjPatchCounts counts;
};

/* ---- begin ---- */

static void
add_columns(CjViewPatch *patch, List *expressions)
{
	int count = RelationGetNumberOfAttributes(patch->view);
	Bitmapset *columns = NULL;

	pull_varattnos((Node *) expressions, 1, &columns);
	for (int i = 0; i < count; i++)
	{
		/* a column, or the row as a whole */
		if (bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, columns) ||
			bms_is_member(InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber, columns))
			patch->is_unique[i] = true;
	}
}

/* find_unique_columns notes the columns that unique indexes depend on, whether or not a row is in them. */
static void
find_unique_columns(CjViewPatch *patch)
{
	patch->is_unique = palloc0(sizeof(bool) * RelationGetNumberOfAttributes(patch->view));
	for (int i = 0; i < patch->indexes->ri_NumIndices; i++)
	{
		IndexInfo *info = patch->indexes->ri_IndexRelationInfo[i];

		if (!info->ii_Unique)
			continue;
		for (int column = 0; column < info->ii_NumIndexKeyAttrs; column++)
		{
			if (info->ii_IndexAttrNumbers[column] > 0)
				patch->is_unique[info->ii_IndexAttrNumbers[column] - 1] = true;
		}
		add_columns(patch, info->ii_Expressions);
		add_columns(patch, info->ii_Predicate);
	}
}

static void
open_indexes(CjViewPatch *patch)
{
	patch->estate = CreateExecutorState();
	patch->indexes = makeNode(ResultRelInfo);
	InitResultRelInfo(patch->indexes, patch->view, 0, NULL, 0);
	ExecOpenIndices(patch->indexes, false);
	find_unique_columns(patch);
}

static void
check_view(const CjViewPatch *patch)
{
	const char *name = RelationGetRelationName(patch->view);

	Assert(CheckRelationLockedByMe(patch->view, ExclusiveLock, true));
	Assert(patch->view->rd_rel->relkind == RELKIND_MATVIEW);
	if (!RelationIsPopulated(patch->view))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("materialized view \"%s\" has not been populated", name),
				 errhint("Use the REFRESH MATERIALIZED VIEW command.")));
	if (!OidIsValid(patch->index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("materialized view \"%s\" has no unique index by which its rows could be "
						"matched",
						name),
				 errhint("Create a unique index with no WHERE clause on one or more columns of the "
						 "materialized view.")));
}

CjViewPatch *
cj_apply_begin(Oid view, AttrNumber key, Snapshot snapshot)
{
	MemoryContext memory =
		AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs patch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	CjViewPatch *patch = palloc0(sizeof(CjViewPatch));

	patch->memory = memory;
	patch->batch =
		AllocSetContextCreate(memory, "challenge_jobs patch: keys", ALLOCSET_DEFAULT_SIZES);
	patch->view = table_open(view, NoLock);
	patch->key = key;
	patch->index = cj_unique_index_find(patch->view, key);
	patch->snapshot = snapshot;
	check_view(patch);
	patch->of_keys = cj_diff_query_make(patch->view, patch->index, key, false);
	open_indexes(patch);
	patch->slot = MakeSingleTupleTableSlot(RelationGetDescr(patch->view), &TTSOpsVirtual);
	patch->waiting = tuplestore_begin_heap(false, false, work_mem);
	MemoryContextSwitchTo(caller);
	return patch;
}

/* ---- one row ---- */

static void
insert_row(CjViewPatch *patch, TupleTableSlot *slot)
{
	simple_table_tuple_insert(patch->view, slot);
	if (patch->indexes->ri_NumIndices > 0)
		cj_compat_insert_entries(patch->indexes, slot, patch->estate);
}

static void
update_row(CjViewPatch *patch, ItemPointer address, TupleTableSlot *slot)
{
	CjCompatUpdateIndexes which;

	simple_table_tuple_update(patch->view, address, slot, GetActiveSnapshot(), &which);

	/*
	 * That it is an update is a hint for the indexes that earlier versions of the row may be removable. We
	 * give it for all of them, also those whose columns have changed: at worst they look in vain.
	 */
	if (cj_compat_needs_entries(which))
		cj_compat_update_entries(patch->indexes, slot, patch->estate, which);
}

static TupleTableSlot *
set_row(CjViewPatch *patch, const CjViewRow *row)
{
	int count = RelationGetNumberOfAttributes(patch->view);

	ExecClearTuple(patch->slot);
	memcpy(patch->slot->tts_values, row->values, sizeof(Datum) * count);
	memcpy(patch->slot->tts_isnull, row->nulls, sizeof(bool) * count);
	return ExecStoreVirtualTuple(patch->slot);
}

/* keep_stored_value takes the stored value of a column that is the same, so that it is not stored again. */
static void
keep_stored_value(TupleTableSlot *slot, int column, const CjViewRow *stored)
{
	Form_pg_attribute attr = TupleDescAttr(slot->tts_tupleDescriptor, column);

	/* a pointer to a value outside of the row stays as it is when the row is updated */
	if (attr->attlen == -1 && !stored->nulls[column] &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(stored->values[column])))
		slot->tts_values[column] = stored->values[column];
}

static bool
is_same_value(Form_pg_attribute attr, const CjViewRow *a, const CjViewRow *b, int column)
{
	if (a->nulls[column] || b->nulls[column])
		return a->nulls[column] == b->nulls[column];
	return datum_image_eq(a->values[column], b->values[column], attr->attbyval, attr->attlen);
}

/*
 * raise_second_match raises the error of two rows of the definition that match one stored row. None of the
 * indexes would notice: one would be written over the other.
 */
static void
raise_second_match(CjViewPatch *patch, TupleTableSlot *slot)
{
	Relation index = index_open(patch->index, AccessShareLock);
	IndexInfo *info = BuildIndexInfo(index);
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	char *description;

	FormIndexDatum(info, slot, patch->estate, values, nulls);
	description = BuildIndexValueDescription(index, values, nulls);
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate key value violates unique constraint \"%s\"",
					RelationGetRelationName(index)),
			 description ? errdetail("The definition of the view gives more than one row of the key "
									 "%s.",
									 description)
						 : 0));
}

/* replace_row brings a stored row to what it should be, if it is not. */
static void
replace_row(CjViewPatch *patch, const CjRowPair *pair)
{
	TupleDesc descriptor = RelationGetDescr(patch->view);
	TupleTableSlot *slot = NULL;
	bool differs = false;
	bool differs_in_unique = false;

	if (!cj_tid_set_add(patch->matched, pair->address))
		raise_second_match(patch, set_row(patch, &pair->defined));
	slot = set_row(patch, &pair->defined);
	for (int i = 0; i < descriptor->natts; i++)
	{
		if (is_same_value(TupleDescAttr(descriptor, i), &pair->defined, &pair->stored, i))
			keep_stored_value(slot, i, &pair->stored);
		else
		{
			differs = true;
			differs_in_unique = differs_in_unique || patch->is_unique[i];
		}
	}
	if (!differs)
		return;

	if (differs_in_unique)
	{
		simple_table_tuple_delete(patch->view, pair->address, GetActiveSnapshot());
		/* what the stored row points to goes with it */
		tuplestore_puttupleslot(patch->waiting, set_row(patch, &pair->defined));
	}
	else
		update_row(patch, pair->address, slot);
	patch->counts.updated++;
}

static void
take_pair(const CjRowPair *pair, void *arg)
{
	CjViewPatch *patch = arg;
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(patch->estate));

	if (pair->stored.values && pair->defined.values)
		replace_row(patch, pair);
	else if (pair->stored.values)
	{
		simple_table_tuple_delete(patch->view, pair->address, GetActiveSnapshot());
		patch->counts.deleted++;
	}
	else
	{
		tuplestore_puttupleslot(patch->waiting, set_row(patch, &pair->defined));
		patch->counts.inserted++;
	}
	ExecClearTuple(patch->slot);
	MemoryContextSwitchTo(caller);
	ResetPerTupleExprContext(patch->estate);
}

/* ---- keys ---- */

static void
add_context(void *arg)
{
	errcontext("challenge_jobs patch of materialized view \"%s\"",
			   RelationGetRelationName(((const CjViewPatch *) arg)->view));
}

/* patch_rows brings the rows up to date that a query finds. */
static void
patch_rows(CjViewPatch *patch, const CjViewDifference *difference, Datum keys)
{
	MemoryContext caller = MemoryContextSwitchTo(patch->batch);

	patch->matched = cj_tid_set_make(patch->batch);
	cj_diff_query_run(difference, keys, patch->snapshot, take_pair, patch);
	/* the next query is to see it */
	CommandCounterIncrement();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(patch->batch);
}

/* null_difference returns the query for the rows whose key is null. */
static CjViewDifference *
null_difference(CjViewPatch *patch)
{
	if (patch->of_null == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(patch->memory);

		patch->of_null = cj_diff_query_make(patch->view, patch->index, patch->key, true);
		MemoryContextSwitchTo(caller);
	}
	return patch->of_null;
}

void
cj_apply_keys(CjViewPatch *patch, Datum keys, bool with_null)
{
	ArrayType *array = DatumGetArrayTypeP(keys);
	ErrorContextCallback context = {error_context_stack, add_context, patch};

	error_context_stack = &context;
	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > 0)
		patch_rows(patch, patch->of_keys, PointerGetDatum(array));
	if (with_null)
		patch_rows(patch, null_difference(patch), (Datum) 0);
	error_context_stack = context.previous;
}

/* ---- end ---- */

static void
insert_waiting(CjViewPatch *patch)
{
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(RelationGetDescr(patch->view), &TTSOpsMinimalTuple);
	MemoryContext caller = CurrentMemoryContext;

	while (tuplestore_gettupleslot(patch->waiting, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(GetPerTupleMemoryContext(patch->estate));
		insert_row(patch, slot);
		MemoryContextSwitchTo(caller);
		ResetPerTupleExprContext(patch->estate);
	}
	ExecDropSingleTupleTableSlot(slot);
	CommandCounterIncrement();
}

void
cj_apply_end(CjViewPatch *patch, CjPatchCounts *counts)
{
	MemoryContext caller = MemoryContextSwitchTo(patch->memory);
	ErrorContextCallback context = {error_context_stack, add_context, patch};

	error_context_stack = &context;
	PushCopiedSnapshot(patch->snapshot);
	UpdateActiveSnapshotCommandId();
	insert_waiting(patch);
	PopActiveSnapshot();
	error_context_stack = context.previous;

	*counts = patch->counts;
	tuplestore_end(patch->waiting);
	ExecDropSingleTupleTableSlot(patch->slot);
	ExecCloseIndices(patch->indexes);
	FreeExecutorState(patch->estate);
	table_close(patch->view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(patch->memory);
}
