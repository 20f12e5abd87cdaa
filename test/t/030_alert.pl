# Alerts on their way out: server log, NOTIFY, and challenge_jobs.alert_command, whatever the command does to
# us. The commands are delivered by hand (CALL challenge_jobs.deliver_alerts()).
use strict;
use warnings;

use Encode ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('alert', "max_prepared_transactions = 5\ninclude_if_exists = 'alert.conf'\n");
my $folder = $node->basedir;
my $deliver = 'CALL challenge_jobs.deliver_alerts()';
my ($status, $out, $err);

create_app($node, $db, 9);
$node->safe_psql($db, <<'SQL');
CREATE TABLE broken (message text NOT NULL, detail text NOT NULL DEFAULT 'd', hint text NOT NULL DEFAULT 'h', seconds float NOT NULL DEFAULT 0);
GRANT SELECT ON broken TO app_owner;
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE b broken;
BEGIN
    SELECT * INTO b FROM broken;
    IF FOUND THEN
        PERFORM pg_sleep(b.seconds);
        RAISE EXCEPTION USING message = b.message, detail = b.detail, hint = b.hint;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER break BEFORE UPDATE ON challenges FOR EACH ROW EXECUTE FUNCTION break();
SQL

# Writes the command and its time limit where the server reads them.
sub write_command
{
	my ($command, $timeout) = @_;

	$command =~ s/\\/\\\\/g;
	$command =~ s/'/''/g;
	open(my $file, '>', $node->data_dir . '/alert.conf') or die $!;
	print $file "challenge_jobs.alert_command = '$command'\nchallenge_jobs.alert_timeout = '$timeout'\n";
	close $file;
	return;
}

# Sets the command and its time limit, and waits until they are in force.
sub set_command
{
	my ($command, $timeout) = @_;

	$timeout //= '30s';
	write_command($command, $timeout);
	$node->reload;
	$node->poll_query_until($db,
		"SELECT current_setting('challenge_jobs.alert_command') = \$command\$$command\$command\$ AND current_setting('challenge_jobs.alert_timeout')::interval = '$timeout'")
	  or die 'the command is not in force';
	return;
}

# Forgets all alerts and raises one, with this message (an SQL expression).
sub raise_alert
{
	my ($message, $detail, $hint, $where) = @_;

	$message //= "'no'";
	$detail //= "'d'";
	$hint //= "'h'";
	$where //= $db;
	$node->psql($where, <<"SQL");
TRUNCATE broken;
DELETE FROM challenge_jobs.alert;
UPDATE challenges SET status = 'active' WHERE status <> 'active';
INSERT INTO broken VALUES ($message, $detail, $hint);
CALL challenge_jobs.run('$JOB');
SQL
	$node->safe_psql($where, 'TRUNCATE broken');
	return $node->safe_psql($where, 'SELECT alert_id FROM challenge_jobs.alert');
}

sub deliver
{
	my ($where) = @_;
	my ($status, $out, $err) = $node->psql($where // $db, $deliver);

	return $err;
}

sub alert_is
{
	my ($columns, $wanted, $name) = @_;

	return is($node->safe_psql($db, "SELECT $columns FROM challenge_jobs.alert ORDER BY alert_id DESC LIMIT 1"), $wanted, $name);
}

sub write_script
{
	my ($name, $text) = @_;

	open(my $file, '>', "$folder/$name") or die $!;
	print $file "#!/bin/sh\n$text";
	close $file;
	chmod 0755, "$folder/$name";
	return "$folder/$name";
}

sub read_file { return -f "$folder/$_[0]" ? slurp_file("$folder/$_[0]") : ''; }

# Waits until a script has written a line to a file; returns it.
sub wait_for_file
{
	my ($name) = @_;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $text = read_file($name);
		return $text if $text =~ /\n/;
		select(undef, undef, undef, 0.1);
	}
	die "$name has not been written";
}

