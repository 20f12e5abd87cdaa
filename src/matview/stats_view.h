/*
 * matview/stats_view.h
 *		The materialized views that refresh_challenge_stats refreshes.
 *
 * The caller is connected to SPI and in a transaction. Results are palloc'd in the current memory
 * context.
 */
#ifndef CJ_MATVIEW_STATS_VIEW_H
#define CJ_MATVIEW_STATS_VIEW_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* A relation as the catalogs have it. Certain for as long as it is locked. */
typedef struct CjStatsView
{
	const char *name; /* as registered or bound: schema-qualified, quoted where needed */
	Oid relid;
	Oid schema;
	Oid owner;
	char relkind;
	bool is_populated;
	bool has_unique_index; /* one that REFRESH … CONCURRENTLY can tell rows apart by */
} CjStatsView;

/* Returns the names of the registered views, as C strings: those that they have by now. */
extern List *cj_stats_view_registered(void);

/*
 * Returns names (C strings) in the order in which the views have to be refreshed: what a view reads,
 * through views and functions of any depth, comes before it; else by name. Each relation once.
 */
extern List *cj_stats_view_order(List *names);

/*
 * Returns the materialized views that the named ones read, and that are not among them: pairs of
 * names (C strings) in one list, the reader and what it reads.
 */
extern List *cj_stats_view_missing(List *names);

/*
 * Describes the relation of that name; false if there is none. Takes no lock and raises nothing
 * for any name.
 */
extern bool cj_stats_view_describe(const char *name, CjStatsView *view);

/* Lists what is to be locked (app_locks.h) of a view, and of all that it reads: tables of its owner with `tables`. */
extern List *cj_stats_view_locks(const CjStatsView *view, LOCKMODE lock_mode, LOCKMODE tables);

/*
 * Registers a materialized view, resolved with the caller's search_path; the caller must have the rights
 * of its owner. One that is registered already is a notice. Raises undefined_table, wrong_object_type,
 * insufficient_privilege.
 */
extern void cj_stats_view_add(const char *name);

/* Registers the view of that qualified name, if it is not. */
extern void cj_stats_view_register(const char *name);

/*
 * Removes a registered view, resolved as above; one that does not exist any more by its qualified name.
 * The caller must have the rights of its owner, if it still exists. Returns its qualified name. Raises
 * undefined_object if it is not registered, insufficient_privilege.
 */
extern const char *cj_stats_view_remove(const char *name);

/*
 * Describes a view for a change of how it is refreshed (`what`: "track it"); certain only when it is called again
 * under a lock. The caller must have the rights of its owner. Raises undefined_table, insufficient_privilege.
 */
extern void cj_stats_view_describe_as_caller(Oid relid, const char *what, CjStatsView *view);

#endif /* CJ_MATVIEW_STATS_VIEW_H */
