/*
 * jobs/key_list.h
 *		A list of keys of the app that outlives transactions.
 *
 * A tuplestore: it goes to disk when it is large. Each key can have values of other types beside it.
 * The list knows no rollback. It is read from the beginning to the end in chunks.
 */
#ifndef CJ_JOBS_KEY_LIST_H
#define CJ_JOBS_KEY_LIST_H

#include "executor/tuptable.h"
#include "utils/tuplestore.h"

#include "base/sql.h"

#define CJ_KEY_LIST_MAX_VALUES 4

typedef struct CjKeyList
{
	Oid key_type;
	int value_count;
	Tuplestorestate *store;
	TupleTableSlot *slot;
	int64 read_count;
	MemoryContext memory; /* of the list */

	/* the chunk at hand, in a context that the next chunk resets */
	MemoryContext chunk;
	int count;
	Datum *keys;
	Datum *values[CJ_KEY_LIST_MAX_VALUES];
	bool *nulls[CJ_KEY_LIST_MAX_VALUES];
} CjKeyList;

/* Makes an empty list in `memory`, which has to live as long as it is used. */
extern CjKeyList *cj_key_list_create(MemoryContext memory, Oid key_type, int value_count,
									 const Oid *value_types);

/*
 * Raises datatype_mismatch if the keys are not of that type: a column's type can be changed between
 * the transactions that a list outlives.
 */
extern void cj_key_list_check_type(const CjKeyList *list, Oid key_type);

/*
 * Appends what a statement returns: a key, and the values that the list has. `text` is the
 * statement expanded. Returns the number of rows. Of a statement that fails some may stay.
 */
extern int64 cj_key_list_fill(CjKeyList *list, const CjStatement *statement, const char *text,
							  CjParams *params);

/* Appends a row of a result: the key and its values are the first columns. */
extern void cj_key_list_append(CjKeyList *list, const CjRows *rows, uint64 row);

/* Reads the next chunk of at most `size` keys; false if there are no more. Returns how many have not been read. */
extern bool cj_key_list_read(CjKeyList *list, int size);
extern int64 cj_key_list_unread(const CjKeyList *list);

/* Goes back to the beginning; removes all keys. */
extern void cj_key_list_rewind(CjKeyList *list);
extern void cj_key_list_clear(CjKeyList *list);

/* Returns some keys of the chunk at hand as an array. */
extern Datum cj_key_list_keys(const CjKeyList *list, int from, int to);

/* Returns the readable form of a key of the chunk at hand. */
extern char *cj_key_list_describe(const CjKeyList *list, int item);

/* Frees the list and its file; does nothing with NULL. A file would outlive the transaction. */
extern void cj_key_list_free(CjKeyList *list);

#endif /* CJ_JOBS_KEY_LIST_H */
