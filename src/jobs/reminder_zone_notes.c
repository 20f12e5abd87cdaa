/*
 * jobs/reminder_zone_notes.c
 *		Which zones are done, and whether they would have to be looked at again.
 *
 * What looking at zones depends on is condensed to a number, which is noted with them. Where it cannot be told what has
 * changed there is no number, and everything is looked at: a user who is missed costs more than a scan.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "app/app_sql.h"
#include "jobs/reminder_zone_notes.h"

/* More than any name of a zone, also when it is cut between two characters. */
#define MAX_ZONE_LENGTH (TZ_STRLEN_MAX + MAX_MULTIBYTE_CHAR_LEN)

static const CjStatement rows_written = CJ_CALL("rows_written($1)");

static const CjStatement read_zones = CJ_CALL_ROWS("noted_zones($1, $2, $3, $4)");

static const CjStatement note_zones = CJ_CALL("note_zones($1, $2, $3, $4)");

/*
 * cj_reminder_zone_notes_state makes the number. The counters are ahead of the snapshot of a REPEATABLE READ caller,
 * who does not see all that they stand for; rows of distributed tables are written to shards.
 */
uint64
cj_reminder_zone_notes_state(const CjRun *run, const char *time_zone, const CjBinding *binding)
{
	List *tables = list_make3_oid(binding->entities[CJ_USERS].relid,
								  binding->entities[CJ_CHALLENGE_MEMBERS].relid,
								  binding->entities[CJ_CHALLENGES].relid);
	StringInfoData text;
	const char *written;

	if (!pgstat_track_counts || !cj_app_sql_can_lock_rows() ||
		(IsolationUsesXactSnapshot() && !run->own_transactions))
		return 0;
	/* the caller's transaction may remember what the counters were some time ago */
	pgstat_clear_snapshot();
	written = cj_sql_text_own(&rows_written, CJ_PARAMS(CJ_ARRAY(OIDOID, cj_sql_oids(tables))));
	if (written == NULL)
		return 0;
	initStringInfo(&text);
	appendBinaryStringInfo(&text, (char *) run->config->settings,
						   VARSIZE_ANY(run->config->settings));
	appendStringInfo(&text, "|%s|%s", time_zone, written);
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		const CjBoundEntity *entity = &binding->entities[i];

		appendStringInfo(&text, "|%u", entity->relid);
		for (int j = 0; j < CJ_MAX_COLUMNS; j++)
			appendStringInfo(&text, ",%d", entity->columns[j].number);
		for (int j = 0; j < CJ_MAX_LABELS; j++)
			appendStringInfo(&text, ",%s", entity->labels[j] ? entity->labels[j] : "");
	}
	return DatumGetUInt64(hash_any_extended((unsigned char *) text.data, text.len, 0));
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
static CjParams *
zone_params(const List *notes, uint64 state)
{
	ArrayBuildState *zones = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ArrayBuildState *dates = initArrayResult(DATEOID, CurrentMemoryContext, false);
	ArrayBuildState *times = initArrayResult(TIMEOID, CurrentMemoryContext, false);
	ListCell *cell;

	foreach(cell, notes)
	{
		const CjZoneNote *note = lfirst(cell);
		bool no_zone = note->zone == (Datum) 0;

		accumArrayResult(zones, no_zone ? (Datum) 0 : note_name(note->zone), no_zone, TEXTOID,
						 CurrentMemoryContext);
		accumArrayResult(dates, DateADTGetDatum(note->date), false, DATEOID, CurrentMemoryContext);
		accumArrayResult(times, TimeADTGetDatum(note->time), note->time < 0, TIMEOID,
						 CurrentMemoryContext);
	}
	return CJ_PARAMS(CJ_ARRAY(TEXTOID, makeArrayResult(zones, CurrentMemoryContext)),
					 CJ_ARRAY(DATEOID, makeArrayResult(dates, CurrentMemoryContext)),
					 CJ_ARRAY(TIMEOID, makeArrayResult(times, CurrentMemoryContext)),
					 CJ_INT8((int64) state));
}

List *
cj_reminder_zone_notes_read(List *notes, uint64 state)
{
	CjRows rows = cj_sql_run_own(&read_zones, zone_params(notes, state));
	List *current = NIL;

	for (uint64 row = 0; row < rows.processed; row++)
	{
		CjZoneNote *note = list_nth(notes, cj_sql_int64(&rows, row, 1) - 1);

		note->is_noted = true;
		if (state != 0 && cj_sql_bool(&rows, row, 2))
			current = lappend(current, note);
	}
	cj_sql_free(&rows);
	return list_difference_ptr(notes, current);
}

void
cj_reminder_zone_notes_write(const List *notes, uint64 state)
{
	cj_sql_execute_own(&note_zones, zone_params(notes, state));
}
