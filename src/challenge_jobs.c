/* challenge_jobs.c: entry point of the library. */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "alerts/command.h"
#include "base/identity.h"
#include "config/database_list.h"
#include "matview/capture/change_capture.h"
#include "monitor/doctor.h"
#include "run/shared_state.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	cj_alert_command_init();
	cj_doctor_init();
	cj_identity_init();
	cj_database_list_init();
	cj_shared_state_init();
	cj_launcher_init();
	cj_change_capture_init();
	MarkGUCPrefixReserved("challenge_jobs");
}
