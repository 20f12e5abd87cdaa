/*
 * monitor/doctor.c
 *		Checks of the installation: what was found, and what to type to mend it.
 *
 * A check never raises what it finds: bindings are resolved as the jobs resolve them, each in a subtransaction,
 * and their errors become rows, with the hint as remedy or advice.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "alerts/command.h"
#include "app/binding.h"
#include "base/identity.h"
#include "base/job_lock.h"
#include "base/sql.h"
#include "base/template.h"
#include "config/installation.h"
#include "config/pg_cron.h"
#include "config/settings.h"
#include "jobs/job_list.h"
#include "monitor/doctor.h"
#include "config/database_list.h"
#include "run/findings.h"
#include "run/shared_state.h"

/*
 * $1 the table, $2 and $3 columns: is there an index that begins with $3, or with $2 and then $3; or, with
 * $4, a unique one on $3 alone; or, with $5, one that can be scanned from value to value, with $6 at
 * least the values that are not null?
 */
static const CjStatement find_index = {
	"find a useful index",
	"SELECT 1"
	"  FROM pg_catalog.pg_index i"
	"  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
	"  JOIN pg_catalog.pg_am m ON m.oid = c.relam"
	"  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = $3"
	" WHERE i.indrelid = $1"
	"   AND i.indisvalid"
	"   AND (i.indkey[0] = $3 OR i.indkey[0] = $2 AND i.indkey[1] = $3)"
	"   AND (NOT $4 OR i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1)"
	/* ascending with nulls last, or the reverse */
	"   AND (NOT $5 OR m.amname = 'btree' AND i.indoption[0] IN (0, 3) AND i.indcollation[0] = a.attcollation"
	"                  AND (i.indpred IS NULL"
	"                       OR $6 AND pg_catalog.pg_get_expr(i.indpred, i.indrelid)"
	"                                 = pg_catalog.format('(%I IS NOT NULL)', a.attname)))"
	" LIMIT 1",
	SPI_OK_SELECT};

/*
 * Statements for check_by return findings: check_name, status, finding, remedy, run_as.
 *
 * $1 the table, $2 the columns that the job fills in, $3 the name of the table
 */
static const CjStatement unfilled_columns = {
	"find columns that have to be filled in",
	"SELECT 'columns:notifications', 'warning',"
	"       pg_catalog.format('columns of %s are NOT NULL without a default, and no job fills them in: %s', $3,"
	"           pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)),"
	"       pg_catalog.format('ALTER TABLE %s ALTER COLUMN <column> SET DEFAULT <value>;', $3), NULL"
	"  FROM pg_catalog.pg_attribute a"
	" WHERE a.attrelid = $1"
	"   AND a.attnum > 0"
	"   AND NOT a.attisdropped"
	"   AND a.attnotnull"
	"   AND NOT a.atthasdef"
	"   AND a.attidentity = ''"
	"   AND NOT (a.attnum = ANY ($2))"
	"HAVING pg_catalog.count(*) > 0",
	SPI_OK_SELECT};

/*
 * $1 a table that a job writes, $2 its owner, $3: rows are deleted, $4: the column that is changed, or null. Which tables of
 * others are changed along with it, by what foreign keys do, however many of them come one after the other? Superusers can
 * have anything run anyway. $5 and $6 are the names of the table and of its owner.
 */
static const CjStatement find_cascades = {
	"find tables of others that are changed along with a table",
	"WITH RECURSIVE changed(oid, deletes, written) AS ("
	"    SELECT $1, $3, $4"
	"     UNION "
	"    SELECT x.*"
	"      FROM changed c"
	"     CROSS JOIN LATERAL ("
	"           SELECT i.inhrelid, c.deletes, c.written FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid"
	"            UNION ALL "
	"           SELECT f.conrelid, c.deletes AND f.confdeltype = 'c', NULL"
	"             FROM pg_catalog.pg_constraint f"
	"            WHERE f.contype = 'f'"
	"              AND f.confrelid = c.oid"
	"              AND CASE WHEN c.deletes THEN f.confdeltype IN ('c', 'n', 'd')"
	"                       ELSE f.confupdtype IN ('c', 'n', 'd') AND COALESCE(c.written = ANY (f.confkey), true) END"
	"           ) x)"
	"SELECT DISTINCT 'cascade:' || t.name, 'warning',"
	"       pg_catalog.format('%s of \"%s\" changes along with %s through foreign keys, so its triggers can run with the rights of \"%s\"',"
	"                         t.name, o.rolname, $5, $6),"
	"       pg_catalog.format('ALTER TABLE %s OWNER TO %I;', t.name, $6), '" CJ_AS_SUPERUSER "'"
	"  FROM changed c"
	"  JOIN pg_catalog.pg_class r ON r.oid = c.oid AND NOT r.relispartition"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace"
	"  JOIN pg_catalog.pg_roles o ON o.oid = r.relowner"
	" CROSS JOIN LATERAL pg_catalog.format('%I.%I', n.nspname, r.relname) t(name)"
	" WHERE c.oid <> $1"
	"   AND r.relowner <> $2"
	"   AND NOT o.rolsuper"
	" ORDER BY 1",
	SPI_OK_SELECT};

