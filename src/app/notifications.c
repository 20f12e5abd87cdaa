/* app/notifications.c: inserting notifications: the one place that says which columns of the app's table are written. */
#include "postgres.h"

#include "app/app_sql.h"
#include "app/bulk_insert.h"
#include "app/notifications.h"
#include "base/json.h"

const char *const cj_notifications_insert_methods[] = {"auto", "plain", NULL};

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

/* insert_in_bulk does so if that cannot be told from the statement; else it does nothing and returns false. */
static bool
insert_in_bulk(const CjBinding *binding, const CjStatement *query, CjParams *params,
			   uint64 *inserted)
{
	static const int order[] = {CJ_NOTIFICATIONS_USER_ID,   CJ_NOTIFICATIONS_TYPE,
								CJ_NOTIFICATIONS_TITLE,     CJ_NOTIFICATIONS_BODY,
								CJ_NOTIFICATIONS_DATA,      CJ_NOTIFICATIONS_CREATED_AT,
								CJ_NOTIFICATIONS_EXPIRES_AT};
	const CjBoundEntity *notifications = &binding->entities[CJ_NOTIFICATIONS];
	AttrNumber numbers[lengthof(order)];
	int count = 0;

	for (int i = 0; i < lengthof(order); i++)
	{
		if (notifications->columns[order[i]].present)
			numbers[count++] = notifications->columns[order[i]].number;
	}
	return cj_bulk_insert(notifications->relid, numbers, count, query,
						  cj_app_sql_expand(query, binding, NULL), params, inserted);
}

uint64
cj_notifications_insert(const CjBinding *binding, const CjStatement *query, CjParams *params,
						CjInsertMethod *method)
{
	CjStatement insert = {query->name, psprintf("%s%s", columns.text, query->text),
						  columns.expected};
	uint64 inserted;

	if (method->may_be_bulk && insert_in_bulk(binding, query, params, &inserted))
	{
		method->was_bulk = true;
		return inserted;
	}
	method->was_plain = true;
	return cj_app_sql_run(&insert, binding, NULL, params).processed;
}

void
cj_notifications_report(const CjInsertMethod *method, StringInfo result)
{
	if (method->was_bulk || method->was_plain)
		cj_json_text(result, "insert",
					 !method->was_plain ? "bulk"
					 : method->was_bulk ? "mixed"
										: "plain");
}
