/*
 * jobs/fingerprint.h
 *		What the outcome of looking at a zone depends on, condensed to a number.
 */
#ifndef CJ_FINGERPRINT_H
#define CJ_FINGERPRINT_H

#include "jobs/job.h"

/*
 * Returns a number that stands for the settings, the binding, the zone of the app's timestamps, and what has
 * ever been written to users, members and challenges; 0 where that cannot be told. To be called before
 * anything is read: what is written meanwhile makes another number.
 */
extern uint64 cj_fingerprint_make(const CjRun *run, const char *time_zone,
								  const CjBinding *binding);

#endif /* CJ_FINGERPRINT_H */
