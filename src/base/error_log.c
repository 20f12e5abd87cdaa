/* base/error_log.c: an error that was caught, as a report in the server log. */
#include "postgres.h"

#include "base/error_log.h"

void
cj_error_log_report(int level, const ErrorData *error, const char *message)
{
	ereport(level, (errcode(error->sqlerrcode),
					errmsg_internal("challenge_jobs: %s", message),
					error->detail ? errdetail_internal("%s", error->detail) : 0,
					error->hint ? errhint("%s", error->hint) : 0,
					error->context ? errcontext("%s", error->context) : 0));
}
