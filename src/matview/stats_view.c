/*
 * matview/stats_view.c
 *		The materialized views that refresh_challenge_stats refreshes.
 *
 * Table challenge_jobs.stats_view holds names, not OIDs: it is dumped and restored, and a name that leads nowhere
 * any more can be told to the user.
 *
 * What a view is like is read from the catalog caches, not by statements: those would see the catalogs
 * as of the snapshot of a REPEATABLE READ caller. Only the order is read by a statement, as there the
 * worst that an old snapshot can do is a wrong order.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/catalog.h"
#include "base/compat.h"
#include "base/relation_locks.h"
#include "base/sql.h"
#include "base/unique_index.h"
#include "matview/stats_view.h"

static const CjStatement load_names = {
	"load the registered views",
	"SELECT DISTINCT COALESCE(r.new_name, v.view_name)"
	"  FROM challenge_jobs.stats_view v"
	"  LEFT JOIN challenge_jobs.renamed_view r ON r.view_name = v.view_name"
	" ORDER BY 1",
	SPI_OK_SELECT};

static const CjStatement add_name = {"register a view",
									 "INSERT INTO challenge_jobs.stats_view (view_name) VALUES ($1)"
									 "    ON CONFLICT DO NOTHING",
									 SPI_OK_INSERT};

/* $2: the name as it was given, should it have been stored in another spelling. */
static const CjStatement remove_name = {"remove a registered view",
										"DELETE FROM challenge_jobs.stats_view"
										" WHERE view_name IN ($1, $2)",
										SPI_OK_DELETE};

/* $1 names, $2 their OIDs */
static const CjStatement order_names = CJ_CALL_ROWS("order_views($1, $2)");
static const CjStatement find_missing = CJ_CALL_ROWS("missing_views($1, $2)");

/* ---- names ---- */

/* parse_name takes a qualified name apart; NULL if it is none. */
static RangeVar *
parse_name(const char *name)
{
	List *names;

	if (!SplitIdentifierString(pstrdup(name), '.', &names) || list_length(names) != 2)
		return NULL;
	return makeRangeVar(linitial(names), lsecond(names), -1);
}

static Oid
find_relation(const char *name)
{
	RangeVar *range = parse_name(name);
	Oid schema = range ? get_namespace_oid(range->schemaname, true) : InvalidOid;

	return OidIsValid(schema) ? get_relname_relid(range->relname, schema) : InvalidOid;
}

/* read_names returns the values of a statement's first columns, as C strings. */
static List *
read_names(CjRows *rows, int columns)
{
	List *names = NIL;

	for (uint64 row = 0; row < rows->processed; row++)
	{
		for (int column = 1; column <= columns; column++)
			names = lappend(names, cj_sql_text(rows, row, column));
	}
	cj_sql_free(rows);
	return names;
}

List *
cj_stats_view_registered(void)
{
	CjRows rows = cj_sql_run_own(&load_names, NULL);

	return read_names(&rows, 1);
}

/* run_for_names runs a statement over names and the relations that they lead to, each once. */
static CjRows
run_for_names(const CjStatement *statement, List *names)
{
	Datum *texts = palloc(sizeof(Datum) * Max(list_length(names), 1));
	List *relids = NIL;
	int count = 0;
	ListCell *cell;

	foreach(cell, names)
	{
		Oid relid = find_relation(lfirst(cell));

		if (OidIsValid(relid) && list_member_oid(relids, relid))
			continue;
		relids = lappend_oid(relids, relid);
		texts[count++] = CStringGetTextDatum(lfirst(cell));
	}
	return cj_sql_run_own(statement,
						  CJ_PARAMS(CJ_ARRAY(TEXTOID, cj_sql_array(texts, count, TEXTOID)),
									CJ_ARRAY(OIDOID, cj_sql_oids(relids))));
}

List *
cj_stats_view_order(List *names)
{
	CjRows rows;

	/* the query takes longer than all else about a view that has not changed */
	if (list_length(names) < 2)
		return list_copy(names);
	rows = run_for_names(&order_names, names);
	return read_names(&rows, 1);
}

