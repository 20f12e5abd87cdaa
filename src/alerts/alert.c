/*
 * alerts/alert.c
 *		Alerts: table challenge_jobs.alert.
 *
 * An alert reports a change. Between two alerts "recovered" of a job, which is an episode, there can be
 *
 *		failed		one: the first failure after a success, or ever; none after "crashed". After a job function's, which may be
 *					the fault of its caller, another one for the first failure of run()
 *		crashed		one: also after "failed", since whatever kills backends is something else than an error
 *		overdue		one for each scheduled time
 *		recovered	one, the last: a success after any of these, if it covers the scheduled times that were overdue
 *
 * An episode is known by the number of the alert "recovered" before it (0: none), and a unique index (alert_once_idx)
 * sees to it that nothing is raised twice. That is needed: not everyone who raises
 * holds the job's lock (the watchdog, a run whose configuration cannot be read).
 *
 * What changes nothing: dry runs, skipped runs, what a caller has rolled back. A failure that is recorded late
 * (a job function's, by another process) changes nothing if the job has succeeded since.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "base/json.h"
#include "base/sql.h"
#include "base/utf8.h"

#define CHANNEL "challenge_jobs_alert"

/*
 * After so many attempts, half an hour or so, an alert lets later ones of its job pass: it may be the alert itself that
 * the command fails for.
 */
#define ATTEMPTS_IN_ORDER 6

/* A moment as ISO 8601 in UTC, whatever the session's settings: for to_char. */
#define MOMENT_FORMAT "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\""

/* ---- raising ---- */

/* $1 the job */
static const CjStatement read_state = {
	"read the state of a job",
	"SELECT e.episode,"
	"       EXISTS (SELECT 1 FROM challenge_jobs.alert a"
	"                WHERE a.job = $1 AND a.kind = 'failed' AND a.episode = e.episode),"
	"       EXISTS (SELECT 1 FROM challenge_jobs.alert a"
	"                WHERE a.job = $1 AND a.kind = 'crashed' AND a.episode = e.episode),"
	"       EXISTS (SELECT 1 FROM challenge_jobs.alert a"
	"                WHERE a.job = $1 AND a.kind = 'overdue' AND a.episode = e.episode)"
	"  FROM (SELECT COALESCE((SELECT r.alert_id"
	"                           FROM challenge_jobs.alert r"
	"                          WHERE r.job = $1 AND r.kind = 'recovered'"
	"                          ORDER BY r.episode DESC LIMIT 1), 0)) e(episode)",
	SPI_OK_SELECT};

/*
 * $1 the job, $2 the kind, $3 the episode, $4 the run or null, $5 more of the payload, $6 the host, $7 how moments
 * are written. The scheduled time stands in $5.
 */
