/*
 * matview/apply/tid_set.h
 *		A set of addresses of rows: a few bits for each, where they lie close together.
 *
 * Pure: no SPI, no catalog access.
 */
#ifndef CJ_MATVIEW_APPLY_TID_SET_H
#define CJ_MATVIEW_APPLY_TID_SET_H

#include "storage/itemptr.h"

typedef struct CjRowSet CjRowSet;

/* Makes an empty set; all of it lives in that memory context. */
extern CjRowSet *cj_tid_set_make(MemoryContext memory);

/* Adds an address; false: it was there already. */
extern bool cj_tid_set_add(CjRowSet *set, ItemPointer address);

#endif /* CJ_MATVIEW_APPLY_TID_SET_H */
