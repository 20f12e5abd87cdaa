/*
 * monitor/report_chart.c
 *		The drawings of the report, as SVG.
 *
 * Horizontal places are percentages and everything else is in pixels, but for the lines of the durations, which
 * can be stretched. A mark stands for the runs of a slice of the period, so that their number is bounded; what
 * exactly they are is the mark's title.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "monitor/format.h"
#include "monitor/html.h"
#include "monitor/report_chart.h"

/* A lane of the timeline, from its top. */
#define LANE_HEIGHT     92
#define LANE_TEXT       14
#define LANE_ABOVE      31 /* what went wrong */
#define LANE_BAR        41 /* what succeeded */
#define LANE_BAR_HEIGHT 16
#define LANE_BELOW      67 /* what did nothing, or has not ended */

/* The drawing of durations. */
#define PLOT_TOP    18
#define PLOT_HEIGHT 96

#define AXIS_HEIGHT 22
#define MAX_TICKS   7

/* How a status or state is drawn: around the point 0, 0, within 5 pixels. */
typedef struct Shape
{
	const char *name;
	const char *label; /* NULL: the name */
	const char *path;
	bool filled; /* else a line */
} Shape;

static const Shape shapes[] = {
	{"succeeded", NULL, "M-2-5H2Q3-5 3-4V4Q3 5 2 5H-2Q-3 5-3 4V-4Q-3-5-2-5Z", true},
	{"failed", NULL, "M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6", false},
	{"crashed", NULL, "M0-5 5 4H-5Z", true},
	{"cancelled", NULL, "M-3.8-3.8H3.8V3.8H-3.8Z", true},
	{"running", NULL, "M-3.4-4.8 5 0-3.4 4.8Z", true},
	{"rolled_back", "rolled back", "M3.2-4.2-4 0 3.2 4.2Z", false},
	{"skipped", NULL, "M0-3.6A3.6 3.6 0 1 1 0 3.6 3.6 3.6 0 1 1 0-3.6Z", false},
	{"ok", NULL, "M-4.4.2-1.4 3.4 4.4-3.2", false},
	{"failing", NULL, "M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6", false},
	{"overdue", NULL, "M0-4.6A4.6 4.6 0 1 1 0 4.6 4.6 4.6 0 1 1 0-4.6ZM0-2.4V0L1.8 1.4", false},
	{"never_run", "never run", "M0-3.6A3.6 3.6 0 1 1 0 3.6 3.6 3.6 0 1 1 0-3.6Z", false},
	{"disabled", NULL, "M-2-3.8V3.8M2-3.8V3.8", false},
	{"paused", NULL, "M-2-3.8V3.8M2-3.8V3.8", false},
	{"restored", "copy, held back", "M-2-3.8V3.8M2-3.8V3.8", false},
	{"recovered", NULL, "M-4.4.2-1.4 3.4 4.4-3.2", false},
	{"warning", NULL, "M0-5 5 0 0 5-5 0Z", true},
	{"error", NULL, "M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6", false},
};

/* Statuses that share a row of a lane. */
typedef struct Row
{
	CjReportStatus first;
	CjReportStatus last;
	int y;
} Row;

static const Row above = {CJ_REPORT_CRASHED, CJ_REPORT_CANCELLED, LANE_ABOVE};
static const Row bar = {CJ_REPORT_SUCCEEDED, CJ_REPORT_SUCCEEDED, LANE_BAR};
static const Row below = {CJ_REPORT_RUNNING, CJ_REPORT_SKIPPED, LANE_BELOW};

/* Some of the steps that an axis can have: multiples of a unit. */
typedef struct Scale
{
	int64 unit;        /* 0: the end */
	int multiples[13]; /* ascending, up to a 0 */
} Scale;

