/*
 * utf8.c
 *		Texts of the database in UTF-8, for what leaves the server by other ways than a client.
 *
 * No SPI; the function that converts is looked up in the catalogs.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "utf8.h"

/* convert_rest converts text to UTF-8; what has no counterpart there becomes a question mark. */
static void
convert_rest(StringInfo utf8, const char *text, Oid conversion)
{
	int encoding = GetDatabaseEncoding();
	int left = strlen(text);
	unsigned char *buffer = palloc((Size) left * MAX_CONVERSION_GROWTH + 1);

	while (left > 0)
	{
		int done = pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8,
												 (unsigned char *) unconstify(char *, text), left,
												 buffer, left * MAX_CONVERSION_GROWTH + 1, true);

		appendStringInfoString(utf8, (char *) buffer);
		if (done < left)
		{
			appendStringInfoChar(utf8, '?');
			done += Min(pg_encoding_mblen(encoding, text + done), left - done);
		}
		text += done;
		left -= done;
	}
	pfree(buffer);
}

/* keep_valid copies text whose encoding is not known; what is no UTF-8 becomes a question mark. */
static void
keep_valid(StringInfo utf8, const char *text)
{
	int left = strlen(text);

	while (left > 0)
	{
		int length = pg_encoding_verifymbchar(PG_UTF8, text, left);

		if (length > 0)
			appendBinaryStringInfo(utf8, text, length);
		else
			appendStringInfoChar(utf8, '?');
		length = Max(length, 1);
		text += length;
		left -= length;
	}
}

char *
cj_utf8_from_database(const char *text)
{
	int encoding = GetDatabaseEncoding();
	Oid conversion = InvalidOid;
	StringInfoData utf8;

	if (encoding == PG_UTF8)
		return pstrdup(text);
	if (encoding != PG_SQL_ASCII)
		conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	initStringInfo(&utf8);
	if (OidIsValid(conversion))
		convert_rest(&utf8, text, conversion);
	else
		keep_valid(&utf8, text);
	return utf8.data;
}
