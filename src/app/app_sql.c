/*
 * app/app_sql.c
 *		Statements over the app's tables: the names of a binding put into a text.
 *
 * The one place where SQL is assembled, and names (quoted) and labels (as typed literals) are all that is put in.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"

#include "app/app_sql.h"
#include "base/catalog.h"
#include "base/compat.h"
#include "base/identity.h"

static const CjStatement view_definition = {
	"read the definition of a view", "SELECT pg_catalog.rtrim(pg_catalog.pg_get_viewdef($1), ';')",
	SPI_OK_SELECT};

/* $1: the view, $2: the owner of the tables */
static const CjStatement operator_schemas = CJ_CALL_ROWS("operator_schemas($1, $2)");

/* $1: the table, $2: its owner */
static const CjStatement deferrable_constraints = CJ_CALL_ROWS("deferrable_constraints($1, $2)");

/* Whoever has a check pending on a table holds the lock that the change took. */
static const CjStatement locked_relations = {"find the relations that this transaction has locked",
											 "SELECT DISTINCT l.relation"
											 "  FROM pg_catalog.pg_locks l"
											 " WHERE l.pid = pg_catalog.pg_backend_pid()"
											 "   AND l.locktype = 'relation'"
											 "   AND l.database = $1",
											 SPI_OK_SELECT};

static const CjStatement set_all_constraints = {"set all constraints immediate",
												"SET CONSTRAINTS ALL IMMEDIATE", SPI_OK_UTILITY};

/* A token between braces, taken apart. */
typedef struct Token
{
	CjEntity entity;
	int column;         /* -1: the relation */
	const char *suffix; /* "", "=", ">", "~", ":<label>" or "!" */
	int suffix_len;
} Token;

/* parse_token takes the text between two braces apart. */
static Token
parse_token(const char *text, int len)
{
	Token token;
	int name_len = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
	int entity = cj_entity_find(text, name_len);
	int pos = name_len;

	token.entity = entity;
	token.column = -1;
	if (entity >= 0 && text[pos] == '.')
	{
		const char *column = text + pos + 1;
		int column_len = strspn(column, "abcdefghijklmnopqrstuvwxyz_");

		token.column = cj_entity_find_column(entity, column, column_len);
		pos += 1 + column_len;
	}
	if (entity < 0 || (text[name_len] == '.' && token.column < 0) || pos > len)
		elog(ERROR, "unknown name \"%.*s\" in a statement", len, text);
	token.suffix = text + pos;
	token.suffix_len = len - pos;
	return token;
}

