/*
 * jobs/cleanup_rows.c
 *		The expired rows of the app's notifications: finding their addresses, and deleting them.
 *
 * Rows are found first, without locking them, and deleted by their addresses (ctid) in batches, so that a
 * statement can be as short as we like and nothing is read twice. Between the two a row can be changed, deleted,
 * or moved by VACUUM FULL: an address may name another row by then, so what is deleted is tested once more.
 *
 * Rows that others have locked are skipped. What nobody has touched (xmax is 0) is deleted without
 * being locked first: between the test and the deletion there is no more than a moment, in which a lock
 * would be waited for, no longer than the lock timeout. What has a mark on it, perhaps an old one, is
 * locked with SKIP LOCKED first.
 *
 * By heap: ranges of blocks, as wide as can be read in a moment, each read up to the number of rows
 * that are wanted. By index: pages in the order of the column, each with all rows of its last value
 * (WITH TIES), so that the next one can begin behind that value: rows that stay and dead entries of
 * the index are passed once, however many share a value. Neither grows with the size of the table.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "app/app_sql.h"
#include "base/identity.h"
#include "jobs/cleanup_rows.h"

/* How many blocks are read at once, and how long that should take, in microseconds. */
#define MIN_WIDTH     64
#define INITIAL_WIDTH 512
#define MAX_WIDTH     16384
#define TARGET_TIME   2500

/* ---- statements; $1 and $2 are the bounds of created_at and expires_at ---- */

/*
 * Behind a sub-select, so that the planner does not see the array: it takes it to be short then, and the
 * rows are fetched by it.
 */
#define IS_LISTED                                                         \
	"n.ctid OPERATOR(pg_catalog.=) ANY ((SELECT $7)::pg_catalog.tid[])\n" \
	"   AND " CJ_IS_EXPIRED

static const CjStatement find_all = {"find expired notifications",
									 "SELECT n.ctid\n"
									 "  FROM {notifications} n\n"
									 " WHERE " CJ_IS_EXPIRED,
									 SPI_OK_SELECT};

/* $7, $8: addresses between which to read; $9: how many rows at most */
static const CjStatement read_heap = {
	"find expired notifications in a range of blocks",
	"SELECT n.ctid, n.{notifications.created_at}, NOT " CJ_IS_UNTOUCHED "\n"
	"  FROM {notifications} n\n"
	" WHERE n.ctid OPERATOR(pg_catalog.>) $7\n"
	"   AND n.ctid OPERATOR(pg_catalog.<) $8\n"
	"   AND " CJ_IS_EXPIRED "\n"
	" LIMIT $9",
	SPI_OK_SELECT};

/* $7: where to begin; $8: how many rows, and those with the value of the last of them; $9: the type */
#define READ_INDEX(column, operator, order, begin, condition)                        \
	{                                                                                \
		"find expired notifications in the order of " column,                        \
			"SELECT n.ctid, n.{notifications." column "}, NOT " CJ_IS_UNTOUCHED "\n" \
			"  FROM {notifications} n\n"                                             \
			" WHERE (" order ") OPERATOR(pg_catalog."                                \
			operator") (" begin ")\n"                                                \
					"   AND " condition "\n"                                         \
					" ORDER BY " order "\n"                                          \
					" FETCH FIRST $8 ROWS WITH TIES",                                \
			SPI_OK_SELECT                                                            \
	}

/* Whether a page has been read before. */
#define READ_PAGES(column, order, begin, condition)          \
	{                                                        \
		READ_INDEX(column, ">=", order, begin, condition),   \
			READ_INDEX(column, ">", order, begin, condition) \
	}

#define CREATED_AT "n.{notifications.created_at}"
#define EXPIRES_AT "n.{notifications.expires_at}"

static const CjStatement read_old[] = READ_PAGES("created_at", CREATED_AT, "$7", CJ_IS_OLD);
static const CjStatement read_expired[] =
	READ_PAGES("expires_at", EXPIRES_AT, "$7",
			   EXPIRES_AT " OPERATOR(pg_catalog.<) $2\n   AND " CJ_IS_OLD " IS NOT TRUE");

