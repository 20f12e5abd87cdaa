/*
 * binding.c
 *		Which tables, columns and values of the app stand for our entities, columns and labels.
 *
 * Called by api (bind, unbind), by the jobs at the beginning of every transaction of a run, and by
 * doctor. Table challenge_jobs.binding holds names, not OIDs: it is dumped and restored, and a name
 * that leads nowhere any more can be told to the user.
 *
 * Everything is checked anew in each transaction, under the locks that the transaction holds to its
 * end, so that what a statement is built from cannot change before it runs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_oper.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "binding.h"
#include "compat.h"
#include "identity.h"
#include "sql.h"

/* What a column may hold. */
typedef enum ColumnKind
{
	KIND_KEY,     /* anything with a default btree operator class */
	KIND_LABEL,   /* text, varchar, char, enum */
	KIND_DATE,    /* date, timestamp, timestamptz */
	KIND_MOMENT,  /* timestamp, timestamptz */
	KIND_NUMBER,  /* integers, numeric, floating point */
	KIND_TEXT,    /* any string type */
	KIND_DOCUMENT /* json, jsonb, text */
} ColumnKind;

typedef struct ColumnDefinition
{
	const char *name;
	ColumnKind kind;
	bool required;
} ColumnDefinition;

typedef struct LabelDefinition
{
	const char *name;  /* in bind() */
	const char *value; /* by default */
} LabelDefinition;

typedef struct EntityDefinition
{
	const char *name;
	const char *default_relation;
	bool may_be_view;
	int label_column; /* the column that holds the labels, -1: none */
	ColumnDefinition columns[CJ_MAX_COLUMNS + 1];
	LabelDefinition labels[CJ_MAX_LABELS + 1];
} EntityDefinition;

/* As the table in README.md has it. In the order of CjEntity and of the enums of columns and labels in binding.h. */
static const EntityDefinition definitions[CJ_ENTITY_COUNT] = {
	{"challenges",
	 "challenges",
	 false,
	 CJ_CHALLENGES_STATUS,
	 {
		 {"id", KIND_KEY, true},
		 {"status", KIND_LABEL, true},
		 {"end_date", KIND_DATE, true},
		 {"name", KIND_TEXT, false},
	 },
	 {{"active", "active"}, {"completed", "completed"}, {"failed", "failed"}}},
	{"challenge_members",
	 "challenge_members",
	 false,
	 CJ_MEMBERS_STATUS,
	 {
		 {"challenge_id", KIND_KEY, true},
		 {"user_id", KIND_KEY, true},
		 {"status", KIND_LABEL, false},
		 {"current_streak", KIND_NUMBER, false},
		 {"last_checkin_at", KIND_DATE, false},
	 },
	 {{"active", "active"}}},
	{"challenge_member_stats",
	 "challenge_member_stats",
	 true,
	 -1,
	 {
		 {"challenge_id", KIND_KEY, true},
		 {"completion_rate", KIND_NUMBER, true},
		 {"user_id", KIND_KEY, false},
	 },
	 {{NULL}}},
	{"notifications",
	 "notifications",
	 false,
	 CJ_NOTIFICATIONS_TYPE,
	 {
		 {"user_id", KIND_KEY, true},
		 {"type", KIND_LABEL, false},
		 {"title", KIND_TEXT, false},
		 {"body", KIND_TEXT, false},
		 {"data", KIND_DOCUMENT, false},
		 {"created_at", KIND_MOMENT, false},
		 {"expires_at", KIND_MOMENT, false},
	 },
	 {{"challenge_completed", "challenge_completed"}, {"streak_reminder", "streak_reminder"}}},
	{"users",
	 "user_profiles",
	 false,
	 -1,
	 {
		 {"id", KIND_KEY, true},
		 {"timezone", KIND_TEXT, false},
	 },
	 {{NULL}}},
};

static const CjStatement load_bindings = {
	"load the bindings",
	"SELECT b.entity, b.relation, b.columns, b.labels FROM challenge_jobs.binding b",
	SPI_OK_SELECT};

