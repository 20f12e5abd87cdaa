/*
 * jobs/auto_complete_decisions.h
 *		What was decided, and on which average: the table challenge_jobs.decision.
 *
 * The caller is connected to SPI. Rows are written in the current transaction, as the owner of the extension.
 */
#ifndef CJ_JOBS_AUTO_COMPLETE_DECISIONS_H
#define CJ_JOBS_AUTO_COMPLETE_DECISIONS_H

#include "jobs/key_list.h"

/* A challenge that is to be decided. */
typedef struct CjDecision
{
	const char *challenge_key;
	Datum key;
	int label;     /* CJ_CHALLENGES_COMPLETED, …: the outcome */
	Datum average; /* numeric, rounded as it is compared */
	bool has_average;
	Datum threshold; /* numeric */
	int64 members;   /* whose rates count */

	/* what has become of it */
	bool is_decided;
	bool is_recent; /* enough to notify of */
	char *name;     /* of the challenge, or NULL */
} CjDecision;

/* Lists the decisions on a range of challenges that were evaluated, for the others of these functions. */
extern CjDecision *cj_decisions_list(const CjKeyList *evaluated, int from, int to);

/*
 * Returns the decision on a challenge that was found by one of its keys. Raises t_r_serialization_failure if it has another
 * key now, which is taken for the same.
 */
extern CjDecision *cj_decisions_find(CjDecision *decisions, int count, const char *challenge_key);

/* Returns the keys of those with an outcome as an array. */
extern Datum cj_decisions_keys(const CjDecision *decisions, int count, int label, Oid key_type);

/* Keeps those that have been decided. */
extern void cj_decisions_write(int64 run_id, const CjDecision *decisions, int count);

#endif /* CJ_JOBS_AUTO_COMPLETE_DECISIONS_H */
