/* app/notifications.h: inserting notifications: the one place that says which columns of the app's table are written. */
#ifndef CJ_APP_NOTIFICATIONS_H
#define CJ_APP_NOTIFICATIONS_H

#include "lib/stringinfo.h"

#include "app/binding.h"
#include "base/sql.h"

/* The setting "insert": NULL-terminated. */
extern const char *const cj_notifications_insert_methods[];

/* How rows may be inserted, and how they were. */
typedef struct CjInsertMethod
{
	bool may_be_bulk;
	bool was_bulk;
	bool was_plain;
} CjInsertMethod;

/*
 * Inserts what a query gives: user_id, and after it those that the app's table has of type, title, body, data, created_at,
 * expires_at, in this order. Returns how many rows were inserted. The caller has become the owner of the tables.
 */
extern uint64 cj_notifications_insert(const CjBinding *binding, const CjStatement *query,
									  CjParams *params, CjInsertMethod *method);

/* Puts the method into the result of a run, if anything was inserted. */
extern void cj_notifications_report(const CjInsertMethod *method, StringInfo result);

#endif /* CJ_APP_NOTIFICATIONS_H */
