/*
 * app/binding.c
 *		Which tables, columns and values of the app stand for our entities, columns and labels.
 *
 * Table challenge_jobs.binding holds names, not OIDs: it is dumped and restored, and a name that leads nowhere any
 * more can be told to the user.
 *
 * Everything is checked anew in each transaction, under the locks that the transaction holds to its
 * end, so that what a statement is built from cannot change before it runs.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_oper.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "app/binding.h"
#include "app/table_access.h"
#include "base/catalog.h"
#include "base/compat.h"
#include "base/hint.h"
#include "base/identity.h"
#include "base/relation_locks.h"
#include "base/sql.h"

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
	"   AND pg_catalog.left(n.nspname, 3) <> 'pg_'"
	" ORDER BY 1"
	" LIMIT 1",
	SPI_OK_SELECT};

/* suggest_relation returns a table with the default name of an entity, or a place to fill in. */
static const char *
suggest_relation(CjEntity entity)
{
	const char *found =
		cj_sql_text_own(&find_table,
						CJ_PARAMS(CJ_TEXT(cj_entity_definitions[entity].default_relation),
								  CJ_BOOL(cj_entity_definitions[entity].may_be_view)));

	return found ? found : "<schema>.<table>";
}

/* add_lock_context adds to a lock timeout the relation it waited for. */
static void
add_lock_context(void *arg)
{
	errcontext("challenge_jobs lock on relation %s", (const char *) arg);
}

/* source_name returns the name of the relation that a source stands for, quoted where needed. */
static char *
source_name(const CjSource *source)
{
	if (source->relation)
		return pstrdup(source->relation);
	return quote_qualified_identifier(get_namespace_name(cj_identity_extension().schema),
									  cj_entity_definitions[source->entity].default_relation);
}

/* find_source finds and locks the relation that a source names; InvalidOid if there is none. */
static Oid
find_source(const CjSource *source, LOCKMODE lock_mode)
{
	char *name = source_name(source);
	List *names = cj_compat_parse_name(name);
	CjIdentity saved;
	ErrorContextCallback context = {error_context_stack, add_lock_context, name};
	Oid relid;

	error_context_stack = &context;

	/* as the owner of the extension, for the caller need not see the app's schemas */
	cj_identity_become_extension(&saved);
	relid = RangeVarGetRelid(makeRangeVarFromNameList(names), lock_mode, true);
	cj_identity_restore(&saved);
	error_context_stack = context.previous;
	return relid;
}

/* open_source opens and locks the relation that a source names; raises an error if there is none. */
static Relation
open_source(const CjSource *source, LOCKMODE lock_mode)
{
	const char *entity = cj_entity_name(source->entity);
	Oid relid = find_source(source, lock_mode);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 source->relation ?
				 errmsg("entity \"%s\": relation %s does not exist", entity, source_name(source)) :
				 errmsg("entity \"%s\" is not bound, and relation %s does not exist", entity,
						source_name(source)),
				 errhint("%s", cj_bound_table_hint(source, suggest_relation(source->entity), NULL, NULL))));
	return relation_open(relid, NoLock);
}

/* load_sources reads the table of bindings; entities without a row have no relation. */
static void
load_sources(CjSource *sources)
{
	CjRows rows = cj_sql_run_own(&load_bindings, NULL);

	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
		sources[i] = (CjSource){.entity = i};
	for (uint64 row = 0; row < rows.processed; row++)
	{
		const char *name = cj_sql_text(&rows, row, 1);
		int entity = cj_entity_find(name, strlen(name));
		bool isnull;

		if (entity < 0)
			continue;
		sources[entity].relation = cj_sql_text(&rows, row, 2);
		sources[entity].columns = DatumGetJsonbP(cj_sql_datum(&rows, row, 3, &isnull));
		sources[entity].labels = DatumGetJsonbP(cj_sql_datum(&rows, row, 4, &isnull));
	}
	cj_sql_free(&rows);
}

CjBoundNames
cj_binding_names(CjEntity entity)
{
	const CjColumnDefinition *columns = cj_entity_definitions[entity].columns;
	CjSource sources[CJ_ENTITY_COUNT];
	CjBoundNames names = {0};
	bool is_null;

	load_sources(sources);
	names.is_bound = sources[entity].relation != NULL;
	names.relation = source_name(&sources[entity]);
	for (int i = 0; columns[i].name; i++)
	{
		char *name = cj_bound_table_text(sources[entity].columns, columns[i].name, &is_null);

		names.columns[i] = name || is_null ? name : pstrdup(columns[i].name);
	}
	return names;
}

/* ---- what must hold between entities ---- */

/* count_owned returns how many of the tables used belong to a role. */
static int
count_owned(const CjBinding *binding, Oid role)
{
	int count = 0;

	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
		count += binding->entities[i].used && binding->entities[i].owner == role;
	return count;
}