/* append_type appends the name of a type, without a modifier: "character" would be character(1). */
static void
append_type(StringInfo out, Oid type)
{
	appendStringInfo(out, "::%s",
					 format_type_extended(type, -1,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

/*
 * append_base appends a cast to the base type where a column is of a domain. The operators of enums do
 * not look through domains, and for others a domain is no exact match: an operator planted for it would
 * be preferred.
 */
static void
append_base(StringInfo out, const CjBoundColumn *column)
{
	if (column->type != column->base_type)
		append_type(out, column->base_type);
}

/* append_operator appends an operator of a column's type, for the column before it. */
static void
append_operator(StringInfo out, const CjBoundColumn *column, List *name)
{
	append_base(out, column);
	appendStringInfo(out, " OPERATOR(%s.%s)", quote_identifier(strVal(linitial(name))),
					 strVal(lsecond(name)));
}

/* append_operand makes the column before it comparable: cast from a domain, with its collation. */
static void
append_operand(StringInfo out, const CjBoundColumn *column)
{
	append_base(out, column);
	if (OidIsValid(column->collation))
		appendStringInfo(out, " COLLATE %s", generate_collation_name(column->collation));
}

/* find_label returns the label that is named. */
static int
find_label(const Token *token)
{
	int label = cj_entity_find_label(token->entity, token->suffix + 1, token->suffix_len - 1);

	if (label < 0)
		elog(ERROR, "unknown label \"%.*s\" in a statement", token->suffix_len, token->suffix);
	return label;
}

/* append_label appends a label as a literal of the type of its column. */
static void
append_label(StringInfo out, const CjBoundEntity *entity, const Token *token)
{
	int label = find_label(token);

	if (entity->labels[label] == NULL)
		elog(ERROR, "unknown label \"%.*s\" in a statement", token->suffix_len, token->suffix);

	appendStringInfoString(out, quote_literal_cstr(entity->labels[label]));
	append_type(out, entity->columns[token->column].base_type);
}

static void
append_token(StringInfo out, const Token *token, const CjBinding *binding, const char *definition)
{
	const CjBoundEntity *entity = &binding->entities[token->entity];
	const CjBoundColumn *column = token->column >= 0 ? &entity->columns[token->column] : NULL;

	if (!entity->used || (column && !column->present))
		elog(ERROR, "a statement uses something of entity \"%s\" that the job has not asked for",
			 cj_entity_name(token->entity));
	if (column == NULL)
		appendStringInfoString(out,
							   token->suffix_len > 0 && definition ? definition : entity->relation);
	else if (token->suffix_len == 0)
		appendStringInfoString(out, quote_identifier(column->name));
	else if (token->suffix[0] == '=')
		append_operator(out, column, cj_catalog_equality(column->base_type));
	else if (token->suffix[0] == '>')
		append_operator(out, column, cj_catalog_greater(column->base_type));
	else if (token->suffix[0] == '~')
		append_operand(out, column);
	else
		append_label(out, entity, token);
}

/* is_present returns whether an entity has a column, and the label where one is named. */
static bool
is_present(const Token *token, const CjBoundEntity *entity)
{
	return entity->columns[token->column].present &&
		   (token->suffix_len == 0 || entity->labels[find_label(token)] != NULL);
}

/* end_of_condition returns what follows the end of a condition, in which there may be others. */
static const char *
end_of_condition(const CjStatement *statement, const char *text)
{
	int depth = 1;

	while (depth > 0 && (text = strchr(text, '{')) != NULL)
	{
		depth += text[1] == '?' ? 1 : text[1] == '/' ? -1 : 0;
		text++;
	}
	if (text == NULL)
		elog(ERROR, "statement \"%s\" has no end of a condition", statement->name);
	return text + strlen("/}");
}

char *
cj_app_sql_expand(const CjStatement *statement, const CjBinding *binding, const char *definition)
{
	StringInfoData out;
	const char *p = statement->text;

	initStringInfo(&out);
	while (*p)
	{
		const char *open = strchr(p, '{');
		const char *close = open ? strchr(open, '}') : NULL;
		Token token;

		if (close == NULL)
		{
			appendStringInfoString(&out, p);
			break;
		}
		appendBinaryStringInfo(&out, p, open - p);
		p = close + 1;
		if (open[1] == '/')
			continue;
		if (open[1] != '?')
		{
			token = parse_token(open + 1, close - open - 1);
			append_token(&out, &token, binding, definition);
			continue;
		}
		token = parse_token(open + 2, close - open - 2);
		if (!is_present(&token, &binding->entities[token.entity]))
			p = end_of_condition(statement, p);
	}
	return out.data;
}

CjRows
cj_app_sql_run(const CjStatement *statement, const CjBinding *binding, const char *definition,
			   CjParams *params)
{
	char *text = cj_app_sql_expand(statement, binding, definition);
	CjRows rows = cj_sql_run(statement, text, params);

	pfree(text);
	return rows;
}

bool
cj_app_sql_can_lock_rows(void)
{
	return !OidIsValid(get_extension_oid("citus", true));
}

/*
 * read_search_path returns the search_path for the definition of a view. Operators are looked up among those that there are
 * now, and so it is asked who may create any now: the caller's snapshot can be older.
 */
static char *
read_search_path(const CjBoundEntity *entity)
{
	CjParams *params = CJ_PARAMS(CJ_OID(entity->relid), CJ_OID(entity->owner));
	CjIdentity saved;
	CjRows rows;
	char *path;
	char *open_schema;

	cj_identity_become_extension(&saved);
	rows = cj_sql_run_at(&operator_schemas, NULL, params, GetLatestSnapshot());
	cj_identity_restore(&saved);
	path = psprintf("pg_catalog%s", cj_sql_text(&rows, 0, 1));
	open_schema = cj_sql_text(&rows, 0, 2);
	cj_sql_free(&rows);
	if (open_schema)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the definition of %s cannot be run safely", entity->relation),
				 errdetail("It uses operators of schema %s, in which roles other than the owner of the view may create operators.", open_schema),
				 errhint("Revoke CREATE on the schema from these roles, or use the stored averages: "
						 "SELECT challenge_jobs.alter_job('auto_complete_challenges', "
						 "settings => '{\"completion_source\": \"stored\"}');")));
	return path;
}

char *
cj_app_sql_definition(const CjBoundEntity *entity, char **search_path)
{
	char *definition;

	if (entity->relkind != RELKIND_MATVIEW)
		return NULL;

	/* with pg_catalog alone in the search_path, every name of another schema comes out qualified */
	definition = cj_sql_text_own(&view_definition, CJ_PARAMS(CJ_OID(entity->relid)));
	*search_path = read_search_path(entity);
	return psprintf("(%s)", definition);
}

void
cj_app_sql_set_all_constraints_immediate(void)
{
	(void) cj_sql_run(&set_all_constraints, NULL, NULL);
}

/* refuse_pending_checks raises an error if this transaction has any deferred check or trigger pending. */
static void
refuse_pending_checks(void)
{
	CjRows rows = cj_sql_run_own(&locked_relations, CJ_PARAMS(CJ_OID(MyDatabaseId)));

	for (uint64 row = 0; row < rows.processed; row++)
	{
		Oid relid = cj_sql_oid(&rows, row, 1);

		if (AfterTriggerPendingOnRel(relid))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("checks on table \"%s\" are pending in this transaction",
							get_rel_name(relid)),
					 errdetail("A job sets constraints immediate, and the checks would then run as \"%s\".",
							   GetUserNameFromId(GetUserId(), false)),
					 errhint("Before the job, run: SET CONSTRAINTS ALL IMMEDIATE;")));
	}
	cj_sql_free(&rows);
}

