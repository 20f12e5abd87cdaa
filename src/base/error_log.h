/* base/error_log.h: an error that was caught, as a report in the server log. */
#ifndef CJ_BASE_ERROR_LOG_H
#define CJ_BASE_ERROR_LOG_H

#include "utils/elog.h"

/* Reports an error at a level, under its own code, with its detail, hint and context. The message says what failed, too. */
extern void cj_error_log_report(int level, const ErrorData *error, const char *message);

#endif /* CJ_BASE_ERROR_LOG_H */
