/*
 * app/binding.h
 *		Which tables, columns and values of the app stand for our entities, columns and labels.
 *
 * The caller is connected to SPI and in a transaction. Results are palloc'd in the current memory
 * context and are valid for this transaction: the tables stay locked until it ends.
 */
#ifndef CJ_APP_BINDING_H
#define CJ_APP_BINDING_H

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "app/bound_table.h"

/* What a job uses of an entity. */
typedef struct CjUsage
{
	CjEntity entity;
	uint32 columns;      /* CJ_BIT(CJ_…) of the columns */
	uint32 labels;       /* CJ_BIT(CJ_…) of the labels */
	LOCKMODE lock_mode;  /* AccessShareLock to read, RowExclusiveLock to write */
	AclMode privileges;  /* ACL_SELECT | …: what the owner needs */
	uint32 required;     /* of `columns`: optional ones that this job cannot do without */
	bool only_to_cancel; /* used only where the label "cancelled" of challenges is bound */
} CjUsage;

typedef struct CjBinding
{
	CjBoundEntity entities[CJ_ENTITY_COUNT];
	Oid owner;         /* of all tables used */
	char *search_path; /* for statements over them, without pg_temp */
} CjBinding;

/*
 * Resolves and checks what a job uses: `usage` has `count` items. Locks the tables. Raises
 * undefined_table, undefined_column, wrong_object_type, datatype_mismatch, insufficient_privilege
 * (tables of different owners, FORCE ROW LEVEL SECURITY, an owner without a privilege), undefined_object
 * (an enum without the label), each with the statement that would mend it as a hint; lock_not_available.
 */
extern CjBinding *cj_binding_resolve(const CjUsage *usage, int count);

/* What is stored of a binding: nothing of it is checked. */
typedef struct CjBoundNames
{
	bool is_bound;                 /* else these are the default names */
	char *relation;                /* schema-qualified, quoted where needed */
	char *columns[CJ_MAX_COLUMNS]; /* as in the catalog, not quoted; NULL: not to be used */
} CjBoundNames;

/* Returns what is stored of an entity's binding, without looking at the relation. */
extern CjBoundNames cj_binding_names(CjEntity entity);

/* Leaves a column to the default that the table has for it, if it has one: then it is not written. */
extern void cj_binding_leave_to_default(CjBinding *binding, CjEntity entity, int column);

/*
 * Binds an entity. The relation's name is resolved with the caller's search_path, and the caller
 * must have the rights of its owner. NULL for columns or labels: the default names. Raises what
 * cj_binding_resolve does and invalid_parameter_value for an unknown entity, column or label.
 */
extern void cj_binding_bind(const char *entity, const char *relation, Jsonb *columns,
							Jsonb *labels);

/*
 * Removes a binding. The caller must have the rights of the owner of the table bound so far, if it is
 * still there. Raises insufficient_privilege, invalid_parameter_value for an unknown entity.
 */
extern void cj_binding_unbind(const char *entity);

#endif /* CJ_APP_BINDING_H */