/* Times between the ticks of an axis, in seconds; the last one is enough for the longest period. */
static const Scale tick_steps[] = {
	{SECS_PER_MINUTE, {1, 5, 15, 30}},
	{SECS_PER_HOUR, {1, 3, 6, 12}},
	{SECS_PER_DAY, {1, 2, 7, 14, 30, 91, 365, 1461, 5844}},
	{0},
};

/* Durations at the top of an axis, in microseconds. */
static const Scale duration_steps[] = {
	{1000, {1, 2, 4, 6, 10, 20, 40, 60, 100, 200, 400, 600}},
	{USECS_PER_SEC, {1, 2, 4, 6, 10, 20, 40}},
	{USECS_PER_MINUTE, {1, 2, 4, 6, 10, 20, 40}},
	{USECS_PER_HOUR, {1, 2, 4, 6, 12}},
	{0},
};

/* choose_step returns the first step that is at least so large, else the last one. */
static int64
choose_step(const Scale *scale, int64 at_least)
{
	int64 step = 0;

	for (; scale->unit != 0; scale++)
	{
		for (const int *multiple = scale->multiples; *multiple != 0 && step < at_least; multiple++)
			step = *multiple * scale->unit;
	}
	return step;
}

/* ---- signs ---- */

/* find_shape returns the shape of that name; what is not known looks like a warning. */
static const Shape *
find_shape(const char *name)
{
	const Shape *unknown = NULL;

	for (int i = 0; i < lengthof(shapes); i++)
	{
		if (strcmp(shapes[i].name, name) == 0)
			return &shapes[i];
		if (strcmp(shapes[i].name, "warning") == 0)
			unknown = &shapes[i];
	}
	return unknown;
}

const char *
cj_report_chart_label(const char *name)
{
	const Shape *shape = find_shape(name);

	return shape->label ? shape->label : name;
}

void
cj_report_chart_shapes(StringInfo html)
{
	appendStringInfoString(html,
						   "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"shapes\" width=\"0\" "
						   "height=\"0\" aria-hidden=\"true\"><defs>");
	for (int i = 0; i < lengthof(shapes); i++)
		appendStringInfo(html, "<path id=\"s-%s\" class=\"%s\" d=\"%s\"/>", shapes[i].name,
						 shapes[i].filled ? "full" : "line", shapes[i].path);
	appendStringInfoString(html, "</defs></svg>\n");
}

char *
cj_report_chart_sign(const char *name)
{
	const char *known = find_shape(name)->name;

	return psprintf(
		"<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sign c-%s\" width=\"14\" "
		"height=\"14\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\"><use href=\"#s-%s\"/></svg>",
		known, known);
}

char *
cj_report_chart_badge(const char *name)
{
	return psprintf("<span class=\"badge c-%s\">%s%s</span>", find_shape(name)->name,
					cj_report_chart_sign(name), cj_html_text(cj_report_chart_label(name)));
}

/* ---- the axis of time ---- */

/* place returns where a moment of the period is, in percent. */
static double
place(const CjReportData *data, TimestampTz moment)
{
	return 100.0 * (moment - data->since) / (data->now - data->since);
}

static double
slice_place(int slice)
{
	return 100.0 * (slice + 0.5) / CJ_REPORT_SLICES;
}

static char *
tick_text(TimestampTz moment, int64 step)
{
	if (step >= 91 * (int64) SECS_PER_DAY)
		return cj_format_moment(moment, CJ_FORMAT_YEAR);
	return cj_format_moment(moment, moment % USECS_PER_DAY == 0 ? CJ_FORMAT_DATE : CJ_FORMAT_TIME);
}

