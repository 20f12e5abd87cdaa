/*
 * jobs/refresh.c
 *		The job refresh_challenge_stats: bring the statistics views up to date.
 *
 * What is refreshed are the registered views (stats_view) and what the entity challenge_member_stats
 * stands for, in the order of their dependencies. Each view is a batch of its own: one that fails keeps
 * none of the others waiting, not even those that read it, and under CALL run each is committed before
 * the next is begun, so that its lock is held no longer than its own refresh takes.
 *
 * A view is first looked at without a lock, to choose the method, then locked as that method needs,
 * and looked at again: from there on to the end of the transaction its name, owner and indexes stay what
 * they are. (The name of its schema does not; what could be refreshed instead after a renaming of
 * schemas is a view that the same owner may refresh anyway.)
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/identity.h"
#include "base/json.h"
#include "base/relation_locks.h"
#include "jobs/refresh_after.h"
#include "jobs/refresh_attempts.h"
#include "jobs/refresh_method.h"
#include "matview/stats_view.h"
#include "matview/view_names.h"
#include "run/batch.h"
#include "run/findings.h"
#include "run/job.h"

/*
 * incremental_share: of a tracked view at most so many per cent of the keys are recomputed by themselves; if more
 * have changed, everything is.
 * view_time_limit: how long the refresh of one view may take, at most 7 days; 0: where there are several views, half of
 * max_runtime. One that takes longer fails, and the others are refreshed.
 */
static const CjSetting settings[] = {{"incremental_share", CJ_SETTING_NUMBER, "50", 0, 100, NULL},
									 {"view_time_limit", CJ_SETTING_INTERVAL, "\"0\"", 0,
									  7 * SECS_PER_DAY, NULL},
									 {NULL}};

enum
{
	REFRESHED,
	ROWS_CHANGED
};

static const CjStatement find_unreadable = CJ_CALL_ROWS("find_unreadable($1, $2)");

static const char *const figures[] = {"refreshed", "rows_changed", NULL};

/* ---- what there is to refresh ---- */

/* A view to be refreshed, and what has become of it. */
typedef struct Entry
{
	char *name;
	bool is_entity; /* what challenge_member_stats stands for, and not registered */

	CjRefreshPlan plan; /* only its method and keys outlive the attempt */
	int64 rows_changed; /* -1: not known */
} Entry;

/* The state of a run; everything lives in the run's memory. */
typedef struct State
{
	char *time_zone;
	double share;        /* per cent: see the settings */
	int time_limit_ms;   /* for each view; 0: none */
	List *entries;       /* of Entry, in the order in which they are refreshed */
	List *names;         /* of those */
	int64 not_refreshed; /* how many were left out, as they are not tracked */
	int64 after_run;     /* the last run that decided challenges; 0: there is none */
	StringInfo results;  /* of the views so far, as JSON */
} State;

static bool
has_relation(const char *name)
{
	CjStatsView view;

	return cj_stats_view_describe(name, &view);
}

static bool
contains(const List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/*
 * list_names returns the names of all views in their order. What is not among the registered ones is
 * what challenge_member_stats stands for; where views are registered there need be no such thing.
 */
static List *
list_names(const CjBoundNames *stats, List *registered)
{
	List *names = list_copy(registered);

	if ((stats->is_bound || has_relation(stats->relation)) && !contains(names, stats->relation))
		names = lappend(names, stats->relation);
	return cj_stats_view_order(names);
}

/* raise_missing_entity raises the error of an entity that does not stand for anything. */
static void
raise_missing_entity(void)
{
	CjUsage usage = {CJ_CHALLENGE_MEMBER_STATS, 0, 0, AccessShareLock, 0};

	(void) cj_binding_resolve(&usage, 1);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("the relation of entity \"challenge_member_stats\" was just created")));
}

