/*
 * monitor/report_chart.h
 *		The drawings of the report, as SVG.
 *
 * They are as wide as there is room, without being scaled: what stands for a run, and every text, keeps its
 * size. Pure: no SPI, no catalog access.
 */
#ifndef CJ_MONITOR_REPORT_CHART_H
#define CJ_MONITOR_REPORT_CHART_H

#include "lib/stringinfo.h"

#include "monitor/report_data.h"

/* Appends the shapes, once and before everything that uses them. */
extern void cj_report_chart_shapes(StringInfo html);

/*
 * Returns the sign of the status of a run, of the state of a job, or of a finding of the doctor ("warning",
 * "error"), and its name beside it.
 */
extern char *cj_report_chart_badge(const char *name);

/* Returns the sign alone, which is not for those who do not see it. */
extern char *cj_report_chart_sign(const char *name);

/* The name of a status or state as it is read: "rolled back". */
extern const char *cj_report_chart_label(const char *name);

/* Appends the runs of all jobs in the period, a lane for each job. */
extern void cj_report_chart_timeline(StringInfo html, const CjReportData *data);

/* Appends how long the runs of a job that succeeded have taken; `number` is its place among the jobs. */
extern void cj_report_chart_durations(StringInfo html, const CjReportData *data, int number);

#endif /* CJ_MONITOR_REPORT_CHART_H */
