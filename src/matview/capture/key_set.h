/*
 * matview/capture/key_set.h
 *		A set of images of values, in the order in which they were added.
 *
 * Each has a tag, by which sets of different things are kept in one, and a mark, which is the caller's. Pure: no
 * SPI, no catalog access.
 */
#ifndef CJ_MATVIEW_CAPTURE_KEY_SET_H
#define CJ_MATVIEW_CAPTURE_KEY_SET_H

typedef struct CjImage
{
	uint64 tag;
	uint32 mark;
	uint32 hash;
	bool isnull;
	Size length;
	char bytes[FLEXIBLE_ARRAY_MEMBER];
} CjImage;

typedef struct CjImageSet CjImageSet;

/* Makes an empty set; all of it lives in that memory context. */
extern CjImageSet *cj_key_set_make(MemoryContext memory);

/* Tells whether an image is in the set; bytes is NULL for a null. */
extern bool cj_key_set_has(CjImageSet *set, uint64 tag, const char *bytes, Size length);

/* Adds an image; false: it was there already. */
extern bool cj_key_set_add(CjImageSet *set, uint64 tag, const char *bytes, Size length,
						   uint32 mark);

/* How much memory the images take, in bytes; the scratch space aside. */
extern Size cj_key_set_size(const CjImageSet *set);

/* How many there are; the n-th, from 0, which stays where it is until it is removed. */
extern int cj_key_set_count(const CjImageSet *set);
extern const CjImage *cj_key_set_nth(const CjImageSet *set, int n);

/* Removes the one that was added last. Allocates nothing. */
extern void cj_key_set_pop(CjImageSet *set);

#endif /* CJ_MATVIEW_CAPTURE_KEY_SET_H */
