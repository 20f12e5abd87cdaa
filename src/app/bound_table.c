/*
 * app/bound_table.c
 *		A table of the app that stands for an entity.
 *
 * What is found here is true for as long as the relation is locked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "app/bound_table.h"
#include "base/catalog.h"
#include "base/hint.h"
#include "base/json.h"

char *
cj_bound_table_text(Jsonb *object, const char *key, bool *is_null)
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

/*
 * append_names appends to a call of bind() an argument: what is stored for the names of an array of structures that begin
 * with one, but for `changed` a value (NULL: null), and for those of a set of bits the names themselves.
 */
static void
append_names(StringInfo call, const char *argument, const void *first, Size size, Jsonb *stored,
			 const char *changed, const char *changed_value, uint32 as_named)
{
	StringInfoData names;

	initStringInfo(&names);
	cj_json_begin(&names, NULL, '{');
	for (const char *entry = first; *(const char *const *) entry; entry += size)
	{
		const char *name = *(const char *const *) entry;
		bool is_null;
		const char *value = cj_bound_table_text(stored, name, &is_null);

		if (as_named & CJ_BIT((entry - (const char *) first) / size))
			cj_json_text(&names, name, name);
		else if (changed && strcmp(name, changed) == 0)
			cj_json_text(&names, name, changed_value);
		else if (value || is_null)
			cj_json_text(&names, name, value);
	}
	cj_json_end(&names, '}');
	if (names.len > 2)
		appendStringInfo(call, ", %s => %s", argument, quote_literal_cstr(names.data));
}

/*
 * bind_call returns the call of bind() for a source and a relation, with one column or label changed, and a set of columns
 * bound by their own names.
 */
static char *
bind_call(const CjSource *source, const char *relation, const char *changed, const char *value,
		  uint32 as_named)
{
	const CjEntityDefinition *definition = &cj_entity_definitions[source->entity];
	StringInfoData call;

	initStringInfo(&call);
	appendStringInfo(&call, "SELECT challenge_jobs.bind('%s', %s", definition->name,
					 quote_literal_cstr(relation));
	append_names(&call, "columns", definition->columns, sizeof(CjColumnDefinition), source->columns,
				 changed, value, as_named);
	append_names(&call, "labels", definition->labels, sizeof(CjLabelDefinition), source->labels,
				 changed, value, 0);
	appendStringInfoString(&call, ");");
	return call.data;
}

char *
cj_bound_table_hint(const CjSource *source, const char *relation, const char *changed,
					const char *value)
{
	return cj_hint_run(bind_call(source, relation, changed, value, 0));
}

/* ---- resolving ---- */

/* has_column returns whether a relation has a column of the default name that can be used. */
static bool
has_column(Relation rel, const CjColumnDefinition *definition)
{
	AttrNumber number = get_attnum(RelationGetRelid(rel), definition->name);

	return number > 0 &&
		   cj_entity_accepts(definition->kind,
							 getBaseType(
								 TupleDescAttr(RelationGetDescr(rel), number - 1)->atttypid));
}

/*
 * column_hint suggests the column of the default name, if it was not the one that was tried, or a place to fill in;
 * null where an optional column is better left alone. Of what another column is nothing is known by its type: it is
 * never guessed.
 */
static char *
column_hint(const CjSource *source, Relation rel, const CjColumnDefinition *definition,
			const char *bound, bool required)
{
	const char *column = bound || required ? "<column>" : NULL;

	if (!(bound && strcmp(bound, definition->name) == 0) && has_column(rel, definition))
		column = definition->name;
	return cj_bound_table_hint(source, cj_catalog_name(RelationGetRelid(rel)), definition->name,
							   column);
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

/* raise_missing raises the error of a column that is not there, or is said not to be, and has to be. */
static void
raise_missing(const CjSource *source, Relation rel, const CjColumnDefinition *definition,
			  const char *bound, bool required)
{
	const char *entity = cj_entity_name(source->entity);
	const char *relation = cj_catalog_name(RelationGetRelid(rel));
	bool is_null;

	(void) cj_bound_table_text(source->columns, definition->name, &is_null);
	if (is_null)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entity \"%s\": column \"%s\" is required", entity, definition->name),
				 definition->required ? errdetail("Only an optional column can be null.") :
				 errdetail("The job needs it."),
				 errhint("%s", column_hint(source, rel, definition, bound, required))));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("entity \"%s\": column \"%s\" for \"%s\" not found in %s", entity,
					bound ? bound : definition->name, definition->name, relation),
			 errdetail("It has the columns: %s.", list_columns(rel)),
			 errhint("%s", column_hint(source, rel, definition, bound, required))));
}

