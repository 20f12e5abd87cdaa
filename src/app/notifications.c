/*
 * app/notifications.c
 *		Inserting notifications: the one place that says which columns of the app's table are written.
 */
#include "postgres.h"

#include "app/app_sql.h"
#include "app/notifications.h"

static const CjStatement columns = {"insert notifications",
									"INSERT INTO {notifications}\n"
									"       ({notifications.user_id}"
									"{?notifications.type}, {notifications.type}{/}"
									"{?notifications.title}, {notifications.title}{/}"
									"{?notifications.body}, {notifications.body}{/}"
									"{?notifications.data}, {notifications.data}{/}"
									"{?notifications.created_at}, {notifications.created_at}{/}"
									"{?notifications.expires_at}, {notifications.expires_at}{/})\n",
									SPI_OK_INSERT};

uint64
cj_notifications_insert(const CjBinding *binding, const CjStatement *query, CjParams *params)
{
	CjStatement insert = {query->name, psprintf("%s%s", columns.text, query->text),
						  columns.expected};

	return cj_app_sql_run(&insert, binding, NULL, params).processed;
}