static void
add_entry(CjRun *run, State *state, const char *name, bool is_entity)
{
	MemoryContext caller = MemoryContextSwitchTo(run->memory);
	Entry *entry = palloc0(sizeof(Entry));

	entry->name = pstrdup(name);
	entry->is_entity = is_entity;
	state->entries = lappend(state->entries, entry);
	state->names = lappend(state->names, entry->name);
	MemoryContextSwitchTo(caller);
}

/* time_limit returns how many milliseconds the refresh of one of so many views may take; 0: as many as it wants. */
static int
time_limit(const CjJobConfig *config, int views)
{
	int64 limit = cj_settings_microseconds(config->settings, "view_time_limit");

	if (limit > 0)
		return (int) Max(1, limit / 1000);
	return views > 1 ? config->max_runtime_ms / 2 : 0;
}

/*
 * put_results puts the views so far into the result, and what was seen of the job before. A run that left views out
 * covers no scheduled time: CJ_RUN_COVERS.
 */
static void
put_results(CjRun *run, const State *state)
{
	resetStringInfo(run->more_result);
	cj_json_int64(run->more_result, "after_run", state->after_run);
	cj_json_begin(run->more_result, "views", '[');
	appendStringInfoString(run->more_result, state->results->data);
	cj_json_end(run->more_result, ']');
	if (state->not_refreshed > 0)
		cj_json_int64(run->more_result, "not_refreshed", state->not_refreshed);
}

/*
 * is_left_out returns whether a view is none of those that a limited run refreshes. With what is no view there is
 * nothing to do.
 */
static bool
is_left_out(const char *name)
{
	CjStatsView view;

	return !cj_tracking_is_tracked(name) &&
		   (!cj_stats_view_describe(name, &view) || view.relkind == RELKIND_MATVIEW);
}

/* prepare lists what is to be refreshed; the work of an attempt. */
static void
prepare(CjRun *run, void *arg)
{
	State *state = arg;
	CjBoundNames stats = cj_binding_names(CJ_CHALLENGE_MEMBER_STATS);
	bool limited = cj_refresh_after_is_limited(run);
	List *registered;
	List *names;
	ListCell *cell;

	/* before any view is read: what has been committed by then is in all of them */
	state->after_run = cj_refresh_after_last_run();
	cj_view_names_follow();
	cj_view_names_note();
	cj_tracking_sweep();
	registered = cj_stats_view_registered();
	names = list_names(&stats, registered);
	if (names == NIL)
		raise_missing_entity();
	foreach(cell, cj_refresh_attempts_order(names))
	{
		if (limited && is_left_out(lfirst(cell)))
			state->not_refreshed++;
		else
			add_entry(run, state, lfirst(cell), !contains(registered, lfirst(cell)));
	}
	put_results(run, state);
	state->time_limit_ms = time_limit(run->config, list_length(names));
	state->time_zone = MemoryContextStrdup(run->memory, cj_job_config_timestamp_time_zone());
	state->share = DatumGetFloat8(DirectFunctionCall1(
		numeric_float8,
		NumericGetDatum(cj_settings_numeric(run->config->settings, "incremental_share"))));
}

/* ---- refreshing one view ---- */

static void
raise_missing(const Entry *entry)
{
	if (entry->is_entity)
		raise_missing_entity();
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("registered view %s does not exist", entry->name),
			 errhint("Run: SELECT challenge_jobs.remove_stats_view(%s);",
					 quote_literal_cstr(entry->name))));
}

/* check_is_view refuses something else under the name of a registered view. */
static void
check_is_view(const Entry *entry, const CjStatsView *view)
{
	if (view->relkind != RELKIND_MATVIEW && !entry->is_entity)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("registered view %s is no longer a materialized view", entry->name),
				 errhint("Run: SELECT challenge_jobs.remove_stats_view(%s);",
						 quote_literal_cstr(entry->name))));
}

