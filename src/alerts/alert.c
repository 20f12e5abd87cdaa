/*
 * alerts/alert.c
 *		Alerts: table challenge_jobs.alert.
 *
 * What is done with them are functions of the install script: raise_alert() says what an alert reports, note_run() what
 * the end of a run changes. Here they are called, and what leaves the database is written to the server log.
 */
#include "postgres.h"

#include <unistd.h>

#include "alerts/alert.h"
#include "base/sql.h"
#include "base/utf8.h"

/* These return how many alerts they have raised. */
static const CjStatement raise_alert = CJ_CALL("raise_alert($1, $2, $3, $4)");
static const CjStatement raise_overdue = CJ_CALL("raise_overdue($1, $2)");
static const CjStatement raise_restored = CJ_CALL("raise_restored($1)");
static const CjStatement note_run = CJ_CALL("note_run($1)");
static const CjStatement settle_runs = CJ_CALL("settle_runs()");
static const CjStatement settle_overdue = CJ_CALL("settle_overdue()");

static const CjStatement leave_unsettled = {
	"leave it to others to raise the alert for a run",
	"INSERT INTO challenge_jobs.unsettled_run (run_id) VALUES ($1)", SPI_OK_INSERT};

static const CjStatement announce = CJ_CALL_ROWS("announce_alerts()");

static const CjStatement claim = CJ_CALL_ROWS("claim_alert($1, $2, $3)");
static const CjStatement finish = CJ_CALL("finish_alert($1, $2)");
static const CjStatement give_up = CJ_CALL("give_up_alerts()");
static const CjStatement remove_old = CJ_CALL("remove_alerts($1, $2)");

/* What the log says of an alert. */
typedef struct Line
{
	char *message;
	char *detail;
	char *hint;
} Line;

static bool has_unannounced = false;

/* ---- raising ---- */

static void
raise_by(const CjStatement *statement, CjParams *params)
{
	if (cj_sql_int64_own(statement, params) > 0)
		has_unannounced = true;
}

void
cj_alert_raise(const char *job, const char *kind, int64 run_id, Jsonb *more)
{
	raise_by(&raise_alert, CJ_PARAMS(CJ_TEXT(job), CJ_TEXT(kind),
									 CJ_VALUE(INT8OID, Int64GetDatum(run_id), run_id == 0),
									 CJ_VALUE(JSONBOID, JsonbPGetDatum(more), false)));
}

void
cj_alert_raise_overdue(const char *job, TimestampTz scheduled_for)
{
	raise_by(&raise_overdue, CJ_PARAMS(CJ_TEXT(job), CJ_MOMENT(scheduled_for)));
}

void
cj_alert_raise_restored(const char *job)
{
	raise_by(&raise_restored, CJ_PARAMS(CJ_TEXT(job)));
}

void
cj_alert_note_run(int64 run_id)
{
	raise_by(&note_run, CJ_PARAMS(CJ_INT8(run_id)));
}

void
cj_alert_leave_run(int64 run_id)
{
	cj_sql_execute_own(&leave_unsettled, CJ_PARAMS(CJ_INT8(run_id)));
}

void
cj_alert_settle_runs(void)
{
	raise_by(&settle_runs, NULL);
}

void
cj_alert_settle(void)
{
	raise_by(&settle_overdue, NULL);
}

char *
cj_alert_host_name(void)
{
	char name[256];

	if (gethostname(name, sizeof(name)) != 0)
		return NULL;
	name[sizeof(name) - 1] = '\0';
	/* whatever stands there: it goes into a text of this database */
	for (char *c = name; *c; c++)
	{
		if (*c <= ' ' || *c > '~')
			*c = '?';
	}
	return pstrdup(name);
}

/* ---- telling ---- */

bool
cj_alert_has_unannounced(void)
{
	return has_unannounced;
}

List *
cj_alert_announce(MemoryContext memory)
{
	CjRows rows = cj_sql_run_own(&announce, NULL);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	List *lines = NIL;

	for (uint64 row = 0; row < rows.processed; row++)
	{
		Line *line = palloc(sizeof(Line));

		line->message = cj_sql_text(&rows, row, 1);
		line->detail = cj_sql_text(&rows, row, 2);
		line->hint = cj_sql_text(&rows, row, 3);
		lines = lappend(lines, line);
	}
	MemoryContextSwitchTo(caller);
	cj_sql_free(&rows);
	has_unannounced = false;
	return lines;
}

void
cj_alert_log(List *announced)
{
	ListCell *cell;

	foreach(cell, announced)
	{
		const Line *line = lfirst(cell);

		ereport(LOG_SERVER_ONLY,
				(errmsg("challenge_jobs: %s", line->message),
				 line->detail ? errdetail_internal("%s", line->detail) : 0,
				 line->hint ? errhint("%s", line->hint) : 0));
	}
}

/* ---- delivering, clean-up ---- */

bool
cj_alert_claim(int64 after, bool all, int milliseconds, CjAlert *alert)
{
	CjRows rows =
		cj_sql_run_own(&claim, CJ_PARAMS(CJ_INT8(after), CJ_BOOL(all), CJ_INT4(milliseconds)));
	bool found = rows.processed > 0;

	if (found)
	{
		alert->alert_id = cj_sql_int64(&rows, 0, 1);
		alert->attempts = (int) cj_sql_int64(&rows, 0, 2);
		alert->json = cj_utf8_from_database(cj_sql_text(&rows, 0, 3));
	}
	cj_sql_free(&rows);
	return found;
}

void
cj_alert_finish(const CjAlert *alert, const char *problem)
{
	cj_sql_execute_own(&finish, CJ_PARAMS(CJ_INT8(alert->alert_id), CJ_TEXT(problem)));
}

int64
cj_alert_give_up(void)
{
	return cj_sql_int64_own(&give_up, NULL);
}

int64
cj_alert_remove(TimestampTz before, int limit)
{
	return cj_sql_int64_own(&remove_old, CJ_PARAMS(CJ_MOMENT(before), CJ_INT4(limit)));
}
