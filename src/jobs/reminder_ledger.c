/*
 * jobs/reminder_ledger.c
 *		Who has been reminded on which local date.
 *
 * Keys are kept as text, since users of any key type stand in one table. The cleanup removes rows some days after
 * their date.
 */
#include "postgres.h"

#include "base/sql.h"
#include "jobs/reminder_ledger.h"

static const CjStatement find_missing = CJ_CALL("missing_reminders($1, $2)");

static const CjStatement enter_missing = CJ_CALL("enter_reminders($1, $2)");

int
cj_reminder_ledger_missing(Datum *user_keys, int count, DateADT date, bool enter, int *missing)
{
	CjRows rows =
		cj_sql_run_own(enter ? &enter_missing : &find_missing,
					   CJ_PARAMS(CJ_ARRAY(TEXTOID, cj_sql_array(user_keys, count, TEXTOID)),
								 CJ_DATE(date)));
	int found = (int) rows.processed;

	for (int i = 0; i < found; i++)
		missing[i] = (int) cj_sql_int64(&rows, i, 1) - 1;
	cj_sql_free(&rows);
	return found;
}
