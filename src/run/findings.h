/* run/findings.h: what the doctor finds: the rows of challenge_jobs.doctor(). */
#ifndef CJ_RUN_FINDINGS_H
#define CJ_RUN_FINDINGS_H

#include "access/tupdesc.h"
#include "utils/elog.h"
#include "utils/tuplestore.h"

#include "base/sql.h"

typedef struct CjFindings CjFindings;

/* Statements that only a superuser may run: what the column run_as says of them. */
#define CJ_AS_SUPERUSER "superuser"

/* Findings go to a tuplestore with the columns of challenge_jobs.doctor(); of equal ones one is kept. */
extern CjFindings *cj_findings_create(Tuplestorestate *store, TupleDesc desc);

/*
 * Adds a finding; status is ok, warning or error. The remedy is SQL, or NULL; with a placeholder (base/hint) it
 * becomes advice. run_as is the role that must run it, NULL: any role that may call the functions in it.
 */
extern void cj_findings_add(CjFindings *findings, const char *check_name, const char *status,
							const char *finding, const char *remedy);
extern void cj_findings_add_as(CjFindings *findings, const char *check_name, const char *status,
							   const char *finding, const char *remedy, const char *run_as);

/* The same with a hint, or NULL: "Run: …;" is a remedy (base/hint), anything else advice. */
extern void cj_findings_add_hint(CjFindings *findings, const char *check_name, const char *status,
								 const char *finding, const char *hint);

/*
 * Adds what a statement over the catalogs or the extension's tables finds: check_name, status, finding, remedy,
 * run_as, and perhaps advice.
 */
extern void cj_findings_add_found(CjFindings *findings, const CjStatement *statement,
								  CjParams *params);

/* Adds an error, with its detail and hint. */
extern void cj_findings_add_error(CjFindings *findings, const char *check_name,
								  const ErrorData *error);

#endif
