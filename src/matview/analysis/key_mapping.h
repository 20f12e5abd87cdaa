/*
 * matview/analysis/key_mapping.h
 *		How a changed row of what a view reads leads to keys of the view.
 *
 * Reads the catalogs: needs a transaction, no SPI.
 */
#ifndef CJ_MATVIEW_ANALYSIS_KEY_MAPPING_H
#define CJ_MATVIEW_ANALYSIS_KEY_MAPPING_H

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

typedef enum CjRouteKind
{
	CJ_ROUTE_DIRECT,  /* the key is a value of the row */
	CJ_ROUTE_THROUGH, /* the keys are in rows of another table that have a value of the row */
	CJ_ROUTE_COARSE   /* nothing is known: any change of the table may concern any key */
} CjRouteKind;

/*
 * A way from a row, as it was and as it is, to the keys whose rows of the view may have changed with it.
 * The column noted is of the type that it is compared with, but for domains, and varchar for text.
 */
typedef struct CjRoute
{
	CjRouteKind kind;
	AttrNumber column; /* direct, through: the column of the source whose value is noted */
	Oid through;       /* through: the table whose rows with through_column = that value … */
	AttrNumber through_column;
	AttrNumber through_key; /* … have the keys in this column */
	bool
		null_is_key; /* a NULL as key stands for rows of the view whose key is NULL; false: for none */
	char *reason;    /* coarse: why, as a part of a sentence */
} CjRoute;

typedef struct CjViewSource
{
	Oid relid;  /* a table; of a partitioned table the root that the view names */
	char *name; /* schema-qualified, quoted where needed */
	Bitmapset *
		columns; /* numbers of the columns that the view reads anywhere; NULL: none, rows alone count */
	List
		*routes; /* of CjRoute *: each distinct one once, at least one; a coarse one stands alone */
} CjViewSource;

typedef struct CjViewAnalysis
{
	Oid relid;
	AttrNumber key; /* of the view */
	Oid key_type;
	const char *
		refusal; /* NULL: the view can be tracked; else why not, a sentence that names the culprit */
	const char *remedy; /* with a refusal: what to type or do, or NULL */
	List *sources;      /* of CjViewSource *, in the order of their names */
	List *views;        /* OIDs of the plain views that it reads, at any depth */
	List *functions;    /* OIDs of functions that it calls and that are not PostgreSQL's own */
} CjViewAnalysis;

/*
 * Analyses the definition of a view whose rows are to be refreshed by the values of a column. The caller
 * holds at least AccessShareLock on the view; what it reads is locked in that mode until the end of the
 * transaction. The result is palloc'd in the current memory context. With a refusal only relid, key and
 * key_type are certain besides it.
 */
extern CjViewAnalysis *cj_key_mapping_make(Oid view, const char *key);

/* Describes a route: source, column_name, route, through, reason; a text, or NULL for none. */
#define CJ_ROUTE_TEXTS 5
extern void cj_key_mapping_describe_route(const CjViewSource *source, const CjRoute *route,
										  const char *texts[CJ_ROUTE_TEXTS]);

#endif /* CJ_MATVIEW_ANALYSIS_KEY_MAPPING_H */
