/*
 * app/notifications.h
 *		Inserting notifications: the one place that says which columns of the app's table are written.
 */
#ifndef CJ_APP_NOTIFICATIONS_H
#define CJ_APP_NOTIFICATIONS_H

#include "app/binding.h"
#include "base/sql.h"

/*
 * Inserts what a query gives: user_id, and after it those that the app's table has of type, title, body, data, created_at,
 * expires_at, in this order. Returns how many rows were inserted. The caller has become the owner of the tables.
 */
extern uint64 cj_notifications_insert(const CjBinding *binding, const CjStatement *query,
									  CjParams *params);

#endif /* CJ_APP_NOTIFICATIONS_H */
