/*
 * matview/capture/capture_trigger.h
 *		The triggers by which the changes of a table are noted: made, found, dropped.
 *
 * A table has them once, however many tracked views are made of it. They fire always (also for what logical replication
 * applies), carry no rights, and go with the extension.
 */
#ifndef CJ_MATVIEW_CAPTURE_CAPTURE_TRIGGER_H
#define CJ_MATVIEW_CAPTURE_CAPTURE_TRIGGER_H

#include "utils/rel.h"

/*
 * Locks a table and its partitions so that nobody writes until the end of the transaction, and sees to it that
 * they have the triggers, as the owner of the table. Raises insufficient_privilege, lock_not_available, and whatever
 * CREATE TRIGGER raises.
 */
extern void cj_capture_trigger_create(Oid relid);

/* Drops the triggers of a table, if it has any. Locks it against readers as well. */
extern void cj_capture_trigger_drop(Oid relid);

/*
 * Returns the OIDs of the triggers of an open table that note its changes as they should; `complete` says whether
 * they note all changes: of rows, and, if it is a source itself and no partition of it, its truncation.
 */
extern List *cj_capture_trigger_find(Relation rel, bool is_source, bool *complete);

#endif /* CJ_MATVIEW_CAPTURE_CAPTURE_TRIGGER_H */
