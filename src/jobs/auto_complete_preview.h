/*
 * jobs/auto_complete_preview.h
 *		What would be decided, as the rows of challenge_jobs.preview().
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_PREVIEW_H
#define CJ_JOBS_AUTO_COMPLETE_PREVIEW_H

#include "jobs/auto_complete_decisions.h"
#include "jobs/auto_complete_scope.h"

/* Returns decisions on these challenges as rows of the run. */
extern void cj_auto_complete_put_preview(CjRun *run, const CjAutoComplete *state,
										 const CjAutoCompleteScope *scope, Datum keys,
										 CjDecision *decisions, int count);

#endif /* CJ_JOBS_AUTO_COMPLETE_PREVIEW_H */
