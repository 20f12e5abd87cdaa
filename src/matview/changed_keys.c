/*
 * matview/changed_keys.c
 *		The keys of a tracked view whose rows have to be recomputed: what the change log says.
 *
 * A change of a source that has the key was noted by the key itself. One of a source that leads to keys through
 * another table was noted by the value that leads there; which keys that are is looked up now. That is enough: a
 * row of the other table that has led to another key since has been changed itself, and its change was noted with
 * the key it had.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/catalog.h"
#include "base/identity.h"
#include "base/sql.h"
#include "base/template.h"
#include "matview/capture/change_log.h"
#include "matview/capture/key_bytes.h"
#include "matview/capture/key_set.h"
#include "matview/capture/source_catalog.h"
#include "matview/changed_keys.h"

/* How many values are looked up at once. */
#define BATCH 10000

/* How many keys and values are kept in memory, and bytes of them, whatever the share of the keys that this is. */
#define MAX_KEYS  1000000
#define MAX_BYTES (128 * 1024 * 1024)

/* $1: values. */
static const CjStatement look_up = {
	"find the keys that changed rows lead to",
	"SELECT DISTINCT t.{key} FROM {table} t WHERE t.{column}{type} OPERATOR({operator}) ANY ($1)",
	SPI_OK_SELECT};

/*
 * $1: keys. Equal ones may have different key bytes. In their order, as rows of neighbouring keys mostly lie in
 * neighbouring places.
 */
static const CjStatement sort_keys = {
	"sort the keys", "SELECT DISTINCT u.key FROM pg_catalog.unnest($1) u(key) ORDER BY u.key",
	SPI_OK_SELECT};

/* ---- what the log says ---- */

/* add_key keeps a key, or a value that leads to keys; with too many it is everything. */
static void
add_key(CjChangedKeys *changed, uint64 tag, const char *bytes, Size length)
{
	if (cj_key_set_add(changed->noted, tag, bytes, length, 0) && tag == CJ_CHANGE_KEY)
		changed->count++;
	if (changed->count > changed->limit || cj_key_set_count(changed->noted) > MAX_KEYS ||
		cj_key_set_size(changed->noted) > MAX_BYTES)
		changed->everything = true;
}

static void
note_row(int16 key_path, const char *bytes, Size length, void *arg)
{
	CjChangedKeys *changed = arg;

	if (key_path == CJ_CHANGE_EVERYTHING)
		changed->everything = true;
	else if (key_path == CJ_CHANGE_KEY && bytes == NULL)
		changed->with_null = true;
	if (changed->everything || bytes == NULL)
		return;
	add_key(changed, (uint16) key_path, bytes, length);
}

static CjChangedKeys *
make(const CjTracking *tracking, int64 limit)
{
	CjChangedKeys *changed = palloc0(sizeof(CjChangedKeys));

	changed->noted = cj_key_set_make(CurrentMemoryContext);
	changed->limit = limit;
	changed->type = getBaseType(tracking->analysis->key_type);
	return changed;
}

CjChangedKeys *
cj_changed_keys_take(const CjTracking *tracking, Snapshot snapshot, int64 limit)
{
	CjChangedKeys *changed = make(tracking, limit);

	cj_change_log_take(tracking->analysis->relid, snapshot, note_row, changed);
	return changed;
}

/* ---- the keys ---- */

/* key_path_text expands the statement that looks up the keys of a key path. */
static char *
key_path_text(const CjStoredKeyPath *key_path)
{
	static const char *const names[] = {"key", "table", "column", "type", "operator", NULL};
	Oid type = get_atttype(key_path->via, key_path->via_column);
	Oid base_type = getBaseType(type);
	List *equality = cj_catalog_equality(base_type);
	const char *values[] = {
		quote_identifier(get_attname(key_path->via, key_path->via_key, false)),
		cj_catalog_name(key_path->via),
		quote_identifier(get_attname(key_path->via, key_path->via_column, false)),
		/* operators do not look through domains for what was planted for them */
		type == base_type
			? ""
			: psprintf("::%s", format_type_extended(base_type, -1, FORMAT_TYPE_FORCE_QUALIFY)),
		psprintf("%s.%s", quote_identifier(strVal(linitial(equality))), strVal(lsecond(equality)))};

	return cj_template_expand(look_up.text, names, values);
}

/* add_typed_key adds a key, which may be null. */
static void
add_typed_key(CjChangedKeys *changed, const CjKeyType *type, Datum key, bool isnull)
{
	const char *bytes;
	Size length;

	if (isnull)
	{
		changed->with_null = true;
		return;
	}
	bytes = cj_key_bytes_bytes(&key, type, &length);
	add_key(changed, CJ_CHANGE_KEY, bytes, length);
}