static void
raise_generated(const CjSource *source, Relation rel, const CjColumnDefinition *definition,
				const char *name, bool required)
{
	const char *relation = cj_catalog_name(RelationGetRelid(rel));

	ereport(ERROR,
			(errcode(ERRCODE_GENERATED_ALWAYS),
			 errmsg("entity \"%s\": column \"%s\" of %s is generated and cannot be written",
					cj_entity_name(source->entity), name, relation),
			 errhint("%s", cj_bound_table_hint(source, relation, definition->name,
											   required ? "<column>" : NULL))));
}

/* find_column returns the number of the column that stands for one of the entity; 0: none does. */
static AttrNumber
find_column(const CjSource *source, Relation rel, const CjColumnDefinition *definition,
			const char *bound, CjBoundColumn *column)
{
	bool is_null;
	AttrNumber number = InvalidAttrNumber;

	(void) cj_bound_table_text(source->columns, definition->name, &is_null);
	if (bound || !(is_null || definition->meaning))
		number = get_attnum(RelationGetRelid(rel), bound ? bound : definition->name);
	column->is_candidate =
		number <= 0 && !is_null && definition->meaning && has_column(rel, definition);
	return Max(number, InvalidAttrNumber);
}

static void
describe_column(const FormData_pg_attribute *attr, CjBoundColumn *column)
{
	column->present = true;
	column->name = pstrdup(NameStr(attr->attname));
	column->number = attr->attnum;
	column->type = attr->atttypid;
	column->typmod = attr->atttypmod;
	column->collation = attr->attcollation;
	column->has_default = attr->atthasdef || attr->attidentity != '\0';
	column->base_type = getBaseTypeAndTypmod(attr->atttypid, &column->typmod);
}

/* resolve_column fills in one column of an entity and checks that it can hold what it has to. */
static void
resolve_column(const CjSource *source, Relation rel, const CjColumnDefinition *definition,
			   bool required, CjBoundColumn *column)
{
	bool is_null;
	const char *bound = cj_bound_table_text(source->columns, definition->name, &is_null);
	AttrNumber number = find_column(source, rel, definition, bound, column);
	bool is_needed = required || bound;
	Form_pg_attribute attr;

	if (number == InvalidAttrNumber)
	{
		if (is_needed)
			raise_missing(source, rel, definition, bound, required);
		return;
	}
	attr = TupleDescAttr(RelationGetDescr(rel), number - 1);
	if (definition->is_written &&
		(attr->attgenerated != '\0' || attr->attidentity == ATTRIBUTE_IDENTITY_ALWAYS))
	{
		if (is_needed)
			raise_generated(source, rel, definition, NameStr(attr->attname), required);
		return;
	}
	describe_column(attr, column);
	if (!cj_entity_accepts(definition->kind, column->base_type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("entity \"%s\": column \"%s\" for \"%s\" of %s is of type %s",
						cj_entity_name(source->entity), column->name, definition->name,
						cj_catalog_name(RelationGetRelid(rel)), format_type_be(column->type)),
				 errdetail("It has to be %s.", cj_entity_kind_name(definition->kind)),
				 errhint("%s", column_hint(source, rel, definition, bound, required))));
}

/* has_enum_value returns whether an enum has a value. */
static bool
has_enum_value(Oid type, const char *value)
{
	return strlen(value) < NAMEDATALEN &&
		   SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(value));
}

/* list_enum lists the values of an enum. */
static char *
list_enum(Oid type)
{
	CatCList *values = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < values->n_members; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "",
						 NameStr(
							 ((Form_pg_enum) GETSTRUCT(&values->members[i]->tuple))->enumlabel));
	ReleaseSysCacheList(values);
	return list.data;
}

