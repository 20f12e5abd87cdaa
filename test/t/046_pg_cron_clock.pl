# pg_cron and the worker by a clock that is set: midnight, a clock that goes back over it, and the mornings around a
# change to summer time. What pg_cron makes of a jump is its own affair: whatever it fires or leaves out, nothing is
# done twice, and nothing is left undone.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';
my $REMIND = 'send_streak_reminders';
my $node = PostgreSQL::Test::Cluster->new('cron_clock');

$node->init;
plan skip_all => 'pg_cron is not installed'
  unless -f $node->config_data('--sharedir') . '/extension/pg_cron.control';
start_clock('2030-03-28 12:00:20');
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron, challenge_jobs'
cron.database_name = '$db'
cron.host = '@{[ $node->host ]}'
timezone = 'America/New_York'
challenge_jobs.databases = '$db'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
max_worker_processes = 20
CONF
$node->start;
create_app($node, $db, 30);
$node->safe_psql($db, <<"SQL");
CREATE EXTENSION pg_cron;
ALTER TABLE challenge_members ADD current_streak integer, ADD last_checkin_at timestamptz;
INSERT INTO challenges VALUES (1000, 'goes on', 'active', 'infinity');
INSERT INTO challenge_members SELECT 1000, u, 5 FROM generate_series(1, 3) u;
INSERT INTO user_profiles SELECT u, 'Europe/Berlin' FROM generate_series(1, 3) u;
SELECT challenge_jobs.schedule('$JOB', 'pg_cron');
SQL

# ---- midnight, twice ----

set_clock($node, '2030-03-28 23:59:58');
wait_for_run("job = '$JOB' AND status = 'succeeded' AND as_of >= '2030-03-29 00:00+00'");
is(query("triggered_by, status, date_trunc('minute', as_of AT TIME ZONE 'UTC') FROM challenge_jobs.job_run WHERE job = '$JOB'"), 'pg_cron|succeeded|2030-03-29 00:00:00', 'pg_cron fires at midnight UTC, whatever the time zone of the server');
is(undone_work($node, $db), '', 'the work is done');
set_clock($node, '2030-03-28 22:30:00');
wait_for_checks($node, 3);
set_clock($node, '2030-03-28 23:59:58');
wait_for_checks($node, 4);
set_clock($node, '2030-03-29 00:20:00');
wait_for_checks($node, 3);
is(query("count(*) FROM challenge_jobs.job_run WHERE triggered_by <> 'pg_cron'"), '0',
	'the clock goes back over midnight: what pg_cron has done is not fired by the worker');
is(query('count(*) FROM challenge_jobs.alert'), '0', 'nor is it overdue');
is(undone_work($node, $db), '', 'and nothing is done twice');

# The midnight after is covered, by pg_cron or, if it waits for its clock, by a run to catch up.
set_clock($node, '2030-03-29 23:59:58');
wait_for_checks($node, 4);
set_clock($node, '2030-03-30 00:15:30');
wait_for_run("job = '$JOB' AND status = 'succeeded' AND as_of >= '2030-03-30 00:00+00'");
wait_for_checks($node, 2);
is(query("count(*) FROM challenge_jobs.job_run WHERE job = '$JOB' AND as_of >= '2030-03-30 00:00+00'"), '1', 'the midnight after is covered, once');

# ---- mornings around a change to summer time ----

# Berlin: 08:00 is 07:00 UTC on 30 March, and 06:00 UTC on the 31st. pg_cron fires at each quarter.
set_clock($node, '2030-03-30 06:40:00');
$node->safe_psql($db, "SELECT challenge_jobs.schedule('$REMIND', 'pg_cron')");
foreach my $case (
	[ '2030-03-30 06:45', '', 'the day before: not yet at a quarter to eight' ],
	[ '2030-03-30 07:00', '2030-03-30', 'at eight' ],
	[ '2030-03-31 05:45', '2030-03-30', 'the day of the change: not before eight' ],
	[ '2030-03-31 06:00', '2030-03-30 2030-03-31', 'at eight by the new time' ],
	[ '2030-03-31 07:00', '2030-03-30 2030-03-31', 'at nine: once' ],
	[ '2030-04-01 06:00', '2030-03-30 2030-03-31 2030-04-01', 'the day after' ])
{
	my ($time, $dates, $name) = @$case;

	set_clock($node, before($time));
	wait_for_run("job = '$REMIND' AND status = 'succeeded' AND triggered_by = 'pg_cron' AND as_of BETWEEN '$time+00' AND '$time:50+00'");
	is(query("string_agg(DISTINCT data->>'local_date', ' ' ORDER BY data->>'local_date') FROM notifications WHERE type = 'streak_reminder'"),
		$dates, "dates on which users in Berlin were reminded: $name");
}
is(query("count(*), count(DISTINCT (user_id, data->>'local_date')) FROM notifications WHERE type = 'streak_reminder'"),
	'9|9', 'three users were reminded on three days, each once');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Two seconds before a scheduled time that is not at midnight.
sub before
{
	my ($date, $hour, $minute) = $_[0] =~ /^(\S+) (\d+):(\d+)$/;
	my $minutes = $hour * 60 + $minute - 1;

	return sprintf('%s %02d:%02d:58', $date, $minutes / 60, $minutes % 60);
}
