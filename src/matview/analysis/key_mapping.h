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

typedef enum CjKeyPathKind
{
	CJ_KEY_PATH_DIRECT,    /* the key is a value of the row */
	CJ_KEY_PATH_VIA,       /* the keys are in rows of another table that have a value of the row */
	CJ_KEY_PATH_WHOLE_VIEW /* nothing is known: any change of the table may concern any key */
} CjKeyPathKind;

/*
 * A way from a row, as it was and as it is, to the keys whose rows of the view may have changed with it.
 * The column noted is of the type that it is compared with, but for domains, and varchar for text.
 */
typedef struct CjKeyPath
{
	CjKeyPathKind kind;
	AttrNumber column; /* direct, via: the column of the source whose value is noted */
	Oid via;           /* via: the table whose rows with via_column = that value … */
	AttrNumber via_column;
	AttrNumber via_key; /* … have the keys in this column */
	bool
		null_is_key; /* a NULL as key stands for rows of the view whose key is NULL; false: for none */
	char *reason;    /* whole-view: why, as a part of a sentence */
} CjKeyPath;

typedef struct CjViewSource
{
	Oid relid;  /* a table; of a partitioned table the root that the view names */
	char *name; /* schema-qualified, quoted where needed */
	Bitmapset *
		columns; /* numbers of the columns that the view reads anywhere; NULL: none, rows alone count */
	List *
		key_paths; /* of CjKeyPath *: each distinct one once, at least one; a whole-view one stands alone */
} CjViewSource;

typedef struct CjViewAnalysis
{
	Oid relid;
	AttrNumber key; /* of the view */
	Oid key_type;
	const char *
		refusal; /* NULL: the view can be tracked; else why not, a sentence that names the culprit */
	const char *hint; /* with a refusal: what to type or do, or NULL */
	List *sources;    /* of CjViewSource *, in the order of their names */
	List *views;      /* OIDs of the plain views that it reads, at any depth */
	List *functions;  /* OIDs of functions that it calls and that are not PostgreSQL's own */
} CjViewAnalysis;

/*
 * Analyses the definition of a view whose rows are to be refreshed by the values of a column. The caller
 * holds at least AccessShareLock on the view; what it reads is locked in that mode until the end of the
 * transaction. The result is palloc'd in the current memory context. With a refusal only relid, key and
 * key_type are certain besides it.
 */
extern CjViewAnalysis *cj_key_mapping_make(Oid view, const char *key);

/* Describes a key path: source, column_name, key_path, via_table, reason; a text, or NULL for none. */
#define CJ_KEY_PATH_TEXTS 5
extern void cj_key_mapping_describe_key_path(const CjViewSource *source, const CjKeyPath *key_path,
											 const char *texts[CJ_KEY_PATH_TEXTS]);

#endif /* CJ_MATVIEW_ANALYSIS_KEY_MAPPING_H */