Datum
cj_bound_table_setting_value(const char *setting, const CjBoundColumn *column, char *text)
{
	const char *type = format_type_be_qualified(column->base_type);
	Oid input;
	Oid param;

	if (type_is_enum(column->base_type) && !has_enum_value(column->base_type, text))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("setting \"%s\" names \"%s\", which enum %s does not have", setting, text,
						type),
				 errdetail("It has the values: %s.", list_enum(column->base_type)),
				 errhint("Set it to one of these. If the app is to have another one, it is made by: ALTER TYPE %s ADD VALUE %s;",
						 type, quote_literal_cstr(text))));
	getTypeInputInfo(column->base_type, &input, &param);
	return OidInputFunctionCall(input, text, param, -1);
}

/* resolve_label fills in one label of an entity and checks that its column can hold it. */
static void
resolve_label(const CjSource *source, const char *relation, int index, const CjBoundColumn *column,
			  char **label)
{
	const char *entity = cj_entity_definitions[source->entity].name;
	const CjLabelDefinition *definition = &cj_entity_definitions[source->entity].labels[index];
	bool is_null;
	bool is_read = strcmp(definition->name, "active") == 0;
	char *call = bind_call(source, relation, definition->name, "<label>", 0);

	*label = cj_bound_table_text(source->labels, definition->name, &is_null);
	if (*label == NULL && definition->value)
		*label = pstrdup(definition->value);
	if (*label == NULL || !column->present)
		return;

	if (type_is_enum(column->base_type) && !has_enum_value(column->base_type, *label))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("entity \"%s\": enum %s of column \"%s\" of %s has no label \"%s\"", entity,
						format_type_be_qualified(column->base_type), column->name, relation,
						*label),
				 /* a label that jobs only look for has another name in the app; an enum never loses one */
				 is_read ? errdetail("It stands for \"%s\".", definition->name) :
				 errdetail("It stands for \"%s\". To use another label, run: %s", definition->name, call),
				 is_read ? errhint("%s", cj_hint_run(call)) :
				 errhint("Run: ALTER TYPE %s ADD VALUE %s;", format_type_be_qualified(column->base_type),
						 quote_literal_cstr(*label))));

	if ((column->base_type == VARCHAROID || column->base_type == BPCHAROID) &&
		column->typmod >= (int32) VARHDRSZ &&
		pg_mbstrlen(*label) > column->typmod - (int32) VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("entity \"%s\": label \"%s\" does not fit into column \"%s\" of %s", entity,
						*label, column->name, relation),
				 errdetail("The column holds %d characters.", column->typmod - (int32) VARHDRSZ),
				 errhint("%s", cj_bound_table_hint(source, relation, definition->name, "<label>"))));
}

void
cj_bound_table_check_relation(const CjSource *source, Relation rel)
{
	const CjEntityDefinition *definition = &cj_entity_definitions[source->entity];
	char relkind = rel->rd_rel->relkind;
	char *own_schema = get_namespace_name(RelationGetNamespace(rel));

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetNamespace(rel) == PG_CATALOG_NAMESPACE ||
		strcmp(own_schema, "information_schema") == 0 || strcmp(own_schema, "challenge_jobs") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("entity \"%s\": %s cannot be bound", definition->name,
				 		cj_catalog_name(RelationGetRelid(rel))),
				 errdetail("System catalogs and the tables of challenge_jobs cannot be bound."),
				 errhint("%s", cj_bound_table_hint(source, "<schema>.<table>", NULL, NULL))));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("entity \"%s\": %s is a temporary table", definition->name,
						RelationGetRelationName(rel)),
				 errhint("%s", cj_bound_table_hint(source, "<schema>.<table>", NULL, NULL))));
	if (relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE)
		return;
	if (definition->may_be_view && (relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("entity \"%s\": %s is not a table%s", definition->name,
			 		cj_catalog_name(RelationGetRelid(rel)),
					definition->may_be_view ? ", view or materialized view" : ""),
			 errhint("%s", cj_bound_table_hint(source, "<schema>.<table>", NULL, NULL))));
}

/* check_row_security refuses a table whose policies would hide rows from its own owner. */
static void
check_row_security(const CjSource *source, Relation rel)
{
	if (check_enable_rls(RelationGetRelid(rel), rel->rd_rel->relowner, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("entity \"%s\": row-level security of %s is forced on its owner \"%s\"",
						cj_entity_definitions[source->entity].name,
								cj_catalog_name(RelationGetRelid(rel)),
						GetUserNameFromId(rel->rd_rel->relowner, false)),
				 errdetail("A job must see every row."),
				 errhint("Run: ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;",
				 		cj_catalog_name(RelationGetRelid(rel)))));
}