/*
 * Of one type, or of all, up to the bound $1; conditions that an index can have whole. A type is compared along
 * with created_at, so that no index but one on both can be taken: the planner thinks the two independent, which
 * they are least where a type is kept.
 */
#define OF_ALL          CREATED_AT " OPERATOR(pg_catalog.<) $1"
#define TYPE_CREATED_AT "n.{notifications.type}{notifications.type~}, " CREATED_AT
#define OF_TYPE         "(" TYPE_CREATED_AT ") OPERATOR(pg_catalog.<) ($9, $1)"
#define IS_READ                                                 \
	"{?notifications.is_read} AND n.{notifications.is_read}{/}" \
	"{?notifications.read_at} AND n.{notifications.read_at} IS NOT NULL{/}"

/* By whether of a type, and whether only what is read. */
static const CjStatement read_kind[2][2][2] = {
	{READ_PAGES("created_at", CREATED_AT, "$7", OF_ALL),
	 READ_PAGES("created_at", CREATED_AT, "$7", OF_ALL IS_READ)},
	{READ_PAGES("created_at", TYPE_CREATED_AT, "$9, $7", OF_TYPE),
	 READ_PAGES("created_at", TYPE_CREATED_AT, "$9, $7", OF_TYPE IS_READ)},
};

static const CjStatement first_type = {"find the first type of notifications",
									   "SELECT n.{notifications.type}\n"
									   "  FROM {notifications} n\n"
									   " WHERE n.{notifications.type} IS NOT NULL\n"
									   " ORDER BY 1\n"
									   " LIMIT 1",
									   SPI_OK_SELECT};

/* And the bound of each. */
static const CjStatement list_types = {
	"list the types of notifications by an index",
	CJ_LISTED_BY_INDEX("notifications", "notifications.type") "SELECT l.value, " CJ_BOUND_OF_TYPE(
		"l.value") "\n"
				   "  FROM listed l",
	SPI_OK_SELECT};

/* More types than this are not gone through one by one. */
#define MAX_TYPES 1000

/* $7: addresses. Whoever refers to a row, or reads it FOR SHARE, is not waited for either. */
#define LOCK_ROWS                \
	"  FROM {notifications} n\n" \
	" WHERE " IS_LISTED "\n"     \
	"   FOR UPDATE SKIP LOCKED"

static const CjStatement claim = {"claim expired notifications", "SELECT n.ctid\n" LOCK_ROWS,
								  SPI_OK_SELECT};

/*
 * $8: those of them that we have locked. The others are tested for locks as each comes to be deleted:
 * to lock all of them first would be to write every row twice.
 */
static const CjStatement delete_listed = {"delete expired notifications",
										  "DELETE FROM {notifications} AS n\n"
										  " WHERE " IS_LISTED "\n"
										  "   AND (" CJ_IS_UNTOUCHED
										  " OR n.ctid OPERATOR(pg_catalog.=) ANY ($8))",
										  SPI_OK_DELETE};

/* What is still there less what is not locked: a trigger may have kept rows from being deleted. */
static const CjStatement count_locked = {
	"count expired notifications that others have locked",
	"SELECT (SELECT pg_catalog.count(*)\n"
	"          FROM {notifications} n\n"
	"         WHERE " IS_LISTED ")\n"
	"       OPERATOR(pg_catalog.-)\n"
	"       (SELECT pg_catalog.count(*) FROM (SELECT 1\n" LOCK_ROWS ") l)",
	SPI_OK_SELECT};

static const CjStatement delete_all = {"delete all expired notifications",
									   "DELETE FROM {notifications} AS n\n"
									   " WHERE " CJ_IS_EXPIRED,
									   SPI_OK_DELETE};

static const CjStatement count_all = {"count expired notifications",
									  "SELECT pg_catalog.count(*)\n"
									  "  FROM {notifications} n\n"
									  " WHERE " CJ_IS_EXPIRED,
									  SPI_OK_SELECT};

/* ---- what is found: addresses, and of each ---- */