/*
 * check_owner checks that the tables used have one owner, who then is the one to act as. Where they do
 * not, the hint gives the odd one to the owner of most.
 */
static void
check_owner(CjBinding *binding)
{
	const CjBoundEntity *odd = NULL;
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		const CjBoundEntity *entity = &binding->entities[i];

		if (!entity->used)
			continue;
		if (!OidIsValid(binding->owner) ||
			count_owned(binding, entity->owner) > count_owned(binding, binding->owner))
			binding->owner = entity->owner;
		appendStringInfo(&list, "%s%s belongs to \"%s\"", list.len > 0 ? ", " : "",
						 entity->relation, GetUserNameFromId(entity->owner, false));
	}
	for (int i = 0; i < CJ_ENTITY_COUNT && odd == NULL; i++)
	{
		if (binding->entities[i].used && binding->entities[i].owner != binding->owner)
			odd = &binding->entities[i];
	}
	if (odd)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the bound tables have different owners"), errdetail("%s.", list.data),
				 /* whoever may create tables there can have made one of a default name */
				 odd->is_bound
					 ? errhint("Run: ALTER TABLE %s OWNER TO %s;", odd->relation,
							   quote_identifier(GetUserNameFromId(binding->owner, false)))
					 : errhint("Fill in and run: SELECT challenge_jobs.bind('%s', '<schema>.<table>');",
							   cj_entity_name((CjEntity) (odd - binding->entities)))));
}

/*
 * is_comparable returns whether statements can compare two types by the equality of the left one.
 *
 * Between two types the parser may prefer any operator of that name in the schema of the left type, and
 * others may create things there: it has to be one of pg_catalog or of an operator class, which only
 * superusers define.
 */
static bool
is_comparable(Oid left, Oid right)
{
	Operator found = oper(NULL, cj_catalog_equality(left), left, right, true, -1);
	Form_pg_operator form;
	bool result;

	if (found == NULL)
		return false;
	form = (Form_pg_operator) GETSTRUCT(found);
	result = form->oprnamespace == PG_CATALOG_NAMESPACE ||
			 op_in_opfamily(form->oid, cj_catalog_order(form->oprleft));
	ReleaseSysCache(found);
	return result;
}

/* check_comparable checks that a reference can be compared with the key that it refers to, in this order. */
static void
check_comparable(const CjBinding *binding, const CjSource *sources, CjEntity from, int from_column,
				 CjEntity to, int to_column)
{
	const CjBoundColumn *a = &binding->entities[from].columns[from_column];
	const CjBoundColumn *b = &binding->entities[to].columns[to_column];

	if (!a->present || !b->present || a->base_type == b->base_type)
		return;
	if (is_comparable(a->base_type, b->base_type))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("entity \"%s\": column \"%s\" of %s is of type %s, column \"%s\" of %s of type %s",
					cj_entity_definitions[from].name, a->name, binding->entities[from].relation,
					format_type_be(a->type), b->name, binding->entities[to].relation,
					format_type_be(b->type)),
			 errdetail("The two hold the same keys and cannot be compared."),
			 errhint("%s", cj_bound_table_hint(&sources[from], binding->entities[from].relation,
					 cj_entity_definitions[from].columns[from_column].name, "<column>"))));
}

/*
 * check_apart refuses one table for notifications and another entity: jobs would delete its rows as they
 * expire, and add rows to it.
 */
static void
check_apart(const CjSource *sources, CjEntity entity, const char *relation)
{
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		if (i == entity || (i != CJ_NOTIFICATIONS && entity != CJ_NOTIFICATIONS) ||
			strcmp(source_name(&sources[i]), relation) != 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entity \"%s\": %s already stands for \"%s\"", cj_entity_name(entity),
						relation, cj_entity_name(i)),
				 errdetail("Jobs add notifications to their table, and delete old rows from it."),
				 errhint("Fill in and run: SELECT challenge_jobs.bind('%s', '<schema>.<table>');",
						 cj_entity_name(entity))));
	}
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

/* is_used returns whether an entity that a job names is used as it is bound. */
static bool
is_used(const CjSource *sources, const CjUsage *usage)
{
	const char *cancelled =
		cj_entity_definitions[CJ_CHALLENGES].labels[CJ_CHALLENGES_CANCELLED].name;
	bool is_null;

	return !usage->only_to_cancel ||
		   cj_bound_table_text(sources[CJ_CHALLENGES].labels, cancelled, &is_null) != NULL;
}