static const CjStatement raise_alert = {
	"raise an alert",
	"INSERT INTO challenge_jobs.alert (job, kind, episode, run_id, scheduled_for, raised_at, next_attempt_at, payload)"
	"SELECT $1, $2, $3, $4, ($5 ->> 'scheduled_for')::pg_catalog.timestamptz, n.moment, n.moment,"
	"       pg_catalog.jsonb_build_object("
	"           'job', $1, 'kind', $2,"
	"           'raised_at', pg_catalog.to_char(n.moment AT TIME ZONE 'UTC', $7),"
	"           'database', pg_catalog.current_database(),"
	"           'host', $6,"
	"           'port', pg_catalog.current_setting('port')::pg_catalog.int4,"
	"           'cluster_name', NULLIF(pg_catalog.current_setting('cluster_name'), ''),"
	"           'run_id', $4,"
	"           'previous_success', pg_catalog.to_char(p.finished_at AT TIME ZONE 'UTC', $7),"
	"           'consecutive_failures',"
	"           (SELECT pg_catalog.count(*)"
	"              FROM (SELECT 1"
	"                      FROM challenge_jobs.job_run f"
	"                     WHERE f.job = $1"
	"                       AND f.status IN ('failed', 'cancelled', 'crashed')"
	"                       AND NOT f.dry_run"
	"                       AND - f.run_id < - COALESCE(p.run_id, 0)"
	"                     ORDER BY - f.run_id"
	"                     LIMIT 1000) c))"
	"       || COALESCE((SELECT pg_catalog.jsonb_build_object("
	"                               'status', r.status, 'attempt', r.attempt, 'role_name', r.role_name,"
	"                               'triggered_by', pg_catalog.left(r.triggered_by, 4000),"
	"                               'started_at', pg_catalog.to_char(r.started_at AT TIME ZONE 'UTC', $7),"
	"                               'finished_at', pg_catalog.to_char(r.finished_at AT TIME ZONE 'UTC', $7),"
	"                               'duration_seconds', pg_catalog.date_part('epoch', r.duration),"
	"                               'sqlstate', r.sqlstate,"
	"                               'message', pg_catalog.left(r.message, 4000),"
	"                               'detail', pg_catalog.left(r.detail, 4000),"
	"                               'hint', pg_catalog.left(r.hint, 4000))"
	"                      FROM challenge_jobs.job_run r"
	"                     WHERE r.run_id = $4), '{}')"
	"       || $5"
	"  FROM (SELECT pg_catalog.clock_timestamp()) n(moment)"
	"  LEFT JOIN LATERAL (SELECT s.run_id, s.finished_at"
	"                       FROM challenge_jobs.job_run s"
	"                      WHERE s.job = $1"
	"                        AND " CJ_RUN_COVERS(
		"s") "                        AND s.run_id IS DISTINCT FROM $4"
			 "                        AND s.as_of <= n.moment"
			 "                      ORDER BY s.as_of DESC, s.run_id DESC LIMIT 1) p ON true"
			 " WHERE NOT EXISTS (SELECT 1"
			 "                     FROM challenge_jobs.alert a"
			 "                    WHERE a.job = $1"
			 "                      AND a.kind = $2"
			 "                      AND a.scheduled_for = ($5 ->> 'scheduled_for')::pg_catalog.timestamptz)"
			 "    ON CONFLICT DO NOTHING",
	SPI_OK_INSERT};

/* $1 the job, $2 the episode, $3 the run, or 0 for a call of a job function that has no row yet */
static const CjStatement find_same_alert = {
	"find out whether a failure has been reported",
	"SELECT 1"
	"  FROM challenge_jobs.alert a"
	" WHERE a.job = $1"
	"   AND a.kind = 'failed'"
	"   AND a.episode = $2"
	"   AND (a.payload ->> 'triggered_by' IS DISTINCT FROM 'function'"
	"        OR NOT EXISTS (SELECT 1"
	"                         FROM challenge_jobs.job_run r"
	"                        WHERE r.run_id = $3"
	"                          AND r.triggered_by <> 'function'))"
	" LIMIT 1",
	SPI_OK_SELECT};

/* $1 the run; rows recorded by the process that ran are not late, whatever the clock says */
static const CjStatement find_later_success = {
	"find a success after a failure that is recorded late",
	"SELECT 1"
	"  FROM challenge_jobs.job_run r"
	"  JOIN challenge_jobs.job_run s ON s.job = r.job"
	" WHERE r.run_id = $1"
	"   AND r.pid <> pg_catalog.pg_backend_pid()"
	"   AND " CJ_RUN_COVERS("s") "   AND s.as_of >= r.as_of"
								 "   AND s.started_at >= r.started_at"
								 "   AND s.finished_at > r.finished_at"
								 " LIMIT 1",
	SPI_OK_SELECT};

/*
 * $1 the job, $2 the run. A success as of a moment before that of a failure has not done what failed: anybody who may call
 * the job function can have it succeed as of a moment at which nothing was due. A moment that has not come yet was noted before the clock was set back.
 */
