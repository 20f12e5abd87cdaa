/*
 * monitor/report.c
 *		A page that shows how the jobs are doing: HTML that is well-formed XML as well.
 *
 * What is shown is read by report_facts, drawings come from report_chart; every text from the database is appended
 * by html, which makes it harmless. The page loads nothing and runs nothing, and says so to the browser.
 *
 * To call the function takes the right to do so and no other: whoever has it is shown what the extension's
 * owner can read in the extension's tables.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "alerts/command.h"
#include "base/sql.h"
#include "jobs/job_list.h"
#include "monitor/doctor.h"
#include "monitor/format.h"
#include "monitor/html.h"
#include "monitor/report.h"
#include "monitor/report_chart.h"
#include "monitor/report_data.h"
#include "monitor/report_style.h"

#define MAX_FINDINGS  50
#define OPEN_FAILURES 5 /* that are to be seen at once */
#define MAX_YEARS     100
#define EXAMPLE       "Run: SELECT challenge_jobs.report_html('7 days');"

/* $1 the caller */
static const CjStatement may_call_doctor = {
	"find whether the caller may call the doctor",
	"SELECT pg_catalog.has_function_privilege($1, 'challenge_jobs.doctor()', 'EXECUTE')",
	SPI_OK_SELECT};

/* ---- parts of texts ---- */

static char *
moment_of(TimestampTz moment, CjMomentFormat as)
{
	if (TIMESTAMP_NOT_FINITE(moment))
		return pstrdup("never");
	return psprintf("<time datetime=\"%s\">%s</time>", cj_format_moment(moment, CJ_FORMAT_MACHINE),
					cj_format_moment(moment, as));
}

/* until returns how long it is until a moment, in minutes or more. */
static char *
until(const CjReportData *data, TimestampTz moment)
{
	int64 minutes = (moment - data->now) / USECS_PER_MINUTE;

	if (minutes < 1)
		return pstrdup("in a moment");
	return psprintf("in %s", cj_format_duration(minutes * USECS_PER_MINUTE));
}

static void
begin_section(StringInfo html, const char *id, const char *heading)
{
	appendStringInfo(html, "<section aria-labelledby=\"%s\">\n<h2 id=\"%s\">%s</h2>\n", id, id,
					 heading);
}

/* ---- the head, and the figures at the top ---- */

static void
put_head(StringInfo html, const CjReportData *data)
{
	appendStringInfo(
		html,
		"<!DOCTYPE html>\n"
		"<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\" xml:lang=\"en\">\n"
		"<head>\n"
		"<meta charset=\"utf-8\"/>\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
		"'unsafe-inline'; base-uri 'none'; form-action 'none'\"/>\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
		"<meta name=\"color-scheme\" content=\"light dark\"/>\n"
		"<meta name=\"referrer\" content=\"no-referrer\"/>\n"
		"<meta name=\"robots\" content=\"noindex\"/>\n"
		"<title>challenge_jobs in %s, %s UTC</title>\n<style>\n%s</style>\n</head>\n",
		cj_html_text(data->database), cj_format_moment(data->now, CJ_FORMAT_MINUTE),
		cj_report_style_sheet());
}

static int
count_state(const CjReportData *data, const char *state)
{
	int count = 0;

	for (int i = 0; i < data->job_count; i++)
		count += strcmp(data->jobs[i].state, state) == 0;
	return count;
}

