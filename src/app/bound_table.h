/*
 * app/bound_table.h
 *		A table of the app that stands for an entity.
 *
 * No SPI. Needs a transaction; results are palloc'd in the current memory context.
 */
#ifndef CJ_APP_BOUND_TABLE_H
#define CJ_APP_BOUND_TABLE_H

#include "access/attnum.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "app/entity.h"

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
	bool is_candidate; /* it is there, and not used since bind() does not name it */
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
	bool is_bound;         /* there is a row for it in challenge_jobs.binding */
	char *bind_candidates; /* the call of bind() that names all candidates, or NULL */
	char *not_found;       /* optional columns that are looked for by name and not there, or NULL */
} CjBoundEntity;

/* A binding as it is stored, before it is looked at. */
typedef struct CjSource
{
	CjEntity entity;
	const char *relation; /* NULL: not bound */
	Jsonb *columns;       /* NULL: default names */
	Jsonb *labels;
} CjSource;

/*
 * Fills in an entity from an open relation: the columns and labels asked for, one bit each; `required`
 * are those that have to be there besides the entity's own required columns. Raises
 * wrong_object_type, undefined_column, datatype_mismatch, undefined_object (an enum without the label),
 * invalid_parameter_value, insufficient_privilege (FORCE ROW LEVEL SECURITY), each with the statement
 * that would mend it as a hint.
 */
extern void cj_bound_table_describe(const CjSource *source, Relation rel, uint32 columns,
									uint32 required, uint32 labels, CjBoundEntity *entity);

/* The first check of these alone: that the relation is of a kind that may be bound. */
extern void cj_bound_table_check_relation(const CjSource *source, Relation rel);

/* Returns as a hint the call of bind() for a source and a relation, with one column or label changed (NULL: none). */
extern char *cj_bound_table_hint(const CjSource *source, const char *relation, const char *changed,
								 const char *value);

/* Returns the text under a key of a source's columns or labels, or NULL; *is_null: it is a JSON null. */
extern char *cj_bound_table_text(Jsonb *object, const char *key, bool *is_null);

/*
 * Makes a value of the base type of a column out of a text of a setting. Raises undefined_object if that is an enum without
 * such a value.
 */
extern Datum cj_bound_table_setting_value(const char *setting, const CjBoundColumn *column,
										  char *text);

#endif /* CJ_APP_BOUND_TABLE_H */
