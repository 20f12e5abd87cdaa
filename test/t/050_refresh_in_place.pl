# Refreshing in place is the same as recomputing: whatever is done to the tables of tracked views, in whatever order, by
# however many sessions, after each refresh every view is what its definition gives, to the last digit.
#
# Random changes of all kinds are made by sessions that take turns (so that what a refresh has to see is known), then by
# sessions that all work at once (what a refresh has missed, the next one would have to make good); the server is killed in
# between. The views are those of test/fixtures/tracked_views.sql.
#
#   CJ_SEED=n      repeats a run (what the turns do depends on nothing else)
#   CJ_STEPS=n     number of turns, 2400 by default
#   CJ_MINUTES=n   goes on for so long instead
use strict;
use warnings;

use IPC::Open2;
use IO::Select;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use ChallengeJobsTest;

my $db = 'postgres';
my $seed = $ENV{CJ_SEED} // int(rand(1_000_000_000));
my $steps_wanted = $ENV{CJ_STEPS} // 2400;
my $end = $ENV{CJ_MINUTES} ? time + 60 * $ENV{CJ_MINUTES} : undef;
my $steps_of_round = 600;
srand($seed);
note "CJ_SEED=$seed";

my $node = create_node('in_place', <<'CONF');
max_prepared_transactions = 20
deadlock_timeout = 100ms
autovacuum_naptime = 5s
max_locks_per_transaction = 256
CONF
my $fixtures = __FILE__ =~ s{t/[^/]*$}{fixtures}r;
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "$fixtures/tracked_views.sql" ],
	'the views are made');
$node->safe_psql($db, <<'SQL');
SELECT t.* FROM shape, challenge_jobs.track(view_name, key_column) t;
SELECT challenge_jobs.alter_job('refresh_challenge_stats', settings => '{"incremental_share": 50}');
SQL
my $view_count = $node->safe_psql($db, 'SELECT count(*) FROM shape');
cmp_ok($view_count, '>=', 20, 'there are views of many shapes');

# How often what was done; the last things done, to be notified with a failure.
my %done;
my @recent;
my $failure = '';

my @sessions = map { { name => $_ } } 'a' .. 'd';
my %prepared;
my $step = 0;

for (my $round = 1; !$failure && ($end ? time < $end : $step < $steps_wanted); $round++)
{
	take_turns($steps_of_round);
	all_at_once() unless $failure;
	crash() unless $failure;
	verify(super(), 'after a crash', refresh_by_run(super())) unless $failure;
}
is($failure, '', "in $step turns and $done{check} checks the views have always been what their definitions give (CJ_SEED=$seed)");

# ---- the test has tested something ----

