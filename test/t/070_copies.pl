# A restored or copied database runs nothing by itself until somebody says so; a pause holds for whoever calls, whatever
# his snapshot; and a database that is read-only by default is left alone.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $node = create_node('copies', <<'CONF');
challenge_jobs.databases = 'app, copy, template_copy'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
max_worker_processes = 20
wal_level = replica
max_wal_senders = 4
CONF
my $folder = PostgreSQL::Test::Utils::tempdir;
my $runs = 'SELECT count(*) FROM challenge_jobs.job_run';
my $decided = "SELECT (SELECT count(*) FROM challenges WHERE status <> 'active'), (SELECT count(*) FROM notifications)";
my $late = "UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '3 days'";

# ---- the original: scheduled, and late, so that a worker that looked would start a run at once ----

$node->safe_psql('postgres', 'CREATE DATABASE app');
create_app($node, 'app', 30);
$node->safe_psql('app', "SELECT challenge_jobs.schedule('$JOB', 'worker'), challenge_jobs.schedule('refresh_challenge_stats', 'external')");
$node->safe_psql('app', "BEGIN; SELECT challenge_jobs.pause(); $late; COMMIT");
$node->command_ok([ 'pg_dump', '-F', 'custom', '-f', "$folder/app", '-d', $node->connstr('app') ], 'the database is dumped');

# ---- a dump, restored into a database that the worker looks after ----

my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), "$folder/app" ], 'the dump is restored while the worker looks');
$node->safe_psql('copy', 'DELETE FROM challenge_jobs.pause');
wait_for_checks($node, 3);
is($node->safe_psql('copy', $decided), '0|0', 'in the copy nothing has been decided, and nobody notified');
is($node->safe_psql('copy', $runs), '0', 'no run was started');
is($node->safe_psql('copy', "SELECT string_agg(job || ' ' || kind || ' ' || (payload ->> 'hint'), ', ' ORDER BY job) FROM challenge_jobs.alert"),
	"$JOB restored Run: SELECT * FROM challenge_jobs.resume();, refresh_challenge_stats restored Run: SELECT * FROM challenge_jobs.resume();",
	'an alert for each job that was scheduled says what to type');
is(scalar(() = slurp_file($node->logfile, $offset) =~ /WARNING:  challenge_jobs: database "copy" is a copy: 2 jobs were scheduled in another one/g),
	1, 'the server log says so once');
my ($status, $out, $err) = $node->psql('copy', 'SELECT auto_complete_challenges()');
like($err, qr/this database is a copy.*HINT:  Run: SELECT \* FROM challenge_jobs.resume\(\);/s, 'a job function says what to type');
$node->safe_psql('copy', "CALL challenge_jobs.run('$JOB', 'manual')");
is(last_run($node, 'copy', 'status'), 'skipped', 'run() is skipped, whatever its trigger');
is($node->safe_psql('copy', 'SELECT completed, failed FROM auto_complete_challenges(dry_run => true)'), '10|20', 'a dry run works');
is($node->safe_psql('copy', 'SELECT job, engine FROM challenge_jobs.resume() ORDER BY 1'), "$JOB|worker\nrefresh_challenge_stats|external",
	'resume() adopts what was scheduled');
wait_for_checks($node, 3);
is($node->safe_psql('copy', 'SELECT bool_or(overdue) FROM challenge_jobs.watchdog()'), 'f', 'what was due before is not overdue');
$node->safe_psql('copy', "CALL challenge_jobs.run('$JOB')");
is(undone_work($node, 'copy'), '', 'and the jobs run again');
is($node->safe_psql('app', $decided), '0|0', 'the original is untouched');

