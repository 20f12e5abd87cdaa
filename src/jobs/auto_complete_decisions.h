/*
 * jobs/auto_complete_decisions.h
 *		What was decided, and on which average: the table challenge_jobs.decision.
 *
 * The caller is connected to SPI. Rows are written in the current transaction, as the owner of the extension.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_DECISIONS_H
#define CJ_JOBS_AUTO_COMPLETE_DECISIONS_H

/* A challenge that is to be decided. */
typedef struct CjDecision
{
	const char *challenge_key;
	bool is_completed;   /* by the rule */
	const char *outcome; /* once it has been decided, a label's name, else NULL */
	Datum average;       /* numeric, rounded as it is compared */
	bool has_average;
	Datum threshold; /* numeric */
	int64 members;   /* whose rates count */
} CjDecision;

/* Sorts decisions, for cj_decisions_find; returns the one of a key, or NULL. */
extern void cj_decisions_sort(CjDecision *decisions, int count);
extern CjDecision *cj_decisions_find(CjDecision *decisions, int count, const char *challenge_key);

/* Keeps those that have been decided. */
extern void cj_decisions_write(int64 run_id, const CjDecision *decisions, int count);

#endif /* CJ_JOBS_AUTO_COMPLETE_DECISIONS_H */
