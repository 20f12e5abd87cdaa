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
typedef struct CjTrackedSource
{
	Oid view;
	Oid source; /* the root, where it is partitioned */
	int16
		key_path; /* CJ_CHANGE_KEY: `column` is the key; CJ_CHANGE_EVERYTHING: whole-view; else a number */
	AttrNumber column; /* of the source: its value is noted; 0: whole-view */
	List *columns;     /* of the source, as integers: those that the view reads */
	Oid via;           /* a number: table in which rows with that value in … */
	AttrNumber via_column;
	AttrNumber via_key; /* … have the keys of the view here */
	const char *reason; /* whole-view: why */
} CjTrackedSource;

/* Returns the key paths (CjTrackedSource *) of all views from a table, or those of a view from all tables. */
extern List *cj_source_catalog_of_table(Oid source);
extern List *cj_source_catalog_of_view(Oid view);

/* Stores a key path; removes all key paths of a view. Writers to the source have to be notified, too. */
extern void cj_source_catalog_add(const CjTrackedSource *source);
extern void cj_source_catalog_remove(Oid view);

/* Compares two lists of key paths of a view, in whatever order. */
extern bool cj_source_catalog_same(List *key_paths, List *others);

#endif /* CJ_MATVIEW_CAPTURE_SOURCE_CATALOG_H */
