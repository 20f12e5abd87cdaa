# What the TAP tests share: servers, an app, sessions that run in the background, and what must hold
# at the end of every test.
package ChallengeJobsTest;

use strict;
use warnings;

use Exporter qw(import);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw($JOB create_node create_app use_app fill_app make_due query poll start_sql finish_sql hold_stall
  release_stall wait_for_stall start_stalled end_stalled wait_for_server wait_for_checks wait_for_run runs alerts
  job_status doctor_status set_batch_size undone_work last_run check_log);

our $JOB = 'auto_complete_challenges';

# What the functions ask that are not told a server: the app that was made last, or the one of use_app.
my ($node, $db);

# An app of the plainest shape, owned by a role that is no superuser. The table decision counts how
# often each challenge was decided. With n in the table stall, a run stops in the batch that has the
# n-th challenge in it, updated and about to be notified, for whoever holds advisory lock 4711.
my $app = <<'SQL';
CREATE TABLE challenges (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    end_date date NOT NULL);
CREATE TABLE user_profiles (
    id bigint PRIMARY KEY,
    timezone text);
CREATE TABLE challenge_members (
    challenge_id bigint NOT NULL REFERENCES challenges,
    user_id bigint NOT NULL,
    PRIMARY KEY (challenge_id, user_id));
CREATE TABLE challenge_member_stats (
    challenge_id bigint NOT NULL,
    user_id bigint NOT NULL,
    completion_rate numeric NOT NULL);
CREATE INDEX ON challenge_member_stats (challenge_id);
CREATE TABLE notifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    type text NOT NULL,
    title text,
    body text,
    data jsonb,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE decision (challenge_id bigint NOT NULL, status text NOT NULL);
CREATE TABLE stall (n bigint PRIMARY KEY);

CREATE FUNCTION note_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO decision VALUES (NEW.id, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER note_decision AFTER UPDATE OF status ON challenges
    FOR EACH ROW WHEN (OLD.status = 'active' AND NEW.status IN ('completed', 'failed'))
    EXECUTE FUNCTION note_decision();

CREATE FUNCTION wait_in_stall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM stall s WHERE EXISTS (SELECT FROM decision OFFSET s.n - 1)) THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER wait_in_stall BEFORE INSERT ON notifications
    FOR EACH ROW EXECUTE FUNCTION wait_in_stall();
SQL

