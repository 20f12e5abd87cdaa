/*
 * jobs/reminder_ledger.c
 *		Who has been reminded on which local date, and which zones are done.
 *
 * Keys are kept as text, since users of any key type stand in one table. The cleanup removes rows some days after
 * their date.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "jobs/reminder_ledger.h"

/* More than any name of a zone, also when it is cut between two characters. */
#define MAX_ZONE_LENGTH (TZ_STRLEN_MAX + MAX_MULTIBYTE_CHAR_LEN)

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

/* Users with the same key are one. */
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

/*
 * $1: the zones, $2 their dates, $3 the state, $4 times of day. What was examined a moment ago may have changed without a
 * trace, since the counters in the state come some seconds late. (Zones are compared in a way that can be
 * hashed, which IS NOT DISTINCT FROM cannot be; unnest() of several arrays has no qualified name.)
 */
static const CjStatement read_zones = {
	"read the notes on zones",
	"SELECT z.position,"
	"       n.state_hash = $3 AND n.examined_at < pg_catalog.clock_timestamp() - interval '15 seconds'"
	"  FROM unnest($1, $2, $4) WITH ORDINALITY AS z(time_zone, local_date, reminder_time, position)"
	"  JOIN challenge_jobs.reminder_zone n"
	"    ON n.local_date = z.local_date"
	"   AND COALESCE(n.time_zone, '') = COALESCE(z.time_zone, '')"
	"   AND (n.time_zone IS NULL) = (z.time_zone IS NULL)"
	"   AND COALESCE(n.reminder_time, '0:00') = COALESCE(z.reminder_time, '0:00')"
	"   AND (n.reminder_time IS NULL) = (z.reminder_time IS NULL)",
	SPI_OK_SELECT};

static const CjStatement note_zones = {
	"note zones that are done",
	"INSERT INTO challenge_jobs.reminder_zone (time_zone, local_date, reminder_time, state_hash, examined_at)"
	"SELECT z.*, $3, pg_catalog.clock_timestamp()"
	"  FROM unnest($1, $2, $4) AS z(time_zone, local_date, reminder_time)"
	" GROUP BY 1, 2, 3"
	"    ON CONFLICT (local_date, time_zone, reminder_time) DO UPDATE"
	"   SET state_hash = excluded.state_hash, examined_at = excluded.examined_at",
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

int
cj_reminder_ledger_missing(Datum *user_keys, int count, DateADT date, int *missing)
{
	CjParams params = user_params(user_keys, count, date);
	CjRows rows = cj_sql_run_own(&find_missing, &params);
	int found = (int) rows.processed;

	for (int i = 0; i < found; i++)
		missing[i] = (int) cj_sql_int64(&rows, i, 1) - 1;
	cj_sql_free(&rows);
	return found;
}

/*
 * note_name returns the text under which a zone is noted. The app may hold anything for a zone, and an index
 * takes no more than a third of a page; what is longer than the name of any zone is none, all such are
 * looked at together, and what they have in common does for them.
 */
static Datum
note_name(Datum zone)
{
	text *name = DatumGetTextPP(zone);
	int len = VARSIZE_ANY_EXHDR(name);

	if (len <= MAX_ZONE_LENGTH)
		return zone;
	return PointerGetDatum(
		cstring_to_text_with_len(VARDATA_ANY(name),
								 pg_mbcliplen(VARDATA_ANY(name), len, MAX_ZONE_LENGTH)));
}

/* zone_params makes the parameters of the statements over zones. */
static CjParams
zone_params(const CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = {0};
	Datum *zones = palloc(sizeof(Datum) * count);
	bool *nulls = palloc(sizeof(bool) * count);
	Datum *dates = palloc(sizeof(Datum) * count);
	Datum *times = palloc(sizeof(Datum) * count);
	bool *time_nulls = palloc(sizeof(bool) * count);

	for (int i = 0; i < count; i++)
	{
		zones[i] = notes[i].zone ? note_name(notes[i].zone) : (Datum) 0;
		nulls[i] = notes[i].zone == (Datum) 0;
		dates[i] = DateADTGetDatum(notes[i].date);
		times[i] = TimeADTGetDatum(notes[i].time);
		time_nulls[i] = notes[i].time < 0;
	}
	cj_sql_param_array(&params, TEXTOID, cj_sql_array_with_nulls(zones, nulls, count, TEXTOID));
	cj_sql_param_array(&params, DATEOID, cj_sql_array(dates, count, DATEOID));
	cj_sql_param(&params, INT8OID, Int64GetDatum((int64) state), false);
	cj_sql_param_array(&params, TIMEOID,
					   cj_sql_array_with_nulls(times, time_nulls, count, TIMEOID));
	return params;
}

void
cj_reminder_ledger_read_zones(CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = zone_params(notes, count, state);
	CjRows rows = cj_sql_run_own(&read_zones, &params);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjZoneNote *note = &notes[cj_sql_int64(&rows, row, 1) - 1];

		note->is_noted = true;
		note->is_current = state != 0 && cj_sql_bool(&rows, row, 2);
	}
	cj_sql_free(&rows);
}

void
cj_reminder_ledger_note_zones(CjZoneNote *notes, int count, uint64 state)
{
	CjParams params = zone_params(notes, count, state);
	CjRows rows = cj_sql_run_own(&note_zones, &params);

	cj_sql_free(&rows);
}
