# A failure from beginning to end: the worker fires a job, which fails; the worker reports it by
# challenge_jobs.alert_command, once, also where the command does not work at first; the app is mended; the worker
# repeats the job and reports the recovery. Nothing is called by hand. The wall clock is set while the server runs.
use strict;
use warnings;

use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';

start_clock('2030-01-01 12:00:00');
my $node = create_node('notified', <<'CONF');
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
CONF
my $folder = $node->basedir;

# The command writes down what it gets; while there is a file "down", it fails.
open(my $script, '>', "$folder/recorder") or die $!;
print $script "#!/bin/sh\n[ ! -e $folder/down ] || { echo 'the pager is down' >&2; exit 3; }\nexec cat >>$folder/got\n";
close $script;
chmod 0755, "$folder/recorder";
$node->append_conf('postgresql.conf', "challenge_jobs.alert_command = '$folder/recorder'");
$node->reload;

create_app($node, $db, 30);
set_batch_size($node, $db, 10);
$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', max_retries => 5, retry_delay => '5 min');
SELECT challenge_jobs.schedule('$JOB', 'worker');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    RAISE EXCEPTION E'the "app"\\nrefuses: é' USING ERRCODE = '23514', DETAIL = 'a detail', HINT = 'a hint';
END \$\$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
is(job_status('state, consecutive_failures, last_message'), 'never_run|0|', 'before: it has never run');
is(metrics(), 'alerts_undelivered 0, consecutive_failures 0, failing 0, overdue 0, paused 0, restored 0, running 0', 'before the first run the metrics say that nothing runs or fails');

# ---- it fails ----

append_to_file("$folder/down", '');
set_clock($node, '2030-01-01 23:59:59');
poll("SELECT count(*) = 1 FROM challenge_jobs.alert WHERE last_error = 'exit status 3: the pager is down'",
	'the worker has not tried to deliver an alert');
is(runs(), 'worker failed 2030-01-02 00:00 #1', 'the worker fires at midnight, and the job fails');
is(job_status('state, consecutive_failures, last_message'), qq(failing|1|the "app"\nrefuses: é), 'job_status says so, and why');
is(metrics(), 'alerts_undelivered 1, consecutive_failures 1, failing 1, overdue 0, paused 0, restored 0, running 0, runs failed 1',
	'so do the metrics, and that nobody knows of it');
is(got(), '', 'as the command has failed');

unlink "$folder/down";
set_clock($node, '2030-01-02 00:10:00');
poll("SELECT count(*) = 2 FROM challenge_jobs.job_run WHERE status = 'failed'", 'the run is not repeated');
poll('SELECT count(*) = 1 FROM challenge_jobs.alert WHERE delivered_at IS NOT NULL', 'the alert is not delivered');
wait_for_checks($node, 2);
is(runs(), "worker failed 2030-01-02 00:00 #1\nretry failed 2030-01-02 00:00 #2", 'the run is repeated, and fails again');
my @got = decoded();
is(scalar(@got), 1, 'the worker delivers the alert with its next attempt, and there is no other for the second failure');
is(join('|', map { $got[0]->{$_} // '-' } qw(kind job status sqlstate message hint triggered_by database)),
	qq(failed|$JOB|failed|23514|the "app"\nrefuses: \x{e9}|a hint|worker|$db), 'it says what has failed, and why');
like($got[0]->{detail}, qr/^a detail\nNot done \(30\): /, 'and whom it concerns');
is("$got[0]->{run_id} $got[0]->{delivery} $got[0]->{consecutive_failures}", query('min(run_id) FROM challenge_jobs.job_run') . ' 2 1',
	'which run, and which attempt to tell');
is(metrics(), 'alerts_undelivered 0, consecutive_failures 2, failing 1, overdue 0, paused 0, restored 0, running 0, runs failed 2', 'after two failures the metrics count both and no alert is undelivered');
is(query("count(*) FROM challenges WHERE status <> 'active'"), '0', 'no work is done without its members notified');

# ---- past the grace ----

# A scheduled time that no run covers is overdue, whatever has been tried.
set_clock($node, '2030-01-02 00:19:00');
poll('SELECT count(*) = 2 FROM challenge_jobs.alert WHERE delivered_at IS NOT NULL', 'that it is overdue is not notified');
@got = decoded();
is("$got[1]->{kind} $got[1]->{scheduled_for}", 'overdue 2030-01-02T00:00:00+00:00', 'past the grace the worker says that the scheduled time was missed');
is(metrics() =~ s/, running.*//r, 'alerts_undelivered 0, consecutive_failures 2, failing 1, overdue 1, paused 0, restored 0', 'when the job is overdue the metrics say so, beside the two failures');

# ---- it is mended ----

$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');
set_clock($node, '2030-01-02 01:00:00');
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'succeeded'", 'the run is not repeated after it was mended');
poll('SELECT count(*) = 3 FROM challenge_jobs.alert WHERE delivered_at IS NOT NULL', 'the recovery is not delivered');
wait_for_checks($node, 3);
is(runs(), "worker failed 2030-01-02 00:00 #1\nretry failed 2030-01-02 00:00 #2\nretry succeeded 2030-01-02 00:00 #3", 'mended, it succeeds with the next attempt');
@got = decoded();
is(join(' ', map { $_->{kind} } @got), 'failed overdue recovered', 'the worker delivers the recovery, once');
is(join('|', map { $got[2]->{$_} } qw(job run_id status triggered_by)),
	"$JOB|" . query("run_id FROM challenge_jobs.job_run WHERE status = 'succeeded'") . '|succeeded|retry', 'and by which run');
is(job_status('state, consecutive_failures, last_message'), 'ok|0|', 'job_status says that all is well');
is(metrics(), 'alerts_undelivered 0, consecutive_failures 0, failing 0, overdue 0, paused 0, restored 0, running 0, runs failed 2, runs succeeded 1', 'so do the metrics');
is(query("value = (SELECT rows_affected FROM challenge_jobs.job_run WHERE status = 'succeeded') FROM challenge_jobs.metrics WHERE name = 'challenge_jobs_last_rows_affected' AND labels->>'job' = '$JOB'"),
	't', 'and how much was done');
is(undone_work($node, $db), '', 'the work is done, once');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# The metrics of the job that are not times or rows; of the numbers of runs, those that are not 0.
sub metrics
{
	return query(<<"SQL");
string_agg(concat_ws(' ', replace(name, 'challenge_jobs_', ''), labels->>'status', value), ', ' ORDER BY name, labels->>'status')
  FROM challenge_jobs.metrics
 WHERE labels->>'job' = '$JOB'
   AND name NOT LIKE '%last%'
   AND (value <> 0 OR name <> 'challenge_jobs_runs')
SQL
}

# What the command was given.
sub got { return -f "$folder/got" ? slurp_file("$folder/got") : ''; }

sub decoded { return map { JSON::PP->new->utf8->decode($_) } split /\n/, got(); }
