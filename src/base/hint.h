/* base/hint.h: hints that are statements. */
#ifndef CJ_BASE_HINT_H
#define CJ_BASE_HINT_H

/*
 * Returns a statement as a hint: "Run: …;", or "Fill in and run: …;" where it has a placeholder, as in
 * <schema>.<table>. NULL stays NULL.
 */
extern char *cj_hint_run(const char *statement);

/* Returns the statement of a hint that can be run as it stands; NULL: it is prose, or has a placeholder. */
extern const char *cj_hint_statement(const char *hint);

#endif
