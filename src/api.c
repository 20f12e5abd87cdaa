/*
 * api.c
 *		The SQL-callable functions, in the order of the install script.
 *
 * Thin: take the arguments apart, connect to SPI, call the module that knows. None of the functions is strict,
 * since a null argument mostly deserves an error with a hint rather than a null result that looks like success.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "alerts/alert.h"
#include "alerts/delivery.h"
#include "app/binding.h"
#include "base/identity.h"
#include "config/cron.h"
#include "config/installation.h"
#include "config/job_config.h"
#include "config/pg_cron.h"
#include "jobs/auto_complete_undo.h"
#include "jobs/job_list.h"
#include "matview/capture/change_capture.h"
#include "matview/stats_view.h"
#include "matview/tracking.h"
#include "matview/view_names.h"
#include "monitor/doctor.h"
#include "monitor/html.h"
#include "monitor/report.h"
#include "run/runner.h"
#include "run/shared_state.h"
#include "worker/watchdog.h"
#include "worker/worker.h"

#define MAX_NEXT_RUNS 1000

/* bytes */
#define MAX_TRIGGERED_BY 200

#define BIND_EXAMPLE  "Run: SELECT challenge_jobs.bind('challenges', 'public.challenges');"
#define TRACK_EXAMPLE "Run: SELECT * FROM challenge_jobs.track('public.my_view');"
#define VIEW_EXAMPLE  "Run: SELECT challenge_jobs.add_stats_view('public.my_view');"

/* What a function does; `rows` takes what it returns, if that is a set. Connected to SPI. */
typedef void (*Work)(FunctionCallInfo fcinfo, ReturnSetInfo *rows);

/*
 * Begins an SQL-callable function, cj_api_<name>; before 16, PG_FUNCTION_INFO_V1 does not export it. What arguments and
 * columns there are is said in the install script: functions of another script must not be entered. CJ_FUNCTION returns
 * nothing or a set, CJ_VALUE_FUNCTION a value, and connects to SPI itself.
 */
#define CJ_EXPORT(name, work, value)                          \
	extern PGDLLEXPORT Datum cj_api_##name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(cj_api_##name);                       \
	Datum cj_api_##name(PG_FUNCTION_ARGS)                     \
	{                                                         \
		return call(fcinfo, work, value);                     \
	}
