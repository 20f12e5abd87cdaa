# A run of the worker that takes longer than its max_runtime: it is ended, notified of, and not repeated, as it would take
# as long again; the next scheduled time is another matter. The wall clock is set while the server runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';

start_clock('2030-01-01 12:00:00');
my $node = create_node('max_runtime', <<'CONF');
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
challenge_jobs.lock_timeout = '180s'
log_min_messages = debug1
CONF
create_app($node, $db, 30);
set_batch_size($node, $db, 10);
$node->safe_psql($db, <<"SQL");
INSERT INTO stall VALUES (15);
SELECT challenge_jobs.alter_job('$JOB', max_runtime => '1 s', retry_delay => '1 min');
SELECT challenge_jobs.schedule('$JOB', 'worker');
SQL
my $blocker = hold_stall();

set_clock($node, '2030-01-01 23:59:59');
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'cancelled'", 'the run is not ended');
is(query("message ~ 'longer than its max_runtime of ', sqlstate, duration >= interval '1 s' FROM challenge_jobs.job_run"), 't|57014|t',
	'a run of the worker that waits for ever is ended by its max_runtime, and says so');
is(query("count(*) FROM challenges WHERE status <> 'active'"), '10', 'finished batches are kept');
is(query("string_agg(kind || ': ' || (payload->>'status'), ', ') FROM challenge_jobs.alert"), 'failed: cancelled', 'there is an alert');
is(query("state, last_status FROM challenge_jobs.job_status WHERE job = '$JOB'"), 'failing|cancelled', 'and job_status says so');

set_clock($node, '2030-01-02 00:10:00');
wait_for_checks($node, 3);
is(query('count(*) FROM challenge_jobs.job_run'), '1', 'it is not repeated');

release_stall($blocker);
set_clock($node, '2030-01-02 23:59:59');
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'succeeded' AND scheduled_for = '2030-01-03'", 'the next scheduled time is not covered');
wait_for_checks($node, 2);
is(undone_work($node, $db), '', 'when nothing is in the way, a later run does the rest');
is(query("kind FROM challenge_jobs.alert ORDER BY alert_id DESC LIMIT 1"), 'recovered', 'the success after a run that was too long is an alert of its own');
is(query("state FROM challenge_jobs.job_status WHERE job = '$JOB'"), 'ok', 'and all is well');

$node->stop;
check_log($node);
done_testing();
