/*
 * matview/analysis/allowed_functions.h
 *		Which expressions the definition of a tracked view may use.
 *
 * Reads the catalogs: needs a transaction. Results are palloc'd in the current memory context.
 */
#ifndef CJ_MATVIEW_ANALYSIS_ALLOWED_FUNCTIONS_H
#define CJ_MATVIEW_ANALYSIS_ALLOWED_FUNCTIONS_H

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

typedef struct CjFunctionOutcome
{
	List *functions;     /* OIDs of the functions that are not PostgreSQL's own, each once */
	const char *refusal; /* the first reason to refuse the definition, a sentence; NULL: none */
	const char *hint;    /* what to do about it, or NULL */
} CjFunctionOutcome;

/* Evaluates a node of an expression, without what is below it; false if it may not be used. */
extern bool cj_allowed_functions_allow(Node *node, CjFunctionOutcome *outcome);

/* The same for a function, and for the function behind an operator; InvalidOid is allowed. */
extern bool cj_allowed_functions_allow_function(Oid function, CjFunctionOutcome *outcome);
extern bool cj_allowed_functions_allow_operator(Oid operator, CjFunctionOutcome * outcome);

#endif /* CJ_MATVIEW_ANALYSIS_ALLOWED_FUNCTIONS_H */
