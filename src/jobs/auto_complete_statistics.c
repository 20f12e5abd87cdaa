/*
 * jobs/auto_complete_statistics.c
 *		Whether the statistics have anything to decide on.
 *
 * While a dump is being restored, or a table is being loaded anew, statistics are there that say nothing. What a run has
 * found filled is kept in its result; there is no other state, which callers would have to update and wait for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/value.h"

#include "alerts/alert.h"
#include "base/json.h"
#include "jobs/auto_complete_statistics.h"

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

/* Without a condition on the key: is there anything at all? */
static const CjStatement find_statistics = {
	"look whether there are statistics",
	"SELECT EXISTS (SELECT FROM {challenge_member_stats!} s)\n"
	"    OR NOT EXISTS (SELECT FROM {challenge_members} m)",
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

/*
 * read_sources returns the tables that the bound statistics read, by way of whatever views, as far as the owner of the bound
 * tables may read all of their rows: a list of quoted, qualified names.
 */
static List *
read_sources(const CjBinding *binding)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param(&params, OIDOID,
				 ObjectIdGetDatum(binding->entities[CJ_CHALLENGE_MEMBER_STATS].relid), false);
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(binding->owner), false);
	rows = cj_sql_run_own(&list_sources, &params);
	return read_names(&rows);
}

/* read_filled_before returns those that had rows when the job last succeeded with something to decide; NIL: it never did. */
static List *
read_filled_before(const char *job)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, job);
	rows = cj_sql_run_own(&find_filled_before, &params);
	return read_names(&rows);
}

/* list_filled returns those that have rows. */
static List *
list_filled(List *sources)
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

/* find_emptied returns the first of the tables that had rows before and have none now, though they are still read. */
static const char *
find_emptied(List *before, List *sources, List *filled)
{
	ListCell *cell;

	foreach(cell, before)
	{
		String *name = makeString(lfirst(cell));

		if (list_member(sources, name) && !list_member(filled, name))
			return lfirst(cell);
	}
	return NULL;
}

/* as_strings makes a list of nodes, which can be searched, of a list of texts. */
static List *
as_strings(List *texts)
{
	List *strings = NIL;
	ListCell *cell;

	foreach(cell, texts)
		strings = lappend(strings, makeString(lfirst(cell)));
	return strings;
}

/* keep_sources puts the tables that have rows into the result of the run, for the next one. */
static void
keep_sources(CjRun *run, List *filled)
{
	ListCell *cell;

	cj_json_begin(run->more_result, "sources", '[');
	foreach(cell, filled)
		cj_json_text(run->more_result, NULL, lfirst(cell));
	cj_json_end(run->more_result, ']');
}

/* leave_undecided leaves what is due to a later run, and says why. */
static void
leave_undecided(CjRun *run, CjAutoComplete *state, const char *why)
{
	run->figures[CJ_AUTO_COMPLETE_UNDECIDABLE] = state->due_count;
	cj_key_list_clear(state->evaluated);
	ereport(WARNING,
			(errmsg("job \"auto_complete_challenges\" left " INT64_FORMAT " due challenges undecided",
					state->due_count),
			 errdetail("%s", why),
			 errhint("Fill the statistics, or refresh them, and the next run decides. If there are to be none, run: "
					 "SELECT challenge_jobs.alter_job('auto_complete_challenges', "
					 "settings => '{\"decide_without_statistics\": true}');")));
}

void
cj_auto_complete_statistics_check(CjRun *run, void *arg)
{
	CjAutoComplete *state = arg;
	CjAutoCompleteScope scope;
	List *before = read_filled_before(run->job->definition.name);
	List *sources;
	List *filled;
	const char *emptied;
	bool has_any = true;

	cj_auto_complete_open(run, state, &scope, true);
	sources = read_sources(scope.binding);
	filled = list_filled(sources);
	if (state->notify && !state->has_statistics)
	{
		CjRows rows = cj_auto_complete_run_sql(&scope, &find_statistics, NULL);

		has_any = cj_sql_bool(&rows, 0, 1);
		cj_sql_free(&rows);
	}
	cj_auto_complete_close(&scope);

	emptied = find_emptied(before, as_strings(sources), as_strings(filled));
	if (emptied)
		leave_undecided(run, state,
						psprintf("%s had rows when challenges were last decided, and has none now.",
								 emptied));
	else if (!has_any)
		leave_undecided(run, state, "The statistics have no row at all, though there are members.");
	else
		keep_sources(run, filled);
}

void
cj_auto_complete_statistics_examine(const char *job, CjFindings *findings)
{
	CjParams params = {0};
	CjRows rows;

	cj_sql_param_text(&params, job);
	rows = cj_sql_run_own(&find_undecided, &params);
	if (rows.processed > 0 && cj_sql_text(&rows, 0, 1))
		cj_findings_add_hint(
			findings, "undecidable", "error",
			psprintf("due challenges left undecided at %s, since the statistics were empty: %s",
					 cj_sql_text(&rows, 0, 2), cj_sql_text(&rows, 0, 1)),
			psprintf(
				"Fill the statistics, or refresh them, and the next run decides. If there are to be none, so that everything fails, run: "
				"SELECT challenge_jobs.alter_job('%s', settings => '{\"decide_without_statistics\": true}');",
				job));
	cj_sql_free(&rows);
}
