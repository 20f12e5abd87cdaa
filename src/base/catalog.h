/*
 * base/catalog.h
 *		What the catalogs say of relations and types.
 *
 * No SPI. Needs a transaction; results are palloc'd.
 */
#ifndef CJ_BASE_CATALOG_H
#define CJ_BASE_CATALOG_H

#include "catalog/pg_class.h"
#include "nodes/parsenodes.h"
#include "utils/rel.h"

/* Returns the schema-qualified, quoted name of a relation; its OID in digits if it is gone. */
extern char *cj_catalog_name(Oid relid);

/* Reads the row of a relation in pg_class; false if it is gone. */
extern bool cj_catalog_class(Oid relid, FormData_pg_class *form);

/* Return operators of a type's default btree operator class: schema and name; and its operator family. */
extern List *cj_catalog_equality(Oid type);
extern List *cj_catalog_greater(Oid type);
extern Oid cj_catalog_order(Oid type);

/* Returns a copy of the query that defines a view, materialized or not. */
extern Query *cj_catalog_view_definition(Relation view);

#endif /* CJ_BASE_CATALOG_H */
