# Clocks: midnight, days that pass while nothing runs, a clock that jumps forward and back, and the mornings
# around a change to summer time. The wall clock of the server is set while it runs. What the worker makes of
# it is asked of watchdog(); it is not at work here, as this database is not in challenge_jobs.databases.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsClock;
use ChallengeJobsTest;

my $db = 'postgres';

start_clock('2030-01-01 12:00:00');
my $node = create_node('clock', "timezone = 'UTC'\n");
create_app($node, $db, 30);

# ---- which engines there are ----

my ($status, $out, $err) = $node->psql($db, "SELECT engine, command FROM challenge_jobs.schedule('$JOB', 'worker')");
is($out, 'worker|', 'the engine worker needs no command');
like($err, qr/WARNING:  the jobs will not be fired yet\n.*challenge_jobs\.databases.*\nHINT:  Run: ALTER SYSTEM SET challenge_jobs\.databases = 'postgres'/s,
	'and warns where this database is not looked after');
is(doctor_status("schedule:$JOB"), 'warning', 'and so does the doctor');
$node->safe_psql($db, "SELECT challenge_jobs.schedule('$JOB', 'external')");
is(doctor_status("schedule:$JOB"), 'ok', 'external: the doctor does not ask');

# ---- midnight ----

is(job_status('state, next_due'), 'never_run|2030-01-02 00:00:00+00', 'scheduled at noon: due at midnight');
set_clock($node, '2030-01-01 23:59:30');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
set_clock($node, '2030-01-02 00:14:00');
is(job_status('state, next_due'), 'ok|2030-01-03 00:00:00+00', 'after midnight, within the grace');
is(decision(), '', 'there is nothing to do');
set_clock($node, '2030-01-02 00:15:10');
is(job_status('state'), 'overdue', 'a run right before midnight does not cover midnight');
is(decision(), 'catch_up 2030-01-02 00:00', 'which has to be caught up');
is(doctor_status("state:$JOB"), 'error', 'the doctor says so');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(job_status('state, last_success'), 'ok|' . query("date_trunc('second', max(finished_at)) FROM challenge_jobs.job_run"),
	'a run that comes late covers it');
is(decision(), '', 'and there is nothing to do');

# ---- forward ----

set_clock($node, '2030-01-12 12:00:00');
is(job_status('state, next_due'), 'overdue|2030-01-13 00:00:00+00', 'ten days later: overdue');
is(decision(), 'catch_up 2030-01-12 00:00', 'one run, for the last scheduled time');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(decision(), '', 'after the run that caught up nothing more is to be started');
is(undone_work($node, $db), '', 'what was due has been done');

# ---- back ----

set_clock($node, '2030-01-05 12:00:00');
is(job_status('state'), 'ok', 'the clock was a week ahead: what was done then is done');
is(decision(), '', 'nothing is done twice');
is(doctor_status("state:$JOB"), 'warning', 'the doctor reports it');
set_clock($node, '2030-01-06 00:20:00');
is(decision(), '', 'also when midnight comes again');
set_clock($node, '2030-01-13 00:20:00');
is(decision(), 'catch_up 2030-01-13 00:00', 'until the time comes that the clock was ahead to');

# A run that spans a jump is a run like any other.
set_clock($node, '2030-01-20 12:00:00');
$node->safe_psql($db, 'UPDATE challenges SET status = \'active\' WHERE id = 1; INSERT INTO stall VALUES (1)');
my $blocker = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$JOB')");
ok(wait_for_stall($node, $db), 'a run is at work');
set_clock($node, '2030-01-19 12:00:00');
is(job_status('state'), 'overdue', 'and has not covered its scheduled time');
is(decision(), '', 'beside it nothing is started');
release_stall($blocker);
finish_sql($run);
is(last_run($node, $db, "status, duration < interval '0'"), 'succeeded|t', 'it ends before it began, and has succeeded');
is(job_status('state'), 'ok', 'and the scheduled time is covered');
$node->safe_psql($db, 'TRUNCATE stall');

# A run that failed is repeated after its delay, also by a clock that was set back in between.
$node->safe_psql($db, <<'SQL');
UPDATE challenges SET status = 'active' WHERE id = 2;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the app refuses'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
set_clock($node, '2030-02-01 12:00:00');
$node->psql($db, "CALL challenge_jobs.run('$JOB')");
is(job_status('state, last_status, last_message'), 'failing|failed|the app refuses', "a run that fails makes the job's status failing, with its message");
is(decision(), 'retry #2, later', 'it will be repeated');
set_clock($node, '2030-02-01 12:01:30');
is(decision(), 'retry #2', 'a minute later the retry is due');
set_clock($node, '2030-01-31 12:00:00');
is(decision(), 'retry #2', 'or at once, if the clock was set back: it must not wait for a day');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');
set_clock($node, '2030-02-01 12:05:00');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is(decision(), '', 'not after a success');
is(job_status('state, consecutive_failures'), 'ok|0', 'a success sets the failures in a row back to 0');

# ---- mornings around a change to summer time ----

# Berlin: 08:00 is 07:00 UTC on 30 March, and 06:00 UTC on the 31st.
$node->safe_psql($db, <<'SQL');
INSERT INTO user_profiles SELECT u, 'Europe/Berlin' FROM generate_series(1, 3) u;
UPDATE challenges SET status = 'active', end_date = '2030-12-31' WHERE id = 3;
SQL
foreach my $case (
	[ '2030-03-30 06:59:30', '', 'the day before: not yet at seven' ],
	[ '2030-03-30 07:00:30', '2030-03-30', 'at eight' ],
	[ '2030-03-31 05:59:30', '2030-03-30', 'the day of the change: not before eight' ],
	[ '2030-03-31 06:00:30', '2030-03-30 2030-03-31', 'at eight by the new time' ],
	[ '2030-03-31 07:00:30', '2030-03-30 2030-03-31', 'once' ],
	[ '2030-03-31 01:30:00', '2030-03-30 2030-03-31', 'the clock is set back: once' ],
	[ '2030-03-31 06:00:30', '2030-03-30 2030-03-31', 'and it is eight again: once' ],
	[ '2030-04-01 06:00:30', '2030-03-30 2030-03-31 2030-04-01', 'the day after' ])
{
	my ($moment, $dates, $name) = @$case;

	set_clock($node, $moment);
	$node->safe_psql($db, "CALL challenge_jobs.run('send_streak_reminders')");
	is( query("string_agg(local_date::text, ' ' ORDER BY local_date) FROM challenge_jobs.reminder WHERE user_key = '1'"),
		$dates, "dates on which a user in Berlin was reminded: $name");
}
is(query("count(*) FROM notifications WHERE type = 'streak_reminder'"), '9', 'three users were reminded three times');

# ---- a restart, long after ----

$node->stop;
set_clock(undef, '2030-05-01 00:20:00');
$node->start;
is(job_status('state'), 'overdue', 'a server that was down over midnights knows what it has missed');
is(decision(), 'catch_up 2030-05-01 00:00', 'from the log alone');
$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# What is to be started now, or later.
sub decision
{
	return query(<<"SQL");
concat_ws(' ', action, to_char(scheduled_for, 'YYYY-MM-DD HH24:MI'), CASE WHEN attempt > 1 THEN '#' || attempt END)
       || CASE WHEN action_at > clock_timestamp() THEN ', later' ELSE '' END
  FROM challenge_jobs.watchdog() WHERE job = '$JOB'
SQL
}
