/* monitor/report_style.h: how the report looks. */
#ifndef CJ_MONITOR_REPORT_STYLE_H
#define CJ_MONITOR_REPORT_STYLE_H

/* The style sheet. It has neither `<` nor `&`, so that it can stand in HTML and in XML. */
extern const char *cj_report_style_sheet(void);

#endif /* CJ_MONITOR_REPORT_STYLE_H */