/* put_time_axis appends ticks, from `top` to `bottom`, and their texts below. Every other text is left out on small screens. */
static void
put_time_axis(StringInfo html, const CjReportData *data, int top, int bottom)
{
	int64 seconds = (data->now - data->since) / USECS_PER_SEC;
	int64 step = choose_step(tick_steps, seconds / (MAX_TICKS + 1) + 1);
	TimestampTz moment = data->since / (step * USECS_PER_SEC) * (step * USECS_PER_SEC);

	appendStringInfoString(html, "<g class=\"axis\">");
	for (int tick = 0; moment < data->now; moment += step * USECS_PER_SEC)
	{
		double x = place(data, moment);

		if (moment <= data->since)
			continue;
		appendStringInfo(html, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\"/>", x, x, top,
						 bottom + 5);
		if (x < 92)
			appendStringInfo(html, "<text x=\"%.2f%%\" dx=\"4\" y=\"%d\"%s>%s</text>", x,
							 bottom + 15, tick % 2 ? " class=\"alternate\"" : "",
							 tick_text(moment, step));
		tick++;
	}
	appendStringInfoString(html, "</g>\n");
}

/* ---- the timeline ---- */

/* put_runs_title appends what a mark stands for: of each status how many, when, how long. */
static void
put_runs_title(StringInfo html, const CjReportRuns *slice, const Row *row)
{
	bool is_first = true;

	appendStringInfoString(html, "<title>");
	for (CjReportStatus status = row->first; status <= row->last; status++)
	{
		const CjReportRuns *runs = &slice[status];

		if (runs->count == 0)
			continue;
		if (!is_first)
			appendStringInfoString(html, "\n");
		is_first = false;
		appendStringInfo(html, "%s %s, %s", cj_format_count(runs->count),
						 cj_report_chart_label(cj_report_data_status_name(status)),
						 cj_format_moment(runs->first, CJ_FORMAT_SECOND));
		if (runs->count > 1)
			appendStringInfo(html, " to %s", cj_format_moment(runs->last, CJ_FORMAT_SECOND));
		appendStringInfoString(html, " UTC");
		if (status == CJ_REPORT_RUNNING)
			continue;
		appendStringInfo(html, ", %s%s", runs->count > 1 ? "on average " : "",
						 cj_format_duration(runs->mean));
		if (status == CJ_REPORT_SUCCEEDED)
			appendStringInfo(html, ", %s", cj_format_number_of(runs->rows, "row", "rows"));
	}
	appendStringInfoString(html, "</title>");
}

/* put_mark appends the mark of a slice and a row of a lane, if there is anything to mark. */
static void
put_mark(StringInfo html, const CjReportRuns *slice, int number, const Row *row, int lane)
{
	CjReportStatus status = row->first;
	const char *name;

	while (status <= row->last && slice[status].count == 0)
		status++;
	if (status > row->last)
		return;
	name = cj_report_data_status_name(status);
	appendStringInfo(html, "<g class=\"c-%s\">", name);
	put_runs_title(html, slice, row);
	if (status == CJ_REPORT_SUCCEEDED)
		appendStringInfo(html,
						 "<rect x=\"%.2f%%\" y=\"%d\" width=\"%.2f%%\" height=\"%d\" rx=\"2\"/>",
						 slice_place(number) - 40.0 / CJ_REPORT_SLICES, lane + row->y,
						 80.0 / CJ_REPORT_SLICES, LANE_BAR_HEIGHT);
	else
		appendStringInfo(html, "<use href=\"#s-%s\" x=\"%.2f%%\" y=\"%d\"/>", name,
						 slice_place(number), lane + row->y);
	appendStringInfoString(html, "</g>");
}

static void
put_lane(StringInfo html, const CjReportJob *job, int lane)
{
	appendStringInfo(
		html,
		"<text class=\"lane\" x=\"0\" y=\"%d\">%s</text>"
		"<text class=\"number\" x=\"100%%\" y=\"%d\">%s</text>"
		"<rect class=\"track\" x=\"0\" y=\"%d\" width=\"100%%\" height=\"%d\" rx=\"3\"/>\n",
		lane + LANE_TEXT, cj_html_text(job->name), lane + LANE_TEXT,
		cj_format_number_of(cj_report_data_runs(job), "run", "runs"), lane + LANE_BAR,
		LANE_BAR_HEIGHT);
	for (int slice = 0; slice < CJ_REPORT_SLICES; slice++)
	{
		CHECK_FOR_INTERRUPTS();
		put_mark(html, job->slices[slice], slice, &bar, lane);
		put_mark(html, job->slices[slice], slice, &above, lane);
		put_mark(html, job->slices[slice], slice, &below, lane);
	}
	appendStringInfoString(html, "\n");
}

