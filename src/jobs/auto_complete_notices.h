/*
 * jobs/auto_complete_notices.h
 *		Notifying the members of what was decided.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_NOTICES_H
#define CJ_JOBS_AUTO_COMPLETE_NOTICES_H

#include "jobs/auto_complete_decisions.h"
#include "jobs/auto_complete_scope.h"

/* What texts can hold; ends in NULL. */
extern const char *const cj_auto_complete_placeholders[];

/*
 * Inserts a notification for every member of what was decided, if it is recent; counts in state->figures how many
 * were notified, and of how many challenges nobody was.
 */
extern void cj_auto_complete_notify(CjRun *run, CjAutoComplete *state,
									const CjAutoCompleteScope *scope, const CjDecision *decisions,
									int count, const CjRows *own_rates);

/* Counts in state->figures what notifying of these challenges would give. */
extern void cj_auto_complete_count_notices(CjAutoComplete *state, const CjAutoCompleteScope *scope,
										   Datum keys);

#endif /* CJ_JOBS_AUTO_COMPLETE_NOTICES_H */
