/*
 * binding.h
 *		Which tables, columns and values of the app stand for our entities, columns and labels.
 *
 * The caller is connected to SPI and in a transaction. Results are palloc'd in the current memory
 * context and are valid for this transaction: the tables stay locked until it ends.
 */
#ifndef CJ_BINDING_H
#define CJ_BINDING_H

#include "access/attnum.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/jsonb.h"

typedef enum CjEntity
{
	CJ_CHALLENGES,
	CJ_CHALLENGE_MEMBERS,
	CJ_CHALLENGE_MEMBER_STATS,
	CJ_NOTIFICATIONS,
	CJ_USERS
} CjEntity;

#define CJ_ENTITY_COUNT (CJ_USERS + 1)

/* Columns of each entity, in the order of the table in binding.c. */
enum
{
	CJ_CHALLENGES_ID,
	CJ_CHALLENGES_STATUS,
	CJ_CHALLENGES_END_DATE,
	CJ_CHALLENGES_NAME
};

enum
{
	CJ_MEMBERS_CHALLENGE_ID,
	CJ_MEMBERS_USER_ID,
	CJ_MEMBERS_STATUS,
	CJ_MEMBERS_CURRENT_STREAK,
	CJ_MEMBERS_LAST_CHECKIN_AT
};

enum
{
	CJ_STATS_CHALLENGE_ID,
	CJ_STATS_COMPLETION_RATE,
	CJ_STATS_USER_ID
};

enum
{
	CJ_NOTIFICATIONS_USER_ID,
	CJ_NOTIFICATIONS_TYPE,
	CJ_NOTIFICATIONS_TITLE,
	CJ_NOTIFICATIONS_BODY,
	CJ_NOTIFICATIONS_DATA,
	CJ_NOTIFICATIONS_CREATED_AT,
	CJ_NOTIFICATIONS_EXPIRES_AT
};

enum
{
	CJ_USERS_ID,
	CJ_USERS_TIMEZONE
};

#define CJ_MAX_COLUMNS 8
#define CJ_MAX_LABELS  4

/* Labels of each entity, in the order of the table in binding.c. */
enum
{
	CJ_CHALLENGES_ACTIVE,
	CJ_CHALLENGES_COMPLETED,
	CJ_CHALLENGES_FAILED
};

enum
{
	CJ_NOTIFICATIONS_CHALLENGE_COMPLETED,
	CJ_NOTIFICATIONS_STREAK_REMINDER
};

/* One bit a column or label of the entity. */
#define CJ_BIT(n) (1u << (n))

/* What a job uses of an entity. */
typedef struct CjUsage
{
	CjEntity entity;
	uint32 columns;     /* CJ_BIT(CJ_…) of the columns */
	uint32 labels;      /* CJ_BIT(CJ_…) of the labels */
	LOCKMODE lock_mode; /* AccessShareLock to read, RowExclusiveLock to write */
} CjUsage;

typedef struct CjBoundColumn
{
	bool present;
	char *name; /* as in the catalog, not quoted */
	AttrNumber number;
	Oid type;
	Oid base_type; /* of a domain, else the type itself */
	int32 typmod;
	Oid collation; /* or invalid */
	bool has_default;
} CjBoundColumn;

typedef struct CjBoundEntity
{
	bool used;
	char *relation; /* schema-qualified, quoted where needed */
	Oid relid;
	char relkind;
	Oid owner;
	bool is_populated; /* false: a materialized view without data */
	CjBoundColumn columns[CJ_MAX_COLUMNS];
	char *labels[CJ_MAX_LABELS];
	bool is_bound; /* there is a row for it in challenge_jobs.binding */
} CjBoundEntity;

typedef struct CjBinding
{
	CjBoundEntity entities[CJ_ENTITY_COUNT];
	Oid owner;         /* of all tables used */
	char *search_path; /* for statements over them, without pg_temp */
} CjBinding;

/*
 * Resolves and checks what a job uses: `usage` has `count` items. Locks the tables. Raises
 * undefined_table, undefined_column, wrong_object_type, datatype_mismatch, insufficient_privilege
 * (tables of different owners, FORCE ROW LEVEL SECURITY), undefined_object (an enum without the
 * label), each with the statement that would mend it as a hint; lock_not_available.
 */
extern CjBinding *cj_binding_resolve(const CjUsage *usage, int count);

/*
 * Binds an entity. The relation's name is resolved with the caller's search_path, and the caller
 * must have the rights of its owner. NULL for columns or labels: the default names. Raises what
 * cj_binding_resolve does and invalid_parameter_value for an unknown entity, column or label.
 */
extern void cj_binding_bind(const char *entity, const char *relation, Jsonb *columns,
							Jsonb *labels);

/* Removes a binding; raises invalid_parameter_value for an unknown entity. */
extern void cj_binding_unbind(const char *entity);

/* Returns the equality operator of a type's default btree operator class: schema and name. */
extern List *cj_binding_equality(Oid type);

/* Names, for statements and messages. */
extern const char *cj_binding_entity_name(CjEntity entity);

/* Return the position of a name, or -1. */
extern int cj_binding_find_entity(const char *name, int len);
extern int cj_binding_find_column(CjEntity entity, const char *name, int len);
extern int cj_binding_find_label(CjEntity entity, const char *name, int len);

#endif /* CJ_BINDING_H */
