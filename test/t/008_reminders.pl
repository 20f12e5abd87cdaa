# Reminders through crashes: whenever a run ends, by kill -9, a cancellation, max_runtime or a crash of the
# server, the next run completes it, nobody is notified twice on a date, nobody is skipped. The same for
# a job function that is only prepared, and for a database that is restored from a dump.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $REMINDERS = 'send_streak_reminders';
my $db = 'postgres';
my $node = create_node('reminders', "max_prepared_transactions = 5\n");
my ($status, $out, $err);

create_app($node, $db, 0);
$node->safe_psql($db, <<"SQL");
SET ROLE app_owner;
ALTER TABLE challenge_members ADD current_streak integer, ADD last_checkin_at timestamptz;
CREATE INDEX ON challenge_members (user_id);
CREATE INDEX ON user_profiles (timezone);
CREATE TABLE stall_at (user_id bigint NOT NULL);
CREATE OR REPLACE FUNCTION wait_in_stall() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF EXISTS (SELECT FROM stall_at s WHERE s.user_id = NEW.user_id) THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN NEW;
END \$\$;
INSERT INTO challenges VALUES (1, 'one', 'active', 'infinity');
INSERT INTO user_profiles SELECT i, 'UTC' FROM generate_series(1, 30) i;
INSERT INTO challenge_members SELECT 1, i, i FROM generate_series(1, 30) i;
SQL
make_morning($node, $db, 10);

# What is killed has a user of the first, a middle or the last of three batches in its hands, or has notified
# everybody and is about to note that the zone is done.
my %moments = (
	'the first batch' => [ 5, 0 ],
	'the second batch' => [ 11, 10 ],
	'the last batch' => [ 30, 20 ],
	'the note on the zone' => [ undef, 30 ]);

# Ways to end a run in the middle; each is given the process id of its backend.
my %end = (
	'kill -9' => [ sub { kill('KILL', $_[0]) }, 'crashed' ],
	'pg_terminate_backend' => [ sub { $node->safe_psql($db, "SELECT pg_terminate_backend($_[0])") }, 'crashed' ],
	'pg_cancel_backend' => [ sub { $node->safe_psql($db, "SELECT pg_cancel_backend($_[0])") }, 'cancelled' ],
	'max_runtime' => [ sub { }, 'cancelled' ]);

foreach my $way (sort keys %end)
{
	foreach my $moment (sort keys %moments)
	{
		test_end($way, $moment);
	}
}

# ---- kill -9 at moments that nobody chose ----

make_morning($node, $db, 1);
foreach my $notified (1, 9, 17, 29)
{
	reset_reminders();
	my $run = start_sql($node, $db, "CALL challenge_jobs.run('$REMINDERS')");
	$node->poll_query_until($db, "SELECT count(*) >= $notified FROM notifications") or die 'the run has not begun';
	my $pid = $node->safe_psql($db, "SELECT pid FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1");
	kill('KILL', $pid);
	finish_sql($run);
	wait_for_server($node) or die 'the server has not come back';
	$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
	is(wrong_reminders($db), '', "kill -9 after about $notified users: the next run completes the work");
}
make_morning($node, $db, 10);

# ---- a user who cannot be notified ----

