# The postmaster, or the process of a run, is killed in the middle of runs that the worker has started, of each job
# and of all four at once: after the restart their rows are closed, what was committed is kept, the retries do the rest, all of it
# once, and there are alerts of the crash and of the recovery. The wall clock is set while the server runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';
my $CLEAN = 'cleanup_expired_notifications';
my $REFRESH = 'refresh_challenge_stats';
my $REMIND = 'send_streak_reminders';

start_clock('2030-01-01 12:00:00');
my $node = create_node('killed', <<'CONF');
timezone = 'UTC'
challenge_jobs.databases = 'postgres'
challenge_jobs.worker_naptime = '1s'
challenge_jobs.lock_timeout = '180s'
log_min_messages = debug1
max_worker_processes = 20
CONF
create_app($node, $db, 30);

# A run of a job whose name stands in the table stalled stops in its second batch (or in the middle of the
# refresh), for whoever holds advisory lock 4711. The jobs are all due at midnight, as is the reminding of
# users 1 to 30. (Live figures would be computed from the view, and stop where the refresh does.)
$node->safe_psql($db, <<"SQL");
SET ROLE app_owner;
CREATE TABLE stalled (job text PRIMARY KEY);
CREATE FUNCTION stall(job text) RETURNS boolean LANGUAGE plpgsql STABLE AS \$\$
BEGIN
    IF EXISTS (SELECT FROM public.stalled s WHERE s.job = stall.job) THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN true;
END \$\$;
CREATE OR REPLACE FUNCTION wait_in_stall() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF NEW.type = 'streak_reminder' AND NEW.user_id = 15 THEN
        PERFORM stall('$REMIND');
    ELSIF NEW.type = 'challenge_completed' AND (SELECT count(*) FROM decision) > 15 THEN
        PERFORM stall('$JOB');
    END IF;
    RETURN NEW;
END \$\$;
CREATE FUNCTION wait_at_delete() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF OLD.title = '15' THEN
        PERFORM stall('$CLEAN');
    END IF;
    RETURN OLD;
END \$\$;
CREATE TRIGGER wait_at_delete BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION wait_at_delete();

ALTER TABLE challenge_members ADD current_streak integer, ADD last_checkin_at timestamptz;
INSERT INTO user_profiles SELECT i, 'UTC' FROM generate_series(1, 30) i;
INSERT INTO challenges VALUES (1000, 'goes on', 'active', 'infinity');
INSERT INTO challenge_members SELECT 1000, i, i FROM generate_series(1, 30) i;

ALTER TABLE challenge_member_stats RENAME TO rates;
CREATE MATERIALIZED VIEW challenge_member_stats AS
    SELECT challenge_id, user_id, completion_rate FROM public.rates WHERE public.stall('$REFRESH');
CREATE UNIQUE INDEX ON challenge_member_stats (challenge_id, user_id);
RESET ROLE;

SELECT challenge_jobs.alter_job(job, schedule => '0 0 * * *', retry_delay => '1 min') FROM challenge_jobs.job;
SELECT challenge_jobs.alter_job('$JOB', settings => '{"batch_size": 10, "completion_source": "stored"}');
SELECT challenge_jobs.alter_job('$CLEAN', settings => '{"batch_size": 10}');
SELECT challenge_jobs.alter_job('$REMIND', settings => '{"batch_size": 10, "reminder_time": "00:00"}');
SQL

# By job: what says how much of 30 has been done, and how much of that is committed when it stops.
my %done = (
	$JOB => [ "count(*) FROM challenges WHERE status IN ('completed', 'failed')", 10 ],
	$CLEAN => [ "30 - count(*) FROM notifications WHERE type = 'old'", 10 ],
	$REFRESH => [ 'count(*) FROM challenge_member_stats s JOIN rates r USING (challenge_id, user_id, completion_rate) WHERE user_id = 1', 0 ],
	$REMIND => [ "count(DISTINCT user_id) FROM notifications WHERE type = 'streak_reminder'", 10 ]);
my $day = 1;

foreach my $victim ('postmaster', 'run')
{
	kill_at_work($victim, $_) foreach sort keys %done;
	kill_at_work($victim, sort keys %done);
}

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Puts the app back to where it was, with something to do for each job; these stop in the middle.
sub make_jobs_due
{
	my @jobs = @_;

	make_due();
	$node->safe_psql($db, <<'SQL');
TRUNCATE stalled, challenge_jobs.reminder, challenge_jobs.reminder_zone;
REFRESH MATERIALIZED VIEW challenge_member_stats;
UPDATE rates SET completion_rate = completion_rate + 0.1;
INSERT INTO notifications (user_id, type, title, created_at)
SELECT i, 'old', i, now() - interval '100 days' FROM generate_series(1, 30) i;
INSERT INTO notifications (user_id, type, title)
SELECT i, 'new', i FROM generate_series(1, 30) i;
DELETE FROM challenge_jobs.alert;
SQL
	$node->safe_psql($db, "INSERT INTO stalled VALUES ('$_')") foreach @jobs;
	return;
}

