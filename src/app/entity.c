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
const CjEntityDefinition cj_entity_definitions[CJ_ENTITY_COUNT + 1] = {
	{"challenges",
	 "challenges",
	 false,
	 CJ_CHALLENGES_STATUS,
	 {
		 {"id", CJ_KIND_KEY, true},
		 {"status", CJ_KIND_LABEL, true, .is_written = true},
		 {"end_date", CJ_KIND_DATE, true},
		 {"name", CJ_KIND_TEXT, false},
		 {"start_date", CJ_KIND_DATE, false},
		 {"threshold", CJ_KIND_NUMBER, false, "the average that the challenge has to reach"},
		 {"creator_id", CJ_KIND_KEY, false, "a user who is notified like a member"},
	 },
	 {{"active", "active"}, {"completed", "completed"}, {"failed", "failed"}, {"cancelled", NULL}}},
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
		 {"next_due_on", CJ_KIND_DAY, false, "the day from which on the member is reminded"},
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
		 {"user_id", CJ_KIND_KEY, true, .is_written = true},
		 {"type", CJ_KIND_LABEL, false, .is_written = true},
		 {"title", CJ_KIND_TEXT, false, .is_written = true},
		 {"body", CJ_KIND_TEXT, false, .is_written = true},
		 {"data", CJ_KIND_DOCUMENT, false, .is_written = true},
		 {"created_at", CJ_KIND_MOMENT, false, .is_written = true},
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
		 {"reminder_time", CJ_KIND_TIME, false, "the time of day at which the user is reminded"},
	 },
	 {{NULL}}},
};

const char *
cj_entity_name(CjEntity entity)
{
	return cj_entity_definitions[entity].name;
}

/* find_name returns the position of a name in an array of structures that begin with one, or -1. */
static int
find_name(const void *first, Size size, const char *name, int len)
{
	const char *entry = first;

	for (int i = 0; *(const char *const *) entry; i++, entry += size)
	{
		const char *found = *(const char *const *) entry;

		if (strlen(found) == len && strncmp(found, name, len) == 0)
			return i;
	}
	return -1;
}

int
cj_entity_find(const char *name, int len)
{
	return find_name(cj_entity_definitions, sizeof(CjEntityDefinition), name, len);
}

int
cj_entity_find_column(CjEntity entity, const char *name, int len)
{
	return find_name(cj_entity_definitions[entity].columns, sizeof(CjColumnDefinition), name, len);
}

int
cj_entity_find_label(CjEntity entity, const char *name, int len)
{
	return find_name(cj_entity_definitions[entity].labels, sizeof(CjLabelDefinition), name, len);
}

/* What columns may hold: in words, and the types, where they can be listed. */
static const struct
{
	const char *name;
	Oid types[6];
} kinds[] = {
	[CJ_KIND_KEY] = {"a type that can be compared and sorted (uuid, bigint, text, ...)"},
	[CJ_KIND_LABEL] = {"text, varchar, char or an enum", {TEXTOID, VARCHAROID, BPCHAROID}},
	[CJ_KIND_DATE] = {"date, timestamp or timestamptz", {DATEOID, TIMESTAMPOID, TIMESTAMPTZOID}},
	[CJ_KIND_DAY] = {"date", {DATEOID}},
	[CJ_KIND_MOMENT] = {"timestamp or timestamptz", {TIMESTAMPOID, TIMESTAMPTZOID}},
	[CJ_KIND_TIME] = {"time", {TIMEOID}},
	[CJ_KIND_BOOLEAN] = {"boolean", {BOOLOID}},
	[CJ_KIND_NUMBER] = {"a number", {INT2OID, INT4OID, INT8OID, NUMERICOID, FLOAT4OID, FLOAT8OID}},
	[CJ_KIND_TEXT] = {"a text type"},
	[CJ_KIND_DOCUMENT] = {"jsonb, json or text", {JSONBOID, JSONOID, TEXTOID}},
};

bool
cj_entity_accepts(CjColumnKind kind, Oid type)
{
	for (int i = 0; i < lengthof(kinds[kind].types); i++)
	{
		if (type == kinds[kind].types[i])
			return true;
	}
	if (kind == CJ_KIND_LABEL)
		return type_is_enum(type);
	if (kind == CJ_KIND_TEXT)
		return TypeCategory(type) == TYPCATEGORY_STRING;
	/* not composite types: unnest() takes those apart */
	return kind == CJ_KIND_KEY && get_typtype(type) != TYPTYPE_COMPOSITE &&
		   OidIsValid(lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR)->lt_opr) &&
		   OidIsValid(get_array_type(type));
}

const char *
cj_entity_kind_name(CjColumnKind kind)
{
	return kinds[kind].name;
}
