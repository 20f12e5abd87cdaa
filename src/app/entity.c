/*
 * app/entity.c
 *		What the app's tables can stand for: entities, their columns and labels.
 *
 * The names here are those that users write in bind().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "app/entity.h"

/*
 * As the table in doc/tables.md has it; in the order of CjEntity and of the enums of columns and labels.
 */
const CjEntityDefinition cj_entity_definitions[CJ_ENTITY_COUNT] = {
	{"challenges",
	 "challenges",
	 false,
	 CJ_CHALLENGES_STATUS,
	 {
		 {"id", CJ_KIND_KEY, true},
		 {"status", CJ_KIND_LABEL, true},
		 {"end_date", CJ_KIND_DATE, true},
		 {"name", CJ_KIND_TEXT, false},
		 {"start_date", CJ_KIND_DATE, false},
		 {"threshold", CJ_KIND_NUMBER, false, true},
		 {"creator_id", CJ_KIND_KEY, false, true},
	 },
	 {{"active", "active"}, {"completed", "completed"}, {"failed", "failed"}}},
	{"challenge_members",
	 "challenge_members",
	 false,
	 CJ_MEMBERS_STATUS,
	 {
		 {"challenge_id", CJ_KIND_KEY, true},
		 {"user_id", CJ_KIND_KEY, true},
		 {"status", CJ_KIND_LABEL, false},
		 {"current_streak", CJ_KIND_NUMBER, false},
		 {"last_checkin_at", CJ_KIND_DATE, false},
		 {"next_due_on", CJ_KIND_DAY, false, true},
	 },
	 {{"active", "active"}}},
	{"challenge_member_stats",
	 "challenge_member_stats",
	 true,
	 -1,
	 {
		 {"challenge_id", CJ_KIND_KEY, true},
		 {"completion_rate", CJ_KIND_NUMBER, true},
		 {"user_id", CJ_KIND_KEY, false},
	 },
	 {{NULL}}},
	{"notifications",
	 "notifications",
	 false,
	 CJ_NOTIFICATIONS_TYPE,
	 {
		 {"user_id", CJ_KIND_KEY, true},
		 {"type", CJ_KIND_LABEL, false},
		 {"title", CJ_KIND_TEXT, false},
		 {"body", CJ_KIND_TEXT, false},
		 {"data", CJ_KIND_DOCUMENT, false},
		 {"created_at", CJ_KIND_MOMENT, false},
		 {"expires_at", CJ_KIND_MOMENT, false},
		 {"is_read", CJ_KIND_BOOLEAN, false},
		 {"read_at", CJ_KIND_MOMENT, false},
	 },
	 {{"challenge_completed", "challenge_completed"}, {"streak_reminder", "streak_reminder"}}},
	{"users",
	 "user_profiles",
	 false,
	 -1,
	 {
		 {"id", CJ_KIND_KEY, true},
		 {"timezone", CJ_KIND_TEXT, false},
		 {"reminder_time", CJ_KIND_TIME, false, true},
	 },
	 {{NULL}}},
};

const char *
cj_entity_name(CjEntity entity)
{
	return cj_entity_definitions[entity].name;
}

int
cj_entity_find(const char *name, int len)
{
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		if (strlen(cj_entity_definitions[i].name) == len &&
			strncmp(cj_entity_definitions[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

int
cj_entity_find_column(CjEntity entity, const char *name, int len)
{
	const CjColumnDefinition *columns = cj_entity_definitions[entity].columns;

	for (int i = 0; columns[i].name; i++)
	{
		if (strlen(columns[i].name) == len && strncmp(columns[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

int
cj_entity_find_label(CjEntity entity, const char *name, int len)
{
	const CjLabelDefinition *labels = cj_entity_definitions[entity].labels;

	for (int i = 0; labels[i].name; i++)
	{
		if (strlen(labels[i].name) == len && strncmp(labels[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

/* is_number returns whether a type is one of the numbers that an average can be taken of. */
static bool
is_number(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID ||
		   type == FLOAT4OID || type == FLOAT8OID;
}

bool
cj_entity_accepts(CjColumnKind kind, Oid type)
{
	switch (kind)
	{
		case CJ_KIND_KEY:
			/* not composite types: unnest() takes those apart */
			return get_typtype(type) != TYPTYPE_COMPOSITE &&
				   OidIsValid(
					   lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR)->lt_opr) &&
				   OidIsValid(get_array_type(type));
		case CJ_KIND_LABEL:
			return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type_is_enum(type);
		case CJ_KIND_DATE:
			return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
		case CJ_KIND_DAY:
			return type == DATEOID;
		case CJ_KIND_MOMENT:
			return type == TIMESTAMPOID || type == TIMESTAMPTZOID;
		case CJ_KIND_TIME:
			return type == TIMEOID;
		case CJ_KIND_BOOLEAN:
			return type == BOOLOID;
		case CJ_KIND_NUMBER:
			return is_number(type);
		case CJ_KIND_TEXT:
			return TypeCategory(type) == TYPCATEGORY_STRING;
		case CJ_KIND_DOCUMENT:
			return type == JSONOID || type == JSONBOID || type == TEXTOID;
	}
	return false;
}

const char *
cj_entity_kind_name(CjColumnKind kind)
{
	switch (kind)
	{
		case CJ_KIND_KEY:
			return "a type that can be compared and sorted (uuid, bigint, text, ...)";
		case CJ_KIND_LABEL:
			return "text, varchar, char or an enum";
		case CJ_KIND_DATE:
			return "date, timestamp or timestamptz";
		case CJ_KIND_DAY:
			return "date";
		case CJ_KIND_MOMENT:
			return "timestamp or timestamptz";
		case CJ_KIND_TIME:
			return "time";
		case CJ_KIND_BOOLEAN:
			return "boolean";
		case CJ_KIND_NUMBER:
			return "a number";
		case CJ_KIND_TEXT:
			return "a text type";
		case CJ_KIND_DOCUMENT:
			return "jsonb, json or text";
	}
	return "";
}