static const CjStatement store_binding = {
	"store a binding",
	"INSERT INTO challenge_jobs.binding (entity, relation, columns, labels)"
	"VALUES ($1, $2, COALESCE($3, '{}'), COALESCE($4, '{}'))"
	"    ON CONFLICT (entity) DO UPDATE"
	"   SET relation = excluded.relation, columns = excluded.columns, labels = excluded.labels",
	SPI_OK_INSERT};

static const CjStatement delete_binding = {"delete a binding",
										   "DELETE FROM challenge_jobs.binding WHERE entity = $1",
										   SPI_OK_DELETE};

static const CjStatement find_table = {
	"find a table by its name",
	"SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)"
	"  FROM pg_catalog.pg_class c"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	" WHERE c.relname = $1"
	"   AND (c.relkind IN ('r', 'p') OR ($2 AND c.relkind IN ('v', 'm')))"
	"   AND c.relpersistence <> 't'"
	"   AND n.nspname NOT LIKE 'pg\\_%'"
	" ORDER BY 1"
	" LIMIT 1",
	SPI_OK_SELECT};

/* A binding as it is stored, before it is looked at. */
typedef struct Source
{
	CjEntity entity;
	const char *relation; /* NULL: not bound */
	Jsonb *columns;       /* NULL: default names */
	Jsonb *labels;
} Source;

/* ---- names ---- */

/* cj_binding_entity_name returns the name of an entity. */
const char *
cj_binding_entity_name(CjEntity entity)
{
	return definitions[entity].name;
}