static void
put_headline(StringInfo html, const CjReportData *data)
{
	int failing = count_state(data, "failing");
	int bad = failing + count_state(data, "overdue");
	int never_run = count_state(data, "never_run");
	int disabled = count_state(data, "disabled");
	int restored = count_state(data, "restored");
	int paused = count_state(data, "paused");
	const char *sign = NULL;
	const char *text;

	if (restored > 0)
	{
		sign = "error";
		text = "This database is a copy: nothing runs until it is resumed";
	}
	else if (paused > 0)
	{
		sign = "paused";
		text = "All jobs are paused";
	}
	else if (bad > 0)
	{
		sign = failing > 0 ? "failing" : "overdue";
		text =
			psprintf("%d of %d jobs need%s attention", bad, data->job_count, bad == 1 ? "s" : "");
	}
	else if (never_run == data->job_count)
		text = "No job has run yet";
	else if (never_run + disabled == data->job_count)
		text = never_run == 0 ? "All jobs are disabled" : "No job that is enabled has run yet";
	else
	{
		sign = "ok";
		text = "All jobs are well";
	}
	appendStringInfo(html, "<h1>%s%s</h1>\n", sign ? cj_report_chart_sign(sign) : "", text);
}

static void
put_figure(StringInfo html, const char *figure, const char *label)
{
	appendStringInfo(html, "<li><span class=\"figure\">%s</span><span>%s</span></li>\n", figure,
					 label);
}

/* share returns how many of the runs that ended by themselves succeeded; 100 % are all of them. */
static char *
share(int64 succeeded, int64 failed)
{
	int64 tenths;

	if (succeeded + failed == 0)
		return pstrdup("&#x2013;");
	tenths = 1000 * succeeded / (succeeded + failed);
	if (tenths % 10 == 0)
		return psprintf(INT64_FORMAT " %%", tenths / 10);
	return psprintf(INT64_FORMAT "." INT64_FORMAT " %%", tenths / 10, tenths % 10);
}

static char *
count_alerts(const CjReportData *data)
{
	if (data->waiting_alerts > CJ_REPORT_MAX_COUNTED)
		return psprintf("over %s", cj_format_count(CJ_REPORT_MAX_COUNTED));
	return cj_format_count(data->waiting_alerts);
}

static void
put_figures(StringInfo html, const CjReportData *data)
{
	int64 runs = 0;
	int64 succeeded = 0;
	int64 failed = 0;

	for (int i = 0; i < data->job_count; i++)
	{
		runs += cj_report_data_runs(&data->jobs[i]);
		succeeded += data->jobs[i].totals[CJ_REPORT_SUCCEEDED];
		failed += cj_report_data_failures(&data->jobs[i]);
	}
	appendStringInfoString(html, "<ul class=\"figures\">\n");
	put_figure(html, cj_format_count(runs), runs == 1 ? "run" : "runs");
	put_figure(html, share(succeeded, failed), "succeeded");
	put_figure(html, cj_format_count(failed), "went wrong");
	put_figure(html, count_alerts(data), data->waiting_alerts == 1 ? "alert waits" : "alerts wait");
	appendStringInfoString(html, "</ul>\n");
}

static void
put_header(StringInfo html, const CjReportData *data)
{
	appendStringInfo(html,
					 "<header>\n<p class=\"kicker\">challenge_jobs in database <bdi>%s</bdi></p>\n",
					 cj_html_text(data->database));
	put_headline(html, data);
	appendStringInfo(
		html,
		"<p class=\"period\">%s to %s, <span class=\"unit\">%s.</span> All times are UTC.</p>\n",
		moment_of(data->since, CJ_FORMAT_MINUTE), moment_of(data->now, CJ_FORMAT_MINUTE),
		cj_format_duration(data->now - data->since));
	put_figures(html, data);
	appendStringInfoString(html, "</header>\n");
}

/* ---- the jobs ---- */

static const char *
next_due(const CjReportData *data, const CjReportJob *job)
{
	if (job->next_count == 0)
		return "not foreseen";
	return psprintf("%s <span class=\"soft unit\">%s</span>",
					moment_of(job->next[0], CJ_FORMAT_MINUTE), until(data, job->next[0]));
}

