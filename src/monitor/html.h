/*
 * monitor/html.h
 *		Texts as parts of an HTML page.
 *
 * What is returned is plain ASCII, palloc'd: every other character stands as a numeric reference, so that the page says
 * the same in whatever encoding it leaves the server. It is well-formed XML as well.
 */
#ifndef CJ_MONITOR_HTML_H
#define CJ_MONITOR_HTML_H

/*
 * Returns a text, which can be anything, as text of the page or as the value of an attribute in quotes: it
 * becomes no markup. Characters that HTML or XML does not allow become U+FFFD. The text is in the encoding of
 * the database; in a transaction.
 */
extern char *cj_html_text(const char *text);

/* The same of the first so many characters; three dots if there are more. */
extern char *cj_html_text_cut(const char *text, int characters);

#endif /* CJ_MONITOR_HTML_H */