# Makes and starts a server; $settings are lines of postgresql.conf.
sub create_node
{
	my ($name, $settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'challenge_jobs'\n"
		  . "restart_after_crash = on\n"
		  . "autovacuum_naptime = 1min\n"
		  # once it holds locks, a job waits for half of this at most: a run in the stall is to wait for longer
		  . "deadlock_timeout = 10min\n"
		  . ($settings // ''));
	$node->start;
	return $node;
}

# Creates the extension and the app in a database: challenges 1 to $count, all of which ended in the
# last days, with three members each; those divisible by three are to be completed.
sub create_app
{
	my ($node, $db, $count) = @_;
	my $challenges = challenges($count);

	$node->safe_psql($db, <<"SQL");
DO \$\$ BEGIN
    IF to_regrole('app_owner') IS NULL THEN CREATE ROLE app_owner; END IF;
END \$\$;
GRANT ALL ON SCHEMA public TO app_owner;
CREATE EXTENSION challenge_jobs;
-- challenges are due again and again, however long ago they ended
SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{"notify_within": "unlimited"}');
SET ROLE app_owner;
$app
$challenges
INSERT INTO challenge_member_stats
SELECT challenge_id, user_id, CASE WHEN challenge_id % 3 = 0 THEN 90 ELSE 70 END
  FROM challenge_members;
ANALYZE;
SQL
	use_app($node, $db);
	return;
}

# Has the functions that are not told a server ask this one.
sub use_app
{
	($node, $db) = @_;
	return;
}

# Fills the app with such challenges anew, without statistics but those it has; $stall is put into its table stall.
sub fill_app
{
	my ($stall, $count) = @_;
	my $challenges = challenges($count // 30);

	$node->safe_psql($db, "TRUNCATE notifications, decision, stall, challenges, challenge_members; $challenges");
	$node->safe_psql($db, 'ANALYZE challenges, challenge_members');
	$node->safe_psql($db, "INSERT INTO stall VALUES ($stall)") if defined $stall;
	return;
}

# The statements that add challenges and their members.
sub challenges
{
	my ($count) = @_;

	return <<"SQL";
INSERT INTO challenges
SELECT i, 'challenge ' || i, 'active', current_date - 2 - i % 5 FROM generate_series(1, $count) i;
INSERT INTO challenge_members SELECT c.id, u FROM challenges c, generate_series(1, 3) u;
SQL
}

# Has every challenge of the app be decided again; no notification and no run is left.
sub make_due
{
	$node->safe_psql($db, <<'SQL');
TRUNCATE notifications, decision, stall, challenge_jobs.job_run;
ALTER TABLE challenges DISABLE TRIGGER USER;
UPDATE challenges SET status = 'active';
ALTER TABLE challenges ENABLE TRIGGER USER;
SQL
	return;
}

# The result of a query, which is given without SELECT.
sub query
{
	my ($query) = @_;

	return $node->safe_psql($db, "SELECT $query");
}

# Waits until a statement gives true; dies with the problem and the runs in the log if it does not.
sub poll
{
	my ($statement, $problem) = @_;

	$node->poll_query_until($db, $statement) or die "$problem:\n" . runs();
	return;
}

sub set_batch_size
{
	my ($node, $db, $size) = @_;

	$node->safe_psql($db,
		qq(SELECT challenge_jobs.alter_job('$JOB', settings => '{"batch_size": $size}')));
	return;
}

# Starts statements in a session of their own and returns at once.
sub start_sql
{
	my ($node, $db, @statements) = @_;
	my $session = { out => '', err => '' };

	$session->{handle} = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=verbose',
			'-d', $node->connstr($db), map { ('-c', $_) } @statements
		],
		'<', \undef,
		'>', \$session->{out},
		'2>', \$session->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $session;
}

# Waits for the end of such a session; returns what it wrote to standard error.
sub finish_sql
{
	my ($session) = @_;

	$session->{handle}->finish;
	return $session->{err};
}

# Waits until a run waits in the stall of the app.
sub wait_for_stall
{
	my ($node, $db) = @_;

	return $node->poll_query_until($db,
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
	);
}

# Opens a session that holds up whoever comes to the stall.
sub hold_stall
{
	my $holder = $node->background_psql($db, on_error_stop => 0);

	$holder->query_safe('SELECT pg_advisory_lock(4711)');
	return $holder;
}

# Lets them go on, and closes that session.
sub release_stall
{
	my ($holder) = @_;

	$holder->query_safe('SELECT pg_advisory_unlock(4711)');
	$holder->quit;
	return;
}

# Starts a statement in a session of its own, which comes to the stall and waits there; $name is what the test tries.
sub start_stalled
{
	my ($name, $statement) = @_;
	my $stalled = { name => $name, holder => hold_stall() };

	$stalled->{session} = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", $statement);
	wait_for_stall($node, $db) or die "$name: the session has not come to the stall";
	$stalled->{pid} = query("pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted");
	return $stalled;
}

# Ways to end a session in the middle; each is given the process id of its backend.
my %end = (
	'kill -9 of the backend' => sub { kill('KILL', $_[0]) },
	'pg_terminate_backend' => sub { query("pg_terminate_backend($_[0])") },
	'an immediate stop of the server' => sub {
		$node->stop('immediate');
		$node->start;
	});

# Ends such a session in one of these ways, and waits until it is gone and the server is back.
sub end_stalled
{
	my ($stalled, $way) = @_;
	my $name = $stalled->{name};

	$end{$way}->($stalled->{pid});
	finish_sql($stalled->{session});
	eval { $stalled->{holder}->quit };
	wait_for_server($node) or die "$name: the server has not come back";
	$node->poll_query_until($db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $stalled->{pid}")
	  or die "$name: the backend does not end";
	$node->safe_psql($db, 'TRUNCATE stall');
	return;
}

# Waits until a server that was killed accepts connections again. (A psql that is refused may end before it has read its
# statement, and whoever writes that to it dies of it.)
sub wait_for_server
{
	my ($node) = @_;
	my @command = ($node->installed_command('pg_isready'), '-q', '-h', $node->host, '-p', $node->port);
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	until (system(@command) == 0)
	{
		return 0 if time > $end;
		usleep(100_000);
	}
	return 1;
}

# Waits until the worker has looked at everything so many times, from beginning to end: the postmaster logs
# that it has ended (with log_min_messages = debug1), and the first one may have begun before.
sub wait_for_checks
{
	my ($node, $count) = @_;
	my $offset = -s $node->logfile;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	my $ticks = 0;

	until ($ticks > $count)
	{
		die 'the worker does not come' if time > $end;
		usleep(100_000);
		$ticks = () = slurp_file($node->logfile, $offset) =~ /background worker "challenge_jobs worker[^"]*" \(PID \d+\) exited/g;
	}
	return;
}

# The runs in the log, a line for each; but for those that a test has named "earlier".
sub runs
{
	my ($condition) = @_;

	$condition //= "triggered_by <> 'earlier'";
	return query(<<"SQL");
concat_ws(' ', triggered_by, status, to_char(scheduled_for, 'YYYY-MM-DD HH24:MI'), '#' || attempt)
  FROM challenge_jobs.job_run WHERE $condition ORDER BY run_id
SQL
}

# Waits for such a run in the log.
sub wait_for_run
{
	my ($condition) = @_;

	poll("SELECT count(*) > 0 FROM challenge_jobs.job_run WHERE triggered_by <> 'earlier' AND $condition",
		"there was no run with $condition");
	return;
}

# The alerts, a line for each.
sub alerts
{
	return query("concat_ws(' ', kind, to_char(scheduled_for, 'YYYY-MM-DD HH24:MI')) FROM challenge_jobs.alert ORDER BY alert_id");
}

# Columns of job_status of the job; times to the second.
sub job_status
{
	my ($columns) = @_;

	$columns =~ s/last_success/date_trunc('second', last_success)/;
	return query("$columns FROM challenge_jobs.job_status WHERE job = '$JOB'");
}

# The status of a check of the doctor; '' if there is nothing to say.
sub doctor_status
{
	my ($check) = @_;

	return query("status FROM challenge_jobs.doctor() WHERE check_name = '$check'");
}

# Returns in words everything that is not as it must be when all has been done: '' is right.
sub undone_work
{
	my ($node, $db) = @_;

	return $node->safe_psql($db, <<'SQL');
SELECT 'challenge ' || c.id || ' is still active'
  FROM challenges c WHERE c.status = 'active' AND c.end_date < current_date - 1
UNION ALL
SELECT 'challenge ' || d.challenge_id || ' was decided ' || count(*) || ' times'
  FROM decision d GROUP BY d.challenge_id HAVING count(*) <> 1
UNION ALL
SELECT 'challenge ' || c.id || ' was decided wrongly: ' || c.status
  FROM challenges c
 WHERE c.status IN ('completed', 'failed')
   AND c.status <> CASE WHEN c.id % 3 = 0 THEN 'completed' ELSE 'failed' END
UNION ALL
SELECT 'user ' || m.user_id || ' was notified ' || count(n.id) || ' times of challenge ' || c.id || ', ' || c.status
  FROM challenges c
  JOIN challenge_members m ON m.challenge_id = c.id
  LEFT JOIN notifications n ON n.user_id = m.user_id AND (n.data->>'challenge_id')::bigint = c.id
 GROUP BY c.id, c.status, m.user_id
HAVING count(n.id) <> CASE WHEN c.status IN ('completed', 'failed') THEN 1 ELSE 0 END
UNION ALL
SELECT 'notification ' || n.id || ' reports status ' || (n.data->>'status') || ', the challenge is ' || c.status
  FROM notifications n
  JOIN challenges c ON c.id = (n.data->>'challenge_id')::bigint
 WHERE n.data->>'status' <> c.status
LIMIT 20
SQL
}

# Returns columns of the run that started last.
sub last_run
{
	my ($node, $db, $columns) = @_;

	return $node->safe_psql($db,
		"SELECT $columns FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1");
}

# Nothing that was leaked or went wrong inside may stand in the log of the server.
sub check_log
{
	my ($node) = @_;
	my $log = slurp_file($node->logfile);
	my @bad = grep {
		/TRAP:|PANIC:|signal 11|signal 6|terminated by signal (?!9)/
		  || /WARNING:.*(leak|not closed|not released|still referenced|subtransaction left|snapshot|you don't own a lock)/i
		  || /FATAL:(?!.*(terminating|the database system|connection|role|database))/
		  || /did not account for|unexpected state|invalid transaction termination/
	} split /\n/, $log;

	is(join("\n", @bad), '', 'no leak, no crash and no inconsistency in the log of ' . $node->name);
	return;
}

1;