#define CJ_FUNCTION(name)                                                \
	static void do_##name(FunctionCallInfo fcinfo, ReturnSetInfo *rows); \
	CJ_EXPORT(name, do_##name, NULL)                                     \
	static void do_##name(FunctionCallInfo fcinfo, ReturnSetInfo *rows)
#define CJ_VALUE_FUNCTION(name)               \
	static Datum do_##name(PG_FUNCTION_ARGS); \
	CJ_EXPORT(name, NULL, do_##name)          \
	static Datum do_##name(PG_FUNCTION_ARGS)

/* enter refuses to be called from another script; once for each call of a statement. */
static void
enter(FunctionCallInfo fcinfo)
{
	static bool checked;

	if (fcinfo->flinfo->fn_extra == &checked)
		return;
	cj_identity_check_script();
	fcinfo->flinfo->fn_extra = &checked;
}

/* may_commit returns whether a procedure is called where it may end the transaction. */
static bool
may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context && IsA(fcinfo->context, CallContext) &&
		   !castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction();
}

static void
connect_spi(FunctionCallInfo fcinfo)
{
	if (SPI_connect_ext(may_commit(fcinfo) ? SPI_OPT_NONATOMIC : 0) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
finish_spi(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

static void
do_work(FunctionCallInfo fcinfo, Work work)
{
	bool is_set = fcinfo->flinfo->fn_retset;

	/* a table of one column is no composite type: the caller knows what it expects */
	if (is_set)
		InitMaterializedSRF(fcinfo, get_call_result_type(fcinfo, NULL, NULL) == TYPEFUNC_COMPOSITE
										? 0
										: MAT_SRF_USE_EXPECTED_DESC);
	connect_spi(fcinfo);
	work(fcinfo, is_set ? (ReturnSetInfo *) fcinfo->resultinfo : NULL);
	finish_spi();
}

/* call does what a function is for. Names are stored and shown as they have to be quoted, whatever the session wants. */
static Datum
call(FunctionCallInfo fcinfo, Work work, PGFunction value)
{
	bool quote_all = quote_all_identifiers;
	Datum result = (Datum) 0;

	enter(fcinfo);
	PG_TRY();
	{
		quote_all_identifiers = false;
		if (work)
			do_work(fcinfo, work);
		else
			result = value(fcinfo);
	}
	PG_FINALLY();
	{
		quote_all_identifiers = quote_all;
	}
	PG_END_TRY();
	return result;
}

/* ---- arguments and results ---- */

/* require_arg raises an error if an argument is null; `hint` says what could be typed. */
static void
require_arg(FunctionCallInfo fcinfo, int n, const char *name, const char *hint)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("%s", hint)));
}

/* get_text_arg returns a text argument, or NULL. */
static char *
get_text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static const CjJob *
find_job(FunctionCallInfo fcinfo, int n)
{
	require_arg(fcinfo, n, "job", "Run: SELECT job FROM challenge_jobs.job;");
	return cj_job_list_find(get_text_arg(fcinfo, n));
}

static void
put_row(ReturnSetInfo *result, const char *const *texts, int count)
{
	Datum values[8];
	bool nulls[8];

	Assert(count <= lengthof(values));
	for (int i = 0; i < count; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* ---- job functions ---- */

/*
 * call_job_function runs a job in the caller's transaction, as of its first argument, dry if the second one says
 * so, and returns its figures as a row.
 */
static Datum
call_job_function(FunctionCallInfo fcinfo, const char *name)
{
	const CjJob *job = cj_job_list_find(name);
	CjFunctionCall call = {0};
	int64 figures[CJ_MAX_FIGURES] = {0};
	Datum values[CJ_MAX_FIGURES];
	bool nulls[CJ_MAX_FIGURES] = {0};
	TupleDesc desc;

	require_arg(fcinfo, 0, "as_of", "Omit it to use now().");
	require_arg(fcinfo, 1, "dry_run", "Omit it to use false.");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	call.as_of = PG_GETARG_TIMESTAMPTZ(0);
	call.dry_run = PG_GETARG_BOOL(1);
	connect_spi(fcinfo);
	cj_runner_run_function(job, &call, figures);
	finish_spi();

	for (int i = 0; i < desc->natts; i++)
		values[i] = Int64GetDatum(figures[i]);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* auto_complete_challenges(as_of timestamptz, dry_run boolean) */
CJ_VALUE_FUNCTION(auto_complete_challenges)
{
	return call_job_function(fcinfo, "auto_complete_challenges");
}

/* refresh_challenge_stats(force_full boolean) */
CJ_FUNCTION(refresh_challenge_stats)
{
	CjFunctionCall call = {.as_of = GetCurrentTransactionStartTimestamp()};
	int64 figures[CJ_MAX_FIGURES] = {0};

	require_arg(fcinfo, 0, "force_full", "Omit it to use false.");
	call.force_full = PG_GETARG_BOOL(0);
	call.rows = rows->setResult;
	call.rows_desc = rows->setDesc;
	cj_runner_run_function(cj_job_list_find("refresh_challenge_stats"), &call, figures);
}

/* send_streak_reminders(as_of timestamptz, dry_run boolean) */
CJ_VALUE_FUNCTION(send_streak_reminders)
{
	return call_job_function(fcinfo, "send_streak_reminders");
}

/* cleanup_expired_notifications(as_of timestamptz, dry_run boolean) */
CJ_VALUE_FUNCTION(cleanup_expired_notifications)
{
	return call_job_function(fcinfo, "cleanup_expired_notifications");
}

/* ---- the production run ---- */

/* is_reserved_trigger returns whether a triggered_by says what a caller of run() is not: by these, runs are told apart. */
static bool
is_reserved_trigger(const char *triggered_by)
{
	return strcmp(triggered_by, "function") == 0 || strcmp(triggered_by, "worker") == 0 ||
		   strcmp(triggered_by, "retry") == 0 || strcmp(triggered_by, "catch_up") == 0 ||
		   strcmp(triggered_by, CJ_AFTER_DECISIONS) == 0;
}

/* require_no_transaction refuses to commit inside of what is not ours; `hint` says what else there is. */
static void
require_no_transaction(FunctionCallInfo fcinfo, const char *procedure, const char *hint)
{
	if (!may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("challenge_jobs.%s() cannot run inside a transaction block", procedure),
				 errdetail("It commits after every batch. Functions, procedures with SECURITY DEFINER or SET, and blocks with an exception handler do not allow that."),
				 errhint("%s", hint)));
}

/* run(job text, triggered_by text) */
CJ_FUNCTION(run)
{
	const CjJob *job = find_job(fcinfo, 0);
	CjRunTrigger trigger = {.attempt = 1};

	require_arg(fcinfo, 1, "triggered_by", "Omit it to use 'manual'.");
	trigger.triggered_by = get_text_arg(fcinfo, 1);
	if (is_reserved_trigger(trigger.triggered_by) ||
		strlen(trigger.triggered_by) > MAX_TRIGGERED_BY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid triggered_by"),
				 errdetail("It takes up to %d bytes. \"function\", \"worker\", \"retry\", \"catch_up\" and \"after_decisions\" are reserved.",
						   MAX_TRIGGERED_BY),
				 errhint("Omit it to use 'manual'.")));
	require_no_transaction(fcinfo, "run",
						   psprintf("To run the job in this transaction, use: SELECT * FROM %s();",
									quote_qualified_identifier(get_namespace_name(
																   cj_identity_extension().schema),
															   job->definition.name)));
	trigger.may_wait =
		strcmp(job->definition.name, CJ_FOLLOWING_JOB) == 0 &&
		(strcmp(trigger.triggered_by, "manual") != 0 || cj_shared_state_is_unattended());
	cj_runner_run_procedure(job, &trigger);
}

/* start(job text) */
CJ_FUNCTION(start)
{
	const CjJob *job = find_job(fcinfo, 0);
	CjRunTrigger trigger = {.triggered_by = "manual", .attempt = 1};

	PreventCommandDuringRecovery("challenge_jobs.start()");
	if (!cj_worker_start_run(job->definition.name, &trigger))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("no background worker is free to run job \"%s\"", job->definition.name),
						errhint("Increase max_worker_processes and restart the server, or run: CALL challenge_jobs.run('%s');",
								job->definition.name)));
}

