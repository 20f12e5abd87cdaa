/* jobs/cleanup_scope.h: the bound notifications, or a part of them, as the clean-up sees them in one transaction. */
#ifndef CJ_JOBS_CLEANUP_SCOPE_H
#define CJ_JOBS_CLEANUP_SCOPE_H

#include "base/identity.h"
#include "base/sql.h"
#include "run/job.h"

/* How long a type of notifications is kept. */
typedef struct CjTypeExpiry
{
	char *type;
	TimestampTz created_before;
} CjTypeExpiry;

/*
 * What is expired: created, or to expire, before a moment. Local times are read in the zone. A moment of
 * minus infinity: never.
 */
typedef struct CjExpiry
{
	TimestampTz created_before; /* what is of none of the types below */
	TimestampTz expires_before;
	char *time_zone;
	CjTypeExpiry *types;
	int type_count;            /* 0: all types alike */
	bool unread_differs;       /* what is unread is kept longer */
	TimestampTz unread_before; /* and expired if created before this as well */
} CjExpiry;

/* The columns by which a notification is expired: created_at, and expires_at if the app has it. */
#define CJ_EXPIRY_COLUMNS 2

typedef struct CjExpiredScope
{
	CjBinding *binding; /* in which the part stands for notifications */
	Oid bound_types[CJ_EXPIRY_COLUMNS];
	Datum bounds[CJ_EXPIRY_COLUMNS]; /* of created_at: the latest of those of all types */

	/* types that have their own bound of created_at, that of the others, and that of what is unread */
	int type_count;
	Datum *types;
	Datum *type_bounds;
	Datum other_bound;
	Datum unread_bound;
	CjIdentity identity;
} CjExpiredScope;

/*
 * In a statement, the condition under which a notification is expired by its age: $1 the bound of created_at,
 * $3 types with the bounds $4, $5 the bound of other types, $6 that of what is unread. The columns are there
 * only where the settings use them.
 */
#define CJ_IS_UNREAD_EXPIRED                                              \
	"{?notifications.is_read} AND (n.{notifications.is_read}"             \
	" OR n.{notifications.created_at} OPERATOR(pg_catalog.<) $6){/}"      \
	"{?notifications.read_at} AND (n.{notifications.read_at} IS NOT NULL" \
	" OR n.{notifications.created_at} OPERATOR(pg_catalog.<) $6){/}"
#define CJ_BOUND_OF_TYPE(type) \
	"COALESCE(($4)[pg_catalog.array_position($3, " type "{notifications.type~})], $5)"
#define CJ_IS_OLD                                                                   \
	"(n.{notifications.created_at} OPERATOR(pg_catalog.<) $1"                       \
	"{?notifications.type} AND n.{notifications.created_at} OPERATOR(pg_catalog.<)" \
	" " CJ_BOUND_OF_TYPE("n.{notifications.type}") "{/}" CJ_IS_UNREAD_EXPIRED ")"

/* The condition under which it is expired; $2 the bound of expires_at. */
#define CJ_IS_EXPIRED                           \
	"(" CJ_IS_OLD "{?notifications.expires_at}" \
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

/* Raises undefined_column if no column says what is read. */
extern void cj_cleanup_scope_check_read(const CjBinding *binding);

/* Makes the parameters $1 to $6 as above; those of a statement follow. */
extern CjParams *cj_cleanup_scope_params(const CjExpiredScope *scope);

/*
 * Has the planner use addresses (ranges of them), or an index without sorting, until the scope is left. For
 * statements that call no code of the app: its plans must not be made like this.
 */
extern void cj_cleanup_scope_leave_no_choice(bool by_index);

#endif /* CJ_JOBS_CLEANUP_SCOPE_H */