static const CjStatement find_later_failure = {
	"find a failure that a success does not end",
	"SELECT 1"
	"  FROM challenge_jobs.job_run r"
	" CROSS JOIN LATERAL (SELECT f.as_of"
	"                       FROM challenge_jobs.job_run f"
	"                      WHERE f.job = $1"
	"                        AND f.status IN ('failed', 'cancelled', 'crashed')"
	"                        AND NOT f.dry_run"
	"                        AND f.as_of <= pg_catalog.clock_timestamp()"
	"                      ORDER BY f.as_of DESC LIMIT 1) l"
	" WHERE r.run_id = $2"
	"   AND l.as_of > r.as_of",
	SPI_OK_SELECT};

/* $1 the run */
static const CjStatement find_complete = {
	"find out whether a success counts",
	"SELECT FROM challenge_jobs.job_run r WHERE r.run_id = $1 AND " CJ_RUN_COVERS("r"),
	SPI_OK_SELECT};

/*
 * A run of ours for a time at which another engine did not fire does the work, but that engine is as silent as before: such
 * runs end no alert "overdue". r is the run.
 */
#define STANDS_IN                                                                               \
	"(r.triggered_by = 'catch_up' OR r.triggered_by = 'retry' AND r.scheduled_for IS NOT NULL)" \
	" AND EXISTS (SELECT 1 FROM challenge_jobs.job_override e WHERE e.job = r.job AND e.engine <> 'worker')"

/* $1 the job, $2 the episode, $3 the run */
static const CjStatement find_uncovered_time = {
	"find a scheduled time that a success does not cover",
	"SELECT 1"
	"  FROM challenge_jobs.job_run r"
	"  JOIN challenge_jobs.alert a ON a.scheduled_for > COALESCE(r.as_of, r.started_at) OR " STANDS_IN
	" WHERE r.run_id = $3"
	"   AND a.job = $1"
	"   AND a.kind = 'overdue'"
	"   AND a.episode = $2"
	" LIMIT 1",
	SPI_OK_SELECT};

/* Jobs whose episode has overdue scheduled times, the last of which was covered: the run that did. */
static const CjStatement find_covered_times = {
	"find overdue scheduled times that have been covered",
	"SELECT o.job, s.run_id"
	"  FROM (SELECT a.job, a.episode, pg_catalog.max(a.scheduled_for) AS scheduled_for"
	"          FROM challenge_jobs.alert a"
	"         WHERE a.kind = 'overdue'"
	"           AND NOT EXISTS (SELECT 1"
	"                             FROM challenge_jobs.alert n"
	"                            WHERE n.job = a.job"
	"                              AND n.kind = 'recovered'"
	"                              AND n.episode = a.episode)"
	"         GROUP BY a.job, a.episode) o"
	" CROSS JOIN LATERAL (SELECT r.run_id"
	"                       FROM challenge_jobs.job_run r"
	"                      WHERE r.job = o.job"
	"                        AND " CJ_RUN_COVERS(
		"r") "                        AND r.as_of >= o.scheduled_for"
			 "                        AND r.started_at >= o.scheduled_for"
			 "                        AND NOT (" STANDS_IN ")"
			 "                      ORDER BY r.as_of DESC LIMIT 1) s",
	SPI_OK_SELECT};

static const CjStatement leave_unsettled = {
	"leave it to others to raise the alert for a run",
	"INSERT INTO challenge_jobs.unsettled_run (run_id) VALUES ($1)", SPI_OK_INSERT};

