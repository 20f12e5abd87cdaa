# Clean-ups that are killed: whatever the moment and the way of reading, what was committed is kept, nothing
# that is not expired is lost, and the next run does the rest.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $clean = 'cleanup_expired_notifications';
my $node = create_node('cleanup');
my $db = 'postgres';

# 3000 notifications, those with an id that is not divisible by three expired; each with a row that
# refers to it. The one whose id stands in stall is waited at, in the middle of its batch; if that is a
# range of blocks, the sequence says so, at once.
$node->safe_psql($db, <<'SQL');
CREATE ROLE app_owner;
GRANT ALL ON SCHEMA public TO app_owner;
CREATE EXTENSION challenge_jobs;
SET ROLE app_owner;
CREATE TABLE notifications (id int PRIMARY KEY, created_at timestamptz NOT NULL, body text);
CREATE TABLE reads (notification_id int REFERENCES notifications ON DELETE CASCADE);
CREATE INDEX ON reads (notification_id);
CREATE TABLE stall (id int);
CREATE SEQUENCE stalled_in_range;
CREATE FUNCTION wait_in_stall() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    context text;
BEGIN
    IF EXISTS (SELECT FROM stall s WHERE s.id = OLD.id) THEN
        GET DIAGNOSTICS context = PG_CONTEXT;
        IF context LIKE '%"delete expired notifications in a range of blocks"%' THEN
            PERFORM nextval('stalled_in_range');
        END IF;
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER wait_in_stall BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION wait_in_stall();
SQL
use_app($node, $db);

# Ways to end a run in the middle.
my @ways = ('an immediate stop of the server', 'kill -9 of the backend');

# The expired notifications are 2000; in batches of 100, one whose id is i is in batch i * 2 / 3 / 100.
my %moments = ('the first batch' => 2, 'a batch in the middle' => 1501, 'the last batch' => 2999);

foreach my $way ('heap', 'index')
{
	foreach my $kill (@ways)
	{
		foreach my $moment (sort { $moments{$a} <=> $moments{$b} } keys %moments)
		{
			kill_in_clean_up($way, $kill, $moment, 100);
		}
	}
}
# batches that are large enough to be deleted range of blocks by range
kill_in_clean_up('heap', $_, 'a batch in the middle', 300) foreach @ways;

# Killed as soon as so many have gone, wherever it then is.
foreach my $gone (1, 500, 1300, 1999)
{
	reset_notifications('heap', undef);
	$node->safe_psql($db,
		qq(SELECT challenge_jobs.alter_job('$clean', settings => '{"batch_size": 10}')));
	my $run = start_sql($node, $db, "CALL challenge_jobs.run('$clean')");
	$node->poll_query_until($db, "SELECT count(*) <= 3000 - $gone FROM notifications")
	  or die 'the run has not begun';
	my $pid = $node->safe_psql($db,
		"SELECT pid FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1");
	kill('KILL', $pid);
	finish_sql($run);
	wait_for_server($node) or die 'the server has not come back';
	is(wrong(), '', "kill -9 after about $gone rows: nothing is lost");
	$node->safe_psql($db, "CALL challenge_jobs.run('$clean')");
	is(expired() . wrong(), '0', "kill -9 after about $gone rows: the next run completes the work");
}

# The extension's own history: killed anywhere, too, it loses nothing that is to be kept.
reset_notifications('heap', undef);
$node->safe_psql($db, <<'SQL');
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"batch_size": 1}');
INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, finished_at, status, role_name, pid)
SELECT 'a', CASE WHEN i % 2 = 0 THEN 'goes' ELSE 'stays' END, m, m, 'succeeded', 'x', 1
  FROM generate_series(1, 2000) i, LATERAL (SELECT now() - CASE WHEN i % 2 = 0 THEN 100 ELSE 10 END * interval '1 day') d(m);
SQL
my $run = start_sql($node, $db, "CALL challenge_jobs.run('$clean')");
$node->poll_query_until($db, "SELECT count(*) < 990 FROM challenge_jobs.job_run WHERE triggered_by = 'goes'")
  or die 'the run has not begun';
kill('KILL',
	$node->safe_psql($db, "SELECT pid FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1"));
finish_sql($run);
wait_for_server($node) or die 'the server has not come back';
$node->safe_psql($db,
	qq(SELECT challenge_jobs.alter_job('$clean', settings => '{"batch_size": 1000}')));
