# A standby has no worker; promoted, it has one at once, which closes the runs that the primary took with it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $failure = "SELECT * FROM auto_complete_challenges(as_of => 'infinity')";
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'challenge_jobs %'";

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
# what is seen soon is not seen by chance: the nap is of a day; and the run waits in the stall for as long as it is held
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'challenge_jobs'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1d'
deadlock_timeout = 10min
CONF
$node->start;
create_app($node, $db, 30);
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

# A run that is at work when the primary is lost.
set_batch_size($node, $db, 10);
$node->safe_psql($db, 'INSERT INTO stall VALUES (15)');
my $holder = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db) or die 'the run has not come to the stall';
$node->wait_for_catchup($standby);

is($standby->safe_psql($db, $workers), '0', 'a standby has neither launcher nor worker');
is($standby->safe_psql($db, q(SELECT status || ': ' || finding FROM challenge_jobs.doctor() WHERE check_name = 'worker')),
	'ok: the worker starts when this standby is promoted', 'the doctor says so');
is($standby->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_progress'), '0', 'and shows no progress of others');
my ($status, $out, $err) = $standby->psql($db, $failure);
like($err, qr/ERROR:  as_of must be finite/, 'a job function that fails on a standby fails as anywhere');
$standby->reload;
is($standby->safe_psql($db, 'SELECT status FROM challenge_jobs.job_run'), 'running', 'the run of the primary is seen as running');

$node->stop('immediate');
finish_sql($run);
eval { $holder->quit };
$standby->promote;
ok($standby->poll_query_until($db, "SELECT status = 'crashed' FROM challenge_jobs.job_run"),
	'after promotion the worker is there at once, and closes the run that went with the primary');
is($standby->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_run'), '1',
	'what failed on the standby is not recorded');
$standby->psql($db, 'BEGIN; ALTER TABLE challenges RENAME TO no_challenges; SELECT * FROM auto_complete_challenges(); ROLLBACK');
ok($standby->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'failed'"),
	'what fails from then on is');
$standby->safe_psql($db, 'TRUNCATE stall');
$standby->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($standby, $db), '', 'the next run does the rest');

$standby->stop;
check_log($standby);
done_testing();
