/*
 * matview/analysis/source_table.c
 *		Whether row triggers see all that happens to a table.
 *
 * What may be empty after a crash, what is written behind the back of triggers, and what has none, cannot be a
 * source.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/catalog.h"
#include "matview/analysis/source_table.h"

/* is_inherited returns whether a table is a part of inheritance as it was before partitions. */
static bool
is_inherited(Relation rel)
{
	Oid relid = RelationGetRelid(rel);

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || rel->rd_rel->relispartition)
		return false;
	return has_subclass(relid) || has_superclass(relid);
}

/* find_refusal returns why a relation by itself cannot be a source, a format for its name; or NULL. */
static const char *
find_refusal(Relation rel, const char **hint)
{
	char relkind = rel->rd_rel->relkind;

	if (RelationGetRelid(rel) < FirstNormalObjectId)
		return "It reads %s, which belongs to the system: changes of the catalogs fire no triggers.";
	if (getExtensionOfObject(RelationRelationId, RelationGetRelid(rel)) ==
		get_extension_oid("challenge_jobs", true))
		return "It reads %s, which belongs to this extension.";
	if (relkind == RELKIND_MATVIEW)
		return "It reads the materialized view %s: a refresh fires no triggers.";
	if (relkind == RELKIND_FOREIGN_TABLE)
		return "It reads the foreign table %s: what others change there fires no triggers.";
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		return "It reads %s, which is no table.";
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return "It reads the temporary table %s.";
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
	{
		*hint = psprintf("Run: ALTER TABLE %s SET LOGGED;", cj_catalog_name(RelationGetRelid(rel)));
		return "It reads the unlogged table %s: a crash empties it, and fires no triggers.";
	}
	if (is_inherited(rel))
		return "It reads %s, which has parents or children by INHERITS: triggers do not reach them.";
	return NULL;
}

/* allow_itself evaluates a relation without its partitions. */
static bool
allow_itself(Relation rel, const char **refusal, const char **hint)
{
	const char *format = find_refusal(rel, hint);

	if (format)
	{
		/* each of them has one %s */
		char *name = cj_catalog_name(RelationGetRelid(rel));
		const char *place = strstr(format, "%s");

		*refusal = psprintf("%.*s%s%s", (int) (place - format), format, name, place + 2);
	}
	return format == NULL;
}

bool
cj_source_table_allow(Relation rel, const char **refusal, const char **hint)
{
	List *partitions;
	ListCell *cell;
	bool allowed = allow_itself(rel, refusal, hint);

	if (!allowed || rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return allowed;
	partitions = find_all_inheritors(RelationGetRelid(rel), AccessShareLock, NULL);
	foreach(cell, partitions)
	{
		Relation partition = table_open(lfirst_oid(cell), NoLock);

		allowed = allowed && allow_itself(partition, refusal, hint);
		table_close(partition, NoLock);
	}
	return allowed;
}

/* note_column adds a column to a set, if triggers see its value. */
static bool
note_column(Oid relid, Form_pg_attribute column, Bitmapset **columns, const char **refusal,
			const char **hint)
{
	/* computed when it is read ('v', from 18 on) */
	if (column->attgenerated == 'v')
	{
		*refusal =
			psprintf("It reads the virtual generated column \"%s\" of %s, whose value triggers do "
					 "not see.",
					 NameStr(column->attname), cj_catalog_name(relid));
		*hint = "Write its expression into the view, or make it STORED.";
		return false;
	}
	*columns = bms_add_member(*columns, column->attnum);
	return true;
}

bool
cj_source_table_note_column(Oid relid, AttrNumber attno, Bitmapset **columns, const char **refusal,
							const char **hint)
{
	Relation rel;
	TupleDesc desc;
	bool allowed = true;

	if (attno < 0)
	{
		*refusal =
			psprintf("It reads the system column \"%s\" of %s, which changes unseen.",
					 NameStr(SystemAttributeDefinition(attno)->attname), cj_catalog_name(relid));
		return false;
	}
	rel = table_open(relid, AccessShareLock);
	desc = RelationGetDescr(rel);
	for (int i = 0; allowed && i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && (attno == 0 || attno == column->attnum))
			allowed = note_column(relid, column, columns, refusal, hint);
	}
	table_close(rel, NoLock);
	return allowed;
}