/* What a batch of one view works with. */
typedef struct Task
{
	State *state;
	Entry *entry;
	LOCKMODE lock_mode; /* that the view has to be locked with, as far as is known */
	bool is_to_lock;    /* it could not be in this attempt */
	bool is_once_more;  /* and so there has to be another one */
	bool is_done;
	bool is_capture_missing; /* its changes are not being noted */
	bool tried_to_install;   /* it was tried to have them noted */
} Task;

/* follow_name takes the new name of a view that has been renamed since the run began, or raises an error. */
static void
follow_name(CjRun *run, Entry *entry)
{
	char *name = cj_view_names_find(entry->name);

	if (name == NULL)
		raise_missing(entry);
	cj_view_names_follow();
	entry->name = MemoryContextStrdup(run->memory, name);
}

/*
 * lock_view locks a view and what it reads as strongly as its method needs, and describes it as it is from then on.
 * To choose the method weaker locks may have been taken already, which must not be held while we wait: then the rest
 * is for the next attempt, which begins with what this one has found out.
 */
static CjRefreshPlan
lock_view(CjRun *run, Task *task, CjStatsView *view)
{
	LOCKMODE held = NoLock;
	Oid locked = InvalidOid;

	task->is_to_lock = false;
	for (;;)
	{
		CjRefreshPlan plan;

		if (!cj_stats_view_describe(task->entry->name, view))
		{
			follow_name(run, task->entry);
			continue;
		}
		check_is_view(task->entry, view);
		if (held < task->lock_mode || view->relid != locked)
		{
			held = task->lock_mode;
			locked = view->relid;
			if (held != NoLock)
			{
				cj_relation_locks_take(cj_stats_view_locks(view, held, AccessShareLock));
				continue;
			}
		}
		plan = cj_refresh_method_choose(view, run->force_full, task->state->time_zone);
		CHECK_FOR_INTERRUPTS();
		if (plan.is_gone)
			continue;
		if (plan.method->lock_mode <= held)
			return plan;
		task->lock_mode = plan.method->lock_mode;
		if (!cj_identity_holds_locks())
			continue;
		task->is_to_lock = true;
		return plan;
	}
}

/* install_item has the changes of a view noted, in a subtransaction. */
static void
install_item(CjRun *run, int from, int to, bool *opened, void *arg)
{
	Task *task = arg;
	CjStatsView view;
	CjStatsView locked;
	CjRefreshPlan plan;

	*opened = true;
	if (!cj_stats_view_describe(task->entry->name, &locked))
		return;
	cj_tracking_lock_to_install(&locked);
	if (!cj_stats_view_describe(task->entry->name, &view) || view.relid != locked.relid)
		return;
	plan = cj_refresh_method_choose(&view, false, task->state->time_zone);
	if (plan.capture_missing)
		cj_tracking_install_capture(&view, plan.capture_missing);
}

/* refresh_item brings a view up to date, in a subtransaction. */
static void
refresh_item(CjRun *run, int from, int to, bool *opened, void *arg)
{
	Task *task = arg;
	Entry *entry = task->entry;
	CjStatsView view;

	/* whatever goes wrong here is about this view */
	*opened = true;
	entry->plan = lock_view(run, task, &view);
	task->is_capture_missing = entry->plan.capture_missing != NULL && !task->tried_to_install;
	entry->rows_changed = 0;
	if (task->is_capture_missing || task->is_to_lock)
		return;
	if (entry->plan.method->lock_mode != NoLock)
		entry->rows_changed =
			cj_refresh_method_run(&entry->plan, &view, task->state->share, task->state->time_zone);
	if (run->own_transactions)
		cj_refresh_attempts_end(entry->name);
}

/* item_done notes that a view has been brought up to date. */
static void
item_done(CjRun *run, int from, int to, void *arg)
{
	Task *task = arg;
	int64 rows = Max(task->entry->rows_changed, 0);

	task->is_once_more = task->is_to_lock;
	if (task->is_capture_missing || task->is_to_lock)
		return;
	task->is_done = true;
	if (task->entry->plan.method->lock_mode == NoLock)
		return;
	run->has_done = true;
	run->figures[REFRESHED]++;
	run->figures[ROWS_CHANGED] += rows;
	run->rows_affected += rows;
}

