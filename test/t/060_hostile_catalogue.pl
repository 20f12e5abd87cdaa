# Whatever PostgreSQL may evaluate on the way to the app's rows runs as the owner of the object that it belongs to.
#
# PostgreSQL runs IMMUTABLE functions with constant arguments as soon as an expression is prepared: those of index
# predicates and expressions, partition keys, statistics, domains, generated columns, policies, and views. In the app of
# this test each such place holds a function that logs who runs it, and tries to rise: ALTER ROLE, settings, cursors,
# objects in pg_temp. Every entry point is called by a superuser, an operator and an API role, each in a session of its
# own, since the relation cache hides repeats. No function may have run as anyone but the owner of the tables.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = PostgreSQL::Test::Cluster->new('hostile');

$node->init;
my $has_cron = -f $node->config_data('--sharedir') . '/extension/pg_cron.control';
my $libraries = $has_cron ? 'pg_cron, challenge_jobs' : 'challenge_jobs';
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = '$libraries'
challenge_jobs.databases = '$db'
challenge_jobs.worker_naptime = '1s'
max_worker_processes = 20
log_line_prefix = '%m [%p] '
CONF
$node->append_conf('postgresql.conf', "cron.database_name = '$db'\ncron.host = '@{[ $node->host ]}'\n") if $has_cron;
$node->start;

# The places that hold a function, and the objects that they stand in. A function logs "hostile PLACE ROLE".
my @places = qw(index_predicate index_expression view_index_predicate view_index_expression early_index_predicate partition_key
  partition_index statistics default_value generated_column check_constraint domain_check user_domain_check policy
  plain_view view_definition view_domain trigger deferred_trigger cast_function rule operator operator_class partition_bound
  range_type);

# Not here, since only C can do it, or a superuser: functions for input and output of a base type and its modifiers, planner
# support functions, event triggers. The operator classes are made by a superuser; their functions belong to the hostile owner.

# A function as unfriendly as its owner can make it; it must look harmless to be called at all: what it tries fails
# without a word.
my $functions = join "\n", map {
	<<"SQL" } @places;
CREATE FUNCTION app.imm_$_(n integer DEFAULT 1) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS \$f\$
BEGIN
    PERFORM app.rise('$_');
    RETURN n IS NOT NULL;
END \$f\$;
SQL

$node->safe_psql($db, <<"SQL");
CREATE ROLE app_owner LOGIN;
CREATE ROLE operator LOGIN;
CREATE ROLE api LOGIN;
CREATE ROLE writer LOGIN BYPASSRLS;
CREATE SCHEMA app AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE EXTENSION challenge_jobs SCHEMA public;
SQL
as_owner(<<"SQL");
SET check_function_bodies = off;

CREATE FUNCTION app.rise(place text) RETURNS void LANGUAGE plpgsql VOLATILE AS \$f\$
BEGIN
    RAISE LOG 'hostile % %', place, current_user;
    IF current_user <> 'app_owner' THEN
        BEGIN
            EXECUTE 'ALTER ROLE app_owner SUPERUSER';
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END IF;
    BEGIN
        EXECUTE 'SET ROLE NONE';
        RAISE LOG 'hostile % could set the role', place;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN
        PERFORM set_config('app.planted', current_user, false), set_config('search_path', 'app', false);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN
        EXECUTE 'CREATE TEMP TABLE planted ()';
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN
        EXECUTE 'DECLARE planted CURSOR WITH HOLD FOR SELECT 1';
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN
        EXECUTE 'PREPARE planted AS SELECT 1';
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    PERFORM pg_advisory_lock_shared(4711);
    IF place <> 'later' THEN
        BEGIN
            SET CONSTRAINTS ALL DEFERRED;
            INSERT INTO app.later VALUES (place);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END IF;