static void
append_name(StringInfo names, const char *name)
{
	appendStringInfo(names, "%s%s", names->len > 0 ? ", " : "", name);
}

/*
 * set_constraints makes constraints immediate.
 *
 * What is pending on them fires at once, with the rights of the current user, and may be code of whoever has written to a
 * table of his own: so it is done by the one who has it pending, or not at all. SET CONSTRAINTS looks constraints up by
 * name, and others may make or rename things of that name at any moment, also such as the snapshot does not show. Therefore
 * it is not asked what these constraints have pending, but whether anything is.
 */
static void
set_constraints(const char *names)
{
	CjStatement statement = {"set constraints immediate", NULL, SPI_OK_UTILITY};

	(void) cj_sql_run(&statement, psprintf("SET CONSTRAINTS %s IMMEDIATE", names), NULL);
}

void
cj_app_sql_set_constraints_immediate(const CjBinding *binding, CjEntity entity)
{
	CjRows rows =
		cj_sql_run_own(&deferrable_constraints,
					   CJ_PARAMS(CJ_OID(binding->entities[entity].relid), CJ_OID(binding->owner)));
	StringInfoData visible;
	StringInfoData hidden;
	CjIdentity saved;

	initStringInfo(&visible);
	initStringInfo(&hidden);
	for (uint64 row = 0; row < rows.processed; row++)
		append_name(cj_compat_schema_usage(cj_sql_oid(&rows, row, 2), GetUserId()) ? &visible
																				   : &hidden,
					cj_sql_text(&rows, row, 1));
	cj_sql_free(&rows);

	if (visible.len > 0)
	{
		if (InLocalUserIdChange())
			refuse_pending_checks();
		set_constraints(visible.data);
	}
	/* names that the caller may not look up: with nothing pending, nothing runs, whoever does it */
	if (hidden.len > 0)
	{
		refuse_pending_checks();
		cj_identity_become_extension(&saved);
		set_constraints(hidden.data);
		cj_identity_restore(&saved);
	}
}