static char *
describe(CjRun *run, int item, void *arg)
{
	return psprintf("view %s", ((Task *) arg)->entry->name);
}

/* ---- the job ---- */

/* put_row returns to the caller what became of a view. */
static void
put_row(CjRun *run, const Entry *entry, const char *method, double seconds)
{
	Interval duration = {.time = (TimeOffset) (seconds * USECS_PER_SEC)};
	Datum values[] = {CStringGetTextDatum(entry->name), CStringGetTextDatum(method),
					  Int64GetDatum(entry->rows_changed), IntervalPGetDatum(&duration)};
	bool nulls[] = {false, false, entry->rows_changed < 0, false};

	cj_run_put_row(run, values, nulls);
}

/* add_result adds the outcome for a view to the result of the run, a list "views" that is complete at any time. */
static void
add_result(CjRun *run, State *state, const Entry *entry, const char *method, double seconds)
{
	StringInfo views = state->results;

	cj_json_begin(views, NULL, '{');
	cj_json_text(views, "view", entry->name);
	cj_json_text(views, "method", method);
	if (entry->rows_changed < 0)
		cj_json_text(views, "rows_changed", NULL);
	else
		cj_json_int64(views, "rows_changed", entry->rows_changed);
	if (entry->plan.keys >= 0)
		cj_json_int64(views, "keys", entry->plan.keys);
	cj_json_raw(views, "seconds", psprintf("%.3f", seconds));
	cj_json_end(views, '}');
	put_results(run, state);
}

/* process_view makes attempts to bring a view up to date, until it is known how it has to be locked. */
static void
process_view(CjRun *run, Task *task, const CjBatch *batch)
{
	do
	{
		task->is_once_more = false;
		cj_batch_process(run, batch);
	} while (task->is_once_more);
}

/*
 * refresh_view brings a view up to date. One whose changes should be noted and are not (after a restore) is first seen
 * to: under CALL run in a transaction of its own, as writers are locked out until it is committed. If that
 * cannot be done now, it is refreshed as if it were not tracked, and tried again the next time.
 */
static void
refresh_view(CjRun *run, Task *task, const CjBatch *batch)
{
	CjBatch installation = {1, install_item, NULL, batch->describe, task, true};

	process_view(run, task, batch);
	if (!task->is_capture_missing)
		return;
	(void) cj_batch_try(run, &installation);
	task->tried_to_install = true;
	process_view(run, task, batch);
}

/* begin_attempt notes which view is about to be refreshed; the work of an attempt. */
static void
begin_attempt(CjRun *run, void *arg)
{
	const Task *task = arg;

	cj_refresh_attempts_begin(task->entry->name, task->state->names);
}

/* end_attempt notes that this came to an end, without success; the work of an attempt. */
static void
end_attempt(CjRun *run, void *arg)
{
	cj_refresh_attempts_end(((Task *) arg)->entry->name);
}

/* process_item refreshes a view and reports what became of it. */
static void
process_item(CjRun *run, State *state, Entry *entry)
{
	Task task = {state, entry};
	/* not each attempt is progress */
	CjBatch batch = {1, refresh_item, item_done, describe, &task, true};
	int64 locked = run->locked;
	const char *method;
	instr_time start;
	instr_time duration;

	/* that one view is locked says nothing of the next */
	run->lock_timeouts = 0;
	INSTR_TIME_SET_CURRENT(start);
	entry->plan.keys = -1;
	/* whatever ends the run now: the next one begins with the others */
	if (run->own_transactions && list_length(state->entries) > 1)
		cj_batch_step(run, begin_attempt, &task);
	run->time_limit_ms = state->time_limit_ms;
	run->time_limit_setting = "view_time_limit";
	refresh_view(run, &task, &batch);
	run->time_limit_ms = 0;
	if (run->own_transactions && !task.is_done && !run->is_over_limit)
		cj_batch_step(run, end_attempt, &task);
	cj_run_advance(run, 1);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);

	if (task.is_done)
		method = entry->plan.method->name;
	else
	{
		method = run->locked > locked ? "locked" : "failed";
		entry->rows_changed = -1;
		entry->plan.keys = -1;
	}
	put_row(run, entry, method, INSTR_TIME_GET_DOUBLE(duration));
	add_result(run, state, entry, method, INSTR_TIME_GET_DOUBLE(duration));
}

