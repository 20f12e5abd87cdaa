/*
 * jobs/reminder_ledger.h
 *		Who has been reminded on which local date, and which zones are done.
 *
 * Table challenge_jobs.reminder is the truth: a user who stands there for a date is not reminded again on
 * that date, whatever happens to notifications, zones and runs. Table challenge_jobs.reminder_zone saves
 * looking again: nothing depends on it.
 *
 * The caller is connected to SPI. Rows are read and written in the current transaction, as the owner of
 * the extension.
 */
#ifndef CJ_JOBS_REMINDER_LEDGER_H
#define CJ_JOBS_REMINDER_LEDGER_H

#include "utils/date.h"

/*
 * Enters users, by the texts of their keys, for a date. `is_new[i]` says whether user i was not there
 * before; returns how many.
 */
extern int cj_reminder_ledger_enter(Datum *user_keys, int count, DateADT date, bool *is_new);

/*
 * Finds the users that are not there for a date: their positions, in `missing`, which has room for all.
 * Returns how many.
 */
extern int cj_reminder_ledger_missing(Datum *user_keys, int count, DateADT date, int *missing);

/*
 * A zone as the users have it, on a date, with a time of day that users there have for themselves, or for all others. `state`
 * stands for whatever the result of looking depends on, as far as that can be known without looking.
 */
typedef struct CjZoneNote
{
	Datum zone;   /* a text, or 0 for users without a zone */
	Datum value;  /* the same as the users' column has it */
	TimeADT time; /* the users' own; -1: users without one */
	DateADT date;
	bool is_noted;   /* it was done before, on that date */
	bool is_current; /* and nothing has changed since */
} CjZoneNote;

/* Fills in what is noted of zones. */
extern void cj_reminder_ledger_read_zones(CjZoneNote *notes, int count, uint64 state);

/* Notes that zones are done. */
extern void cj_reminder_ledger_note_zones(CjZoneNote *notes, int count, uint64 state);

#endif /* CJ_JOBS_REMINDER_LEDGER_H */
