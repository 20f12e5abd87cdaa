/*
 * monitor/html.c
 *		Texts as parts of an HTML page.
 *
 * No SPI.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "base/utf8.h"
#include "monitor/html.h"

/* A longer text is cut. */
#define MAX_CHARACTERS 600

#define REPLACEMENT 0xFFFD
#define ELLIPSIS    0x2026

/* Of a carriage return a parser would make a line feed, where it stands as it is. */
static const char *const references[] = {
	['&'] = "&amp;",  ['<'] = "&lt;",   ['>'] = "&gt;",
	['"'] = "&quot;", ['\''] = "&#39;", ['\r'] = "&#13;",
};

/* is_allowed returns whether a character may stand in HTML and in XML; the numbers are Unicode's. */
static bool
is_allowed(pg_wchar c)
{
	if (c < 0x20)
		return c == '\t' || c == '\n' || c == '\r';
	if (c >= 0x7F && c <= 0x9F)
		return false; /* controls, which a reference cannot name either */
	if ((c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
		return false;
	if ((c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF))
		return false; /* noncharacters */

	/* what turns the direction of the text round could make it read as something else */
	return !((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069));
}

static void
put_character(StringInfo html, pg_wchar c)
{
	if (!is_allowed(c))
		c = REPLACEMENT;
	if (c < lengthof(references) && references[c])
		appendStringInfoString(html, references[c]);
	else if (c < 0x80)
		appendStringInfoChar(html, (char) c);
	else
		appendStringInfo(html, "&#x%X;", c);
}

char *
cj_html_text(const char *text)
{
	int characters = MAX_CHARACTERS;
	StringInfoData html;

	initStringInfo(&html);
	for (const unsigned char *rest = (unsigned char *) cj_utf8_from_database(text); *rest;
		 rest += pg_utf_mblen(rest))
	{
		if (characters-- == 0)
		{
			put_character(&html, ELLIPSIS);
			break;
		}
		put_character(&html, utf8_to_unicode(rest));
	}
	return html.data;
}
