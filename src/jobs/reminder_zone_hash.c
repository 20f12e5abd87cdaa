/*
 * jobs/reminder_zone_hash.c
 *		What the outcome of looking at a zone depends on, condensed to a number.
 *
 * Where it cannot be told what has changed there is no hash, and everything is looked at: a user who is
 * missed costs more than a scan.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"

#include "app/app_sql.h"
#include "base/sql.h"
#include "jobs/reminder_zone_hash.h"

/*
 * $1: tables, $2: the database. The counters begin anew after a crash of the server, or when somebody resets
 * them: then they could come to the same number again, so the times at which they did begin belong to them.
 * So do the tables with all their parts and the files they are in: what comes with a part that is attached,
 * or is changed as a table is rewritten, is not counted. Null where rows are written elsewhere, or where
 * a session may have committed rows that are not counted yet: it hands in its counters when it is idle, a
 * second after at most, but never while a statement or a transaction goes on.
 */
static const CjStatement count_written = {
	"count the rows ever written to some tables",
	"WITH RECURSIVE t(oid) AS ("
	"    SELECT u.oid FROM pg_catalog.unnest($1) AS u(oid)"
	"     UNION "
	"    SELECT i.inhrelid FROM t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid"
	")"
	"SELECT pg_catalog.concat_ws(' ',"
	"           pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(c.oid)"
	"                          + pg_catalog.pg_stat_get_tuples_updated(c.oid)"
	"                          + pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid)"
	"                          + pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)),"
	"           EXTRACT(epoch FROM pg_catalog.pg_stat_get_bgwriter_stat_reset_time()),"
	"           EXTRACT(epoch FROM pg_catalog.pg_stat_get_db_stat_reset_time($2)),"
	"           pg_catalog.string_agg(c.oid || ':' || c.relfilenode, ',' ORDER BY c.oid))"
	"  FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid"
	" HAVING pg_catalog.bool_and(c.relkind IN ('r', 'p'))"
	"   AND NOT EXISTS (SELECT 1"
	"                     FROM pg_catalog.pg_stat_activity a"
	"                    WHERE a.datid = $2"
	"                      AND a.pid <> pg_catalog.pg_backend_pid()"
	"                      AND (a.state = 'disabled' OR COALESCE(a.state, a.backend_type) IS NULL"
	"                           OR a.state <> 'idle'"
	"                              AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker', 'walsender')"
	"                              AND LEAST(a.xact_start, a.state_change)"
	"                                  < pg_catalog.clock_timestamp() - interval '10 seconds'))",
	SPI_OK_SELECT};

/* count_written_rows reports how many rows have ever been written to the tables that are read; or NULL. */
static char *
count_written_rows(const CjBinding *binding)
{
	Datum tables[] = {ObjectIdGetDatum(binding->entities[CJ_USERS].relid),
					  ObjectIdGetDatum(binding->entities[CJ_CHALLENGE_MEMBERS].relid),
					  ObjectIdGetDatum(binding->entities[CJ_CHALLENGES].relid)};
	CjParams params = {0};

	cj_sql_param_array(&params, OIDOID, cj_sql_array(tables, lengthof(tables), OIDOID));
	cj_sql_param(&params, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	return cj_sql_text_own(&count_written, &params);
}

/*
 * cj_reminder_zone_hash_make makes the hash. The counters are ahead of the snapshot of a REPEATABLE READ caller,
 * who does not see all that they stand for; rows of distributed tables are written to shards.
 */
uint64
cj_reminder_zone_hash_make(const CjRun *run, const char *time_zone, const CjBinding *binding)
{
	StringInfoData text;
	const char *written;

	if (!pgstat_track_counts || !cj_app_sql_can_lock_rows() ||
		(IsolationUsesXactSnapshot() && !run->own_transactions))
		return 0;
	/* the caller's transaction may remember what the counters were some time ago */
	pgstat_clear_snapshot();
	written = count_written_rows(binding);
	if (written == NULL)
		return 0;
	initStringInfo(&text);
	appendBinaryStringInfo(&text, (char *) run->config->settings,
						   VARSIZE_ANY(run->config->settings));
	appendStringInfo(&text, "|%s|%s", time_zone, written);
	for (int i = 0; i < CJ_ENTITY_COUNT; i++)
	{
		const CjBoundEntity *entity = &binding->entities[i];

		appendStringInfo(&text, "|%u", entity->relid);
		for (int j = 0; j < CJ_MAX_COLUMNS; j++)
			appendStringInfo(&text, ",%d", entity->columns[j].number);
		for (int j = 0; j < CJ_MAX_LABELS; j++)
			appendStringInfo(&text, ",%s", entity->labels[j] ? entity->labels[j] : "");
	}
	return DatumGetUInt64(hash_any_extended((unsigned char *) text.data, text.len, 0));
}
