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
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "alerts/command.h"
#include "app/binding.h"
#include "base/job_lock.h"
#include "base/sql.h"
#include "base/template.h"
#include "config/database_list.h"
#include "config/pg_cron.h"
#include "config/settings.h"
#include "jobs/job_list.h"
#include "monitor/doctor.h"
#include "run/findings.h"
#include "run/shared_state.h"

/* The functions of the install script return findings; $1 of has_index the table, the rest as CjIndexAdvice has it. */
static const CjStatement find_general = CJ_CALL_ROWS("find_general($1, $2, $3)");
static const CjStatement find_of_job = CJ_CALL_ROWS("find_of_job($1)");
static const CjStatement has_index = CJ_CALL("has_index($1, $2, $3, $4, $5, $6)");
static const CjStatement find_unfilled = CJ_CALL_ROWS("find_unfilled($1, $2, $3)");
static const CjStatement find_cascades = CJ_CALL_ROWS("find_cascades($1, $2, $3, $4, $5, $6)");

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

/* ---- the server ---- */

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
	rows = cj_sql_run_own(&has_index,
						  CJ_PARAMS(CJ_OID(entity->relid), CJ_INT2(a ? a->number : b->number),
									CJ_INT2(b->number), CJ_BOOL(advice->unique),
									CJ_BOOL(advice->needs_ordered_scan),
									CJ_BOOL(advice->ignores_nulls)));
	if (!cj_sql_bool(&rows, 0, 1))
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
	cj_findings_add_found(findings, &find_unfilled,
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
		cj_findings_add_found(
			findings, &find_cascades,
			CJ_PARAMS(CJ_OID(entity->relid), CJ_OID(entity->owner), CJ_BOOL(deletes),
					  CJ_VALUE(INT2OID, Int16GetDatum(updates ? status->number : 0), !updates),
					  CJ_TEXT(entity->relation), CJ_TEXT(GetUserNameFromId(entity->owner, false))));
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

/* add_candidates names columns that jobs can use, and do not since their names may mean something else. */
static void
add_candidates(CjFindings *findings, CjEntity id, const CjBoundEntity *entity)
{
	const CjColumnDefinition *columns = cj_entity_definitions[id].columns;
	StringInfoData names;
	StringInfoData meanings;

	initStringInfo(&names);
	initStringInfo(&meanings);
	for (int i = 0; columns[i].name; i++)
	{
		if (!entity->columns[i].is_candidate)
			continue;
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", columns[i].name);
		appendStringInfo(&meanings, "%s%s is %s", meanings.len > 0 ? ", and " : "", columns[i].name,
						 columns[i].meaning);
	}
	if (entity->bind_candidates)
		cj_findings_add_hint(findings, psprintf("candidate:%s", cj_entity_name(id)), "ok",
							 psprintf("not used of %s: %s", entity->relation, names.data),
							 psprintf("If %s, run: %s", meanings.data, entity->bind_candidates));
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
						psprintf("%s, %s%s%s", entity->relation,
								 entity->is_bound ? "bound" : "by its default name",
								 entity->not_found ? "; not found: " : "",
								 entity->not_found ? entity->not_found : ""),
						NULL);
	add_candidates(findings, usage->entity, entity);
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
	cj_findings_add_found(findings, &find_of_job, CJ_PARAMS(CJ_TEXT(job->definition.name)));
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
}

void
cj_doctor_examine(Tuplestorestate *store, TupleDesc desc)
{
	CjFindings *findings = cj_findings_create(store, desc);
	const CjJob *const *jobs = cj_job_list_jobs();

	cj_findings_add_found(findings, &find_general,
						  CJ_PARAMS(CJ_TEXT(CJ_VERSION), CJ_BOOL(preloaded),
									CJ_BOOL(cj_alert_command_is_set())));
	check_worker(findings);
	check_unrecorded_runs(findings);
	for (int i = 0; jobs[i]; i++)
		check_job(findings, jobs[i]);
}