/* check_active_label refuses a label that would have challenges decided again and again. */
static void
check_active_label(const CjSource *source, const CjBoundEntity *entity)
{
	const char *active = entity->labels[CJ_CHALLENGES_ACTIVE];

	for (int i = CJ_CHALLENGES_COMPLETED; i <= CJ_CHALLENGES_CANCELLED; i++)
	{
		if (active && entity->labels[i] && strcmp(active, entity->labels[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"challenges\": \"%s\" stands for \"active\" and for \"%s\"",
							active, cj_entity_definitions[CJ_CHALLENGES].labels[i].name),
					 errdetail("Decided challenges would be due again."),
					 errhint("%s", cj_bound_table_hint(source, entity->relation,
							 cj_entity_definitions[CJ_CHALLENGES].labels[i].name, "<label>"))));
	}
}

/* check_distinct refuses one column of the table for two columns of the entity. */
static void
check_distinct(const CjSource *source, const CjBoundEntity *entity)
{
	const CjColumnDefinition *columns = cj_entity_definitions[source->entity].columns;

	for (int i = 0; columns[i].name; i++)
	{
		for (int j = 0; j < i; j++)
		{
			if (!entity->columns[i].present || !entity->columns[j].present ||
				entity->columns[i].number != entity->columns[j].number)
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\": column \"%s\" of %s stands for \"%s\" and for \"%s\"",
							cj_entity_name(source->entity), entity->columns[i].name,
							entity->relation, columns[j].name, columns[i].name),
					 errhint("%s", cj_bound_table_hint(source, entity->relation, columns[i].name, "<column>"))));
		}
	}
}

/* note_unused notes which columns could be used, and are not. */
static void
note_unused(const CjSource *source, Relation rel, CjBoundEntity *entity)
{
	const CjColumnDefinition *columns = cj_entity_definitions[source->entity].columns;
	StringInfoData not_found;
	uint32 candidates = 0;

	initStringInfo(&not_found);
	for (int i = 0; columns[i].name; i++)
	{
		bool is_null;
		const char *bound = cj_bound_table_text(source->columns, columns[i].name, &is_null);

		if (entity->columns[i].is_candidate)
			candidates |= CJ_BIT(i);
		if (!bound && !is_null && !columns[i].required && !columns[i].meaning &&
			get_attnum(RelationGetRelid(rel), columns[i].name) <= 0)
			appendStringInfo(&not_found, "%s%s", not_found.len > 0 ? ", " : "", columns[i].name);
	}
	entity->not_found = not_found.len > 0 ? not_found.data : NULL;
	if (candidates)
		entity->bind_candidates = bind_call(source, entity->relation, NULL, NULL, candidates);
}

void
cj_bound_table_describe(const CjSource *source, Relation rel, uint32 columns, uint32 required,
						uint32 labels, CjBoundEntity *entity)
{
	const CjEntityDefinition *definition = &cj_entity_definitions[source->entity];

	cj_bound_table_check_relation(source, rel);
	entity->used = true;
	entity->is_bound = source->relation != NULL;
	entity->relation = cj_catalog_name(RelationGetRelid(rel));
	entity->relid = RelationGetRelid(rel);
	entity->relkind = rel->rd_rel->relkind;
	entity->owner = rel->rd_rel->relowner;
	entity->is_populated = RelationIsPopulated(rel);

	for (int i = 0; definition->columns[i].name; i++)
	{
		if (columns & CJ_BIT(i))
			resolve_column(source, rel, &definition->columns[i],
						   definition->columns[i].required || (required & CJ_BIT(i)),
						   &entity->columns[i]);
	}
	for (int i = 0; definition->labels[i].name; i++)
	{
		if (labels & CJ_BIT(i))
			resolve_label(source, entity->relation, i, &entity->columns[definition->label_column],
						  &entity->labels[i]);
	}
	check_distinct(source, entity);
	note_unused(source, rel, entity);
	if (source->entity == CJ_CHALLENGES)
		check_active_label(source, entity);
	check_row_security(source, rel);
}
