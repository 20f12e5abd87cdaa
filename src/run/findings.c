/* run/findings.c: what the doctor finds: the rows of challenge_jobs.doctor(). */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/hint.h"
#include "run/findings.h"

/* Several jobs find the same of a table: `added` has a hash of each row. */
struct CjFindings
{
	Tuplestorestate *store;
	TupleDesc desc;
	HTAB *added;
};

CjFindings *
cj_findings_create(Tuplestorestate *store, TupleDesc desc)
{
	HASHCTL hash = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64)};
	CjFindings *findings = palloc(sizeof(CjFindings));

	findings->store = store;
	findings->desc = desc;
	findings->added = hash_create("challenge_jobs findings", 64, &hash, HASH_ELEM | HASH_BLOBS);
	return findings;
}

static void
add_row(CjFindings *findings, const char *const texts[], int count)
{
	Datum values[8];
	bool nulls[8];
	uint64 hash = 0;
	bool is_there;

	Assert(count == findings->desc->natts && count <= lengthof(values));
	for (int i = 0; i < count; i++)
	{
		const char *text = texts[i] ? texts[i] : "";

		hash = hash_combine64(hash, DatumGetUInt64(hash_any_extended((const unsigned char *) text,
																	 strlen(text), 0)));
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(text);
	}
	(void) hash_search(findings->added, &hash, HASH_ENTER, &is_there);
	if (!is_there)
		tuplestore_putvalues(findings->store, findings->desc, values, nulls);
}

void
cj_findings_add_as(CjFindings *findings, const char *check_name, const char *status,
				   const char *finding, const char *remedy, const char *run_as)
{
	const char *hint = cj_hint_run(remedy);
	const char *statement = hint ? cj_hint_statement(hint) : NULL;
	const char *texts[] = {
		check_name, status, finding, statement, statement ? NULL : hint, statement ? run_as : NULL};

	add_row(findings, texts, lengthof(texts));
}

void
cj_findings_add(CjFindings *findings, const char *check_name, const char *status,
				const char *finding, const char *remedy)
{
	cj_findings_add_as(findings, check_name, status, finding, remedy, NULL);
}

void
cj_findings_add_hint(CjFindings *findings, const char *check_name, const char *status,
					 const char *finding, const char *hint)
{
	const char *remedy = hint ? cj_hint_statement(hint) : NULL;
	const char *texts[] = {check_name, status, finding, remedy, remedy ? NULL : hint, NULL};

	add_row(findings, texts, lengthof(texts));
}

void
cj_findings_add_found(CjFindings *findings, const CjStatement *statement, CjParams *params)
{
	CjRows rows = cj_sql_run_own(statement, params);

	for (uint64 row = 0; row < rows.processed; row++)
	{
		const char *advice = rows.table->tupdesc->natts > 5 ? cj_sql_text(&rows, row, 6) : NULL;

		if (advice)
			cj_findings_add_hint(findings, cj_sql_text(&rows, row, 1), cj_sql_text(&rows, row, 2),
								 cj_sql_text(&rows, row, 3), advice);
		else
			cj_findings_add_as(findings, cj_sql_text(&rows, row, 1), cj_sql_text(&rows, row, 2),
							   cj_sql_text(&rows, row, 3), cj_sql_text(&rows, row, 4),
							   cj_sql_text(&rows, row, 5));
	}
	cj_sql_free(&rows);
}

void
cj_findings_add_error(CjFindings *findings, const char *check_name, const ErrorData *error)
{
	cj_findings_add_hint(findings, check_name, "error",
						 error->detail ? psprintf("%s (%s)", error->message, error->detail)
									   : error->message,
						 error->hint);
}