END \$f\$;
CREATE TABLE app.ruled (place boolean);
-- It is called with a page locked, where nothing can be tried.
CREATE FUNCTION app.compare(a bigint, b bigint) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN RAISE LOG 'hostile operator_class %', current_user; RETURN btint8cmp(a, b); END \$f\$;
CREATE FUNCTION app.compare_bounds(a bigint, b bigint) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN PERFORM app.imm_partition_bound(1); RETURN btint8cmp(a, b); END \$f\$;
CREATE FUNCTION app.is_less(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN PERFORM app.imm_operator(1); RETURN a < b; END \$f\$;
CREATE OPERATOR app.<<< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = app.is_less, RESTRICT = scalarltsel);
CREATE FUNCTION app.compare_ranges(a bigint, b bigint) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN PERFORM app.imm_range_type(1); RETURN btint8cmp(a, b); END \$f\$;
CREATE TABLE app.later (place text);
CREATE FUNCTION app.run_later() RETURNS trigger LANGUAGE plpgsql AS
    \$f\$ BEGIN PERFORM app.rise('later'); RETURN NULL; END \$f\$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.later
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.run_later();
$functions
CREATE DOMAIN app.kind AS text CHECK (app.imm_domain_check(1) AND VALUE IS NOT NULL);
CREATE DOMAIN app.person AS bigint CHECK (app.imm_user_domain_check(1) AND VALUE > 0);
CREATE TYPE app.status AS ENUM ('active', 'completed', 'failed');
CREATE FUNCTION app.status_of(text) RETURNS app.status LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN PERFORM app.imm_cast_function(1);
        RETURN CASE \$1 WHEN 'active' THEN 'active'::app.status WHEN 'completed' THEN 'completed' ELSE 'failed' END; END \$f\$;
CREATE FUNCTION app.text_of(app.status) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    \$f\$ BEGIN PERFORM app.imm_cast_function(1); RETURN enum_out(\$1)::text; END \$f\$;
CREATE CAST (app.status AS text) WITH FUNCTION app.text_of(app.status) AS ASSIGNMENT;
CREATE CAST (text AS app.status) WITH FUNCTION app.status_of(text) AS ASSIGNMENT;
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
    \$f\$ BEGIN PERFORM app.rise(TG_ARGV[0]); RETURN NEW; END \$f\$;

SQL
$node->safe_psql($db, <<"SQL");
CREATE OPERATOR CLASS app.index_ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
    OPERATOR 5 >, FUNCTION 1 app.compare(bigint, bigint);
CREATE OPERATOR CLASS app.partition_ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
    OPERATOR 5 >, FUNCTION 1 app.compare_bounds(bigint, bigint);
CREATE OPERATOR CLASS app.range_ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
    OPERATOR 5 >, FUNCTION 1 app.compare_ranges(bigint, bigint);
SQL
as_owner(<<"SQL");
CREATE TYPE app.range AS RANGE (SUBTYPE = bigint, SUBTYPE_OPCLASS = app.range_ops);
CREATE TABLE app.challenges (
    id bigint PRIMARY KEY,
    name text NOT NULL DEFAULT app.imm_default_value(1)::text,
    status app.status NOT NULL DEFAULT 'active',
    end_date date NOT NULL,
    made boolean GENERATED ALWAYS AS (app.imm_generated_column(1) AND end_date IS NOT NULL AND status IS NOT NULL) STORED,
    CHECK (app.imm_check_constraint(1) AND id > 0));
CREATE TABLE app.challenge_members (
    challenge_id bigint NOT NULL REFERENCES app.challenges DEFERRABLE INITIALLY DEFERRED,
    user_id app.person NOT NULL,
    status text NOT NULL DEFAULT 'active',
    current_streak int NOT NULL DEFAULT 3,
    last_checkin_at timestamptz,
    PRIMARY KEY (challenge_id, user_id),
    CHECK (app.imm_check_constraint(1) AND user_id > 0));
CREATE TABLE app.user_profiles (id app.person PRIMARY KEY, timezone text, name text);
CREATE TABLE app.notifications (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id app.person NOT NULL,
    type app.kind NOT NULL,
    title text,
    body text,
    data jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    unread boolean DEFAULT app.imm_default_value(1),
    CHECK (app.imm_check_constraint(1) AND id > 0)) PARTITION BY RANGE ((id + app.imm_partition_key(1)::int) app.partition_ops);
CREATE TABLE app.notifications_1 PARTITION OF app.notifications DEFAULT;
CREATE TABLE app.notifications_2 PARTITION OF app.notifications FOR VALUES FROM (100000) TO (200000);
CREATE TABLE app.notifications_3 PARTITION OF app.notifications FOR VALUES FROM (200000) TO (300000);
CREATE INDEX ON app.notifications_1 (user_id) WHERE app.imm_partition_index(1);
CREATE TABLE app.activities (challenge_id bigint NOT NULL, user_id app.person NOT NULL, on_day date, done boolean NOT NULL);