/* cj_binding_find_entity returns the entity of that name, or -1. */
int
cj_binding_find_entity(const char *name, int len)
{
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		if (strlen(definitions[i].name) == len && strncmp(definitions[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

/* cj_binding_find_column returns the entity's column of that name, or -1. */
int
cj_binding_find_column(CjEntity entity, const char *name, int len)
{
	const ColumnDefinition *columns = definitions[entity].columns;

	for (int i = 0; columns[i].name; i++)
	{
		if (strlen(columns[i].name) == len && strncmp(columns[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

/* cj_binding_find_label returns the entity's label of that name, or -1. */
int
cj_binding_find_label(CjEntity entity, const char *name, int len)
{
	const LabelDefinition *labels = definitions[entity].labels;

	for (int i = 0; labels[i].name; i++)
	{
		if (strlen(labels[i].name) == len && strncmp(labels[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

/* lookup_text returns the text under a key of a jsonb object; `is_null` tells a JSON null. */
static char *
lookup_text(Jsonb *object, const char *key, bool *is_null)
{
	JsonbValue value;

	*is_null = false;
	if (object == NULL ||
		getKeyJsonValueFromContainer(&object->root, key, strlen(key), &value) == NULL)
		return NULL;
	if (value.type == jbvNull)
	{
		*is_null = true;
		return NULL;
	}
	/* bind() stores texts alone, but the table may have been written by hand */
	if (value.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the value of \"%s\" in challenge_jobs.binding is not a text", key),
				 errhint("Bind the entity again with challenge_jobs.bind().")));
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* ---- hints: the call of bind() that would mend it ---- */

/* append_json_member appends `"key": "value"` to a JSON object that is being written. */
static void
append_json_member(StringInfo json, const char *key, const char *value)
{
	appendStringInfoString(json, json->len > 1 ? ", " : "");
	escape_json(json, key);
	appendStringInfoString(json, ": ");
	if (value)
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

/* bind_call returns the text of bind() for a source, with one column or label changed. */
static char *
bind_call(const Source *source, const char *relation, const char *column, const char *column_value,
		  const char *label, const char *label_value)
{
	const EntityDefinition *definition = &definitions[source->entity];
	StringInfoData columns;
	StringInfoData labels;
	StringInfoData call;
	bool is_null;

	initStringInfo(&columns);
	initStringInfo(&labels);
	appendStringInfoChar(&columns, '{');
	appendStringInfoChar(&labels, '{');
	for (int i = 0; definition->columns[i].name; i++)
	{
		const char *name = definition->columns[i].name;
		const char *value = lookup_text(source->columns, name, &is_null);

		if (column && strcmp(name, column) == 0)
			append_json_member(&columns, name, column_value);
		else if (value || is_null)
			append_json_member(&columns, name, value);
	}
	for (int i = 0; definition->labels[i].name; i++)
	{
		const char *name = definition->labels[i].name;
		const char *value = lookup_text(source->labels, name, &is_null);

		if (label && strcmp(name, label) == 0)
			append_json_member(&labels, name, label_value);
		else if (value)
			append_json_member(&labels, name, value);
	}
	appendStringInfoChar(&columns, '}');
	appendStringInfoChar(&labels, '}');

	initStringInfo(&call);
	appendStringInfo(&call, "SELECT challenge_jobs.bind('%s', %s", definition->name,
					 quote_literal_cstr(relation));
	if (columns.len > 2)
		appendStringInfo(&call, ", columns => %s", quote_literal_cstr(columns.data));
	if (labels.len > 2)
		appendStringInfo(&call, ", labels => %s", quote_literal_cstr(labels.data));
	appendStringInfoString(&call, ");");
	return call.data;
}

/* ---- types ---- */

/* is_number tells whether a type is one of the numbers that an average can be taken of. */
static bool
is_number(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID ||
		   type == FLOAT4OID || type == FLOAT8OID;
}

/* kind_accepts tells whether a (base) type is of a kind. */
static bool
kind_accepts(ColumnKind kind, Oid type)
{
	switch (kind)
	{
		case KIND_KEY:
			return OidIsValid(
					   lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR)->lt_opr) &&
				   OidIsValid(get_array_type(type));
		case KIND_LABEL:
			return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type_is_enum(type);
		case KIND_DATE:
			return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
		case KIND_MOMENT:
			return type == TIMESTAMPOID || type == TIMESTAMPTZOID;
		case KIND_NUMBER:
			return is_number(type);
		case KIND_TEXT:
			return TypeCategory(type) == TYPCATEGORY_STRING;
		case KIND_DOCUMENT:
			return type == JSONOID || type == JSONBOID || type == TEXTOID;
	}
	return false;
}

/* kind_name says in words what a kind accepts. */
static const char *
kind_name(ColumnKind kind)
{
	switch (kind)
	{
		case KIND_KEY:
			return "a type that can be compared and sorted (uuid, bigint, text, ...)";
		case KIND_LABEL:
			return "text, varchar, char or an enum";
		case KIND_DATE:
			return "date, timestamp or timestamptz";
		case KIND_MOMENT:
			return "timestamp or timestamptz";
		case KIND_NUMBER:
			return "a number";
		case KIND_TEXT:
			return "a text type";
		case KIND_DOCUMENT:
			return "jsonb, json or text";
	}
	return "";
}

/* qualified_name returns the quoted, schema-qualified name of a relation. */
static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* is_taken tells whether a column of the table stands for another column of the entity. */
static bool
is_taken(const Source *source, const char *name, const char *for_column)
{
	const ColumnDefinition *columns = definitions[source->entity].columns;
	bool is_null;

	for (int i = 0; columns[i].name; i++)
	{
		const char *bound = lookup_text(source->columns, columns[i].name, &is_null);

		if (strcmp(columns[i].name, for_column) != 0 && !is_null &&
			strcmp(bound ? bound : columns[i].name, name) == 0)
			return true;
	}
	return false;
}

/* suggest_column returns the only free column of the right kind, or a place to fill in. */
static const char *
suggest_column(const Source *source, Relation rel, const ColumnDefinition *definition)
{
	TupleDesc desc = RelationGetDescr(rel);
	const char *found = NULL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped || !kind_accepts(definition->kind, getBaseType(attr->atttypid)) ||
			is_taken(source, NameStr(attr->attname), definition->name))
			continue;
		if (found)
			return "<column>";
		found = NameStr(attr->attname);
	}
	return found ? pstrdup(found) : "<column>";
}

/* list_columns lists the columns of a relation with their types, for an errdetail. */
static char *
list_columns(Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped)
			appendStringInfo(&list, "%s%s %s", list.len > 0 ? ", " : "", NameStr(attr->attname),
							 format_type_be(attr->atttypid));
	}
	return list.data;
}

/* ---- resolving one entity ---- */

/* resolve_column fills in one column of an entity. */
static void
resolve_column(const Source *source, Relation rel, int index, CjBoundColumn *column)
{
	const char *entity = definitions[source->entity].name;
	const ColumnDefinition *definition = &definitions[source->entity].columns[index];
	bool is_null;
	const char *bound = lookup_text(source->columns, definition->name, &is_null);
	const char *name = bound ? bound : definition->name;
	AttrNumber number = is_null ? InvalidAttrNumber : get_attnum(RelationGetRelid(rel), name);
	Form_pg_attribute attr;

	if (number <= 0)
	{
		if (!definition->required && bound == NULL)
			return;
		if (is_null)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\": column \"%s\" is required", entity, definition->name),
					 errdetail("Only an optional column can be null."),
					 errhint("%s", bind_call(source, qualified_name(rel), definition->name,
											 suggest_column(source, rel, definition), NULL, NULL))));
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("entity \"%s\": column \"%s\" for \"%s\" not found in %s", entity, name,
						definition->name, qualified_name(rel)),
				 errdetail("It has the columns: %s.", list_columns(rel)),
				 errhint("%s", bind_call(source, qualified_name(rel), definition->name,
										 suggest_column(source, rel, definition), NULL, NULL))));
	}

	attr = TupleDescAttr(RelationGetDescr(rel), number - 1);
	column->present = true;
	column->name = pstrdup(NameStr(attr->attname));
	column->number = number;
	column->type = attr->atttypid;
	column->typmod = attr->atttypmod;
	column->collation = attr->attcollation;
	column->has_default = attr->atthasdef || attr->attidentity != '\0';
	column->base_type = getBaseTypeAndTypmod(attr->atttypid, &column->typmod);
	if (!kind_accepts(definition->kind, column->base_type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("entity \"%s\": column \"%s\" for \"%s\" of %s is of type %s", entity,
						column->name, definition->name, qualified_name(rel),
						format_type_be(column->type)),
				 errdetail("It has to be %s.", kind_name(definition->kind)),
				 errhint("%s", bind_call(source, qualified_name(rel), definition->name,
										 suggest_column(source, rel, definition), NULL, NULL))));
}

/* resolve_label fills in one label of an entity and checks that its column can hold it. */
static void
resolve_label(const Source *source, const char *relation, int index, const CjBoundColumn *column,
			  char **label)
{
	const char *entity = definitions[source->entity].name;
	const LabelDefinition *definition = &definitions[source->entity].labels[index];
	bool is_null;

	*label = lookup_text(source->labels, definition->name, &is_null);
	if (*label == NULL)
		*label = pstrdup(definition->value);
	if (!column->present)
		return;

	if (type_is_enum(column->base_type) &&
		(strlen(*label) >= NAMEDATALEN ||
		 !SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(column->base_type),
								CStringGetDatum(*label))))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("entity \"%s\": enum %s of column \"%s\" of %s has no label \"%s\"", entity,
						format_type_be_qualified(column->base_type), column->name, relation,
						*label),
				 errdetail("It stands for \"%s\". To use another one, type: %s", definition->name,
						   bind_call(source, relation, NULL, NULL, definition->name, "<label>")),
				 errhint("ALTER TYPE %s ADD VALUE %s;", format_type_be_qualified(column->base_type),
						 quote_literal_cstr(*label))));

	if ((column->base_type == VARCHAROID || column->base_type == BPCHAROID) &&
		column->typmod >= (int32) VARHDRSZ &&
		pg_mbstrlen(*label) > column->typmod - (int32) VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("entity \"%s\": label \"%s\" does not fit into column \"%s\" of %s", entity,
						*label, column->name, relation),
				 errdetail("The column holds %d characters.", column->typmod - (int32) VARHDRSZ),
				 errhint("%s", bind_call(source, relation, NULL, NULL, definition->name,
										 "<label>"))));
}