foreach my $what (qw(incremental concurrent full unchanged commit rollback savepoint rollback_to prepare commit_prepared
	by_hand truncate ddl crash storm_check))
{
	cmp_ok($done{$what} // 0, '>', 0, "$what: " . ($done{$what} // 0) . ' times');
}
cmp_ok($done{incremental}, '>', $done{check}, 'most of all, views were refreshed incrementally');
cmp_ok($done{undecided} // 0, '<', $done{check}, 'most refreshes refreshed all views');
note join ', ', map { "$_ $done{$_}" } sort keys %done;

# ---- what is left behind ----

finish_all();
cmp_ok($done{updated_rows}, '>', 0, "$done{updated_rows} rows of the views were updated in place, and autovacuum knows it");
$node->safe_psql($db, "CALL challenge_jobs.run('refresh_challenge_stats')");
is($node->safe_psql($db, 'SELECT count(*) FROM challenge_jobs.change_log'), '0', 'nothing is left in the change log');

SKIP:
{
	skip 'there is no amcheck', 2
	  if $node->safe_psql($db, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'") eq '0';
	$node->safe_psql($db, 'CREATE EXTENSION amcheck');
	# (a concurrent REINDEX that gave up leaves an index that is not valid)
	is( $node->safe_psql($db, <<'SQL'), '', 'amcheck finds all rows of the views in their indexes');
SELECT bt_index_check(i.indexrelid, true) FROM shape JOIN pg_index i ON i.indrelid = view_name::regclass AND i.indisvalid WHERE bt_index_check(i.indexrelid, true) IS NULL
SQL
	is($node->safe_psql($db, "SELECT view_name, h.* FROM shape, verify_heapam(view_name, check_toast => true) h"),
		'', 'and nothing wrong in their heaps');
}

$node->stop;
check_log($node);
done_testing();

# ---- sessions ----

# Starts psql for a session, which gives up waiting for locks soon: all others wait for it meanwhile.
sub connect_session
{
	my ($session) = @_;
	my $command = join ' ', map { "'" . s/'/'\\''/gr . "'" }
	  $node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=terse', '-d', $node->connstr($db);

	$session->{pid} = open2($session->{out}, $session->{in}, "exec $command 2>&1");
	$session->{buffer} = '';
	$session->{in_transaction} = $session->{failed} = 0;
	$session->{savepoints} = [];
	ask($session, "SET challenge_jobs.lock_timeout = '50ms'; SET lock_timeout = '50ms'; SET client_min_messages = error; SET ROLE app_client");
	return;
}

sub disconnect
{
	my ($session) = @_;

	return unless $session->{pid};
	close $session->{in};
	close $session->{out};
	waitpid $session->{pid}, 0;
	delete $session->{pid};
	return;
}

# Ends the last of some statements: what COPY reads has been ended by itself.
sub ended { return $_[0] =~ /\\\.$/ ? "$_[0]\n" : "$_[0];\n" }

# Sends statements, and returns what comes of them when all have ended.
sub ask
{
	my ($session, $sql) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	connect_session($session) unless $session->{pid};
	my $mark = 'end of ' . ++$session->{count} . "\n";
	push @recent, "$session->{name}: $sql";
	shift @recent if @recent > 80;
	local $SIG{PIPE} = 'IGNORE';
	print { $session->{in} } ended($sql) . "\\warn 'end of $session->{count}'\n";
	$session->{in}->flush;
	my $length;
	while (($length = index($session->{buffer}, $mark)) < 0)
	{
		die "no answer to: $sql" if time > $deadline;
		next unless IO::Select->new($session->{out})->can_read(1);
		sysread($session->{out}, $session->{buffer}, 65536, length $session->{buffer})
		  or die "session lost: $session->{buffer}";
	}
	my $answer = substr($session->{buffer}, 0, $length);
	$session->{buffer} = substr($session->{buffer}, $length + length $mark);
	chomp $answer;
	if ($answer =~ /^(?:psql:\S+ )?(?:ERROR|FATAL): /m)
	{
		$session->{failed} = 1 if $session->{in_transaction};
		$recent[-1] .= "\n     -> $answer";
		$done{error}++;
		note "unexpected: $sql: $answer"
		  unless $answer =~ /lock timeout|deadlock|could not serialize|violates|duplicate key|no partition|running in another session|MERGE command cannot affect|cannot affect row a second time|current transaction is aborted|would overlap|is already a partition|is not a partition|could not obtain lock|cannot TRUNCATE|being used by active queries|pending trigger|does not exist|already exists|No check of partition|read-write dependencies|contains values that violate|SET TRANSACTION|cannot PREPARE|transaction|in use|was skipped/;
	}
	return $answer;
}

# A session of a superuser that does one thing at a time.
my $super;
sub super
{
	$super //= { name => 'super' };
	ask($super, "RESET ROLE; SET challenge_jobs.lock_timeout = '20s'") unless $super->{pid};
	return $super;
}

# ---- random things ----

sub pick { return $_[ rand @_ ] }
sub chance { return rand(100) < $_[0] }
sub key { return 1 + int rand pick(4, 70, 70) }
sub user { return 1 + int rand 34 }
sub number { return int(rand 40) . pick('', '', '.0', '.00', '.5', '.50') }
sub wide { return pick("'short'", 'NULL', "(SELECT string_agg(md5(i || '" . int(rand 1e6) . "'), '') FROM generate_series(1, " . pick(10, 90, 300) . ') i)') }
sub some_keys { my $from = key(); return "BETWEEN $from AND " . ($from + int rand pick(2, 4, 30)) }
sub salt { return "md5(" . $_[0] . "::text || '" . int(rand 1e6) . "')" }

# A change of some of the rows that are changed most of all, so that the same key is changed again and again.
sub change_again
{
	my $key = 1 + int rand 3;

	return pick(
		"UPDATE challenges SET name = name || '.' WHERE id = $key",
		"UPDATE members SET streak = streak + 1 WHERE challenge_id = $key",
		"UPDATE users SET name = name || '.' WHERE id = $key",
		"UPDATE check_ins SET amount = amount + 1 WHERE challenge_id = $key",
		"INSERT INTO events VALUES ($key, 12, 'a', 1)",
		"UPDATE tags SET value = length(value) + 1 WHERE tag = 'tag $key'",
		"WITH moved AS (INSERT INTO postings VALUES ($key, 1)) INSERT INTO postings VALUES (4, -1)");
}

# A change of some table, of one row or of many.
sub change
{
	return change_again() if chance(30);
	my ($key, $other, $user) = (key(), key(), user());
	my $some = some_keys();
	my $n = int rand 100;
	my @changes = (
		sub { "INSERT INTO challenges VALUES ($key, 'c$n') ON CONFLICT " . pick('DO NOTHING', "(id) DO UPDATE SET name = 'again $n'", '(id) DO UPDATE SET unused = 1') },
		sub { "UPDATE challenges SET name = 'name $n' WHERE id " . pick("= $key", $some) },
		sub { 'UPDATE challenges SET status = ' . pick("'active'", "'done'") . " WHERE id $some" },
		sub { "UPDATE challenges SET id = $other WHERE id = $key" },
		sub { "UPDATE challenges SET unused = unused + 1" . pick('', " WHERE id $some") },
		sub { "DELETE FROM challenges WHERE id = $key" },
		sub { "INSERT INTO users VALUES ($user, 'u$n') ON CONFLICT DO NOTHING" },
		sub { "UPDATE users SET name = 'name $n' WHERE id = $user" },
		sub { 'UPDATE users SET mood = ' . pick("'low'", "'fair'", "'high'") . " WHERE id = $user" },
		sub { 'UPDATE users SET id = ' . user() . " WHERE id = $user" },
		sub { "DELETE FROM users WHERE id = $user" },
		sub { "INSERT INTO members (challenge_id, user_id, streak) VALUES ($key, $user, $n) ON CONFLICT (challenge_id, user_id) DO UPDATE SET streak = excluded.streak" },
		sub { "INSERT INTO members (challenge_id, user_id, streak) SELECT c.id, u.id, $n % 7 FROM challenges c, users u WHERE c.id $some AND u.id % 7 = $n % 7 ON CONFLICT DO NOTHING" },
		sub { "UPDATE members SET streak = streak + 1 WHERE challenge_id $some" },
		sub { "UPDATE members SET challenge_id = $other WHERE challenge_id = $key AND user_id = $user" },
		sub { "UPDATE members SET user_id = $user WHERE challenge_id = $key AND user_id % 5 = $n % 5" },
		sub { "UPDATE members SET unused = $n" },
		sub { "DELETE FROM members WHERE " . pick("challenge_id = $key", "user_id = $user", "streak > 60") },
		sub { "MERGE INTO members m USING (SELECT $key AS c, u.id FROM users u WHERE u.id % 9 = $n % 9) s ON m.challenge_id = s.c AND m.user_id = s.id"
			  . " WHEN MATCHED AND m.streak > 3 THEN DELETE WHEN MATCHED THEN UPDATE SET streak = m.streak + 2 WHEN NOT MATCHED THEN INSERT (challenge_id, user_id) VALUES (s.c, s.id)" },
		sub { "INSERT INTO check_ins (challenge_id, user_id, day, amount, wide) SELECT challenge_id, user_id, $n % 5, " . number() . ', ' . wide() . " FROM members WHERE challenge_id = $key" },
		sub { "UPDATE check_ins SET amount = " . pick('amount + 1', 'round(amount, 2)', 'trim_scale(amount)', 'NULL', number()) . " WHERE challenge_id $some" },
		sub { "UPDATE check_ins SET wide = " . wide() . " WHERE challenge_id = $key AND id % 3 = $n % 3" },
		sub { "UPDATE check_ins SET day = day + 1 WHERE challenge_id $some AND wide IS NOT NULL" },
		sub { "UPDATE check_ins i SET challenge_id = m.challenge_id, user_id = m.user_id FROM members m WHERE m.challenge_id = $other AND m.user_id = $user AND i.challenge_id = $key AND i.id % 2 = 0" },
		sub { "DELETE FROM check_ins WHERE " . pick("challenge_id = $key", "id IN (SELECT id FROM check_ins ORDER BY " . salt('id') . " LIMIT $n)") },
		sub { "INSERT INTO events VALUES (" . pick($key, 'NULL') . ", " . int(rand 30) . ", " . pick("'a'", "'b'", "'c'", 'NULL') . ', ' . number() . ')' },
		sub { "UPDATE events SET day = (day + 10) % 30 WHERE challenge_id " . pick('IS NULL', "= $key") },
		sub { "UPDATE events SET kind = " . pick("'a'", "'c'") . ", challenge_id = $other WHERE challenge_id = $key" },
		sub { "UPDATE events SET challenge_id = " . pick('NULL', $other) . " WHERE challenge_id = $key" },
		sub { "UPDATE events_1 SET amount = amount * 1.0 WHERE challenge_id $some" },
		sub { "DELETE FROM events WHERE challenge_id " . pick("= $key", 'IS NULL AND day < 15') },
		sub { "COPY events FROM stdin (DELIMITER ',', NULL 'N');\n" . join('', map { pick(key(), 'N') . ',' . int(rand 30) . ",c," . number() . "\n" } 1 .. 1 + rand 4) . '\\.' },
		sub { "COPY postings FROM stdin (DELIMITER ',');\n$key,$n\n$other,-$n\n\\." },
		sub { "INSERT INTO pairs VALUES (" . pick($key, 'NULL') . ', ' . pick($other, 'NULL', $key) . ', ' . number() . ')' },
		sub { "UPDATE pairs SET a = b, b = a WHERE a = $key OR b = $other" },
		sub { "UPDATE pairs SET weight = weight + 1 WHERE b " . pick("= $key", 'IS NULL') },
		sub { "DELETE FROM pairs WHERE a = $key" },
		sub { "INSERT INTO tags VALUES ('tag ' || $key, $n, 'v$n') ON CONFLICT (tag, id) DO UPDATE SET value = excluded.value || 'x'" },
		sub { "UPDATE tags SET tag = " . pick("'tag ' || $other", "tag || ' '", "upper(tag)") . " WHERE tag = 'tag ' || $key" },
		sub { "UPDATE tags SET value = " . pick('NULL', "'v$n'", "upper(value)") . " WHERE tag LIKE 'tag $key%'" },
		sub { "DELETE FROM tags WHERE tag ILIKE 'tag $key'" },
		sub { "UPDATE slots a SET place = b.place FROM slots b WHERE (a.id = $n AND b.id = $key) OR (a.id = $key AND b.id = $n)" },
		sub { "UPDATE slots SET place = 201 - place WHERE place BETWEEN $n AND 201 - $n" },
		sub { "UPDATE slots SET place = CASE place WHEN $n + 1 THEN $n + 2 WHEN $n + 2 THEN $n + 3 ELSE $n + 1 END WHERE place BETWEEN $n + 1 AND $n + 3" },
		sub { "UPDATE slots SET challenge_id = $other WHERE challenge_id = $key" },
		sub { "DELETE FROM slots WHERE challenge_id = $key" },
		sub { "INSERT INTO slots SELECT $key, 1000 * $key + n, 1000 * $key + n FROM generate_series(1, 3) n ON CONFLICT (challenge_id, id) DO NOTHING" },
		sub { "UPDATE amounts SET amount = " . number() . " WHERE id % 20 = $n % 20" },
		sub { "UPDATE amounts SET key = " . pick('key + 0.0', 'trim_scale(key)', number()) . " WHERE id % 40 = $n % 40" },
		sub { "INSERT INTO amounts VALUES (" . number() . ", $n + 150, NULL) ON CONFLICT (id) DO UPDATE SET key = excluded.key" },
		sub { "WITH moved AS (INSERT INTO postings VALUES ($key, -$n) RETURNING account) INSERT INTO postings SELECT $other, $n FROM moved" },
		sub { "WITH gone AS (DELETE FROM postings WHERE account = $key RETURNING amount) INSERT INTO postings SELECT $other, sum(amount) FROM gone HAVING count(*) > 0" },
		sub { "UPDATE postings SET account = $other WHERE account = $key" },
		sub { chance(20) ? 'UPDATE settings SET factor = factor + 1' : 'UPDATE settings SET factor = factor' },
	);
	return pick(@changes)->();
}

# What brings rows back where everything was truncated.
my @refill = (
	"INSERT INTO challenges SELECT i, 'c' || i FROM generate_series(1, 60) i ON CONFLICT DO NOTHING",
	"INSERT INTO users SELECT i, 'u' || i FROM generate_series(1, 30) i ON CONFLICT DO NOTHING",
	"INSERT INTO members (challenge_id, user_id, streak) SELECT c.id, u.id, u.id % 5 FROM challenges c, users u WHERE (c.id + u.id) % 9 = 0 ON CONFLICT DO NOTHING",
	'INSERT INTO check_ins (challenge_id, user_id, day, amount) SELECT challenge_id, user_id, d, d FROM members, generate_series(1, 2) d WHERE (SELECT count(*) FROM check_ins) < 300',
	'INSERT INTO events SELECT nullif(i % 60, 0), i % 30, chr(97 + i % 4), i FROM generate_series(1, 200) i WHERE (SELECT count(*) FROM events) < 200',
	'INSERT INTO postings SELECT i % 50, CASE i % 2 WHEN 0 THEN 1 ELSE -1 END FROM generate_series(1, 100) i WHERE (SELECT count(*) FROM postings) < 100',
	'INSERT INTO slots SELECT 1 + i % 60, i, i FROM generate_series(1, 200) i WHERE NOT EXISTS (TABLE slots)',
	"INSERT INTO tags SELECT 'tag ' || i % 40, i, 'v' FROM generate_series(1, 200) i ON CONFLICT DO NOTHING",
	'INSERT INTO settings SELECT 1 WHERE NOT EXISTS (TABLE settings)',
	# so that it does not grow for ever
	'DELETE FROM check_ins WHERE id % 3 = 0 AND (SELECT count(*) FROM check_ins) > 1500',
	'DELETE FROM check_ins WHERE wide IS NOT NULL AND (SELECT count(*) FROM check_ins WHERE wide IS NOT NULL) > 200',
	'DELETE FROM members WHERE (challenge_id + user_id) % 2 = 0 AND (SELECT count(*) FROM members) > 700',
	'DELETE FROM events WHERE day % 2 = 0 AND (SELECT count(*) FROM events) > 500');

# What no row trigger sees, as the owner of the tables; one statement or several that belong together.
sub rare_thing
{
	my $key = key();
	my @things = (
		sub { truncate_some() },
		sub { truncate_some() },
		sub { 'ALTER TABLE challenges ALTER unused TYPE ' . pick('bigint', 'integer') },
		sub { 'ALTER TABLE members ALTER unused TYPE ' . pick('bigint', 'integer') . ' USING unused % 7' },
		sub { "ALTER TABLE tags DISABLE TRIGGER " . pick('USER', 'ALL') . "; UPDATE tags SET value = 'unseen' WHERE tag = 'tag $key'; ALTER TABLE tags ENABLE TRIGGER USER" },
		sub { "ALTER TABLE postings DISABLE TRIGGER USER; WITH g AS (DELETE FROM postings WHERE account = $key RETURNING amount) INSERT INTO postings SELECT 1, sum(amount) FROM g HAVING count(*) > 0; DO 'DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = ''postings''::regclass AND tgname ~ ''^challenge_jobs_capture'' LOOP EXECUTE format(''ALTER TABLE postings ENABLE ALWAYS TRIGGER %I'', name); END LOOP; END'" },
		sub { "ALTER TABLE events DETACH PARTITION events_2" },
		sub { "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)" },
		sub { "ALTER TABLE events DETACH PARTITION events_2; UPDATE events_2 SET amount = amount + 1; ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)" },
		sub { "CREATE TABLE events_new (LIKE events); INSERT INTO events_new VALUES ($key, 15, 'n', 1.0); DROP TABLE events_2; ALTER TABLE events_new RENAME TO events_2; ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)" },
		sub { "CREATE OR REPLACE VIEW active AS SELECT c.id, c.name, c.status FROM challenges c WHERE c.status = " . pick("'active'", "'done'") },
		sub { "CREATE OR REPLACE FUNCTION doubled(bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT \$1 * " . pick(2, 3, 4) . "'" },
		sub { "CREATE OR REPLACE FUNCTION described(text, text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN concat_ws(''" . pick(' ', '-', '+') . "'', \$1, \$2); END'" },
		sub { 'REINDEX TABLE ' . pick('v_join', 'v_wide', 'v_slots') },
		sub { 'ALTER TABLE ' . pick('tags', 'slots') . ' DROP COLUMN IF EXISTS more, ADD COLUMN more integer DEFAULT ' . int(rand 9) },
		sub { 'ALTER TABLE events RENAME COLUMN kind TO sort; ALTER TABLE events RENAME COLUMN sort TO kind' },
	);
	return pick(@things)->();
}

sub truncate_some
{
	$done{truncate}++;
	return 'TRUNCATE ' . pick('challenges CASCADE', 'check_ins', 'events', 'events_2', 'events_3', 'postings', 'pairs', 'settings', 'amounts, tags', 'check_ins RESTART IDENTITY');
}

# ---- refreshing ----

# Counts the methods by which views have been refreshed; says whether all have been.
sub note_methods
{
	my ($methods) = @_;
	my $views = 0;

	foreach my $method (split ' ', $methods)
	{
		$done{$method}++;
		$views++ if $method ne 'locked';
	}
	return $views == $view_count;
}

sub refresh_by_run
{
	my ($session) = @_;
	my $answer = ask($session, "RESET ROLE; CALL challenge_jobs.run('refresh_challenge_stats')");

	ask($session, 'SET ROLE app_client') if $session != super();
	return 0 if $answer =~ /ERROR/;
	return note_methods(ask(super(), q{SELECT string_agg(v->>'method', ' ') FROM (SELECT result FROM challenge_jobs.job_run ORDER BY run_id DESC LIMIT 1) r, jsonb_array_elements(result->'views') v WHERE result->>'locked' = '0'}));
}

sub refresh_by_function
{
	my ($session, $arguments) = @_;
	my $answer = ask($session, "SELECT string_agg(method, ' ') FROM refresh_challenge_stats($arguments)");

	return 0 if $answer =~ /ERROR/;
	return note_methods($answer);
}

# Compares all views with their definitions, as a session sees both; all: they have just been refreshed.
sub verify
{
	my ($session, $when, $all) = @_;

	if (!$all)
	{
		$done{undecided}++;
		return;
	}
	$done{check}++;
	my $answer = ask($session, 'SELECT differences()');
	if ($answer =~ /ERROR/)
	{
		$done{undecided}++;
		return;
	}
	return if $answer eq '';
	$failure = "$when, turn $step: $answer";
	diag("$failure\nCJ_SEED=$seed; what was done before:\n" . join("\n", @recent));
	return;
}

# ---- taking turns ----

# One thing that a session does outside of a transaction.
sub turn_outside
{
	my ($session) = @_;
	my $dice = rand 100;

	if ($dice < 40)
	{
		ask($session, change());
	}
	elsif ($dice < 75)
	{
		$session->{isolation} = pick(('READ COMMITTED') x 6, 'REPEATABLE READ', 'SERIALIZABLE');
		ask($session, "BEGIN ISOLATION LEVEL $session->{isolation}");
		@$session{qw(in_transaction savepoints failed)} = (1, [], 0);
		ask($session, change());
	}
	elsif ($dice < 82)
	{
		verify($session, 'after run()', refresh_by_run($session));
	}
	elsif ($dice < 89)
	{
		verify($session, 'after the job function', refresh_by_function($session, chance(5) ? 'true' : ''));
	}
	elsif ($dice < 92)
	{
		my $name = (sort keys %prepared)[0] // return;
		my $end = pick('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK');
		ask(super(), "$end PREPARED '$name'");
		$done{ lc($end) . '_prepared' }++;
		delete $prepared{$name};
	}
	elsif ($dice < 94)
	{
		my ($view) = pick(qw(v_join v_aggregate v_slots v_balance v_wide v_null));
		ask($session, 'SET ROLE app_owner; REFRESH MATERIALIZED VIEW ' . pick('CONCURRENTLY ', '') . "$view; SET ROLE app_client");
		$done{by_hand}++;
	}
	elsif ($dice < 96)
	{
		ask($session, 'SET ROLE app_owner; BEGIN; ' . rare_thing() . '; COMMIT; SET ROLE app_client');
		$done{ddl}++;
	}
	elsif ($dice < 97)
	{
		ask($session, 'SET ROLE app_owner; ' . pick('VACUUM FULL tags', 'CLUSTER check_ins USING check_ins_pkey', 'VACUUM v_join', 'ANALYZE', 'VACUUM FULL v_slots', 'VACUUM events', 'REINDEX TABLE CONCURRENTLY v_rank') . '; SET ROLE app_client');
	}
	elsif ($dice < 98)
	{
		ask($session, 'RESET ROLE; SET session_replication_role = replica; ' . ended(change()) . "RESET session_replication_role; SET ROLE app_client")
		  if !%prepared;
		# foreign keys were not looked at
		ask(super(), 'DELETE FROM check_ins i WHERE NOT EXISTS (SELECT FROM members m WHERE m.challenge_id = i.challenge_id AND m.user_id = i.user_id); '
			  . 'DELETE FROM members m WHERE NOT EXISTS (SELECT FROM challenges c WHERE c.id = m.challenge_id) OR NOT EXISTS (SELECT FROM users u WHERE u.id = m.user_id)');
	}
	elsif ($dice < 99)
	{
		ask(super(), "SELECT FROM challenge_jobs.alter_job('refresh_challenge_stats', settings => '{\"incremental_share\": " . pick(0, 20, 50, 50, 100, 100) . "}')");
	}
	else
	{
		ask($session, $_) foreach @refill;
	}
	return;
}

# One thing that a session does inside of a transaction.
sub turn_inside
{
	my ($session) = @_;
	my $savepoints = $session->{savepoints};
	my $dice = rand 100;

	if ($session->{failed} && @$savepoints && chance(60))
	{
		rollback_to($session);
	}
	elsif ($session->{failed})
	{
		end_transaction($session, 'ROLLBACK');
	}
	elsif ($dice < 42)
	{
		ask($session, change());
	}
	elsif ($dice < 57)
	{
		push @$savepoints, { name => 's' . @$savepoints, change => chance(60) ? change_again() : change() };
		ask($session, "SAVEPOINT $savepoints->[-1]{name}");
		$done{savepoint}++;
		ask($session, $savepoints->[-1]{change});
	}
	elsif ($dice < 64)
	{
		rollback_to($session) if @$savepoints;
	}
	elsif ($dice < 67)
	{
		ask($session, 'RELEASE ' . (pop @$savepoints)->{name}) if @$savepoints;
	}
	elsif ($dice < 73)
	{
		# what the transaction itself has done so far is seen as well, and what it does after that is not lost
		my $change = change_again();

		ask($session, $change);
		verify($session, "after the job function in a transaction ($session->{isolation})", refresh_by_function($session, ''));
		return if $session->{failed} || $failure;
		ask($session, $change);
		end_transaction($session, 'COMMIT') if !$session->{failed} && chance(50);
	}
	elsif ($dice < 75)
	{
		ask($session, 'SET LOCAL ROLE app_owner; ' . rare_thing() . '; SET LOCAL ROLE app_client');
		$done{ddl}++;
	}
	elsif ($dice < 80 && keys %prepared < 3)
	{
		my $name = "p$step";
		my $answer = ask($session, "PREPARE TRANSACTION '$name'");
		$prepared{$name} = 1 if $answer !~ /ERROR/;
		$done{prepare}++;
		@$session{qw(in_transaction savepoints failed)} = (0, [], 0);
	}
	else
	{
		end_transaction($session, chance(75) ? 'COMMIT' : 'ROLLBACK');
	}
	return;
}

sub rollback_to
{
	my ($session) = @_;
	my $savepoints = $session->{savepoints};

	$#$savepoints = int rand @$savepoints;
	$session->{failed} = 0;
	ask($session, "ROLLBACK TO $savepoints->[-1]{name}");
	$done{rollback_to}++;
	# what was done there is done again, and is the only time that it is done
	ask($session, $savepoints->[-1]{change});
	end_transaction($session, 'COMMIT') if !$session->{failed} && chance(40);
	return;
}

sub end_transaction
{
	my ($session, $how) = @_;

	$session->{in_transaction} = 0;
	ask($session, $how);
	@$session{qw(savepoints failed)} = ([], 0);
	$done{ lc $how }++;
	return;
}

# Ends all transactions.
sub finish_all
{
	foreach my $session (@sessions)
	{
		end_transaction($session, pick('COMMIT', 'ROLLBACK')) if $session->{in_transaction};
	}
	foreach my $name (sort keys %prepared)
	{
		my $end = pick('COMMIT', 'ROLLBACK');
		ask(super(), "$end PREPARED '$name'");
		$done{ lc($end) . '_prepared' }++;
	}
	%prepared = ();
	return;
}

sub take_turns
{
	my ($count) = @_;

	for (1 .. $count)
	{
		my $session = pick(@sessions);

		$step++;
		# now and then nobody is in the way of anybody
		if ($step % 60 == 0)
		{
			finish_all();
			ask($session, 'SET ROLE app_owner; BEGIN; ' . rare_thing() . '; ' . pick('COMMIT', 'COMMIT', 'ROLLBACK') . '; SET ROLE app_client');
			$done{ddl}++;
			verify($session, 'after a rare thing', refresh_by_run($session));
			ask($session, $_) foreach @refill;
		}
		elsif ($session->{in_transaction})
		{
			turn_inside($session);
		}
		else
		{
			turn_outside($session);
		}
		return if $failure;
	}
	finish_all();
	verify(super(), 'after a round', refresh_by_run(super()));
	verify(super(), 'after a refresh in full', refresh_by_function(super(), 'true')) unless $failure;
	return;
}

# ---- all at once ----

# A script of transactions, for a session that runs by itself.
sub script
{
	my $sql = "SET lock_timeout = '2s';\nSET ROLE app_client;\n";

	for (1 .. 60)
	{
		$sql .= 'BEGIN ISOLATION LEVEL ' . pick(('READ COMMITTED') x 4, 'REPEATABLE READ', 'SERIALIZABLE') . ";\n";
		$sql .= ended(change()) for 0 .. rand 3;
		$sql .= "SAVEPOINT s;\n" . ended(change()) . pick('ROLLBACK TO s', 'RELEASE s') . ";\n" . ended(change()) if chance(40);
		$sql .= pick(('COMMIT') x 6, 'ROLLBACK') . ";\n";
		$sql .= ended(change());
	}
	return $sql;
}

# All sessions work at once, while the views are refreshed in all ways, two at a time, and read.
sub all_at_once
{
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my @writers;

	foreach my $n (1 .. 3)
	{
		append_to_file("$folder/$n.sql", script());
		push @writers,
		  IPC::Run::start(
			[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($db), '-f', "$folder/$n.sql" ],
			'<', \undef, '>', \my $out, '2>', \my $err,
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	}
	while (grep { $_->pumpable && eval { $_->pump_nb; $_->pumpable } } @writers)
	{
		my $other = start_sql($node, $db,
			pick("CALL challenge_jobs.run('refresh_challenge_stats')", 'SELECT * FROM refresh_challenge_stats()',
				'REFRESH MATERIALIZED VIEW CONCURRENTLY v_balance', 'REFRESH MATERIALIZED VIEW v_balance'));

		refresh_by_run(super());
		finish_sql($other);
		# what was moved from one account to another is seen in both or in none
		my $sum = ask(super(), 'SELECT coalesce(sum(balance), 0) FROM v_balance');
		$done{storm_check}++;
		if ($sum ne '0')
		{
			$failure = "while all were at work: the balances are $sum together";
			diag("$failure\nCJ_SEED=$seed");
		}
	}
	$_->finish foreach @writers;
	return if $failure;
	verify(super(), 'after all have worked at once', refresh_by_run(super()));
	return;
}

# The server is killed, with transactions open and prepared, and with changes in the log.
sub crash
{
	foreach my $session (@sessions)
	{
		ask($session, 'BEGIN');
		ask($session, change());
	}
	ask($sessions[0], "PREPARE TRANSACTION 'crash'");
	$prepared{crash} = 1;
	ask($sessions[1], 'COMMIT');
	# what is counted is lost
	ask(super(), 'SELECT pg_stat_force_next_flush()');
	$done{updated_rows} += ask(super(), 'SELECT sum(n_tup_upd) FROM pg_stat_user_tables JOIN shape ON relname = view_name');
	$node->stop('immediate');
	disconnect($_) foreach @sessions, super();
	$node->start;
	# it may not have come to be prepared
	%prepared = map { $_ => 1 } split ' ', $node->safe_psql($db, 'SELECT gid FROM pg_prepared_xacts');
	if (delete $prepared{crash})
	{
		ask(super(), "COMMIT PREPARED 'crash'");
		$done{commit_prepared}++;
	}
	$done{crash}++;
	return;
}