/* lock_sources locks all that a job uses, a plain view with what it reads. */
static void
lock_sources(const CjSource *sources, const CjUsage *usage, int count)
{
	List *locks = NIL;

	for (int i = 0; i < count; i++)
	{
		Oid relid = find_source(&sources[usage[i].entity], NoLock);

		if (!OidIsValid(relid) || !is_used(sources, &usage[i]))
			continue;
		locks = cj_relation_locks_add(locks, relid, usage[i].lock_mode);
		if (get_rel_relkind(relid) == RELKIND_VIEW)
			locks = cj_relation_locks_add_read(locks, relid, AccessShareLock, InvalidOid);
	}
	cj_relation_locks_take(locks);
}

CjBinding *
cj_binding_resolve(const CjUsage *usage, int count)
{
	CjBinding *binding = palloc0(sizeof(CjBinding));
	CjSource sources[CJ_ENTITY_COUNT];

	load_sources(sources);
	lock_sources(sources, usage, count);
	for (int i = 0; i < count; i++)
	{
		CjEntity entity = usage[i].entity;
		Relation rel;

		if (!is_used(sources, &usage[i]))
			continue;
		rel = open_source(&sources[entity], usage[i].lock_mode);
		cj_bound_table_describe(&sources[entity], rel, usage[i].columns, usage[i].required,
								usage[i].labels, &binding->entities[entity]);
		check_apart(sources, entity, binding->entities[entity].relation);
		cj_table_access_check(rel, binding->entities[entity].relation, usage[i].privileges);
		relation_close(rel, NoLock);
	}
	check_owner(binding);
	check_comparable(binding, sources, CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_CHALLENGE_ID, CJ_CHALLENGES,
					 CJ_CHALLENGES_ID);
	check_comparable(binding, sources, CJ_CHALLENGE_MEMBER_STATS, CJ_STATS_CHALLENGE_ID,
					 CJ_CHALLENGES, CJ_CHALLENGES_ID);
	check_comparable(binding, sources, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_USER_ID,
					 CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_USER_ID);
	check_comparable(binding, sources, CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_USER_ID, CJ_USERS,
					 CJ_USERS_ID);
	check_comparable(binding, sources, CJ_CHALLENGES, CJ_CHALLENGES_CREATOR_ID,
					 CJ_CHALLENGE_MEMBERS, CJ_MEMBERS_USER_ID);
	check_comparable(binding, sources, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_USER_ID, CJ_CHALLENGES,
					 CJ_CHALLENGES_CREATOR_ID);
	check_comparable(binding, sources, CJ_NOTIFICATIONS, CJ_NOTIFICATIONS_USER_ID, CJ_USERS,
					 CJ_USERS_ID);
	binding->search_path = build_search_path(binding);
	return binding;
}

void
cj_binding_leave_to_default(CjBinding *binding, CjEntity entity, int column)
{
	CjBoundColumn *bound = &binding->entities[entity].columns[column];

	bound->present &= !bound->has_default;
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

/* bind_example returns the call of bind() with the arguments that were given, to be filled in. */
static char *
bind_example(const CjSource *source)
{
	return psprintf("SELECT challenge_jobs.bind('%s', %s%s%s);", cj_entity_name(source->entity),
					quote_literal_cstr(source->relation),
					source->columns ? ", columns => '<columns>'" : "",
					source->labels ? ", labels => '<labels>'" : "");
}

/* check_mapping checks the keys and values of the object given for columns or labels. */
static void
check_mapping(const CjSource *source, Jsonb *mapping, const char *what, bool nullable,
			  int (*find)(CjEntity, const char *, int), const char *possible)
{
	const char *entity = cj_entity_definitions[source->entity].name;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (mapping == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entity \"%s\": argument \"%s\" must be a JSON object", entity, what),
				 errdetail("Its keys can be: %s.", possible),
				 errhint("%s", cj_hint_run(bind_example(source)))));

	it = JsonbIteratorInit(&mapping->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (find(source->entity, key.val.string.val, key.val.string.len) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\": argument \"%s\" has unknown key \"%.*s\"", entity, what, key.val.string.len, key.val.string.val),
					 possible[0] ? errdetail("Its keys can be: %s.", possible) :
					 errdetail("The entity has none."),
					 errhint("%s", cj_hint_run(bind_example(source)))));
		if (value.type != jbvString && !(nullable && value.type == jbvNull))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("entity \"%s\": key \"%.*s\" of argument \"%s\" must have a string as its value", entity,
							key.val.string.len, key.val.string.val, what),
					 errhint("%s", cj_hint_run(bind_example(source)))));
	}
}

/* find_entity returns the entity of that name; raises an error if there is none. */
static CjEntity
find_entity(const char *name)
{
	int entity = cj_entity_find(name, strlen(name));

	if (entity < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no entity \"%s\"", name),
				 errdetail("The entities are: challenges, challenge_members, "
						   "challenge_member_stats, notifications, users."),
				 errhint("Run: SELECT entity, relation FROM challenge_jobs.binding;")));
	return entity;
}