/* check_relation checks that the relation is a table (or view) that may be bound. */
static void
check_relation(const Source *source, Relation rel)
{
	const EntityDefinition *definition = &definitions[source->entity];
	char relkind = rel->rd_rel->relkind;
	char *own_schema = get_namespace_name(RelationGetNamespace(rel));

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetNamespace(rel) == PG_CATALOG_NAMESPACE ||
		strcmp(own_schema, "information_schema") == 0 || strcmp(own_schema, "challenge_jobs") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("entity \"%s\": %s cannot be bound", definition->name, qualified_name(rel)),
				 errdetail("System catalogs and the tables of challenge_jobs cannot be bound."),
				 errhint("%s", bind_call(source, "<schema>.<table>", NULL, NULL, NULL, NULL))));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("entity \"%s\": %s is a temporary table", definition->name,
						RelationGetRelationName(rel)),
				 errhint("%s", bind_call(source, "<schema>.<table>", NULL, NULL, NULL, NULL))));
	if (relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE)
		return;
	if (definition->may_be_view && (relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("entity \"%s\": %s is not a table%s", definition->name, qualified_name(rel),
					definition->may_be_view ? ", view or materialized view" : ""),
			 errhint("%s", bind_call(source, "<schema>.<table>", NULL, NULL, NULL, NULL))));
}