static void
put_timeline_description(StringInfo html, const CjReportData *data)
{
	appendStringInfo(html, "<desc id=\"timeline-desc\">From %s to %s UTC.",
					 cj_format_moment(data->since, CJ_FORMAT_MINUTE),
					 cj_format_moment(data->now, CJ_FORMAT_MINUTE));
	for (int i = 0; i < data->job_count; i++)
	{
		const CjReportJob *job = &data->jobs[i];

		appendStringInfo(html, " %s: %s", cj_html_text(job->name),
						 cj_format_number_of(cj_report_data_runs(job), "run", "runs"));
		for (int status = 0; status < CJ_REPORT_STATUSES; status++)
		{
			if (job->totals[status] > 0)
				appendStringInfo(html, ", %s %s", cj_format_count(job->totals[status]),
								 cj_report_chart_label(cj_report_data_status_name(status)));
		}
		appendStringInfoString(html, ".");
	}
	appendStringInfoString(html, " The table below has the same numbers.</desc>\n");
}

void
cj_report_chart_timeline(StringInfo html, const CjReportData *data)
{
	int bottom = data->job_count * LANE_HEIGHT;

	appendStringInfo(
		html,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart timeline\" role=\"img\" "
		"aria-labelledby=\"timeline-title timeline-desc\" width=\"100%%\" height=\"%d\">\n"
		"<title id=\"timeline-title\">Runs of each job over time</title>\n",
		bottom + AXIS_HEIGHT);
	put_timeline_description(html, data);
	put_time_axis(html, data, 0, bottom);
	for (int i = 0; i < data->job_count; i++)
		put_lane(html, &data->jobs[i], i * LANE_HEIGHT);
	appendStringInfoString(html, "</svg>\n");
}

/* ---- durations ---- */

/* longest_duration returns the longest duration of a run that succeeded, or -1 if there is none. */
static int64
longest_duration(const CjReportJob *job)
{
	int64 longest = -1;

	for (int slice = 0; slice < CJ_REPORT_SLICES; slice++)
	{
		const CjReportRuns *runs = &job->slices[slice][CJ_REPORT_SUCCEEDED];

		/* one that is negative, by a clock that was set back, counts as 0 */
		if (runs->count > 0)
			longest = Max(longest, Max(runs->longest, 0));
	}
	return longest;
}

/* choose_top returns the duration at the top of an axis; above the steps an even number of days. */
static int64
choose_top(int64 longest)
{
	int64 top = choose_step(duration_steps, Max(longest, 1));
	int64 days = longest / USECS_PER_DAY + 1;

	return top >= longest ? top : (days + days % 2) * USECS_PER_DAY;
}

static double
plot_y(int64 duration, int64 top)
{
	return PLOT_HEIGHT - PLOT_HEIGHT * ((double) Max(duration, 0) / top);
}

/* put_duration_lines appends the lines for nothing, half of the top and the top. */
static void
put_duration_lines(StringInfo html)
{
	appendStringInfoString(html, "<g class=\"axis\">");
	for (int half = 0; half <= 2; half++)
		appendStringInfo(html, "<line x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/>",
						 PLOT_TOP + PLOT_HEIGHT / 2 * half, PLOT_TOP + PLOT_HEIGHT / 2 * half);
	appendStringInfoString(html, "</g>\n");
}

