/* monitor/html.h: texts as parts of an HTML page. */
#ifndef CJ_MONITOR_HTML_H
#define CJ_MONITOR_HTML_H

/*
 * Returns a text, which can be anything, as text of a page or as the value of an attribute in quotes: it becomes
 * no markup. The result is plain ASCII, palloc'd: every other character stands as a numeric reference, so that the page
 * says the same in whatever encoding it leaves the server; it is well-formed XML as well. Characters that HTML or XML
 * does not allow become U+FFFD; of a long text the beginning is returned, and three dots. The text is in the encoding of
 * the database; in a transaction.
 */
extern char *cj_html_text(const char *text);

#endif /* CJ_MONITOR_HTML_H */
