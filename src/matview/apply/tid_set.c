/*
 * matview/apply/tid_set.c
 *		A set of addresses of rows: a few bits for each, where they lie close together.
 *
 * A bit for each place of a block, in pieces of a block: a table access method may have more places in a block than
 * heap has, and who has few rows in a block is not to pay for all of them.
 */
#include "postgres.h"

#include "nodes/bitmapset.h"
#include "storage/itemptr.h"
#include "utils/hsearch.h"

#include "matview/apply/tid_set.h"

/* How many places a piece has, and how many words of bits these are. */
#define PLACES 256
#define WORDS  (PLACES / BITS_PER_BITMAPWORD)

typedef struct PieceKey
{
	BlockNumber block;
	uint32 piece; /* not 16 bits: the key is hashed with all that is in it */
} PieceKey;

typedef struct Piece
{
	PieceKey key;
	bitmapword words[WORDS];
} Piece;

struct CjRowSet
{
	HTAB *pieces;
};

CjRowSet *
cj_tid_set_make(MemoryContext memory)
{
	CjRowSet *set = MemoryContextAlloc(memory, sizeof(CjRowSet));
	HASHCTL control = {
		.keysize = sizeof(PieceKey),
		.entrysize = sizeof(Piece),
		.hcxt = memory,
	};

	set->pieces =
		hash_create("challenge_jobs rows", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return set;
}

bool
cj_tid_set_add(CjRowSet *set, ItemPointer address)
{
	OffsetNumber place = ItemPointerGetOffsetNumberNoCheck(address);
	PieceKey key = {ItemPointerGetBlockNumberNoCheck(address), place / PLACES};
	bitmapword bit = (bitmapword) 1 << (place % BITS_PER_BITMAPWORD);
	bitmapword *word;
	bool found;
	Piece *piece = hash_search(set->pieces, &key, HASH_ENTER, &found);

	if (!found)
		memset(piece->words, 0, sizeof(piece->words));
	word = &piece->words[place % PLACES / BITS_PER_BITMAPWORD];
	if (*word & bit)
		return false;
	*word |= bit;
	return true;
}
