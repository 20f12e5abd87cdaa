/*
 * monitor/html.h
 *		Texts as parts of an HTML page.
 *
 * What is appended is plain ASCII: every other character stands as a numeric reference, so that the page says
 * the same in whatever encoding it leaves the server. It is well-formed XML as well.
 */
#ifndef CJ_MONITOR_HTML_H
#define CJ_MONITOR_HTML_H

#include "lib/stringinfo.h"

/*
 * Appends a text, which can be anything, as text of the page or as the value of an attribute in quotes: it
 * becomes no markup. Characters that HTML or XML does not allow become U+FFFD. The text is in the encoding of
 * the database; in a transaction.
 */
extern void cj_html_text(StringInfo html, const char *text);

/* The same of the first so many characters; three dots if there are more. */
extern void cj_html_text_cut(StringInfo html, const char *text, int characters);

/* Appends an element with a class (NULL: none) that holds a text. */
extern void cj_html_element(StringInfo html, const char *tag, const char *class_name,
							const char *text);

#endif /* CJ_MONITOR_HTML_H */