static const CjStatement find_piled_up = {
	"look whether changes of tracked views pile up",
	"SELECT 'change_log', 'warning', 'more than a million changes of tracked views wait for a refresh',"
	"       'CALL challenge_jobs.run(''refresh_challenge_stats'');', NULL"
	" WHERE EXISTS (SELECT FROM challenge_jobs.change_log OFFSET 1000000)",
	SPI_OK_SELECT};

/* $1, here and below: the extension */
static const CjStatement list_grantees = {
	"list who may run jobs",
	"SELECT 'execute', CASE WHEN g.to_public THEN 'warning' ELSE 'ok' END,"
	"       CASE WHEN g.to_public THEN 'functions of the extension may be executed by ' || g.names"
	"            ELSE COALESCE('besides the owner, ' || g.names || ' may execute functions of the extension',"
	"                          'nobody but the owner may execute functions of the extension') END,"
	"       g.remedy, '" CJ_AS_SUPERUSER "'"
	"  FROM (SELECT pg_catalog.string_agg(DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'"
	"                                                   ELSE a.grantee::pg_catalog.regrole::text END, ', '),"
	"               pg_catalog.bool_or(a.grantee = 0),"
	"               pg_catalog.string_agg(DISTINCT pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC;',"
	"                                                                p.oid::pg_catalog.regprocedure), ' ')"
	"                   FILTER (WHERE a.grantee = 0)"
	"          FROM pg_catalog.pg_depend d"
	"          JOIN pg_catalog.pg_proc p ON p.oid = d.objid"
	"         CROSS JOIN LATERAL pg_catalog.aclexplode(COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) a"
	"         WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
	"           AND d.refobjid = $1"
	"           AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass"
	"           AND d.deptype = 'e'"
	"           AND a.privilege_type = 'EXECUTE'"
	/* the trigger function is for everybody: see the install script */
	"           AND p.proname <> 'capture_change'"
	"           AND a.grantee <> p.proowner) g(names, to_public, remedy)",
	SPI_OK_SELECT};

/* Whoever may write there has a say in what is done as the owner of the tables or of the extension. */
static const CjStatement find_writers = {
	"find who may write the extension's tables",
	"SELECT 'tables', 'error',"
	"       pg_catalog.format('granted: %s on %s to %s; this gives the rights of the extension''s owner',"
	"                         pg_catalog.string_agg(a.privilege_type, ', '), c.oid::pg_catalog.regclass, g.name),"
	"       pg_catalog.format('REVOKE ALL ON %s FROM %s; GRANT SELECT ON %1$s TO %2$s;',"
	"                         c.oid::pg_catalog.regclass, g.name), '" CJ_AS_SUPERUSER "'"
	"  FROM pg_catalog.pg_depend d"
	"  JOIN pg_catalog.pg_class c ON c.oid = d.objid"
	" CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a"
	" CROSS JOIN LATERAL (SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC'"
	"                                 ELSE a.grantee::pg_catalog.regrole::text END) g(name)"
	" WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
	"   AND d.refobjid = $1"
	"   AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
	"   AND d.deptype = 'e'"
	"   AND c.relkind = 'r'"
	"   AND a.privilege_type <> 'SELECT'"
	"   AND a.grantee <> c.relowner"
	" GROUP BY c.oid, g.name"
	" ORDER BY c.oid, g.name",
	SPI_OK_SELECT};

