/*
 * monitor/report_data.h
 *		The data of the report, read from the extension's own tables: as much as a page can hold, however large
 *		the log is.
 *
 * The caller is connected to SPI. Everything is read as the owner of the extension and lives in the current
 * memory context. Durations are in microseconds.
 */
#ifndef CJ_MONITOR_REPORT_DATA_H
#define CJ_MONITOR_REPORT_DATA_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The period is divided into so many slices, and runs are counted by slice. */
#define CJ_REPORT_SLICES 96

/* So many runs of a job are looked at, the newest. */
#define CJ_REPORT_MAX_RUNS 50000

/* How many failures, alerts and next runs of a job are shown. */
#define CJ_REPORT_MAX_FAILURES 25
#define CJ_REPORT_MAX_ALERTS   20
#define CJ_REPORT_MAX_NEXT     3

/* More alerts than that are not counted. */
#define CJ_REPORT_MAX_COUNTED 1000

/* What becomes of runs; of those that share a place in a drawing, the first one comes before the others. */
typedef enum CjReportStatus
{
	CJ_REPORT_CRASHED,
	CJ_REPORT_FAILED,
	CJ_REPORT_CANCELLED,
	CJ_REPORT_SUCCEEDED,
	CJ_REPORT_RUNNING,
	CJ_REPORT_ROLLED_BACK,
	CJ_REPORT_SKIPPED
} CjReportStatus;

#define CJ_REPORT_STATUSES 7

/* The runs of one status in a slice. */
typedef struct CjReportRuns
{
	int64 count;
	TimestampTz first;
	TimestampTz last;
	int64 shortest;
	int64 mean;
	int64 longest;
	int64 rows; /* affected by all of them */
} CjReportRuns;

/* A job: what job_status says of it, and its runs in the period. */
typedef struct CjReportJob
{
	const char *name;
	const char *state;
	const char *engine; /* NULL: not scheduled */
	const char *schedule;
	TimestampTz last_run;    /* moments that are not there: DT_NOBEGIN */
	const char *last_status; /* or NULL */
	TimestampTz last_success;
	int64 consecutive_failures;
	bool has_durations;
	int64 mean_duration;
	int64 p95_duration;
	TimestampTz next[CJ_REPORT_MAX_NEXT]; /* to come; none if disabled or not scheduled */
	int next_count;

	CjReportRuns slices[CJ_REPORT_SLICES][CJ_REPORT_STATUSES];
	int64 totals[CJ_REPORT_STATUSES];
	int64 looked_at;    /* dry runs, too */
	TimestampTz oldest; /* of those that were looked at */
} CjReportJob;

/* A run that went wrong. Texts may be NULL; they may be longer than what is to be shown. */
typedef struct CjReportFailure
{
	int64 run_id;
	const char *job;
	CjReportStatus status;
	TimestampTz started_at;
	bool has_duration;
	int64 duration;
	int64 attempt;
	const char *triggered_by;
	const char *role_name;
	const char *sqlstate;
	const char *message;
	const char *detail;
	const char *hint;
	const char *context;
} CjReportFailure;

/* An alert that has not been delivered. */
typedef struct CjReportAlert
{
	int64 alert_id;
	const char *job;
	const char *kind;
	TimestampTz raised_at;
	int64 attempts;
	const char *message;    /* or NULL */
	const char *last_error; /* or NULL */
} CjReportAlert;

typedef struct CjReportData
{
	TimestampTz since;
	TimestampTz now;
	const char *database;
	CjReportJob *jobs;
	int job_count;
	List *failures;       /* of CjReportFailure, newest first */
	List *alerts;         /* of CjReportAlert, newest first */
	int64 waiting_alerts; /* at most CJ_REPORT_MAX_COUNTED + 1 */
} CjReportData;

/* A text longer than so many characters is cut when it is shown, and when it is read it is one longer. */
#define CJ_REPORT_MAX_TEXT 600

/*
 * Reads the data of the jobs of these names (a NULL-terminated list) in a period, which ends now.
 */
extern CjReportData *cj_report_data_read(const char *const *names, TimestampTz since,
										 TimestampTz now);

/* The number of all runs of a job in the period, of those that went wrong, and of those of all jobs. */
extern int64 cj_report_data_runs(const CjReportJob *job);
extern int64 cj_report_data_failures(const CjReportJob *job);

/* The name of a status, as it stands in the log. */
extern const char *cj_report_data_status_name(CjReportStatus status);

#endif /* CJ_MONITOR_REPORT_DATA_H */
