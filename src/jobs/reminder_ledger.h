/*
 * jobs/reminder_ledger.h
 *		Who has been reminded on which local date.
 *
 * Table challenge_jobs.reminder is the truth: a user who stands there for a date is not reminded again on
 * that date, whatever happens to notifications, zones and runs.
 *
 * The caller is connected to SPI. Rows are read and written in the current transaction, as the owner of
 * the extension.
 */
#ifndef CJ_JOBS_REMINDER_LEDGER_H
#define CJ_JOBS_REMINDER_LEDGER_H

#include "utils/date.h"

/*
 * Finds the users, by the texts of their keys, that are not there for a date, and enters them if that is asked for. Their
 * positions come in `missing`, which has room for all. Returns how many. Users with the same key are one.
 */
extern int cj_reminder_ledger_missing(Datum *user_keys, int count, DateADT date, bool enter,
									  int *missing);

#endif /* CJ_JOBS_REMINDER_LEDGER_H */
