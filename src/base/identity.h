/*
 * base/identity.h
 *		Running statements as the owner of the app's tables, or as the owner of the extension.
 *
 * cj_identity_become… is undone by cj_identity_restore, or by the abort of the (sub)transaction that
 * it was called in. It must be undone before a commit: a transaction must not start with a security
 * context set.
 */
#ifndef CJ_BASE_IDENTITY_H
#define CJ_BASE_IDENTITY_H

/* What has to be restored. */
typedef struct CjIdentity
{
	Oid user_id;
	int security_context;
	int guc_nest_level;
	bool watched;             /* the role could not become the caller by itself */
	uint64 temporary_objects; /* then: what there was in the session's temporary schema */
	uint32 cursors_since;     /* the subtransaction whose cursors the app's code has opened, or 0 */
} CjIdentity;

/* The extension as it is installed in this database. */
typedef struct CjExtension
{
	Oid oid;
	Oid owner;
	Oid schema; /* of the job functions */
} CjExtension;

/* Looks the extension up; raises undefined_object if it is not installed in this database. */
extern CjExtension cj_identity_extension(void);

/* To be raised with each change of the install script that the library has to know of; the script says the same. */
#define CJ_SCRIPT_REVISION 18

/*
 * Raises object_not_in_prerequisite_state unless the extension was made by an install script that this library is for, with
 * what to type as a hint. Before that is known no function, table or view of the extension may be relied on.
 */
extern void cj_identity_check_script(void);

/*
 * Keeps the extension from being dropped until the transaction ends. To be called before anything of it is
 * locked: DROP EXTENSION locks the extension first, and then its tables in an order of its own. Does not
 * wait: raises lock_not_available if the extension is just being dropped, undefined_object if it has been.
 */
extern void cj_identity_hold_extension(void);

/*
 * Becomes a role for statements over the app's tables: search_path as given, and then pg_temp,
 * row_security off, jit off,
 * the extension's lock_timeout, the session's TimeZone as given, and the settings by which values are
 * written as text the same as everywhere, until it is restored.
 */
extern void cj_identity_become_owner(CjIdentity *saved, Oid owner, const char *search_path,
									 const char *time_zone);

/*
 * As above, for a single REFRESH MATERIALIZED VIEW of a view of that owner and nothing else: without a
 * security-restricted operation (REFRESH makes one itself), and with the session's jit.
 */
extern void cj_identity_become_owner_to_refresh(CjIdentity *saved, Oid owner,
												const char *search_path, const char *time_zone);

/* Becomes the owner of the extension for statements over the extension's own tables. */
extern void cj_identity_become_extension(CjIdentity *saved);

/*
 * Sets a setting until the identity is restored. To be called after becoming somebody, for statements
 * that call no code of the app.
 */
extern void cj_identity_set(const char *name, const char *value);

/*
 * Goes back to who we were. Raises insufficient_privilege if code of the app has left something in the
 * session's temporary schema, which the abort that follows takes away. Closes what it has left open of
 * cursors.
 */
extern void cj_identity_restore(const CjIdentity *saved);

/*
 * Notes that locks on the app's relations have been taken, and are held to the end of the subtransaction: from here on
 * whoever becomes somebody gives up a wait for a lock before the app could become the victim of a deadlock with us.
 */
extern void cj_identity_hold_locks(void);

/* Returns whether that has been noted. */
extern bool cj_identity_holds_locks(void);

/* Returns how long a lock may be waited for now, in milliseconds. */
extern int cj_identity_lock_timeout(void);

/* Defines challenge_jobs.lock_timeout. */
extern void cj_identity_init(void);

#endif /* CJ_BASE_IDENTITY_H */