/* check_row_security refuses a table whose policies would hide rows from its own owner. */
static void
check_row_security(const Source *source, Relation rel)
{
	if (check_enable_rls(RelationGetRelid(rel), rel->rd_rel->relowner, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("entity \"%s\": row-level security of %s is forced on its owner \"%s\"",
						definitions[source->entity].name, qualified_name(rel),
						GetUserNameFromId(rel->rd_rel->relowner, false)),
				 errdetail("A job must see every row, or it would silently pass over some."),
				 errhint("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;", qualified_name(rel))));
}

/* check_active_label refuses a label that would have challenges decided again and again. */
static void
check_active_label(const Source *source, const CjBoundEntity *entity)
{
	const char *active = entity->labels[CJ_CHALLENGES_ACTIVE];

	for (int i = CJ_CHALLENGES_COMPLETED; i <= CJ_CHALLENGES_FAILED; i++)
	{
		if (active && entity->labels[i] && strcmp(active, entity->labels[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"challenges\": \"%s\" stands for \"active\" and for \"%s\"",
							active, definitions[CJ_CHALLENGES].labels[i].name),
					 errdetail("What has been decided would be due again."),
					 errhint("%s", bind_call(source, entity->relation, NULL, NULL,
											 definitions[CJ_CHALLENGES].labels[i].name, "<label>"))));
	}
}

/* describe fills in an entity from an open relation. */
static void
describe(const Source *source, Relation rel, uint32 columns, uint32 labels, CjBoundEntity *entity)
{
	const EntityDefinition *definition = &definitions[source->entity];

	check_relation(source, rel);
	entity->used = true;
	entity->is_bound = source->relation != NULL;
	entity->relation = qualified_name(rel);
	entity->relid = RelationGetRelid(rel);
	entity->relkind = rel->rd_rel->relkind;
	entity->owner = rel->rd_rel->relowner;
	entity->is_populated = RelationIsPopulated(rel);

	for (int i = 0; definition->columns[i].name; i++)
	{
		if (columns & CJ_BIT(i))
			resolve_column(source, rel, i, &entity->columns[i]);
	}
	for (int i = 0; definition->labels[i].name; i++)
	{
		if (labels & CJ_BIT(i))
			resolve_label(source, entity->relation, i, &entity->columns[definition->label_column],
						  &entity->labels[i]);
	}
	if (source->entity == CJ_CHALLENGES)
		check_active_label(source, entity);
	check_row_security(source, rel);
}

/* suggest_relation returns a table with the default name of an entity, or a place to fill in. */
static const char *
suggest_relation(CjEntity entity)
{
	CjParams params = {0};
	CjRows rows;
	const char *found;

	cj_sql_param_text(&params, definitions[entity].default_relation);
	cj_sql_param(&params, BOOLOID, BoolGetDatum(definitions[entity].may_be_view), false);
	rows = cj_sql_run_own(&find_table, &params);
	found = rows.processed > 0 ? cj_sql_text(&rows, 0, 1) : "<schema>.<table>";
	cj_sql_free(&rows);
	return found;
}