static void
run_job(CjRun *run)
{
	State *state = MemoryContextAllocZero(run->memory, sizeof(State));
	MemoryContext caller = MemoryContextSwitchTo(run->memory);
	ListCell *cell;

	state->results = makeStringInfo();
	MemoryContextSwitchTo(caller);
	cj_batch_step(run, prepare, state);
	cj_run_begin_phase(run, "refreshing", list_length(state->entries));
	foreach(cell, state->entries)
		process_item(run, state, lfirst(cell));
}

/* ---- for the doctor ---- */

/*
 * unique_columns returns the columns for a unique index on a view: for what challenge_member_stats stands
 * for those of challenge and user, where they are known and there.
 */
static const char *
unique_columns(const CjStatsView *view, const CjBoundNames *stats)
{
	const char *challenge = stats->columns[CJ_STATS_CHALLENGE_ID];
	const char *user = stats->columns[CJ_STATS_USER_ID];

	if (strcmp(view->name, stats->relation) != 0 || challenge == NULL || user == NULL ||
		get_attnum(view->relid, challenge) <= 0 || get_attnum(view->relid, user) <= 0)
		return "<columns>";
	return psprintf("%s, %s", quote_identifier(challenge), quote_identifier(user));
}

/* examine_tracking says whether a view that was to be tracked is; true if there is nothing more to say. */
static bool
examine_tracking(const CjStatsView *view, const CjRefreshPlan *plan, const char *check,
				 CjFindings *findings)
{
	if (plan->refused)
		cj_findings_add_hint(findings, check, "warning",
							 psprintf("%s can no longer be tracked and is refreshed as a whole: %s",
									  view->name, plan->refused->refusal),
							 plan->refused->hint
								 ? plan->refused->hint
								 : psprintf("Run: SELECT challenge_jobs.untrack(%s);",
											quote_literal_cstr(view->name)));
	else if (plan->capture_missing)
		cj_findings_add(
			findings, check, "warning",
			psprintf(
				"changes of the tables of %s are not being captured; the next run installs the capture",
				view->name),
			"CALL challenge_jobs.run('refresh_challenge_stats');");
	return plan->refused || plan->capture_missing;
}

/* examine_view says how a view will be refreshed, and what is in the way. */
static void
examine_view(const CjStatsView *view, const CjBoundNames *stats, const char *time_zone,
			 CjFindings *findings)
{
	CjRefreshPlan plan = cj_refresh_method_choose(view, false, time_zone);
	const char *check = psprintf("refresh:%s", view->name);
	const char *grant = cj_refresh_method_missing_grant(plan.method, view);

	if (grant)
		cj_findings_add(findings, check, "error",
						psprintf("the owner of %s lacks a privilege that the refresh needs",
								 view->name),
						grant);
	if (view->relkind != RELKIND_MATVIEW)
	{
		cj_findings_add(findings, check, "ok",
						psprintf("%s is not a materialized view, so there is nothing to refresh",
								 view->name),
						NULL);
		return;
	}
	cj_findings_add_found(findings, &find_unreadable,
						  CJ_PARAMS(CJ_OID(view->relid), CJ_TEXT(view->name)));
	if (!view->is_populated)
		cj_findings_add_as(
			findings, check, "warning",
			psprintf("%s has not been populated and cannot be read until it is refreshed",
					 view->name),
			psprintf("REFRESH MATERIALIZED VIEW %s;", view->name),
			GetUserNameFromId(view->owner, false));
	else if (!view->has_unique_index)
		cj_findings_add_as(
			findings, check, "warning",
			psprintf(
				"method \"%s\": readers wait while %s is refreshed, since it has no unique index on plain columns without WHERE",
				plan.method->name, view->name),
			psprintf("CREATE UNIQUE INDEX ON %s (%s);", view->name, unique_columns(view, stats)),
			GetUserNameFromId(view->owner, false));
	else if (!examine_tracking(view, &plan, check, findings))
		cj_findings_add(findings, check, "ok", psprintf("method \"%s\"", plan.method->name), NULL);
}