static void
put_job_facts(StringInfo html, const CjReportData *data, const CjReportJob *job)
{
	const char *last_status =
		job->last_status ? cj_html_text(cj_report_chart_label(job->last_status)) : NULL;

	appendStringInfo(html,
					 "<dl>\n"
					 "<dt>Schedule</dt><dd><code>%s</code> <span class=\"soft\">%s</span></dd>\n"
					 "<dt>Last run</dt><dd>%s%s</dd>\n"
					 "<dt>Last success</dt><dd>%s</dd>\n"
					 "<dt>Next due</dt><dd>%s</dd>\n",
					 cj_html_text(job->schedule),
					 cj_html_text(job->engine ? psprintf("by %s", job->engine) : "not scheduled"),
					 moment_of(job->last_run, CJ_FORMAT_MINUTE),
					 last_status ? psprintf("<span class=\"soft\"> %s</span>", last_status) : "",
					 moment_of(job->last_success, CJ_FORMAT_MINUTE), next_due(data, job));
	if (job->has_durations)
		appendStringInfo(
			html,
			"<dt>Takes</dt><dd><span class=\"unit\">%s</span> <span class=\"soft\">on average, 95 of 100 "
			"up to <span class=\"unit\">%s</span></span></dd>\n",
			cj_format_duration(job->mean_duration), cj_format_duration(job->p95_duration));
	if (job->consecutive_failures > 0)
		appendStringInfo(html, "<dt>Failed</dt><dd>%s in a row</dd>\n",
						 cj_format_count(job->consecutive_failures));
	appendStringInfoString(html, "</dl>\n");
}

static void
put_jobs(StringInfo html, const CjReportData *data)
{
	begin_section(html, "jobs", "Jobs");
	appendStringInfoString(html, "<div class=\"jobs\">\n");
	for (int i = 0; i < data->job_count; i++)
	{
		const CjReportJob *job = &data->jobs[i];

		appendStringInfo(
			html,
			"<article class=\"card job\" aria-labelledby=\"job-%d\">\n<div class=\"top\">"
			"<h3 class=\"name\" id=\"job-%d\">%s</h3>%s</div>\n<p>%s</p>",
			i, i, cj_html_text(job->name), cj_report_chart_badge(job->state),
			cj_html_text(cj_job_list_find(job->name)->definition.description));
		put_job_facts(html, data, job);
		appendStringInfoString(html, "</article>\n");
	}
	appendStringInfoString(html, "</div>\n</section>\n");
}

/* ---- their runs ---- */

static void
put_legend(StringInfo html, const CjReportData *data)
{
	appendStringInfoString(html, "<ul class=\"legend\">\n");
	for (int status = 0; status < CJ_REPORT_STATUSES; status++)
	{
		const char *name = cj_report_data_status_name((CjReportStatus) status);

		appendStringInfo(html, "<li>%s%s</li>\n", cj_report_chart_sign(name),
						 cj_report_chart_label(name));
	}
	appendStringInfo(html, "<li>a mark stands for the runs of %s</li>\n</ul>\n",
					 cj_format_duration((data->now - data->since) / CJ_REPORT_SLICES));
}

/*
 * begin_table begins a table with a caption and the head of its first column. Roles are given since on small
 * screens a row is laid out as a card, and would be no row any more for those who cannot see it.
 */
static void
begin_table(StringInfo html, const char *class_name, const char *caption)
{
	appendStringInfo(
		html,
		"<div class=\"card sheet\">\n<table class=\"%s\" role=\"table\">\n<caption>%s</caption>\n"
		"<thead role=\"rowgroup\"><tr role=\"row\"><th scope=\"col\" role=\"columnheader\">job</th>",
		class_name, caption);
}

static void
put_column(StringInfo html, const char *name)
{
	appendStringInfo(html, "<th scope=\"col\" role=\"columnheader\">%s</th>", name);
}

static void
begin_row(StringInfo html, const CjReportJob *job)
{
	appendStringInfo(html,
					 "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\" class=\"name\">%s</th>",
					 cj_html_text(job->name));
}

/* put_number appends a cell with a number, and the sign of what it counts if there are any. */
static void
put_number(StringInfo html, int64 number, const char *status)
{
	appendStringInfo(html, "<td role=\"cell\" class=\"%s\" data-label=\"%s\">%s%s</td>",
					 status && number == 0 ? "zero" : "some",
					 status ? cj_report_chart_label(status) : "in all",
					 status && number > 0 ? cj_report_chart_sign(status) : "",
					 cj_format_count(number));
}

