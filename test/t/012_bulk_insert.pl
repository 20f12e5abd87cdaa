# Notifications inserted in bulk: others can follow them by logical decoding, and a server that dies in the middle has
# nothing of them afterwards, and no damage.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $node = create_node('bulk_insert', "wal_level = logical\n");
my $db = 'postgres';

create_app($node, $db, 30);
$node->safe_psql($db, <<'SQL');
CREATE EXTENSION amcheck;
DROP TRIGGER wait_in_stall ON notifications;
ALTER TABLE notifications ADD note text DEFAULT 'kept' CHECK (note <> ''), ADD length int GENERATED ALWAYS AS (length(body)) STORED;
CREATE INDEX by_user ON notifications (user_id, created_at DESC);
CREATE INDEX by_title ON notifications (title) WHERE type = 'challenge_completed';
SQL

# ---- logical decoding ----

# Runs the job once more; returns how it inserted, and what a follower sees of it: without what differs between two runs.
sub followed
{
	my ($insert) = @_;

	make_due();
	$node->safe_psql($db, "SELECT challenge_jobs.alter_job('$JOB', settings => '{\"insert\": \"$insert\"}')");
	$node->safe_psql($db, "SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
	$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
	my $how = last_run($node, $db, "result->>'insert'");
	my $seen = $node->safe_psql($db, <<'SQL');
SELECT regexp_replace(data, '( id\[bigint\]:\d+|created_at\[[^]]*\]:''[^'']*''|"run_id": \d+)', '', 'g')
  FROM pg_logical_slot_get_changes('s', NULL, NULL)
 WHERE data LIKE 'table public.notifications: INSERT:%'
 ORDER BY 1
SQL
	$node->safe_psql($db, "SELECT pg_drop_replication_slot('s')");
	return ($how, $seen);
}

my ($bulk, $by_bulk) = followed('auto');
my ($plain, $by_insert) = followed('plain');
is("$bulk $plain", 'bulk plain', 'one run inserts in bulk, the other by INSERT');
is(scalar(split(/\n/, $by_bulk)), 90, 'a follower sees every notification that was inserted in bulk');
is($by_bulk, $by_insert, 'and the same as of those that were inserted by INSERT');

# ---- death in the middle ----

# So many that pages are full long before the row that waits for the lock of the stall.
$node->safe_psql($db, <<'SQL');
INSERT INTO challenge_members SELECT id, u FROM challenges, generate_series(1001, 3000) u;
ALTER TABLE notifications ALTER note SET DEFAULT CASE WHEN lastval() % 100000 = 50000 THEN 'waited' || pg_advisory_xact_lock_shared(4711)::text ELSE 'kept' END;
SQL
foreach my $way ('an immediate stop of the server', 'kill -9 of the backend', 'pg_terminate_backend')
{
	make_due();
	$node->safe_psql($db, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', settings => '{"insert": "auto"}');
ALTER SEQUENCE notifications_id_seq RESTART 1;
SQL
	my $run = start_stalled($way, "CALL challenge_jobs.run('$JOB')");
	cmp_ok($node->safe_psql($db, "SELECT pg_relation_size('notifications') > 1000000"), 'eq', 't', "$way: much has been written");
	end_stalled($run, $way);
	is( $node->safe_psql($db, "SELECT count(*) FILTER (WHERE status = 'active') FROM challenges UNION ALL SELECT count(*) FROM notifications"),
		"30\n0",
		"$way: nothing of it is there");
	$node->safe_psql($db, "CALL challenge_jobs.run('$JOB')");
	is(last_run($node, $db, "status || ' ' || (result->>'insert')"), 'succeeded bulk', "$way: the next run does it, in bulk");
	is(undone_work($node, $db), '', "$way: each member is notified once");
	is( $node->safe_psql($db,
			"SELECT count(bt_index_parent_check(indexrelid, true)) FROM pg_index WHERE indrelid = 'notifications'::regclass"),
		'3',
		"$way: every row is in every index");
}

check_log($node);
done_testing();
