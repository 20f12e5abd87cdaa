/*
 * matview/capture/key_bytes.h
 *		A value as a string of bytes, and back.
 *
 * The key bytes of a value are what PostgreSQL keeps of it in memory: they depend on no setting, cost next to
 * nothing, and is the same for the same value in all sessions of a database. It means something only
 * together with the type that it was made from. Pure: no SPI, no catalog access.
 */
#ifndef CJ_MATVIEW_CAPTURE_KEY_BYTES_H
#define CJ_MATVIEW_CAPTURE_KEY_BYTES_H

/* How the values of a type are stored. */
typedef struct CjKeyType
{
	Oid type;
	int16 length;
	bool by_value;
} CjKeyType;

/* Describes a type, which has to exist (looked up in the catalog cache). */
extern CjKeyType cj_key_bytes_type(Oid type);

/*
 * Finds the bytes of a value that is not null: *length bytes at the address returned, which lie in *value or
 * in memory that is palloc'd if the value had to be decompressed or fetched.
 */
extern const char *cj_key_bytes_bytes(Datum *value, const CjKeyType *type, Size *length);

/* Makes the value of key bytes (palloc'd where it is not passed by value). */
extern Datum cj_key_bytes_value(const char *bytes, Size length, const CjKeyType *type);

#endif /* CJ_MATVIEW_CAPTURE_KEY_BYTES_H */
