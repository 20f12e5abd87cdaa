/*
 * base/identity.c
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
 *   later (deferred triggers, temporary objects, prepared statements). REFRESH MATERIALIZED VIEW
 *   restricts itself.
 * - What that does not forbid, objects in the session's temporary schema, is an error; cursors are closed.
 * - Settings that the app's code changes are rolled back with the identity.
 * - While locks on the app's relations are held, each wait for another lock ends before a deadlock would be looked for.
 */
#include "postgres.h"

#include <limits.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/identity.h"

#define OWN_SEARCH_PATH "pg_catalog"

/* challenge_jobs.lock_timeout, in milliseconds */
static int lock_timeout_ms = 5000;

/* The subtransaction in which the first locks on the app's relations were taken, to be held on to; or none. */
static SubTransactionId holding_since = InvalidSubTransactionId;

static void
forget_locks(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		holding_since = InvalidSubTransactionId;
}

/* pass_locks_on notes what becomes of the locks of a subtransaction that ends. */
static void
pass_locks_on(SubXactEvent event, SubTransactionId my_id, SubTransactionId parent_id, void *arg)
{
	if (holding_since != my_id)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		holding_since = parent_id;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		holding_since = InvalidSubTransactionId;
}

void
cj_identity_hold_locks(void)
{
	if (holding_since == InvalidSubTransactionId)
		holding_since = GetCurrentSubTransactionId();
}

bool
cj_identity_holds_locks(void)
{
	return holding_since != InvalidSubTransactionId;
}

/*
 * cj_identity_lock_timeout returns how long we may wait for a lock. PostgreSQL looks for a deadlock when somebody has
 * waited for deadlock_timeout: by then whoever waits for what we hold has got it.
 */
int
cj_identity_lock_timeout(void)
{
	if (!cj_identity_holds_locks())
		return lock_timeout_ms;
	return Min(lock_timeout_ms, Max(DeadlockTimeout / 5 * 2, 1));
}

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
	RegisterXactCallback(forget_locks, NULL);
	RegisterSubXactCallback(pass_locks_on, NULL);
}

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
				 errhint("Run: CREATE EXTENSION challenge_jobs;")));
	return extension;
}

/* script_revision returns the revision of the script that made the extension; NULL: one that has none. */
static char *
script_revision(void)
{
	oidvector *no_arguments = buildoidvector(NULL, 0);
	HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum("script_revision"),
									  PointerGetDatum(no_arguments),
									  ObjectIdGetDatum(get_namespace_oid("challenge_jobs", true)));
	char *body;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	body =
		TextDatumGetCString(SysCacheGetAttr(PROCNAMEARGSNSP, tuple, Anum_pg_proc_prosrc, &isnull));
	ReleaseSysCache(tuple);
	return body;
}

void
cj_identity_check_script(void)
{
	char *revision = script_revision();

	if (revision == NULL || strcmp(revision, psprintf("SELECT %d", CJ_SCRIPT_REVISION)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"challenge_jobs\" was created by a different install script than this library needs"),
				 errdetail("Before the first release the script changes without a new version number. Dropping the extension drops its configuration."),
				 errhint("Run: DROP EXTENSION challenge_jobs; CREATE EXTENSION challenge_jobs;")));
}

void
cj_identity_hold_extension(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, cj_identity_extension().oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("extension \"challenge_jobs\" is being dropped")));
	AcceptInvalidationMessages();
	(void) cj_identity_extension();
}

void
cj_identity_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * sum_temporary_objects returns a number that stands for what there is in the session's temporary schema:
 * two are the same if nothing was added, or only what is gone again.
 *
 * A security-restricted operation cannot make temporary tables. But it can make functions there, and
 * domains in all but the latest minor releases, and the session finds a type pg_temp.text before the real
 * one: its checks would run as the caller later.
 */
static uint64
sum_temporary_objects(void)
{
	Oid schema = LookupNamespaceNoError("pg_temp");
	uint64 sum = 0;
	Relation catalog;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(schema))
		return 0;
	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(NamespaceRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		Oid object[] = {form->classid, form->objid};

		sum += DatumGetUInt64(hash_any_extended((const unsigned char *) object, sizeof(object), 0));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return sum;
}

/* check_nothing_left_behind raises an error if the app's code has left something to the session. */
static void
check_nothing_left_behind(const CjIdentity *saved)
{
	if (saved->watched && sum_temporary_objects() != saved->temporary_objects)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("code that ran as \"%s\" left an object in the temporary schema of this session",
						GetUserNameFromId(GetUserId(), false)),
				 errdetail("The object could run as \"%s\".",
						   GetUserNameFromId(saved->user_id, false))));
}

static List *
list_cursors(void)
{
	ReturnSetInfo result = {.type = T_ReturnSetInfo, .allowedModes = SFRM_Materialize};
	FmgrInfo function;
	LOCAL_FCINFO(call, 0);
	TupleTableSlot *slot;
	List *names = NIL;
	bool isnull;

	result.econtext = CreateStandaloneExprContext();
	fmgr_info(F_PG_CURSOR, &function);
	InitFunctionCallInfoData(*call, &function, 0, InvalidOid, NULL, (Node *) &result);
	(void) FunctionCallInvoke(call);
	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result.setResult, true, false, slot))
		names = lappend(names, TextDatumGetCString(slot_getattr(slot, 1, &isnull)));
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	FreeExprContext(result.econtext, true);
	return names;
}