static void
examine_name(const char *name, bool is_entity, const CjBoundNames *stats, const char *time_zone,
			 CjFindings *findings)
{
	const char *check = psprintf("refresh:%s", name);
	const char *remove =
		psprintf("SELECT challenge_jobs.remove_stats_view(%s);", quote_literal_cstr(name));
	TimestampTz since;
	CjStatsView view;

	if (!cj_stats_view_describe(name, &view))
		/* of the entity the checks of the bindings tell */
		cj_findings_add(findings, check, "error", psprintf("%s does not exist", name),
						is_entity ? NULL : remove);
	else if (view.relkind != RELKIND_MATVIEW && !is_entity)
		cj_findings_add(findings, check, "error",
						psprintf("%s is no longer a materialized view", name), remove);
	else
	{
		examine_view(&view, stats, time_zone, findings);
		if (cj_refresh_attempts_since(name, &since))
			cj_findings_add(
				findings, check, "warning",
				psprintf("the refresh of %s that began at %s did not finish, so it goes last", name,
						 timestamptz_to_str(since)),
				"SELECT * FROM challenge_jobs.job_run WHERE job = 'refresh_challenge_stats' ORDER BY run_id DESC LIMIT 5;");
	}
}

/* examine_missing looks for materialized views that are read by those of the list and never refreshed. */
static void
examine_missing(List *names, CjFindings *findings)
{
	List *pairs = cj_stats_view_missing(names);

	for (int i = 0; i < list_length(pairs); i += 2)
	{
		const char *reader = list_nth(pairs, i);
		const char *read = list_nth(pairs, i + 1);

		cj_findings_add(findings, psprintf("refresh:%s", reader), "warning",
						psprintf("it reads materialized view %s, which the job does not refresh",
								 read),
						psprintf("SELECT challenge_jobs.add_stats_view(%s);",
								 quote_literal_cstr(read)));
	}
}

/* examine says of each view how it will be refreshed. */
static void
examine(const CjJobConfig *config, CjBinding *binding, CjFindings *findings)
{
	CjBoundNames stats = cj_binding_names(CJ_CHALLENGE_MEMBER_STATS);
	List *registered = cj_stats_view_registered();
	List *names = list_names(&stats, registered);
	char *time_zone = cj_job_config_timestamp_time_zone();
	ListCell *cell;

	if (names == NIL)
		cj_findings_add_hint(
			findings, "refresh", "error",
			psprintf("nothing to refresh: %s does not exist, and no view is registered",
					 stats.relation),
			"Fill in and run: SELECT challenge_jobs.add_stats_view('<schema>.<view>');");
	foreach(cell, names)
		examine_name(lfirst(cell), !contains(registered, lfirst(cell)), &stats, time_zone,
					 findings);
	examine_missing(names, findings);
	cj_refresh_after_examine(config, findings);
}

const CjJob cj_job_refresh_challenge_stats = {
	.definition = {.name = "refresh_challenge_stats",
				   .description = "brings the statistics views up to date",
				   .number = 2,
				   .schedule = "0 * * * *",
				   .max_runtime = "30 minutes",
				   .retry_delay = "1 minute",
				   .grace = "15 minutes",
				   .max_retries = 3,
				   .catch_up = "once",
				   .settings = settings},
	.figures = figures,
	.items = "views",
	.run = run_job,
	.examine = examine,
};
