# What a schedule may be, compared with a real pg_cron: whatever both accept means the same to both, so
# nothing may be accepted here that pg_cron refuses, or the other way round, but what src/cron_expression.c
# says, and why, at its beginning.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $EXPRESSIONS = 2000;

my $seed = $ENV{CJ_SEED} // time;
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('pg_cron_schedules');

$node->init;
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron, challenge_jobs'
cron.database_name = 'postgres'
cron.launch_active_jobs = off
log_min_messages = panic
CONF
plan skip_all => 'pg_cron is not installed'
  unless -f $node->config_data('--sharedir') . '/extension/pg_cron.control';
$node->start;
diag("seed: CJ_SEED=$seed");

$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION pg_cron;
CREATE EXTENSION challenge_jobs;

CREATE FUNCTION accepts(statement text, expression text) RETURNS boolean LANGUAGE plpgsql AS \$\$
BEGIN
    EXECUTE statement USING expression;
    RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
    IF SQLERRM !~ '^invalid schedule' THEN
        RAISE;
    END IF;
    RETURN false;
END \$\$;
CREATE FUNCTION ours(expression text) RETURNS boolean LANGUAGE sql AS
    \$\$SELECT accepts('SELECT challenge_jobs.alter_job(''$JOB'', schedule => \$1)', expression)\$\$;
CREATE FUNCTION theirs(expression text) RETURNS boolean LANGUAGE sql AS
    \$\$SELECT accepts('SELECT cron.schedule(''a job'', \$1, ''SELECT 1'')', expression)\$\$;
SQL
my $version = $node->safe_psql('postgres',
	"SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'");
my $knows_last_day = $version =~ /^1\.(\d+)/ && $1 >= 6;

# ---- one by one ----

# Accepted by both, and by one of the two.
my @both = (
	'* * * * *', '*/5 1-5 1,15 jan-DEC mon-Fri', '0 0 29 2 *', '0 0 30 2 *', "\t0  0\t* *  7 ",
	'0-59/59 0-23/23 1-31/31 1-12/12 0-7/7', '007 00 01 1 sun,0,7', '*,*/2 * * * *', '@hourly',
	' @daily', '@midnight', '@weekly', '@monthly', '@annually', '@yearly', '@daily ',
	'0 0 1 1 *' . ' ' x 990);
my @neither = (
	'', ' ', '0 0 * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 0 *', '* * * 13 *',
	'* * * * 8', '5/10 * * * *', '*/0 * * * *', '1-60 * * * *', '-1 * * * *', ', * * * *', '1, * * * *',
	'1-/2 * * * *', '* * * january *', '* * * * mo', 'jan * * * *', '@', '@never', '60 seconds', '0 seconds',
	'* * L * *', '* * ? * *', '* * 1,$ * *', '* * $,1 * *', '$ * * * *', '* * $',
	'0 0 1 1 *' . ' ' x 991);
my @only_theirs = (
	'* * * * * *', '0 0 1 1 * 2030', '@daily at noon', '*5 * * * *', '5.5 * * * *', '1-2-3 * * * *',
	'* * 15# * *', '22-2 * * * *', '* * * * fri-sun', "# every hour\n0 * * * *", "0 0 * * *\n",
	'@reboot', '@restart', '4294967301 * * * *');
my @only_ours = ('@Daily', '@YEARLY');

is(outcome($_), 'both', 'both accept ' . shown($_)) foreach @both;
is(outcome($_), 'neither', 'neither accepts ' . shown($_)) foreach @neither;
is(outcome($_), 'theirs', 'pg_cron alone accepts ' . shown($_)) foreach @only_theirs;
is(outcome($_), 'ours', 'pg_cron alone refuses ' . shown($_)) foreach @only_ours;

foreach my $expression ('0 0 $ * *', '59 23 $ feb 1-5')
{
	is( outcome($expression),
		$knows_last_day ? 'both' : 'ours',
		"'$expression': the last day of the month, which pg_cron $version " .
		  ($knows_last_day ? 'knows' : 'does not know'));
}
like(outcome('30 seconds'), qr/^(theirs|neither)$/, 'no intervals of seconds');
like(outcome('*/60 * * * *'), qr/^(theirs|neither)$/, 'no steps beyond the last value');

