# pg_upgrade makes no copy: the jobs go on in the new cluster, with their history, and nobody has to say so.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'app';
my $settings = "challenge_jobs.databases = '$db'\nchallenge_jobs.worker_naptime = '1s'\n";
my $identity = 'SELECT i.* FROM challenge_jobs.installation i';

my $old = create_node('old', $settings);
$old->safe_psql('postgres', "CREATE DATABASE $db");
create_app($old, $db, 30);
$old->safe_psql($db, <<"SQL");
CREATE MATERIALIZED VIEW points AS SELECT user_id, count(*) AS challenges FROM challenge_members GROUP BY user_id;
CREATE UNIQUE INDEX ON points (user_id);
SELECT challenge_jobs.track('points', 'user_id');
SELECT challenge_jobs.schedule('$JOB', 'worker');
CALL challenge_jobs.run('$JOB');
CALL challenge_jobs.run('refresh_challenge_stats');
SQL
my $installation = $old->safe_psql($db, $identity);
my $runs = $old->safe_psql($db, 'SELECT * FROM challenge_jobs.job_run ORDER BY run_id');
$old->stop;
check_log($old);

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'challenge_jobs'\nlog_min_messages = debug1\n$settings");
my $folder = PostgreSQL::Test::Utils::tempdir;
chdir $folder or die $!;
command_ok(
	[
		'pg_upgrade', '--no-sync',
		'--old-bindir', $old->config_data('--bindir'), '--new-bindir', $new->config_data('--bindir'),
		'--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
		'--old-port', $old->port, '--new-port', $new->port, '--socketdir', $new->host
	],
	'pg_upgrade');
$new->start;

is($new->safe_psql($db, $identity), $installation, 'the installation is the same');
is($new->safe_psql($db, 'SELECT * FROM challenge_jobs.job_run ORDER BY run_id'), $runs, 'pg_upgrade keeps the rows of job_run');
wait_for_checks($new, 2);
is($new->safe_psql($db, "SELECT state, engine FROM challenge_jobs.job_status WHERE job = '$JOB'"), 'ok|worker', 'the job is scheduled as it was');
is($new->safe_psql($db, "SELECT count(*) FROM challenge_jobs.doctor() WHERE status = 'error'"), '0', 'the doctor has nothing to say');

# What a major computes another may compute differently: the first refresh is one of everything.
is(refreshed_by(1, 4), 'concurrent', 'a tracked view is refreshed as a whole');
is(refreshed_by(2, 4), 'incremental', 'and from then on by the keys that have changed');
is($new->safe_psql($db, 'SELECT string_agg(concat_ws($$ $$, user_id, challenges), $$, $$ ORDER BY user_id) FROM points'), '1 30, 2 30, 3 30, 4 2',
	'the view is right when the upgraded server has refreshed it');

$new->stop;
check_log($new);
done_testing();

# ---- parts ----

# Adds a member and refreshes; returns the method.
sub refreshed_by
{
	my ($challenge, $user) = @_;

	$new->safe_psql($db, "INSERT INTO challenge_members VALUES ($challenge, $user); CALL challenge_jobs.run('refresh_challenge_stats')");
	return $new->safe_psql($db,
		q(SELECT v ->> 'method' FROM (SELECT jsonb_array_elements(result -> 'views') AS v FROM challenge_jobs.job_run ORDER BY run_id DESC) r WHERE v ->> 'view' = 'public.points' LIMIT 1));
}
