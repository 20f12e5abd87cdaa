/*
 * matview/view_names.h
 *		The names of registered and tracked views: they follow the views that they stand for.
 *
 * The caller is connected to SPI and in a transaction.
 */
#ifndef CJ_MATVIEW_VIEW_NAMES_H
#define CJ_MATVIEW_VIEW_NAMES_H

/*
 * Sees to it that stored names are those that the views have by now. To be called before names are looked for. Does
 * nothing in a transaction with an old snapshot.
 */
extern void cj_view_names_follow(void);

/*
 * Notes which views the names stand for, so that they can be followed; as above. To be called after a name has been
 * stored.
 */
extern void cj_view_names_note(void);

/*
 * Returns the name by now (palloc'd) of the view that a stored name has stood for and that does not lead anywhere any
 * more; or NULL.
 */
extern char *cj_view_names_find(const char *name);

#endif /* CJ_MATVIEW_VIEW_NAMES_H */
