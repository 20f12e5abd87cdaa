/*
 * compat.h
 *		What differs between the majors of PostgreSQL that we build on (15 to 18).
 *
 * The only file that may look at PG_VERSION_NUM: everywhere else the code is written for one API.
 */
#ifndef CJ_COMPAT_H
#define CJ_COMPAT_H

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

#endif /* CJ_COMPAT_H */
