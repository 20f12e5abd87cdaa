/*
 * base/template.h
 *		Texts with placeholders: `{name}`, where name is lower-case letters, digits and underscores.
 *
 * Any other use of braces is literal text. Pure: no SPI, no catalog access.
 */
#ifndef CJ_BASE_TEMPLATE_H
#define CJ_BASE_TEMPLATE_H

/*
 * Finds the first placeholder of `text` that is not in the NULL-terminated list `allowed`. Returns
 * its name (palloc'd), or NULL if there is none. `allowed` may be NULL: then nothing is allowed.
 */
extern char *cj_template_unknown(const char *text, const char *const *allowed);

/*
 * Replaces each placeholder names[i] by values[i]; `names` is NULL-terminated and values that are NULL stand for an
 * empty text, and no values at all for nothing but such. The values are not searched for placeholders again.
 * Placeholders not in `names` stay as they are. The result is palloc'd.
 */
extern char *cj_template_expand(const char *text, const char *const *names,
								const char *const *values);

#endif /* CJ_BASE_TEMPLATE_H */
