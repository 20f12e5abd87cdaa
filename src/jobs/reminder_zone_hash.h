/*
 * jobs/reminder_zone_hash.h
 *		What the outcome of looking at a zone depends on, condensed to a number.
 */
#ifndef CJ_JOBS_REMINDER_ZONE_HASH_H
#define CJ_JOBS_REMINDER_ZONE_HASH_H

#include "run/job.h"

/*
 * Returns a number that stands for the settings, the binding, the zone of the app's timestamps, and what has
 * ever been written to users, members and challenges; 0 where that cannot be told. To be called before
 * anything is read: what is written meanwhile makes another number.
 */
extern uint64 cj_reminder_zone_hash_make(const CjRun *run, const char *time_zone,
										 const CjBinding *binding);

#endif /* CJ_JOBS_REMINDER_ZONE_HASH_H */
