/*
 * base/advisory_locks.c
 *		Advisory locks of the session that code of the app has taken.
 *
 * Such a lock outlives the transaction, also one that is rolled back: in a session of a connection pool it would lock others
 * out for hours. What the caller had locked before is left alone, and so is what the app's code has locked once more
 * on top of it: the server shows which locks are held, not how often.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"

#include "base/advisory_locks.h"

/* A lock in some modes. */
typedef struct Held
{
	LOCKTAG tag;
	LOCKMASK modes;
} Held;

List *
cj_advisory_locks_list(void)
{
	LockData *data = GetLockStatusData();
	List *list = NIL;

	for (int i = 0; i < data->nelements; i++)
	{
		const LockInstanceData *lock = &data->locks[i];
		Held *held;

		if (lock->pid != MyProcPid || lock->locktag.locktag_type != LOCKTAG_ADVISORY ||
			lock->holdMask == 0)
			continue;
		held = palloc(sizeof(Held));
		held->tag = lock->locktag;
		held->modes = lock->holdMask;
		list = lappend(list, held);
	}
	pfree(data->locks);
	pfree(data);
	return list;
}

static LOCKMASK
modes_in(List *list, const LOCKTAG *tag)
{
	ListCell *cell;

	foreach(cell, list)
	{
		const Held *held = lfirst(cell);

		if (memcmp(&held->tag, tag, sizeof(LOCKTAG)) == 0)
			return held->modes;
	}
	return 0;
}

/* be_quiet keeps warnings from the client and the server log until the GUC nest level ends. */
static void
be_quiet(void)
{
	(void) set_config_option("client_min_messages", "error", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("log_min_messages", "error", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/*
 * cj_advisory_locks_release_others releases the session's locks that are not in the list. To release one that is the
 * transaction's does nothing but warn.
 */
void
cj_advisory_locks_release_others(List *before)
{
	int nest_level = NewGUCNestLevel();
	ListCell *cell;

	be_quiet();
	foreach(cell, cj_advisory_locks_list())
	{
		const Held *held = lfirst(cell);
		LOCKMASK others = held->modes & ~modes_in(before, &held->tag);

		for (LOCKMODE mode = 1; mode < MAX_LOCKMODES; mode++)
		{
			while ((others & LOCKBIT_ON(mode)) && LockRelease(&held->tag, mode, true))
				;
		}
	}
	AtEOXact_GUC(false, nest_level);
}
