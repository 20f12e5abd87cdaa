/* matview/capture/change_capture.h: noting the keys of changed rows: the trigger on the sources of tracked views. */
#ifndef CJ_MATVIEW_CAPTURE_CHANGE_CAPTURE_H
#define CJ_MATVIEW_CAPTURE_CHANGE_CAPTURE_H

#include "commands/trigger.h"

/*
 * What the trigger does: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, or AFTER TRUNCATE FOR EACH STATEMENT. On a
 * table that no tracked view is made of it does nothing. Raises trigger_protocol_violated for other events.
 */
extern void cj_change_capture_note(TriggerData *trigger);

/*
 * Forgets what this transaction has noted. To be called when rows of the change log have been taken out: they may be
 * its own, and what it changes from here on has to be noted anew.
 */
extern void cj_change_capture_forget(void);

/* Has all sessions look up the key paths of a table again once this transaction is committed. */
extern void cj_change_capture_invalidate(Oid source);

/* Registers the callbacks. */
extern void cj_change_capture_init(void);

#endif /* CJ_MATVIEW_CAPTURE_CHANGE_CAPTURE_H */
