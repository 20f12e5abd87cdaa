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

#include "base/sql.h"
#include "matview/view_names.h"

static const CjStatement find_renamed = {
	"find views that have been renamed",
	"SELECT r.view_name, r.new_name, r.view_id FROM challenge_jobs.renamed_view r ORDER BY 1",
	SPI_OK_SELECT};

static const CjStatement find_new_name = {
	"find the new name of a view",
	"SELECT r.new_name FROM challenge_jobs.renamed_view r WHERE r.view_name = $1", SPI_OK_SELECT};

static const CjStatement rename_view = CJ_CALL("rename_view($1, $2, $3)");
static const CjStatement rename_keys = CJ_CALL("rename_keys()");
static const CjStatement note_known = CJ_CALL("note_known_views()");

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
		cj_sql_execute_own(&rename_view, CJ_PARAMS(CJ_TEXT(cj_sql_text(&renamed, row, 1)),
												   CJ_TEXT(cj_sql_text(&renamed, row, 2)),
												   CJ_OID(cj_sql_oid(&renamed, row, 3))));
		ereport(LOG,
				(errmsg("challenge_jobs: the view registered as %s is %s now",
						cj_sql_text(&renamed, row, 1), cj_sql_text(&renamed, row, 2))));
	}
	if (renamed.processed > 0)
		cj_view_names_note();
	cj_sql_free(&renamed);
	cj_sql_execute_own(&rename_keys, NULL);
}

char *
cj_view_names_find(const char *name)
{
	return cj_sql_text_own(&find_new_name, CJ_PARAMS(CJ_TEXT(name)));
}