# Waits until processes are gone; false if they stay. (A zombie that nobody reaps is gone.)
sub are_gone
{
	my @pids = @_;

	foreach (1 .. 100)
	{
		my @there = grep { -d "/proc/$_" ? slurp_stat($_) !~ /^[ZX]/ : kill(0, $_) } @pids;
		return 1 unless @there;
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

sub slurp_stat
{
	open(my $file, '<', "/proc/$_[0]/stat") or return 'X';
	my $line = <$file> // '';
	$line =~ s/^.*\) //;
	return $line;
}

# ---- NOTIFY, log ----

my $listener = $node->background_psql($db, on_error_stop => 0);
$listener->query_safe('LISTEN challenge_jobs_alert');
my $log_start = -s $node->logfile;
my $id = raise_alert("'it is broken'");
like($listener->query('SELECT 1'), qr/Asynchronous notification "challenge_jobs_alert" with payload "\{"job": "$JOB", "kind": "failed", "alert_id": $id\}"/,
	'whoever listens is notified of an alert, in small JSON');
my $log = slurp_file($node->logfile, $log_start);
is(scalar(() = $log =~ /LOG:  challenge_jobs: alert $id, job "$JOB": failed, run \d+/g), 1, 'the log has a line for it');
like($log, qr/DETAIL:  it is broken/, 'the log has the message of the failed run as the detail of the alert');
$node->psql($db, "INSERT INTO broken VALUES ('again'); CALL challenge_jobs.run('$JOB'); ");
is(deliver() =~ s/\n.*//sr, 'psql:<stdin>:1: NOTICE:  challenge_jobs.alert_command is not set: alerts go to the server log and NOTIFY only',
	'without a command there is nothing to do');
$log = slurp_file($node->logfile, $log_start);
is(scalar(() = $log =~ /LOG:  challenge_jobs: alert/g), 1, 'and no second line, nor for the next failure');
alert_is("attempts, next_attempt_at IS NOT NULL", '0|t', 'the alert waits');
unlike($listener->query('SELECT 1'), qr/Asynchronous/, 'nobody is notified twice');
like($node->safe_psql($db, q(SELECT status, finding FROM challenge_jobs.doctor() WHERE check_name = 'alerts')),
	qr/^ok\|challenge_jobs.alert_command is not set/, 'the doctor says where alerts go');

# ---- a command that works ----

my $recorder = write_script('recorder', "cat >>$folder/got\n");
set_command($recorder);
like(deliver(), qr/alerts delivered: 1, not delivered: 0/, 'an alert is delivered');
alert_is('attempts, delivered_at IS NOT NULL, next_attempt_at IS NULL, last_error IS NULL', '1|t|t|t', 'and is noted as delivered');
my @lines = split /\n/, read_file('got'), -1;
is(scalar(@lines), 2, 'the command gets one line');
my $json = JSON::PP->new->utf8->decode($lines[0]);
is($json->{alert_id}, $id, 'JSON with the number of the alert');
is($json->{message}, 'it is broken', 'the JSON has the message of the failed run');
is($json->{cluster_name}, $node->name, 'and where it comes from');
like(deliver(), qr/alerts delivered: 0, not delivered: 0/, 'what is delivered is not delivered again');
is($node->safe_psql($db, q(SELECT status FROM challenge_jobs.doctor() WHERE check_name = 'alerts')), 'ok', 'the doctor is content');

unlink "$folder/got";
raise_alert(q(E'"quoted" \'single\' \\\\ back\nslash\ttab ä € 日本 😀 $(touch x) `x`'), q('%s %n'), q(E'\x01\x7f'));
deliver();
$json = JSON::PP->new->utf8->decode(read_file('got'));
is($json->{message}, qq("quoted" 'single' \\ back\nslash\ttab \x{e4} \x{20ac} \x{65e5}\x{672c} \x{1f600} \$(touch x) `x`),
	'a message with quotes, newlines and non-ASCII arrives as it was');
is($json->{hint}, "\x01\x7f", 'control characters reach the command unchanged');
is(() = read_file('got') =~ /\n/g, 1, 'an alert is one line of JSON, whatever is in its texts');

# The recovery is notified, after the failure that was not.
unlink "$folder/got";
raise_alert();
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
like(deliver(), qr/alerts delivered: 2/, 'a failure and the recovery from it');
is(join(' ', map { JSON::PP->new->utf8->decode($_)->{kind} } split /\n/, read_file('got')), 'failed recovered', 'are delivered in their order');

# ---- what a command inherits ----

# (Asked of a program of its own: a shell may have files open and signals blocked meanwhile.)
set_command("pwd >$folder/pwd; echo \$\$ >$folder/pid; cut -d' ' -f5 /proc/\$\$/stat >$folder/pgid; "
	. "cat /proc/self/status >$folder/status; exec ls /proc/self/fd >$folder/fds");
raise_alert();
deliver();
SKIP:
{
	skip 'there is no /proc', 4 unless -d '/proc/self/fd';
	is(join(' ', split /\s+/, read_file('fds')), '0 1 2 3',
		'a command has no file of ours but standard input, output and error (3 is the folder that it lists)');
	is(read_file('pgid'), read_file('pid'), 'it leads a process group of its own');
	like(read_file('status'), qr/^SigIgn:\s*0+$/m, 'it ignores no signals');
	like(read_file('status'), qr/^SigBlk:\s*0+$/m, 'and has none blocked');
}
is(read_file('pwd'), $node->data_dir . "\n", 'it runs in the data directory, as archive_command does');

# ---- commands that fail ----

my $third = write_script('third', <<"END");
cat >/dev/null
echo x >>$folder/tries
[ \$(wc -l <$folder/tries) -ge 3 ] || { echo "not yet" >&2; echo "more" >&2; exit 3; }
END
set_command($third);
$log_start = -s $node->logfile;
raise_alert();
like(deliver(), qr/could not be delivered: exit status 3: not yet/, 'a command that fails');
alert_is('attempts, delivered_at IS NULL, last_error', '1|t|exit status 3: not yet', 'its exit status and the first line it wrote are kept');
alert_is(q(next_attempt_at BETWEEN now() + '30 s' AND now() + '80 s'), 't', 'the next attempt is in about a minute');
like($node->safe_psql($db, q(SELECT status, finding FROM challenge_jobs.doctor() WHERE check_name = 'alerts')),
	qr/^warning\|1 alerts could not be delivered yet; the last one: exit status 3: not yet/, 'the doctor reports it');
deliver();
alert_is('attempts, delivered_at IS NULL', '2|t', 'it is tried again');
alert_is(q(next_attempt_at BETWEEN now() + '70 s' AND now() + '160 s'), 't', 'and the next attempt is later by more');
deliver();
alert_is('attempts, delivered_at IS NOT NULL, last_error IS NULL', '3|t|t', 'until it is delivered');
$log = slurp_file($node->logfile, $log_start);
is(scalar(() = $log =~ /LOG:  challenge_jobs: alert \d+ could not be delivered/g), 1, 'of which the log has one line');

set_command('/nonexistent/command --option');
raise_alert();
deliver();
alert_is("last_error ~ '^exit status 127: .*/nonexistent/command'", 't', 'a command that does not exist');
set_command('kill -9 $$');
deliver();
alert_is('last_error', 'ended by signal 9', 'a command that kills itself');
set_command(q(printf '\n\ncaf\303\251 \377\033[31m \342\202 x\nsecond' >&2; exit 4));
deliver();
alert_is('last_error', "exit status 4: caf\xc3\xa9 ??[31m ? x", 'what is no valid text becomes question marks');
set_command(q(head -c 5000000 /dev/zero | tr '\0' x >&2; yes "more" | head -n 200000 >&2; exit 5));
deliver();
alert_is('length(last_error), left(last_error, 20)', '515|exit status 5: xxxxx', 'megabytes on standard error: the beginning is kept');
set_command('exit 0');
deliver();
alert_is('delivered_at IS NOT NULL', 't', 'a command that does not read');

# ---- more than a pipe holds ----

my @big = map { "repeat(E'\\x01', 4000)" } 1 .. 3;
set_command('exit 0');
raise_alert(@big);
like(deliver(), qr/delivered: 1/, 'a command that does not read more than a pipe holds');
set_command('exec 0<&-; sleep 0.3');
raise_alert(@big);
like(deliver(), qr/delivered: 1/, 'one that closes its standard input');
unlink "$folder/got";
set_command("sleep 0.3; cat >$folder/got; yes 'much more' | head -n 100000 >&2");
raise_alert(@big);
like(deliver(), qr/delivered: 1/, 'one that reads late');
is(length(JSON::PP->new->utf8->decode(read_file('got'))->{message}), 4000, 'gets all of it');
ok(length(read_file('got')) > 65536, '(which is more than a pipe holds)');

# ---- commands that hang ----

my $hanging = write_script('hanging', <<"END");
rm -f $folder/pids
trap '' TERM
sh -c "trap '' TERM; sleep 1000" &
child=\$!
echo "waiting for ever" >&2
echo "\$\$ \$child" >$folder/pids.new
mv $folder/pids.new $folder/pids
wait
sleep 1000
END
set_command($hanging, '500ms');
raise_alert();
my $begin = time;
like(deliver(), qr/killed: it took longer than 500 ms: waiting for ever/, 'a command that hangs, and its children, which ignore SIGTERM,');
ok(time - $begin < 20, 'are not waited for');
ok(are_gone(split ' ', read_file('pids')), 'all processes of a command that takes too long are killed');
alert_is('attempts, delivered_at IS NULL', '1|t', 'the alert waits for another attempt');

set_command(qq(trap 'echo ended >$folder/ended; exit 0' TERM; while :; do sleep 0.1; done), '500ms');
like(deliver(), qr/killed: it took longer/, 'a command that ends by itself on SIGTERM');
is(read_file('ended'), "ended\n", 'a command that ends by itself on SIGTERM gets the time to do so');
alert_is('delivered_at IS NULL', 't', 'and has not delivered, though it exits with 0');

set_command("sh -c 'echo \$\$ >$folder/left; exec sleep 1000' >/dev/null & sleep 0.1; exit 0");
raise_alert();
$begin = time;
like(deliver(), qr/delivered: 1/, 'a command that leaves a child behind has ended when it ends');
ok(time - $begin < 20, 'even though the child holds its standard error');
my $left = wait_for_file('left') + 0;
ok(kill(0, $left), 'the child is left alone');
kill 'KILL', $left;

# ---- being interrupted ----

my $patient = 'SET client_min_messages = error';
foreach my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	set_command($hanging, '10min');
	unlink "$folder/pids";
	raise_alert();
	my $session = start_sql($node, $db, $patient, $deliver);
	my @pids = split ' ', wait_for_file('pids');
	my $backend = $node->safe_psql($db, "SELECT pid FROM pg_stat_activity WHERE query = '$deliver' AND state = 'active'");

	is($node->safe_psql($db, "SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $backend"), 't',
		"$how: no transaction holds anything back while a command runs");
	is($node->safe_psql($db, "SELECT string_agg(locktype || ' ' || mode, ' ') FROM pg_locks WHERE pid = $backend AND locktype <> 'virtualxid'"),
		'object ExclusiveLock', "$how: nor any lock but the one for delivering");
	like(deliver(), qr/another process is delivering alerts/, "$how: meanwhile nobody else delivers");
	alert_is('attempts, last_error', '1|attempt 1 was begun, and has not ended', "$how: the attempt is noted before it is over");

	$node->safe_psql($db, "SELECT $how($backend)");
	like(finish_sql($session), qr/57014|57P01/, "$how ends the session while it waits for the command");
	ok(are_gone(@pids), "$how: the command and its children are gone");
	is($node->safe_psql($db, "SELECT count(*) FROM pg_locks WHERE locktype = 'object'"), '0', "$how: the lock as well");
	set_command($recorder);
	like(deliver(), qr/delivered: 1/, "$how: the alert is delivered by the next attempt");
}

