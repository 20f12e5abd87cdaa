# The engine worker and a standby: it runs nothing there, whatever is due. Promoted, the standby catches up what
# nobody did meanwhile, once, does not repeat what the primary did, and fires from then on. The wall clock of both
# is set while they run.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';
my $ours = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'challenge_jobs %'";

start_clock('2030-01-01 12:00:00');
my $primary = PostgreSQL::Test::Cluster->new('first');
$primary->init(allows_streaming => 1);
# (replication would take a clock that jumps for a peer that is silent)
$primary->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'challenge_jobs'
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
wal_sender_timeout = 0
wal_receiver_timeout = 0
CONF
$primary->start;
create_app($primary, $db, 30);
$primary->safe_psql($db, "SELECT challenge_jobs.schedule('$JOB', 'worker')");
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('second');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# ---- the primary is at work ----

set_clock($primary, '2030-01-02 00:00:01');
$primary->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'succeeded'")
  or die 'the primary does not fire';
wait_for_checks($primary, 2);
$primary->wait_for_catchup($standby);
use_app($standby, $db);
is(runs(), 'worker succeeded 2030-01-02 00:00 #1', 'the primary fires at midnight, and the standby sees it');
is(job_status('state'), 'ok', 'job_status says on the standby that the scheduled time is covered');

# ---- the primary is gone, and it is midnight again ----

$primary->safe_psql($db, "UPDATE challenges SET status = 'active' WHERE id = 1; DELETE FROM decision WHERE challenge_id = 1;
DELETE FROM notifications WHERE (data->>'challenge_id')::bigint = 1");
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
set_clock($standby, '2030-01-03 00:20:00');
is(job_status('state'), 'overdue', 'a standby knows that a scheduled time was missed');
is($standby->safe_psql($db, "SELECT action, scheduled_for FROM challenge_jobs.watchdog() WHERE job = '$JOB'"),
	'catch_up|2030-01-03 00:00:00+00', 'and what should be done');
# whoever would do it is woken by a reload
$standby->reload;
$standby->safe_psql($db, 'CHECKPOINT');
is($standby->safe_psql($db, $ours), '0', 'but nobody is there to do it');
is(runs(), 'worker succeeded 2030-01-02 00:00 #1', 'the standby has started no run before its promotion');
unlike(slurp_file($standby->logfile), qr/background worker process "challenge_jobs/, 'nor was anybody started');

# ---- promotion ----

$standby->promote;
$standby->poll_query_until($db, "SELECT count(*) > 0 FROM challenge_jobs.job_run WHERE triggered_by <> 'worker' AND status = 'succeeded'")
  or die 'the scheduled time is not caught up';
wait_for_checks($standby, 3);
is(runs(), "worker succeeded 2030-01-02 00:00 #1\ncatch_up succeeded 2030-01-03 00:00 #1",
	'promoted: the scheduled time that was missed is caught up once, the one of the primary is not repeated');
is(alerts(), "overdue 2030-01-03 00:00\nrecovered", 'and told of once');
is(undone_work($standby, $db), '', 'the work is done, once');
is($standby->safe_psql($db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'"),
	'1', 'there is a launcher');
set_clock($standby, '2030-01-04 00:00:01');
ok($standby->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE triggered_by = 'worker' AND scheduled_for = '2030-01-04' AND status = 'succeeded'"),
	'and it fires at the next midnight');
is(job_status('state'), 'ok', "after the next midnight the promoted server's job is in order");

$standby->stop;
check_log($primary);
check_log($standby);
done_testing();
