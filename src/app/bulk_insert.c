/*
 * app/bulk_insert.c
 *		Inserting many rows into a table of the app, where that cannot be told from INSERT … SELECT.
 *
 * INSERT writes row by row: the row, an entry in each index, and at the end a query for each foreign key of each row.
 * Here the rows go to the table page by page, the entries to one index after another in the order of its keys, and a
 * foreign key is checked with one query for thousands of rows.
 *
 * That is done only for a table on which nothing of the app's runs or waits: no trigger, rule, policy or function of
 * its own, no kind of index but btree. Between two transactions anyone may add one, so it is decided in each anew,
 * under the lock. What is not known to be the same is left to INSERT, also its errors: of a foreign key that does not
 * hold, INSERT says so.
 *
 * A unique index makes INSERT wait for others that insert the same key; in the order of its keys, two of these could
 * wait for each other. So the only one is a primary key whose values are generated, which nobody waits for.
 *
 * Foreign keys are checked as PostgreSQL does it: the referenced rows are locked FOR KEY SHARE by a query of their
 * table's owner, in a snapshot of its own. It is done before the rows are inserted, not after: a row that is locked
 * keeps its key until the transaction ends, and where one is missing nothing has been done yet. As many rows locked
 * as there are keys means that each was found: no two rows that are locked have the same key.
 *
 * What the query gives is kept in a tuplestore, which spills to disk; memory is bounded by FLUSH_ROWS and FLUSH_BYTES.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "app/app_sql.h"
#include "app/bulk_insert.h"
#include "base/catalog.h"
#include "base/identity.h"

#define FLUSH_ROWS  32768
#define FLUSH_BYTES (16 * 1024 * 1024)
#define STORE_KB    (16 * 1024)

/*
 * $1: keys. Names: the table, the column, the operator, the type of the array. That the array comes from a query keeps the
 * planner from looking at each of the keys. (A collation of the column could have some of them be equal that are counted
 * as different: then INSERT has to find out.)
 */
#define LOCK_REFERENCED                                                                       \
	"SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=)\n"                                     \
	"       (SELECT pg_catalog.count(DISTINCT k.key) FROM pg_catalog.unnest($1) AS k(key))\n" \
	"  FROM (SELECT FROM ONLY %s r\n"                                                         \
	"         WHERE r.%s OPERATOR(pg_catalog.%s) ANY ((SELECT $1)::%s)\n"                     \
	"           FOR KEY SHARE) l"

static const CjStatement lock_referenced = {"lock the rows that foreign keys refer to", NULL,
											SPI_OK_SELECT};

/* A foreign key of the table. */
typedef struct ForeignKey
{
	int position; /* of its column in the query, from 1 */
	Oid table;
	Oid owner;
	char *column;
	TypeCacheEntry *type;
} ForeignKey;

/* The rows of the query, on their way. */
typedef struct Receiver
{
	DestReceiver dest;
	MemoryContext memory;
	Tuplestorestate *rows;
	TupleDesc type;
} Receiver;

typedef struct BulkInsert
{
	const CjStatement *query;
	MemoryContext flush; /* of a flush, or of a set of keys */
	Relation rel;
	const AttrNumber *columns;
	int count;
	List *foreign_keys;
	EState *estate;
	ResultRelInfo *target;
	Receiver source;
	TupleTableSlot *input;   /* a row of the query */
	TupleTableSlot *row;     /* the same as a row of the table */
	ProjectionInfo *project; /* makes the one of the other */
	TupleTableSlot **slots;  /* rows to be inserted */
} BulkInsert;

/* ---- may we? ---- */

static bool
is_of_app(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/* calls_app_code returns whether an expression calls a function that is not built in, or checks a domain. */
static bool
calls_app_code(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain) || check_functions_in_node(node, is_of_app, context))
		return true;
	return expression_tree_walker(node, calls_app_code, context);
}

/* position_of returns where a column of the table is in the query, from 1, or 0. */
static int
position_of(const BulkInsert *bulk, AttrNumber column)
{
	for (int i = 0; i < bulk->count; i++)
	{
		if (bulk->columns[i] == column)
			return i + 1;
	}
	return 0;
}

static bool
session_allows(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_ORIGIN &&
		   !IsolationUsesXactSnapshot() && !XactReadOnly && ExecutorCheckPerms_hook == NULL &&
		   cj_app_sql_can_lock_rows();
}