static void
put_counts(StringInfo html, const CjReportData *data)
{
	begin_table(html, "numbers", "Number of runs of each job by status");
	for (int status = 0; status < CJ_REPORT_STATUSES; status++)
		put_column(html,
				   cj_report_chart_label(cj_report_data_status_name((CjReportStatus) status)));
	put_column(html, "in all");
	appendStringInfoString(html, "</tr></thead>\n<tbody role=\"rowgroup\">\n");
	for (int i = 0; i < data->job_count; i++)
	{
		const CjReportJob *job = &data->jobs[i];

		begin_row(html, job);
		for (int status = 0; status < CJ_REPORT_STATUSES; status++)
			put_number(html, job->totals[status],
					   cj_report_data_status_name((CjReportStatus) status));
		put_number(html, cj_report_data_runs(job), NULL);
		appendStringInfoString(html, "</tr>\n");
	}
	appendStringInfoString(html, "</tbody>\n</table>\n</div>\n");
}

static void
put_what_is_left_out(StringInfo html, const CjReportData *data)
{
	for (int i = 0; i < data->job_count; i++)
	{
		const CjReportJob *job = &data->jobs[i];

		if (job->looked_at >= CJ_REPORT_MAX_RUNS)
			appendStringInfo(
				html, "<p>Of %s the newest %s are looked at and no more: those since %s.</p>\n",
				cj_html_text(job->name), cj_format_number_of(CJ_REPORT_MAX_RUNS, "run", "runs"),
				moment_of(job->oldest, CJ_FORMAT_MINUTE));
	}
}

static void
put_runs(StringInfo html, const CjReportData *data)
{
	begin_section(html, "runs", "Runs");
	appendStringInfoString(
		html, "<p>What went wrong stands above a lane, what did nothing or has not ended "
			  "below it. Dry runs are left out.</p>\n");
	put_what_is_left_out(html, data);
	appendStringInfoString(html, "<div class=\"card\">\n");
	cj_report_chart_timeline(html, data);
	put_legend(html, data);
	appendStringInfoString(html, "</div>\n");
	put_counts(html, data);
	appendStringInfoString(html, "</section>\n");
}

static void
put_durations(StringInfo html, const CjReportData *data)
{
	begin_section(html, "durations", "How long they take");
	appendStringInfo(
		html,
		"<p>Runs that succeeded: a dot is the average of those of %s, a line reaches from the shortest "
		"run to the longest.</p>\n<div class=\"charts\">\n",
		cj_format_duration((data->now - data->since) / CJ_REPORT_SLICES));
	for (int i = 0; i < data->job_count; i++)
	{
		const CjReportJob *job = &data->jobs[i];

		appendStringInfo(html,
						 "<figure class=\"card\">\n<figcaption><span class=\"name\">%s</span>"
						 "<span>%s</span></figcaption>\n",
						 cj_html_text(job->name),
						 cj_format_number_of(job->totals[CJ_REPORT_SUCCEEDED], "run", "runs"));
		cj_report_chart_durations(html, data, i);
		appendStringInfoString(html, "</figure>\n");
	}
	appendStringInfoString(html, "</div>\n</section>\n");
}

/* ---- what went wrong ---- */

/* put_long_text appends a text, cut if it is long, between a beginning and an end; nothing if there is none. */
static void
put_long_text(StringInfo html, const char *begin, const char *text, const char *end)
{
	if (text && text[0] != '\0')
		appendStringInfo(html, "%s%s%s", begin, cj_html_text_cut(text, CJ_REPORT_MAX_TEXT), end);
}

