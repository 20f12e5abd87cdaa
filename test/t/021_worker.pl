# The background worker: what may be missing, dropped, killed or used up without stopping it, and without
# filling the log.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

# A call that fails for a reason of the job, so that it leaves a row; with or without the tables.
my $failure = 'BEGIN; ALTER TABLE IF EXISTS public.challenges RENAME TO no_challenges; SELECT * FROM public.auto_complete_challenges(); ROLLBACK';
my ($status, $out, $err, $offset);

# A quotation mark, a comma and capitals: names are as they are.
my $db = 'The "App", 2';
my $node = create_node('worker', <<'CONF');
challenge_jobs.databases = '"The ""App"", 2", second'
challenge_jobs.worker_naptime = '1s'
log_min_messages = debug1
log_statement = none
wal_level = replica
CONF

# ---- what is not there yet ----

$node->wait_for_log(qr/challenge_jobs: there is no database "The "App", 2"/);
wait_for_rounds(3);
is(count_log(qr/there is no database "The "App", 2"/), 1, 'a database that is missing is logged once');
is(count_log(qr/there is no database "second"/), 1, 'so is the other one');
$node->safe_psql('postgres', 'CREATE DATABASE "The ""App"", 2"');
$node->wait_for_log(qr/challenge_jobs: database "The "App", 2" does not have the extension/);
wait_for_ticks(3);
is(count_log(qr/does not have the extension/), 1, 'a database without the extension is logged once');
create_app($node, $db, 30);
$node->wait_for_log(qr/challenge_jobs: database "The "App", 2" is being served/);
pass('when database and extension are there, it is served');

# ---- what is dropped, and made again ----

$offset = -s $node->logfile;
$node->safe_psql($db, 'DROP EXTENSION challenge_jobs');
$node->wait_for_log(qr/does not have the extension/, $offset);
$node->safe_psql($db, 'CREATE EXTENSION challenge_jobs');
$node->wait_for_log(qr/is being served/, $offset);
serves('after DROP EXTENSION and CREATE EXTENSION');