/* open_for_bind opens the relation named by the caller, who must have the rights of its owner. */
static Relation
open_for_bind(const CjSource *source)
{
	RangeVar *range = makeRangeVarFromNameList(cj_compat_parse_name(source->relation));
	Oid relid = RangeVarGetRelid(range, AccessShareLock, true);
	Relation rel;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("entity \"%s\": relation %s does not exist",
						cj_entity_definitions[source->entity].name, source->relation),
				 errhint("%s", cj_bound_table_hint(source, suggest_relation(source->entity), NULL, NULL))));
	rel = relation_open(relid, NoLock);
	cj_bound_table_check_relation(source, rel);

	/* jobs will write to it as its owner: that is for the owner to allow */
	if (!has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of relation %s to bind it",
				 		cj_catalog_name(RelationGetRelid(rel))),
				 errhint("Run: SET ROLE %s;",
						 quote_identifier(GetUserNameFromId(rel->rd_rel->relowner, false)))));
	return rel;
}

/*
 * columns_to_check returns the columns to be checked at once: the required ones and those that the
 * call names. The others are checked by the jobs that use them.
 */
static uint32
columns_to_check(const CjSource *source)
{
	const CjColumnDefinition *columns = cj_entity_definitions[source->entity].columns;
	uint32 result = 0;
	bool is_null;

	for (int i = 0; columns[i].name; i++)
	{
		if (columns[i].required || cj_bound_table_text(source->columns, columns[i].name, &is_null))
			result |= CJ_BIT(i);
	}
	if (cj_entity_definitions[source->entity].label_column >= 0)
		result |= CJ_BIT(cj_entity_definitions[source->entity].label_column);
	return result;
}

/* labels_to_check returns the labels that the call names, and all of a required column. */
static uint32
labels_to_check(const CjSource *source)
{
	const CjEntityDefinition *definition = &cj_entity_definitions[source->entity];
	bool all =
		definition->label_column >= 0 && definition->columns[definition->label_column].required;
	uint32 result = 0;
	bool is_null;

	for (int i = 0; definition->labels[i].name; i++)
	{
		if (all || cj_bound_table_text(source->labels, definition->labels[i].name, &is_null))
			result |= CJ_BIT(i);
	}
	return result;
}

/* check_may_unbind checks that the caller has the rights of the owner of the table bound so far. */
static void
check_may_unbind(CjEntity entity)
{
	CjSource sources[CJ_ENTITY_COUNT];
	Relation rel;
	Oid relid;
	Oid owner;
	char *relation;

	load_sources(sources);
	if (sources[entity].relation == NULL)
		return;
	relid = find_source(&sources[entity], AccessShareLock);
	if (!OidIsValid(relid))
		return;
	rel = relation_open(relid, NoLock);
	owner = rel->rd_rel->relowner;
	relation = cj_catalog_name(RelationGetRelid(rel));
	relation_close(rel, NoLock);
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of relation %s to change what entity \"%s\" is bound to",
						relation, cj_entity_name(entity)),
				 errhint("Run: SET ROLE %s;", quote_identifier(GetUserNameFromId(owner, false)))));
}

void
cj_binding_bind(const char *entity, const char *relation, Jsonb *columns, Jsonb *labels)
{
	CjSource source = {find_entity(entity), relation, columns, labels};
	const CjEntityDefinition *definition = &cj_entity_definitions[source.entity];
	CjSource sources[CJ_ENTITY_COUNT];
	CjBoundEntity described = {0};
	Relation rel;

	check_mapping(&source, columns, "columns", true, cj_entity_find_column,
				  list_names((const char *) definition->columns, sizeof(CjColumnDefinition)));
	check_mapping(&source, labels, "labels", false, cj_entity_find_label,
				  list_names((const char *) definition->labels, sizeof(CjLabelDefinition)));
	check_may_unbind(source.entity);
	rel = open_for_bind(&source);
	cj_bound_table_describe(&source, rel, columns_to_check(&source), 0, labels_to_check(&source),
							&described);
	relation_close(rel, NoLock);
	load_sources(sources);
	check_apart(sources, source.entity, described.relation);

	cj_sql_execute_own(&store_binding,
					   CJ_PARAMS(CJ_TEXT(definition->name), CJ_TEXT(described.relation),
								 CJ_VALUE(JSONBOID, PointerGetDatum(columns), columns == NULL),
								 CJ_VALUE(JSONBOID, PointerGetDatum(labels), labels == NULL)));
}

void
cj_binding_unbind(const char *entity)
{
	CjEntity id = find_entity(entity);

	check_may_unbind(id);
	cj_sql_execute_own(&delete_binding, CJ_PARAMS(CJ_TEXT(cj_entity_name(id))));
}
