/* config/database_list.h: the setting challenge_jobs.databases: which databases the background worker serves. */
#ifndef CJ_CONFIG_DATABASE_LIST_H
#define CJ_CONFIG_DATABASE_LIST_H

#include "nodes/pg_list.h"

/* As many databases as one server can have served. */
#define CJ_MAX_DATABASES 64

/* Returns the names, as a list of char *, in the current memory context. Names are case-sensitive. */
extern List *cj_database_list_names(void);

/* Returns whether a database is named. */
extern bool cj_database_list_has(const char *name);

/* Returns the list with a database more, as a literal: what the setting has to be for the database to be served. */
extern char *cj_database_list_with(const char *name);

/* Defines challenge_jobs.databases. */
extern void cj_database_list_init(void);

#endif /* CJ_CONFIG_DATABASE_LIST_H */
