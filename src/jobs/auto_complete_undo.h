/*
 * jobs/auto_complete_undo.h
 *		challenge_jobs.undo_decisions: one wrong night is taken back.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_UNDO_H
#define CJ_JOBS_AUTO_COMPLETE_UNDO_H

#include "run/job.h"

/* A run under the lock of auto_complete_challenges; run->undoes is the run whose decisions it takes back. */
extern const CjJob cj_job_undo_decisions;

/* Raises invalid_parameter_value if nothing is kept of decisions of that run. The caller is connected to SPI. */
extern void cj_auto_complete_undo_check(int64 run_id);

#endif /* CJ_JOBS_AUTO_COMPLETE_UNDO_H */
