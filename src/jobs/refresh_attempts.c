/*
 * jobs/refresh_attempts.c
 *		Which views a run began to refresh without coming to an end.
 *
 * Table challenge_jobs.view_attempt, by name, as the job knows its views. Only runs that commit write here: what a caller's
 * transaction has not committed would block the next run.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/sql.h"
#include "jobs/refresh_attempts.h"

/* $1: names, in their order */
static const CjStatement order_names = {
	"list views, those whose refresh did not come to an end last",
	"SELECT n.name"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS n(name, position)"
	"  LEFT JOIN challenge_jobs.view_attempt a ON a.view_name = n.name"
	" ORDER BY a.started_at NULLS FIRST, n.position",
	SPI_OK_SELECT};

/* $2: the names of all views; others are not refreshed any more */
static const CjStatement begin_attempt = {
	"note that the refresh of a view begins",
	"WITH forgotten AS (DELETE FROM challenge_jobs.view_attempt a WHERE a.view_name <> ALL ($2))"
	"INSERT INTO challenge_jobs.view_attempt AS a (view_name, started_at)"
	"VALUES ($1, pg_catalog.clock_timestamp())"
	"    ON CONFLICT (view_name) DO UPDATE SET started_at = excluded.started_at",
	SPI_OK_INSERT};

static const CjStatement end_attempt = {
	"note that the refresh of a view came to an end",
	"DELETE FROM challenge_jobs.view_attempt a WHERE a.view_name = $1", SPI_OK_DELETE};

static const CjStatement find_attempt = {
	"find out since when a view has not been refreshed to its end",
	"SELECT a.started_at FROM challenge_jobs.view_attempt a WHERE a.view_name = $1", SPI_OK_SELECT};

/* text_array makes an array of names. */
static Datum
text_array(const List *names)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(names), 1));

	for (int i = 0; i < list_length(names); i++)
		values[i] = CStringGetTextDatum(list_nth(names, i));
	return cj_sql_array(values, list_length(names), TEXTOID);
}

List *
cj_refresh_attempts_order(const List *names)
{
	CjRows rows = cj_sql_run_own(&order_names, CJ_PARAMS(CJ_ARRAY(TEXTOID, text_array(names))));
	List *ordered = NIL;

	for (uint64 row = 0; row < rows.processed; row++)
		ordered = lappend(ordered, cj_sql_text(&rows, row, 1));
	cj_sql_free(&rows);
	return ordered;
}

void
cj_refresh_attempts_begin(const char *name, const List *names)
{
	cj_sql_execute_own(&begin_attempt,
					   CJ_PARAMS(CJ_TEXT(name), CJ_ARRAY(TEXTOID, text_array(names))));
}

void
cj_refresh_attempts_end(const char *name)
{
	cj_sql_execute_own(&end_attempt, CJ_PARAMS(CJ_TEXT(name)));
}

bool
cj_refresh_attempts_since(const char *name, TimestampTz *since)
{
	CjRows rows = cj_sql_run_own(&find_attempt, CJ_PARAMS(CJ_TEXT(name)));
	bool found = rows.processed > 0;

	if (found)
		*since = cj_sql_moment(&rows, 0, 1);
	cj_sql_free(&rows);
	return found;
}
