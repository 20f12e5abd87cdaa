/*
 * app/table_access.h
 *		Whether jobs can do with a table what they have to.
 *
 * No SPI. Needs a transaction.
 */
#ifndef CJ_APP_TABLE_ACCESS_H
#define CJ_APP_TABLE_ACCESS_H

#include "nodes/parsenodes.h"
#include "utils/rel.h"

/*
 * Checks that the owner of an open table, as whom jobs run, has the privileges (ACL_SELECT | ...), and that
 * no rule turns the statements of jobs into others. `name` is the qualified name. Raises
 * insufficient_privilege, wrong_object_type, with the statement that would mend it as a hint.
 */
extern void cj_table_access_check(Relation rel, const char *name, AclMode privileges);

#endif /* CJ_APP_TABLE_ACCESS_H */
