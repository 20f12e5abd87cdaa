/*
 * monitor/html.c
 *		Texts as parts of an HTML page.
 *
 * No SPI.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/utf8.h"
#include "monitor/html.h"

#define REPLACEMENT 0xFFFD
#define ELLIPSIS    0x2026

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
	switch (c)
	{
		case '&':
			appendStringInfoString(html, "&amp;");
			break;
		case '<':
			appendStringInfoString(html, "&lt;");
			break;
		case '>':
			appendStringInfoString(html, "&gt;");
			break;
		case '"':
			appendStringInfoString(html, "&quot;");
			break;
		case '\'':
			appendStringInfoString(html, "&#39;");
			break;
		case '\r':
			/* a parser would make a line feed of it, where it stands as it is */
			appendStringInfoString(html, "&#13;");
			break;
		default:
			if (c < 0x80)
				appendStringInfoChar(html, (char) c);
			else
				appendStringInfo(html, "&#x%X;", c);
	}
}

void
cj_html_text_cut(StringInfo html, const char *text, int characters)
{
	char *utf8 = cj_utf8_from_database(text);

	for (const unsigned char *rest = (unsigned char *) utf8; *rest; rest += pg_utf_mblen(rest))
	{
		if (characters-- <= 0)
		{
			put_character(html, ELLIPSIS);
			break;
		}
		put_character(html, utf8_to_unicode(rest));
	}
	pfree(utf8);
}

void
cj_html_text(StringInfo html, const char *text)
{
	cj_html_text_cut(html, text, PG_INT32_MAX);
}

void
cj_html_element(StringInfo html, const char *tag, const char *class_name, const char *text)
{
	appendStringInfo(html, "<%s", tag);
	if (class_name)
		appendStringInfo(html, " class=\"%s\"", class_name);
	appendStringInfoChar(html, '>');
	cj_html_text(html, text);
	appendStringInfo(html, "</%s>", tag);
}