/* preview(job text) */
CJ_FUNCTION(preview)
{
	const CjJob *job = find_job(fcinfo, 0);
	CjFunctionCall call = {.as_of = GetCurrentTransactionStartTimestamp(),
						   .dry_run = true,
						   .is_preview = true};
	int64 figures[CJ_MAX_FIGURES] = {0};

	if (job != &cj_job_auto_complete_challenges)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job \"%s\" has no preview", job->definition.name),
				 errhint("Run: SELECT * FROM challenge_jobs.preview('auto_complete_challenges');")));
	call.rows = rows->setResult;
	call.rows_desc = rows->setDesc;
	cj_runner_run_function(job, &call, figures);
}

/* undo_decisions(run_id bigint) */
CJ_FUNCTION(undo_decisions)
{
	CjRunTrigger trigger = {.triggered_by = "manual", .attempt = 1};

	require_arg(fcinfo, 0, "run_id",
				"Run: SELECT DISTINCT run_id FROM challenge_jobs.decision ORDER BY run_id DESC;");
	require_no_transaction(fcinfo, "undo_decisions", "Call it outside of a transaction block.");
	trigger.undoes = PG_GETARG_INT64(0);
	cj_auto_complete_undo_check(trigger.undoes);
	cj_runner_run_procedure(&cj_job_undo_decisions, &trigger);
}

/* ---- the app's tables ---- */

/* bind(entity text, relation text, columns jsonb, labels jsonb) */
CJ_FUNCTION(bind)
{
	require_arg(fcinfo, 0, "entity", BIND_EXAMPLE);
	require_arg(fcinfo, 1, "relation", BIND_EXAMPLE);
	cj_binding_bind(get_text_arg(fcinfo, 0), get_text_arg(fcinfo, 1),
					PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
					PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3));
}