# Says what is not as it must be when all of them are done: '' is right.
sub wrong
{
	my %jobs = map { $_ => 1 } @_;
	my @wrong = map { my $n = query($done{$_}->[0]); $n == 30 ? () : "$_: $n of 30" } sort keys %jobs;

	push @wrong, undone_work($node, $db) if $jobs{$JOB};
	push @wrong, query("'notified twice: ' || user_id FROM notifications WHERE type = 'streak_reminder' GROUP BY user_id HAVING count(*) > 1");
	push @wrong, query("'lost: ' || 30 - count(*) FROM notifications WHERE type = 'new' HAVING count(*) <> 30");
	return join("\n", grep { $_ ne '' } @wrong);
}

# Kills the postmaster or the process of a run while these jobs are at work.
sub kill_at_work
{
	my ($victim, @jobs) = @_;
	my $count = @jobs;
	my $name = "$victim, " . ($count == 1 ? $jobs[0] : 'all jobs at once');
	my $midnight = sprintf('2030-01-%02d 00:00', ++$day);
	my $runs = "string_agg(DISTINCT concat_ws(' ', triggered_by, status, to_char(scheduled_for, 'YYYY-MM-DD HH24:MI'), '#' || attempt), ', '), count(*) FROM challenge_jobs.job_run";

	set_clock($node, sprintf('2030-01-%02d 23:50:00', $day - 1));
	make_jobs_due(@jobs);
	$node->safe_psql($db, "SELECT challenge_jobs.schedule('$_', 'worker')") foreach @jobs;
	my $holder = hold_stall();
	set_clock($node, sprintf('2030-01-%02d 23:59:59', $day - 1));
	$node->poll_query_until($db,
		"SELECT count(*) = $count FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted")
	  or die "$name: the runs have not come to the stall";
	is(query($runs), "worker running $midnight #1|$count", "$name: the worker has started it at midnight");
	is(query("count(*) FROM pg_stat_activity WHERE backend_type = 'challenge_jobs run'"), $count, "$name: in a worker of its own");

	if ($victim eq 'postmaster')
	{
		kill_postmaster();
	}
	else
	{
		my $offset = -s $node->logfile;
		kill('KILL', query("pid FROM challenge_jobs.job_run WHERE job = '$jobs[0]'"));
		$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	}
	eval { $holder->quit };
	is(join(' ', map { query($done{$_}->[0]) } @jobs), join(' ', map { $done{$_}->[1] } @jobs),
		"$name: what was committed is kept, and no more");
	$node->safe_psql($db, 'TRUNCATE stalled');
	$node->poll_query_until($db, "SELECT count(*) = $count FROM challenge_jobs.job_run WHERE status = 'crashed' AND finished_at IS NOT NULL")
	  or die "$name: the rows are not closed";
	is(query("string_agg(DISTINCT state, ' ') FROM challenge_jobs.job_status WHERE engine IS NOT NULL"),
		'failing', "$name: the row is closed, and job_status says so");
	is(query("count(*) FROM challenge_jobs.alert WHERE kind = 'crashed'"), $count, "$name: and an alert");

	set_clock($node, sprintf('2030-01-%02d 00:05:00', $day));
	$node->poll_query_until($db, "SELECT count(*) = $count FROM challenge_jobs.job_run WHERE status = 'succeeded'")
	  or die "$name: it is not repeated";
	wait_for_checks($node, 3);
	is(query($runs), "retry succeeded $midnight #2, worker crashed $midnight #1|" . 2 * $count, "$name: it is repeated, once");
	is(wrong(@jobs), '', "$name: and all has been done, once");
	is(query("string_agg(kinds, ', ') FROM (SELECT DISTINCT string_agg(kind, ' ' ORDER BY alert_id) AS kinds, count(*) OVER () FROM challenge_jobs.alert GROUP BY job) k"),
		'crashed recovered', "$name: of which there are two alerts, the crash and the recovery");
	is(query("string_agg(DISTINCT state, ' ') FROM challenge_jobs.job_status WHERE engine IS NOT NULL"),
		'ok', "$name: and all is well");
	$node->safe_psql($db, 'SELECT challenge_jobs.unschedule()');
	return;
}

# Kills the postmaster, and starts the server when all of its processes have noticed.
sub kill_postmaster
{
	my @processes = ($node->{_pid}, split /\n/, query('pid FROM pg_stat_activity'));

	$node->kill9;
	foreach my $process (@processes)
	{
		for (my $i = 0; $i < 10 * $PostgreSQL::Test::Utils::timeout_default && kill(0, $process); $i++)
		{
			select(undef, undef, undef, 0.1);
		}
	}
	$node->start;
	return;
}
