# Tracked views in a database that is dumped and restored, that others replicate into or from, or that is promoted: no change
# of their tables is missed, and where nothing can be known of changes, a view is recomputed as a whole.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('original');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'challenge_jobs'\nmax_prepared_transactions = 5\n");
$node->start;

my $tables = <<'SQL';
CREATE TABLE amounts (challenge_id bigint NOT NULL, id bigint PRIMARY KEY, amount bigint NOT NULL);
CREATE TABLE names (id bigint PRIMARY KEY, name text);
SQL
my $view = <<'SQL';
CREATE MATERIALIZED VIEW stats AS
SELECT a.challenge_id, n.name, sum(a.amount) AS amount FROM amounts a LEFT JOIN names n ON n.id = a.challenge_id GROUP BY a.challenge_id, n.name;
CREATE UNIQUE INDEX ON stats (challenge_id);
SQL
my $rows = <<'SQL';
INSERT INTO amounts SELECT i % 50, i, i FROM generate_series(1, 500) i;
INSERT INTO names SELECT i, 'name ' || i FROM generate_series(0, 49) i;
SQL
my $count_triggers = "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'challenge_jobs.capture_change'::regproc AND tgenabled = 'A'";

$node->safe_psql($db, <<"SQL");
CREATE ROLE app_owner;
GRANT ALL ON SCHEMA public TO app_owner;
CREATE EXTENSION challenge_jobs;
SET ROLE app_owner;
$tables $rows $view
RESET ROLE;
SELECT FROM challenge_jobs.track('stats');
SELECT FROM refresh_challenge_stats();
-- not consumed when it is dumped
UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 1;
SQL

# ---- dump and restore ----

$node->command_ok([ 'pg_dump', '-f', "$folder/plain.sql", '-d', $node->connstr($db) ], 'pg_dump dumps it');
$node->safe_psql($db, 'CREATE DATABASE plain TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain'), '-f', "$folder/plain.sql" ],
	'it is restored without an error');
is(restored('plain'), "2|2\ninactive", 'triggers, and what was asked for, have come along');
goes_on($node, 'plain', 'restored');

# Each object is made by its owner. CREATE TRIGGER looks the function up by its name, as them.
$node->command_ok([ 'pg_dump', '--use-set-session-authorization', '-f', "$folder/owners.sql", '-d', $node->connstr($db) ],
	'pg_dump --use-set-session-authorization dumps it');
$node->safe_psql($db, 'CREATE DATABASE owners TEMPLATE template0');
# rights on schemas come last in a dump
$node->safe_psql('owners', 'GRANT ALL ON SCHEMA public TO app_owner');
my ($status, $out, $err) = $node->psql('owners', slurp_file("$folder/owners.sql"), on_error_stop => 0);
unlike($err, qr/ERROR:(?!  permission denied for schema challenge_jobs|  trigger "challenge_jobs_capture)/,
	'all is restored but for triggers whose function they may not see');
goes_on($node, 'owners', 'restored by the owners');
is($node->safe_psql('owners', $count_triggers), '4', 'triggers that were missing are made by the first refresh');

# By the owner of the tables, into what a superuser has made ready.
$node->safe_psql($db, 'CREATE DATABASE by_owner TEMPLATE template0');
$node->safe_psql('by_owner', 'GRANT ALL ON SCHEMA public TO app_owner; CREATE EXTENSION challenge_jobs; GRANT USAGE ON SCHEMA challenge_jobs TO app_owner');
$node->command_ok([ 'pg_dump', '-t', 'amounts', '-t', 'names', '-t', 'stats', '-f', "$folder/tables.sql", '-d', $node->connstr($db) ],
	'the tables are dumped by themselves');
{
	local $ENV{PGOPTIONS} = '-c role=app_owner';
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('by_owner'), '-f', "$folder/tables.sql" ],
		'and restored by their owner, who may see the schema of the extension');
}
is($node->safe_psql('by_owner', $count_triggers), '4', 'a restored view has its capture triggers');
$node->safe_psql('by_owner', "UPDATE amounts SET amount = 0 WHERE challenge_id = 2; SELECT FROM challenge_jobs.track('stats')");
goes_on($node, 'by_owner', 'by the owner');

# A database as the template of another one: its relations have the same OIDs, and what was noted is right there, too.
$node->safe_psql('template1', "CREATE DATABASE from_template TEMPLATE $db");
$node->safe_psql('from_template', 'SELECT FROM challenge_jobs.resume()');
is(refresh($node, 'from_template'), 'incremental', 'in a copy of the files the changes that were noted are taken');
is(differences($node, 'from_template'), '0', 'a view in a database made from a template is as its query says');

# ---- into a subscriber ----

