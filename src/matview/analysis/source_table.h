/*
 * matview/analysis/source_table.h
 *		Whether row triggers see all that happens to a table.
 *
 * Reads the catalogs: needs a transaction. Results are palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_ANALYSIS_SOURCE_TABLE_H
#define CJ_MATVIEW_ANALYSIS_SOURCE_TABLE_H

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "utils/relcache.h"

/*
 * Returns whether a relation can be a source of a tracked view; if not, *refusal is the reason, a sentence,
 * and *hint what to do about it, or NULL. Locks partitions.
 */
extern bool cj_source_table_allow(Relation rel, const char **refusal, const char **hint);

/*
 * Adds the number of a column of a table to a set, or the numbers of all columns for 0; false, with
 * *refusal and *hint as above, if triggers do not see its value.
 */
extern bool cj_source_table_note_column(Oid relid, AttrNumber attno, Bitmapset **columns,
										const char **refusal, const char **hint);

#endif /* CJ_MATVIEW_ANALYSIS_SOURCE_TABLE_H */
