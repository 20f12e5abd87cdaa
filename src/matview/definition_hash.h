/*
 * matview/definition_hash.h
 *		What the rows of a tracked view depend on and no row trigger sees: a number that stands for it.
 *
 * If it is another one than when the view was last brought up to date, something may have happened that the change
 * log does not tell of, and the view has to be recomputed as a whole.
 */
#ifndef CJ_MATVIEW_DEFINITION_HASH_H
#define CJ_MATVIEW_DEFINITION_HASH_H

#include "matview/analysis/key_mapping.h"

/*
 * Returns the hash of a view as the catalogs are now; `complete` says whether all changes are being noted:
 * whether all sources have their triggers. To be made before the snapshot is taken as of which the view is brought up to
 * date: what happens in between is then noticed the next time. Locks the partitions of the sources (ACCESS SHARE).
 */
extern int64 cj_definition_hash_make(const CjViewAnalysis *analysis, const char *time_zone,
									 bool *complete);

#endif /* CJ_MATVIEW_DEFINITION_HASH_H */