reset_reminders();
$node->safe_psql($db, <<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW WHEN (NEW.user_id = 7) EXECUTE FUNCTION refuse();
SQL
($status, $out, $err) = $node->psql($db, "CALL challenge_jobs.run('$REMINDERS')");
like($err, qr/ERROR:  not this one/, 'a user who cannot be notified: the run says so');
is( $node->safe_psql($db, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM challenge_jobs.reminder_zone), status, result->>'errors', detail FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1"),
	'29|0|failed|1|Not done (1): user 7.',
	'all others have been notified, and the zone is not done');
$node->safe_psql($db, 'DROP TRIGGER refuse ON notifications');
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
is(wrong_reminders($db), '', 'and the next run says the one');

# ---- a job function that is only prepared ----

foreach my $crash (0, 1)
{
	foreach my $second ('ROLLBACK', 'COMMIT')
	{
		my $name = ($crash ? 'after a crash, ' : '') . "$second PREPARED";

		reset_reminders();
		$node->safe_psql($db, "BEGIN; SELECT * FROM $REMINDERS(); PREPARE TRANSACTION 'function'");
		if ($crash)
		{
			$node->stop('immediate');
			$node->start;
		}
		($status, $out, $err) = $node->psql($db, "SELECT * FROM $REMINDERS()");
		like($err, qr/ERROR:  job "$REMINDERS" is running in another session/, "$name: a job function beside it is refused");
		$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
		is(last_run($node, $db, 'status'), 'skipped', "$name: run() beside it is skipped");
		is($node->safe_psql($db, 'SELECT count(*) FROM notifications'), '0', "$name: nothing is to be seen of it");
		$node->safe_psql($db, "$second PREPARED 'function'");
		is($node->safe_psql($db, 'SELECT count(*) FROM notifications'), $second eq 'COMMIT' ? '30' : '0',
			"$name: then all of it or nothing");
		$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
		is(wrong_reminders($db), '', "$name: the next run says who is left, and nobody twice");
	}
}

# ---- what the counters of the statistics do not know ----

# A crash loses the counters by which a run knows that nothing has changed since a zone was done.
reset_reminders();
$node->safe_psql($db, 'UPDATE user_profiles SET timezone = NULL WHERE id = 30');
$node->safe_psql($db, 'UPDATE challenge_members SET current_streak = 0 WHERE user_id = 29');
$node->stop('immediate');
$node->start;
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
age_notes();
$node->safe_psql($db, 'UPDATE challenge_members SET current_streak = 29 WHERE user_id = 29');
$node->stop('immediate');
$node->start;
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
is(wrong_reminders($db), '', 'a streak that came before a crash of the server is seen after it');
$node->safe_psql($db, "UPDATE user_profiles SET timezone = 'UTC'");

# A session hands in its counters when it is idle: what a procedure has committed is not counted while it goes on.
reset_reminders();
$node->safe_psql($db, 'UPDATE challenge_members SET current_streak = 0 WHERE user_id = 29');
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
age_notes();
my $waiter = $node->background_psql($db, on_error_stop => 0);
$waiter->query_safe('SELECT pg_advisory_lock(4712)');
my $procedure = start_sql($node, $db,
	'DO $$ BEGIN UPDATE challenge_members SET current_streak = 29 WHERE user_id = 29; COMMIT; PERFORM pg_advisory_xact_lock(4712); END $$');
$node->poll_query_until($db,
	"SELECT clock_timestamp() - state_change > interval '10 seconds' FROM pg_stat_activity WHERE query LIKE 'DO %' AND wait_event = 'advisory'")
  or die 'the procedure does not wait';
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
is(wrong_reminders($db), '', 'a streak that a procedure has committed is seen while the procedure goes on');
$waiter->quit;
finish_sql($procedure);

# ---- a table that is changed in the middle of a run ----

reset_reminders();
$node->safe_psql($db, <<'SQL');
UPDATE user_profiles SET timezone = 'XYZ-2' WHERE id = 30;
INSERT INTO stall_at VALUES (5);
SQL
my $holder = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$REMINDERS')");
$node->poll_query_until($db, 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted') or die 'the run has not come to the stall';
my $alter = start_sql($node, $db, 'ALTER TABLE user_profiles ALTER id TYPE integer');
$node->poll_query_until($db, 'SELECT count(*) = 2 FROM pg_locks WHERE NOT granted') or die 'ALTER TABLE does not wait';
$holder->quit;
finish_sql($alter);
finish_sql($run);
is(last_run($node, $db, 'message'), 'the type of the keys changed from bigint to integer while the job was running',
	'the type of the keys is changed between two mornings: the list of users is not read as what it is not');
$node->safe_psql($db, 'TRUNCATE stall_at');
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
is(wrong_reminders($db), '', 'and the next run completes the work');
$node->safe_psql($db, 'ALTER TABLE user_profiles ALTER id TYPE bigint');
$node->safe_psql($db, "UPDATE user_profiles SET timezone = 'UTC'");

# ---- dump and restore ----

reset_reminders();
$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
$node->safe_psql($db, 'DELETE FROM notifications');
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-F', 'custom', '-f', $dump, '-d', $db ], 'pg_dump dumps it');
$node->safe_psql($db, 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'copy', $dump ], 'it is restored without an error');
$node->safe_psql('copy', "INSERT INTO user_profiles VALUES (31, 'UTC'); INSERT INTO challenge_members VALUES (1, 31, 1)");
$node->safe_psql('copy', "CALL challenge_jobs.run('$REMINDERS')");
is($node->safe_psql('copy', 'SELECT string_agg(user_id::text, \' \') FROM notifications'),
	'31', 'whoever was notified before the dump is not notified again after the restore');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Makes it morning in UTC, whatever the time of day: it began a minute ago, and lasts for the test.
sub make_morning
{
	my ($node, $db, $batch_size) = @_;

	$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$REMINDERS', settings => jsonb_build_object(
    'batch_size', $batch_size, 'window', '12 hours',
    'reminder_time', to_char((now() - interval '1 minute') AT TIME ZONE 'UTC', 'HH24:MI:SS')));
