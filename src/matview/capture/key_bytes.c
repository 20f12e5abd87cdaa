/*
 * matview/capture/key_bytes.c
 *		A value as a string of bytes, and back.
 *
 * That equal values can have different key bytes (numeric 1.0 and 1.00, text under some collations) does no harm:
 * both are noted, and both mean the same rows of the view.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "utils/lsyscache.h"

#include "matview/capture/key_bytes.h"

CjKeyType
cj_key_bytes_type(Oid type)
{
	CjKeyType result = {type};

	get_typlenbyval(type, &result.length, &result.by_value);
	return result;
}

const char *
cj_key_bytes_bytes(Datum *value, const CjKeyType *type, Size *length)
{
	if (type->by_value)
	{
		*length = sizeof(Datum);
		return (const char *) value;
	}
	if (type->length == -1)
	{
		/* without its header, which is of one or four bytes for the same value */
		struct varlena *flat = PG_DETOAST_DATUM_PACKED(*value);

		*length = VARSIZE_ANY_EXHDR(flat);
		return VARDATA_ANY(flat);
	}
	*length = type->length == -2 ? strlen(DatumGetCString(*value)) + 1 : type->length;
	return DatumGetPointer(*value);
}

Datum
cj_key_bytes_value(const char *bytes, Size length, const CjKeyType *type)
{
	Datum value;
	char *copy;

	if (type->by_value)
	{
		if (length != sizeof(Datum))
			elog(ERROR, "a key has %zu bytes", length);
		memcpy(&value, bytes, sizeof(Datum));
		return value;
	}
	if (type->length == -1)
	{
		copy = palloc(length + VARHDRSZ);
		SET_VARSIZE(copy, length + VARHDRSZ);
		memcpy(VARDATA(copy), bytes, length);
		return PointerGetDatum(copy);
	}
	if (type->length > 0 && length != type->length)
		elog(ERROR, "a key has %zu bytes", length);
	copy = palloc(Max(length, 1));
	memcpy(copy, bytes, length);
	return PointerGetDatum(copy);
}