/* Of many successes in a row the last one is enough, so that whoever calls a function again and again keeps nobody waiting. */
static const CjStatement take_unsettled = {
	"take the runs for which no alert was raised yet",
	"WITH taken AS ("
	"    DELETE FROM challenge_jobs.unsettled_run u"
	"     WHERE u.run_id IN (SELECT o.run_id FROM challenge_jobs.unsettled_run o FOR UPDATE SKIP LOCKED)"
	" RETURNING u.run_id"
	")"
	"SELECT l.job, l.run_id, l.status"
	"  FROM (SELECT r.job, r.run_id, r.status, r.as_of,"
	"               pg_catalog.lead(r.as_of) OVER w AS next_as_of,"
	"               pg_catalog.lead(" CJ_RUN_COVERS(
		"r") ") OVER w AS next_covers"
			 "          FROM taken t"
			 "          JOIN challenge_jobs.job_run r ON r.run_id = t.run_id"
			 "        WINDOW w AS (PARTITION BY r.job ORDER BY r.run_id)) l"
			 " WHERE l.status <> 'succeeded' OR (l.next_covers AND l.next_as_of >= l.as_of) IS NOT TRUE"
			 " ORDER BY l.run_id",
	SPI_OK_SELECT};

/* What is known of a job by its alerts. */
typedef struct State
{
	int64 episode;
	bool failed;
	bool crashed;
	bool overdue;
} State;

static bool has_unannounced = false;

static State
get_state(const char *job)
{
	State state;
	CjRows rows = cj_sql_run_own(&read_state, CJ_PARAMS(CJ_TEXT(job)));

	state.episode = cj_sql_int64(&rows, 0, 1);
	state.failed = cj_sql_bool(&rows, 0, 2);
	state.crashed = cj_sql_bool(&rows, 0, 3);
	state.overdue = cj_sql_bool(&rows, 0, 4);
	cj_sql_free(&rows);
	return state;
}

static const char *
host_name(void)
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

/* insert_alert writes an alert, unless someone else has just written it. */
static void
insert_alert(const State *state, const char *job, const char *kind, int64 run_id, Jsonb *payload)
{
	Jsonb *more = payload;
	CjRows rows;

	if (more == NULL)
		more = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	rows = cj_sql_run_own(&raise_alert,
						  CJ_PARAMS(CJ_TEXT(job), CJ_TEXT(kind), CJ_INT8(state->episode),
									CJ_VALUE(INT8OID, Int64GetDatum(run_id), run_id == 0),
									CJ_VALUE(JSONBOID, JsonbPGetDatum(more), false),
									CJ_TEXT(host_name()), CJ_TEXT(MOMENT_FORMAT)));
	if (rows.processed > 0)
		has_unannounced = true;
	cj_sql_free(&rows);
}

static bool
is_found(const CjStatement *statement, CjParams *params)
{
	return cj_sql_execute_own(statement, params) > 0;
}

/* ends_failures returns whether a success is as of a moment that is not before that of any failure. */
static bool
ends_failures(const char *job, int64 run_id)
{
	return !is_found(&find_later_failure, CJ_PARAMS(CJ_TEXT(job), CJ_INT8(run_id)));
}

/* is_reported returns whether a failure of a run, or of a job function (0), has an alert in this episode already. */
static bool
is_reported(const State *state, const char *job, int64 run_id)
{
	if (state->crashed || !state->failed)
		return state->crashed;
	return is_found(&find_same_alert,
					CJ_PARAMS(CJ_TEXT(job), CJ_INT8(state->episode), CJ_INT8(run_id)));
}

void
cj_alert_raise(const char *job, const char *kind, int64 run_id, Jsonb *payload)
{
	State state = get_state(job);

	if (strcmp(kind, "failed") == 0 && is_reported(&state, job, run_id))
		return;
	if (strcmp(kind, "crashed") == 0 && state.crashed)
		return;
	if (strcmp(kind, "recovered") == 0 && !state.failed && !state.crashed && !state.overdue)
		return;
	insert_alert(&state, job, kind, run_id, payload);
}

void
cj_alert_raise_overdue(const char *job, TimestampTz scheduled_for)
{
	char moment[MAXDATELEN + 1];
	int utc = 0;
	StringInfoData payload;

	JsonEncodeDateTime(moment, TimestampTzGetDatum(scheduled_for), TIMESTAMPTZOID, &utc);
	initStringInfo(&payload);
	cj_json_begin(&payload, NULL, '{');
	cj_json_text(&payload, "scheduled_for", moment);
	cj_json_text(&payload, "message",
				 psprintf("job \"%s\" was due at %s but no run covers it", job, moment));
	cj_json_text(&payload, "hint", psprintf("Run: CALL challenge_jobs.run('%s');", job));
	cj_json_end(&payload, '}');
	cj_alert_raise(job, "overdue", 0, cj_json_to_jsonb(&payload));
}

