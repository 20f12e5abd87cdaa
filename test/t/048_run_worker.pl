# A run that the worker starts, where the owner of the extension is no superuser: its session must not be one
# that a superuser began, since code of the app may come to run in it outside of all restrictions.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $runs = 'SELECT count(*) FROM challenge_jobs.job_run';
my $offset;
my $node = create_node('run_worker', <<'CONF');
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
CONF

# The app's owner owns the extension as well. Its trigger leaves a deferred one to the commit of the batch.
$node->safe_psql($db, 'CREATE ROLE installer SUPERUSER; CREATE TABLE public.seen (what text)');
create_app($node, $db, 3);
$node->safe_psql($db, <<'SQL');
GRANT INSERT ON public.seen TO app_owner;
SET ROLE app_owner;
CREATE TABLE later (n integer);
CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET SESSION AUTHORIZATION %I', (SELECT rolname FROM pg_roles WHERE oid = 10));
    INSERT INTO public.seen VALUES ('climbed');
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege THEN
    INSERT INTO public.seen VALUES ('refused');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER climb AFTER INSERT ON later
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION climb();
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL DEFERRED;
    INSERT INTO later VALUES (1);
    RETURN NULL;
END $$;
CREATE TRIGGER put_off AFTER UPDATE ON challenges FOR EACH STATEMENT EXECUTE FUNCTION put_off();
SQL
$node->safe_psql($db, <<'SQL');
DROP EXTENSION challenge_jobs;
SET SESSION AUTHORIZATION installer;
CREATE EXTENSION challenge_jobs;
SQL
$node->safe_psql($db, 'REASSIGN OWNED BY installer TO app_owner');

# ---- the owner may not log in, or not connect ----

$offset = -s $node->logfile;
SKIP:
{
	skip 'a run needs no LOGIN', 2 if $node->pg_version >= 17;
	schedule();
	$node->wait_for_log(qr/"start due and missed runs" failed .*: the owner of the extension, app_owner, is not permitted to log in/, $offset);
	like(slurp_file($node->logfile, $offset), qr/HINT:  Run: ALTER ROLE app_owner LOGIN;/, 'the log says what to type');
	unlike(slurp_file($node->logfile, $offset), qr/FATAL/, 'and no worker is started in vain');
}
$node->safe_psql($db, 'ALTER ROLE app_owner LOGIN');
$node->safe_psql($db, 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
schedule();
$node->wait_for_log(qr/"start due and missed runs" failed .*: the owner of the extension, app_owner, may not connect/, $offset);
like(slurp_file($node->logfile, $offset), qr/HINT:  Run: GRANT CONNECT ON DATABASE postgres TO app_owner;/, 'the same for CONNECT');
is($node->safe_psql($db, $runs), '0', 'no run was started');

# ---- and now it may ----

$node->safe_psql($db, 'GRANT CONNECT ON DATABASE postgres TO app_owner');
schedule();
$node->poll_query_until($db, "SELECT EXISTS (SELECT FROM challenge_jobs.job_run WHERE triggered_by = 'worker' AND status = 'succeeded')")
  or die 'no run';
is($node->safe_psql($db, 'SELECT DISTINCT role_name FROM challenge_jobs.job_run'), 'app_owner', 'the run is one of the owner of the extension');
is(undone_work($node, $db), '', 'it does its work');
is($node->safe_psql($db, 'SELECT DISTINCT what FROM public.seen'), 'refused', 'what the app puts off to the commit cannot become a superuser');

$node->stop;
check_log($node);
done_testing();

# Schedules the job by the worker, so that a scheduled time has just come.
sub schedule
{
	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', schedule => '* * * * *')");
	$node->safe_psql($db, "SELECT challenge_jobs.schedule('$JOB', 'worker')");
	$node->safe_psql($db, "UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '5 minutes'");
	return;
}