# A resumed copy that is dumped and restored is a copy again.
$node->command_ok([ 'pg_dump', '-F', 'custom', '-f', "$folder/again", '-d', $node->connstr('copy') ], 'the resumed copy is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('again'), "$folder/again" ], 'and restored');
is($node->safe_psql('again', 'SELECT DISTINCT held FROM challenge_jobs.job'), 'restored', 'it is held back there');

# ---- a template ----

# The worker is connected to the original now and then, which CREATE DATABASE does not wait for long enough.
my $attempts = 0;
until ($node->psql('postgres', 'CREATE DATABASE template_copy TEMPLATE app') == 0) { die 'the template is always in use' if ++$attempts > 20 }
$node->safe_psql('template_copy', 'DELETE FROM challenge_jobs.pause');
wait_for_checks($node, 3);
is($node->safe_psql('template_copy', $decided) . ' ' . $node->safe_psql('template_copy', $runs), '0|0 0', 'a database made from a template runs nothing');

# ---- the same data folder is the same installation ----

my $backup = 'physical';
$node->backup($backup);
my $physical = PostgreSQL::Test::Cluster->new('physical');
$physical->init_from_backup($node, $backup, has_streaming => 1);
$physical->append_conf('postgresql.conf', "challenge_jobs.databases = ''");
$physical->start;
$physical->promote;
is($physical->safe_psql('app', 'SELECT DISTINCT held FROM challenge_jobs.job'), 'paused', 'a promoted standby of a paused database is paused');
is($physical->safe_psql('copy', 'SELECT count(held) FROM challenge_jobs.job'), '0', 'otherwise its jobs go on');
$physical->stop;

# ---- the original resumes: what was missed is caught up once, without an alert ----

is($node->safe_psql('app', $decided) . ' ' . $node->safe_psql('app', $runs), '0|0 0', 'while it was paused, nothing was started in the original');
$node->safe_psql('app', 'SELECT challenge_jobs.resume()');
ok($node->poll_query_until('app', "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE job = '$JOB' AND status = 'succeeded'"),
	'what was missed during the pause is caught up');
wait_for_checks($node, 3);
is($node->safe_psql('app', "SELECT string_agg(triggered_by || ' ' || status, ', ') FROM challenge_jobs.job_run WHERE job = '$JOB'"), 'catch_up succeeded', 'what was missed is caught up by one run');
is($node->safe_psql('app', 'SELECT count(*) FROM challenge_jobs.alert'), '0', 'and no alert says that it was overdue');
is(undone_work($node, 'app'), '', 'everything due in the original database is decided, once');

# ---- pause() against runs at work and old snapshots ----

$node->safe_psql('app', 'INSERT INTO challenges SELECT i, i::text, \'active\', current_date - 3 FROM generate_series(101, 110) i;
	INSERT INTO challenge_members SELECT i, 1 FROM generate_series(101, 110) i; TRUNCATE decision; INSERT INTO stall VALUES (1)');
my $lock = $node->background_psql('app');
$lock->query_safe('SELECT pg_advisory_lock(4711)');
my $run = start_sql($node, 'app', "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$JOB')");
ok(wait_for_stall($node, 'app'), 'a run is at work');
my $old = $node->background_psql('app', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe('SELECT count(*) FROM challenge_jobs.pause');
is($node->safe_psql('app', "SELECT job, run_id IS NOT NULL, pid > 0 FROM challenge_jobs.pause('test')"), "$JOB|t|t", 'pause() returns the run that is at work');
release_stall($lock);
is(finish_sql($run), '', 'a run that is at work ends as it would have');
$out = $old->query('SELECT send_streak_reminders()');
like($old->{stderr}, qr/all jobs are paused/, 'a caller with a snapshot from before the pause is refused as well');
$old->quit;
$node->safe_psql('app', 'SELECT challenge_jobs.resume()');

# ---- a database that is read-only by default ----

$node->safe_psql('app', "DELETE FROM challenge_jobs.job_run; $late");
$node->safe_psql('postgres', 'ALTER DATABASE app SET default_transaction_read_only = on');
wait_for_checks($node, 3);
my $before = $node->safe_psql('app', "$runs");
$offset = -s $node->logfile;
wait_for_checks($node, 3);
is($node->safe_psql('app', $runs), $before, 'nothing is started in a database that is read-only by default');
like(slurp_file($node->logfile), qr/challenge_jobs: database "app" is read-only by default, so its jobs do not run/, 'the server log says so');
unlike(slurp_file($node->logfile, $offset), qr/"app" is read-only by default/, 'a database that is read-only is not logged again');
is($node->safe_psql('app', q(SELECT status, remedy FROM challenge_jobs.doctor() WHERE check_name = 'read_only')),
	'warning|ALTER DATABASE app SET default_transaction_read_only = off;', 'the doctor says so');
$node->safe_psql('postgres', 'ALTER DATABASE app SET default_transaction_read_only = off');
ok($node->poll_query_until('app', "SELECT count(*) > 0 FROM challenge_jobs.job_run WHERE status = 'succeeded'"), 'afterwards it goes on');

$node->stop;
check_log($node);
done_testing();
