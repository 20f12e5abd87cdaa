/*
 * jobs/reminder_zone_notes.h
 *		Which zones are done, and whether they would have to be looked at again.
 *
 * Table challenge_jobs.reminder_zone saves looking again: nothing depends on it.
 *
 * The caller is connected to SPI. Rows are read and written in the current transaction, as the owner of
 * the extension.
 */
#ifndef CJ_JOBS_REMINDER_ZONE_NOTES_H
#define CJ_JOBS_REMINDER_ZONE_NOTES_H

#include "utils/date.h"

#include "run/job.h"

/* A zone as the users have it, on a date, with a time of day that users there have for themselves, or for all others. */
typedef struct CjZoneNote
{
	Datum zone;   /* a text, or 0 for users without a zone */
	Datum value;  /* the same as the users' column has it */
	TimeADT time; /* the users' own; -1: users without one */
	DateADT date;
	bool is_noted; /* it was done before, on that date */
} CjZoneNote;

/*
 * Returns a number that stands for whatever the result of looking depends on, as far as that can be known without
 * looking: the settings, the binding, the zone of the app's timestamps, and what has ever been written to users,
 * members and challenges; 0 where that cannot be told. To be called before anything is read: what is written
 * meanwhile makes another number.
 */
extern uint64 cj_reminder_zone_notes_state(const CjRun *run, const char *time_zone,
										   const CjBinding *binding);

/* Fills in what is noted of zones, a List of CjZoneNote; returns those of which something may have changed since. */
extern List *cj_reminder_zone_notes_read(List *notes, uint64 state);

/* Notes that zones are done. */
extern void cj_reminder_zone_notes_write(const List *notes, uint64 state);

#endif /* CJ_JOBS_REMINDER_ZONE_NOTES_H */