void
cj_alert_raise_restored(const char *job)
{
	StringInfoData payload;

	initStringInfo(&payload);
	cj_json_begin(&payload, NULL, '{');
	cj_json_text(
		&payload, "message",
		psprintf("this database is a copy: job \"%s\" was scheduled in another database, and does "
				 "not run in this one",
				 job));
	cj_json_text(&payload, "hint", "Run: SELECT * FROM challenge_jobs.resume();");
	cj_json_end(&payload, '}');
	cj_alert_raise(job, "restored", 0, cj_json_to_jsonb(&payload));
}

void
cj_alert_note_success(const char *job, int64 run_id)
{
	State state = get_state(job);

	if (!state.failed && !state.crashed && !state.overdue)
		return;
	if (!is_found(&find_complete, CJ_PARAMS(CJ_INT8(run_id))))
		return;
	if (state.overdue && is_found(&find_uncovered_time,
								  CJ_PARAMS(CJ_TEXT(job), CJ_INT8(state.episode), CJ_INT8(run_id))))
		return;
	if (ends_failures(job, run_id))
		insert_alert(&state, job, "recovered", run_id, NULL);
}

void
cj_alert_note_failure(const char *job, int64 run_id, bool crashed)
{
	State state = get_state(job);

	if (crashed ? state.crashed : is_reported(&state, job, run_id))
		return;
	if (!is_found(&find_later_success, CJ_PARAMS(CJ_INT8(run_id))))
		insert_alert(&state, job, crashed ? "crashed" : "failed", run_id, NULL);
}

void
cj_alert_leave_run(int64 run_id)
{
	cj_sql_execute_own(&leave_unsettled, CJ_PARAMS(CJ_INT8(run_id)));
}

void
cj_alert_settle_runs(void)
{
	CjRows rows = cj_sql_run_own(&take_unsettled, NULL);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		const char *job = cj_sql_text(&rows, row, 1);
		int64 run_id = cj_sql_int64(&rows, row, 2);
		const char *status = cj_sql_text(&rows, row, 3);

		if (strcmp(status, "succeeded") == 0)
			cj_alert_note_success(job, run_id);
		else
			cj_alert_note_failure(job, run_id, strcmp(status, "crashed") == 0);
	}
	cj_sql_free(&rows);
}

void
cj_alert_settle(void)
{
	CjRows rows = cj_sql_run_own(&find_covered_times, NULL);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		const char *job = cj_sql_text(&rows, row, 1);
		int64 run_id = cj_sql_int64(&rows, row, 2);
		State state = get_state(job);

		if (state.overdue && ends_failures(job, run_id))
			insert_alert(&state, job, "recovered", run_id, NULL);
	}
	cj_sql_free(&rows);
}

/* ---- telling ---- */

static const CjStatement announce = {
	"announce alerts",
	"WITH announced AS ("
	"    UPDATE challenge_jobs.alert a"
	"       SET announced_at = pg_catalog.clock_timestamp()"
	"     WHERE a.alert_id IN (SELECT o.alert_id"
	"                            FROM challenge_jobs.alert o"
	"                           WHERE o.announced_at IS NULL"
	"                             FOR UPDATE SKIP LOCKED)"
	" RETURNING a.*"
	")"
	"SELECT pg_catalog.jsonb_build_object('alert_id', n.alert_id, 'job', n.job, 'kind', n.kind)::pg_catalog.text,"
	"       pg_catalog.concat('alert ', n.alert_id, ', job \"', n.job, '\": ', n.kind,"
	"                         ', run ' || n.run_id, ', scheduled for ' || (n.payload ->> 'scheduled_for')),"
	"       pg_catalog.concat_ws(E'\\n', n.payload ->> 'message', n.payload ->> 'detail'),"
	"       n.payload ->> 'hint'"
	"  FROM announced n"
	" ORDER BY n.alert_id",
	SPI_OK_SELECT};

