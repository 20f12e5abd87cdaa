# Runs that are killed: whatever the moment, the next run completes the work, each challenge is decided
# once, each member notified once, and the row that was left says what became of the run.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $node = create_node('crash');
my $db = 'postgres';

# What is killed has a challenge of the first, a middle or the last of three batches in its hands.
my %moments = ('the first batch' => 5, 'the second batch' => 11, 'the last batch' => 30);

create_app($node, $db, 30);
set_batch_size($node, $db, 10);

foreach my $way ('an immediate stop of the server', 'kill -9 of the backend', 'pg_terminate_backend')
{
	foreach my $moment (sort { $moments{$a} <=> $moments{$b} } keys %moments)
	{
		kill_in_batch($way, $moment);
	}
}

# ---- the job function ----

# A job function that is killed leaves nothing at all behind.
reset_all(5);
end_stalled(start_stalled('kill -9 of a job function', 'SELECT * FROM auto_complete_challenges()'), 'kill -9 of the backend');
is( $node->safe_psql($db,
		"SELECT count(*) FILTER (WHERE status = 'active') FROM challenges UNION ALL SELECT count(*) FROM notifications"
	),
	"30\n0",
	'kill -9 of a job function: nothing of its work remains');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, $db), '', 'kill -9 of a job function: the next run does everything');

# ---- kill -9 at moments that nobody chose ----

# The run is killed as soon as a given number of batches has been committed, wherever it then is.
set_batch_size($node, $db, 1);
foreach my $batches (1, 7, 13, 29)
{
	reset_all(undef);
	my $run = start_sql($node, $db, "CALL challenge_jobs.run('$JOB')");
	$node->poll_query_until($db, "SELECT count(*) >= $batches FROM challenges WHERE status <> 'active'")
	  or die 'the run has not begun';
	my $pid = $node->safe_psql($db,
		"SELECT pid FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1");
	kill('KILL', $pid);
	finish_sql($run);
	wait_for_server($node) or die 'the server has not come back';
	$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
	is(undone_work($node, $db), '', "kill -9 after about $batches batches: the next run completes the work");
}
is($node->safe_psql($db, "SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'running'"),
	'0', 'no row is left that says a run is running');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Puts the app back to where it was, with a stall at the n-th challenge, and no run in the log.
sub reset_all
{
	my ($stall) = @_;

	fill_app($stall);
	$node->safe_psql($db, 'DELETE FROM challenge_jobs.job_run');
	return;
}

# Ends a run in one way at one moment and looks at what is left.
sub kill_in_batch
{
	my ($way, $moment) = @_;
	my $stall = $moments{$moment};
	my $committed = int(($stall - 1) / 10) * 10;
	my $name = "$way in $moment";

	reset_all($stall);
	my $run = start_stalled($name, "CALL challenge_jobs.run('$JOB')");
	is( $node->safe_psql($db,
			"SELECT status, pid = $run->{pid}, role_name FROM challenge_jobs.job_run"),
		'running|t|' . $node->safe_psql($db, 'SELECT current_user'),
		"$name: the row of the run was committed before the work");

	end_stalled($run, $way);
	is($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status <> 'active'"),
		$committed, "$name: the batches before are kept");
	is( $node->safe_psql($db, <<'SQL'), '0', "$name: no challenge is decided without its members notified, none notified without");
SELECT count(*)
  FROM challenges c
 WHERE (c.status <> 'active')
       <> ((SELECT count(*) FROM notifications n WHERE n.data->>'challenge_id' = c.id::text) = 3)
SQL

	$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
	is(undone_work($node, $db), '', "$name: the next run completes the work, all of it once");
	is( $node->safe_psql($db,
			"SELECT string_agg(status, ' ' ORDER BY run_id) FROM challenge_jobs.job_run"),
		'crashed succeeded',
		"$name: the next run closes the row of the one that died");
	is( $node->safe_psql($db,
			"SELECT message IS NOT NULL AND finished_at >= started_at FROM challenge_jobs.job_run WHERE status = 'crashed'"
		),
		't',
		"$name: that row says why and when");
	return;
}