static void
look_up_values(CjChangedKeys *changed, const char *text, Datum *values, int count, Oid type,
			   Snapshot snapshot)
{
	CjKeyType key_type = cj_key_bytes_type(changed->type);
	CjRows rows;

	if (count == 0)
		return;
	rows = cj_sql_run_at(&look_up, text,
						 CJ_PARAMS(CJ_ARRAY(type, cj_sql_array(values, count, type))), snapshot);
	for (uint64 row = 0; row < rows.processed && !changed->everything; row++)
	{
		bool isnull;
		Datum key = cj_sql_datum(&rows, row, 1, &isnull);

		add_typed_key(changed, &key_type, key, isnull);
	}
	cj_sql_free(&rows);
}

static void
look_up_key_path(CjChangedKeys *changed, const CjStoredKeyPath *key_path, Snapshot snapshot)
{
	Oid type = getBaseType(get_atttype(key_path->source, key_path->column));
	CjKeyType value_type = cj_key_bytes_type(type);
	Datum *values = palloc(sizeof(Datum) * BATCH);
	char *text = key_path_text(key_path);
	int noted = cj_key_set_count(changed->noted); /* keys come to it meanwhile */
	int count = 0;

	for (int i = 0; i < noted && !changed->everything; i++)
	{
		const CjKeyBytes *key = cj_key_set_nth(changed->noted, i);

		if (key->tag != (uint16) key_path->number)
			continue;
		values[count++] = cj_key_bytes_value(key->bytes, key->length, &value_type);
		if (count == BATCH)
		{
			look_up_values(changed, text, values, count, type, snapshot);
			count = 0;
		}
	}
	if (!changed->everything)
		look_up_values(changed, text, values, count, type, snapshot);
	pfree(values);
}

static void
sort(CjChangedKeys *changed, Snapshot snapshot)
{
	CjKeyType type = cj_key_bytes_type(changed->type);
	int noted = cj_key_set_count(changed->noted);
	Datum *keys = palloc(sizeof(Datum) * Max(noted, 1));
	int count = 0;
	CjRows rows;

	for (int i = 0; i < noted; i++)
	{
		const CjKeyBytes *key = cj_key_set_nth(changed->noted, i);

		if (key->tag == CJ_CHANGE_KEY)
			keys[count++] = cj_key_bytes_value(key->bytes, key->length, &type);
	}
	rows =
		cj_sql_run_at(&sort_keys, NULL,
					  CJ_PARAMS(CJ_ARRAY(changed->type, cj_sql_array(keys, count, changed->type))),
					  snapshot);
	changed->count = (int) rows.processed;
	for (int i = 0; i < changed->count; i++)
	{
		bool isnull;

		keys[i] = cj_sql_datum(&rows, i, 1, &isnull);
	}
	changed->keys = keys;
	cj_sql_free(&rows);
}

void
cj_changed_keys_find(CjChangedKeys *changed, const CjTracking *tracking, Snapshot snapshot)
{
	ListCell *cell;

	foreach(cell, tracking->key_paths)
	{
		const CjStoredKeyPath *key_path = lfirst(cell);

		if (key_path->number > 0 && !changed->everything)
			look_up_key_path(changed, key_path, snapshot);
	}
	if (!changed->everything)
		sort(changed, snapshot);
}

/* look finds the changed keys as of a snapshot; false where that cannot be said. */
static bool
look(CjChangedKeys *changed, const CjTracking *tracking, Oid owner, const char *time_zone,
	 Snapshot snapshot)
{
	CjIdentity identity;
	bool is_still;

	/* which partitions are being detached is looked up by the snapshot */
	PushActiveSnapshot(snapshot);
	is_still = cj_tracking_is_still(tracking, time_zone);
	PopActiveSnapshot();
	if (!is_still)
		return false;
	cj_change_log_read(tracking->analysis->relid, snapshot, note_row, changed);
	if (!changed->everything)
	{
		cj_identity_become_owner(&identity, owner, "pg_catalog", time_zone);
		cj_changed_keys_find(changed, tracking, snapshot);
		cj_identity_restore(&identity);
	}
	return !changed->everything;
}

CjChangedKeys *
cj_changed_keys_look(const char *view, AttrNumber key, int64 limit, const char *time_zone,
					 Snapshot *snapshot)
{
	CjStatsView described;
	CjTracking *tracking;
	CjChangedKeys *changed;

	/* what is looked at has to be as of now, and so has the snapshot */
	if (IsolationUsesXactSnapshot() || !cj_stats_view_describe(view, &described))
		return NULL;
	tracking = cj_tracking_examine(&described, time_zone);
	if (tracking->state < CJ_TRACKING_CHANGED || tracking->analysis->key != key)
		return NULL;
	changed = make(tracking, limit);
	/* what this transaction has changed itself is seen as well */
	CommandCounterIncrement();
	*snapshot = RegisterSnapshot(GetTransactionSnapshot());
	if (look(changed, tracking, described.owner, time_zone, *snapshot))
		return changed;
	UnregisterSnapshot(*snapshot);
	return NULL;
}
