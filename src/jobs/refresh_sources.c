/*
 * jobs/refresh_sources.c
 *		Whether a statistics view can be refreshed from what it reads.
 *
 * A relation is read as the owner of the view that names it, who need not be the owner of the materialized view;
 * of functions nothing is known.
 */
#include "postgres.h"


#include "base/sql.h"
#include "jobs/refresh_sources.h"
#include "run/findings.h"

/* What the view v reads in its rule. */
#define READ_BY_RULE                                                                          \
	"      JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid AND r.ev_type = '1'"            \
	"      JOIN pg_catalog.pg_depend d"                                                       \
	"        ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid" \
	"       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"                    \
	"       AND d.refobjid <> r.ev_class"

/*
 * $1: a materialized view, $2 its name, $3 the name of the check. A row for each relation that cannot be read: who reads
 * it, and whether that is for row-level security.
 */
static const CjStatement find_unreadable = {
	"find what a view may not read",
	"WITH RECURSIVE reads (view, reader, object) AS ("
	"    SELECT v.oid, v.relowner, d.refobjid"
	"      FROM pg_catalog.pg_class v" READ_BY_RULE "     WHERE v.oid = $1"
	"     UNION "
	"    SELECT v.oid,"
	"           CASE WHEN EXISTS (SELECT 1"
	"                               FROM pg_catalog.pg_options_to_table(v.reloptions) o"
	"                              WHERE o.option_name = 'security_invoker'"
	"                                AND o.option_value::pg_catalog.bool)"
	"                THEN s.reader ELSE v.relowner END,"
	"           d.refobjid"
	"      FROM reads s"
	"      JOIN pg_catalog.pg_class v ON v.oid = s.object AND v.relkind = 'v'" READ_BY_RULE
	"), source AS ("
	"    SELECT DISTINCT s.reader, c.oid, c.relforcerowsecurity AS is_forced,"
	"           pg_catalog.pg_has_role(s.reader, c.relowner, 'USAGE') AS is_own,"
	"           pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,"
	"           pg_catalog.format('%I', a.rolname) AS reader_name,"
	"           pg_catalog.format('%I', pg_catalog.pg_get_userbyid(c.relowner)) AS owner_name,"
	"           pg_catalog.format('%s %I.%I', CASE v.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END,"
	"                             vn.nspname, v.relname) AS view_name,"
	"           c.relrowsecurity AND NOT a.rolsuper AND NOT a.rolbypassrls AS has_policies,"
	"           pg_catalog.has_any_column_privilege(s.reader, c.oid, 'SELECT') AS may_read"
	"      FROM reads s"
	"      JOIN pg_catalog.pg_class c ON c.oid = s.object AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
	"      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	"      JOIN pg_catalog.pg_class v ON v.oid = s.view"
	"      JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace"
	"      JOIN pg_catalog.pg_roles a ON a.oid = s.reader"
	")"
	"SELECT $3, 'error',"
	"       pg_catalog.format(CASE WHEN s.may_read"
	"                              THEN 'row-level security hides rows of %s from %s, the role that %s reads it as'"
	"                              ELSE '%s may not be read by %s, the role that %s reads it as' END,"
	"                         s.name, s.reader_name, $2),"
	"       CASE WHEN NOT s.may_read"
	"            THEN pg_catalog.format('GRANT SELECT ON %s TO %s;', s.name, s.reader_name)"
	"            WHEN s.is_own"
	"            THEN pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', s.name)"
	"            ELSE pg_catalog.format('ALTER %s OWNER TO %s;', s.view_name, s.owner_name) END, NULL"
	"  FROM source s"
	" WHERE NOT s.may_read"
	"    OR (s.has_policies AND (s.is_forced OR NOT s.is_own))"
	" ORDER BY s.name, s.reader_name, 4",
	SPI_OK_SELECT};

void
cj_refresh_sources_examine(const CjStatsView *view, const char *check, CjFindings *findings)
{
	cj_findings_add_found(findings, &find_unreadable,
						  CJ_PARAMS(CJ_OID(view->relid), CJ_TEXT(view->name), CJ_TEXT(check)));
}