/* $2: the name of a job function */
static const CjStatement find_namesakes = {
	"find functions with the name of a job function",
	"SELECT 'function:' || $2, 'warning',"
	"       'another function has that name: calls may be ambiguous, or never reach the job function',"
	"       pg_catalog.format('DROP %s %s;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,"
	"                         p.oid::pg_catalog.regprocedure), NULL"
	"  FROM pg_catalog.pg_proc p"
	" WHERE p.proname = $2"
	"   AND p.prokind IN ('f', 'p')"
	"   AND NOT EXISTS (SELECT 1"
	"                     FROM pg_catalog.pg_depend d"
	"                    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass"
	"                      AND d.objid = p.oid"
	"                      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
	"                      AND d.refobjid = $1"
	"                      AND d.deptype = 'e')"
	" ORDER BY 4",
	SPI_OK_SELECT};

/* $1 the job */
static const CjStatement find_state = {
	"find the state of a job",
	"SELECT 'state:' || s.job, f.status, f.finding, pg_catalog.format(f.remedy, s.job), NULL"
	"  FROM challenge_jobs.job_status s"
	"  JOIN challenge_jobs.watchdog() w ON w.job = s.job"
	" CROSS JOIN LATERAL (VALUES"
	"       (s.state = 'failing', 'error',"
	"        pg_catalog.format('failing: %s runs in a row did not succeed; message of the last one: %s',"
	"                          s.consecutive_failures, COALESCE(s.last_message, 'nothing')),"
	"        'SELECT * FROM challenge_jobs.job_run WHERE job = %L ORDER BY run_id DESC LIMIT 5;'),"
	"       (w.overdue, 'error',"
	"        'overdue: no run covers the scheduled time ' || COALESCE(w.missed::pg_catalog.text, 'its schedule'),"
	"        'CALL challenge_jobs.run(%L);'),"
	"       (w.covered_until > pg_catalog.clock_timestamp() + '1 minute', 'warning',"
	"        pg_catalog.format('the last successful run has an as_of of %s, in the future: the clock was set back,"
	" and until then nothing is overdue', w.covered_until),"
	"        'UPDATE challenge_jobs.job_run SET as_of = now() WHERE job = %L AND as_of > now();'))"
	"       f(is_so, status, finding, remedy)"
	" WHERE s.job = $1 AND f.is_so",
	SPI_OK_SELECT};

/* The kind of which most was refused of late: at least 100 calls. */
static const CjStatement find_refusals = {
	"find calls that are refused",
	"SELECT 'refusals', 'warning',"
	"       pg_catalog.format('%s calls of job \"%s\" by role \"%s\" have been refused: %s',"
	"                         f.calls, f.job, f.role_name, f.message),"
	"       'SELECT * FROM challenge_jobs.refusal ORDER BY last_at DESC;', NULL"
	"  FROM challenge_jobs.refusal f"
	" WHERE f.last_at > pg_catalog.clock_timestamp() - '1 day'::pg_catalog.interval"
	"   AND f.calls >= 100"
	" ORDER BY f.calls DESC"
	" LIMIT 1",
	SPI_OK_SELECT};

static const CjStatement find_holds = {
	"find out whether jobs are held back",
	"SELECT 'installation', f.*, NULL"
	"  FROM (SELECT) one"
	"  LEFT JOIN (SELECT pg_catalog.count(j.engine) AS scheduled FROM challenge_jobs.job j WHERE j.held = 'restored'"
	"             HAVING pg_catalog.count(*) > 0) r ON true"
	"  LEFT JOIN challenge_jobs.pause p ON true"
	" CROSS JOIN LATERAL (SELECT CASE WHEN r.scheduled IS NOT NULL THEN 'error'"
	"                                 WHEN p.paused_at IS NOT NULL THEN 'warning' ELSE 'ok' END,"
	"           CASE WHEN r.scheduled IS NOT NULL"
	"                THEN pg_catalog.format('this database is a copy: %s jobs were scheduled in the original,"
	" and nothing runs by itself', r.scheduled)"
	"                WHEN p.paused_at IS NOT NULL"
	"                THEN pg_catalog.format('all jobs are paused since %s by %s%s', p.paused_at, p.role_name, ': ' || p.reason)"
	"                ELSE 'the jobs are not held back' END,"
	"           CASE WHEN r.scheduled IS NOT NULL OR p.paused_at IS NOT NULL"
	"                THEN 'SELECT * FROM challenge_jobs.resume();' END) f",
	SPI_OK_SELECT};

