/* base/json.c: writing JSON into a StringInfo: each call appends one value, with the comma before it. */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"

#include "base/json.h"

static void
begin_value(StringInfo json, const char *name)
{
	if (json->len > 0 && strchr("{[", json->data[json->len - 1]) == NULL)
		appendStringInfoString(json, ", ");
	if (name)
	{
		escape_json(json, name);
		appendStringInfoString(json, ": ");
	}
}

void
cj_json_begin(StringInfo json, const char *name, char bracket)
{
	begin_value(json, name);
	appendStringInfoChar(json, bracket);
}

void
cj_json_end(StringInfo json, char bracket)
{
	appendStringInfoChar(json, bracket);
}

void
cj_json_text(StringInfo json, const char *name, const char *text)
{
	begin_value(json, name);
	if (text)
		escape_json(json, text);
	else
		appendStringInfoString(json, "null");
}

void
cj_json_int64(StringInfo json, const char *name, int64 number)
{
	begin_value(json, name);
	appendStringInfo(json, INT64_FORMAT, number);
}

void
cj_json_raw(StringInfo json, const char *name, const char *written)
{
	begin_value(json, name);
	appendStringInfoString(json, written);
}

Jsonb *
cj_json_to_jsonb(const StringInfoData *json)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data)));
}