/* unbind(entity text) */
CJ_FUNCTION(unbind)
{
	require_arg(fcinfo, 0, "entity", BIND_EXAMPLE);
	cj_binding_unbind(get_text_arg(fcinfo, 0));
}

/* add_stats_view(view text) */
CJ_FUNCTION(add_stats_view)
{
	require_arg(fcinfo, 0, "view", VIEW_EXAMPLE);
	cj_view_names_follow();
	cj_stats_view_add(get_text_arg(fcinfo, 0));
	cj_view_names_note();
}

/* remove_stats_view(view text) */
CJ_FUNCTION(remove_stats_view)
{
	require_arg(fcinfo, 0, "view", "Run: SELECT view_name FROM challenge_jobs.stats_view;");
	cj_view_names_follow();
	cj_tracking_forget(cj_stats_view_remove(get_text_arg(fcinfo, 0)));
}

/* ---- tracked views ---- */

/* capture_change(): a trigger */
CJ_VALUE_FUNCTION(capture_change)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture_change() is a trigger function"), errhint(TRACK_EXAMPLE)));
	cj_change_capture_note((TriggerData *) fcinfo->context);
	return PointerGetDatum(NULL);
}

/* put_key_paths returns how the changes of each source lead to keys. */
static void
put_key_paths(ReturnSetInfo *result, const CjViewAnalysis *analysis)
{
	ListCell *cell;

	foreach(cell, analysis->sources)
	{
		const CjViewSource *source = lfirst(cell);
		ListCell *key_path;

		foreach(key_path, source->key_paths)
		{
			const char *texts[CJ_KEY_PATH_TEXTS];

			cj_key_mapping_describe_key_path(source, lfirst(key_path), texts);
			put_row(result, texts, CJ_KEY_PATH_TEXTS);
		}
	}
}

/* track(view regclass, key name, dry_run boolean) */
CJ_FUNCTION(track)
{
	CjViewAnalysis *analysis;

	require_arg(fcinfo, 0, "view", TRACK_EXAMPLE);
	require_arg(fcinfo, 1, "key", "Omit it to use \"challenge_id\".");
	require_arg(fcinfo, 2, "dry_run", "Omit it to use false.");
	analysis = cj_tracking_track(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), PG_GETARG_BOOL(2));
	put_key_paths(rows, analysis);
}

/* untrack(view regclass) */
CJ_FUNCTION(untrack)
{
	require_arg(fcinfo, 0, "view",
				"Run: SELECT DISTINCT view_name FROM challenge_jobs.tracked_view;");
	cj_tracking_untrack(PG_GETARG_OID(0));
}

/* ---- jobs ---- */

static Datum
interval_from_text(const char *text)
{
	return DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/* job_default() */
CJ_FUNCTION(job_default)
{
	const CjJob *const *jobs = cj_job_list_jobs();

	for (int i = 0; jobs[i]; i++)
	{
		const CjJobDefinition *job = &jobs[i]->definition;
		bool nulls[9] = {0};
		Datum values[9] = {
			CStringGetTextDatum(job->name),
			CStringGetTextDatum(job->description),
			CStringGetTextDatum(job->schedule),
			interval_from_text(job->max_runtime),
			Int32GetDatum(job->max_retries),
			interval_from_text(job->retry_delay),
			CStringGetTextDatum(job->catch_up),
			interval_from_text(job->grace),
			JsonbPGetDatum(cj_settings_default(job->settings)),
		};

		tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
	}
}

/*
 * alter_job(job text, schedule text, enabled boolean, max_runtime interval, max_retries integer,
 * retry_delay interval, catch_up text, grace interval, settings jsonb)
 */
CJ_FUNCTION(alter_job)
{
	const CjJob *job = find_job(fcinfo, 0);
	bool enabled = PG_ARGISNULL(2) ? false : PG_GETARG_BOOL(2);
	int max_retries = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
	CjJobChange change = {
		.schedule = get_text_arg(fcinfo, 1),
		.enabled = PG_ARGISNULL(2) ? NULL : &enabled,
		.max_runtime = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3),
		.max_retries = PG_ARGISNULL(4) ? NULL : &max_retries,
		.retry_delay = PG_ARGISNULL(5) ? NULL : PG_GETARG_INTERVAL_P(5),
		.catch_up = get_text_arg(fcinfo, 6),
		.grace = PG_ARGISNULL(7) ? NULL : PG_GETARG_INTERVAL_P(7),
		.settings = PG_ARGISNULL(8) ? NULL : PG_GETARG_JSONB_P(8),
	};

	cj_job_config_alter(&job->definition, &change);
	cj_pg_cron_update(&job->definition);
}