List *
cj_stats_view_missing(List *names)
{
	CjRows rows = run_for_names(&find_missing, names);

	return read_names(&rows, 2);
}

/* ---- what they are ---- */

/* describe describes a relation; false if there is none. */
static bool
describe(Oid relid, const char *name, CjStatsView *view)
{
	FormData_pg_class form;

	if (!cj_catalog_class(relid, &form))
		return false;
	view->name = name;
	view->relid = relid;
	view->schema = form.relnamespace;
	view->owner = form.relowner;
	view->relkind = form.relkind;
	view->is_populated = form.relispopulated;
	view->has_unique_index = cj_unique_index_exists(relid);
	return true;
}

bool
cj_stats_view_describe(const char *name, CjStatsView *view)
{
	return describe(find_relation(name), name, view);
}

List *
cj_stats_view_locks(const CjStatsView *view, LOCKMODE lock_mode, LOCKMODE tables)
{
	List *locks = cj_relation_locks_add(NIL, view->relid, lock_mode);

	return cj_relation_locks_add_read(locks, view->relid, tables, view->owner);
}

/* ---- add and remove ---- */

/* open_as_caller opens the relation that the caller means by a name; NULL if there is none. */
static Relation
open_as_caller(const char *name)
{
	RangeVar *range = makeRangeVarFromNameList(cj_compat_parse_name(name));
	Oid relid = RangeVarGetRelid(range, AccessShareLock, true);

	return OidIsValid(relid) ? relation_open(relid, NoLock) : NULL;
}

static void
check_owner(Oid owner, const char *name, const char *what)
{
	/* it will be refreshed as its owner: that is for the owner to allow */
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of relation %s to %s", name, what),
						errhint("Run: SET ROLE %s;", quote_identifier(GetUserNameFromId(owner, false)))));
}

void
cj_stats_view_describe_as_caller(Oid relid, const char *what, CjStatsView *view)
{
	if (!describe(relid, NULL, view))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("Run: SELECT view_name FROM challenge_jobs.stats_view;")));
	view->name = cj_catalog_name(relid);
	check_owner(view->owner, view->name, what);
}

void
cj_stats_view_add(const char *name)
{
	Relation rel = open_as_caller(name);
	char *qualified;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("materialized view %s does not exist", name),
				 errhint("Fill in and run: SELECT challenge_jobs.add_stats_view('<schema>.<view>');")));
	qualified = cj_catalog_name(RelationGetRelid(rel));
	if (rel->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a materialized view", qualified),
				 errdetail("Only materialized views hold data that can be out of date."),
				 errhint("Fill in and run: SELECT challenge_jobs.add_stats_view('<schema>.<view>');")));
	check_owner(rel->rd_rel->relowner, qualified, "register it");
	if (cj_sql_execute_own(&add_name, CJ_PARAMS(CJ_TEXT(qualified))) == 0)
		ereport(NOTICE, (errmsg("materialized view %s is already registered", qualified)));
	relation_close(rel, NoLock);
}

/* canonical_name returns a qualified name as it is stored; others as they are. */
static const char *
canonical_name(const char *name)
{
	RangeVar *range = parse_name(name);

	return range ? quote_qualified_identifier(range->schemaname, range->relname) : name;
}

void
cj_stats_view_register(const char *name)
{
	cj_sql_execute_own(&add_name, CJ_PARAMS(CJ_TEXT(name)));
}

const char *
cj_stats_view_remove(const char *name)
{
	Relation rel = open_as_caller(name);
	const char *qualified = rel ? cj_catalog_name(RelationGetRelid(rel)) : canonical_name(name);

	if (rel)
	{
		check_owner(rel->rd_rel->relowner, qualified, "remove it");
		relation_close(rel, NoLock);
	}
	if (cj_sql_execute_own(&remove_name, CJ_PARAMS(CJ_TEXT(qualified), CJ_TEXT(name))) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s is not registered", qualified),
				 errhint("Run: SELECT view_name FROM challenge_jobs.stats_view;")));
	return qualified;
}
