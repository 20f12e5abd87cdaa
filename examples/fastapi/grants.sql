-- What a role named admin_api needs: it runs jobs and reads how they are doing, and nothing else.
GRANT USAGE ON SCHEMA challenge_jobs TO admin_api;
GRANT EXECUTE ON PROCEDURE challenge_jobs.run(text, text) TO admin_api;
GRANT SELECT ON challenge_jobs.job_run, challenge_jobs.job_status TO admin_api;
GRANT EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.watchdog(timestamptz) TO admin_api;
