/* run/database_list.h: the setting challenge_jobs.databases: which databases the background worker serves. */
#ifndef CJ_RUN_DATABASE_LIST_H
#define CJ_RUN_DATABASE_LIST_H

#include "nodes/pg_list.h"

/* As many databases as one server can have served. */
#define CJ_MAX_DATABASES 64

/* Returns the names, as a list of char *, in the current memory context. Names are case-sensitive. */
extern List *cj_database_list_names(void);

/* Returns whether a database is named. */
extern bool cj_database_list_has(const char *name);

/* Defines challenge_jobs.databases. */
extern void cj_database_list_init(void);

#endif /* CJ_RUN_DATABASE_LIST_H */
