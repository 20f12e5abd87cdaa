/*
 * app_sql.h
 *		Statements over the app's tables: the names of a binding put into a text.
 *
 * In the text of such a statement stand, for example,
 *
 *	{challenges}				the relation
 *	{challenges.id}				a column
 *	{challenges.id=}			the equality operator of the column's type
 *	{challenges.id~}			COLLATE and the column's collation, where its type has one
 *	{challenges.status:active}	a label of the entity as a literal of the column's type
 *	{challenge_member_stats!}	the view's own definition, in parentheses, where it is a materialized
 *								view whose definition has been asked for; else the relation
 *	{?notifications.title}…{/}	the text between, if the column is there
 *
 * Values are parameters, always.
 */
#ifndef CJ_APP_SQL_H
#define CJ_APP_SQL_H

#include "binding.h"
#include "sql.h"

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
 * Returns the definition of a materialized view, in parentheses and with every name qualified, or
 * NULL if the relation is something else. Some operators cannot be qualified in SQL (that of JOIN …
 * USING, or of NULLIF): *schemas becomes what has to be added to the search_path for them to be found,
 * beginning with a comma, or an empty text. Runs queries as the owner of the extension.
 */
extern char *cj_app_sql_definition(const CjBoundEntity *entity, char **schemas);

/*
 * Make deferrable constraints immediate for this transaction, so that no check or trigger of what is
 * written is left to fire under another identity (or, in a security-restricted operation, refused).
 * To be called before becoming the owner.
 *
 * In a transaction of our own: all there are, whatever tables the app's triggers may write to.
 */
extern void cj_app_sql_set_all_constraints_immediate(void);

/*
 * In a caller's transaction, by name: those of one table (and of its partitions), and those that are
 * initially deferred on any table of the same owner, which triggers may write to. What the caller has
 * pending on them is checked now, as the caller.
 */
extern void cj_app_sql_set_constraints_immediate(const CjBinding *binding, CjEntity entity);

#endif /* CJ_APP_SQL_H */
