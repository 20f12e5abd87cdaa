# A job function in a transaction that is prepared for a two-phase commit: its work, its row and the job's lock
# last until the second phase, through the end of the session and a crash of the server.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('prepared', "max_prepared_transactions = 5\n");
my ($status, $out, $err);

create_app($node, $db, 30);

foreach my $crash (0, 1)
{
	foreach my $end ('ROLLBACK', 'COMMIT')
	{
		my $name = ($crash ? 'after a crash, ' : '') . $end;

		$node->safe_psql($db, <<'SQL');
TRUNCATE notifications, decision;
ALTER TABLE challenges DISABLE TRIGGER USER;
UPDATE challenges SET status = 'active';
ALTER TABLE challenges ENABLE TRIGGER USER;
DELETE FROM challenge_jobs.job_run;
BEGIN;
SELECT * FROM auto_complete_challenges();
PREPARE TRANSACTION 'function';
SQL
		if ($crash)
		{
			$node->stop('immediate');
			$node->start;
		}
		is($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status <> 'active'"),
			'0', "$name: nothing is to be seen of what is only prepared");

		($status, $out, $err) = $node->psql($db, "CALL challenge_jobs.run('$JOB')");
		is($status, 0, "$name: run() beside it is no error");
		is(last_run($node, $db, 'status, message'), 'skipped|the job is running in another session',
			"$name: but is skipped");
		($status, $out, $err) = $node->psql($db, 'SELECT * FROM auto_complete_challenges()');
		like($err, qr/ERROR:  job "$JOB" is running in another session/, "$name: a job function beside it is refused");
		like($err, qr/HINT:  Run: ROLLBACK PREPARED '[^']+';/, "$name: with what ends it");

		$node->safe_psql($db, "$end PREPARED 'function'");
		is( $node->safe_psql($db, "SELECT count(*) FROM challenge_jobs.job_run WHERE triggered_by = 'function' AND status = 'succeeded'"),
			$end eq 'COMMIT' ? '1' : '0',
			"$name: the job function's row comes with its work");
		is(undone_work($node, $db) eq '', $end eq 'COMMIT', "$name: so does the work");
		$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
		is(undone_work($node, $db), '', "$name: the next run does what is left, and that once");
		is($node->safe_psql($db, "SELECT count(*) FROM pg_locks WHERE locktype = 'object'"),
			'0', "$name: the lock is gone");
	}
}

# The session that prepared goes on, and may itself use the job again afterwards.
my $session = $node->background_psql($db, on_error_stop => 0);
$node->safe_psql($db, "UPDATE challenges SET status = 'active'");
$session->query_safe("BEGIN; SELECT * FROM auto_complete_challenges(); PREPARE TRANSACTION 'function'");
$session->query('SELECT * FROM auto_complete_challenges()');
like($session->{stderr}, qr/is running in another session/,
	'the session that prepared does not hold the lock any more');
$session->{stderr} = '';
$session->query_safe("ROLLBACK PREPARED 'function'");
$session->query_safe("CALL challenge_jobs.run('$JOB')");
is(last_run($node, $db, 'status'), 'succeeded', 'and can run the job after the second phase');
$session->quit;

$node->stop;
check_log($node);
done_testing();
