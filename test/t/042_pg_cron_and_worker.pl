# pg_cron fires and the worker watches, in the same server: a scheduled time that pg_cron has served is not fired again,
# also while its run takes longer than the grace; one that it leaves out is notified of and caught up, once. The wall
# clock of both is set while the server runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';
my $node = PostgreSQL::Test::Cluster->new('cron_and_worker');

$node->init;
plan skip_all => 'pg_cron is not installed'
  unless -f $node->config_data('--sharedir') . '/extension/pg_cron.control';
start_clock('2030-01-01 12:00:20');
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron, challenge_jobs'
cron.database_name = '$db'
cron.host = '@{[ $node->host ]}'
timezone = 'UTC'
challenge_jobs.databases = '$db'
challenge_jobs.worker_naptime = '1s'
deadlock_timeout = 10min
challenge_jobs.lock_timeout = '180s'
log_min_messages = debug1
max_worker_processes = 20
CONF
$node->start;
create_app($node, $db, 30);
$node->safe_psql($db, 'CREATE EXTENSION pg_cron');

# ---- every minute ----

# Whatever minutes pass here, each of them must have one run, of pg_cron.
$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', schedule => '* * * * *', grace => '30 s');
SELECT challenge_jobs.schedule('$JOB', 'pg_cron');
SQL
foreach my $minute (1 .. 3)
{
	set_clock($node, sprintf('2030-01-01 12:%02d:58', $minute - 1));
	wait_for_run(sprintf("triggered_by = 'pg_cron' AND status = 'succeeded' AND as_of >= '2030-01-01 12:%02d'", $minute));
	set_clock($node, sprintf('2030-01-01 12:%02d:35', $minute));
	wait_for_checks($node, 2);
}
is(query("string_agg(DISTINCT triggered_by || ' ' || status, ', ') FROM challenge_jobs.job_run"),
	'pg_cron succeeded', 'pg_cron fires at each minute, and the worker fires none of them again');
is(query("count(*) >= 3 AND count(*) = count(DISTINCT date_trunc('minute', as_of)) FROM challenge_jobs.job_run"),
	't', 'each of them once');
is(alerts(), '', 'there is no alert while pg_cron fires at each minute');
is(undone_work($node, $db), '', 'the work is done');

# ---- a run of pg_cron that takes longer than the grace ----

keep_last_run();
$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', schedule => '30 * * * *');
UPDATE challenges SET status = 'active' WHERE id = 1;
DELETE FROM decision WHERE challenge_id = 1;
DELETE FROM notifications WHERE (data->>'challenge_id')::bigint = 1;
INSERT INTO stall VALUES (1);
SQL
my $blocker = hold_stall();
set_clock($node, '2030-01-01 12:29:58');
ok(wait_for_stall($node, $db), 'a run of pg_cron is at work');
set_clock($node, '2030-01-01 12:31:00');
wait_for_checks($node, 3);
is(runs(), 'pg_cron running #1', 'beside it the worker starts nothing, also when the grace is over');
release_stall($blocker);
wait_for_run("status = 'succeeded'");
wait_for_checks($node, 2);
is(runs(), 'pg_cron succeeded #1', 'the worker starts nothing after the long run of pg_cron has ended either');
is(undone_work($node, $db), '', 'its work is done, once');
$node->safe_psql($db, 'TRUNCATE stall');

# ---- pg_cron does not come ----

keep_last_run();
$node->safe_psql($db, 'SELECT cron.alter_job(jobid, active => false) FROM cron.job');
set_clock($node, '2030-01-01 13:30:05');
wait_for_checks($node, 2);
is(runs() . alerts(), '', 'a cron job that is not active: within the grace the worker waits for it');
set_clock($node, '2030-01-01 13:30:40');
wait_for_run("triggered_by = 'catch_up' AND status = 'succeeded'");
wait_for_checks($node, 3);
is(runs(), 'catch_up succeeded 2030-01-01 13:30 #1', 'after it there is one run, for the scheduled time that pg_cron has left out');
is(alerts(), "overdue 2030-01-01 13:30", 'and one alert, which lasts until pg_cron fires');
is(doctor_status("schedule:$JOB"), 'error',
	'the doctor says that the cron job is not active');

# ---- pg_cron comes again ----

keep_last_run();
$node->safe_psql($db, 'SELECT cron.alter_job(jobid, active => true) FROM cron.job');
set_clock($node, '2030-01-01 14:29:58');
wait_for_run("triggered_by = 'pg_cron' AND status = 'succeeded'");
set_clock($node, '2030-01-01 14:30:40');
wait_for_checks($node, 3);
is(runs() . alerts(), 'pg_cron succeeded #1', 'made active again, it is pg_cron alone that fires');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Empties alerts, and the log but for the last run, by which the worker knows what is done.
sub keep_last_run
{
	$node->safe_psql($db, <<'SQL');
DELETE FROM challenge_jobs.alert;
DELETE FROM challenge_jobs.job_run WHERE run_id < (SELECT max(run_id) FROM challenge_jobs.job_run);
UPDATE challenge_jobs.job_run SET triggered_by = 'earlier';
SQL
	return;
}
