/*
 * base/compat.h
 *		What differs between the majors of PostgreSQL that we build on (15 to 18).
 *
 * The only file that may look at PG_VERSION_NUM: everywhere else the code is written for one API.
 */
#ifndef CJ_BASE_COMPAT_H
#define CJ_BASE_COMPAT_H

#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/regproc.h"

/* Whether a role may SET ROLE to another; before 16 that is plain membership. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_can_set_role(member, role) member_can_set_role(member, role)
#else
#define cj_compat_can_set_role(member, role) is_member_of_role(member, role)
#endif

/* Whether a role has USAGE on a schema. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_schema_usage(schema, role) \
	(object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK)
#else
#define cj_compat_schema_usage(schema, role) \
	(pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK)
#endif

/* Whether a role may make temporary tables in a database. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_may_create_temporary(database, role) \
	(object_aclcheck(DatabaseRelationId, database, role, ACL_CREATE_TEMP) == ACLCHECK_OK)
#else
#define cj_compat_may_create_temporary(database, role) \
	(pg_database_aclcheck(database, role, ACL_CREATE_TEMP) == ACLCHECK_OK)
#endif

/* Whether REFRESH MATERIALIZED VIEW looks names up by a search_path of its own, whatever ours is. */
#define CJ_COMPAT_REFRESH_HAS_OWN_PATH (PG_VERSION_NUM >= 170000)

/* Has a background worker connect as a role that may not log in; 0 where there is no such flag. */
#if PG_VERSION_NUM >= 170000
#define CJ_COMPAT_BYPASS_LOGIN_CHECK BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define CJ_COMPAT_BYPASS_LOGIN_CHECK 0
#endif

/* Takes a qualified name apart; raises invalid_name. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_parse_name(name) stringToQualifiedNameList(name, NULL)
#else
#define cj_compat_parse_name(name) stringToQualifiedNameList(name)
#endif

/*
 * Takes the permissions away that a query of a single relation asks for, where something else is put in the
 * relation's place.
 */
#if PG_VERSION_NUM >= 160000
#define cj_compat_forget_permissions(query, entry) \
	((query)->rteperminfos = NIL, (entry)->perminfoindex = 0)
#else
#define cj_compat_forget_permissions(query, entry) \
	((entry)->requiredPerms = 0, (entry)->checkAsUser = InvalidOid, (entry)->selectedCols = NULL)
#endif

/* Runs a query to its end; before 18 it is said that it runs once. */
#if PG_VERSION_NUM >= 180000
#define cj_compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0)
#else
#define cj_compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0, true)
#endif

/* Updates a row; returns which of the indexes need an entry for the new one. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CjCompatUpdateIndexes;
#define cj_compat_needs_entries(which) ((which) != TU_None)
#else
typedef bool CjCompatUpdateIndexes;
#define cj_compat_needs_entries(which) (which)
#endif

/* Inserts index entries; from 16 on an update may be one of columns of summarizing indexes only. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_insert_entries(indexes, slot, estate) \
	((void) ExecInsertIndexTuples(indexes, slot, estate, false, false, NULL, NIL, false))
#define cj_compat_update_entries(indexes, slot, estate, which)                   \
	((void) ExecInsertIndexTuples(indexes, slot, estate, true, false, NULL, NIL, \
								  (which) == TU_Summarizing))
#else
#define cj_compat_insert_entries(indexes, slot, estate) \
	((void) ExecInsertIndexTuples(indexes, slot, estate, false, false, NULL, NIL))
#define cj_compat_update_entries(indexes, slot, estate, which) \
	((void) ExecInsertIndexTuples(indexes, slot, estate, true, false, NULL, NIL))
#endif

/* Returns whether this transaction has made the file of a relation. */
#if PG_VERSION_NUM >= 160000
#define cj_compat_file_is_new(rel)                       \
	((rel)->rd_createSubid != InvalidSubTransactionId || \
	 (rel)->rd_newRelfilelocatorSubid != InvalidSubTransactionId)
#else
#define cj_compat_file_is_new(rel)                       \
	((rel)->rd_createSubid != InvalidSubTransactionId || \
	 (rel)->rd_newRelfilenodeSubid != InvalidSubTransactionId)
#endif

/* The expressions that the columns of an entry for GROUP BY stand for; NIL: it is another one. */
static inline List *
cj_compat_group_expressions(const RangeTblEntry *entry)
{
#if PG_VERSION_NUM >= 180000
	if (entry->rtekind == RTE_GROUP)
		return entry->groupexprs;
#endif
	return NIL;
}

#endif /* CJ_BASE_COMPAT_H */
