# Many sessions at once: job functions and runs from several sides, while the app creates, ends, cancels and
# moves challenges and adds members. At the end each challenge has been decided once and each member
# notified once, whoever did it; and every run() has left its row.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $clients = 8;
my $transactions = 100;
my $seed = $ENV{CJ_TEST_SEED} // int(rand(1_000_000));
note "CJ_TEST_SEED=$seed";

my $node = create_node('concurrency', "max_connections = 60\nchallenge_jobs.lock_timeout = '250ms'\n");
create_app($node, $db, 400);
set_batch_size($node, $db, 7);
$node->safe_psql($db, <<'SQL');
CREATE SEQUENCE new_challenge START 1001;
CREATE TABLE run_call (triggered_by text PRIMARY KEY);
CREATE TABLE function_result (completed bigint, failed bigint, notified bigint);
GRANT ALL ON SEQUENCE new_challenge TO app_owner;

-- a job function as a caller would use it that minds the job being busy
CREATE FUNCTION try_function() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO function_result SELECT completed, failed, notified FROM auto_complete_challenges();
    RETURN 'done';
EXCEPTION WHEN lock_not_available THEN
    RETURN 'busy';
END $$;
-- a job function whose caller changes its mind
CREATE FUNCTION regret_function() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM auto_complete_challenges();
    RAISE EXCEPTION USING errcode = 'P0099', message = 'regret';
EXCEPTION WHEN lock_not_available THEN
    RETURN 'busy';
WHEN SQLSTATE 'P0099' THEN
    RETURN 'regretted';
END $$;
SQL

my %scripts = (
	run => [ 2, <<'SQL' ],
\set n random(1, 1000000000)
INSERT INTO run_call VALUES (:client_id || '/' || :n) ON CONFLICT DO NOTHING;
CALL challenge_jobs.run('auto_complete_challenges', :client_id || '/' || :n);
SQL
	function => [ 2, "SELECT try_function();\n" ],
	regret => [ 1, "SELECT regret_function();\n" ],
	repeatable_read => [ 1, <<'SQL' ],
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try_function();
COMMIT;
SQL
	# a challenge that has ended already, with its members
	create => [ 4, <<'SQL' ],
BEGIN;
SELECT nextval('new_challenge') AS id \gset
INSERT INTO challenges VALUES (:id, 'new ' || :id, 'active', current_date - 3);
INSERT INTO challenge_members SELECT :id, u FROM generate_series(1, 3) u;
INSERT INTO challenge_member_stats SELECT :id, u, CASE WHEN :id % 3 = 0 THEN 90 ELSE 70 END FROM generate_series(1, 3) u;
COMMIT;
SQL
	# the app's own changes of a challenge; a transaction that stays open for a while
	cancel => [ 2, <<'SQL' ],
\set id random(1, 400)
BEGIN;
UPDATE challenges SET status = 'cancelled' WHERE id = :id AND status = 'active';
SELECT count(*) FROM challenges;
COMMIT;
SQL
	prolong => [ 2, <<'SQL' ],
\set id random(1, 400)
UPDATE challenges SET end_date = current_date + 5 WHERE id = :id AND status = 'active';
SQL
	shorten => [ 1, <<'SQL' ],
UPDATE challenges SET end_date = current_date - 3 WHERE status = 'active' AND end_date > current_date;
SQL
	rename => [ 2, <<'SQL' ],
\set id random(1, 400)
UPDATE challenges SET name = name || '!' WHERE id = :id;
SQL
);

my @files;
foreach my $name (sort keys %scripts)
{
	my ($weight, $text) = @{ $scripts{$name} };
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$name.sql";

	append_to_file($file, $text);
	push @files, '-f', "$file\@$weight";
}

# A client whose transaction is chosen as the victim (REPEATABLE READ, deadlock) tries again.
my ($out, $err) = ('', '');
my $ok = IPC::Run::run(
	[
		$node->installed_command('pgbench'), '-n', '-c', $clients, '-j', 2,
		'-t', $transactions, "--random-seed=$seed", '--max-tries=100', @files,
		'-d', $node->connstr($db)
	],
	'>', \$out, '2>', \$err);

ok($ok, 'every session went on to its end') or diag $out, $err;
unlike($err, qr/ERROR|FATAL|aborted/, 'no session got an error that it did not expect');

# What was locked is taken by a run with nobody in its way.
$node->safe_psql($db, "UPDATE challenges SET end_date = current_date - 3 WHERE status = 'active'");
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, $db), '', 'each challenge decided once, each of its members notified once');
is( $node->safe_psql($db, <<'SQL'), '', 'a challenge that the app cancelled is not notified of');
SELECT c.id
  FROM challenges c
  JOIN notifications n ON (n.data->>'challenge_id')::bigint = c.id
 WHERE c.status = 'cancelled'
SQL
is( $node->safe_psql($db, <<'SQL'), '', 'every run() has left a row, and one only');
SELECT c.triggered_by, count(r.run_id)
  FROM run_call c
  LEFT JOIN challenge_jobs.job_run r USING (triggered_by)
 GROUP BY 1
HAVING count(r.run_id) <> 1
SQL
is( $node->safe_psql($db,
		"SELECT DISTINCT status FROM challenge_jobs.job_run WHERE status NOT IN ('succeeded', 'skipped')"),
	'',
	'no run failed, crashed or goes on for ever');
is( $node->safe_psql($db, <<'SQL'), 't', 'the figures of the runs add up to what was done');
SELECT (sum((result->>'completed')::bigint + (result->>'failed')::bigint),
        sum((result->>'notified')::bigint))
       = ((SELECT count(*) FROM decision), (SELECT count(*) FROM notifications))
  FROM challenge_jobs.job_run
 WHERE status = 'succeeded'
SQL
is( $node->safe_psql($db, <<'SQL'), 't', 'a job function leaves a row exactly where its caller kept its work');
SELECT (SELECT count(*) FROM function_result)
       = (SELECT count(*) FROM challenge_jobs.job_run WHERE triggered_by = 'function')
SQL
cmp_ok(
	$node->safe_psql($db, "SELECT count(*) FROM challenge_jobs.job_run WHERE status = 'skipped'"),
	'>', 0, 'some runs met another one at work, so this test did try something');
cmp_ok($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status = 'cancelled'"),
	'>', 0, 'the app did get its changes in');

$node->stop;
check_log($node);
done_testing();