/* reset_job(job text) */
CJ_FUNCTION(reset_job)
{
	const CjJob *job = find_job(fcinfo, 0);

	cj_job_config_reset(&job->definition);
	cj_pg_cron_update(&job->definition);
}

/* schedule(job text, engine text) */
CJ_FUNCTION(schedule)
{
	const CjJob *only = PG_ARGISNULL(0) ? NULL : find_job(fcinfo, 0);
	const char *engine = get_text_arg(fcinfo, 1);
	const CjJob *const *jobs = cj_job_list_jobs();
	bool by_worker = false;

	for (int i = 0; jobs[i]; i++)
	{
		if (only == NULL || jobs[i] == only)
		{
			CjSchedule schedule = cj_pg_cron_schedule(&jobs[i]->definition, engine, only == NULL);
			const char *row[] = {jobs[i]->definition.name, schedule.engine, schedule.schedule,
								 schedule.command};

			put_row(rows, row, lengthof(row));
			by_worker |= strcmp(schedule.engine, "worker") == 0;
		}
	}
	if (by_worker)
		cj_pg_cron_warn_of_worker();
}

/* unschedule(job text) */
CJ_FUNCTION(unschedule)
{
	const CjJob *only = PG_ARGISNULL(0) ? NULL : find_job(fcinfo, 0);
	const CjJob *const *jobs = cj_job_list_jobs();

	for (int i = 0; jobs[i]; i++)
	{
		if (only == NULL || jobs[i] == only)
		{
			const char *engine = cj_pg_cron_unschedule(&jobs[i]->definition);
			const char *row[] = {jobs[i]->definition.name, engine};

			if (engine)
				put_row(rows, row, lengthof(row));
		}
	}
}

/* put_rows appends the rows of a query, whose columns are those of the function, and frees them. */
static void
put_rows(ReturnSetInfo *result, CjRows rows)
{
	int count = result->setDesc->natts;
	Datum *values = palloc(sizeof(Datum) * count);
	bool *nulls = palloc(sizeof(bool) * count);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		for (int i = 0; i < count; i++)
			values[i] = cj_sql_datum(&rows, row, i + 1, &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	cj_sql_free(&rows);
}

/* pause(reason text) */
CJ_FUNCTION(pause)
{
	cj_installation_pause(get_text_arg(fcinfo, 0));
	put_rows(rows, cj_installation_runs_at_work());
}

/* adopt schedules the jobs that came with a copy in this database, from now on. */
static void
adopt(void)
{
	CjRows rows = cj_installation_restored_jobs();

	for (uint64 row = 0; row < rows.processed; row++)
		(void) cj_pg_cron_schedule(&cj_job_list_find(cj_sql_text(&rows, row, 1))->definition, NULL,
								   true);
	cj_sql_free(&rows);
	/* also where nothing was scheduled */
	cj_installation_renew();
}

/* resume() */
CJ_FUNCTION(resume)
{
	cj_installation_end_pause();
	adopt();
	put_rows(rows, cj_installation_scheduled_jobs());
}

/* put_scheduled_times appends the first n scheduled times after a moment. */
static void
put_scheduled_times(ReturnSetInfo *result, const CjCronExpression *cron, TimestampTz moment, int n)
{
	bool isnull = false;

	for (int i = 0; i < n && cj_cron_next(cron, moment, &moment); i++)
	{
		Datum value = TimestampTzGetDatum(moment);

		tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
	}
}

/* next_runs(job text, n integer) */
CJ_FUNCTION(next_runs)
{
	const CjJob *job = find_job(fcinfo, 0);
	int n;

	require_arg(fcinfo, 1, "n", "Omit it to use 5.");
	n = PG_GETARG_INT32(1);
	if (n < 1 || n > MAX_NEXT_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be from 1 to %d, not %d", MAX_NEXT_RUNS, n),
				 errhint("Run: SELECT * FROM challenge_jobs.next_runs('%s', 5);",
						 job->definition.name)));

	put_scheduled_times(rows, &cj_job_config_load(&job->definition)->cron,
						GetCurrentStatementStartTimestamp(), n);
}