CREATE INDEX ON app.challenges (end_date) WHERE app.imm_index_predicate(1);
CREATE INDEX ON app.challenges ((id + app.imm_index_expression(1)::int));
CREATE INDEX ON app.challenges (id app.index_ops);
CREATE RULE also AS ON UPDATE TO app.challenges DO ALSO INSERT INTO app.ruled VALUES (app.imm_rule(1));
CREATE INDEX ON app.challenge_members (challenge_id) WHERE app.imm_index_predicate(1);
CREATE INDEX ON app.challenge_members ((user_id + app.imm_index_expression(1)::int));
CREATE INDEX ON app.user_profiles (timezone) WHERE app.imm_index_predicate(1);
CREATE INDEX ON app.activities (user_id) WHERE app.imm_index_predicate(1);
CREATE STATISTICS app.s1 ON (id + app.imm_statistics(1)::int), (end_date + app.imm_statistics(1)::int) FROM app.challenges;
CREATE STATISTICS app.s2 ON (user_id + app.imm_statistics(1)::int), (challenge_id + app.imm_statistics(1)::int) FROM app.challenge_members;
ALTER TABLE app.challenges ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON app.challenges USING (app.imm_policy(1));
ALTER TABLE app.activities ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON app.activities USING (app.imm_policy(1));
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON app.challenges FOR EACH ROW EXECUTE FUNCTION app.note('trigger');
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON app.notifications FOR EACH ROW EXECUTE FUNCTION app.note('trigger');
CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE OR DELETE ON app.notifications_1
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note('deferred_trigger');
CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE OR DELETE ON app.challenges
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note('deferred_trigger');

CREATE VIEW app.facts AS SELECT * FROM app.activities WHERE app.imm_plain_view(1);
CREATE MATERIALIZED VIEW app.challenge_member_stats AS
SELECT m.challenge_id, m.user_id, u.name, (100 * avg(f.done::int))::numeric AS completion_rate,
       'x'::app.kind AS kind, app.imm_view_domain(1) AS one
  FROM app.challenge_members m
  JOIN app.user_profiles u ON u.id = m.user_id
  LEFT JOIN app.facts f ON f.challenge_id = m.challenge_id AND f.user_id = m.user_id
 WHERE app.imm_view_definition(1)
 GROUP BY m.challenge_id, m.user_id, u.name;
CREATE UNIQUE INDEX ON app.challenge_member_stats (challenge_id, user_id);
CREATE UNIQUE INDEX ON app.challenge_member_stats (user_id, challenge_id) WHERE app.imm_view_index_predicate(1);
CREATE INDEX ON app.challenge_member_stats ((challenge_id + app.imm_view_index_expression(1)::int));

-- REFRESH looks at indexes in the order in which they were made, and evaluates this one before it restricts itself.
CREATE MATERIALIZED VIEW app.early_stats AS
SELECT m.challenge_id, m.user_id, app.range(m.challenge_id, m.challenge_id + 1) AS since, '[1,5)'::app.range AS period
  FROM app.challenge_members m
 WHERE m.status::app.status IS NOT NULL
   AND m.challenge_id OPERATOR(app.<<<) 1000000;
CREATE UNIQUE INDEX ON app.early_stats (user_id, challenge_id) WHERE app.imm_early_index_predicate(1);
CREATE UNIQUE INDEX ON app.early_stats (challenge_id, user_id);