static const CjStatement find_orphans = {
	"find runs without a backend",
	"SELECT 'runs', 'warning',"
	"       pg_catalog.format('%s runs are \"running\" without a backend; the worker, or the next run of the job,"
	" marks them as crashed', pg_catalog.count(*)),"
	"       pg_catalog.format('CALL challenge_jobs.run(%L);', pg_catalog.min(r.job)), NULL"
	"  FROM challenge_jobs.job_run r"
	" WHERE r.status = 'running'"
	"   AND NOT EXISTS (SELECT 1"
	"                     FROM pg_catalog.pg_stat_activity a"
	"                    WHERE a.pid = r.pid"
	"                      AND a.backend_start <= r.started_at)"
	"HAVING pg_catalog.count(*) > 0",
	SPI_OK_SELECT};

/* Alerts that wait although they could have been delivered; the last of those that were tried. */
static const CjStatement count_waiting_alerts = {
	"count alerts that are not delivered",
	"SELECT pg_catalog.count(*),"
	"       pg_catalog.count(*) FILTER (WHERE a.attempts > 0),"
	"       (SELECT l.last_error"
	"          FROM challenge_jobs.alert l"
	"         WHERE l.next_attempt_at IS NOT NULL AND l.attempts > 0"
	"         ORDER BY l.alert_id DESC LIMIT 1)"
	"  FROM challenge_jobs.alert a"
	" WHERE a.next_attempt_at IS NOT NULL"
	"   AND (a.attempts > 0 OR a.raised_at < pg_catalog.clock_timestamp() - '10 minutes'::pg_catalog.interval)",
	SPI_OK_SELECT};

static bool preloaded = false;

void
cj_doctor_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
}

/* ---- trying ---- */

/*
 * What is to be tried: to load the configuration of a job; with `usage`, to resolve tables; with `findings`,
 * what the job itself has to examine.
 */
typedef struct Trial
{
	const CjUsage *usage;
	int count;
	const CjJob *job;
	CjBinding *binding;
	CjJobConfig *config;
	CjFindings *findings;
} Trial;

/* attempt does a trial in a subtransaction; returns the error if it fails. */
static ErrorData *
attempt(Trial *trial)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		if (trial->findings)
			trial->job->examine(trial->config, trial->binding, trial->findings);
		else if (trial->usage)
			trial->binding = cj_binding_resolve(trial->usage, trial->count);
		else
			trial->config = cj_job_config_load(&trial->job->definition);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* check_by adds what a statement finds. */
static void
check_by(CjFindings *findings, const CjStatement *statement, CjParams *params)
{
	CjRows rows = cj_sql_run_own(statement, params);

	for (uint64 row = 0; row < rows.processed; row++)
		cj_findings_add_as(findings, cj_sql_text(&rows, row, 1), cj_sql_text(&rows, row, 2),
						   cj_sql_text(&rows, row, 3), cj_sql_text(&rows, row, 4),
						   cj_sql_text(&rows, row, 5));
	cj_sql_free(&rows);
}

/* ---- the server ---- */

static void
check_version(CjFindings *findings)
{
	const char *version = cj_installation_version();

	if (strcmp(version, CJ_VERSION) == 0)
		cj_findings_add(findings, "version", "ok",
						psprintf("extension and library are %s", version), NULL);
	else
		cj_findings_add_as(findings, "version", "error",
						   psprintf("the extension is %s, the library %s", version, CJ_VERSION),
						   "ALTER EXTENSION challenge_jobs UPDATE;", CJ_AS_SUPERUSER);
}

static void
check_preload(CjFindings *findings)
{
	if (preloaded)
		cj_findings_add(findings, "preload", "ok", "the library is in shared_preload_libraries",
						NULL);
	else
		cj_findings_add_hint(
			findings, "preload", "warning",
			"the library is not in shared_preload_libraries: job functions that fail or are rolled back leave no row in job_run",
			"Add challenge_jobs to shared_preload_libraries in postgresql.conf, and restart the server.");
}

static void
check_read_only(CjFindings *findings)
{
	if (DefaultXactReadOnly)
		cj_findings_add_as(
			findings, "read_only", "warning",
			"default_transaction_read_only is on: nothing runs, and nothing is recorded",
			psprintf("ALTER DATABASE %s SET default_transaction_read_only = off;",
					 quote_identifier(get_database_name(MyDatabaseId))),
			CJ_AS_SUPERUSER);
}

