/*
 * matview/capture/key_set.c
 *		A set of images of values, in the order in which they were added.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "matview/capture/key_set.h"

typedef struct Slot
{
	CjImage *image;
	uint32 hash;
	char status;
} Slot;

static bool
images_equal(const CjImage *a, const CjImage *b)
{
	return a->tag == b->tag && a->isnull == b->isnull && a->length == b->length &&
		   memcmp(a->bytes, b->bytes, a->length) == 0;
}

#define SH_PREFIX               slots
#define SH_ELEMENT_TYPE         Slot
#define SH_KEY_TYPE             CjImage *
#define SH_KEY                  image
#define SH_HASH_KEY(table, key) (key)->hash
#define SH_EQUAL(table, a, b)   images_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(table, element) (element)->hash
#define SH_SCOPE                    static inline
#define SH_DECLARE
#define SH_DEFINE
/* it has a variable twice, one inside the other */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow=compatible-local"
#include "lib/simplehash.h"
#pragma GCC diagnostic pop

struct CjImageSet
{
	MemoryContext memory;
	slots_hash *slots;
	CjImage **list;
	Size bytes; /* of the images */
	int count;
	int size;         /* of the list */
	CjImage *scratch; /* what is looked for */
	Size scratch_size;
};

CjImageSet *
cj_key_set_make(MemoryContext memory)
{
	CjImageSet *set = MemoryContextAllocZero(memory, sizeof(CjImageSet));

	set->memory = memory;
	set->slots = slots_create(memory, 64, NULL);
	set->size = 64;
	set->list = MemoryContextAlloc(memory, sizeof(CjImage *) * set->size);
	set->scratch_size = 256;
	set->scratch = MemoryContextAlloc(memory, set->scratch_size);
	return set;
}

static CjImage *
describe(CjImageSet *set, uint64 tag, const char *bytes, Size length)
{
	Size size = offsetof(CjImage, bytes) + length;
	CjImage *image;

	if (set->scratch_size < size)
	{
		set->scratch = repalloc_huge(set->scratch, size);
		set->scratch_size = size;
	}
	image = set->scratch;
	image->tag = tag;
	image->isnull = bytes == NULL;
	image->length = length;
	if (length > 0)
		memcpy(image->bytes, bytes, length);
	image->hash = hash_bytes((const unsigned char *) image->bytes, (int) length) ^
				  murmurhash32((uint32) tag ^ (uint32) (tag >> 32));
	return image;
}

bool
cj_key_set_has(CjImageSet *set, uint64 tag, const char *bytes, Size length)
{
	CjImage *image = describe(set, tag, bytes, length);

	return slots_lookup_hash(set->slots, image, image->hash) != NULL;
}

bool
cj_key_set_add(CjImageSet *set, uint64 tag, const char *bytes, Size length, uint32 mark)
{
	CjImage *image = describe(set, tag, bytes, length);
	CjImage *copy;
	bool found;

	if (slots_lookup_hash(set->slots, image, image->hash))
		return false;
	copy = MemoryContextAlloc(set->memory, offsetof(CjImage, bytes) + length);
	memcpy(copy, image, offsetof(CjImage, bytes) + length);
	copy->mark = mark;
	if (set->count == set->size)
	{
		set->list = repalloc_huge(set->list, sizeof(CjImage *) * set->size * 2);
		set->size *= 2;
	}
	(void) slots_insert_hash(set->slots, copy, copy->hash, &found);
	set->list[set->count++] = copy;
	set->bytes += offsetof(CjImage, bytes) + length;
	return true;
}

Size
cj_key_set_size(const CjImageSet *set)
{
	return set->bytes;
}

int
cj_key_set_count(const CjImageSet *set)
{
	return set->count;
}

const CjImage *
cj_key_set_nth(const CjImageSet *set, int n)
{
	Assert(n >= 0 && n < set->count);
	return set->list[n];
}

void
cj_key_set_pop(CjImageSet *set)
{
	CjImage *image = set->list[--set->count];

	(void) slots_delete(set->slots, image);
	set->bytes -= offsetof(CjImage, bytes) + image->length;
	pfree(image);
}