/* open_source opens and locks the relation that a source names. */
static Relation
open_source(const Source *source, LOCKMODE lock_mode)
{
	const EntityDefinition *definition = &definitions[source->entity];
	char *name =
		source->relation
			? pstrdup(source->relation)
			: quote_qualified_identifier(get_namespace_name(cj_identity_extension().schema),
										 definition->default_relation);
	List *names = cj_compat_parse_name(name);
	CjIdentity saved;
	Oid relid;

	/* as the owner of the extension, for the caller need not see the app's schemas */
	cj_identity_become_extension(&saved);
	relid = RangeVarGetRelid(makeRangeVarFromNameList(names), lock_mode, true);
	cj_identity_restore(&saved);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 source->relation ?
				 errmsg("entity \"%s\": relation %s does not exist", definition->name, name) :
				 errmsg("entity \"%s\" is not bound, and relation %s does not exist",
						definition->name, name),
				 errhint("%s", bind_call(source, suggest_relation(source->entity), NULL, NULL, NULL,
										 NULL))));
	return relation_open(relid, NoLock);
}

/* load_sources reads the table of bindings; entities without a row have no relation. */
static void
load_sources(Source *sources)
{
	CjRows rows = cj_sql_run_own(&load_bindings, NULL);

	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
		sources[i] = (Source){.entity = i};
	for (uint64 row = 0; row < rows.processed; row++)
	{
		const char *name = cj_sql_text(&rows, row, 1);
		int entity = cj_binding_find_entity(name, strlen(name));
		bool isnull;

		if (entity < 0)
			continue;
		sources[entity].relation = cj_sql_text(&rows, row, 2);
		sources[entity].columns = DatumGetJsonbP(cj_sql_datum(&rows, row, 3, &isnull));
		sources[entity].labels = DatumGetJsonbP(cj_sql_datum(&rows, row, 4, &isnull));
	}
	cj_sql_free(&rows);
}

/* ---- what must hold between entities ---- */

/* check_owner checks that the tables used have one owner, who then is the one to act as. */
static void
check_owner(CjBinding *binding)
{
	StringInfoData list;
	bool differ = false;

	initStringInfo(&list);
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		CjBoundEntity *entity = &binding->entities[i];

		if (!entity->used)
			continue;
		if (!OidIsValid(binding->owner))
			binding->owner = entity->owner;
		differ |= entity->owner != binding->owner;
		appendStringInfo(&list, "%s%s belongs to \"%s\"", list.len > 0 ? ", " : "",
						 entity->relation, GetUserNameFromId(entity->owner, false));
	}
	if (differ)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the bound tables have different owners"),
				 errdetail("%s.", list.data),
				 errhint("ALTER TABLE <table> OWNER TO %s;",
						 quote_identifier(GetUserNameFromId(binding->owner, false)))));
}

/* cj_binding_equality returns the qualified name of the equality operator of a type. */
List *
cj_binding_equality(Oid type)
{
	Oid equality = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(equality));
	Form_pg_operator form;
	List *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", equality);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = list_make2(makeString(get_namespace_name(form->oprnamespace)),
					  makeString(pstrdup(NameStr(form->oprname))));
	ReleaseSysCache(tuple);
	return name;
}

/* check_comparable checks that a reference can be compared with the key that it refers to. */
static void
check_comparable(const CjBinding *binding, CjEntity from, int from_column, CjEntity to,
				 int to_column)
{
	const CjBoundColumn *a = &binding->entities[from].columns[from_column];
	const CjBoundColumn *b = &binding->entities[to].columns[to_column];
	Operator found;

	if (!a->present || !b->present || a->base_type == b->base_type)
		return;
	found = oper(NULL, cj_binding_equality(a->base_type), a->base_type, b->base_type, true, -1);
	if (found)
	{
		ReleaseSysCache(found);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("entity \"%s\": column \"%s\" of %s is of type %s, column \"%s\" of %s of type %s",
					definitions[from].name, a->name, binding->entities[from].relation,
					format_type_be(a->type), b->name, binding->entities[to].relation,
					format_type_be(b->type)),
			 errdetail("The two hold the same keys and cannot be compared."),
			 errhint("SELECT challenge_jobs.bind('%s', %s, columns => '{\"%s\": \"<column>\"}');",
					 definitions[from].name, quote_literal_cstr(binding->entities[from].relation),
					 definitions[from].columns[from_column].name)));
}