$listener->quit;

# ---- restarts ----

foreach my $mode ('fast', 'immediate')
{
	set_command($hanging, '10min');
	unlink "$folder/pids";
	raise_alert();
	my $session = start_sql($node, $db, $patient, $deliver);
	my @pids = split ' ', wait_for_file('pids');

	$node->stop($mode);
	finish_sql($session);
	ok(are_gone(@pids), "stop $mode: the command and its children are gone") if $mode eq 'fast';
	kill '-KILL', getpgrp($pids[0]);
	write_command($recorder, '30s');
	unlink "$folder/got";
	$node->start;
	alert_is('attempts, delivered_at IS NULL, next_attempt_at IS NOT NULL', '1|t|t', "stop $mode: the alert is still there");
	deliver();
	like(read_file('got'), qr/"delivery": 2/, "stop $mode: and is delivered after the restart");
}

# ---- job functions ----

my $function = "SELECT * FROM $JOB()";
$node->safe_psql($db, <<"SQL");
DELETE FROM challenge_jobs.alert;
UPDATE challenges SET status = 'active';
CREATE FUNCTION break_one() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF NEW.id = 1 THEN RAISE EXCEPTION 'not this one'; END IF;
    RETURN NEW;
END \$\$;
CREATE TRIGGER break_one BEFORE UPDATE OF status ON challenges
    FOR EACH ROW WHEN (OLD.status = 'active') EXECUTE FUNCTION break_one();
