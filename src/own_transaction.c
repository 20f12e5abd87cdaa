/*
 * own_transaction.c
 *		Transactions of a background worker, which has none unless it begins one.
 *
 * Called by worker and by its tasks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "identity.h"
#include "own_transaction.h"

/* cj_own_transaction_begin_without_extension begins a transaction. */
void
cj_own_transaction_begin_without_extension(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* cj_own_transaction_begin begins one in which the extension stays where it is. */
void
cj_own_transaction_begin(void)
{
	cj_own_transaction_begin_without_extension();
	cj_identity_hold_extension();
}

/* cj_own_transaction_commit ends it. */
void
cj_own_transaction_commit(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	PopActiveSnapshot();
	CommitTransactionCommand();
}