static void
check_service(CjFindings *findings)
{
	CjService service = {0};
	TimestampTz last;

	(void) cj_shared_state_service(&service);
	last = Max(service.served_since, service.looked_after);
	if (service.no_worker_since != 0)
		cj_findings_add_hint(
			findings, "worker", "error",
			psprintf(
				"no background worker has been free for this database since %s: runs are not started, overdue jobs not noticed, alerts not delivered",
				timestamptz_to_str(service.no_worker_since)),
			psprintf("Run: ALTER SYSTEM SET max_worker_processes = %d; then restart the server.",
					 max_worker_processes + 8));
	else if (last + cj_job_config_shortest_grace() + USECS_PER_MINUTE < GetCurrentTimestamp())
		cj_findings_add(
			findings, "worker", "error",
			psprintf("the worker last visited this database at %s; the server log says why",
					 timestamptz_to_str(last)),
			NULL);
	else
		cj_findings_add(findings, "worker", "ok",
						"this database is served by the background worker", NULL);
}

static void
check_worker(CjFindings *findings)
{
	const char *database = get_database_name(MyDatabaseId);

	if (!cj_shared_state_is_there())
		return;
	if (!cj_database_list_has(database))
		cj_findings_add_as(
			findings, "worker", "warning",
			"challenge_jobs.databases does not name this database: job functions that fail or are rolled back are not recorded, and crashed runs stay open until the next run",
			psprintf("ALTER SYSTEM SET challenge_jobs.databases = %s; SELECT pg_reload_conf();",
					 cj_database_list_with(database)),
			CJ_AS_SUPERUSER);
	else if (RecoveryInProgress())
		cj_findings_add(findings, "worker", "ok", "the worker starts when this standby is promoted",
						NULL);
	else if (cj_shared_state_launcher() == 0)
		cj_findings_add_hint(
			findings, "worker", "error", "the launcher of the background workers is not running",
			"If the server log says \"too many background workers\", increase max_worker_processes. Then restart the server.");
	else if (!cj_shared_state_is_served())
		cj_findings_add_as(findings, "worker", "warning",
						   "the launcher does not know this database yet",
						   "SELECT pg_reload_conf();", CJ_AS_SUPERUSER);
	else
		check_service(findings);
}

static void
check_unrecorded_runs(CjFindings *findings)
{
	uint64 lost;
	int waiting = cj_shared_state_waiting(&lost);

	if (!cj_shared_state_is_served())
		return;
	if (lost > 0)
		cj_findings_add_hint(
			findings, "unrecorded_runs", "warning",
			psprintf(
				UINT64_FORMAT
				" job functions that failed or were rolled back could not be recorded since the server started",
				lost),
			"The server log has the failures. Call job functions less often, or fix the cause of the failures.");
	else
		cj_findings_add(findings, "unrecorded_runs", "ok",
						psprintf("%d runs are waiting to be recorded, none was dropped", waiting),
						NULL);
}

static void
check_alerts(CjFindings *findings)
{
	CjRows rows;
	int64 waiting;
	int64 tried;

	if (!cj_alert_command_is_set())
	{
		cj_findings_add(
			findings, "alerts", "ok",
			"challenge_jobs.alert_command is not set: alerts go to challenge_jobs.alert, the server log "
			"and NOTIFY only",
			NULL);
		return;
	}
	rows = cj_sql_run_own(&count_waiting_alerts, NULL);
	waiting = cj_sql_int64(&rows, 0, 1);
	tried = cj_sql_int64(&rows, 0, 2);
	if (tried > 0)
		cj_findings_add_hint(
			findings, "alerts", "warning",
			psprintf(INT64_FORMAT " alerts could not be delivered yet; the last one: %s", tried,
					 cj_sql_text(&rows, 0, 3)),
			"Mend challenge_jobs.alert_command, then run as a superuser: CALL challenge_jobs.deliver_alerts();");
	else if (waiting > 0)
		cj_findings_add_as(findings, "alerts", "warning",
						   psprintf(INT64_FORMAT " alerts wait, and nothing delivers them",
									waiting),
						   "CALL challenge_jobs.deliver_alerts();", CJ_AS_SUPERUSER);
	else
		cj_findings_add(findings, "alerts", "ok",
						"challenge_jobs.alert_command is set, and no alert waits for it", NULL);
	cj_sql_free(&rows);
}

