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

static const CjStatement find_missing = {
	"find users that are not in the ledger of reminders",
	"SELECT pg_catalog.min(u.position)"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(key, position)"
	" WHERE NOT EXISTS (SELECT 1"
	"                     FROM challenge_jobs.reminder r"
	"                    WHERE r.local_date = $2"
	"                      AND r.user_key = u.key COLLATE \"C\")"
	" GROUP BY u.key"
	" ORDER BY 1",
	SPI_OK_SELECT};

/* In the order of $1. */
static const CjStatement enter_missing = {
	"enter users in the ledger of reminders",
	"WITH entered AS ("
	"    INSERT INTO challenge_jobs.reminder (user_key, local_date)"
	"    SELECT u.key, $2"
	"      FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(key, position)"
	"     ORDER BY u.position"
	"        ON CONFLICT (local_date, user_key) DO NOTHING"
	"    RETURNING user_key"
	")"
	"SELECT pg_catalog.min(u.position)"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(key, position)"
	"  JOIN entered e ON e.user_key = u.key COLLATE \"C\""
	" GROUP BY u.key"
	" ORDER BY 1",
	SPI_OK_SELECT};

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
