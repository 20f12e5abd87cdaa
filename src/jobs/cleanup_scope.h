/*
 * jobs/cleanup_scope.h
 *		The bound notifications, or a part of them, as the clean-up sees them in one transaction.
 */
#ifndef CJ_JOBS_CLEANUP_SCOPE_H
#define CJ_JOBS_CLEANUP_SCOPE_H

#include "base/identity.h"
#include "base/sql.h"
#include "run/job.h"

/* What is expired: created, or to expire, before a moment. Local times are read in the zone. */
typedef struct CjExpiry
{
	TimestampTz created_before;
	TimestampTz expires_before;
	char *time_zone;
} CjExpiry;

/* The columns by which a notification is expired: created_at, and expires_at if the app has it. */
#define CJ_EXPIRY_COLUMNS 2

typedef struct CjExpiredScope
{
	CjBinding *binding; /* in which the part stands for notifications */
	Oid bound_types[CJ_EXPIRY_COLUMNS];
	Datum bounds[CJ_EXPIRY_COLUMNS];
	CjIdentity identity;
} CjExpiredScope;

/* In a statement: the condition under which a notification is expired, with the bounds as $1 and $2. */
#define CJ_IS_EXPIRED                                         \
	"(n.{notifications.created_at} OPERATOR(pg_catalog.<) $1" \
	"{?notifications.expires_at}"                             \
	" OR n.{notifications.expires_at} OPERATOR(pg_catalog.<) $2{/})"

/* Nobody has locked or changed the row, as of the moment at which it is looked at. */
#define CJ_IS_UNTOUCHED "n.xmax OPERATOR(pg_catalog.=) '0'::pg_catalog.xid"

/*
 * Resolves and locks the bound table, or a part of it, in this transaction, and becomes its owner, until
 * cj_identity_restore(&scope->identity); `part` is invalid for the whole. Returns false, as nobody else, if
 * it is not a part of what is bound any more. Raises what cj_binding_resolve does, and
 * insufficient_privilege for a part that the owner of the whole may not delete from.
 */
extern bool cj_cleanup_scope_open(CjRun *run, const CjExpiry *expiry, Oid part, bool to_write,
								  CjExpiredScope *scope);

/* Makes parameters: the bounds, in the types of the columns. */
extern CjParams cj_cleanup_scope_params(const CjExpiredScope *scope);

/*
 * Has the planner use addresses (ranges of them), or an index without sorting, until the scope is left. For
 * statements that call no code of the app: its plans must not be made like this.
 */
extern void cj_cleanup_scope_leave_no_choice(bool by_index);

/* Returns whether a column of the two is there and to be used. */
extern bool cj_cleanup_scope_uses(const CjExpiredScope *scope, int i);

#endif /* CJ_JOBS_CLEANUP_SCOPE_H */