static void
put_failure(StringInfo html, const CjReportFailure *failure)
{
	appendStringInfo(html,
					 "<li>\n<div class=\"where\">%s<span class=\"name\">%s</span>%s"
					 "<span class=\"soft\">run " INT64_FORMAT,
					 cj_report_chart_badge(cj_report_data_status_name(failure->status)),
					 cj_html_text(failure->job), moment_of(failure->started_at, CJ_FORMAT_SECOND),
					 failure->run_id);
	if (failure->attempt > 1)
		appendStringInfo(html, ", attempt " INT64_FORMAT, failure->attempt);
	if (failure->has_duration)
		appendStringInfo(html, ", after %s", cj_format_duration(failure->duration));
	put_long_text(html, ", by <bdi>", failure->triggered_by, "</bdi>");
	put_long_text(html, " as <bdi>", failure->role_name, "</bdi>");
	put_long_text(html, ", SQLSTATE <bdi>", failure->sqlstate, "</bdi>");
	appendStringInfoString(html, "</span></div>\n");
	put_long_text(html, "<p class=\"message\">", failure->message, "</p>\n");
	put_long_text(html, "<p class=\"more\">", failure->detail, "</p>\n");
	put_long_text(html, "<p class=\"more\"><b>Hint:</b> ", failure->hint, "</p>\n");
	put_long_text(html, "<details><summary>Context</summary><pre>", failure->context,
				  "</pre></details>\n");
	appendStringInfoString(html, "</li>\n");
}

static void
put_rest(StringInfo html, int64 more, const char *where)
{
	if (more > 0)
		appendStringInfo(html, "<li class=\"rest\">%s more, in %s</li>\n", cj_format_count(more),
						 where);
}

/* put_failure_list appends them all; the first few are to be seen at once, the others when asked for. */
static void
put_failure_list(StringInfo html, const CjReportData *data)
{
	int shown = list_length(data->failures);
	int64 all = 0;
	ListCell *cell;

	for (int i = 0; i < data->job_count; i++)
		all += cj_report_data_failures(&data->jobs[i]);
	appendStringInfoString(html, "<div class=\"card list\">\n<ul>\n");
	foreach(cell, data->failures)
	{
		if (foreach_current_index(cell) == OPEN_FAILURES)
			appendStringInfo(
				html, "</ul>\n<details class=\"further\"><summary>%d before that</summary>\n<ul>\n",
				shown - OPEN_FAILURES);
		put_failure(html, lfirst(cell));
	}
	put_rest(html, all - shown, "<code>challenge_jobs.job_run</code>");
	appendStringInfo(html, "</ul>\n%s</div>\n", shown > OPEN_FAILURES ? "</details>\n" : "");
}

static void
put_failures(StringInfo html, const CjReportData *data)
{
	begin_section(html, "failures", "What went wrong");
	if (data->failures == NIL)
		appendStringInfoString(html, "<p>Nothing in this period.</p>\n");
	else
	{
		appendStringInfoString(
			html, "<p>Runs that failed, crashed or were cancelled, the last one first.</p>\n");
		put_failure_list(html, data);
	}
	appendStringInfoString(html, "</section>\n");
}

static void
put_alert(StringInfo html, const CjReportAlert *alert)
{
	appendStringInfo(html,
					 "<li>\n<div class=\"where\">%s<span class=\"name\">%s</span>%s"
					 "<span class=\"soft\">alert " INT64_FORMAT ", %s</span></div>\n",
					 cj_report_chart_badge(alert->kind), cj_html_text(alert->job),
					 moment_of(alert->raised_at, CJ_FORMAT_SECOND), alert->alert_id,
					 alert->attempts == 0
						 ? "not tried yet"
						 : psprintf("tried %s",
									cj_format_number_of(alert->attempts, "time", "times")));
	put_long_text(html, "<p class=\"message\">", alert->message, "</p>\n");
	put_long_text(html, "<p class=\"more\"><b>Last attempt:</b> ", alert->last_error, "</p>\n");
	appendStringInfoString(html, "</li>\n");
}

