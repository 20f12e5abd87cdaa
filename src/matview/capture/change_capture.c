/*
 * matview/capture/change_capture.c
 *		Noting the keys of changed rows: the trigger on the sources of tracked views.
 *
 * Called by PostgreSQL for each row that is changed, in whatever session, as whatever role, so it has to be
 * cheap, and to ask for no rights. What has to be noted is known from a cache of what stands in
 * tracked_source, which is made anew when PostgreSQL says that the table has changed: whoever
 * changes tracked_source says so (cj_change_capture_invalidate), with a lock on the table that no writer has.
 *
 * A key is noted at once, and once in a transaction: a set in memory knows what has been. It is tied to the
 * transaction; what a subtransaction has noted is taken out when that is aborted, for its rows of the log are
 * gone as well. Nothing is left to be done at commit, so that it does not matter how a transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "matview/capture/change_capture.h"
#include "matview/capture/change_log.h"
#include "matview/capture/key_bytes.h"
#include "matview/capture/key_set.h"
#include "matview/capture/source_catalog.h"

/*
 * How many keys a transaction remembers, and bytes of them. One that changes more has changed so much that
 * everything is better recomputed: that is noted instead, and nothing after it.
 */
#define MAX_NOTED       65536
#define MAX_NOTED_BYTES (16 * 1024 * 1024)

/* ---- what is to be noted for a table ---- */

/* A column whose value is noted. */
typedef struct KeyPath
{
	int16 number;
	AttrNumber column; /* of the table itself, be it a partition; 0: whole-view */
	CjKeyType type;
} KeyPath;

/* A view that reads the table. */
typedef struct Reader
{
	Oid view;
	List *columns; /* those that it reads, as integers */
	int key_path_count;
	KeyPath *key_paths;
} Reader;

/* A table, as the cache has it. */
typedef struct Source
{
	Oid relid; /* key of the hash table */
	bool is_valid;
	Oid log;
	AttrNumber last_column; /* the last one that is looked at */
	int reader_count;
	Reader *readers;
	MemoryContext memory; /* of all of it; NULL: there is nothing */
} Source;

/* The cache, by OID of the table; lives as long as the session. */
static HTAB *sources = NULL;

/* forget_source is called when a relation has changed; InvalidOid: any may have. */
static void
forget_source(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS all;
	Source *source;

	if (sources == NULL)
		return;
	if (OidIsValid(relid))
	{
		source = hash_search(sources, &relid, HASH_FIND, NULL);
		if (source)
			source->is_valid = false;
		return;
	}
	hash_seq_init(&all, sources);
	while ((source = hash_seq_search(&all)) != NULL)
		source->is_valid = false;
}

/*
 * own_column returns the number that a column of the root has in a table: partitions have their own. 0: it has been
 * dropped, and before it the view that reads it.
 */
static AttrNumber
own_column(Oid root, AttrNumber column, Oid relid)
{
	AttrNumber own = root == relid ? column : get_attnum(relid, get_attname(root, column, false));

	return OidIsValid(get_atttype(relid, own)) ? own : InvalidAttrNumber;
}

static Reader *
find_reader(Source *source, Oid view)
{
	for (int i = 0; i < source->reader_count; i++)
	{
		if (source->readers[i].view == view)
			return &source->readers[i];
	}
	source->readers[source->reader_count].view = view;
	return &source->readers[source->reader_count++];
}

static void
add_key_path(Source *source, const CjStoredKeyPath *stored, int max_key_paths)
{
	Reader *reader = find_reader(source, stored->view);
	KeyPath *key_path;
	ListCell *cell;

	if (reader->key_paths == NULL)
		reader->key_paths = palloc0(sizeof(KeyPath) * max_key_paths);
	key_path = &reader->key_paths[reader->key_path_count++];
	key_path->number = stored->number;
	if (stored->column > 0)
		key_path->column = own_column(stored->source, stored->column, source->relid);
	if (key_path->column > 0)
	{
		key_path->type = cj_key_bytes_type(get_atttype(source->relid, key_path->column));
		source->last_column = Max(source->last_column, key_path->column);
	}

	foreach(cell, stored->columns)
	{
		AttrNumber column = own_column(stored->source, lfirst_int(cell), source->relid);

		if (column == InvalidAttrNumber)
			continue;
		reader->columns = list_append_unique_int(reader->columns, column);
		source->last_column = Max(source->last_column, column);
	}
}

