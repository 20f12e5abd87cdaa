/*
 * identity.c
 *		Running statements as the owner of the app's tables, or as the owner of the extension.
 *
 * Called round every statement. Rules:
 *
 * - Code of the app (triggers, view functions, expressions, CHECK constraints) runs as the owner of
 *   the app's tables: it gets neither the rights of the caller nor those of the extension's owner.
 *   This is what logical replication does when it applies changes (SwitchToUntrustedUser in
 *   PostgreSQL 16), with one difference: the role cannot be changed from inside in any case
 *   (SECURITY_LOCAL_USERID_CHANGE).
 * - Where the new role could not become the caller by SET ROLE anyway, the operation is
 *   security-restricted as well, so that nothing can be left behind that would run as the caller
 *   later (deferred triggers, temporary objects, prepared statements).
 * - Settings that the app's code changes are rolled back with the identity.
 */
#include "postgres.h"

#include <limits.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "compat.h"
#include "identity.h"

#define OWN_SEARCH_PATH "pg_catalog"

/* challenge_jobs.lock_timeout, in milliseconds */
static int lock_timeout_ms = 5000;

/* cj_identity_init defines the setting that bounds every wait for a lock. */
void
cj_identity_init(void)
{
	/*
	 * How long a statement of a job waits for a lock before it gives up, in milliseconds, 1 to
	 * INT_MAX; 5 s by default. There is no "for ever": a job must never queue behind the app without
	 * end, with the app queueing behind the job.
	 */
	DefineCustomIntVariable("challenge_jobs.lock_timeout",
							"How long a job waits for a lock on the app's tables or rows.",
							NULL,
							&lock_timeout_ms,
							5000, 1, INT_MAX,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* cj_identity_extension looks the extension up in the catalog. */
CjExtension
cj_identity_extension(void)
{
	CjExtension extension = {0};
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("challenge_jobs"));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		extension.oid = form->oid;
		extension.owner = form->extowner;
		extension.schema = form->extnamespace;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	if (!OidIsValid(extension.oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"challenge_jobs\" is not installed in this database"),
				 errhint("CREATE EXTENSION challenge_jobs;")));
	return extension;
}

/* set_local sets a setting until the GUC nest level ends. */
static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* become switches the user id and the settings that every statement of ours relies on. */
static void
become(CjIdentity *saved, Oid role, const char *search_path)
{
	int security_context;
	char timeout[32];

	GetUserIdAndSecContext(&saved->user_id, &saved->security_context);
	saved->guc_nest_level = NewGUCNestLevel();

	security_context = saved->security_context | SECURITY_LOCAL_USERID_CHANGE;
	if (!cj_compat_can_set_role(role, saved->user_id))
		security_context |= SECURITY_RESTRICTED_OPERATION;
	SetUserIdAndSecContext(role, security_context);

	snprintf(timeout, sizeof(timeout), "%d", lock_timeout_ms);
	/* named, and last: left out, it would come first */
	set_local("search_path", psprintf("%s, pg_temp", search_path));
	set_local("row_security", "off");
	set_local("lock_timeout", timeout);
	/* every statement runs once, with its own plan: compiling it would cost more than it gains */
	set_local("jit", "off");
}

/* cj_identity_become_owner becomes the owner of the app's tables. */
void
cj_identity_become_owner(CjIdentity *saved, Oid owner, const char *search_path,
						 const char *time_zone)
{
	become(saved, owner, search_path);
	set_local("TimeZone", time_zone);
	/* keys as text must be the same whatever the session has set */
	set_local("DateStyle", "ISO");
	set_local("IntervalStyle", "postgres");
	set_local("bytea_output", "hex");
	set_local("extra_float_digits", "1");
}

/* cj_identity_become_extension becomes the owner of the extension. */
void
cj_identity_become_extension(CjIdentity *saved)
{
	become(saved, cj_identity_extension().owner, OWN_SEARCH_PATH);
}

/* cj_identity_restore goes back to the identity and the settings from before. */
void
cj_identity_restore(const CjIdentity *saved)
{
	/* as if on abort: also what the app's code set for the session goes */
	AtEOXact_GUC(false, saved->guc_nest_level);
	SetUserIdAndSecContext(saved->user_id, saved->security_context);
}
