/*
 * base/template.c
 *		Texts with placeholders, for the notifications that the jobs write.
 *
 * Pure functions over C strings in the server's encoding: `{` and `}` are ASCII and never part of another
 * character in a server encoding.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/template.h"

/* placeholder_length returns the length of the placeholder at `p`, with its braces, or 0. */
static int
placeholder_length(const char *p)
{
	int len = 1;

	if (*p != '{')
		return 0;
	while ((p[len] >= 'a' && p[len] <= 'z') || (p[len] >= '0' && p[len] <= '9') || p[len] == '_')
		len++;
	return (len > 1 && p[len] == '}') ? len + 1 : 0;
}

static int
name_index(const char *placeholder, int len, const char *const *names)
{
	for (int i = 0; names && names[i]; i++)
	{
		if (strlen(names[i]) == len - 2 && strncmp(placeholder + 1, names[i], len - 2) == 0)
			return i;
	}
	return -1;
}

char *
cj_template_unknown(const char *text, const char *const *allowed)
{
	for (const char *p = text; *p; p++)
	{
		int len = placeholder_length(p);

		if (len > 0 && name_index(p, len, allowed) < 0)
			return pnstrdup(p + 1, len - 2);
	}
	return NULL;
}

char *
cj_template_expand(const char *text, const char *const *names, const char *const *values)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = text; *p;)
	{
		int len = placeholder_length(p);
		int i = len > 0 ? name_index(p, len, names) : -1;

		if (i < 0)
		{
			appendStringInfoChar(&out, *p++);
			continue;
		}
		if (values && values[i])
			appendStringInfoString(&out, values[i]);
		p += len;
	}
	return out.data;
}
