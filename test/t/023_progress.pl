# job_progress: how far a run is, while it is at work and not a moment longer.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('progress', "log_statement = none\n");
my $progress = 'SELECT run_id, job, phase, done, total, percent FROM challenge_jobs.job_progress';

create_app($node, $db, 30);
$node->safe_psql($db, 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION challenge_jobs');
set_batch_size($node, $db, 10);
is($node->safe_psql($db, $progress), '', 'without a run there is no progress');

# Each: how the run is started, its run_id, and how it ends while it waits in the second of three batches.
my @cases = (
	[ 'run()', "CALL challenge_jobs.run('$JOB')", sub { $node->safe_psql($db, 'SELECT max(run_id) FROM challenge_jobs.job_run') }, 'succeeds' ],
	[ 'the job function', 'SELECT * FROM auto_complete_challenges()', sub { '' }, 'succeeds' ],
	[ 'run()', "CALL challenge_jobs.run('$JOB')", sub { $node->safe_psql($db, 'SELECT max(run_id) FROM challenge_jobs.job_run') }, 'is cancelled' ],
	[ 'the job function', 'SELECT * FROM auto_complete_challenges()', sub { '' }, 'is cancelled' ],
	[ 'run()', "CALL challenge_jobs.run('$JOB')", sub { $node->safe_psql($db, 'SELECT max(run_id) FROM challenge_jobs.job_run') }, 'is terminated' ],
	[ 'the job function', 'SELECT * FROM auto_complete_challenges()', sub { '' }, 'is terminated' ],
	[ 'run()', "CALL challenge_jobs.run('$JOB')", sub { $node->safe_psql($db, 'SELECT max(run_id) FROM challenge_jobs.job_run') }, 'is killed' ]);
foreach my $case (@cases)
{
	my ($what, $statement, $run_id, $end) = @$case;

	$node->safe_psql($db, <<'SQL');
TRUNCATE notifications, decision, stall;
ALTER TABLE challenges DISABLE TRIGGER USER;
UPDATE challenges SET status = 'active';
ALTER TABLE challenges ENABLE TRIGGER USER;
INSERT INTO stall VALUES (15);
SQL
	my $holder = hold_stall();
	my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", $statement,
		'SELECT pg_advisory_lock(4712)');
	wait_for_stall($node, $db) or die "$what: the run has not come to the stall";
	is($node->safe_psql($db, $progress), $run_id->() . "|$JOB|deciding|10|30|33.3",
		"$what: the progress in the second of three batches");
	is( $node->safe_psql($db,
			"SELECT p.pid = l.pid AND p.elapsed > '0' FROM challenge_jobs.job_progress p, pg_locks l WHERE l.locktype = 'advisory' AND l.objid = 4711 AND NOT l.granted"),
		't', "$what: whose run it is, and for how long it has been at work");
	is($node->safe_psql('other', $progress), '', "$what: another database does not show it");

	my $pid = $node->safe_psql($db, 'SELECT pid FROM challenge_jobs.job_progress');
	$holder->query_safe('SELECT pg_advisory_unlock(4711)') if $end eq 'succeeds';
	$node->safe_psql($db, "SELECT pg_cancel_backend($pid)") if $end eq 'is cancelled';
	$node->safe_psql($db, "SELECT pg_terminate_backend($pid)") if $end eq 'is terminated';
	kill('KILL', $pid) if $end eq 'is killed';
	finish_sql($run);
	eval { $holder->quit };
	wait_for_server($node) or die "$what: the server has not come back";
	ok($node->poll_query_until($db, 'SELECT count(*) = 0 FROM challenge_jobs.job_progress'),
		"$what $end: it is not shown any more");
}

# In a session that goes on the progress ends with the run, not with the session.
my $session = $node->background_psql($db, on_error_stop => 0);
$session->query("CALL challenge_jobs.run('$JOB')");
$session->query("SELECT * FROM auto_complete_challenges(as_of => 'infinity')");
is($session->query('SELECT count(*) FROM challenge_jobs.job_progress'), '0', 'a session that goes on shows nothing');
$session->quit;

$node->stop;
check_log($node);
done_testing();
