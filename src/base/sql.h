/*
 * base/sql.h
 *		Statements over SPI: run them, check what they returned, copy the results out.
 *
 * The caller is connected to SPI. Results and copies are made in the caller's current memory
 * context, which is left as it was.
 */
#ifndef CJ_BASE_SQL_H
#define CJ_BASE_SQL_H

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* A statement: its name (for error contexts), its text, the SPI result code that it must give. */
typedef struct CjStatement
{
	const char *name;
	const char *text;
	int expected;
} CjStatement;

/* A call of a function of the install script, as in CJ_CALL("note_run($1)"); of one that returns rows. */
#define CJ_CALL(call)                                      \
	{                                                      \
		call, "SELECT challenge_jobs." call, SPI_OK_SELECT \
	}
#define CJ_CALL_ROWS(call)                                        \
	{                                                             \
		call, "SELECT * FROM challenge_jobs." call, SPI_OK_SELECT \
	}

/* Parameters $1, $2, … in the order in which they are named by CJ_PARAMS, or added; then start from {0}. */
#define CJ_SQL_MAX_PARAMS 20

typedef struct CjParams
{
	int count;
	Oid types[CJ_SQL_MAX_PARAMS];
	Datum values[CJ_SQL_MAX_PARAMS];
	char nulls[CJ_SQL_MAX_PARAMS];
} CjParams;

/* The value of one parameter; of a text, a NULL pointer is a null. */
typedef struct CjValue
{
	Oid type;
	Datum datum;
	bool isnull;
} CjValue;

#define CJ_VALUE(type, datum, isnull) ((CjValue){type, datum, isnull})
#define CJ_TEXT(value)                cj_sql_text_value(value)
#define CJ_BOOL(value)                CJ_VALUE(BOOLOID, BoolGetDatum(value), false)
#define CJ_INT2(value)                CJ_VALUE(INT2OID, Int16GetDatum(value), false)
#define CJ_INT4(value)                CJ_VALUE(INT4OID, Int32GetDatum(value), false)
#define CJ_INT8(value)                CJ_VALUE(INT8OID, Int64GetDatum(value), false)
#define CJ_OID(value)                 CJ_VALUE(OIDOID, ObjectIdGetDatum(value), false)
#define CJ_MOMENT(value)              CJ_VALUE(TIMESTAMPTZOID, TimestampTzGetDatum(value), false)
#define CJ_DATE(value)                CJ_VALUE(DATEOID, DateADTGetDatum(value), false)
#define CJ_ARRAY(element_type, array) CJ_VALUE(get_array_type(element_type), array, false)

/* Makes parameters of values, as in CJ_PARAMS(CJ_TEXT(job), CJ_OID(table)). */
#define CJ_PARAMS(...) cj_sql_params(lengthof(((CjValue[]){__VA_ARGS__})), (CjValue[]){__VA_ARGS__})

extern CjValue cj_sql_text_value(const char *text);
extern CjParams *cj_sql_params(int count, const CjValue *values);

extern void cj_sql_param(CjParams *params, Oid type, Datum value, bool isnull);

/* As above; a NULL pointer is a null. The text is copied. */
extern void cj_sql_param_text(CjParams *params, const char *value);

/* Adds an array of elements of a type. */
extern void cj_sql_param_array(CjParams *params, Oid element_type, Datum array);

/* What a statement returned. Valid until cj_sql_free or the end of the SPI connection. */
typedef struct CjRows
{
	uint64 processed;     /* rows returned, or rows inserted, updated, deleted */
	SPITupleTable *table; /* NULL if it returns no rows */
} CjRows;

/*
 * Runs a statement. `text` replaces the statement's own text where it had to be expanded, else NULL.
 * `params` may be NULL. Raises the statement's own errors, with its name in the context, and an
 * internal error if SPI returns another code than expected.
 */
extern CjRows cj_sql_run(const CjStatement *statement, const char *text, CjParams *params);

/* As cj_sql_run, for a query: as of a snapshot. What it calls must not write. */
extern CjRows cj_sql_run_at(const CjStatement *statement, const char *text, CjParams *params,
							Snapshot snapshot);

/*
 * As cj_sql_run, but the rows go to a DestReceiver and are not kept in memory; returns their number.
 */
extern uint64 cj_sql_run_into(const CjStatement *statement, const char *text, CjParams *params,
							  DestReceiver *dest);

/*
 * As cj_sql_run, for a statement over the extension's own tables: run as the owner of the extension.
 */
extern CjRows cj_sql_run_own(const CjStatement *statement, CjParams *params);

/* The same where what it returns does not matter: returns how many rows that was. */
extern uint64 cj_sql_execute_own(const CjStatement *statement, CjParams *params);

/* The same, for the first column of the first row: a text, or NULL if there is none, and a number that must be there. */
extern char *cj_sql_text_own(const CjStatement *statement, CjParams *params);
extern int64 cj_sql_int64_own(const CjStatement *statement, CjParams *params);

/* Returns the planner's cost estimate for a statement with these values of the parameters. */
extern double cj_sql_estimate(const CjStatement *statement, const char *text, CjParams *params);

/* How the planner would read the table of a statement, be it to delete from it. */
typedef enum CjAccess
{
	CJ_ACCESS_NONE,       /* not at all: by the table's constraints no row qualifies */
	CJ_ACCESS_INDEX,      /* by indexes, below a LIMIT at most: without sorting */
	CJ_ACCESS_INDEX_ONLY, /* the same by an index that has the whole condition: no row is read in vain */
	CJ_ACCESS_RANGE,      /* by a range of addresses */
	CJ_ACCESS_OTHER
} CjAccess;

extern CjAccess cj_sql_access(const CjStatement *statement, const char *text, CjParams *params);

extern void cj_sql_free(CjRows *rows);

/* Read a value; rows count from 0, columns from 1. Nulls: NULL, false, 0. */
extern char *cj_sql_text(const CjRows *rows, uint64 row, int column);
extern bool cj_sql_bool(const CjRows *rows, uint64 row, int column);
extern int64 cj_sql_int64(const CjRows *rows, uint64 row, int column);
extern Oid cj_sql_oid(const CjRows *rows, uint64 row, int column);

/* As above; a moment that is null is DT_NOBEGIN. */
extern TimestampTz cj_sql_moment(const CjRows *rows, uint64 row, int column);

/* As above for any type; varlena values are detoasted copies. */
extern Datum cj_sql_datum(const CjRows *rows, uint64 row, int column, bool *isnull);

/* Makes an array of values of a type, or of all values of a column, none of which may be null. */
extern Datum cj_sql_array(Datum *values, int count, Oid type);
extern Datum cj_sql_array_with_nulls(Datum *values, bool *nulls, int count, Oid type);
extern Datum cj_sql_column(const CjRows *rows, int column, Oid type);

/* Makes an array of a list of OIDs. */
extern Datum cj_sql_oids(List *oids);

#endif /* CJ_BASE_SQL_H */