static bool
table_allows(Relation rel)
{
	Form_pg_class form = rel->rd_rel;
	Oid relid = RelationGetRelid(rel);

	return form->relkind == RELKIND_RELATION && form->relam == HEAP_TABLE_AM_OID &&
		   form->relpersistence == RELPERSISTENCE_PERMANENT && !form->relispartition &&
		   !form->relhassubclass && !has_superclass(relid) && rel->rd_rules == NULL &&
		   check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED &&
		   pg_class_aclmask(relid, GetUserId(), ACL_SELECT | ACL_INSERT, ACLMASK_ALL) ==
			   (ACL_SELECT | ACL_INSERT);
}

static bool
columns_allow(const BulkInsert *bulk)
{
	TupleDesc type = RelationGetDescr(bulk->rel);
	bool allowed = true;

	for (int i = 0; i < type->natts && allowed; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(type, i);

		if (attr->attisdropped)
			continue;
		allowed = get_typtype(attr->atttypid) != TYPTYPE_DOMAIN &&
				  (!attr->attgenerated || attr->attgenerated == ATTRIBUTE_GENERATED_STORED);
		if (position_of(bulk, attr->attnum))
			allowed = allowed && !attr->attgenerated && !attr->attidentity;
		else
			allowed = allowed && !calls_app_code(build_column_default(bulk->rel, i + 1), NULL);
	}
	for (int i = 0; type->constr && i < type->constr->num_check && allowed; i++)
		allowed = !calls_app_code(stringToNode(type->constr->check[i].ccbin), NULL);
	return allowed;
}

/* is_generated_key returns whether an index is a primary key of which each row gets a value of its own. */
static bool
is_generated_key(const BulkInsert *bulk, Form_pg_index index)
{
	AttrNumber column = index->indkey.values[0];

	return index->indisprimary && index->indimmediate && index->indnkeyatts == 1 &&
		   !position_of(bulk, column) &&
		   contain_volatile_functions(build_column_default(bulk->rel, column));
}

static bool
indexes_allow(const BulkInsert *bulk)
{
	for (int i = 0; i < bulk->target->ri_NumIndices; i++)
	{
		Relation index = bulk->target->ri_IndexRelationDescs[i];
		IndexInfo *info = bulk->target->ri_IndexRelationInfo[i];
		Form_pg_index form = index->rd_index;

		/* one that is ready and not valid is being built, and would be left without entries if it were skipped */
		if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || !form->indisready ||
			form->indisexclusion || (form->indisunique && !is_generated_key(bulk, form)) ||
			calls_app_code((Node *) info->ii_Expressions, NULL) ||
			calls_app_code((Node *) info->ii_Predicate, NULL))
			return false;
		for (int key = 0; key < form->indnkeyatts; key++)
		{
			if (index->rd_opfamily[key] >= FirstNormalObjectId)
				return false;
		}
	}
	return true;
}

/*
 * find_foreign_key returns the foreign key of a constraint, of a single column that both tables have of one type, or
 * NULL.
 */
static ForeignKey *
find_foreign_key(const BulkInsert *bulk, Oid constraint)
{
	ListCell *cell;

	foreach(cell, RelationGetFKeyList(bulk->rel))
	{
		ForeignKeyCacheInfo *info = lfirst(cell);
		ForeignKey *key = palloc0(sizeof(ForeignKey));
		Form_pg_attribute from;
		Form_pg_attribute to;
		Relation referenced;
		bool allowed;

		if (info->conoid != constraint)
			continue;
		if (info->nkeys != 1 || info->confrelid == info->conrelid)
			return NULL;
		/* as the query will lock it */
		referenced = table_open(info->confrelid, RowShareLock);
		from = TupleDescAttr(RelationGetDescr(bulk->rel), info->conkey[0] - 1);
		to = TupleDescAttr(RelationGetDescr(referenced), info->confkey[0] - 1);
		key->position = position_of(bulk, info->conkey[0]);
		key->table = info->confrelid;
		key->owner = referenced->rd_rel->relowner;
		key->column = pstrdup(NameStr(to->attname));
		key->type = lookup_type_cache(to->atttypid, TYPECACHE_EQ_OPR);
		allowed = from->atttypid == to->atttypid && key->type->eq_opr == info->conpfeqop[0] &&
				  key->type->eq_opr < FirstNormalObjectId &&
				  referenced->rd_rel->relkind == RELKIND_RELATION &&
				  !referenced->rd_rel->relforcerowsecurity &&
				  pg_class_aclmask(key->table, key->owner, ACL_SELECT | ACL_UPDATE, ACLMASK_ALL) ==
					  (ACL_SELECT | ACL_UPDATE);
		/* a column that the query does not fill is null, or else whatever its default gives */
		if (key->position == 0)
			allowed = allowed && build_column_default(bulk->rel, info->conkey[0]) == NULL;
		table_close(referenced, NoLock);
		return allowed ? key : NULL;
	}
	return NULL;
}

