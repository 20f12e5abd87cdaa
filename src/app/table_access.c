/* app/table_access.c: whether jobs can do with a table what they have to. */
#include "postgres.h"

#include "catalog/objectaddress.h"
#include "catalog/pg_rewrite.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "rewrite/rewriteDefine.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "app/table_access.h"
#include "base/compat.h"

/* raise_missing raises the error for a privilege that the owner lacks. */
static void
raise_missing(Relation rel, const char *name, const char *privilege, const char *object)
{
	const char *owner = GetUserNameFromId(rel->rd_rel->relowner, false);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the owner of %s lacks a privilege that jobs need", name),
			 errhint("Run: GRANT %s ON %s TO %s;", privilege, object, quote_identifier(owner))));
}

static void
check_privileges(Relation rel, const char *name, AclMode privileges)
{
	static const struct
	{
		AclMode bit;
		const char *name;
	} known[] = {{ACL_SELECT, "SELECT"},
				 {ACL_INSERT, "INSERT"},
				 {ACL_UPDATE, "UPDATE"},
				 {ACL_DELETE, "DELETE"}};
	Oid schema = RelationGetNamespace(rel);
	StringInfoData missing;
	AclMode held =
		pg_class_aclmask(RelationGetRelid(rel), rel->rd_rel->relowner, privileges, ACLMASK_ALL);

	if (!cj_compat_schema_usage(schema, rel->rd_rel->relowner))
		raise_missing(rel, name, "USAGE",
					  psprintf("SCHEMA %s", quote_identifier(get_namespace_name(schema))));
	initStringInfo(&missing);
	for (int i = 0; i < lengthof(known); i++)
	{
		if (privileges & ~held & known[i].bit)
			appendStringInfo(&missing, "%s%s", missing.len > 0 ? ", " : "", known[i].name);
	}
	if (missing.len > 0)
		raise_missing(rel, name, missing.data, name);
}

/* rule_name returns the name of a rule, quoted where needed. */
static const char *
rule_name(Oid rule)
{
	ObjectAddress address = {RewriteRelationId, rule};
	List *names = NIL;
	List *arguments = NIL;

	(void) getObjectIdentityParts(&address, &names, &arguments, false);
	return quote_identifier(llast(names));
}

/* check_rules checks that no rule stands in for a kind of statement. */
static void
check_rules(Relation rel, const char *name, CmdType event, const char *event_name)
{
	for (int i = 0; rel->rd_rules && i < rel->rd_rules->numLocks; i++)
	{
		const RewriteRule *rule = rel->rd_rules->rules[i];

		/* one with a condition leaves the statement to the rows for which that does not hold */
		if (rule->event != event || !rule->isInstead || rule->qual != NULL ||
			rule->enabled == RULE_DISABLED)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("rule %s of %s does something else instead of %s", rule_name(rule->ruleId),
						name, event_name),
				 errdetail("A job cannot know what the rule does."),
				 errhint("Run: DROP RULE %s ON %s;", rule_name(rule->ruleId), name)));
	}
}

void
cj_table_access_check(Relation rel, const char *name, AclMode privileges)
{
	check_privileges(rel, name, privileges);
	if (privileges & ACL_INSERT)
		check_rules(rel, name, CMD_INSERT, "INSERT");
	if (privileges & ACL_DELETE)
		check_rules(rel, name, CMD_DELETE, "DELETE");
	else if (privileges & ACL_UPDATE) /* with DELETE it is there to lock rows */
		check_rules(rel, name, CMD_UPDATE, "UPDATE");
}