SQL
$node->safe_psql($db, "BEGIN; $function; ROLLBACK");
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.alert'), '0', 'what a caller rolls back raises no alert');
$node->safe_psql($db, "BEGIN; $function; PREPARE TRANSACTION 'function'");
$node->psql($db, "CALL challenge_jobs.run('$JOB')");
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.alert'), '0', 'nor does a run that is skipped');
$node->safe_psql($db, "COMMIT PREPARED 'function'");
$node->safe_psql($db, 'SELECT challenge_jobs.settle_alerts()');
alert_is('kind, announced_at IS NULL', 'failed|t', 'a job function that failed in part, in a transaction that is prepared: the alert comes with it');
$listener = $node->background_psql($db);
$listener->query_safe('LISTEN challenge_jobs_alert');
$id = $node->safe_psql($db, 'SELECT max(alert_id) FROM challenge_jobs.alert');
unlink "$folder/got";
deliver();
like($listener->query('SELECT 1'), qr/"alert_id": $id/, 'it is announced afterwards');
like(read_file('got'), qr/"alert_id": $id/, 'the alert reaches the command');
$node->safe_psql($db, 'DROP TRIGGER break_one ON challenges');
$listener->quit;

# A caller in REPEATABLE READ does not see what was raised since: that is no reason to fail.
$node->safe_psql($db, "DELETE FROM challenge_jobs.alert; UPDATE challenges SET status = 'active'");
my $old = $node->background_psql($db);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
raise_alert();
$old->query_safe("SELECT * FROM $JOB()");
$old->query_safe('COMMIT');
$old->quit;
alert_is('kind', 'failed', 'a success that cannot see the alert does not end it');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
alert_is('kind', 'recovered', 'the next one does');

