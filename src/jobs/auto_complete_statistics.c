/*
 * jobs/auto_complete_statistics.c
 *		Whether the statistics have anything to decide on.
 *
 * While a dump is being restored, or a table is being loaded anew, statistics are there that say nothing. What a run has
 * found filled is kept in its result; there is no other state, which callers would have to update and wait for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "alerts/alert.h"
#include "base/sql.h"
#include "jobs/auto_complete_statistics.h"
#include "run/findings.h"

/* $1 the statistics, $2 who reads */
static const CjStatement list_sources = {
	"list the tables that the statistics read",
	"WITH RECURSIVE reads(object) AS ("
	"    SELECT $1"
	"     UNION "
	"    SELECT d.refobjid"
	"      FROM reads s"
	"      JOIN pg_catalog.pg_rewrite r ON r.ev_class = s.object AND r.ev_type = '1'"
	"      JOIN pg_catalog.pg_depend d"
	"        ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid"
	"       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
	"       AND d.refobjid <> r.ev_class)"
	"SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname)"
	"  FROM reads s"
	"  JOIN pg_catalog.pg_class c ON c.oid = s.object AND c.relkind IN ('r', 'p')"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	"  JOIN pg_catalog.pg_roles a ON a.oid = $2"
	" WHERE pg_catalog.has_schema_privilege($2, n.oid, 'USAGE')"
	"   AND pg_catalog.has_table_privilege($2, c.oid, 'SELECT')"
	"   AND (NOT c.relrowsecurity OR a.rolsuper OR a.rolbypassrls"
	"        OR NOT c.relforcerowsecurity AND pg_catalog.pg_has_role($2, c.relowner, 'USAGE'))"
	" ORDER BY 1",
	SPI_OK_SELECT};

/* By an index of the runs that say so. */
static const CjStatement find_filled_before = {
	"find which tables had rows when the job last succeeded",
	"SELECT s.name"
	"  FROM (SELECT r.result -> 'sources' AS sources"
	"          FROM challenge_jobs.job_run r"
	"         WHERE r.job = $1 AND r.status = 'succeeded' AND NOT r.dry_run AND r.result ? 'sources'"
	"         ORDER BY r.as_of DESC LIMIT 1) l"
	" CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(l.sources) s(name)",
	SPI_OK_SELECT};

/* $1 the job: its last run that left challenges undecided, if none has done its work since; among the last thousand */
static const CjStatement find_undecided = {
	"find challenges that are left undecided",
	"SELECT NULLIF(l.result ->> 'undecidable', '0'), l.finished_at::pg_catalog.text"
	"  FROM (SELECT r.*"
	"          FROM challenge_jobs.job_run r"
	"         WHERE r.job = $1 AND NOT r.dry_run"
	"         ORDER BY - r.run_id LIMIT 1000) l"
	" WHERE l.result ->> 'undecidable' <> '0' OR " CJ_RUN_COVERS(
		"l") " ORDER BY - l.run_id LIMIT 1",
	SPI_OK_SELECT};

static List *
read_names(CjRows *rows)
{
	List *names = NIL;

	for (uint64 row = 0; row < rows->processed; row++)
		names = lappend(names, cj_sql_text(rows, row, 1));
	cj_sql_free(rows);
	return names;
}

List *
cj_auto_complete_statistics_sources(const CjBinding *binding)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param(&params, OIDOID,
				 ObjectIdGetDatum(binding->entities[CJ_CHALLENGE_MEMBER_STATS].relid), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(binding->owner), false);
	rows = cj_sql_run_own(&list_sources, &params);
	return read_names(&rows);
}

List *
cj_auto_complete_statistics_filled_before(const char *job)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, job);
	rows = cj_sql_run_own(&find_filled_before, &params);
	return read_names(&rows);
}

List *
cj_auto_complete_statistics_filled(List *sources)
{
	static const CjStatement look = {"look whether a table has rows", NULL, SPI_OK_SELECT};
	List *filled = NIL;
	ListCell *cell;

	foreach(cell, sources)
	{
		CjRows rows =
			cj_sql_run(&look, psprintf("SELECT EXISTS (SELECT FROM %s)", (char *) lfirst(cell)),
					   NULL);

		if (cj_sql_bool(&rows, 0, 1))
			filled = lappend(filled, lfirst(cell));
		cj_sql_free(&rows);
	}
	return filled;
}

void
cj_auto_complete_statistics_examine(const char *job, CjFindings *findings)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, job);
	rows = cj_sql_run_own(&find_undecided, &params);
	if (rows.processed > 0 && cj_sql_text(&rows, 0, 1))
		cj_findings_add(
			findings, "undecidable", "error",
			psprintf("due challenges left undecided at %s, since the statistics were empty: %s",
					 cj_sql_text(&rows, 0, 2), cj_sql_text(&rows, 0, 1)),
			psprintf(
				"SELECT challenge_jobs.alter_job('%s', settings => '{\"decide_without_statistics\": true}');",
				job));
	cj_sql_free(&rows);
}
