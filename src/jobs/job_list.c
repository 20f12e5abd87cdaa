/*
 * jobs/job_list.c
 *		The jobs of this version of the library.
 *
 * A new job is a file behind jobs/job.h and a line here.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "jobs/job_list.h"

static const CjJob *const jobs[] = {
	&cj_job_auto_complete_challenges,
	&cj_job_refresh_challenge_stats,
	&cj_job_send_streak_reminders,
	&cj_job_cleanup_expired_notifications,
	NULL,
};

const CjJob *const *
cj_job_list_jobs(void)
{
	return jobs;
}

const CjJob *
cj_job_list_find(const char *name)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; jobs[i]; i++)
	{
		if (strcmp(jobs[i]->definition.name, name) == 0)
			return jobs[i];
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", jobs[i]->definition.name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no job \"%s\"", name),
			 errdetail("The jobs are: %s.", names.data),
			 errhint("Run: SELECT job, description FROM challenge_jobs.job;")));
	return NULL;
}