/*
 * build_search_path returns pg_catalog and the schemas of the tables used: triggers of the app
 * use unqualified names of their own schema, and nothing planted elsewhere comes before a built-in.
 */
static char *
build_search_path(const CjBinding *binding)
{
	StringInfoData path;
	List *schemas = NIL;
	ListCell *cell;

	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		if (binding->entities[i].used)
			schemas =
				list_append_unique_oid(schemas, get_rel_namespace(binding->entities[i].relid));
	}
	initStringInfo(&path);
	appendStringInfoString(&path, "pg_catalog");
	foreach(cell, schemas)
		appendStringInfo(&path, ", %s", quote_identifier(get_namespace_name(lfirst_oid(cell))));
	return path.data;
}

/* cj_binding_resolve resolves and checks what a job uses. */
CjBinding *
cj_binding_resolve(const CjUsage *usage, int count)
{
	CjBinding *binding = palloc0(sizeof(CjBinding));
	Source sources[CJ_ENTITY_COUNT];

	load_sources(sources);
	for (int i = 0; i < count; i++)
	{
		CjEntity entity = usage[i].entity;
		Relation rel = open_source(&sources[entity], usage[i].lock_mode);

		describe(&sources[entity], rel, usage[i].columns, usage[i].labels,
				 &binding->entities[entity]);
		relation_close(rel, NoLock);
	}
	check_owner(binding);
	check_comparable(binding, CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_CHALLENGE_ID, CJ_CHALLENGES,
					 CJ_CHALLENGES_ID);
	check_comparable(binding, CJ_CHALLENGE_MEMBER_STATS, CJ_STATS_CHALLENGE_ID, CJ_CHALLENGES,
					 CJ_CHALLENGES_ID);
	check_comparable(binding, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_USER_ID, CJ_CHALLENGE_MEMBERS,
					 CJ_MEMBERS_USER_ID);
	check_comparable(binding, CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_USER_ID, CJ_USERS, CJ_USERS_ID);
	binding->search_path = build_search_path(binding);
	return binding;
}

/* ---- bind and unbind ---- */

/* list_names makes a list of the names of an entity's columns or labels, or of all entities. */
static char *
list_names(const char *first, Size stride)
{
	StringInfoData list;

	initStringInfo(&list);
	for (const char *p = first; *(const char *const *) p; p += stride)
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", *(const char *const *) p);
	return list.data;
}

/* bare_bind_call returns the call of bind() without what was wrong in it. */
static char *
bare_bind_call(const Source *source)
{
	Source bare = {source->entity, source->relation, NULL, NULL};

	return bind_call(&bare, source->relation, NULL, NULL, NULL, NULL);
}

/* check_mapping checks the keys and values of the object given for columns or labels. */
static void
check_mapping(const Source *source, Jsonb *mapping, const char *what, bool nullable,
			  int (*find)(CjEntity, const char *, int), const char *possible)
{
	const char *entity = definitions[source->entity].name;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (mapping == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entity \"%s\": %ss are not a JSON object", entity, what),
				 errdetail("The %ss of the entity are: %s.", what, possible),
				 errhint("%s", bare_bind_call(source))));

	it = JsonbIteratorInit(&mapping->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (find(source->entity, key.val.string.val, key.val.string.len) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\" has no %s \"%.*s\"", entity, what, key.val.string.len,
							key.val.string.val),
					 possible[0] ? errdetail("Its %ss are: %s.", what, possible) :
					 errdetail("It has no %ss.", what),
					 errhint("%s", bare_bind_call(source))));
		if (value.type != jbvString && !(nullable && value.type == jbvNull))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\": the %s \"%.*s\" is not given as a text", entity, what,
							key.val.string.len, key.val.string.val),
					 errhint("%s", bare_bind_call(source))));
	}
}