$node->safe_psql($db, "CALL challenge_jobs.run('$clean')");
is( $node->safe_psql($db,
		"SELECT count(*) FILTER (WHERE triggered_by = 'goes'), count(*) FILTER (WHERE triggered_by = 'stays') FROM challenge_jobs.job_run"
	),
	'0|1000',
	'kill -9 in the history: the next run completes it');

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Puts the app back to where it was, with a stall at a row, read in one way. An INSERT that refers to a
# notification marks it, and what is marked is not deleted in ranges; so the rows can be put in without.
sub reset_notifications
{
	my ($way, $stall, $unmarked) = @_;
	my $fkey = 'reads_notification_id_fkey';
	my $reads = 'INSERT INTO reads SELECT id FROM notifications';
	my $index = $way eq 'index' ? 'CREATE INDEX made ON notifications (created_at)' : 'SELECT 1';
	my $seqscan = $way eq 'index' ? 'off' : 'on';

	$reads =
	  "ALTER TABLE reads DROP CONSTRAINT $fkey; $reads; ALTER TABLE reads ADD CONSTRAINT $fkey FOREIGN KEY (notification_id) REFERENCES notifications ON DELETE CASCADE"
	  if $unmarked;

	$node->safe_psql($db, <<"SQL");
TRUNCATE notifications, reads, stall;
SELECT setval('stalled_in_range', 1, false);
DROP INDEX IF EXISTS made;
INSERT INTO notifications
SELECT i, now() - CASE WHEN i % 3 = 0 THEN 1 ELSE 100 END * interval '1 day' + i * interval '1 second', repeat('x', 100)
  FROM generate_series(1, 3000) i;
$reads;
DELETE FROM challenge_jobs.job_run;
$index;
ANALYZE notifications;
ALTER DATABASE $db SET enable_seqscan = $seqscan;
SQL
	$node->safe_psql($db, "INSERT INTO stall VALUES ($stall)") if defined $stall;
	return;
}

# Says what is not as it must be at any time; '' is right.
sub wrong
{
	return $node->safe_psql($db, <<'SQL');
SELECT 'not expired, and gone: ' || i
  FROM generate_series(3, 3000, 3) i WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.id = i)
UNION ALL
SELECT 'without what refers to it: ' || id FROM notifications WHERE id NOT IN (SELECT notification_id FROM reads)
UNION ALL
SELECT 'refers to nothing: ' || notification_id FROM reads WHERE notification_id NOT IN (SELECT id FROM notifications)
LIMIT 5
SQL
}

# Returns how many expired notifications there are.
sub expired
{
	return $node->safe_psql($db,
		"SELECT count(*) FROM notifications WHERE created_at < now() - interval '30 days'");
}

# Ends a run in one way at one moment and looks at what is left.
sub kill_in_clean_up
{
	my ($way, $kill, $moment, $batch_size) = @_;
	my $stall = $moments{$moment};
	my $name = "by $way, $kill in $moment of $batch_size";

	$node->safe_psql($db,
		qq(SELECT challenge_jobs.alter_job('$clean', settings => '{"batch_size": $batch_size}')));
	reset_notifications($way, $stall, $batch_size >= 291);
	my $run = start_stalled($name, "CALL challenge_jobs.run('$clean')");
	my $gone = 2000 - expired();
	my $before = int($stall * 2 / 3);
	if ($batch_size < 291)
	{
		is( $gone,
			$before - $before % $batch_size,
			"$name: the batches before have been committed");
	}
	else
	{
		cmp_ok($gone, '>', $before - $batch_size, "$name: the ranges before have been committed");
		is($node->safe_psql($db, 'SELECT is_called FROM stalled_in_range'),
			't', "$name: it is in one");
	}

	end_stalled($run, $kill);
	is(2000 - expired(), $gone, "$name: they are kept, and the others are still there");
	is(wrong(), '', "$name: nothing is lost, and nothing is torn apart");

	$node->safe_psql($db, "CALL challenge_jobs.run('$clean')");
	is(expired() . wrong(), '0', "$name: the next run completes the work");
	is( $node->safe_psql($db,
			"SELECT string_agg(status, ' ' ORDER BY run_id), max((result->'notifications')::int), max((result->'tables'->'by_$way')::int), max((result->'locked')::int) FROM challenge_jobs.job_run"
		),
		'crashed succeeded|' . (2000 - $gone) . '|1|0',
		"$name: the row of the one that died is closed, and the next one counts the rest");
	return;
}
