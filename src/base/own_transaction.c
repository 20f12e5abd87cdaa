/* base/own_transaction.c: transactions of a background worker, which has none unless it begins one. */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "base/identity.h"
#include "base/own_transaction.h"

void
cj_own_transaction_begin_without_extension(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
cj_own_transaction_begin(void)
{
	cj_own_transaction_begin_without_extension();
	cj_identity_hold_extension();
}

void
cj_own_transaction_commit(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	PopActiveSnapshot();
	CommitTransactionCommand();
}
