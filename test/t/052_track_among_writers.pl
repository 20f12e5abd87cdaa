# Eight clients write to the tables of a view all the time. track() and untrack() lock them all, and are not starved: they wait in
# the queue for each, though not with the others in hand for long. None of the writers is a deadlock's victim.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('track_among_writers', "max_connections = 30\n");
my $script = PostgreSQL::Test::Utils::tempdir . '/write.sql';
my ($out, $err) = ('', '');

$node->safe_psql($db, <<'SQL');
CREATE EXTENSION challenge_jobs;
CREATE TABLE e (n int, k int);
CREATE TABLE g (k int, n int);
CREATE TABLE h (k int, n int);
CREATE MATERIALIZED VIEW v AS
SELECT e.k, count(*) AS rows, sum(g.n) AS g, sum(h.n) AS h FROM e JOIN g ON g.k = e.k JOIN h ON h.k = e.k GROUP BY e.k;
CREATE UNIQUE INDEX ON v (k);
SQL
# in the order of the app
PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
BEGIN;
INSERT INTO e VALUES (1, 1);
INSERT INTO g VALUES (1, 1);
SELECT pg_sleep(0.005);
INSERT INTO h VALUES (1, 1);
COMMIT;
SQL

my $writers = IPC::Run::start(
	[
		$node->installed_command('pgbench'), '-n', '-c', 8, '-j', 2, '-T', 90, '-f', $script,
		'-h', $node->host, '-p', $node->port, '-U', 'postgres', $db
	],
	'>', \$out, '2>', \$err);
$node->poll_query_until($db, 'SELECT count(*) > 100 FROM e') or die 'nobody writes';

my ($tracked, $untracked, $failures) = (0, 0, '');
foreach my $round (1 .. 5)
{
	my ($status, undef, $message) = $node->psql($db, "SELECT challenge_jobs.track('v', 'k')");
	$status == 0 ? $tracked++ : ($failures .= $message);
	($status, undef, $message) = $node->psql($db, "SELECT challenge_jobs.untrack('v')");
	$status == 0 ? $untracked++ : ($failures .= $message);
}
is("$tracked $untracked $failures", '5 5 ', 'the view is tracked and untracked, each time');
ok($writers->pumpable, 'the writers are still at work');
$node->safe_psql($db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep|INSERT|BEGIN|COMMIT' AND pid <> pg_backend_pid()");
$writers->finish;
unlike($err, qr/deadlock|timeout/, 'and none of them was ended by us');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/deadlock detected/, 'nobody was the victim of a deadlock');

$node->stop;
done_testing();
