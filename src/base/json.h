/* base/json.h: writing JSON into a StringInfo: each call appends one value, with the comma before it. */
#ifndef CJ_BASE_JSON_H
#define CJ_BASE_JSON_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Opens and closes an object ('{' and '}') or an array. The name is NULL at the top and in an array, here and below. */
extern void cj_json_begin(StringInfo json, const char *name, char bracket);
extern void cj_json_end(StringInfo json, char bracket);

extern void cj_json_text(StringInfo json, const char *name, const char *text); /* NULL: null */
extern void cj_json_int64(StringInfo json, const char *name, int64 number);

/* Appends what has been written elsewhere: a value, or members of the object. */
extern void cj_json_raw(StringInfo json, const char *name, const char *written);

extern Jsonb *cj_json_to_jsonb(const StringInfoData *json);

#endif /* CJ_BASE_JSON_H */