/*
 * close_cursors closes the cursors that have been opened since a subtransaction began.
 *
 * The app's code can close a cursor of the caller and open its own of the same name: with the next FETCH
 * the caller would run it. To leave a cursor open is no offence by itself, and so no error.
 */
static void
close_cursors(SubTransactionId since)
{
	ListCell *cell;

	foreach(cell, list_cursors())
	{
		Portal portal = GetPortalByName(lfirst(cell));

		if (PortalIsValid(portal) && portal->createSubid >= since &&
			portal->status == PORTAL_READY && !portal->portalPinned)
			PortalDrop(portal, false);
	}
}

/* become switches the user id and the settings that every statement of ours relies on. */
static void
become(CjIdentity *saved, Oid role, const char *search_path, int restriction)
{
	char timeout[32];

	GetUserIdAndSecContext(&saved->user_id, &saved->security_context);
	saved->watched = !cj_compat_can_set_role(role, saved->user_id);
	saved->temporary_objects = saved->watched ? sum_temporary_objects() : 0;
	saved->cursors_since = InvalidSubTransactionId;
	saved->guc_nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(role,
						   saved->security_context | SECURITY_LOCAL_USERID_CHANGE | restriction);

	snprintf(timeout, sizeof(timeout), "%d", cj_identity_lock_timeout());
	/* named, and last: left out, it would come first */
	cj_identity_set("search_path", psprintf("%s, pg_temp", search_path));
	cj_identity_set("row_security", "off");
	cj_identity_set("lock_timeout", timeout);
}

/* become_to_run becomes a role to run statements of ours, restricted where there is need of it. */
static void
become_to_run(CjIdentity *saved, Oid role, const char *search_path)
{
	become(saved, role, search_path,
		   cj_compat_can_set_role(role, GetUserId()) ? 0 : SECURITY_RESTRICTED_OPERATION);
	/* every statement runs once, with its own plan: compiling it would cost more than it gains */
	cj_identity_set("jit", "off");
	cj_identity_set("quote_all_identifiers", "off");
}

/* What a statement gives must not depend on who calls: texts of values (keys, in the first place), and what decides. */
static const char *const fixed_settings[][2] = {
	{"DateStyle", "ISO"},
	{"IntervalStyle", "postgres"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"xmlbinary", "base64"},
	{"xmloption", "content"},
	{"gin_fuzzy_search_limit", "0"},
	{"standard_conforming_strings", "on"},
	{"exit_on_error", "off"},
};

/* For these it is the value that the session began with, as the administrator chooses it. */
static const char *const reset_settings[] = {"default_text_search_config", "lc_monetary",
											 "lc_numeric", "lc_time", "plpgsql.check_asserts"};

/* fix_settings sees to it that the caller's settings do not decide. Those of the app (app.user_id) stay: it reads them. */
static void
fix_settings(const char *time_zone)
{
	cj_identity_set("TimeZone", time_zone);
	for (int i = 0; i < lengthof(fixed_settings); i++)
		cj_identity_set(fixed_settings[i][0], fixed_settings[i][1]);
	for (int i = 0; i < lengthof(reset_settings); i++)
	{
		/* what is not loaded is not there */
		if (GetConfigOption(reset_settings[i], true, false))
			cj_identity_set(reset_settings[i], GetConfigOptionResetString(reset_settings[i]));
	}
}

void
cj_identity_become_owner(CjIdentity *saved, Oid owner, const char *search_path,
						 const char *time_zone)
{
	become_to_run(saved, owner, search_path);
	saved->cursors_since = GetCurrentSubTransactionId();
	fix_settings(time_zone);
}

/*
 * cj_identity_become_owner_to_refresh becomes the owner of a materialized view that is to be refreshed.
 *
 * CONCURRENTLY makes a temporary table, which a security-restricted operation forbids. It needs none of
 * ours: whatever code of the app REFRESH runs (the view's query, the expressions of its indexes), it
 * runs in a security-restricted operation of its own, also where we are the owner already; it leaves
 * that only to create the temporary table, which has a column of a built-in type and no name, default
 * or check that the app could have a hand in. Between here and there nothing is evaluated: the
 * statement is a name to be looked up. (Event triggers do run; they are of superusers, and see the owner
 * as they would if the owner had typed the statement.) The role cannot be changed from inside in
 * any case, and a restriction that the caller is under already stays.
 */
void
cj_identity_become_owner_to_refresh(CjIdentity *saved, Oid owner, const char *search_path,
									const char *time_zone)
{
	become(saved, owner, search_path, 0);
	saved->cursors_since = GetCurrentSubTransactionId();
	fix_settings(time_zone);
}

void
cj_identity_become_extension(CjIdentity *saved)
{
	become_to_run(saved, cj_identity_extension().owner, OWN_SEARCH_PATH);
}

void
cj_identity_restore(const CjIdentity *saved)
{
	check_nothing_left_behind(saved);
	if (saved->watched && saved->cursors_since != InvalidSubTransactionId)
		close_cursors(saved->cursors_since);
	/* as if on abort: also what the app's code set for the session goes */
	AtEOXact_GUC(false, saved->guc_nest_level);
	SetUserIdAndSecContext(saved->user_id, saved->security_context);
}