/* ---- the app's tables ---- */

static void
check_index(CjFindings *findings, const CjBinding *binding, const CjIndexAdvice *advice)
{
	const CjBoundEntity *entity = &binding->entities[advice->entity];
	const CjBoundColumn *a = advice->first >= 0 ? &entity->columns[advice->first] : NULL;
	const CjBoundColumn *b = &entity->columns[advice->second];
	bool partitioned = entity->relkind == RELKIND_PARTITIONED_TABLE;
	const char *columns;
	const char *check;
	CjRows rows;

	/* a partitioned table cannot have a unique index on any column of its own */
	if (!entity->used || !b->present || (a && !a->present) || (advice->unique && partitioned))
		return;
	columns = a ? psprintf("%s, %s", quote_identifier(a->name), quote_identifier(b->name))
				: quote_identifier(b->name);
	check = psprintf("%s:%s(%s)", advice->unique ? "unique" : "index",
					 cj_entity_name(advice->entity), columns);
	rows = cj_sql_run_own(&find_index,
						  CJ_PARAMS(CJ_OID(entity->relid), CJ_INT2(a ? a->number : b->number),
									CJ_INT2(b->number), CJ_BOOL(advice->unique),
									CJ_BOOL(advice->needs_ordered_scan),
									CJ_BOOL(advice->ignores_nulls)));
	if (rows.processed == 0)
		cj_findings_add_as(
			findings, check, "warning",
			psprintf("%s has no %s %s: %s", entity->relation,
					 advice->unique ? "unique index on"
					 : advice->needs_ordered_scan
						 ? "btree index, in the usual order and of all rows, that begins with"
						 : "index that begins with",
					 columns, advice->without),
			psprintf("CREATE %sINDEX %sON %s (%s);", advice->unique ? "UNIQUE " : "",
					 partitioned ? "" : "CONCURRENTLY ", entity->relation, columns),
			GetUserNameFromId(entity->owner, false));
	else
		cj_findings_add(findings, check, "ok", "there is an index", NULL);
	cj_sql_free(&rows);
}

/* check_fillable looks for columns of notifications that nobody would fill in. */
static void
check_fillable(CjFindings *findings, const CjBoundEntity *entity)
{
	Datum numbers[CJ_MAX_COLUMNS];
	int count = 0;

	for (int i = 0; i < CJ_MAX_COLUMNS; i++)
	{
		if (entity->columns[i].present)
			numbers[count++] = Int16GetDatum(entity->columns[i].number);
	}
	check_by(findings, &unfilled_columns,
			 CJ_PARAMS(CJ_OID(entity->relid),
					   CJ_ARRAY(INT2OID, cj_sql_array(numbers, count, INT2OID)),
					   CJ_TEXT(entity->relation)));
}

/*
 * check_cascades names tables of others that change along with one that a job writes: their AFTER triggers run as whoever
 * has changed it, up to PostgreSQL 17.
 */
static void
check_cascades(CjFindings *findings, const CjBoundEntity *entity, const CjUsage *usage)
{
	const CjBoundColumn *status = &entity->columns[CJ_CHALLENGES_STATUS];
	bool updates = usage->entity == CJ_CHALLENGES && (usage->privileges & ACL_UPDATE);
	bool deletes = (usage->privileges & ACL_DELETE) != 0;

	if (updates || deletes)
		check_by(findings, &find_cascades,
				 CJ_PARAMS(CJ_OID(entity->relid), CJ_OID(entity->owner), CJ_BOOL(deletes),
						   CJ_VALUE(INT2OID, Int16GetDatum(updates ? status->number : 0), !updates),
						   CJ_TEXT(entity->relation),
						   CJ_TEXT(GetUserNameFromId(entity->owner, false))));
}

/* check_text checks that a text of the settings fits into its column, whatever stands for placeholders. */
static void
check_text(CjFindings *findings, const CjJob *job, const CjJobConfig *config,
		   const CjSetting *setting, const CjBoundEntity *entity, const CjBoundColumn *column)
{
	const char *text = cj_settings_text(config->settings, setting->name);
	int32 size = column->typmod - (int32) VARHDRSZ;
	int length = pg_mbstrlen(cj_template_expand(text, setting->words, NULL));

	if (length > size)
		cj_findings_add_as(
			findings, psprintf("columns:%s", cj_entity_name(CJ_NOTIFICATIONS)), "error",
			psprintf(
				"setting \"%s\" of job \"%s\" has %d characters or more, column %s of %s takes %d",
				setting->name, job->definition.name, length, quote_identifier(column->name),
				entity->relation, size),
			psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE text;", entity->relation,
					 quote_identifier(column->name)),
			GetUserNameFromId(entity->owner, false));
}