SQL
	return;
}

# Puts everything back to where nobody has been notified.
sub reset_reminders
{
	$node->safe_psql($db,
		'TRUNCATE notifications, stall_at; DELETE FROM challenge_jobs.reminder; DELETE FROM challenge_jobs.reminder_zone; DELETE FROM challenge_jobs.job_run');
	return;
}

# Makes the notes on zones old enough to be relied upon.
sub age_notes
{
	$node->safe_psql($db, "UPDATE challenge_jobs.reminder_zone SET examined_at = examined_at - interval '1 minute'");
	return;
}

# Returns in words who has not been notified once, and what the ledger has of it: '' is right.
sub wrong_reminders
{
	my ($where) = @_;

	return $node->safe_psql($where, <<'SQL');
SELECT 'user ' || u.id || ' was notified ' || count(n.id) || ' times'
  FROM user_profiles u LEFT JOIN notifications n ON n.user_id = u.id
 GROUP BY u.id HAVING count(n.id) <> 1
UNION ALL
SELECT 'the ledger has ' || count(*) || ' rows' FROM challenge_jobs.reminder HAVING count(*) <> 30
UNION ALL
SELECT 'run ' || run_id || ' is ' || status FROM challenge_jobs.job_run WHERE status = 'running'
SQL
}

# Ends a run in one way at one moment and looks at what is left.
sub test_end
{
	my ($way, $moment) = @_;
	my ($user, $committed) = @{ $moments{$moment} };
	my ($end, $status) = @{ $end{$way} };
	my $name = "$way in $moment";

	reset_reminders();
	my $holder = $node->background_psql($db, on_error_stop => 0);
	if (defined $user)
	{
		$node->safe_psql($db, "INSERT INTO stall_at VALUES ($user)");
		$holder->query_safe('SELECT pg_advisory_lock(4711)');
	}
	else
	{
		# reading the notes goes on, writing them waits
		$holder->query_safe('BEGIN; LOCK TABLE challenge_jobs.reminder_zone IN SHARE MODE');
	}
	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$REMINDERS', max_runtime => '1 second')")
	  if $way eq 'max_runtime';
	my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'",
		"CALL challenge_jobs.run('$REMINDERS')");
	if ($way ne 'max_runtime')
	{
		$node->poll_query_until($db, 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted')
		  or die "$name: the run has not come to the stall";
		my $pid = $node->safe_psql($db, 'SELECT pid FROM pg_locks WHERE NOT granted');
		$end->($pid);
	}
	finish_sql($run);
	eval { $holder->quit };
	wait_for_server($node) or die "$name: the server has not come back";
	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$REMINDERS', max_runtime => '30 minutes')");
	$node->poll_query_until($db,
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'CALL challenge_jobs.run%' AND state <> 'idle' AND pid <> pg_backend_pid()")
	  or die "$name: the backend does not end";

	is( $node->safe_psql($db,
			'SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM challenge_jobs.reminder), (SELECT count(*) FROM challenge_jobs.reminder_zone)'),
		"$committed|$committed|0",
		"$name: the batches before are kept, each user's notification and entry in the ledger together");
	$node->safe_psql($db, 'TRUNCATE stall_at');
	$node->safe_psql($db, "CALL challenge_jobs.run('$REMINDERS')");
	is(wrong_reminders($db), '', "$name: the next run completes the work, nobody is notified twice");
	is( $node->safe_psql($db, "SELECT string_agg(status, ' ' ORDER BY run_id) FROM challenge_jobs.job_run"),
		"$status succeeded", "$name: the rows say what became of the runs");
	is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.reminder_zone'), '1', "$name: now the zone is done");
	return;
}
