# What keeps the worker, or pg_cron, from doing its work is seen: no free background worker, a launcher that has ended, an
# engine that does not fire while the worker stands in for it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'app';
my $worker_row = q(SELECT status, finding, advice FROM challenge_jobs.doctor() WHERE check_name = 'worker');

# ---- no free background worker ----

my $node = create_node('health', <<'CONF');
challenge_jobs.databases = 'app'
challenge_jobs.worker_naptime = '1s'
max_worker_processes = 2
max_logical_replication_workers = 0
CONF
$node->safe_psql('postgres', 'CREATE DATABASE app');
create_app($node, $db, 3);
ok($node->poll_query_until($db, q(SELECT status = 'ok' FROM challenge_jobs.doctor() WHERE check_name = 'worker')), 'with a free background worker the doctor is content');
my $launcher = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'");

# A launcher has nothing to cancel.
is($node->safe_psql('postgres', "SELECT pg_cancel_backend($launcher)"), 't', 'the launcher is sent a cancel');
wait_for_look();
is($node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'"), $launcher, 'which does not end it');

$node->adjust_conf('postgresql.conf', 'max_worker_processes', '1');
$node->restart;
ok($node->poll_query_until($db, q(SELECT status = 'error' FROM challenge_jobs.doctor() WHERE check_name = 'worker')), 'without one the doctor reports an error');
like($node->safe_psql($db, $worker_row), qr/^error\|no background worker has been free for this database since 20.*\|Run: ALTER SYSTEM SET max_worker_processes = 9; then restart the server\.$/,
	'and says since when, and what to do');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$node->restart;
ok($node->poll_query_until($db, q(SELECT status = 'ok' FROM challenge_jobs.doctor() WHERE check_name = 'worker')), 'with more of them it is content again');

# ---- an engine that does not fire ----

my $kinds = "SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM challenge_jobs.alert";
$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', schedule => '* * * * *', grace => '0');
SELECT challenge_jobs.schedule('$JOB', 'external');
UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '1 hour';
SQL
ok($node->poll_query_until($db, "SELECT count(*) > 0 FROM challenge_jobs.job_run WHERE triggered_by = 'catch_up' AND status = 'succeeded'"), 'the worker catches up for an engine that does not fire');
wait_for_look();
is($node->safe_psql($db, $kinds), 'overdue', 'which is no recovery of that engine');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB', 'external')");
ok($node->poll_query_until($db, "SELECT count(*) > 0 FROM challenge_jobs.alert WHERE kind = 'recovered'"), 'once it fires, it has recovered');
$node->stop;
check_log($node);

# ---- pg_cron's launcher ----

SKIP:
{
	my $cron = PostgreSQL::Test::Cluster->new('health_cron');

	$cron->init;
	skip 'pg_cron is not installed', 4 unless -f $cron->config_data('--sharedir') . '/extension/pg_cron.control';
	$cron->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron, challenge_jobs'
cron.database_name = 'postgres'
cron.host = '@{[ $cron->host ]}'
CONF
	$cron->start;
	create_app($cron, 'postgres', 3);
	$cron->safe_psql('postgres', "CREATE EXTENSION pg_cron; SELECT challenge_jobs.schedule('$JOB')");
	my $row = qq(SELECT status, remedy FROM challenge_jobs.doctor() WHERE check_name = 'schedule:$JOB');
	like($cron->safe_psql('postgres', $row), qr/^ok\|/, 'the doctor is content with pg_cron');
	$cron->safe_psql('postgres', q(CREATE ROLE somebody SUPERUSER LOGIN; SET SESSION AUTHORIZATION somebody; SELECT cron.schedule('x', '0 0 1 1 *', 'SELECT 1')));
	my $id = $cron->safe_psql('postgres', "SELECT jobid FROM cron.job WHERE jobname = 'x'");
	$cron->safe_psql('postgres', 'ALTER ROLE somebody RENAME TO somebody_else');
	is($cron->safe_psql('postgres', $row), "error|SELECT cron.unschedule($id);", 'a cron job of a role that is gone is an error, with what removes it');
	$cron->safe_psql('postgres', "SELECT cron.unschedule($id)");
	ok($cron->poll_query_until('postgres', qq(SELECT status = 'ok' FROM challenge_jobs.doctor() WHERE check_name = 'schedule:$JOB')), 'typed, it is mended');
	$cron->stop;
}
done_testing();

# Waits until the worker has begun and ended to look after the database since now.
sub wait_for_look
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET log_min_messages = 'debug1'; SELECT pg_reload_conf()");
	wait_for_checks($node, 2);
	$node->safe_psql('postgres', "ALTER SYSTEM RESET log_min_messages; SELECT pg_reload_conf()");
	return;
}
