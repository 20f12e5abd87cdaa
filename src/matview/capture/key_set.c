/* matview/capture/key_set.c: a set of key bytes of values, in the order in which they were added. */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "matview/capture/key_set.h"

typedef struct Slot
{
	CjKeyBytes *key;
	uint32 hash;
	char status;
} Slot;

static bool
key_bytes_equal(const CjKeyBytes *a, const CjKeyBytes *b)
{
	return a->tag == b->tag && a->isnull == b->isnull && a->length == b->length &&
		   memcmp(a->bytes, b->bytes, a->length) == 0;
}

#define SH_PREFIX               slots
#define SH_ELEMENT_TYPE         Slot
#define SH_KEY_TYPE             CjKeyBytes *
#define SH_KEY                  key
#define SH_HASH_KEY(table, key) (key)->hash
#define SH_EQUAL(table, a, b)   key_bytes_equal(a, b)
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

struct CjKeySet
{
	MemoryContext memory;
	slots_hash *slots;
	CjKeyBytes **list;
	Size bytes; /* of the key bytes */
	int count;
	int size;            /* of the list */
	CjKeyBytes *scratch; /* what is looked for */
	Size scratch_size;
};

CjKeySet *
cj_key_set_make(MemoryContext memory)
{
	CjKeySet *set = MemoryContextAllocZero(memory, sizeof(CjKeySet));

	set->memory = memory;
	set->slots = slots_create(memory, 64, NULL);
	set->size = 64;
	set->list = MemoryContextAlloc(memory, sizeof(CjKeyBytes *) * set->size);
	set->scratch_size = 256;
	set->scratch = MemoryContextAlloc(memory, set->scratch_size);
	return set;
}

static CjKeyBytes *
describe(CjKeySet *set, uint64 tag, const char *bytes, Size length)
{
	Size size = offsetof(CjKeyBytes, bytes) + length;
	CjKeyBytes *key;

	if (set->scratch_size < size)
	{
		set->scratch = repalloc_huge(set->scratch, size);
		set->scratch_size = size;
	}
	key = set->scratch;
	key->tag = tag;
	key->isnull = bytes == NULL;
	key->length = length;
	if (length > 0)
		memcpy(key->bytes, bytes, length);
	key->hash = hash_bytes((const unsigned char *) key->bytes, (int) length) ^
				murmurhash32((uint32) tag ^ (uint32) (tag >> 32));
	return key;
}

bool
cj_key_set_has(CjKeySet *set, uint64 tag, const char *bytes, Size length)
{
	CjKeyBytes *key = describe(set, tag, bytes, length);

	return slots_lookup_hash(set->slots, key, key->hash) != NULL;
}

bool
cj_key_set_add(CjKeySet *set, uint64 tag, const char *bytes, Size length, uint32 mark)
{
	CjKeyBytes *key = describe(set, tag, bytes, length);
	CjKeyBytes *copy;
	bool found;

	if (slots_lookup_hash(set->slots, key, key->hash))
		return false;
	copy = MemoryContextAlloc(set->memory, offsetof(CjKeyBytes, bytes) + length);
	memcpy(copy, key, offsetof(CjKeyBytes, bytes) + length);
	copy->mark = mark;
	if (set->count == set->size)
	{
		set->list = repalloc_huge(set->list, sizeof(CjKeyBytes *) * set->size * 2);
		set->size *= 2;
	}
	(void) slots_insert_hash(set->slots, copy, copy->hash, &found);
	set->list[set->count++] = copy;
	set->bytes += offsetof(CjKeyBytes, bytes) + length;
	return true;
}

Size
cj_key_set_size(const CjKeySet *set)
{
	return set->bytes;
}

int
cj_key_set_count(const CjKeySet *set)
{
	return set->count;
}

const CjKeyBytes *
cj_key_set_nth(const CjKeySet *set, int n)
{
	Assert(n >= 0 && n < set->count);
	return set->list[n];
}

void
cj_key_set_pop(CjKeySet *set)
{
	CjKeyBytes *key = set->list[--set->count];

	(void) slots_delete(set->slots, key);
	set->bytes -= offsetof(CjKeyBytes, bytes) + key->length;
	pfree(key);
}
