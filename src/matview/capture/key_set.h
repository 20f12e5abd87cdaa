/*
 * matview/capture/key_set.h
 *		A set of key bytes of values, in the order in which they were added.
 *
 * Each has a tag, by which sets of different things are kept in one, and a mark, which is the caller's. Pure: no
 * SPI, no catalog access.
 */
#ifndef CJ_MATVIEW_CAPTURE_KEY_SET_H
#define CJ_MATVIEW_CAPTURE_KEY_SET_H

typedef struct CjKeyBytes
{
	uint64 tag;
	uint32 mark;
	uint32 hash;
	bool isnull;
	Size length;
	char bytes[FLEXIBLE_ARRAY_MEMBER];
} CjKeyBytes;

typedef struct CjKeySet CjKeySet;

/* Makes an empty set; all of it lives in that memory context. */
extern CjKeySet *cj_key_set_make(MemoryContext memory);

/* Returns whether key bytes are in the set; bytes is NULL for a null. */
extern bool cj_key_set_has(CjKeySet *set, uint64 tag, const char *bytes, Size length);

/* Adds key bytes; false: they were there already. */
extern bool cj_key_set_add(CjKeySet *set, uint64 tag, const char *bytes, Size length, uint32 mark);

/* How much memory the key bytes take, in bytes; the scratch space aside. */
extern Size cj_key_set_size(const CjKeySet *set);

/* How many there are; the n-th, from 0, which stays where it is until it is removed. */
extern int cj_key_set_count(const CjKeySet *set);
extern const CjKeyBytes *cj_key_set_nth(const CjKeySet *set, int n);

/* Removes the one that was added last. Allocates nothing. */
extern void cj_key_set_pop(CjKeySet *set);

#endif /* CJ_MATVIEW_CAPTURE_KEY_SET_H */
