/* base/own_transaction.h: transactions of a background worker, which has none unless it begins one. */
#ifndef CJ_BASE_OWN_TRANSACTION_H
#define CJ_BASE_OWN_TRANSACTION_H

/*
 * Begins a transaction in which statements can be run: connected to SPI, with a snapshot. Where the
 * extension is worked with it stays where it is: raises undefined_object if it is not there,
 * lock_not_available if it is just being dropped.
 */
extern void cj_own_transaction_begin(void);

/* The same without asking for the extension. */
extern void cj_own_transaction_begin_without_extension(void);

extern void cj_own_transaction_commit(void);

#endif /* CJ_BASE_OWN_TRANSACTION_H */