enum
{
	KEY,    /* created_at or expires_at, a timestamp of either type */
	SUSPECT /* whether the row may be locked by somebody, or was, once */
};

CjKeyList *
cj_cleanup_rows_list(MemoryContext memory)
{
	/* of both types of timestamps alike */
	return cj_key_list_create(memory, TIDOID, 2, (Oid[]){TIMESTAMPTZOID, BOOLOID});
}

static int64
find(const CjExpiredScope *scope, const CjStatement *statement, CjParams *params, CjKeyList *found)
{
	return cj_key_list_fill(found, statement, cj_app_sql_expand(statement, scope->binding, NULL),
							params);
}

/* ---- the tables ---- */

/* add_table appends a table to the list, if it is one that holds rows itself. */
static List *
add_table(List *tables, Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	CjExpiredTable *table;
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return tables; /* dropped meanwhile */
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relkind != RELKIND_PARTITIONED_TABLE && form->relpersistence != RELPERSISTENCE_TEMP)
	{
		table = palloc0(sizeof(CjExpiredTable));
		table->relid = relid;
		table->name = quote_qualified_identifier(get_namespace_name(form->relnamespace),
												 NameStr(form->relname));
		table->is_heap = form->relkind == RELKIND_RELATION && form->relam == HEAP_TABLE_AM_OID;
		tables = lappend(tables, table);
	}
	ReleaseSysCache(tuple);
	return tables;
}

List *
cj_cleanup_rows_tables(CjRun *run)
{
	CjUsage items[CJ_ENTITY_COUNT];
	int count = run->job->usage(run->config, run->dry_run, items);
	CjBinding *binding = cj_binding_resolve(items, count);
	const CjBoundEntity *entity = &binding->entities[CJ_NOTIFICATIONS];
	List *parts = list_make1_oid(entity->relid);
	List *tables = NIL;
	MemoryContext caller;
	ListCell *cell;

	if (cj_app_sql_can_lock_rows())
		parts = find_all_inheritors(entity->relid, NoLock, NULL);
	caller = MemoryContextSwitchTo(run->memory);
	foreach(cell, parts)
		tables = add_table(tables, lfirst_oid(cell));
	/* the whole, where it must not be taken apart */
	if (!cj_app_sql_can_lock_rows() && tables == NIL)
	{
		CjExpiredTable *table = palloc0(sizeof(CjExpiredTable));

		table->relid = entity->relid;
		table->name = pstrdup(entity->relation);
		tables = list_make1(table);
	}
	MemoryContextSwitchTo(caller);
	return tables;
}

/* ---- passes by index ---- */

/* A pass over an index: the statements for the first and for the next pages, and what they are given. */
typedef struct Pass
{
	const CjStatement *pages;
	int column;        /* 0: created_at, 1: expires_at */
	bool of_kind;      /* $1 is `bound`, $9 `type` */
	TimestampTz bound; /* of either type of timestamp, as `from`, where it begins */
	TimestampTz from;
	Datum type;
} Pass;

/* pass_params makes the parameters of a page. */
static CjParams *
pass_params(const CjExpiredScope *scope, const Pass *pass, TimestampTz from, int wanted)
{
	const CjBoundColumn *type =
		&scope->binding->entities[CJ_NOTIFICATIONS].columns[CJ_NOTIFICATIONS_TYPE];
	CjParams *params = cj_cleanup_scope_params(scope);

	if (pass->of_kind)
		params->values[0] = TimestampTzGetDatum(pass->bound);
	cj_sql_param(params, scope->bound_types[pass->column], TimestampTzGetDatum(from), false);
	cj_sql_param(params, INT8OID, Int64GetDatum(wanted), false);
	if (pass->of_kind && type->present)
		cj_sql_param(params, type->base_type, pass->type, false);
	return params;
}

/* add_pass appends a pass to a list, if there can be anything before its bound. */
static List *
add_pass(List *passes, Pass pass)
{
	Pass *added;

	if (pass.of_kind && pass.from >= pass.bound)
		return passes;
	added = palloc(sizeof(Pass));
	*added = pass;
	return lappend(passes, added);
}

