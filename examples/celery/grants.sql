-- What a role named celery needs: it runs jobs and reads how they ended, and nothing else.
GRANT USAGE ON SCHEMA challenge_jobs TO celery;
GRANT EXECUTE ON PROCEDURE challenge_jobs.run(text, text) TO celery;
GRANT SELECT ON challenge_jobs.job_run TO celery;
