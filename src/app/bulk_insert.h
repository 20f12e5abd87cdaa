/* app/bulk_insert.h: inserting many rows into a table of the app, where that cannot be told from INSERT … SELECT. */
#ifndef CJ_APP_BULK_INSERT_H
#define CJ_APP_BULK_INSERT_H

#include "access/attnum.h"

#include "base/sql.h"

/*
 * Inserts what a query gives into some columns of a table, in this order, and sets *inserted to the number of rows. Returns
 * false, with nothing inserted, where INSERT … SELECT could do something else, or would fail on a foreign key. `text` is the
 * query expanded. The caller has become the owner of the table, and has it locked with ROW EXCLUSIVE.
 */
extern bool cj_bulk_insert(Oid table, const AttrNumber *columns, int count,
						   const CjStatement *query, const char *text, CjParams *params,
						   uint64 *inserted);

#endif /* CJ_APP_BULK_INSERT_H */
