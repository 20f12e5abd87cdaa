/* base/utf8.h: texts of the database in UTF-8. */
#ifndef CJ_BASE_UTF8_H
#define CJ_BASE_UTF8_H

/*
 * Makes UTF-8, palloc'd, of a text in the encoding of the database. What has no counterpart there, or is in a
 * database of encoding SQL_ASCII and not UTF-8, becomes a question mark: it never fails. To be called in a
 * transaction.
 */
extern char *cj_utf8_from_database(const char *text);

#endif /* CJ_BASE_UTF8_H */
