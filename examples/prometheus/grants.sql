-- What a role named exporter needs: the metrics, and to see which processes the server has.
GRANT pg_read_all_stats TO exporter;
GRANT USAGE ON SCHEMA challenge_jobs TO exporter;
GRANT SELECT ON challenge_jobs.metrics TO exporter;
GRANT EXECUTE ON FUNCTION challenge_jobs.job_default(), challenge_jobs.watchdog(timestamptz) TO exporter;
