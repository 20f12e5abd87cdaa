/*
 * matview/capture/change_log.h
 *		The change log: which keys of which tracked views have to be recomputed.
 *
 * A row is written in the transaction that changes a source of a view, and deleted in the one that
 * brings the view up to date: what is rolled back, prepared, crashed or promoted needs no thought. There
 * is no index: rows are appended and read in one go.
 */
#ifndef CJ_MATVIEW_CAPTURE_CHANGE_LOG_H
#define CJ_MATVIEW_CAPTURE_CHANGE_LOG_H

#include "utils/snapshot.h"

/* What a row of the log says: the number of a key path, or one of these. */
#define CJ_CHANGE_KEY 0 /* the key bytes are those of a key of the view */
#define CJ_CHANGE_EVERYTHING \
	(-1) /* any row of the view may be another one; there are no key bytes */

/* Returns the OID of the table of this name in the extension's schema; InvalidOid: there is none. */
extern Oid cj_change_log_table(const char *name);

/*
 * Appends a row: a view, a key path, and the key bytes of a value (bytes is NULL: the value is null, or there is none).
 * `log` is the OID of the table. Takes no permission, as whoever changes a source has none.
 */
extern void cj_change_log_append(Oid log, Oid view, int16 key_path, const char *bytes, Size length);

/* Is given the rows; bytes is NULL where there are no key bytes. */
typedef void (*CjChangeReader)(int16 key_path, const char *bytes, Size length, void *arg);

/* Returns whether there is a row of a view, as of a snapshot. */
extern bool cj_change_log_has(Oid view, Snapshot snapshot);

/* Gives the rows of a view that a snapshot sees to the reader. */
extern void cj_change_log_read(Oid view, Snapshot snapshot, CjChangeReader reader, void *arg);

/*
 * Deletes the rows of a view that a snapshot sees, and gives each to the reader (NULL: to nobody). The caller
 * holds a lock on the view that keeps others from doing the same.
 */
extern void cj_change_log_take(Oid view, Snapshot snapshot, CjChangeReader reader, void *arg);

#endif /* CJ_MATVIEW_CAPTURE_CHANGE_LOG_H */