# ---- cancelled, crashed ----

raise_alert();
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB'); UPDATE challenges SET status = 'active'; INSERT INTO broken VALUES ('x', 'x', 'x', 60);"
	. "SELECT challenge_jobs.alter_job('$JOB', max_runtime => '200 ms')");
($status, $out, $err) = $node->psql($db, "CALL challenge_jobs.run('$JOB')");
alert_is(q(kind, payload ->> 'status'), 'failed|cancelled', 'a run that max_runtime has ended is an alert');
like($node->safe_psql($db, q(SELECT payload ->> 'hint' FROM challenge_jobs.alert ORDER BY alert_id DESC LIMIT 1)), qr/max_runtime/, 'with what to do');
$node->safe_psql($db, "SELECT challenge_jobs.reset_job('$JOB')");
my $session = start_sql($node, $db, "CALL challenge_jobs.run('$JOB')");
$node->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'running'");
my $backend = $node->safe_psql($db, "SELECT pid FROM challenge_jobs.job_run WHERE status = 'running'");
kill 'KILL', $backend;
finish_sql($session);
$node->poll_query_until($db, 'SELECT true');
$node->safe_psql($db, 'TRUNCATE broken');
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
is($node->safe_psql($db, 'SELECT string_agg(kind, \' \' ORDER BY alert_id) FROM challenge_jobs.alert'),
	'failed recovered failed crashed recovered', 'so is one whose backend was killed, when it is found');