/* add_kind appends the passes over what is of one type: what is expired read or not, then what is only if read. */
static List *
add_kind(List *passes, const CjExpiredScope *scope, Datum type, TimestampTz bound,
		 const CjExpiry *expiry)
{
	const CjStatement(*pages)[2] = read_kind[expiry->type_count > 0];
	TimestampTz unread = Min(bound, DatumGetTimestampTz(scope->unread_bound));

	if (!expiry->unread_differs)
		return add_pass(passes, (Pass){pages[0], 0, true, bound, DT_NOBEGIN, type});
	passes = add_pass(passes, (Pass){pages[0], 0, true, unread, DT_NOBEGIN, type});
	return add_pass(passes, (Pass){pages[1], 0, true, bound, unread, type});
}

/*
 * list_kinds lists the passes over all types that there are, each up to its own bound, so that what is
 * kept is not read at all. False where the types cannot be listed by an index.
 */
static bool
list_kinds(const CjExpiredScope *scope, const CjExpiry *expiry, List **passes)
{
	CjParams *params = cj_cleanup_scope_params(scope);
	CjRows rows;
	bool complete;

	*passes = NIL;
	if (expiry->type_count == 0 && !expiry->unread_differs)
		return false;
	if (expiry->type_count == 0)
	{
		*passes = add_kind(NIL, scope, (Datum) 0, DatumGetTimestampTz(scope->other_bound), expiry);
		return true;
	}
	if (cj_sql_access(&first_type, cj_app_sql_expand(&first_type, scope->binding, NULL), params) ==
		CJ_ACCESS_OTHER)
		return false;
	rows = cj_app_sql_run(&list_types, scope->binding, NULL, params);
	complete = rows.processed <= MAX_TYPES;
	for (uint64 row = 0; row < rows.processed && complete; row++)
	{
		bool isnull;
		Datum type = cj_sql_datum(&rows, row, 1, &isnull);

		if (isnull)
			complete = false;
		else
			*passes = add_kind(*passes, scope, type, cj_sql_moment(&rows, row, 2), expiry);
	}
	cj_sql_free(&rows);
	return complete;
}

/*
 * can_page returns whether there is an index for each of some passes, and, for those over a kind, one that
 * finds nothing else. (Whether it is usable is for the planner to say.)
 */
static bool
can_page(const CjExpiredScope *scope, List *passes)
{
	ListCell *cell;

	foreach(cell, passes)
	{
		const Pass *pass = lfirst(cell);
		CjParams *params = pass_params(scope, pass, pass->from, 1000);
		CjAccess access =
			cj_sql_access(pass->pages, cj_app_sql_expand(pass->pages, scope->binding, NULL),
						  params);

		if (access == CJ_ACCESS_OTHER || (pass->of_kind && access == CJ_ACCESS_INDEX))
			return false;
	}
	return true;
}

/*
 * choose_way asks the planner: by index it is where that is the cheapest, which is a small share. Where
 * settings keep something longer, what is kept would be read each night: an index that does without that
 * is always taken.
 */
static CjWay
choose_way(const CjExpiredScope *scope, const CjExpiry *expiry, CjExpiredTable *table)
{
	CjParams *params = cj_cleanup_scope_params(scope);
	const char *text = cj_app_sql_expand(&find_all, scope->binding, NULL);
	bool has_expiry =
		scope->binding->entities[CJ_NOTIFICATIONS].columns[CJ_NOTIFICATIONS_EXPIRES_AT].present;
	CjAccess access;

	/* partitions whose bounds say it all need not be looked at */
	cj_identity_set("constraint_exclusion", "on");
	access = cj_sql_access(&find_all, text, params);
	if (access == CJ_ACCESS_NONE)
		return CJ_WAY_NONE;

	cj_cleanup_scope_leave_no_choice(true);
	if (list_kinds(scope, expiry, &table->passes))
	{
		if (has_expiry)
			table->passes = add_pass(table->passes, (Pass){read_expired, 1, .from = DT_NOBEGIN});
		if (can_page(scope, table->passes))
			return CJ_WAY_INDEX;
	}
	table->passes = add_pass(NIL, (Pass){read_old, 0, .from = DT_NOBEGIN});
	if (has_expiry)
		table->passes = add_pass(table->passes, (Pass){read_expired, 1, .from = DT_NOBEGIN});
	return access != CJ_ACCESS_OTHER && can_page(scope, table->passes) ? CJ_WAY_INDEX : CJ_WAY_HEAP;
}