/* check_texts checks the texts that a job writes: settings that are or end in "title" or "body". */
static void
check_texts(CjFindings *findings, const CjJob *job, const CjJobConfig *config,
			const CjBoundEntity *entity)
{
	for (const CjSetting *s = job->definition.settings; s->name; s++)
	{
		const char *underscore = strrchr(s->name, '_');
		const char *kind = underscore ? underscore + 1 : s->name;
		const CjBoundColumn *column =
			&entity->columns[strcmp(kind, "title") == 0 ? CJ_NOTIFICATIONS_TITLE
														: CJ_NOTIFICATIONS_BODY];

		if (s->type == CJ_SETTING_TEMPLATE && column->present &&
			(column->base_type == VARCHAROID || column->base_type == BPCHAROID) &&
			column->typmod >= (int32) VARHDRSZ)
			check_text(findings, job, config, s, entity, column);
	}
}

/* check_tables checks what only makes sense when every table was found. */
static void
check_tables(CjFindings *findings, const CjJob *job, CjJobConfig *config, CjBinding *binding,
			 const CjUsage *usage, int count)
{
	cj_findings_add(findings, "owner", "ok",
					psprintf("the tables belong to \"%s\", and jobs run as that role",
							 GetUserNameFromId(binding->owner, false)),
					NULL);
	for (int i = 0; i < count; i++)
	{
		if (usage[i].privileges & ACL_INSERT)
		{
			check_fillable(findings, &binding->entities[usage[i].entity]);
			check_texts(findings, job, config, &binding->entities[usage[i].entity]);
		}
		check_cascades(findings, &binding->entities[usage[i].entity], &usage[i]);
	}
	for (const CjIndexAdvice *advice = job->indexes; advice && advice->without; advice++)
		check_index(findings, binding, advice);
	if (job->examine)
	{
		Trial trial = {.job = job, .binding = binding, .config = config, .findings = findings};
		ErrorData *error = attempt(&trial);

		if (error)
			cj_findings_add_error(findings, psprintf("job:%s", job->definition.name), error);
	}
}

/* list_candidates names columns that jobs can use, and do not since their names may mean something else. */
static void
list_candidates(CjFindings *findings, CjEntity id, const CjBoundEntity *entity)
{
	const CjColumnDefinition *columns = cj_entity_definitions[id].columns;

	for (int i = 0; columns[i].name; i++)
	{
		if (entity->columns[i].candidate)
			cj_findings_add_hint(
				findings, psprintf("candidate:%s.%s", cj_entity_name(id), columns[i].name), "ok",
				psprintf("column %s of %s is not used", quote_identifier(columns[i].name),
						 entity->relation),
				psprintf("If it is %s, run: %s", columns[i].meaning, entity->columns[i].candidate));
	}
}

/* check_entity resolves one entity by itself; false if it cannot be used. */
static bool
check_entity(CjFindings *findings, const CjUsage *usage)
{
	const char *name = cj_entity_name(usage->entity);
	const char *check = psprintf("binding:%s", name);
	Trial trial = {usage, 1};
	ErrorData *error = attempt(&trial);
	const CjBoundEntity *entity;

	if (error)
	{
		cj_findings_add_error(findings, check, error);
		return false;
	}
	entity = &trial.binding->entities[usage->entity];
	if (entity->used)
		cj_findings_add(findings, check, "ok",
						psprintf("%s, %s", entity->relation,
								 entity->is_bound ? "bound" : "by its default name"),
						NULL);
	list_candidates(findings, usage->entity, entity);
	return true;
}

static void
check_bindings(CjFindings *findings, const CjJob *job, CjJobConfig *config)
{
	CjUsage usage[CJ_ENTITY_COUNT];
	int count = job->usage ? job->usage(config, true, usage) : 0;
	Trial trial = {usage, count};
	ErrorData *error;
	bool all = true;

	if (job->usage == NULL)
	{
		job->examine(config, NULL, findings);
		return;
	}
	for (int i = 0; i < count; i++)
		all &= check_entity(findings, &usage[i]);
	if (!all)
		return;
	error = attempt(&trial);
	if (error)
		cj_findings_add_error(findings, "owner", error);
	else
		check_tables(findings, job, config, trial.binding, usage, count);
}