# A nickname that pg_cron would not take, or take and never fire, is given to it spelled out.
$node->safe_psql('postgres', <<"SQL");
SELECT challenge_jobs.reset_job('$JOB');
SELECT challenge_jobs.schedule('$JOB', 'pg_cron');
SELECT challenge_jobs.alter_job('$JOB', schedule => '\@Yearly');
SQL
is( $node->safe_psql('postgres', "SELECT schedule FROM cron.job WHERE jobname = 'challenge_jobs:$JOB'"),
	'0 0 1 1 *', 'pg_cron gets five fields for a nickname');
is( $node->safe_psql('postgres', qq(SELECT status FROM challenge_jobs.doctor() WHERE check_name = 'schedule:$JOB')),
	'ok', 'and the doctor is content');
if (!$knows_last_day)
{
	my ($status, $out, $err) =
	  $node->psql('postgres', "SELECT challenge_jobs.alter_job('$JOB', schedule => '0 0 \$ * *')");
	like($err, qr/ERROR:  invalid schedule: 0 0 \$ \* \*/, 'what pg_cron refuses is an error');
	is( $node->safe_psql('postgres', "SELECT schedule FROM challenge_jobs.job WHERE job = '$JOB'"),
		'@Yearly', 'a schedule that is refused leaves the one before in place');
}
$node->safe_psql('postgres', "SELECT * FROM challenge_jobs.unschedule()");

# ---- random expressions, half of them damaged ----

