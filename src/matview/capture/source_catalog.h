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

/* A route from a source to the keys of a view. */
typedef struct CjTrackedSource
{
	Oid view;
	Oid source; /* the root, where it is partitioned */
	int16
		route; /* CJ_CHANGE_KEY: `column` is the key; CJ_CHANGE_EVERYTHING: coarse; else a number */
	AttrNumber column; /* of the source: its value is noted; 0: coarse */
	List *columns;     /* of the source, as integers: those that the view reads */
	Oid through;       /* a number: table in which rows with that value in … */
	AttrNumber through_column;
	AttrNumber through_key; /* … have the keys of the view here */
	const char *reason;     /* coarse: why */
} CjTrackedSource;

/* Returns the routes (CjTrackedSource *) of all views from a table, or those of a view from all tables. */
extern List *cj_source_catalog_of_table(Oid source);
extern List *cj_source_catalog_of_view(Oid view);

/* Stores a route; removes all routes of a view. Those who write to the source have to be told, too. */
extern void cj_source_catalog_add(const CjTrackedSource *source);
extern void cj_source_catalog_remove(Oid view);

/* Tells two lists of routes of a view apart, in whatever order. */
extern bool cj_source_catalog_same(List *routes, List *others);

#endif /* CJ_MATVIEW_CAPTURE_SOURCE_CATALOG_H */