/* find_entity returns the entity of that name; raises an error if there is none. */
static CjEntity
find_entity(const char *name)
{
	int entity = cj_binding_find_entity(name, strlen(name));

	if (entity < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no entity \"%s\"", name),
				 errdetail("The entities are: challenges, challenge_members, "
						   "challenge_member_stats, notifications, users."),
				 errhint("SELECT entity, relation FROM challenge_jobs.binding;")));
	return entity;
}

/* open_for_bind opens the relation named by the caller, who must have the rights of its owner. */
static Relation
open_for_bind(const Source *source)
{
	RangeVar *range = makeRangeVarFromNameList(cj_compat_parse_name(source->relation));
	Oid relid = RangeVarGetRelid(range, AccessShareLock, true);
	Relation rel;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("entity \"%s\": relation %s does not exist",
						definitions[source->entity].name, source->relation),
				 errhint("%s", bind_call(source, suggest_relation(source->entity), NULL, NULL, NULL,
										 NULL))));
	rel = relation_open(relid, NoLock);
	check_relation(source, rel);

	/* jobs will write to it as its owner: that is for the owner to allow */
	if (!has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of relation %s to bind it", qualified_name(rel)),
				 errhint("SET ROLE %s;",
						 quote_identifier(GetUserNameFromId(rel->rd_rel->relowner, false)))));
	return rel;
}

/*
 * columns_to_check returns the columns to be checked at once: the required ones and those that the
 * call names. The others are checked by the jobs that use them.
 */
static uint32
columns_to_check(const Source *source)
{
	const ColumnDefinition *columns = definitions[source->entity].columns;
	uint32 result = 0;
	bool is_null;

	for (int i = 0; columns[i].name; i++)
	{
		if (columns[i].required || lookup_text(source->columns, columns[i].name, &is_null))
			result |= CJ_BIT(i);
	}
	if (definitions[source->entity].label_column >= 0)
		result |= CJ_BIT(definitions[source->entity].label_column);
	return result;
}

/* labels_to_check returns the labels that the call names, and all of a required column. */
static uint32
labels_to_check(const Source *source)
{
	const EntityDefinition *definition = &definitions[source->entity];
	bool all =
		definition->label_column >= 0 && definition->columns[definition->label_column].required;
	uint32 result = 0;
	bool is_null;

	for (int i = 0; definition->labels[i].name; i++)
	{
		if (all || lookup_text(source->labels, definition->labels[i].name, &is_null))
			result |= CJ_BIT(i);
	}
	return result;
}

/* cj_binding_bind checks and stores a binding. */
void
cj_binding_bind(const char *entity, const char *relation, Jsonb *columns, Jsonb *labels)
{
	Source source = {find_entity(entity), relation, columns, labels};
	const EntityDefinition *definition = &definitions[source.entity];
	CjBoundEntity described = {0};
	CjParams params = {0};
	Relation rel;
	CjRows rows;

	check_mapping(&source, columns, "column", true, cj_binding_find_column,
				  list_names((const char *) definition->columns, sizeof(ColumnDefinition)));
	check_mapping(&source, labels, "label", false, cj_binding_find_label,
				  list_names((const char *) definition->labels, sizeof(LabelDefinition)));
	rel = open_for_bind(&source);
	describe(&source, rel, columns_to_check(&source), labels_to_check(&source), &described);
	relation_close(rel, NoLock);

	cj_sql_param_text(&params, definition->name);
	cj_sql_param_text(&params, described.relation);
	cj_sql_param(&params, JSONBOID, PointerGetDatum(columns), columns == NULL);
	cj_sql_param(&params, JSONBOID, PointerGetDatum(labels), labels == NULL);
	rows = cj_sql_run_own(&store_binding, &params);
	cj_sql_free(&rows);
}

/* cj_binding_unbind removes a binding. */
void
cj_binding_unbind(const char *entity)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, definitions[find_entity(entity)].name);
	rows = cj_sql_run_own(&delete_binding, &params);
	cj_sql_free(&rows);
}
