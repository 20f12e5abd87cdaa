# Dump and restore: what the user has configured comes along, what has happened (job_run) does not,
# rights that were granted are there again, and the job works in the restored database.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('dump');
my $folder = PostgreSQL::Test::Utils::tempdir;
my ($status, $out, $err);

create_app($node, $db, 30);
$node->safe_psql($db, <<"SQL");
CREATE ROLE operator;
CREATE ROLE api;
CREATE SCHEMA "the app" AUTHORIZATION app_owner;
ALTER TABLE notifications SET SCHEMA "the app";
ALTER TABLE "the app".notifications RENAME user_id TO "for whom";
SELECT challenge_jobs.bind('notifications', '"the app".notifications',
    columns => '{"user_id": "for whom", "body": null}', labels => '{"challenge_completed": "ended"}');
CREATE MATERIALIZED VIEW "the app"."who; was ""notified""" AS SELECT count(*) FROM "the app".notifications;
ALTER MATERIALIZED VIEW "the app"."who; was ""notified""" OWNER TO app_owner;
SELECT challenge_jobs.add_stats_view('"the app"."who; was ""notified"""');
SELECT challenge_jobs.alter_job('$JOB', schedule => '5 0 * * *', max_runtime => '10 minutes',
    settings => '{"completion_threshold": 95, "failed_title": "it''s \\"over\\""}');
SELECT challenge_jobs.schedule('$JOB', 'external');
GRANT USAGE ON SCHEMA challenge_jobs TO operator;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA challenge_jobs TO operator;
GRANT SELECT ON challenge_jobs.job_run TO operator;
GRANT EXECUTE ON FUNCTION auto_complete_challenges(timestamptz, boolean) TO api;
CALL challenge_jobs.run('$JOB');
-- the next run, in the copy, finds something to do
ALTER TABLE challenges DISABLE TRIGGER USER;
UPDATE challenges SET status = 'active' WHERE id <= 10;
ALTER TABLE challenges ENABLE TRIGGER USER;
SQL

# What is to be the same before and after.
my $configuration = <<'SQL';
SELECT 'binding', b::text FROM challenge_jobs.binding b
UNION ALL
SELECT 'override', o::text FROM challenge_jobs.job_override o
UNION ALL
SELECT 'stats view', v::text FROM challenge_jobs.stats_view v
UNION ALL
SELECT 'job', (to_jsonb(j) - 'held')::text FROM challenge_jobs.job j
UNION ALL
SELECT 'rights', p.proname || ' ' || a.grantee::regrole || ' ' || a.privilege_type
  FROM pg_proc p
  JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'challenge_jobs',
       aclexplode(p.proacl) a
UNION ALL
SELECT 'rights', c.relname || ' ' || a.grantee::regrole || ' ' || a.privilege_type
  FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.relnamespace = 'challenge_jobs'::regnamespace
UNION ALL
SELECT 'rights', n.nspname || ' ' || a.grantee::regrole || ' ' || a.privilege_type
  FROM pg_namespace n, aclexplode(n.nspacl) a
 WHERE n.nspname = 'challenge_jobs'
ORDER BY 1, 2
SQL
my $before = $node->safe_psql($db, $configuration);

# ---- each format, into an empty database ----