# ---- overdue, and covered by a run that did not know ----

$node->safe_psql($db, <<"SQL");
DELETE FROM challenge_jobs.alert;
INSERT INTO challenge_jobs.alert (job, kind, episode, scheduled_for, raised_at, payload)
SELECT job, 'overdue', 0, started_at - interval '1 minute', started_at, '{}'
  FROM challenge_jobs.job_run WHERE job = '$JOB' AND status = 'succeeded' ORDER BY run_id DESC LIMIT 1;
INSERT INTO challenge_jobs.alert (job, kind, episode, scheduled_for, raised_at, payload)
VALUES ('send_streak_reminders', 'overdue', 0, now() - interval '1 minute', now(), '{}');
SQL
deliver();
deliver();
is($node->safe_psql($db, "SELECT string_agg(job || ' ' || kind, ', ' ORDER BY alert_id) FROM challenge_jobs.alert"),
	"$JOB overdue, send_streak_reminders overdue, $JOB recovered",
	'a scheduled time that was found overdue when its run had just ended: the recovery is notified afterwards, once');

# ---- who may ----

set_command($recorder);
$node->safe_psql($db, <<"SQL");
CREATE ROLE operator LOGIN;
GRANT USAGE ON SCHEMA challenge_jobs TO operator;
GRANT ALL ON ALL TABLES IN SCHEMA challenge_jobs TO operator;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA challenge_jobs TO operator;
GRANT SET, ALTER SYSTEM ON PARAMETER challenge_jobs.alert_command TO operator;
ALTER ROLE operator SET challenge_jobs.lock_timeout = '4s';
SQL
foreach my $try (
	[ $deliver, qr/permission denied to deliver alerts/ ],
	[ 'SHOW challenge_jobs.alert_command', qr/must be superuser or have privileges of pg_read_all_settings|permission denied to examine|must be superuser/ ],
	[ q(SET challenge_jobs.alert_command = 'x'), qr/cannot be changed now/ ],
	[ q(ALTER SYSTEM SET challenge_jobs.alert_command = 'x'), qr/cannot be changed/ ],
	[ q(SELECT set_config('challenge_jobs.alert_command', 'x', true)), qr/cannot be changed now/ ])
{
	($status, $out, $err) = $node->psql($db, $try->[0], extra_params => [ '-U', 'operator' ]);
	like($err, $try->[1], "for one who is no superuser, whatever was granted: $try->[0]");
}
foreach my $scope ("ALTER ROLE operator SET challenge_jobs.alert_command = 'x'", "ALTER DATABASE $db SET challenge_jobs.alert_command = 'x'")
{
	($status, $out, $err) = $node->psql($db, $scope);
	like($err, qr/cannot be changed now/, "$scope: it is a setting of the server");
}
($status, $out, $err) = $node->psql($db, "BEGIN; $deliver");
like($err, qr/challenge_jobs.deliver_alerts\(\) cannot run inside a transaction block/, 'not in a transaction block');

# ---- in their order ----

my $picky = write_script('picky', <<'SH');
case $(cat) in
*'"kind": "failed"'*) echo 'not this' >&2; exit 7 ;;
esac
SH
my $alerts = q(SELECT string_agg(kind || ' ' || attempts || ' ' || (delivered_at IS NOT NULL) || ' ' || (next_attempt_at IS NOT NULL), ', ' ORDER BY alert_id)
	FROM challenge_jobs.alert);