/* What the log says of an alert. */
typedef struct Line
{
	char *message;
	char *detail;
	char *hint;
} Line;

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

		Async_Notify(CHANNEL, cj_sql_text(&rows, row, 1));
		line->message = cj_sql_text(&rows, row, 2);
		line->detail = cj_sql_text(&rows, row, 3);
		line->hint = cj_sql_text(&rows, row, 4);
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
				 line->detail && line->detail[0] ? errdetail_internal("%s", line->detail) : 0,
				 line->hint ? errhint("%s", line->hint) : 0));
	}
}

/* ---- delivering ---- */

/*
 * $1 the alert after which to look, $2 whether also those that wait for another attempt, $3 how long this one
 * may take, $4 after how many attempts an alert lets later ones of its job pass. A next attempt too far away was noted
 * before the clock was set back.
 */
static const CjStatement claim = {
	"claim an alert",
	"UPDATE challenge_jobs.alert a"
	"   SET attempts = a.attempts + 1,"
	"       next_attempt_at = pg_catalog.clock_timestamp() + $3 * '1 ms'::pg_catalog.interval,"
	"       last_error = 'attempt ' || a.attempts + 1 || ' was begun, and has not ended'"
	" WHERE a.alert_id = (SELECT c.alert_id"
	"                       FROM challenge_jobs.alert c"
	"                      WHERE c.next_attempt_at IS NOT NULL"
	"                        AND c.alert_id > $1"
	"                        AND ($2 OR c.attempts = 0"
	"                             OR c.next_attempt_at <= pg_catalog.clock_timestamp()"
	"                             OR c.next_attempt_at > pg_catalog.clock_timestamp()"
	"                                                    + '1 day'::pg_catalog.interval)"
	"                        AND NOT EXISTS (SELECT 1"
	"                                          FROM challenge_jobs.alert e"
	"                                         WHERE e.job = c.job"
	"                                           AND e.alert_id < c.alert_id"
	"                                           AND e.next_attempt_at IS NOT NULL"
	"                                           AND e.attempts < $4)"
	"                      ORDER BY c.alert_id"
	"                      LIMIT 1"
	"                        FOR UPDATE SKIP LOCKED)"
	" RETURNING a.alert_id, a.attempts::pg_catalog.int8,"
	"           (a.payload || pg_catalog.jsonb_build_object('alert_id', a.alert_id, 'delivery', a.attempts))"
	"           ::pg_catalog.text",
	SPI_OK_UPDATE_RETURNING};

/* $1 the alert */
static const CjStatement note_delivery = {
	"note that an alert was delivered",
	"UPDATE challenge_jobs.alert a"
	"   SET delivered_at = pg_catalog.clock_timestamp(), next_attempt_at = NULL, last_error = NULL"
	" WHERE a.alert_id = $1",
	SPI_OK_UPDATE};

/*
 * $1 the alert. Who has been told that a job has recovered is not told afterwards that it had failed: to open
 * an incident then would be to leave it open.
 */
static const CjStatement give_up_earlier = {
	"give up the alerts that a recovery has overtaken",
	"UPDATE challenge_jobs.alert e"
	"   SET next_attempt_at = NULL,"
	"       last_error = 'given up, as alert ' || a.alert_id || ' was delivered'"
	"                    || COALESCE(': ' || e.last_error, '')"
	"  FROM challenge_jobs.alert a"
	" WHERE a.alert_id = $1"
	"   AND a.kind = 'recovered'"
	"   AND e.job = a.job"
	"   AND e.alert_id < a.alert_id"
	"   AND e.next_attempt_at IS NOT NULL",
	SPI_OK_UPDATE};

