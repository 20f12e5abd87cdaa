/*
 * jobs/auto_complete_evaluation.h
 *		The outcomes, before anything is changed: the average completion rate of each due challenge against its threshold.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_EVALUATION_H
#define CJ_JOBS_AUTO_COMPLETE_EVALUATION_H

#include "jobs/auto_complete_scope.h"

/* How many challenges are evaluated by one statement. */
#define CJ_AUTO_COMPLETE_CHUNK 10000

/*
 * Reads what is due into state->due; where chunks would cost more, evaluates all of it at once instead. The work of an
 * attempt; `arg` is the state.
 */
extern void cj_auto_complete_prepare(CjRun *run, void *arg);

/* Evaluates a range of the chunk of state->due at hand, as a CjBatch does. */
extern void cj_auto_complete_evaluate(CjRun *run, int from, int to, bool *opened, void *arg);

/*
 * Puts rates that need attention into the result of the run, and warns of fractions: with a threshold in per cent everything
 * fails.
 */
extern void cj_auto_complete_report_rates(CjRun *run, const CjAutoComplete *state);

/*
 * Reads the members' own rates of some challenges as people read them: challenge, user, text. Before the challenges are
 * updated, as the averages are. No rows where no text shows them.
 */
extern CjRows cj_auto_complete_own_rates(CjRun *run, CjAutoComplete *state, Datum keys);

#endif /* CJ_JOBS_AUTO_COMPLETE_EVALUATION_H */