my %restore = (
	plain => [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/plain" ],
	custom => [ 'pg_restore', '--exit-on-error', "$folder/custom" ],
	directory => [ 'pg_restore', '--exit-on-error', '-j', '2', "$folder/directory" ]);

foreach my $format (sort keys %restore)
{
	my $copy = "copy_$format";

	$node->command_ok([ 'pg_dump', '-F', $format, '-f', "$folder/$format", '-d', $db ],
		"$format: pg_dump dumps it");
	$node->safe_psql($db, "CREATE DATABASE $copy TEMPLATE template0");
	$node->command_ok([ @{ $restore{$format} }, '-d', $copy ],
		"$format: it is restored without an error");
	is($node->safe_psql($copy, $configuration), $before,
		"$format: bindings, overrides, settings, registered views and rights have come along");
	is($node->safe_psql($copy, 'SELECT count(*) FROM challenge_jobs.job_run'),
		'0', "$format: runs of the other database have not");

	$node->safe_psql($copy, "CALL challenge_jobs.run('$JOB', 'copy')");
	is(last_run($node, $copy, 'run_id, triggered_by, status, message'),
		'1|copy|skipped|this database is a copy, in which nothing runs until it is resumed',
		"$format: the job does not run there by itself");
	is($node->safe_psql($copy, "SELECT status, remedy FROM challenge_jobs.doctor() WHERE status = 'error'"),
		'error|SELECT * FROM challenge_jobs.resume();', "$format: the doctor says what to type");
	is($node->safe_psql($copy, 'SELECT job, engine, next_due > now() FROM challenge_jobs.resume()'),
		"$JOB|external|t", "$format: resume() adopts what was scheduled");

	$node->safe_psql($copy, "CALL challenge_jobs.run('$JOB', 'copy')");
	is( last_run($node, $copy, "run_id, triggered_by, status, result"),
		'2|copy|succeeded|{"errors": 0, "failed": 10, "insert": "plain", "locked": 0, "sources": ["public.challenge_member_stats"], "notified": 30, "completed": 0, "undecidable": 0, "not_notified": 0}',
		"$format: the job works there, by the settings that came along");
	is( $node->safe_psql($copy,
			q(SELECT DISTINCT type, title, body IS NULL FROM "the app".notifications ORDER BY 1)),
		q(ended|it's "over"|t), "$format: and says by them");
	is( $node->safe_psql($copy,
			q(SELECT view_name, method, rows_changed FROM refresh_challenge_stats() WHERE method <> 'none')),
		q("the app"."who; was ""notified"""|full|1), "$format: the view that was registered is refreshed");
	is( $node->safe_psql($copy,
			q(SELECT count(*) FROM challenge_jobs.doctor() WHERE status = 'error')),
		'0', "$format: the doctor finds no error");
	$node->safe_psql($copy, <<"SQL");
SELECT challenge_jobs.alter_job('$JOB', max_retries => 1);
SELECT challenge_jobs.reset_job('$JOB');
SELECT challenge_jobs.unschedule();
SQL
	is($node->safe_psql($copy, 'SELECT count(*) FROM challenge_jobs.job_override'),
		'0', "$format: what came along can be changed and removed");
}
is($node->safe_psql($db, "SELECT count(*) FROM challenges WHERE status = 'active'"),
	'10', 'none of the copies has touched the original');

# ---- parts of a dump ----

# The schema alone: nothing is configured, nothing is in the way.
$node->safe_psql($db, 'CREATE DATABASE schema_only TEMPLATE template0');
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$folder/schema.sql", '-d', $db ],
	'pg_dump --schema-only dumps it');
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'schema_only', '-f', "$folder/schema.sql" ],
	'and psql restores it without an error');
is( $node->safe_psql('schema_only',
		'SELECT (SELECT count(*) FROM challenge_jobs.binding), (SELECT count(*) FROM challenge_jobs.job_override)'),
	'0|0', 'a dump of the schema alone restores no binding and no changed setting');

# The data alone, into what the schema made.
$node->command_ok([ 'pg_dump', '--data-only', '--disable-triggers', '-f', "$folder/data.sql", '-d', $db ],
	'pg_dump --data-only dumps it');
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'schema_only', '-f', "$folder/data.sql" ],
	'and psql restores it without an error');
is($node->safe_psql('schema_only', $configuration), $before, 'both together make the whole');
$node->safe_psql('schema_only', "SELECT challenge_jobs.resume(); CALL challenge_jobs.run('$JOB')");
is(last_run($node, 'schema_only', "status, result->'failed'"), 'succeeded|10', 'in which the job works');

# A dump replaces what is there.
$node->command_ok([ 'pg_dump', '--clean', '--if-exists', '-f', "$folder/clean.sql", '-d', $db ],
	'pg_dump --clean dumps it');
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'copy_plain', '-f', "$folder/clean.sql" ],
	'and psql restores it over an older copy without an error');
is($node->safe_psql('copy_plain', $configuration), $before, 'which then is as the original');

# A database as the template of another: the row of a run that was going on comes along.
$node->safe_psql($db, <<"SQL");
INSERT INTO challenge_jobs.job_run (job, triggered_by, started_at, status, role_name, pid)
VALUES ('$JOB', 'test', now(), 'running', 'x', 1)
SQL
$node->safe_psql('template1', "CREATE DATABASE from_template TEMPLATE $db");
$node->safe_psql('from_template', "CALL challenge_jobs.run('$JOB')");
is(last_run($node, 'from_template', 'status'), 'skipped', 'a copy made by CREATE DATABASE runs nothing by itself');
$node->safe_psql('from_template', "SELECT challenge_jobs.resume(); CALL challenge_jobs.run('$JOB')");
is( $node->safe_psql('from_template',
		"SELECT string_agg(status, ' ' ORDER BY run_id) FROM challenge_jobs.job_run"),
	'succeeded crashed skipped succeeded',
	'resumed, it works, and closes a run that only went on elsewhere');

$node->stop;
check_log($node);
done_testing();
