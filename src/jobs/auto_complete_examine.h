/*
 * jobs/auto_complete_examine.h
 *		For the doctor: whether the rule of completion, and the schedule, fit the app's data.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_EXAMINE_H
#define CJ_JOBS_AUTO_COMPLETE_EXAMINE_H

#include "app/binding.h"
#include "config/job_config.h"
#include "run/findings.h"

/* Adds what completion rates say about the settings; reads the statistics as the owner of the bound tables. */
extern void cj_auto_complete_examine_rates(const CjJobConfig *config, const CjBinding *binding,
										   CjFindings *findings);

/* Adds a finding if the schedule leaves challenges that are due undecided for long. */
extern void cj_auto_complete_examine_schedule(const CjJobConfig *config, const CjBinding *binding,
											  CjFindings *findings);

/*
 * Adds a finding if challenges are decided before the last day is over in a zone: the one of the users' zones that is
 * furthest west. The binding has challenges.end_date.
 */
extern void cj_auto_complete_examine_zone(const char *west, const CjBinding *binding,
										  CjFindings *findings);

/* Adds a finding for challenges that ended long ago and are still active: the first run in an app finds them all. */
extern void cj_auto_complete_examine_old(const CjJobConfig *config, const CjBinding *binding,
										 CjFindings *findings);

#endif /* CJ_JOBS_AUTO_COMPLETE_EXAMINE_H */
