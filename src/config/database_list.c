/*
 * config/database_list.c
 *		The setting challenge_jobs.databases: which databases the background worker serves.
 *
 * Names stand in the list as they are in pg_database, in double quotes where they contain commas or blanks; unlike
 * SQL identifiers they are not folded to lower case, as nowhere in postgresql.conf.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "config/database_list.h"

static char *databases = NULL;

/* check_databases refuses lists that cannot be read, or are too long for the shared memory. */
static bool
check_databases(char **value, void **extra, GucSource source)
{
	List *names = NIL;
	bool ok = SplitGUCList(pstrdup(*value), ',', &names);

	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	else if (list_length(names) > CJ_MAX_DATABASES)
	{
		GUC_check_errdetail("At most %d databases can be served.", CJ_MAX_DATABASES);
		ok = false;
	}
	list_free(names);
	return ok;
}

List *
cj_database_list_names(void)
{
	List *names = NIL;

	if (databases)
		(void) SplitGUCList(pstrdup(databases), ',', &names);
	return names;
}

bool
cj_database_list_has(const char *name)
{
	ListCell *cell;

	foreach(cell, cj_database_list_names())
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

char *
cj_database_list_with(const char *name)
{
	StringInfoData names;
	ListCell *cell;

	initStringInfo(&names);
	foreach(cell, cj_database_list_names())
		appendStringInfo(&names, "%s, ", quote_identifier(lfirst(cell)));
	appendStringInfoString(&names, quote_identifier(name));
	return quote_literal_cstr(names.data);
}

void
cj_database_list_init(void)
{
	/*
	 * Databases that do not exist (yet) or do not have the extension (yet) are no error: the worker says
	 * so once, and begins when they are there.
	 */
	DefineCustomStringVariable("challenge_jobs.databases",
							   "Databases that the background worker of challenge_jobs serves.",
							   "Comma-separated list of names.",
							   &databases,
							   "",
							   PGC_SIGHUP,
							   GUC_LIST_INPUT,
							   check_databases, NULL, NULL);
}
