/* base/hint.c: hints that are statements. */
#include "postgres.h"

#include "base/hint.h"

#define RUN         "Run: "
#define FILL_IN_RUN "Fill in and run: "

/* has_placeholder finds <column>, <schema>.<table> and the like, which no SQL of ours has outside literals. */
static bool
has_placeholder(const char *statement)
{
	for (const char *p = strchr(statement, '<'); p; p = strchr(p + 1, '<'))
	{
		size_t length = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz");

		if (length > 0 && p[1 + length] == '>')
			return true;
	}
	return false;
}

char *
cj_hint_run(const char *statement)
{
	if (statement == NULL)
		return NULL;
	return psprintf("%s%s", has_placeholder(statement) ? FILL_IN_RUN : RUN, statement);
}

const char *
cj_hint_statement(const char *hint)
{
	if (strncmp(hint, RUN, strlen(RUN)) != 0 || hint[strlen(hint) - 1] != ';')
		return NULL;
	return hint + strlen(RUN);
}