my $subscriber = create_node('subscriber');
$subscriber->safe_psql($db, <<"SQL");
CREATE EXTENSION challenge_jobs;
$tables $view
SELECT FROM challenge_jobs.track('stats');
SELECT FROM refresh_challenge_stats();
SELECT challenge_jobs.alter_job('refresh_challenge_stats', settings => '{"incremental_share": 100}');
SQL
is(refresh($subscriber, $db), 'unchanged', 'the subscriber has nothing yet');
$node->safe_psql($db, 'CREATE PUBLICATION app FOR TABLE amounts, names');
$subscriber->safe_psql($db, sprintf "CREATE SUBSCRIPTION app CONNECTION '%s dbname=$db' PUBLICATION app", $node->connstr);
$subscriber->wait_for_subscription_sync($node, 'app');
isnt($subscriber->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.change_log'), '0', 'the initial copy is noted');
isnt(refresh($subscriber, $db), 'unchanged', 'a change that comes by replication makes the subscriber refresh its view');
is(differences($subscriber, $db), '0', "after that the subscriber's view is as its query says");
$node->safe_psql($db, <<'SQL');
UPDATE amounts SET amount = amount + 1 WHERE challenge_id IN (3, 4);
DELETE FROM amounts WHERE challenge_id = 5;
UPDATE names SET name = 'new' WHERE id = 6;
SQL
$node->wait_for_catchup('app');
is(refresh($subscriber, $db), 'incremental', 'what is applied is noted by its keys');
is(differences($subscriber, $db), '0', "the refresh by keys leaves the subscriber's view as its query says");
is($subscriber->safe_psql($db, "SELECT result->'views'->0->>'keys' FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1"), '4', 'the refresh recomputes the four keys that have changed, and no other');
is(refresh($subscriber, $db), 'unchanged', "a second refresh of the subscriber's view finds nothing to do");
$node->safe_psql($db, "TRUNCATE names; INSERT INTO names VALUES (7, 'seven')");
$node->wait_for_catchup('app');
is(refresh($subscriber, $db), 'concurrent', 'TRUNCATE is applied: everything');
is(differences($subscriber, $db), '0', "the subscriber's view is as its query says");

# ---- from a publisher ----

$node->safe_psql($db, 'CREATE PUBLICATION everything FOR ALL TABLES');
$node->safe_psql($db, "UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 8");
refresh($node, $db);
is(differences($node, $db), '0', 'where all tables are published views are refreshed as well');
$node->safe_psql($db, "UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 9");
is(refresh($node, $db), 'incremental', 'the changes are applied by their keys');
$subscriber->safe_psql($db, 'DROP SUBSCRIPTION app');
$subscriber->stop;
check_log($subscriber);

# ---- a standby that is promoted ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql($db, <<'SQL');
SELECT FROM refresh_challenge_stats();
UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 10;
BEGIN;
UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 11;
PREPARE TRANSACTION 'later';
SQL
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
is(refresh($standby, $db), 'incremental', 'promoted, it takes what was noted before');
is(differences($standby, $db), '0', 'the view is as its query says when the standby has been promoted');
$standby->safe_psql($db, "COMMIT PREPARED 'later'");
is(refresh($standby, $db), 'incremental', 'and what was prepared before');
is(differences($standby, $db), '0', "the promoted standby's view is as its query says after its refresh");
is(refresh($standby, $db), 'unchanged', 'a second refresh of the promoted standby finds nothing to do');

$standby->stop;
check_log($standby);
check_log($node);
done_testing();

# ---- parts ----

# Refreshes the views, and returns by which methods.
sub refresh
{
	my ($server, $database) = @_;

	$server->safe_psql($database, "CALL challenge_jobs.run('refresh_challenge_stats')");
	return $server->safe_psql($database,
		q{SELECT string_agg(v->>'method', ' ') FROM (SELECT result FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1) r, jsonb_array_elements(result->'views') v});
}

# In how many rows the view is not what its definition gives.
sub differences
{
	my ($server, $database) = @_;
	my $definition = $server->safe_psql($database, "SELECT rtrim(pg_get_viewdef('stats'), ';')");

	return $server->safe_psql($database, "SELECT count(*) FROM ((TABLE stats EXCEPT ALL ($definition)) UNION ALL (($definition) EXCEPT ALL TABLE stats)) d");
}

sub restored
{
	my ($database) = @_;

	return $node->safe_psql($database, <<'SQL');
SELECT count(*) FILTER (WHERE tgrelid = 'amounts'::regclass), count(*) FILTER (WHERE tgrelid = 'names'::regclass)
  FROM pg_trigger WHERE tgfoid = 'challenge_jobs.capture_change'::regproc AND tgenabled = 'A';
SELECT DISTINCT state FROM challenge_jobs.tracked_view;
SQL
}

# After a restore: as a whole, then not at all, then by keys.
sub goes_on
{
	my ($server, $database, $name) = @_;

	is(refresh($server, $database), 'concurrent', "$name: the first refresh is of the whole");
	is(differences($server, $database), '0', "$name: after it the view is as its query says");
	is(refresh($server, $database), 'unchanged', "$name: the second has nothing to do");
	$server->safe_psql($database, "UPDATE amounts SET amount = amount + 1 WHERE challenge_id = 1; UPDATE names SET name = 'x' WHERE id = 2");
	is(refresh($server, $database), 'incremental', "$name: then it goes by keys");
	is(differences($server, $database), '0', "$name: after a refresh by keys the view is as its query says");
	return;
}