static void
put_alerts(StringInfo html, const CjReportData *data)
{
	ListCell *cell;

	begin_section(html, "alerts", "Alerts that wait");
	if (data->alerts == NIL)
		appendStringInfoString(html, "<p>None.</p>\n");
	else
	{
		appendStringInfo(
			html,
			"<p>Not taken by <code>challenge_jobs.alert_command</code>%s, the last one "
			"first.</p>\n<div class=\"card list\">\n<ul>\n",
			cj_alert_command_is_set() ? " yet" : ", which is not set");
		foreach(cell, data->alerts)
			put_alert(html, lfirst(cell));
		put_rest(html, data->waiting_alerts - list_length(data->alerts),
				 "<code>challenge_jobs.alert</code>");
		appendStringInfoString(html, "</ul>\n</div>\n");
	}
	appendStringInfoString(html, "</section>\n");
}

/* ---- what is to come ---- */

static const char *
why_none_next(const CjReportJob *job)
{
	if (strcmp(job->state, "disabled") == 0 || strcmp(job->state, "paused") == 0)
		return job->state;
	if (strcmp(job->state, "restored") == 0)
		return "held back, as this database is a copy";
	if (job->engine == NULL)
		return "not scheduled";
	return "its schedule has none";
}

static void
put_next_cells(StringInfo html, const CjReportData *data, const CjReportJob *job)
{
	for (int i = 0; i < job->next_count; i++)
		appendStringInfo(html, "<td role=\"cell\">%s<small>%s</small></td>",
						 moment_of(job->next[i], CJ_FORMAT_MINUTE), until(data, job->next[i]));
	if (job->next_count < CJ_REPORT_MAX_NEXT)
		appendStringInfo(html, "<td role=\"cell\" colspan=\"%d\" class=\"soft\">%s</td>",
						 CJ_REPORT_MAX_NEXT - job->next_count,
						 job->next_count == 0 ? why_none_next(job) : "none");
}

static void
put_next_runs(StringInfo html, const CjReportData *data)
{
	begin_section(html, "next", "What comes next");
	begin_table(html, "upcoming", "The next runs of each job");
	put_column(html, "next");
	put_column(html, "after it");
	put_column(html, "then");
	appendStringInfoString(html, "</tr></thead>\n<tbody role=\"rowgroup\">\n");
	for (int i = 0; i < data->job_count; i++)
	{
		begin_row(html, &data->jobs[i]);
		put_next_cells(html, data, &data->jobs[i]);
		appendStringInfoString(html, "</tr>\n");
	}
	appendStringInfoString(html, "</tbody>\n</table>\n</div>\n</section>\n");
}

/* ---- the doctor ---- */

static bool
caller_may_call_doctor(void)
{
	CjRows rows = cj_sql_run_own(&may_call_doctor, CJ_PARAMS(CJ_OID(GetUserId())));
	bool may = cj_sql_bool(&rows, 0, 1);

	cj_sql_free(&rows);
	return may;
}