set_command($picky);
raise_alert();
$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
like(deliver(), qr/delivered: 0, not delivered: 1/, 'a command that fails for the first alert of a job');
is($node->safe_psql($db, $alerts), 'failed 1 false true, recovered 0 false true', 'is not called for the one after it');
$node->safe_psql($db, "INSERT INTO challenge_jobs.alert (job, kind, episode, scheduled_for, raised_at, next_attempt_at, payload)"
	. " VALUES ('send_streak_reminders', 'overdue', 0, now() + interval '1 hour', now(), now(), '{}')");
like(deliver(), qr/delivered: 1, not delivered: 1/, 'but for those of other jobs');
$node->safe_psql($db, "UPDATE challenge_jobs.alert SET attempts = 5 WHERE kind = 'failed'; DELETE FROM challenge_jobs.alert WHERE kind = 'overdue'");
like(deliver(), qr/delivered: 1, not delivered: 1/, 'when it has failed six times');
is($node->safe_psql($db, $alerts), 'failed 6 false false, recovered 1 true false', 'the next one is delivered, and the failure is not told after the recovery');
like($node->safe_psql($db, "SELECT last_error FROM challenge_jobs.alert WHERE kind = 'failed'"),
	qr/^given up, as alert \d+ was delivered: exit status 7: not this/, 'an alert that is overtaken by a later one says so and why');
set_command($recorder);

# ---- given up ----

raise_alert();
$node->safe_psql($db, "UPDATE challenge_jobs.alert SET raised_at = now() - interval '8 days'");
$log_start = -s $node->logfile;
like(deliver(), qr/delivered: 0, not delivered: 0/, 'an alert older than 7 days');
alert_is('delivered_at IS NULL, next_attempt_at IS NULL, last_error', 't|t|given up', 'is given up');
like(slurp_file($node->logfile, $log_start), qr/1 alerts were given up/, 'which the log says');

# ---- a message in another encoding ----

foreach my $encoding ('LATIN1', 'EUC_JP', 'SQL_ASCII')
{
	my $other = lc $encoding;

	$node->safe_psql($db, "CREATE DATABASE $other ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	create_app($node, $other, 1);
	$node->safe_psql($other, <<'SQL');
CREATE TABLE broken (message text, detail text, hint text);
GRANT SELECT ON broken TO app_owner;
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE b broken;
BEGIN
    SELECT * INTO b FROM broken;
    IF FOUND THEN RAISE EXCEPTION USING message = b.message, detail = b.detail, hint = b.hint; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER break BEFORE UPDATE ON challenges FOR EACH ROW EXECUTE FUNCTION break();
SQL
	unlink "$folder/got";
	raise_alert($encoding eq 'LATIN1' ? "'caf' || chr(233)"
		: $encoding eq 'EUC_JP' ? "convert_from('\\xc6fccbdc', 'EUC_JP')"
		: "E'caf\\303\\251 \\377'", undef, undef, $other);
	like(deliver($other), qr/alerts delivered: 1/, "$encoding: an alert is delivered");
	is(JSON::PP->new->utf8->decode(read_file('got'))->{message},
		$encoding eq 'LATIN1' ? "caf\x{e9}" : $encoding eq 'EUC_JP' ? "\x{65e5}\x{672c}" : "caf\x{e9} ?",
		"$encoding: the command gets the message in UTF-8");
}

check_log($node);

# ---- without a postmaster ----

set_command($hanging, '10min');
unlink "$folder/pids";
raise_alert();
$session = start_sql($node, $db, $patient, $deliver);
my @pids = split ' ', wait_for_file('pids');
$node->kill9;
finish_sql($session);
ok(are_gone(@pids), 'when the postmaster is killed the command and its children end');
write_command($recorder, '30s');
# (not before the last process of the old server has let go of it)
foreach (1 .. 100)
{
	last if $node->start(fail_ok => 1);
	$node->stop('fast', fail_ok => 1);
	select(undef, undef, undef, 0.1);
}
deliver();
alert_is('attempts, delivered_at IS NOT NULL', '2|t', 'and the alert is delivered by the next server');

$node->stop;
done_testing();