$offset = -s $node->logfile;
$node->safe_psql($db, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'challenge_jobs'");
$node->wait_for_log(qr/the extension is 0\.9, the library/, $offset);
$node->psql($db, $failure);
wait_for_ticks(3);
is(count_log(qr/the extension is 0\.9/), 1, 'an extension of another version is logged once');
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_run'), '0', 'and its tables are not touched');
$node->safe_psql($db, "UPDATE pg_extension SET extversion = default_version FROM pg_available_extensions WHERE extname = name AND name = 'challenge_jobs'");
$node->poll_query_until($db, 'SELECT count(*) = 1 FROM challenge_jobs.job_run')
  or die 'it is not served after the update';
pass('what failed meanwhile is recorded when the version is right again');

# A table of ours that is not there: an error of the task, each time.
$offset = -s $node->logfile;
$node->safe_psql($db, 'ALTER TABLE challenge_jobs.job_run RENAME TO gone');
$node->wait_for_log(qr/background task "close crashed runs" failed in database "The "App", 2": relation "challenge_jobs\.job_run" does not exist/, $offset);
wait_for_ticks(4);
is(count_log(qr/"close crashed runs" failed/, $offset), 1, 'a task that fails each time is logged once');
unlike(slurp_file($node->logfile, $offset), qr/ERROR:/, 'and by no other line');
$node->safe_psql($db, 'ALTER TABLE challenge_jobs.gone RENAME TO job_run');
$node->wait_for_log(qr/background task "close crashed runs" works again in database "The "App", 2"/, $offset);
serves('after a task failed');

# Tables and role of the app, settings of the database, the right to connect.
$node->safe_psql($db, 'DROP OWNED BY app_owner CASCADE; DROP ROLE app_owner');
$node->psql($db, 'SELECT * FROM auto_complete_challenges()');
$node->poll_query_until($db, "SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE sqlstate = '42P01'")
  or die 'a job function without its tables is not recorded';
serves('after the tables of the app and their owner were dropped');
$node->safe_psql($db, qq(ALTER DATABASE "The ""App"", 2" SET default_transaction_isolation = 'serializable';
ALTER DATABASE "The ""App"", 2" SET statement_timeout = '1ms';
ALTER DATABASE "The ""App"", 2" SET search_path = ''));
$node->psql($db, '', extra_params => [ '-c', 'SET statement_timeout = 0', '-c', $failure ]);
{
	# whoever looks has more time than the database gives
	local $ENV{PGOPTIONS} = '-c statement_timeout=0';
	poll('SELECT count(*) = 1 FROM challenge_jobs.job_run', 'the settings of the database keep the worker from writing');
}
pass('settings of the database do not bother the worker');
$node->safe_psql('postgres', 'ALTER DATABASE "The ""App"", 2" RESET ALL');
$node->safe_psql($db, 'TRUNCATE challenge_jobs.job_run');
$node->safe_psql('postgres', 'ALTER DATABASE "The ""App"", 2" ALLOW_CONNECTIONS off');
$node->wait_for_log(qr/database "The "App", 2" does not accept connections/);
wait_for_rounds(2);
is(count_log(qr/does not accept connections/), 1, 'a database that takes no connections is logged once');
$node->safe_psql('postgres', 'ALTER DATABASE "The ""App"", 2" ALLOW_CONNECTIONS on');
serves('after connections were forbidden');

# ---- DROP DATABASE and DROP EXTENSION while the worker is busy ----

my $slow = <<'SQL';
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(%s); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON challenge_jobs.job_run FOR EACH ROW EXECUTE FUNCTION slow();
SQL
$node->safe_psql($db, sprintf($slow, '0.5'));
$node->psql($db, $failure) foreach 1 .. 4;
wait_for_busy_worker();
is($node->psql($db, 'DROP EXTENSION challenge_jobs CASCADE'), 0, 'DROP EXTENSION while the worker is at work');
$node->safe_psql($db, 'DROP FUNCTION slow; CREATE EXTENSION challenge_jobs');
serves('after that');

$node->safe_psql($db, sprintf($slow, '0.5'));
$node->psql($db, $failure) foreach 1 .. 4;
wait_for_busy_worker();
is($node->psql('postgres', 'DROP DATABASE "The ""App"", 2"'), 0, 'DROP DATABASE while the worker is at work');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE "The ""App"", 2"');
create_app($node, $db, 3);
$node->wait_for_log(qr/database "The "App", 2" is being served/, $offset);
serves('after the database was dropped and made again');

$node->safe_psql($db, sprintf($slow, '1000'));
$node->psql($db, $failure);
wait_for_busy_worker();
is($node->psql('postgres', 'DROP DATABASE "The ""App"", 2" WITH (FORCE)'), 0, 'DROP DATABASE WITH (FORCE) ends the worker');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE "The ""App"", 2"');
create_app($node, $db, 30);
$node->wait_for_log(qr/database "The "App", 2" is being served/, $offset);
serves('after that');

# ---- SIGTERM and kill -9 ----

foreach my $signal ('TERM', 'KILL')
{
	my $launcher = launcher();
	$offset = -s $node->logfile;
	kill($signal, $launcher);
	wait_for_recovery() if $signal eq 'KILL';
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher' AND pid <> $launcher")
	  or die "the launcher does not come back after SIG$signal";
	serves("after SIG$signal of the launcher");

	$node->safe_psql($db, sprintf($slow, '1000'));
	$node->psql($db, $failure);
	wait_for_busy_worker();
	# what is terminated is tried again, by the next worker
	$node->safe_psql($db, 'CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$');
	$offset = -s $node->logfile;
	kill($signal, busy_worker());
	wait_for_recovery() if $signal eq 'KILL';
	$node->poll_query_until($db, 'SELECT count(*) = 1 FROM challenge_jobs.job_run') or die 'the record is gone'
	  if $signal eq 'TERM';
	$node->safe_psql($db, 'DROP TRIGGER slow ON challenge_jobs.job_run; DROP FUNCTION slow');
	serves("after SIG$signal of a worker that was at work");
}

# ---- runs in a worker, and runs that crash ----

$node->safe_psql($db, 'DROP EXTENSION challenge_jobs; CREATE ROLE ext_owner SUPERUSER; SET ROLE ext_owner; CREATE EXTENSION challenge_jobs');
start_run();
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'succeeded'", 'the run in a worker does not end');
is($node->safe_psql($db, 'SELECT triggered_by, role_name FROM challenge_jobs.job_run'),
	'manual|ext_owner', 'a run in a worker is one of the owner of the extension, who need not be allowed to log in');
is(undone_work($node, $db), '', 'and does all of the work');

foreach my $way ('KILL', 'TERM')
{
	make_due();
	set_batch_size($node, $db, 10);
	$node->safe_psql($db, 'INSERT INTO stall VALUES (15)');
	my $holder = hold_stall();
	start_run();
	wait_for_stall($node, $db) or die 'the run has not come to the stall';
	is($node->safe_psql($db, "SELECT backend_type FROM pg_stat_activity WHERE query LIKE 'CALL challenge_jobs.run(%'"),
		'challenge_jobs run', 'a run in a worker stands in pg_stat_activity, with what it is doing');
	is($node->safe_psql($db, "SELECT status FROM challenge_jobs.job_run"), 'running', 'its row is there');
	wait_for_ticks(2);
	is($node->safe_psql($db, "SELECT status FROM challenge_jobs.job_run"), 'running', 'and is left alone by the worker while it lives');
	$offset = -s $node->logfile;
	kill($way, $node->safe_psql($db, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"));
	wait_for_recovery() if $way eq 'KILL';
	eval { $holder->quit };
	poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'crashed' AND finished_at IS NOT NULL",
		"SIG$way of a run: its row is not closed");
	pass("SIG$way of a run: the worker closes its row, without another run");
	is($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status <> 'active'"), '10', 'finished batches are kept');
	$node->safe_psql($db, 'TRUNCATE stall');
	start_run();
	poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'succeeded'", 'the next run does not end');
	is(undone_work($node, $db), '', 'the next run does the rest');
}

# The same with the whole server, in the middle of a run of an ordinary session.
make_due();
$node->safe_psql($db, 'INSERT INTO stall VALUES (15)');
my $holder = hold_stall();
my $run = start_sql($node, $db, "SET challenge_jobs.lock_timeout = '180s'", "CALL challenge_jobs.run('$JOB')");
wait_for_stall($node, $db) or die 'the run has not come to the stall';
my @processes = ($node->{_pid}, split /\n/, $node->safe_psql($db, 'SELECT pid FROM pg_stat_activity'));
$node->kill9;
finish_sql($run);
eval { $holder->quit };
# it does not start while a process of the old server is there
foreach my $process (@processes)
{
	for (my $i = 0; $i < 600 && kill(0, $process); $i++)
	{
		select(undef, undef, undef, 0.1);
	}
}
$node->start;
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'crashed'", 'the row is not closed');
pass('kill -9 of the postmaster: the worker closes the row of the run');
$node->safe_psql($db, 'TRUNCATE stall');

# A run that fails in a worker: recorded, logged, and the worker is gone.
make_due();
$node->safe_psql($db, 'ALTER TABLE notifications RENAME TO messages');
$offset = -s $node->logfile;
start_run();
poll("SELECT count(*) = 1 FROM challenge_jobs.job_run WHERE status = 'failed' AND sqlstate = '42P01'", 'the failed run is not recorded');
$node->wait_for_log(qr/ERROR:  .*notifications does not exist/, $offset);
poll("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs run'", 'the worker of the failed run does not end');
$node->safe_psql($db, 'ALTER TABLE messages RENAME TO notifications');
pass('a run that fails in a worker is recorded');

# ---- reload ----

$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION challenge_jobs');
$node->wait_for_log(qr/database "second" is being served/, $offset);
$node->append_conf('postgresql.conf', "challenge_jobs.databases = 'second'\nchallenge_jobs.worker_naptime = '1d'");
$node->reload;
$node->poll_query_until($db, q(SELECT status = 'warning' FROM challenge_jobs.doctor() WHERE check_name = 'worker'));
$node->safe_psql($db, 'TRUNCATE challenge_jobs.job_run');
$node->psql($db, $failure);
$node->psql('second', $failure);
use_app($node, 'second');
poll('SELECT count(*) = 1 FROM challenge_jobs.job_run', 'the other database is not served any more');
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.job_run'), '0', 'a database that is taken off the list is not served any more');
$offset = -s $node->logfile;
$node->append_conf('postgresql.conf', q(challenge_jobs.databases = '"not closed'));
$node->reload;
$node->wait_for_log(qr/invalid value for parameter "challenge_jobs\.databases"/, $offset);
$node->psql('second', $failure);
poll('SELECT count(*) = 2 FROM challenge_jobs.job_run', 'after a wrong setting the right one is not kept');
pass('a list that cannot be read is refused, and the old one stays');

# ---- no worker to be had ----

$node->append_conf('postgresql.conf', "max_worker_processes = 2\nchallenge_jobs.databases = 'second'\nchallenge_jobs.worker_naptime = '1s'");
$offset = -s $node->logfile;
$node->restart;
# the launchers of logical replication and ours take both
$node->wait_for_log(qr/challenge_jobs: there is no free background worker for database "second"/, $offset);
wait_for_rounds(2);
is(count_log(qr/there is no free background worker/, $offset), 1, 'that there is no free worker is logged once');
$node->psql('second', $failure);
like($node->safe_psql('second', q(SELECT finding FROM challenge_jobs.doctor() WHERE check_name = 'unrecorded_runs')), qr/^1 runs are waiting/, 'records wait in memory while there is no room for a worker');
my (undef, undef, $refused) = $node->psql('second', "SELECT challenge_jobs.start('$JOB')");
like($refused, qr/ERROR:  no background worker is free to run job "$JOB"/, 'start() says that it cannot');
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart;
is($node->safe_psql('second', q(SELECT status FROM challenge_jobs.doctor() WHERE check_name = 'worker')), 'error',
	'where there was not even room for the launcher, the doctor says so');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
$node->psql('second', $failure);
poll('SELECT count(*) = 3 FROM challenge_jobs.job_run', 'with room for workers it is not served');
pass('with room for workers all is well');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Waits until the server is back after one of its processes was killed; connecting while it goes down may fail in
# ways that end the test.
sub wait_for_recovery
{
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	return;
}

sub count_log
{
	my ($what, $from) = @_;
	my @lines = slurp_file($node->logfile, $from // 0) =~ /$what/g;

	return scalar @lines;
}

sub launcher
{
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'");
}

# Waits until so many workers have been started for a database.
sub wait_for_ticks
{
	my ($count) = @_;
	my $from = -s $node->logfile;

	foreach (1 .. 1800)
	{
		return if count_log(qr/starting background worker process "challenge_jobs worker/, $from) >= $count;
		select(undef, undef, undef, 0.1);
	}
	die 'no worker is started';
}

# Waits until the launcher has looked for the databases so often, whether or not there was one.
sub wait_for_rounds
{
	my ($count) = @_;
	my $query = "SELECT state_change FROM pg_stat_activity WHERE backend_type = 'challenge_jobs launcher'";

	foreach (1 .. $count)
	{
		my $before = $node->safe_psql('postgres', $query);
		$node->poll_query_until('postgres', "SELECT ($query) <> '$before'::timestamptz") or die 'the launcher does not look round';
	}
	return;
}

sub busy_worker
{
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'challenge_jobs worker' AND wait_event = 'PgSleep'");
}

sub wait_for_busy_worker
{
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'challenge_jobs worker' AND wait_event = 'PgSleep' AND query = 'challenge_jobs: write unrecorded runs'")
	  or die 'the worker does not come to work';
	return;
}

# A failure is recorded: the worker does its work.
sub serves
{
	my ($when) = @_;

	$node->safe_psql($db, 'TRUNCATE challenge_jobs.job_run');
	$node->psql($db, $failure);
	ok($node->poll_query_until($db, "SELECT count(*) >= 1 FROM challenge_jobs.job_run WHERE status = 'failed'"),
		"the database is served $when");
	$node->safe_psql($db, 'TRUNCATE challenge_jobs.job_run');
	return;
}

# Starts a run in a worker.
sub start_run
{
	is($node->safe_psql($db, "SELECT challenge_jobs.start('$JOB')"), '', 'a run is started in a worker');
	return;
}
