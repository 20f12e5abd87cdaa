/*
 * matview/view_names.c
 *		The names of registered and tracked views: they follow the views that they stand for.
 *
 * Names are what is stored, and dumped; which views of this database they stand for is noted besides (known_view,
 * not dumped). A name that leads to something is right whatever is noted: views are dropped and made anew, and
 * exchanged for others. One that leads nowhere is given up for that which the view has by now (renamed_view). The
 * same holds for the name of a key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "base/sql.h"
#include "matview/view_names.h"

static const CjStatement find_renamed = {
	"find views that have been renamed",
	"SELECT r.view_name, r.new_name, r.view_id FROM challenge_jobs.renamed_view r ORDER BY 1",
	SPI_OK_SELECT};

static const CjStatement find_new_name = {
	"find the new name of a view",
	"SELECT r.new_name FROM challenge_jobs.renamed_view r WHERE r.view_name = $1", SPI_OK_SELECT};

/* $1: a name, $2: the one that the view has now, $3: the view. Both may be registered. */
static const CjStatement rename_tracking = {
	"follow a tracked view that has been renamed",
	"WITH old AS (DELETE FROM challenge_jobs.tracking WHERE view_name = $1 RETURNING key_column), "
	"state AS (UPDATE challenge_jobs.tracking_state SET view_name = $2 WHERE view_id = $3)"
	"INSERT INTO challenge_jobs.tracking (view_name, key_column)"
	" SELECT $2, o.key_column FROM old o"
	"    ON CONFLICT DO NOTHING",
	SPI_OK_INSERT};

static const CjStatement rename_registered = {
	"follow a view that has been renamed",
	"WITH old AS (DELETE FROM challenge_jobs.stats_view WHERE view_name = $1 RETURNING 1)"
	"INSERT INTO challenge_jobs.stats_view (view_name)"
	" SELECT $2 FROM old o WHERE $3 IS NOT NULL"
	"    ON CONFLICT DO NOTHING",
	SPI_OK_INSERT};

/* So that renaming a view does not bring it to the front again. */
static const CjStatement rename_attempt = {
	"follow a view whose refresh did not come to an end",
	"UPDATE challenge_jobs.view_attempt a"
	"   SET view_name = $2"
	" WHERE a.view_name = $1"
	"   AND NOT EXISTS (SELECT FROM challenge_jobs.view_attempt n WHERE n.view_name = $2)",
	SPI_OK_UPDATE};

static const CjStatement rename_key = {
	"follow a key that has been renamed",
	"UPDATE challenge_jobs.tracking t SET key_column = a.attname"
	"  FROM challenge_jobs.known_view k"
	"  JOIN pg_catalog.pg_attribute a"
	"    ON a.attrelid = k.view_id AND a.attnum = k.key_number AND NOT a.attisdropped"
	" WHERE k.view_name = t.view_name"
	"   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute o"
	"                    WHERE o.attrelid = k.view_id AND o.attname = t.key_column::pg_catalog.name)",
	SPI_OK_UPDATE};

static const CjStatement note_known = {
	"note which views names stand for",
	"INSERT INTO challenge_jobs.known_view AS k (view_name, view_id, key_number)"
	"SELECT v.view_name, c.oid, a.attnum"
	"  FROM challenge_jobs.stats_view v"
	" CROSS JOIN LATERAL pg_catalog.parse_ident(v.view_name) p(parts)"
	"  JOIN pg_catalog.pg_namespace n ON n.nspname = p.parts[1]::pg_catalog.name"
	"  JOIN pg_catalog.pg_class c"
	"    ON c.relnamespace = n.oid AND c.relname = p.parts[2]::pg_catalog.name AND c.relkind = 'm'"
	"  LEFT JOIN challenge_jobs.tracking t ON t.view_name = v.view_name"
	"  LEFT JOIN pg_catalog.pg_attribute a"
	"    ON a.attrelid = c.oid AND a.attname = t.key_column::pg_catalog.name AND NOT a.attisdropped"
	"  LEFT JOIN challenge_jobs.known_view o ON o.view_name = v.view_name"
	" WHERE o.view_id IS DISTINCT FROM c.oid"
	"    OR (t.view_name IS NOT NULL AND o.key_number IS DISTINCT FROM a.attnum)"
	"    ON CONFLICT (view_name)"
	"    DO UPDATE SET view_id = excluded.view_id, key_number = excluded.key_number",
	SPI_OK_INSERT};

static void
run_for_view(const CjStatement *statement, CjRows *renamed, uint64 row)
{
	cj_sql_execute_own(statement, CJ_PARAMS(CJ_TEXT(cj_sql_text(renamed, row, 1)),
											CJ_TEXT(cj_sql_text(renamed, row, 2)),
											CJ_OID(cj_sql_oid(renamed, row, 3))));
}

void
cj_view_names_note(void)
{
	if (IsolationUsesXactSnapshot())
		return;
	cj_sql_execute_own(&note_known, NULL);
}

void
cj_view_names_follow(void)
{
	CjRows renamed;

	if (IsolationUsesXactSnapshot())
		return;
	renamed = cj_sql_run_own(&find_renamed, NULL);
	for (uint64 row = 0; row < renamed.processed; row++)
	{
		run_for_view(&rename_tracking, &renamed, row);
		run_for_view(&rename_registered, &renamed, row);
		run_for_view(&rename_attempt, &renamed, row);
		ereport(LOG,
				(errmsg("challenge_jobs: the view registered as %s is %s now",
						cj_sql_text(&renamed, row, 1), cj_sql_text(&renamed, row, 2))));
	}
	if (renamed.processed > 0)
		cj_view_names_note();
	cj_sql_free(&renamed);
	cj_sql_execute_own(&rename_key, NULL);
}

char *
cj_view_names_find(const char *name)
{
	return cj_sql_text_own(&find_new_name, CJ_PARAMS(CJ_TEXT(name)));
}