/* The command works again: there is no reason for others to wait. */
static const CjStatement hasten_others = {"hasten alerts that wait for another attempt",
										  "UPDATE challenge_jobs.alert a"
										  "   SET next_attempt_at = pg_catalog.clock_timestamp()"
										  " WHERE a.next_attempt_at > pg_catalog.clock_timestamp()",
										  SPI_OK_UPDATE};

/*
 * $1 the alert, $2 what went wrong. A minute, doubling up to an hour, give or take a quarter: so that many
 * servers do not come back to a place that was down all at the same moment.
 */
static const CjStatement note_problem = {
	"note that an alert was not delivered",
	"UPDATE challenge_jobs.alert a"
	"   SET last_error = $2,"
	"       next_attempt_at = pg_catalog.clock_timestamp()"
	"                         + LEAST('1 hour', '1 minute'::pg_catalog.interval"
	"                                           * pg_catalog.power(2, LEAST(a.attempts - 1, 10)))"
	"                           * (0.75 + 0.5 * pg_catalog.random())"
	" WHERE a.alert_id = $1"
	"   AND a.delivered_at IS NULL",
	SPI_OK_UPDATE};

static const CjStatement give_up = {
	"give up old alerts",
	"UPDATE challenge_jobs.alert a"
	"   SET next_attempt_at = NULL,"
	"       last_error = 'given up' || COALESCE(': ' || a.last_error, '')"
	" WHERE a.next_attempt_at IS NOT NULL"
	"   AND a.raised_at < pg_catalog.clock_timestamp() - '7 days'::pg_catalog.interval",
	SPI_OK_UPDATE};

bool
cj_alert_claim(int64 after, bool all, int milliseconds, CjAlert *alert)
{
	bool found;
	CjRows rows =
		cj_sql_run_own(&claim, CJ_PARAMS(CJ_INT8(after), CJ_BOOL(all), CJ_INT4(milliseconds),
										 CJ_INT4(ATTEMPTS_IN_ORDER)));

	found = rows.processed > 0;
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
	CjParams *params = CJ_PARAMS(CJ_INT8(alert->alert_id));

	if (problem)
	{
		cj_sql_execute_own(&note_problem, CJ_PARAMS(CJ_INT8(alert->alert_id), CJ_TEXT(problem)));
		return;
	}
	cj_sql_execute_own(&note_delivery, params);
	cj_sql_execute_own(&give_up_earlier, params);
	if (alert->attempts > 1)
		cj_sql_execute_own(&hasten_others, NULL);
}

int64
cj_alert_give_up(void)
{
	return cj_sql_run_own(&give_up, NULL).processed;
}

/* ---- clean-up ---- */

/*
 * $1 the moment, $2 how many. What is still to be delivered stays, and the alerts by which the state of a job is
 * known: of each job the last "recovered" and all after it.
 */
static const CjStatement remove_old = {
	"remove old alerts",
	"DELETE FROM challenge_jobs.alert a"
	" WHERE a.alert_id IN (SELECT o.alert_id"
	"                        FROM challenge_jobs.alert o"
	"                       WHERE o.raised_at < $1"
	"                         AND (o.next_attempt_at IS NULL"
	"                              OR o.raised_at < pg_catalog.clock_timestamp()"
	"                                               - '7 days'::pg_catalog.interval)"
	"                         AND EXISTS (SELECT 1"
	"                                       FROM challenge_jobs.alert r"
	"                                      WHERE r.job = o.job"
	"                                        AND r.kind = 'recovered'"
	"                                        AND r.alert_id > o.alert_id)"
	"                       ORDER BY o.alert_id"
	"                       LIMIT $2"
	"                         FOR UPDATE SKIP LOCKED)",
	SPI_OK_DELETE};

int64
cj_alert_remove(TimestampTz before, int limit)
{
	return cj_sql_run_own(&remove_old, CJ_PARAMS(CJ_MOMENT(before), CJ_INT8(limit))).processed;
}
