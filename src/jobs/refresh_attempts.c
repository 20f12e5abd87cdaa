/*
 * jobs/refresh_attempts.c
 *		Which views a run began to refresh without coming to an end.
 *
 * Table challenge_jobs.view_attempt, by name, as the job knows its views. Only runs that commit write here: what a caller's
 * transaction has not committed would block the next run.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "jobs/refresh_attempts.h"

static const CjStatement list_attempts = {"list the views whose refresh did not come to an end",
										  "SELECT a.view_name"
										  "  FROM challenge_jobs.view_attempt a"
										  " ORDER BY a.started_at, a.view_name",
										  SPI_OK_SELECT};

static const CjStatement begin_attempt = {
	"note that the refresh of a view begins",
	"INSERT INTO challenge_jobs.view_attempt AS a (view_name, started_at)"
	"VALUES ($1, pg_catalog.clock_timestamp())"
	"    ON CONFLICT (view_name) DO UPDATE SET started_at = excluded.started_at",
	SPI_OK_INSERT};

/* $1: the names of all views */
static const CjStatement forget_others = {"forget views that are not refreshed any more",
										  "DELETE FROM challenge_jobs.view_attempt a"
										  " WHERE a.view_name <> ALL ($1)",
										  SPI_OK_DELETE};

static const CjStatement end_attempt = {
	"note that the refresh of a view came to an end",
	"DELETE FROM challenge_jobs.view_attempt a WHERE a.view_name = $1", SPI_OK_DELETE};

static const CjStatement find_attempt = {
	"find out since when a view has not been refreshed to its end",
	"SELECT a.started_at FROM challenge_jobs.view_attempt a WHERE a.view_name = $1", SPI_OK_SELECT};

/* take moves a name from one list of names to the end of another, if it is there. */
static List *
take(List **from, List *to, const char *name)
{
	ListCell *cell;

	foreach(cell, *from)
	{
		char *found = lfirst(cell);

		if (strcmp(found, name) != 0)
			continue;
		*from = foreach_delete_current(*from, cell);
		return lappend(to, found);
	}
	return to;
}

List *
cj_refresh_attempts_order(const List *names)
{
	List *first = list_copy(names);
	List *last = NIL;
	CjRows rows = cj_sql_run_own(&list_attempts, NULL);

	for (uint64 row = 0; row < rows.processed; row++)
		last = take(&first, last, cj_sql_text(&rows, row, 1));
	cj_sql_free(&rows);
	return list_concat(first, last);
}

static CjRows
run(const CjStatement *statement, const char *name)
{
	CjParams params = {0};

	cj_sql_param_text(&params, name);
	return cj_sql_run_own(statement, &params);
}

void
cj_refresh_attempts_begin(const char *name, const List *names)
{
	Datum *values = palloc(sizeof(Datum) * list_length(names));
	CjParams params = {0};

	for (int i = 0; i < list_length(names); i++)
		values[i] = CStringGetTextDatum(list_nth(names, i));
	cj_sql_param_array(&params, TEXTOID, cj_sql_array(values, list_length(names), TEXTOID));
	cj_sql_execute_own(&forget_others, &params);
	(void) run(&begin_attempt, name);
}

void
cj_refresh_attempts_end(const char *name)
{
	(void) run(&end_attempt, name);
}

bool
cj_refresh_attempts_since(const char *name, TimestampTz *since)
{
	CjRows rows = run(&find_attempt, name);
	bool found = rows.processed > 0;
	bool isnull;

	if (found)
		*since = DatumGetTimestampTz(cj_sql_datum(&rows, 0, 1, &isnull));
	cj_sql_free(&rows);
	return found;
}