/* put_duration_texts appends what the upper two lines stand for, over everything else. */
static void
put_duration_texts(StringInfo html, int64 top)
{
	appendStringInfo(html,
					 "<text class=\"value\" x=\"0\" y=\"%d\">%s</text>"
					 "<text class=\"value\" x=\"0\" y=\"%d\">%s</text>\n",
					 PLOT_TOP - 5, cj_format_duration(top), PLOT_TOP + PLOT_HEIGHT / 2 - 5,
					 cj_format_duration(top / 2));
}

static void
put_mean_line(StringInfo html, const CjReportJob *job, int64 top)
{
	appendStringInfo(
		html,
		"<svg class=\"mean\" y=\"%d\" width=\"100%%\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		"preserveAspectRatio=\"none\"><polyline vector-effect=\"non-scaling-stroke\" points=\"",
		PLOT_TOP, PLOT_HEIGHT, CJ_REPORT_SLICES, PLOT_HEIGHT);
	for (int slice = 0; slice < CJ_REPORT_SLICES; slice++)
	{
		const CjReportRuns *runs = &job->slices[slice][CJ_REPORT_SUCCEEDED];

		if (runs->count > 0)
			appendStringInfo(html, "%.1f,%.1f ", slice + 0.5, plot_y(runs->mean, top));
	}
	appendStringInfoString(html, "\"/></svg>\n");
}

/* put_duration appends the mean of a slice, and with several runs the range. */
static void
put_duration(StringInfo html, const CjReportRuns *slice, int number, int64 top)
{
	static const Row row = {CJ_REPORT_SUCCEEDED, CJ_REPORT_SUCCEEDED, 0};
	const CjReportRuns *runs = &slice[CJ_REPORT_SUCCEEDED];
	double x = slice_place(number);

	if (runs->count == 0)
		return;
	appendStringInfoString(html, "<g>");
	put_runs_title(html, slice, &row);
	if (runs->count > 1)
		appendStringInfo(html, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x,
						 PLOT_TOP + plot_y(runs->shortest, top),
						 PLOT_TOP + plot_y(runs->longest, top));
	appendStringInfo(html, "<circle cx=\"%.2f%%\" cy=\"%.1f\" r=\"2.5\"/></g>", x,
					 PLOT_TOP + plot_y(runs->mean, top));
}

static void
put_durations_drawing(StringInfo html, const CjReportData *data, int number, int64 longest)
{
	const CjReportJob *job = &data->jobs[number];
	int64 top = choose_top(longest);

	appendStringInfo(
		html,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart durations\" role=\"img\" "
		"aria-labelledby=\"durations-%d-title durations-%d-desc\" width=\"100%%\" height=\"%d\">\n"
		"<title id=\"durations-%d-title\">Durations of %s</title>\n"
		"<desc id=\"durations-%d-desc\">%s from %s to %s UTC, the longest took %s.</desc>\n",
		number, number, PLOT_TOP + PLOT_HEIGHT + AXIS_HEIGHT, number, cj_html_text(job->name),
		number,
		cj_format_number_of(job->totals[CJ_REPORT_SUCCEEDED], "run that succeeded",
							"runs that succeeded"),
		cj_format_moment(data->since, CJ_FORMAT_MINUTE),
		cj_format_moment(data->now, CJ_FORMAT_MINUTE), cj_format_duration(longest));
	put_time_axis(html, data, PLOT_TOP, PLOT_TOP + PLOT_HEIGHT);
	put_duration_lines(html);
	put_mean_line(html, job, top);
	for (int slice = 0; slice < CJ_REPORT_SLICES; slice++)
		put_duration(html, job->slices[slice], slice, top);
	put_duration_texts(html, top);
	appendStringInfoString(html, "</svg>\n");
}

void
cj_report_chart_durations(StringInfo html, const CjReportData *data, int number)
{
	int64 longest = longest_duration(&data->jobs[number]);

	CHECK_FOR_INTERRUPTS();
	if (longest < 0)
		appendStringInfoString(html,
							   "<p class=\"nothing\">No run has succeeded in this period.</p>");
	else
		put_durations_drawing(html, data, number, longest);
}
