# The worker while it waits for challenge_jobs.alert_command: it is ended then without a transaction, and must not
# leave behind the lock under which it delivers, nor the command.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $worker = "FROM pg_stat_activity WHERE backend_type = 'challenge_jobs worker' AND datname = 'app'";
my $lock = "FROM pg_locks WHERE locktype = 'object' AND objsubid = -1";
# The command leaves its process id behind.
my $pid_file = PostgreSQL::Test::Utils::tempdir . '/command.pid';
my $node = create_node('alert_worker', <<"CONF");
challenge_jobs.databases = 'app'
challenge_jobs.worker_naptime = '1s'
challenge_jobs.alert_command = 'echo \$\$ >$pid_file; exec sleep 1000000'
challenge_jobs.alert_timeout = '1h'
CONF
my $pid;

# ---- pg_terminate_backend ----

hang();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
is($node->safe_psql('postgres', "SELECT count(*) $lock AND pid = $pid"), '0', 'a worker that is terminated leaves no lock behind');
is($node->safe_psql('postgres', "SELECT count(*) $lock AND pid IS NULL"), '0', 'nor one that nobody holds');
$node->safe_psql('app', 'UPDATE challenge_jobs.alert SET next_attempt_at = now()');
wait_for_hang();
pass('the next one goes on');

# ---- DROP DATABASE ----

$node->safe_psql('postgres', 'DROP DATABASE app WITH (FORCE)');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'app'"), '0', 'a database can be dropped by force meanwhile');
is($node->safe_psql('postgres', "SELECT count(*) $lock"), '0', 'and nothing is left of the lock');

# ---- shutdown ----

hang();
$node->stop('fast');
check_log($node);
is(scalar(() = slurp_file($node->logfile) =~ /database system was (not properly shut down|interrupted)/g), 0, 'the server has not crashed');
is(kill(0, slurp_file($pid_file)), 0, 'the shutdown ends the alert_command that the worker waited for');
done_testing();

# Makes the database with an alert, and waits until the worker has begun to deliver it.
sub hang
{
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	create_app($node, 'app', 3);
	$node->safe_psql('app', 'DROP TABLE notifications');
	$node->psql('app', "CALL challenge_jobs.run('$JOB')");
	wait_for_hang();
	return;
}

sub wait_for_hang
{
	$node->poll_query_until('postgres', "SELECT count(*) = 1 $lock AND granted") or die 'nothing is delivered';
	$node->poll_query_until('app', 'SELECT count(*) = 1 FROM challenge_jobs.alert WHERE attempts > 0 AND last_error IS NOT NULL')
	  or die 'no attempt';
	$pid = $node->safe_psql('postgres', "SELECT pid $worker");
	return;
}
