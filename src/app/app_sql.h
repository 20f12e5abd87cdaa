/*
 * app/app_sql.h
 *		Statements over the app's tables: the names of a binding put into a text.
 *
 * In the text of such a statement stand, for example,
 *
 *	{challenges}				the relation
 *	{challenges.id}				a column
 *	{challenges.id=}			the equality operator of the column's type
 *	{challenges.id>}			the operator that sorts after it
 *	{challenges.id~}			after a column on the right of an operator: a cast to the base type of a
 *								domain, and COLLATE with the column's collation, where there are such
 *	{challenges.status:active}	a label of the entity as a literal of the column's type
 *	{challenge_member_stats!}	the view's own definition, in parentheses, where it is a materialized
 *								view whose definition has been asked for; else the relation
 *	{?notifications.title}…{/}	the text between, if the column is there
 *
 * Values are parameters, always.
 */
#ifndef CJ_APP_APP_SQL_H
#define CJ_APP_APP_SQL_H

#include "app/binding.h"
#include "base/sql.h"

/*
 * The beginning of a query: listed(value) has the values of a column, each once, and null if there are such rows. One look
 * into an index for each value: from one to the next greater one.
 */
#define CJ_LISTED_BY_INDEX(table, column)                                                       \
	"WITH RECURSIVE next(value) AS (\n"                                                         \
	"    (SELECT t.{" column "}\n"                                                              \
	"       FROM {" table "} t\n"                                                               \
	"      WHERE t.{" column "} IS NOT NULL\n"                                                  \
	"      ORDER BY 1\n"                                                                        \
	"      LIMIT 1)\n"                                                                          \
	"     UNION ALL\n"                                                                          \
	"    SELECT (SELECT t.{" column "}\n"                                                       \
	"              FROM {" table "} t\n"                                                        \
	"             WHERE t.{" column "} {" column ">} n.value\n"                                 \
	"             ORDER BY 1\n"                                                                 \
	"             LIMIT 1)\n"                                                                   \
	"      FROM next n\n"                                                                       \
	"     WHERE n.value IS NOT NULL\n"                                                          \
	"), listed(value) AS (\n"                                                                   \
	"    SELECT n.value FROM next n WHERE n.value IS NOT NULL\n"                                \
	"     UNION ALL\n"                                                                          \
	"    SELECT NULL WHERE EXISTS (SELECT 1 FROM {" table "} t WHERE t.{" column "} IS NULL)\n" \
	")\n"

/*
 * Returns the text of a statement with the names of the binding in it (palloc'd). `definition` is
 * what stands for {challenge_member_stats!}, or NULL for the relation itself.
 */
extern char *cj_app_sql_expand(const CjStatement *statement, const CjBinding *binding,
							   const char *definition);

/* Expands and runs a statement; the caller has become the owner of the tables. */
extern CjRows cj_app_sql_run(const CjStatement *statement, const CjBinding *binding,
							 const char *definition, CjParams *params);

/*
 * Returns the definition of a materialized view, in parentheses, or NULL if the relation is something
 * else. *search_path becomes the one that it has to be run with: pg_catalog, and the schemas of
 * operators that cannot be qualified in SQL (that of JOIN … USING, or of NULLIF). Nothing else may be
 * in it, since a function or operator planted under the name of a built-in one would be called.
 * Raises insufficient_privilege if that could be done in one of those schemas. Runs queries as the
 * owner of the extension.
 */
extern char *cj_app_sql_definition(const CjBoundEntity *entity, char **search_path);

/*
 * Returns whether rows can be locked one by one and be found by their addresses: not on distributed
 * tables, where an address names a row in every shard.
 */
extern bool cj_app_sql_can_lock_rows(void);

/*
 * Make deferrable constraints immediate for this transaction, so that no check or trigger of what is
 * written is left to fire under another identity (or, in a security-restricted operation, refused).
 * To be called before becoming the owner.
 *
 * In a transaction of our own: all there are, whatever tables the app's triggers may write to.
 */
extern void cj_app_sql_set_all_constraints_immediate(void);

/*
 * In a caller's transaction, by name: those of one table (and of its partitions), those that refer to
 * it, and those of any table of the same owner, which triggers may write to. What the caller has
 * pending on them is checked now, as the caller.
 */
extern void cj_app_sql_set_constraints_immediate(const CjBinding *binding, CjEntity entity);

#endif /* CJ_APP_APP_SQL_H */