/* triggers_allow returns whether nothing fires on INSERT but checks of foreign keys, and lists these. */
static bool
triggers_allow(BulkInsert *bulk)
{
	TriggerDesc *triggers = bulk->rel->trigdesc;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		ForeignKey *key;

		if (!TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (trigger->tgfoid != F_RI_FKEY_CHECK_INS || trigger->tgdeferrable ||
			(trigger->tgenabled != TRIGGER_FIRES_ON_ORIGIN &&
			 trigger->tgenabled != TRIGGER_FIRES_ALWAYS))
			return false;
		key = find_foreign_key(bulk, trigger->tgconstraint);
		if (key == NULL)
			return false;
		if (key->position > 0)
			bulk->foreign_keys = lappend(bulk->foreign_keys, key);
	}
	return true;
}

/* ---- the rows of the query ---- */

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	tuplestore_puttupleslot(((Receiver *) self)->rows, slot);
	return true;
}

static void
start(DestReceiver *self, int operation, TupleDesc type)
{
	Receiver *receiver = (Receiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->memory);

	receiver->type = CreateTupleDescCopy(type);
	MemoryContextSwitchTo(caller);
}

static void
end_nothing(DestReceiver *self)
{
}

/* column_value makes the expression for a column of the table, as INSERT would; NULL: it would not. */
static Expr *
column_value(const BulkInsert *bulk, Form_pg_attribute attr)
{
	int position = position_of(bulk, attr->attnum);
	Node *value = NULL;

	if (attr->attisdropped)
		return (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
	if (position > 0)
	{
		Form_pg_attribute from = TupleDescAttr(bulk->source.type, position - 1);
		Var *var = makeVar(1, position, from->atttypid, from->atttypmod, from->attcollation, 0);

		value =
			coerce_to_target_type(NULL, (Node *) var, from->atttypid, attr->atttypid,
								  attr->atttypmod, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
		return value == NULL || calls_app_code(value, NULL) ? NULL
															: expression_planner((Expr *) value);
	}
	if (!attr->attgenerated)
		value = build_column_default(bulk->rel, attr->attnum);
	if (value == NULL)
		value = (Node *) makeNullConst(attr->atttypid, attr->atttypmod, attr->attcollation);
	return expression_planner((Expr *) value);
}

/* keeps_keys returns whether foreign keys are stored as the query gives them. */
static bool
keeps_keys(const BulkInsert *bulk)
{
	ListCell *cell;

	foreach(cell, bulk->foreign_keys)
	{
		int position = ((ForeignKey *) lfirst(cell))->position;
		Form_pg_attribute from = TupleDescAttr(bulk->source.type, position - 1);
		Form_pg_attribute to =
			TupleDescAttr(RelationGetDescr(bulk->rel), bulk->columns[position - 1] - 1);

		if (from->atttypid != to->atttypid ||
			(to->atttypmod != -1 && to->atttypmod != from->atttypmod))
			return false;
	}
	return true;
}

/* make_projection makes what turns rows of the query into rows of the table; returns false if there is no way. */
static bool
make_projection(BulkInsert *bulk)
{
	/* not that of the table: each slot would pin it, and thousands of pins are slow to drop */
	TupleDesc type = CreateTupleDescCopy(RelationGetDescr(bulk->rel));
	List *targets = NIL;

	for (int i = 0; i < type->natts; i++)
	{
		Expr *value = column_value(bulk, TupleDescAttr(RelationGetDescr(bulk->rel), i));

		if (value == NULL)
			return false;
		targets = lappend(targets, makeTargetEntry(value, i + 1, NULL, false));
	}
	bulk->input = MakeSingleTupleTableSlot(bulk->source.type, &TTSOpsMinimalTuple);
	bulk->row = MakeSingleTupleTableSlot(type, &TTSOpsVirtual);
	bulk->project = ExecBuildProjectionInfo(targets, GetPerTupleExprContext(bulk->estate),
											bulk->row, NULL, bulk->source.type);
	bulk->slots = palloc0(sizeof(TupleTableSlot *) * FLUSH_ROWS);
	return true;
}

static bool
next_input(BulkInsert *bulk)
{
	CHECK_FOR_INTERRUPTS();
	return tuplestore_gettupleslot(bulk->source.rows, true, false, bulk->input);
}

/* ---- foreign keys ---- */

/* lock_keys locks the rows that have some keys; returns whether there is one for each. */
static bool
lock_keys(const ForeignKey *key, Datum *keys, int count)
{
	Oid type = key->type->type_id;
	CjIdentity saved;
	CjRows rows;
	bool all_found;

	cj_identity_become_owner(&saved, key->owner, "pg_catalog",
							 GetConfigOption("TimeZone", false, false));
	/* a scan of the whole table would cost more and more as it grows */
	cj_identity_set("enable_seqscan", "off");
	rows = cj_sql_run(&lock_referenced,
					  psprintf(LOCK_REFERENCED, cj_catalog_name(key->table),
							   quote_identifier(key->column), get_opname(key->type->eq_opr),
							   format_type_be_qualified(get_array_type(type))),
					  CJ_PARAMS(CJ_ARRAY(type, cj_sql_array(keys, count, type))));
	all_found = cj_sql_bool(&rows, 0, 1);
	cj_sql_free(&rows);
	cj_identity_restore(&saved);
	return all_found;
}

/* check_foreign_key locks what the rows refer to; returns whether all of it is there. */
static bool
check_foreign_key(BulkInsert *bulk, const ForeignKey *key)
{
	MemoryContext caller = MemoryContextSwitchTo(bulk->flush);
	Form_pg_attribute attr = TupleDescAttr(bulk->source.type, key->position - 1);
	bool all_found = true;
	bool more = true;

	tuplestore_rescan(bulk->source.rows);
	while (more && all_found)
	{
		Datum *keys = palloc(sizeof(Datum) * FLUSH_ROWS);
		int count = 0;

		while (count < FLUSH_ROWS && (more = next_input(bulk)))
		{
			bool isnull;
			Datum value = slot_getattr(bulk->input, key->position, &isnull);

			if (!isnull)
				keys[count++] = datumCopy(value, attr->attbyval, attr->attlen);
		}
		all_found = count == 0 || lock_keys(key, keys, count);
		/* a row that was read from disk is the slot's, and lives in what is reset */
		ExecClearTuple(bulk->input);
		MemoryContextReset(bulk->flush);
	}
	MemoryContextSwitchTo(caller);
	return all_found;
}

static bool
check_foreign_keys(BulkInsert *bulk)
{
	ListCell *cell;

	foreach(cell, bulk->foreign_keys)
	{
		if (!check_foreign_key(bulk, lfirst(cell)))
			return false;
	}
	return true;
}

/* ---- indexes ---- */

/* belongs_in returns whether a row belongs in an index. */
static bool
belongs_in(BulkInsert *bulk, IndexInfo *info, TupleTableSlot *slot)
{
	ExprContext *context = GetPerTupleExprContext(bulk->estate);

	context->ecxt_scantuple = slot;
	if (info->ii_Predicate != NIL && info->ii_PredicateState == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(bulk->estate->es_query_cxt);

		info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, bulk->estate);
		MemoryContextSwitchTo(caller);
	}
	return ExecQual(info->ii_PredicateState, context);
}

/* fill_index adds the entries of rows to an index, in its order. */
static void
fill_index(BulkInsert *bulk, Relation index, IndexInfo *info, int count)
{
	Tuplesortstate *entries =
		tuplesort_begin_index_btree(bulk->rel, index, false, false, Max(work_mem, STORE_KB), NULL,
									TUPLESORT_NONE);
	IndexUniqueCheck check = index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO;
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	IndexTuple entry;

	for (int i = 0; i < count; i++)
	{
		ResetPerTupleExprContext(bulk->estate);
		if (!belongs_in(bulk, info, bulk->slots[i]))
			continue;
		FormIndexDatum(info, bulk->slots[i], bulk->estate, values, nulls);
		tuplesort_putindextuplevalues(entries, index, &bulk->slots[i]->tts_tid, values, nulls);
	}
	tuplesort_performsort(entries);
	while ((entry = tuplesort_getindextuple(entries, true)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		index_deform_tuple(entry, RelationGetDescr(index), values, nulls);
		(void) index_insert(index, values, nulls, &entry->t_tid, bulk->rel, check, false, info);
	}
	tuplesort_end(entries);
}

/* ---- rows ---- */

/* flush writes rows to the table, and then to one index after another. */
static void
flush(BulkInsert *bulk, int count)
{
	MemoryContext caller = MemoryContextSwitchTo(bulk->flush);

	table_multi_insert(bulk->rel, bulk->slots, count, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < bulk->target->ri_NumIndices; i++)
	{
		MemoryContextReset(bulk->flush);
		fill_index(bulk, bulk->target->ri_IndexRelationDescs[i],
				   bulk->target->ri_IndexRelationInfo[i], count);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(bulk->flush);
	for (int i = 0; i < count; i++)
		ExecClearTuple(bulk->slots[i]);
}

/* make_row makes a row of the table of a row of the query; returns its size. */
static Size
make_row(BulkInsert *bulk, int number)
{
	TupleConstr *constraints = RelationGetDescr(bulk->rel)->constr;
	TupleTableSlot *row;

	ResetPerTupleExprContext(bulk->estate);
	GetPerTupleExprContext(bulk->estate)->ecxt_scantuple = bulk->input;
	row = ExecProject(bulk->project);
	row->tts_tableOid = RelationGetRelid(bulk->rel);
	if (constraints && constraints->has_generated_stored)
		ExecComputeStoredGenerated(bulk->target, bulk->estate, row, CMD_INSERT);
	if (constraints)
		ExecConstraints(bulk->target, row, bulk->estate);
	if (bulk->slots[number] == NULL)
		bulk->slots[number] = MakeSingleTupleTableSlot(row->tts_tupleDescriptor, &TTSOpsHeapTuple);
	ExecCopySlot(bulk->slots[number], row);
	return ((HeapTupleTableSlot *) bulk->slots[number])->tuple->t_len;
}

static void
insert_rows(BulkInsert *bulk)
{
	Size size = 0;
	int count = 0;

	tuplestore_rescan(bulk->source.rows);
	while (next_input(bulk))
	{
		size += make_row(bulk, count++);
		if (count == FLUSH_ROWS || size >= FLUSH_BYTES)
		{
			flush(bulk, count);
			size = count = 0;
		}
	}
	if (count > 0)
		flush(bulk, count);
	CommandCounterIncrement();
}

/* ---- the whole ---- */

/* add_context adds to an error the statement that it comes from. */
static void
add_context(void *arg)
{
	errcontext("challenge_jobs statement \"%s\"", ((const BulkInsert *) arg)->query->name);
}

/* insert_checked inserts the rows, if it is certain that this is what INSERT would do. */
static bool
insert_checked(BulkInsert *bulk)
{
	ErrorContextCallback context = {error_context_stack, add_context, bulk};
	bool done;

	error_context_stack = &context;
	done = make_projection(bulk) && keeps_keys(bulk) && check_foreign_keys(bulk);
	if (done)
		insert_rows(bulk);
	error_context_stack = context.previous;
	return done;
}

/* run_query runs the query and inserts what it gives. */
static bool
run_query(BulkInsert *bulk, const char *text, CjParams *params, uint64 *inserted)
{
	bool done;

	bulk->source.dest = (DestReceiver){receive, start, end_nothing, end_nothing, DestTuplestore};
	bulk->source.memory = CurrentMemoryContext;
	bulk->source.rows = tuplestore_begin_heap(false, false, Max(work_mem, STORE_KB));
	/* values may be pointers to where the rows that the query reads have them */
	PushActiveSnapshot(GetTransactionSnapshot());
	*inserted = cj_sql_run_into(bulk->query, text, params, &bulk->source.dest);
	done = *inserted == 0 || insert_checked(bulk);
	PopActiveSnapshot();
	tuplestore_end(bulk->source.rows);
	return done;
}

bool
cj_bulk_insert(Oid table, const AttrNumber *columns, int count, const CjStatement *query,
			   const char *text, CjParams *params, uint64 *inserted)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs bulk insert",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	BulkInsert bulk = {.query = query, .columns = columns, .count = count};
	bool done = false;

	bulk.flush = AllocSetContextCreate(memory, "challenge_jobs flush", ALLOCSET_DEFAULT_SIZES);
	bulk.rel = table_open(table, NoLock);
	if (session_allows() && table_allows(bulk.rel) && columns_allow(&bulk) && triggers_allow(&bulk))
	{
		bulk.estate = CreateExecutorState();
		bulk.target = makeNode(ResultRelInfo);
		InitResultRelInfo(bulk.target, bulk.rel, 0, NULL, 0);
		ExecOpenIndices(bulk.target, false);
		done = indexes_allow(&bulk) && run_query(&bulk, text, params, inserted);
		ExecCloseIndices(bulk.target);
		FreeExecutorState(bulk.estate);
	}
	table_close(bulk.rel, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return done;
}