/* list_key_paths returns the key paths from a table, and from those that it is a partition of. */
static List *
list_key_paths(Relation rel)
{
	List *key_paths = cj_source_catalog_of_table(RelationGetRelid(rel));
	ListCell *cell;

	if (rel->rd_rel->relispartition)
	{
		foreach(cell, get_partition_ancestors(RelationGetRelid(rel)))
			key_paths = list_concat(key_paths, cj_source_catalog_of_table(lfirst_oid(cell)));
	}
	return key_paths;
}

static void
load_source(Source *source, Relation rel)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "challenge_jobs key_paths",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	List *key_paths;
	ListCell *cell;

	if (source->memory)
		MemoryContextDelete(source->memory);
	source->memory = NULL;
	source->readers = NULL;
	source->reader_count = 0;
	source->last_column = 0;

	/* what comes to be known from here on makes the entry invalid again */
	source->is_valid = true;
	key_paths = list_key_paths(rel);
	if (key_paths != NIL)
	{
		source->log = cj_change_log_table("change_log");
		source->memory = AllocSetContextCreate(CacheMemoryContext, "challenge_jobs source",
											   ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(source->memory);
		source->readers = palloc0(sizeof(Reader) * list_length(key_paths));
		foreach(cell, key_paths)
			add_key_path(source, lfirst(cell), list_length(key_paths));
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

static Source *
find_source(Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	Source *source;
	bool found;

	if (sources == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid),
						   .entrysize = sizeof(Source),
						   .hcxt = CacheMemoryContext};

		sources = hash_create("challenge_jobs sources", 16, &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	source = hash_search(sources, &relid, HASH_ENTER, &found);
	if (!found)
	{
		source->is_valid = false;
		source->memory = NULL;
	}

	/*
	 * What has been read stays right for this row, even if PostgreSQL has said meanwhile that the table has changed: the
	 * key paths do not, as we have a lock on it. The next row reads it anew.
	 */
	if (!source->is_valid)
	{
		PG_TRY();
		{
			load_source(source, rel);
		}
		PG_CATCH();
		{
			source->is_valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return source;
}

/* ---- what has been noted in this transaction ---- */

/* Of the transaction that is under way; NULL: nothing. The marks are subtransactions. */
static CjKeySet *noted = NULL;

/* How many rows of the log say that everything has changed. */
static int everything_count = 0;

static uint64
tag_of(Oid view, int16 key_path)
{
	return ((uint64) view << 16) | (uint16) key_path;
}

/* note notes a value for a view, unless that has been done. */
static void
note(Oid log, Oid view, int16 key_path, const char *bytes, Size length)
{
	if (noted == NULL)
	{
		noted =
			cj_key_set_make(AllocSetContextCreate(TopTransactionContext, "challenge_jobs changes",
												  ALLOCSET_DEFAULT_SIZES));
		everything_count = 0;
	}
	if (everything_count > 0 && cj_key_set_has(noted, tag_of(view, CJ_CHANGE_EVERYTHING), NULL, 0))
		return;
	if (cj_key_set_has(noted, tag_of(view, key_path), bytes, length))
		return;
	if (cj_key_set_count(noted) >= MAX_NOTED || cj_key_set_size(noted) >= MAX_NOTED_BYTES)
	{
		key_path = CJ_CHANGE_EVERYTHING;
		bytes = NULL;
		length = 0;
	}

	/* what fails here is rolled back, with the subtransaction that it belongs to */
	cj_change_log_append(log, view, key_path, bytes, length);
	(void) cj_key_set_add(noted, tag_of(view, key_path), bytes, length,
						  GetCurrentSubTransactionId());
	if (key_path == CJ_CHANGE_EVERYTHING)
		everything_count++;
}

/* forget_since takes out what a subtransaction has noted: those noted last. */
static void
forget_since(SubTransactionId subtransaction)
{
	int count;

	while ((count = cj_key_set_count(noted)) > 0)
	{
		const CjKeyBytes *key = cj_key_set_nth(noted, count - 1);

		if (key->mark < subtransaction)
			break;
		if ((uint16) key->tag == (uint16) CJ_CHANGE_EVERYTHING)
			everything_count--;
		cj_key_set_pop(noted);
	}
}

/*
 * end_subtransaction is called when a subtransaction ends. Whatever was noted since it began belongs to it or to
 * one inside of it, and their numbers are not below its own.
 */
static void
end_subtransaction(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && noted)
		forget_since(own);
}

/* end_transaction is called when a transaction ends; the memory goes with it. */
static void
end_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			noted = NULL;
			break;
		default:
			break;
	}
}

/* ---- the trigger ---- */

static void
note_row(const Source *source, const Reader *reader, TupleTableSlot *row)
{
	for (int i = 0; i < reader->key_path_count; i++)
	{
		const KeyPath *key_path = &reader->key_paths[i];
		Datum value;
		bool isnull;
		const char *bytes;
		Size length;

		if (key_path->column == 0)
		{
			note(source->log, reader->view, CJ_CHANGE_EVERYTHING, NULL, 0);
			continue;
		}
		value = slot_getattr(row, key_path->column, &isnull);
		if (!isnull)
		{
			bytes = cj_key_bytes_bytes(&value, &key_path->type, &length);
			note(source->log, reader->view, key_path->number, bytes, length);
		}
		else if (key_path->number == CJ_CHANGE_KEY)
			note(source->log, reader->view, key_path->number, NULL, 0);
		/* through another table a null leads nowhere */
	}
}

static bool
is_changed(const Reader *reader, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	TupleDesc desc = old_row->tts_tupleDescriptor;
	ListCell *cell;

	foreach(cell, reader->columns)
	{
		int column = lfirst_int(cell) - 1;
		Form_pg_attribute attribute = TupleDescAttr(desc, column);

		if (old_row->tts_isnull[column] != new_row->tts_isnull[column])
			return true;
		/* what is stored elsewhere and was not changed has the same address there */
		if (!old_row->tts_isnull[column] &&
			!datumIsEqual(old_row->tts_values[column], new_row->tts_values[column],
						  attribute->attbyval, attribute->attlen))
			return true;
	}
	return false;
}

/* note_everything notes that all rows of the views may be other ones. */
static void
note_everything(const Source *source)
{
	for (int i = 0; i < source->reader_count; i++)
		note(source->log, source->readers[i].view, CJ_CHANGE_EVERYTHING, NULL, 0);
}

/* note_update notes an updated row: where it led to, and where it leads to now. */
static void
note_update(const Source *source, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	slot_getsomeattrs(old_row, source->last_column);
	slot_getsomeattrs(new_row, source->last_column);
	for (int i = 0; i < source->reader_count; i++)
	{
		const Reader *reader = &source->readers[i];

		if (!is_changed(reader, old_row, new_row))
			continue;
		note_row(source, reader, old_row);
		note_row(source, reader, new_row);
	}
}

void
cj_change_capture_note(TriggerData *trigger)
{
	Source *source = find_source(trigger->tg_relation);

	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) == TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this is the trigger function of tracked views"),
				 errhint("Fill in and run: SELECT * FROM challenge_jobs.track('<schema>.<view>');")));
	if (source->reader_count == 0 || !OidIsValid(source->log))
		return;

	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		note_everything(source);
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		note_update(source, trigger->tg_trigslot, trigger->tg_newslot);
	else
	{
		for (int i = 0; i < source->reader_count; i++)
			note_row(source, &source->readers[i], trigger->tg_trigslot);
	}
}

void
cj_change_capture_forget(void)
{
	if (noted == NULL)
		return;
	/* a context of its own, in which the set lies as well */
	MemoryContextDelete(GetMemoryChunkContext(noted));
	noted = NULL;
}

void
cj_change_capture_invalidate(Oid source)
{
	ListCell *cell;

	/* what has been dropped needs no word */
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(source)))
		return;
	foreach(cell, find_all_inheritors(source, NoLock, NULL))
	{
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell))))
			CacheInvalidateRelcacheByRelid(lfirst_oid(cell));
	}
}

void
cj_change_capture_init(void)
{
	CacheRegisterRelcacheCallback(forget_source, (Datum) 0);
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_subtransaction, NULL);
}