/* ---- alerts ---- */

/* settle_alerts() */
CJ_FUNCTION(settle_alerts)
{
	cj_alert_settle_runs();
}

/* deliver_alerts() */
CJ_FUNCTION(deliver_alerts)
{
	if (!may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("challenge_jobs.deliver_alerts() cannot run inside a transaction block"),
				 errdetail("It commits before and after each call of the command."),
				 errhint("Run: CALL challenge_jobs.deliver_alerts();")));

	cj_alert_deliver_by_hand();
}

/* host_name() */
CJ_VALUE_FUNCTION(host_name)
{
	char *name = cj_alert_host_name();

	if (name == NULL)
		PG_RETURN_NULL();
	return CStringGetTextDatum(name);
}

/* ---- is it running as it should? ---- */

/* watchdog(at timestamptz) */
CJ_FUNCTION(watchdog)
{
	require_arg(fcinfo, 0, "at", "Omit it to use the current time.");
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at must be finite"),
				 errhint("Omit it to use the current time.")));
	cj_watchdog_report(PG_GETARG_TIMESTAMPTZ(0), rows->setResult, rows->setDesc);
}

/* ---- what is wrong? ---- */

/* doctor() */
CJ_FUNCTION(doctor)
{
	cj_doctor_examine(rows->setResult, rows->setDesc);
}

/* ---- what is going on? ---- */

/* progress() */
CJ_FUNCTION(progress)
{
	CjProgress progress;
	int index = 0;

	while (cj_shared_state_read_progress(&index, &progress))
	{
		Datum values[] = {
			Int64GetDatum(progress.run_id),
			CStringGetTextDatum(progress.job),
			Int32GetDatum(progress.pid),
			CStringGetTextDatum(progress.phase),
			Int64GetDatum(progress.done),
			Int64GetDatum(progress.total),
			TimestampTzGetDatum(progress.started_at),
		};
		bool nulls[lengthof(values)] = {
			[0] = progress.run_id == 0,
			[3] = progress.phase[0] == '\0',
			[5] = progress.total == 0,
		};

		tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
	}
}

/* ---- a report to look at ---- */

/* report_html(since interval) */
CJ_VALUE_FUNCTION(report_html)
{
	text *page;
	char *html;

	require_arg(fcinfo, 0, "since", "Run: SELECT challenge_jobs.report_html('7 days');");
	connect_spi(fcinfo);
	html = cj_report_html(PG_GETARG_INTERVAL_P(0));
	/* SPI's memory goes with the connection */
	page = SPI_palloc(VARHDRSZ + strlen(html));
	SET_VARSIZE(page, VARHDRSZ + strlen(html));
	memcpy(VARDATA(page), html, strlen(html));
	finish_spi();
	PG_RETURN_TEXT_P(page);
}

/* html_text(characters text) */
CJ_VALUE_FUNCTION(html_text)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	return CStringGetTextDatum(cj_html_text(get_text_arg(fcinfo, 0)));
}

/* scheduled_times(schedule text, after timestamptz, n integer): none of a schedule that cannot be read */
CJ_FUNCTION(scheduled_times)
{
	CjCronExpression cron;

	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1) && !PG_ARGISNULL(2) &&
		cj_cron_parse(get_text_arg(fcinfo, 0), &cron) == NULL)
		put_scheduled_times(rows, &cron, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_INT32(2));
}
