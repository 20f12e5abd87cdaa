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

# Ways to end a run in the middle; each is given the process id of its backend.
my %kill = (
	'kill -9 of the backend' => sub { kill('KILL', $_[0]) },
	'pg_terminate_backend' => sub { $node->safe_psql($db, "SELECT pg_terminate_backend($_[0])") },
	'an immediate stop of the server' => sub {
		$node->stop('immediate');
		$node->start;
	});

# What is killed has a challenge of the first, a middle or the last of three batches in its hands.
my %moments = ('the first batch' => 5, 'the second batch' => 11, 'the last batch' => 30);

create_app($node, $db, 30);
set_batch_size($node, $db, 10);

foreach my $way (sort keys %kill)
{
	foreach my $moment (sort { $moments{$a} <=> $moments{$b} } keys %moments)
	{
		test_kill($way, $moment);
	}
}

# ---- the job function ----

# A job function that is killed leaves nothing at all behind.
reset_app(5);
my $holder = $node->background_psql($db);
$holder->query_safe('SELECT pg_advisory_lock(4711)');
my $function = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'",
	'SELECT * FROM auto_complete_challenges()');
wait_for_stall($node, $db) or die 'the job function has not come to the stall';
kill('KILL', stalled_pid());
finish_sql($function);
eval { $holder->quit };
wait_for_server($node) or die 'the server has not come back';
is( $node->safe_psql($db,
		"SELECT count(*) FILTER (WHERE status = 'active') FROM challenges UNION ALL SELECT count(*) FROM notifications"
	),
	"30\n0",
	'kill -9 of a job function: nothing of its work remains');
$node->safe_psql($db, 'TRUNCATE stall');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, $db), '', 'kill -9 of a job function: the next run does everything');

# ---- kill -9 at moments that nobody chose ----

# The run is killed as soon as a given number of batches has been committed, wherever it then is.
set_batch_size($node, $db, 1);
foreach my $batches (1, 7, 13, 29)
{
	reset_app(undef);
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

# Puts the app back to where it was, with a stall at the n-th challenge.
sub reset_app
{
	my ($stall) = @_;

	$node->safe_psql($db, <<'SQL');
TRUNCATE notifications, decision, stall;
ALTER TABLE challenges DISABLE TRIGGER USER;
DELETE FROM challenge_members;
DELETE FROM challenges;
INSERT INTO challenges
SELECT i, 'challenge ' || i, 'active', current_date - 2 - i % 5 FROM generate_series(1, 30) i;
ALTER TABLE challenges ENABLE TRIGGER USER;
INSERT INTO challenge_members SELECT c.id, u FROM challenges c, generate_series(1, 3) u;
DELETE FROM challenge_jobs.job_run;
SQL
	$node->safe_psql($db, 'VACUUM FULL challenges');
	$node->safe_psql($db, "INSERT INTO stall VALUES ($stall)") if defined $stall;
	return;
}

# Returns the process id of the session that waits in the stall.
sub stalled_pid
{
	return $node->safe_psql($db,
		"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted");
}

# Ends a run in one way at one moment and looks at what is left.
sub test_kill
{
	my ($way, $moment) = @_;
	my $stall = $moments{$moment};
	my $committed = int(($stall - 1) / 10) * 10;
	my $name = "$way in $moment";

	reset_app($stall);
	my $holder = $node->background_psql($db, on_error_stop => 0);
	$holder->query_safe('SELECT pg_advisory_lock(4711)');
	my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'",
		"CALL challenge_jobs.run('$JOB')");
	wait_for_stall($node, $db) or die "$name: the run has not come to the stall";
	my $pid = stalled_pid();
	is( $node->safe_psql($db,
			"SELECT status, pid = $pid, role_name FROM challenge_jobs.job_run"),
		'running|t|' . $node->safe_psql($db, 'SELECT current_user'),
		"$name: the row of the run was committed before the work");

	$kill{$way}->($pid);
	finish_sql($run);
	eval { $holder->quit };
	wait_for_server($node) or die "$name: the server has not come back";
	$node->poll_query_until($db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die "$name: the backend does not end";

	is($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status <> 'active'"),
		$committed, "$name: the batches before are kept");
	is( $node->safe_psql($db, <<'SQL'), '0', "$name: no challenge is decided without its members notified, none notified without");
SELECT count(*)
  FROM challenges c
 WHERE (c.status <> 'active')
       <> ((SELECT count(*) FROM notifications n WHERE n.data->>'challenge_id' = c.id::text) = 3)
SQL

	$node->safe_psql($db, 'TRUNCATE stall');
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