my @expressions = map { random_expression() } 1 .. $EXPRESSIONS;
my $file = $node->basedir . '/expressions.sql';
append_to_file(
	$file,
	"CREATE TABLE expression (i int, text text);\nCOPY expression FROM stdin;\n"
	  . join('', map { "$_\t" . $expressions[$_] =~ s/\t/\\t/gr . "\n" } 0 .. $#expressions)
	  . "\\.\nSET client_min_messages = error;\n"
	  . "SELECT i, ours(text), theirs(text) FROM expression ORDER BY i;\n");
my ($out, $err) = run_command(
	[
		$node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1',
		'-d', $node->connstr('postgres'), '-f', $file
	]);
is($err, '', 'every expression has a outcome');

my (%count, @wrong);
foreach my $line (split /\n/, $out)
{
	my ($i, $ours, $theirs) = split /\|/, $line;
	my $reason = '';

	if ($ours ne $theirs)
	{
		$reason = $ours eq 't' ? only_ours($expressions[$i]) : only_theirs($expressions[$i]);
		push @wrong, "'$expressions[$i]': ours $ours, pg_cron $theirs" if $reason eq '';
	}
	$count{ $ours eq $theirs ? "both $ours" : $reason }++;
}
is(join("\n", @wrong[0 .. ($#wrong < 20 ? $#wrong : 20)]),
	'', "the outcomes differ only where they are meant to (seed $seed)");
diag("$_: $count{$_}") foreach sort keys %count;
cmp_ok($count{$_} // 0, '>', $EXPRESSIONS / 10, "many of them: $_") foreach 'both t', 'both f';

$node->stop;
check_log($node);
done_testing();

# ---- parts ----

# Returns who accepts an expression.
sub outcome
{
	my ($expression) = @_;
	my %names = ('t|t' => 'both', 't|f' => 'ours', 'f|t' => 'theirs', 'f|f' => 'neither');

	return $names{ $node->safe_psql('postgres',
			"SET client_min_messages = error; SELECT ours(\$e\$$expression\$e\$), theirs(\$e\$$expression\$e\$)")
	};
}

# Returns an expression on one line, and a long one without its blanks.
sub shown
{
	my ($expression) = @_;

	return "'" . $expression =~ s/[\t\n]/ /gr =~ s/ {9,}/ and many blanks/r . "'";
}

# Says why an expression is accepted here alone; '' is no good reason.
sub only_ours
{
	my ($expression) = @_;

	return 'nickname in upper case' if $expression =~ /^\s*@\w*[A-Z]/;
	return 'last day before 1.6'
	  if !$knows_last_day && $expression =~ /^\s*\S+\s+\S+\s+\$\s/;
	return '';
}

# Says why an expression is accepted by pg_cron alone; '' is no good reason.
sub only_theirs
{
	my ($expression) = @_;
	my @fields = split ' ', $expression;

	return '@reboot' if $expression =~ /^\s*@(reboot|restart)\b/;
	return 'something after a nickname' if $fields[0] =~ /^@/ && @fields > 1;
	return 'seconds' if $expression =~ /^\s*\d+\s*seconds?\s*$/;
	return 'more than five fields' if @fields > 5;
	foreach my $field (@fields)
	{
		return 'something after an item'
		  unless $field =~ m{^ (?: (?: \* | \w+ (?: -\w+ )? ) (?: /\d+ )? (?: , | $ ) )+ $}x;
	}
	for my $i (0 .. 4)
	{
		foreach my $item (split /,/, $fields[$i])
		{
			my ($from, $to, $step) = $item =~ m{^(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?$};

			return 'backwards range' if defined $to && number($i, $from) > number($i, $to);
			return 'step beyond the last value'
			  if defined $step && $step > (59, 23, 31, 12, 7)[$i];
		}
	}
	return '';
}

# Returns the number that a value of a field stands for.
sub number
{
	my ($i, $value) = @_;
	my %months = do { my $n = 1; map { $_ => $n++ } qw(jan feb mar apr may jun jul aug sep oct nov dec) };
	my %weekdays = do { my $n = 0; map { $_ => $n++ } qw(sun mon tue wed thu fri sat) };

	return $months{ lc $value } // $value if $i == 3;
	return $weekdays{ lc $value } // $value if $i == 4;
	return $value;
}

# Makes an expression, valid or nearly so.
sub random_expression
{
	my @fields = map { random_field($_) } 0 .. 4;
	my $kind = rand();
	my $expression;

	if ($kind < 0.05)
	{
		$expression = (
			'@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly',
			'@reboot', '@Hourly')[ int(rand(9)) ];
	}
	elsif ($kind < 0.08)
	{
		$expression = int(rand(70)) . (' second', ' seconds', 'seconds')[ int(rand(3)) ];
	}
	else
	{
		$fields[2] = '$' if rand() < 0.1;
		pop @fields if rand() < 0.03;
		push @fields, random_field(4) if rand() < 0.03;
		$expression = join((' ', '  ', "\t")[ int(rand(3)) ], @fields);
	}
	$expression = damaged($expression) if rand() < 0.4;
	$expression = damaged($expression) if rand() < 0.2;
	return $expression;
}

# Makes a field: values at and about the limits, ranges that may run backwards, steps that may be long.
sub random_field
{
	my ($i) = @_;
	my ($first, $last) = @{ ([ 0, 59 ], [ 0, 23 ], [ 1, 31 ], [ 1, 12 ], [ 0, 7 ])[$i] };
	my @names = ([], [], [], [qw(jan Feb MAR apr may jun jul aug sep oct nov dec)],
		[qw(Sun mon tue wed THU fri sat)])[$i]->@*;
	my $value = sub {
		return $names[ int(rand(@names)) ] if @names && rand() < 0.3;
		return rand() < 0.03 ? $last + 1 : $first + int(rand($last - $first + 1));
	};
	my @items;

	for (1 .. (rand() < 0.7 ? 1 : 1 + int(rand(3))))
	{
		my $from = $value->();
		my $to = $value->();
		my $item = rand() < 0.4 ? '*' : rand() < 0.5 ? $from : undef;

		if (!defined $item)
		{
			($from, $to) = ($to, $from) if number($i, $from) > number($i, $to) && rand() < 0.9;
			$item = "$from-$to";
		}
		$item .= '/' . int(rand(rand() < 0.9 ? 8 : 70)) if rand() < ($item =~ /[*-]/ ? 0.4 : 0.02);
		push @items, $item;
	}
	return join(',', @items);
}

# Damages an expression: a character is lost, doubled, put in, or made another one.
sub damaged
{
	my ($expression) = @_;
	my $at = int(rand(length $expression));
	my @characters = (split(//, '0123456789*/-,$@ abjnstue.#?LW'), "\t");
	my $character = $characters[ int(rand(@characters)) ];
	my $kind = int(rand(4));

	return $expression if $kind == 3 && length($expression) < 2;
	substr($expression, $at, 1) = $character if $kind == 0;
	substr($expression, $at, 0) = $character if $kind == 1;
	substr($expression, $at, 0) = substr($expression, $at, 1) if $kind == 2;
	substr($expression, $at, 1) = '' if $kind == 3;
	return $expression;
}