static BlockNumber
count_blocks(Oid relid)
{
	Relation rel = table_open(relid, NoLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	return blocks;
}

void
cj_cleanup_rows_choose(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table)
{
	CjExpiredScope scope;
	MemoryContext caller;

	table->way = CJ_WAY_NONE;
	if (!table->is_heap || !cj_app_sql_can_lock_rows())
	{
		table->way = CJ_WAY_STATEMENT;
		return;
	}
	if (!cj_cleanup_scope_open(run, expiry, table->relid, false, &scope))
		return;
	caller = MemoryContextSwitchTo(run->memory); /* for the passes */
	table->way = choose_way(&scope, expiry, table);
	MemoryContextSwitchTo(caller);
	cj_identity_restore(&scope.identity);

	table->blocks = count_blocks(table->relid);
	table->width = INITIAL_WIDTH;
	table->at_end = table->way == CJ_WAY_HEAP ? table->blocks == 0 : table->passes == NIL;
	ItemPointerSet(&table->position, 0, 0);
}

/* ---- reading ---- */

void
cj_cleanup_rows_passed(CjExpiredTable *table, BlockNumber block)
{
	ItemPointerSet(&table->position, block, 0);
	table->at_end = block >= table->blocks;
}

/* read_range reads the next range of blocks, and makes it wider or narrower by the time it took. */
static void
read_range(const CjExpiredScope *scope, CjExpiredTable *table, int wanted, CjKeyList *found)
{
	CjParams *params = cj_cleanup_scope_params(scope);
	BlockNumber begin = ItemPointerGetBlockNumberNoCheck(&table->position);
	ItemPointerData end;
	TimestampTz started = GetCurrentTimestamp();
	TimestampTz took;

	ItemPointerSet(&end, Min((uint64) begin + table->width, table->blocks), 0);
	cj_sql_param(params, TIDOID, PointerGetDatum(&table->position), false);
	cj_sql_param(params, TIDOID, PointerGetDatum(&end), false);
	cj_sql_param(params, INT8OID, Int64GetDatum(wanted), false);
	if (find(scope, &read_heap, params, found) >= wanted)
		return; /* the position is that of the last row, when they have been taken out */

	cj_cleanup_rows_passed(table, ItemPointerGetBlockNumberNoCheck(&end));
	took = GetCurrentTimestamp() - started;
	if (took < TARGET_TIME / 2)
		table->width = Min(table->width * 2, MAX_WIDTH);
	else if (took > TARGET_TIME * 2)
		table->width = Max(table->width / 2, MIN_WIDTH);
}

static void
read_page(const CjExpiredScope *scope, CjExpiredTable *table, int wanted, CjKeyList *found)
{
	const Pass *pass = list_nth(table->passes, table->pass);
	CjParams *params = pass_params(scope, pass, table->in_pass ? table->key : pass->from, wanted);

	if (find(scope, &pass->pages[table->in_pass], params, found) >= wanted)
	{
		table->in_pass = true;
		return;
	}
	table->in_pass = false;
	table->at_end = ++table->pass == list_length(table->passes);
}

void
cj_cleanup_rows_read(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table, int wanted,
					 CjKeyList *found)
{
	CjExpiredScope scope;

	if (!cj_cleanup_scope_open(run, expiry, table->relid, false, &scope))
	{
		table->at_end = true;
		return;
	}
	cj_cleanup_scope_leave_no_choice(table->way == CJ_WAY_INDEX);
	if (table->way == CJ_WAY_INDEX)
		read_page(&scope, table, wanted, found);
	else
		read_range(&scope, table, wanted - cj_key_list_unread(found), found);
	cj_identity_restore(&scope.identity);
}

int
cj_cleanup_rows_take(CjExpiredTable *table, CjKeyList *found, int size)
{
	ItemPointer last;

	if (!cj_key_list_read(found, size))
		return 0;
	if (cj_key_list_unread(found) == 0)
		cj_key_list_clear(found);
	last = (ItemPointer) DatumGetPointer(found->keys[found->count - 1]);
	/* by index: never null, since it was compared */
	table->key = DatumGetTimestampTz(found->values[KEY][found->count - 1]);
	if (table->way == CJ_WAY_HEAP && ItemPointerCompare(last, &table->position) > 0)
		table->position = *last;
	return found->count;
}

/* ---- deleting ---- */

void
cj_cleanup_rows_suspect(CjKeyList *found, int from, int to)
{
	for (int i = from; i < to; i++)
		found->values[SUSPECT][i] = BoolGetDatum(true);
}

/* claim_suspects locks those suspects that nobody else has locked, and returns them. */
static Datum
claim_suspects(const CjExpiredScope *scope, const CjKeyList *found, int from, int to)
{
	Datum *suspects = palloc(sizeof(Datum) * (to - from));
	CjParams *params = cj_cleanup_scope_params(scope);
	int count = 0;
	CjRows rows;
	Datum claimed;

	for (int i = from; i < to; i++)
	{
		if (DatumGetBool(found->values[SUSPECT][i]))
			suspects[count++] = found->keys[i];
	}
	claimed = cj_sql_array(suspects, count, TIDOID);
	if (count == 0)
		return claimed;
	cj_sql_param_array(params, TIDOID, claimed);
	rows = cj_app_sql_run(&claim, scope->binding, NULL, params);
	claimed = cj_sql_column(&rows, 1, TIDOID);
	cj_sql_free(&rows);
	return claimed;
}

int64
cj_cleanup_rows_delete(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table, CjKeyList *found,
					   int from, int to, bool *opened, int64 *locked)
{
	CjExpiredScope scope;
	CjParams *params;
	CjRows rows;
	int64 deleted;

	*locked = 0;
	if (!cj_cleanup_scope_open(run, expiry, table->relid, true, &scope))
		return 0;
	*opened = true;
	params = cj_cleanup_scope_params(&scope);
	cj_sql_param_array(params, TIDOID, cj_key_list_keys(found, from, to));
	cj_sql_param_array(params, TIDOID, claim_suspects(&scope, found, from, to));
	rows = cj_app_sql_run(&delete_listed, scope.binding, NULL, params);
	deleted = rows.processed;
	if (deleted < to - from)
	{
		rows = cj_app_sql_run(&count_locked, scope.binding, NULL, params);
		*locked = cj_sql_int64(&rows, 0, 1);
		cj_sql_free(&rows);
	}
	cj_identity_restore(&scope.identity);
	return deleted;
}

/* run_over_all runs a statement over all expired rows, of a part or of the whole. */
static CjRows
run_over_all(CjRun *run, const CjExpiry *expiry, const CjExpiredTable *table,
			 const CjStatement *statement)
{
	CjExpiredScope scope;
	CjParams *params;
	CjRows rows = {0};

	if (!cj_cleanup_scope_open(run, expiry, table ? table->relid : InvalidOid,
							   statement == &delete_all, &scope))
		return rows;
	params = cj_cleanup_scope_params(&scope);
	rows = cj_app_sql_run(statement, scope.binding, NULL, params);
	cj_identity_restore(&scope.identity);
	return rows;
}

int64
cj_cleanup_rows_delete_all(CjRun *run, const CjExpiry *expiry, CjExpiredTable *table)
{
	return run_over_all(run, expiry, table, &delete_all).processed;
}

int64
cj_cleanup_rows_count(CjRun *run, const CjExpiry *expiry)
{
	CjRows rows = run_over_all(run, expiry, NULL, &count_all);
	int64 count = cj_sql_int64(&rows, 0, 1);

	cj_sql_free(&rows);
	return count;
}
