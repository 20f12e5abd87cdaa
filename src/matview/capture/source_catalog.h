/*
 * matview/capture/source_catalog.h
 *		Which tables tracked views are made of, and how their changes lead to keys: the table
 *		challenge_jobs.tracked_source.
 *
 * Needs a transaction, takes no permission. Results are palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_CAPTURE_SOURCE_CATALOG_H
#define CJ_MATVIEW_CAPTURE_SOURCE_CATALOG_H

#include "nodes/pg_list.h"

/* A key path from a source to the keys of a view. */
typedef struct CjStoredKeyPath
{
	Oid view;
	Oid source; /* the root, where it is partitioned */
	/* CJ_CHANGE_KEY: `column` is the key; CJ_CHANGE_EVERYTHING: whole-view; above 0: one through another table */
	int16 number;
	AttrNumber column; /* of the source: its value is noted; 0: whole-view */
	List *columns;     /* of the source, as integers: those that the view reads */
	Oid via;           /* above 0: the table in which rows with that value in … */
	AttrNumber via_column;
	AttrNumber via_key; /* … have the keys of the view here */
	const char *reason; /* whole-view: why */
} CjStoredKeyPath;

/* Returns the key paths (CjStoredKeyPath *) of all views from a table, or those of a view from all tables. */
extern List *cj_source_catalog_of_table(Oid source);
extern List *cj_source_catalog_of_view(Oid view);

/* Stores a key path; removes all key paths of a view. Writers to the source have to be notified, too. */
extern void cj_source_catalog_add(const CjStoredKeyPath *key_path);
extern void cj_source_catalog_remove(Oid view);

/* Compares two lists of key paths of a view, in whatever order. */
extern bool cj_source_catalog_same(List *key_paths, List *others);

#endif /* CJ_MATVIEW_CAPTURE_SOURCE_CATALOG_H */
