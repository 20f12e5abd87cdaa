/*
 * base/catalog.c
 *		What the catalogs say of relations and types.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "rewrite/prs2lock.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/catalog.h"

char *
cj_catalog_name(Oid relid)
{
	char *schema = get_namespace_name(get_rel_namespace(relid));
	char *name = get_rel_name(relid);

	return schema && name ? quote_qualified_identifier(schema, name) : psprintf("%u", relid);
}

bool
cj_catalog_class(Oid relid, FormData_pg_class *form)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple))
		return false;
	memcpy(form, GETSTRUCT(tuple), CLASS_TUPLE_SIZE);
	ReleaseSysCache(tuple);
	return true;
}

static List *
operator_name(Oid operator)
{
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	List *name;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("operator with OID %u was dropped concurrently", operator)));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = list_make2(makeString(get_namespace_name(form->oprnamespace)),
					  makeString(pstrdup(NameStr(form->oprname))));
	ReleaseSysCache(tuple);
	return name;
}

List *
cj_catalog_equality(Oid type)
{
	return operator_name(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr);
}

Oid
cj_catalog_order(Oid type)
{
	return lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

List *
cj_catalog_greater(Oid type)
{
	return operator_name(lookup_type_cache(type, TYPECACHE_GT_OPR)->gt_opr);
}

Query *
cj_catalog_view_definition(Relation view)
{
	RuleLock *rules = view->rd_rules;

	for (int i = 0; rules && i < rules->numLocks; i++)
	{
		if (rules->rules[i]->event == CMD_SELECT && list_length(rules->rules[i]->actions) == 1)
			return copyObject(linitial_node(Query, rules->rules[i]->actions));
	}
	elog(ERROR, "view \"%s\" has no definition", RelationGetRelationName(view));
	return NULL;
}
