/*
 * reminder_ledger.c
 *		Who has been reminded on which local date, and which zones are done.
 *
 * Called by jobs/reminders. Keys are kept as text, since users of any key type stand in one table. The
 * cleanup removes rows some days after their date.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "reminder_ledger.h"
#include "sql.h"

/* In the order of $1. */
static const CjStatement enter_users = {
	"enter users in the ledger of reminders",
	"INSERT INTO challenge_jobs.reminder (user_key, local_date)"
	"SELECT u.key, $2"
	"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(key, position)"
	" ORDER BY u.position"
	"    ON CONFLICT (local_date, user_key) DO NOTHING"
	" RETURNING user_key",
	SPI_OK_INSERT_RETURNING};

static const CjStatement count_missing = {
	"count users that are not in the ledger of reminders",
	"SELECT pg_catalog.count(DISTINCT u.key)"
	"  FROM pg_catalog.unnest($1) AS u(key)"
	" WHERE NOT EXISTS (SELECT 1"
	"                     FROM challenge_jobs.reminder r"
	"                    WHERE r.local_date = $2"
	"                      AND r.user_key = u.key COLLATE \"C\")",
	SPI_OK_SELECT};

/*
 * $1: the zones, $2 their dates, $3 the state. What was examined a moment ago may have changed without a
 * trace, since the counters in the state come some seconds late. (Zones are compared in a way that can be
 * hashed, which IS NOT DISTINCT FROM cannot be; unnest() of several arrays has no qualified name.)
 */
static const CjStatement read_zones = {
	"read the notes on zones",
	"SELECT z.position,"
	"       n.state = $3 AND n.examined_at < pg_catalog.clock_timestamp() - interval '15 seconds'"
	"  FROM unnest($1, $2) WITH ORDINALITY AS z(time_zone, local_date, position)"
	"  JOIN challenge_jobs.reminder_zone n"
	"    ON n.local_date = z.local_date"
	"   AND COALESCE(n.time_zone, '') = COALESCE(z.time_zone, '')"
	"   AND (n.time_zone IS NULL) = (z.time_zone IS NULL)",
	SPI_OK_SELECT};

static const CjStatement note_zones = {
	"note zones that are done",
	"INSERT INTO challenge_jobs.reminder_zone (time_zone, local_date, state, examined_at)"
	"SELECT z.time_zone, z.local_date, $3, pg_catalog.clock_timestamp()"
	"  FROM unnest($1, $2) AS z(time_zone, local_date)"
	"    ON CONFLICT (local_date, time_zone) DO UPDATE"
	"   SET state = excluded.state, examined_at = excluded.examined_at",
	SPI_OK_INSERT};

/* user_params makes the parameters of the statements over users. */
static CjParams
user_params(Datum *user_keys, int count, DateADT date)
{
	CjParams params = {0};

	cj_sql_param_array(&params, TEXTOID, cj_sql_array(user_keys, count, TEXTOID));
	cj_sql_param(&params, DATEOID, DateADTGetDatum(date), false);
	return params;
}

/* cj_reminder_ledger_enter enters users for a date. */
int
cj_reminder_ledger_enter(Datum *user_keys, int count, DateADT date, bool *is_new)
{
	CjParams params = user_params(user_keys, count, date);
	CjRows rows = cj_sql_run_own(&enter_users, &params);
	uint64 row = 0;

	/* what has been entered comes in the order of the keys: each is compared with the next one */
	for (int i = 0; i < count; i++)
	{
		is_new[i] = row < rows.processed &&
					strcmp(cj_sql_text(&rows, row, 1), TextDatumGetCString(user_keys[i])) == 0;
		row += is_new[i];
	}
	if (row != rows.processed)
		elog(ERROR, "the ledger of reminders returned other users than were entered");
	cj_sql_free(&rows);
	return (int) row;
}

/* cj_reminder_ledger_count_missing counts the users that are not there for a date. */
int64
cj_reminder_ledger_count_missing(Datum *user_keys, int count, DateADT date)
{
	CjParams params = user_params(user_keys, count, date);
	CjRows rows = cj_sql_run_own(&count_missing, &params);
	int64 missing = cj_sql_int64(&rows, 0, 1);

	cj_sql_free(&rows);
	return missing;
}

/* zone_params makes the parameters of the statements over zones. */
static CjParams
zone_params(const CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = {0};
	Datum *zones = palloc(sizeof(Datum) * count);
	bool *nulls = palloc(sizeof(bool) * count);
	Datum *dates = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
	{
		zones[i] = notes[i].zone;
		nulls[i] = notes[i].zone == (Datum) 0;
		dates[i] = DateADTGetDatum(notes[i].date);
	}
	cj_sql_param_array(&params, TEXTOID, cj_sql_array_with_nulls(zones, nulls, count, TEXTOID));
	cj_sql_param_array(&params, DATEOID, cj_sql_array(dates, count, DATEOID));
	cj_sql_param(&params, INT8OID, Int64GetDatum((int64) state), false);
	return params;
}

/* cj_reminder_ledger_read_zones fills in what is noted of zones. */
void
cj_reminder_ledger_read_zones(CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = zone_params(notes, count, state);
	CjRows rows = cj_sql_run_own(&read_zones, &params);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjZoneNote *note = &notes[cj_sql_int64(&rows, row, 1) - 1];

		note->is_noted = true;
		note->is_current = cj_sql_bool(&rows, row, 2);
	}
	cj_sql_free(&rows);
}

/* cj_reminder_ledger_note_zones notes that zones are done. */
void
cj_reminder_ledger_note_zones(CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = zone_params(notes, count, state);
	CjRows rows = cj_sql_run_own(&note_zones, &params);

	cj_sql_free(&rows);
}
