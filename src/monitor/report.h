/* monitor/report.h: a page that shows how the jobs are doing. */
#ifndef CJ_MONITOR_REPORT_H
#define CJ_MONITOR_REPORT_H

#include "datatype/timestamp.h"

/*
 * Makes the page, one HTML document that needs nothing else, of the time from now back to `since` before. It
 * shows what the owner of the extension may read, and the doctor's findings if the caller may call the
 * doctor. Its size is bounded. The caller is connected to SPI; the page lives in the current memory context.
 * Raises invalid_parameter_value.
 */
extern char *cj_report_html(const Interval *since);

#endif /* CJ_MONITOR_REPORT_H */