static const char *
get_column(TupleTableSlot *slot, int column)
{
	bool isnull;
	Datum value = slot_getattr(slot, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
put_finding(StringInfo html, TupleTableSlot *slot)
{
	appendStringInfo(html, "<li>\n<div class=\"where\">%s<span class=\"name\">%s</span></div>\n",
					 cj_report_chart_badge(get_column(slot, 2)), cj_html_text(get_column(slot, 1)));
	put_long_text(html, "<p class=\"message\">", get_column(slot, 3), "</p>\n");
	put_long_text(html, "<pre>", get_column(slot, 4), "</pre>\n");
	put_long_text(html, "<p class=\"more\">", get_column(slot, 5), "</p>\n");
	appendStringInfoString(html, "</li>\n");
}

/* put_findings appends what is not as it should be, of all that the doctor has found; returns how many. */
static int
put_findings(StringInfo html, Tuplestorestate *store, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int found = 0;

	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (strcmp(get_column(slot, 2), "ok") != 0 && found++ < MAX_FINDINGS)
			put_finding(html, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

static void
examine(StringInfo html)
{
	static const char *const columns[] = {"check_name", "status", "finding",
										  "remedy",     "advice", "run_as"};
	TupleDesc desc = CreateTemplateTupleDesc(lengthof(columns));
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	StringInfoData items;
	int found;

	for (int i = 0; i < lengthof(columns); i++)
		TupleDescInitEntry(desc, i + 1, columns[i], TEXTOID, -1, 0);
	cj_doctor_examine(store, desc);
	initStringInfo(&items);
	found = put_findings(&items, store, desc);
	tuplestore_end(store);
	if (found == 0)
		appendStringInfoString(html, "<p>Nothing: all checks are content.</p>\n");
	else
	{
		appendStringInfo(html,
						 "<p>What is not as it should be, and what to type to mend it.</p>\n"
						 "<div class=\"card list\">\n<ul>\n%s",
						 items.data);
		put_rest(html, found - MAX_FINDINGS, "<code>challenge_jobs.doctor()</code>");
		appendStringInfoString(html, "</ul>\n</div>\n");
	}
	pfree(items.data);
}

static void
put_doctor(StringInfo html)
{
	begin_section(html, "doctor", "What the doctor says");
	if (caller_may_call_doctor())
		examine(html);
	else
		appendStringInfoString(html, "<p>Whoever made this report may not ask: that takes "
									 "EXECUTE on <code>challenge_jobs.doctor()</code>.</p>\n");
	appendStringInfoString(html, "</section>\n");
}

static void
put_footer(StringInfo html, const CjReportData *data)
{
	appendStringInfo(html,
					 "<footer>\n<p>Made by challenge_jobs %s with PostgreSQL %s at %s UTC, by "
					 "<code>SELECT challenge_jobs.report_html();</code></p>\n</footer>\n",
					 CJ_VERSION, cj_html_text(GetConfigOption("server_version", false, false)),
					 moment_of(data->now, CJ_FORMAT_SECOND));
}

/* ---- the page ---- */

/* is_within returns whether a part of an interval is at most so large, in either direction. */
static bool
is_within(int64 part, int64 limit)
{
	return part >= -limit && part <= limit;
}

static TimestampTz
find_since(const Interval *since, TimestampTz now)
{
	TimestampTz begin = now;

	/* a timestamp without a zone is the same number, and knows no zone whose days could be longer */
	if (is_within(since->month, MAX_YEARS * MONTHS_PER_YEAR) &&
		is_within(since->day, MAX_YEARS * 366) &&
		is_within(since->time, MAX_YEARS * 366 * USECS_PER_DAY))
		begin = DatumGetTimestamp(
			DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(now),
								IntervalPGetDatum(unconstify(Interval *, since))));
	if (now - begin < USECS_PER_MINUTE || now - begin > MAX_YEARS * 366 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("since must be from 1 minute to %d years", MAX_YEARS),
				 errhint(EXAMPLE)));
	return begin;
}

static const char *const *
job_names(void)
{
	const CjJob *const *jobs = cj_job_list_jobs();
	const char **names;
	int count = 0;

	while (jobs[count])
		count++;
	names = palloc0(sizeof(char *) * (count + 1));
	for (int i = 0; i < count; i++)
		names[i] = jobs[i]->definition.name;
	return names;
}

char *
cj_report_html(const Interval *since)
{
	TimestampTz now = GetCurrentTimestamp();
	CjReportData *data = cj_report_data_read(job_names(), find_since(since, now), now);
	StringInfoData html;

	initStringInfo(&html);
	put_head(&html, data);
	appendStringInfoString(&html, "<body>\n");
	cj_report_chart_shapes(&html);
	put_header(&html, data);
	appendStringInfoString(&html, "<main>\n");
	put_jobs(&html, data);
	put_runs(&html, data);
	put_durations(&html, data);
	put_failures(&html, data);
	put_alerts(&html, data);
	put_next_runs(&html, data);
	put_doctor(&html);
	appendStringInfoString(&html, "</main>\n");
	put_footer(&html, data);
	appendStringInfoString(&html, "</body>\n</html>\n");
	return html.data;
}