/* ---- jobs ---- */

/* check_prepared names a prepared transaction that keeps a job from running until somebody ends it. */
static void
check_prepared(CjFindings *findings, const CjJob *job)
{
	CjJobLock lock = cj_job_lock_of(job->definition.number);
	const char *gid = cj_job_lock_prepared(&lock);

	if (gid)
		cj_findings_add(
			findings, psprintf("prepared:%s", job->definition.name), "error",
			psprintf(
				"the prepared transaction %s called the job and blocks it; COMMIT PREPARED would keep its work",
				gid),
			psprintf("ROLLBACK PREPARED %s;", gid));
}

static void
check_schedule(CjFindings *findings, const CjJob *job, const CjJobConfig *config)
{
	const char *name = job->definition.name;
	const char *check = psprintf("schedule:%s", name);
	const char *zone = cj_pg_cron_foreign_time_zone();
	const char *hint;
	const char *problem;

	if (config->engine == NULL)
	{
		cj_findings_add(findings, check, "warning", "the job is not scheduled",
						psprintf("SELECT * FROM challenge_jobs.schedule('%s');", name));
		return;
	}
	if (strcmp(config->engine, "worker") == 0)
	{
		problem = cj_pg_cron_worker_problem(&hint);
		if (problem)
			cj_findings_add_hint(findings, check, "warning", problem, hint);
		else
			cj_findings_add(findings, check, "ok",
							psprintf("\"%s\", fired by the worker", config->schedule), NULL);
		return;
	}
	if (strcmp(config->engine, "pg_cron") != 0)
	{
		cj_findings_add(findings, check, "ok",
						psprintf("\"%s\", fired from outside", config->schedule), NULL);
		return;
	}
	problem = cj_pg_cron_problem(&job->definition, config, &hint);
	if (problem)
		cj_findings_add_hint(findings, check, "error", problem, hint);
	else if (zone)
		cj_findings_add_hint(
			findings, check, "warning",
			psprintf("pg_cron reads \"%s\" in the time zone \"%s\", not in UTC", config->schedule,
					 zone),
			"Run: ALTER SYSTEM SET cron.timezone = 'GMT'; then restart the server.");
	else
		cj_findings_add(findings, check, "ok",
						psprintf("\"%s\", fired by pg_cron", config->schedule), NULL);
}

static void
check_job(CjFindings *findings, const CjJob *job)
{
	Trial trial = {NULL, 0, job};
	ErrorData *error = attempt(&trial);

	if (error)
	{
		cj_findings_add_error(findings, psprintf("job:%s", job->definition.name), error);
		return;
	}
	check_by(findings, &find_namesakes,
			 CJ_PARAMS(CJ_OID(cj_identity_extension().oid), CJ_TEXT(job->definition.name)));
	if (!trial.config->enabled)
	{
		/* of no interest is then what it would need */
		cj_findings_add(findings, psprintf("job:%s", job->definition.name), "warning",
						"the job is disabled",
						psprintf("SELECT challenge_jobs.alter_job('%s', enabled => true);",
								 job->definition.name));
		return;
	}
	check_bindings(findings, job, trial.config);
	check_schedule(findings, job, trial.config);
	check_prepared(findings, job);
	check_by(findings, &find_state, CJ_PARAMS(CJ_TEXT(job->definition.name)));
}

void
cj_doctor_examine(Tuplestorestate *store, TupleDesc desc)
{
	CjFindings *findings = cj_findings_create(store, desc);
	const CjJob *const *jobs = cj_job_list_jobs();
	CjParams *extension = CJ_PARAMS(CJ_OID(cj_identity_extension().oid));

	check_version(findings);
	check_preload(findings);
	check_by(findings, &find_holds, NULL);
	check_read_only(findings);
	check_worker(findings);
	check_unrecorded_runs(findings);
	check_by(findings, &find_refusals, NULL);
	check_by(findings, &list_grantees, extension);
	check_by(findings, &find_writers, extension);
	check_by(findings, &find_orphans, NULL);
	check_alerts(findings);
	check_by(findings, &find_piled_up, NULL);
	for (int i = 0; jobs[i]; i++)
		check_job(findings, jobs[i]);
}