CREATE INDEX ON app.challenge_members (user_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.activities, app.user_profiles TO writer;
GRANT INSERT ON app.later TO writer;
INSERT INTO app.user_profiles SELECT i, 'UTC', 'user ' || i FROM generate_series(1, 20) i;
SQL
$node->safe_psql($db, <<"SQL");
GRANT USAGE ON SCHEMA challenge_jobs TO operator, api;
GRANT SELECT ON ALL TABLES IN SCHEMA challenge_jobs TO operator;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA challenge_jobs TO operator;
GRANT EXECUTE ON FUNCTION auto_complete_challenges, refresh_challenge_stats, send_streak_reminders,
    cleanup_expired_notifications TO operator, api;
GRANT app_owner TO operator;
GRANT SELECT ON app.challenge_member_stats TO operator;
SELECT challenge_jobs.alter_job('send_streak_reminders', settings => jsonb_build_object('window', '12 hours',
    'reminder_time', to_char(now() AT TIME ZONE 'UTC' - interval '1 minute', 'HH24:MI')));
SELECT challenge_jobs.alter_job('refresh_challenge_stats', settings => '{"incremental_share": 100}');
SQL

my %bind = map { $_ => "SELECT challenge_jobs.bind('$_', 'app." . ($_ eq 'users' ? 'user_profiles' : $_) . "')" }
  qw(challenges challenge_members challenge_member_stats notifications users);
my @job_functions = (
	'SELECT auto_complete_challenges(dry_run => true)',
	'SELECT auto_complete_challenges()',
	'SELECT * FROM refresh_challenge_stats()',
	'SELECT * FROM refresh_challenge_stats(force_full => true)',
	'SELECT send_streak_reminders(dry_run => true)',
	'SELECT send_streak_reminders()',
	'SELECT cleanup_expired_notifications(dry_run => true)',
	'SELECT cleanup_expired_notifications()');
my @jobs = qw(auto_complete_challenges refresh_challenge_stats send_streak_reminders cleanup_expired_notifications);
my @entry_points = (
	(map { $bind{$_} } sort keys %bind),
	"SELECT challenge_jobs.unbind('users'); $bind{users}",
	"SELECT challenge_jobs.add_stats_view('app.challenge_member_stats')",
	"SELECT challenge_jobs.add_stats_view('app.early_stats')",
	"SELECT * FROM challenge_jobs.track('app.challenge_member_stats', dry_run => true)",
	"SELECT * FROM challenge_jobs.track('app.challenge_member_stats')",
	'SELECT * FROM challenge_jobs.tracked_view',
	@job_functions,
	(map { "CALL challenge_jobs.run('$_')" } @jobs),
	"SELECT max(run_id) AS run FROM challenge_jobs.decision \\gset\nSELECT FROM challenge_jobs.pause('undo');\n"
	  . "CALL challenge_jobs.undo_decisions(:run);\nSELECT FROM challenge_jobs.resume()",
	"SELECT * FROM challenge_jobs.preview('auto_complete_challenges')",
	(map { "SELECT challenge_jobs.start('$_')" } @jobs),
	'SELECT * FROM challenge_jobs.progress()',
	'SELECT * FROM challenge_jobs.doctor()',
	'SELECT challenge_jobs.report_html()',
	"SELECT challenge_jobs.pause('test'); SELECT * FROM challenge_jobs.resume()",
	"SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{\"completion_source\": \"stored\"}'); SELECT auto_complete_challenges(); SELECT challenge_jobs.alter_job('auto_complete_challenges', settings => '{\"completion_source\": \"live\"}')",
	'SELECT * FROM challenge_jobs.watchdog()',
	'SELECT * FROM challenge_jobs.job_status',
	'SELECT * FROM challenge_jobs.metrics',
	"SELECT * FROM challenge_jobs.job_default(), challenge_jobs.next_runs(job), challenge_jobs.scheduled_times(schedule, now(), 3)",
	"SELECT * FROM challenge_jobs.forget_user('1')",
	'SELECT challenge_jobs.settle_alerts()',
	"SELECT * FROM challenge_jobs.schedule(engine => 'external')",
	'SELECT * FROM challenge_jobs.unschedule()',
	'CALL challenge_jobs.deliver_alerts()',
	"SELECT challenge_jobs.untrack('app.challenge_member_stats')",
	"SELECT challenge_jobs.remove_stats_view('app.challenge_member_stats')",
	"SELECT challenge_jobs.reset_job('cleanup_expired_notifications')");
# Functions of the extension that are no entry points, and why. What the library needs stands in a table of its own.
my ($for_the_library) = slurp_file('doc/reference.md') =~ /^### For the library\n(.*?)^## /ms;
my %not_called = (
	capture_change => 'the trigger function of tracked views: whoever writes calls it',
	map { $_ => 'for the library, which calls it from the others' } $for_the_library =~ /^\| `challenge_jobs\.(\w+)\(/mg);
my %entry_points_of = (postgres => \@entry_points, operator => \@entry_points, api => \@job_functions);

my %seen;      # place => how often it ran
my $sessions = 0;
my @wrong;

# Does something as the owner of the tables, in a session that nothing can rise in.
sub as_owner
{
	my ($sql) = @_;

	$node->safe_psql($db, $sql, extra_params => [ '-U', 'app_owner' ]);
	return;
}

# Gives the jobs something to do, as the owner of the tables.
my $challenge = 0;
sub make_work
{
	$challenge++;
	as_owner(<<"SQL");
BEGIN;
INSERT INTO app.challenges (id, status, end_date) VALUES
    ($challenge, 'active', current_date - 3), (1000 + $challenge, 'active', current_date + 30);
INSERT INTO app.challenge_members (challenge_id, user_id, last_checkin_at)
SELECT c, u, now() - interval '1 day' FROM unnest(ARRAY[$challenge, 1000 + $challenge]) c, generate_series(1, 3) u;
INSERT INTO app.activities SELECT $challenge, u, current_date, true FROM generate_series(1, 3) u;
INSERT INTO app.notifications (user_id, type, created_at) VALUES (1, 'old', now() - interval '1 year');
UPDATE app.user_profiles SET name = name || '.' WHERE id < 4;
COMMIT;
SQL
	$node->safe_psql($db, 'DELETE FROM challenge_jobs.reminder; DELETE FROM challenge_jobs.reminder_zone');
	return;
}

# Notes who has run what since a place in the log.
sub read_log
{
	my ($offset, $what, $also) = @_;

	foreach my $line (split /\n/, slurp_file($node->logfile, $offset))
	{
		next unless $line =~ /LOG:  hostile (\S+) (.*)$/;
		$seen{$1}++;
		push @wrong, "$1 ran as $2 in: $what" if $2 ne 'app_owner' && !($also && ($2 eq $also || $2 =~ /^could/));
	}
	return;
}

# Calls an entry point as a role in a session of its own, and looks what it has left there.
sub call
{
	my ($role, $statement, $also) = @_;
	my $offset = -s $node->logfile;
	my $what = "$role: $statement";
	my $last = $node->safe_psql($db, 'SELECT coalesce(max(run_id), 0) FROM challenge_jobs.job_run');
	my ($status, $out, $err) = $node->psql($db, join("\n;", $statement,
		"SELECT 'left: ' || coalesce(nullif(current_setting('app.planted', true), ''), 'nothing') || ' ' || current_setting('search_path')"
		  . " || ' ' || (SELECT count(*) FROM pg_cursors WHERE name = 'planted')"
		  . " || ' ' || (SELECT count(*) FROM pg_prepared_statements WHERE name = 'planted')"
		  . " || ' ' || (SELECT count(*) FROM pg_class WHERE relname = 'planted' AND relnamespace = pg_my_temp_schema())",
		"SELECT 'locks: ' || count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
		extra_params => [ '-U', $role ], on_error_stop => 0);

	$sessions++;
	# in his own session a writer runs what he runs
	push @wrong, "left behind by $what: $out" unless $role eq ($also // '') || $out =~ /^left: nothing "\$user", public 0 0 0$/m;
	push @wrong, "locks left behind by $what: $out" if $out =~ /^locks: [1-9]/m && $statement =~ /^CALL challenge_jobs.run|^SELECT (\* FROM )?[a-z_]+\(/;
	push @wrong, "$what: $err" if $err =~ /server closed|internal error/;
	# what fails has not been tried
	push @wrong, "$what: $err" if $err =~ /ERROR: (?! permission denied to deliver alerts)/;
	# what start() asks for is done elsewhere
	$node->poll_query_until($db, <<"SQL") or die "no end of: $what" if $statement =~ /challenge_jobs\.start\('(\w+)'/;
SELECT run_id > $last AND status <> 'running' FROM challenge_jobs.job_run WHERE job = '$1' ORDER BY run_id DESC LIMIT 1
SQL
	read_log($offset, $what, $also);
	return;
}

# ---- by hand ----

is($node->safe_psql($db, <<"SQL"), '', 'each function of the extension is called, or excluded with a reason');
SELECT DISTINCT p.proname
  FROM pg_depend d
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'challenge_jobs'
  JOIN pg_proc p ON p.oid = d.objid
 WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
EXCEPT
SELECT unnest('{@{[ join ',', keys %not_called, map { /([a-z_]+)\(/g } @entry_points ]}}'::name[])
SQL
foreach my $role ('postgres', 'operator', 'api')
{
	# what an API role calls needs bindings that somebody has made
	$node->safe_psql($db, join ';', @bind{qw(challenges challenge_members challenge_member_stats notifications users)},
		"SELECT * FROM challenge_jobs.track('app.challenge_member_stats')")
	  if $role eq 'api';
	foreach my $statement (@{ $entry_points_of{$role} })
	{
		make_work();
		call($role, $statement);
	}
}
# Whoever writes to a table has what stands in it evaluated as himself, by PostgreSQL; the capture trigger adds nothing.
$node->safe_psql($db, "SELECT * FROM challenge_jobs.track('app.challenge_member_stats')");
$node->safe_psql($db, 'SELECT * FROM refresh_challenge_stats()');
call('writer', "INSERT INTO app.activities SELECT 1, u, current_date, true FROM generate_series(1, 3) u", 'writer');
call('writer', "UPDATE app.user_profiles SET name = name || '!' WHERE id = 2", 'writer');
isnt($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.change_log'), '0', 'the capture trigger has noted what a writer did');
is(join("\n", @wrong[ 0 .. ($#wrong > 20 ? 20 : $#wrong) ]), '', 'by hand, nothing of the app ran as anyone but its owner, or left anything in a session');

# ---- by the worker and by pg_cron ----

# The worker is late at once, so that nobody has to wait for the minute.
foreach my $engine ('worker', $has_cron ? 'pg_cron' : ())
{
	my $list = "unnest(ARRAY['" . join("','", @jobs) . "'])";
	my $offset;
	my $last;

	@wrong = ();
	make_work();
	$node->safe_psql($db, 'CREATE EXTENSION IF NOT EXISTS pg_cron') if $engine eq 'pg_cron';
	$offset = -s $node->logfile;
	$last = $node->safe_psql($db, 'SELECT max(run_id) FROM challenge_jobs.job_run');
	$node->safe_psql($db, "SELECT challenge_jobs.alter_job(j, schedule => '* * * * *', grace => '0') FROM $list j;"
		  . "SELECT * FROM challenge_jobs.schedule(engine => '$engine')");
	$node->safe_psql($db, "UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '1 hour'") if $engine eq 'worker';
	ok($node->poll_query_until($db, <<"SQL"), "each job has been run by $engine");
SELECT count(DISTINCT job) = 4 FROM challenge_jobs.job_run
 WHERE run_id > $last AND triggered_by IN ('$engine', 'catch_up') AND status = 'succeeded'
SQL
	$node->safe_psql($db, 'SELECT * FROM challenge_jobs.unschedule()');
	note $node->safe_psql($db, "SELECT job, status, message FROM challenge_jobs.job_run WHERE run_id > $last AND status <> 'succeeded'");
	read_log($offset, $engine);
	is(join("\n", @wrong), '', "by $engine, nothing of the app ran as anyone but its owner");
	$sessions += 4;
}

# ---- what came of it ----

# Policies do not apply to the owner of a table.
my @never = grep { !$seen{$_} && $_ ne 'policy' } @places;
is(join(' ', @never), '', 'every place was evaluated at least once');
is($node->safe_psql($db, "SELECT count(*) FROM challenge_jobs.job_run WHERE job = 'undo_decisions' AND rows_affected > 0"), '2',
	'decisions were taken back, by a superuser and by an operator');
is($node->safe_psql($db, "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolsuper"), 'postgres',
	'nobody has become superuser');
pass sprintf('%d kinds of places x %d entry points as superuser, %d as operator, %d as API role, 2 as writer, 4 jobs by the worker and by pg_cron: %d sessions, %d evaluations',
	scalar(@places), scalar(@entry_points), scalar(@entry_points), scalar(@job_functions), $sessions, eval { my $n = 0; $n += $_ for values %seen; $n });
check_log($node);
done_testing();
