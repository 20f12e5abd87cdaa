# Slots of schedules, next and previous, against an oracle that knows nothing of how they are found: it
# looks at every day, and at every minute of a day that matches. The functions are called as they are,
# through a module that is built here (test/unit), as the SQL interface knows no other moment than now.
use strict;
use warnings;

use Cwd ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

# The oracle takes 5 s for these.
my $EXPRESSIONS = 1500;
my $MOMENTS = 6;

my @MONTHS = qw(jan feb mar apr may jun jul aug sep oct nov dec);
my @WEEKDAYS = qw(sun mon tue wed thu fri sat);
my @FIELDS = (
	{ first => 0, last => 59 },
	{ first => 0, last => 23 },
	{ first => 1, last => 31 },
	{ first => 1, last => 12, names => \@MONTHS },
	{ first => 0, last => 7, names => \@WEEKDAYS });

my $seed = $ENV{CJ_SEED} // time;
srand($seed);
diag("seed: CJ_SEED=$seed");

system_or_bail('make', '-s', '-C', 'test/unit', 'PG_CONFIG=' . ($ENV{PG_CONFIG} // 'pg_config'));
my $module = Cwd::abs_path('test/unit/unit.so');
my $node = create_node('cron_expression', "timezone = 'UTC'\n");

$node->safe_psql('postgres', <<"SQL");
CREATE FUNCTION cron_problem(expression text) RETURNS text
LANGUAGE c STRICT AS '$module', 'unit_cron_problem';
CREATE FUNCTION cron_next(expression text, after timestamptz) RETURNS timestamptz
LANGUAGE c STRICT AS '$module', 'unit_cron_next';
CREATE FUNCTION cron_previous(expression text, at timestamptz) RETURNS timestamptz
LANGUAGE c STRICT AS '$module', 'unit_cron_previous';
SQL

# ---- edges ----

# An expression, a moment, the next scheduled time and the previous one; '' is none.
my @edges = (
	# a scheduled time is after the moment, or at it
	['0 0 * * *', '2024-05-01 00:00', '2024-05-02 00:00:00+00', '2024-05-01 00:00:00+00'],
	['0 0 * * *', '2024-04-30 23:59:59.999999', '2024-05-01 00:00:00+00', '2024-04-30 00:00:00+00'],
	['0 0 * * *', '2024-05-01 00:00:00.000001', '2024-05-02 00:00:00+00', '2024-05-01 00:00:00+00'],
	['* * * * *', '1999-12-31 23:59:30', '2000-01-01 00:00:00+00', '1999-12-31 23:59:00+00'],
	# leap days, also where a century skips one, and on a Sunday
	['0 0 29 2 *', '2024-02-29 00:00', '2028-02-29 00:00:00+00', '2024-02-29 00:00:00+00'],
	['0 0 29 2 *', '2100-03-01 00:00', '2104-02-29 00:00:00+00', '2096-02-29 00:00:00+00'],
	['0 0 29 2 *', '1999-03-01 00:00', '2000-02-29 00:00:00+00', '1996-02-29 00:00:00+00'],
	['0 0 29 2 */7', '2088-03-01 00:00', '2128-02-29 00:00:00+00', '2088-02-29 00:00:00+00'],
	# days that do not exist, alone and among others
	['0 0 30 2 *', '2024-05-01 00:00', '', ''],
	['0 0 31 2,4,6,9,11 *', '2024-05-01 00:00', '', ''],
	['0 0 30,31 2 */2', 'infinity', '', ''],
	['0 0 30 2,3 *', '2024-01-31 00:00', '2024-03-30 00:00:00+00', '2023-03-30 00:00:00+00'],
	['0 0 31 * *', '2024-04-15 00:00', '2024-05-31 00:00:00+00', '2024-03-31 00:00:00+00'],
	# the last day of the month
	['0 0 $ * *', '2024-02-10 00:00', '2024-02-29 00:00:00+00', '2024-01-31 00:00:00+00'],
	['0 0 $ * *', '2023-02-10 00:00', '2023-02-28 00:00:00+00', '2023-01-31 00:00:00+00'],
	['0 0 $ 2 *', '2100-01-01 00:00', '2100-02-28 00:00:00+00', '2099-02-28 00:00:00+00'],
	['30 12 $ 4 *', '2024-04-30 12:30', '2025-04-30 12:30:00+00', '2024-04-30 12:30:00+00'],
	# a day of month or a day of week; and, if one of the two begins with *
	['0 0 13 * fri', '2024-09-07 00:00', '2024-09-13 00:00:00+00', '2024-09-06 00:00:00+00'],
	['0 0 15 * 1', '2024-05-14 00:00', '2024-05-15 00:00:00+00', '2024-05-13 00:00:00+00'],
	['0 0 */2 * 1', '2024-05-07 00:00', '2024-05-13 00:00:00+00', '2024-04-29 00:00:00+00'],
	['0 0 15 * */7', '2024-05-01 00:00', '2024-09-15 00:00:00+00', '2023-10-15 00:00:00+00'],
	['0 0 $ * 1', '2024-05-28 00:00', '2024-05-31 00:00:00+00', '2024-05-27 00:00:00+00'],
	['0 0 * * 0', '2024-05-01 00:00', '2024-05-05 00:00:00+00', '2024-04-28 00:00:00+00'],
	['0 0 * * 7', '2024-05-01 00:00', '2024-05-05 00:00:00+00', '2024-04-28 00:00:00+00'],
	['0 0 * * sat-7', '2024-05-05 00:00', '2024-05-11 00:00:00+00', '2024-05-05 00:00:00+00'],
	# the end of hours, days, months and years
	['59 23 31 12 *', '2024-12-31 23:59', '2025-12-31 23:59:00+00', '2024-12-31 23:59:00+00'],
	['0 0 1 1 *', '2024-12-31 23:59:59', '2025-01-01 00:00:00+00', '2024-01-01 00:00:00+00'],
	['30 22 * * *', '2024-12-31 22:31', '2025-01-01 22:30:00+00', '2024-12-31 22:30:00+00'],
	['30 * * * *', '2024-12-31 23:30:01', '2025-01-01 00:30:00+00', '2024-12-31 23:30:00+00'],
	['45 7 * * *', '2024-01-01 07:44', '2024-01-01 07:45:00+00', '2023-12-31 07:45:00+00'],
	['0,30 8 * * *', '2024-05-01 07:40', '2024-05-01 08:00:00+00', '2024-04-30 08:30:00+00'],
	['0,30 8 * * *', '2024-05-01 09:10', '2024-05-02 08:00:00+00', '2024-05-01 08:30:00+00'],
	# nicknames
	['@yearly', '2024-05-15 10:20', '2025-01-01 00:00:00+00', '2024-01-01 00:00:00+00'],
	['@annually', '2024-05-15 10:20', '2025-01-01 00:00:00+00', '2024-01-01 00:00:00+00'],
	['@monthly', '2024-05-15 10:20', '2024-06-01 00:00:00+00', '2024-05-01 00:00:00+00'],
	['@weekly', '2024-05-15 10:20', '2024-05-19 00:00:00+00', '2024-05-12 00:00:00+00'],
	['@daily', '2024-05-15 10:20', '2024-05-16 00:00:00+00', '2024-05-15 00:00:00+00'],
	[" \t\@Midnight\t ", '2024-05-15 10:20', '2024-05-16 00:00:00+00', '2024-05-15 00:00:00+00'],
	['@hourly', '2024-05-15 10:20', '2024-05-15 11:00:00+00', '2024-05-15 10:00:00+00'],
	# before 2000, and the limits of timestamps
	['0 0 1 3 *', '0001-03-01 00:00 BC', '0001-03-01 00:00:00+00', '0001-03-01 00:00:00+00 BC'],
	['0 0 29 2 *', '0001-01-01 00:00', '0004-02-29 00:00:00+00', '0001-02-29 00:00:00+00 BC'],
	['* * * * *', '-infinity', '4714-11-24 00:00:00+00 BC', ''],
	['* * * * *', '4714-11-24 00:00 BC', '4714-11-24 00:01:00+00 BC', '4714-11-24 00:00:00+00 BC'],
	['0 0 23 11 *', '4714-11-24 00:00 BC', '4713-11-23 00:00:00+00 BC', ''],
	['0 1 * * *', '4714-11-24 00:59 BC', '4714-11-24 01:00:00+00 BC', ''],
	['* * * * *', '294276-12-31 23:58:59.999999', '294276-12-31 23:59:00+00', '294276-12-31 23:58:00+00'],
	['* * * * *', '294276-12-31 23:59:59.999999', '', '294276-12-31 23:59:00+00'],
	['0 0 1 1 *', '294276-06-01 00:00', '', '294276-01-01 00:00:00+00'],
	['* * * * *', 'infinity', '', '294276-12-31 23:59:00+00'],
	['0 0 30 2 *', '-infinity', '', '']);

foreach my $edge (@edges)
{
	my ($expression, $moment, $next, $previous) = @$edge;

	is( $node->safe_psql(
			'postgres',
			"SELECT cron_next('$expression', '$moment'), cron_previous('$expression', '$moment')"),
		"$next|$previous",
		"'$expression' after and before $moment");
}

# ---- random expressions ----

my @cases;
for my $i (1 .. $EXPRESSIONS)
{
	my $expression = random_expression();

	push @cases, { expression => $expression, moment => random_moment($expression) }
	  for 1 .. $MOMENTS;
}

my $sql = "COPY moment FROM stdin;\n";
for my $i (0 .. $#cases)
{
	my ($expression, $moment) = @{ $cases[$i] }{qw(expression moment)};
	my $text = $expression->{text} =~ s/\t/\\t/gr;
	my $second = $moment->{second} % 86400;

	$sql .= join("\t", $i, $text, ($moment->{second} - $second) / 86400, $second, $moment->{micro}) . "\n";
}
# psql would read the whole of it into one statement if it came by -c
my $file = $node->basedir . '/moments.sql';
append_to_file($file, <<"SQL");
CREATE TABLE moment (i int, expression text, day int, second int, micro int);
$sql\\.
SELECT i, cron_problem(expression),
       extract(epoch FROM cron_next(expression, at))::bigint,
       extract(epoch FROM cron_previous(expression, at))::bigint
  FROM moment,
       LATERAL (SELECT 'epoch'::timestamptz + make_interval(days => day)
                       + second * interval '1 second' + micro * interval '1 microsecond') m(at)
 ORDER BY i;
SQL
my ($out, $err) = run_command(
	[
		$node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1',
		'-d', $node->connstr('postgres'), '-f', $file
	]);
is($err, '', 'no random expression is an error');

my @found = split /\n/, $out;
is(scalar @found, scalar @cases, 'there is an answer for each moment');

my ($compared, $none, @wrong) = (0, 0);
foreach my $line (@found)
{
	my ($i, $problem, $next, $previous) = split /\|/, $line, -1;
	my ($expression, $moment) = @{ $cases[$i] }{qw(expression moment)};
	my $minute = $moment->{second} - $moment->{second} % 60;
	my %found = (next => $next, previous => $previous);
	my %expected = (
		next => find_slot($expression, $minute + 60, 60),
		previous => find_slot($expression, $minute, -60));

	foreach my $which (sort keys %found)
	{
		$compared++;
		$none++ if $expected{$which} eq '';
		push @wrong,
		  sprintf("%s of '%s' at %s s %s us: %s, not %s (%s)",
			$which, $expression->{text}, $moment->{second}, $moment->{micro},
			$found{$which} || 'none', $expected{$which} || 'none', $problem)
		  if $found{$which} ne $expected{$which};
	}
}
is(join("\n", @wrong[0 .. ($#wrong < 20 ? $#wrong : 20)]),
	'', "$compared scheduled times are those of the oracle (seed $seed)");
cmp_ok($compared, '>=', 5000, 'there were thousands of them');
cmp_ok($none, '<', $compared / 10, "nearly all were scheduled times: $none were none");

$node->stop;
check_log($node);
done_testing();

# ---- the oracle ----

# Returns the first minute from the one given on that matches, or with a step of -60 the last one up to
# it; '' if there is none within 41 years, after which a leap day has met each day of the week but for
# centuries that skip one. Moments and scheduled times are seconds since 1970.
sub find_slot
{
	my ($expression, $from, $step) = @_;
	my $minute = $from;

	for (0 .. 41 * 366)
	{
		my $day = $minute - $minute % 86400;

		if (day_matches($expression, $day))
		{
			for (; $minute >= $day && $minute < $day + 86400; $minute += $step)
			{
				return $minute if time_matches($expression, $minute);
			}
		}
		else
		{
			$minute = $step > 0 ? $day + 86400 : $day - 60;
		}
	}
	return '';
}

sub day_matches
{
	my ($expression, $day) = @_;
	my (undef, undef, undef, $mday, $month, undef, $wday) = gmtime($day);
	my (undef, undef, $days, $months, $weekdays) = @{ $expression->{sets} };
	my $by_day = $days->{$mday} || ($expression->{last_day} && (gmtime($day + 86400))[3] == 1);
	my $by_weekday = $weekdays->{$wday} || ($wday == 0 && $weekdays->{7});

	return 0 unless $months->{ $month + 1 };
	return $expression->{both} ? $by_day && $by_weekday : $by_day || $by_weekday;
}

sub time_matches
{
	my ($expression, $minute) = @_;
	my (undef, $min, $hour) = gmtime($minute);

	return $expression->{sets}[0]{$min} && $expression->{sets}[1]{$hour};
}

# ---- what it is tried on ----

# Makes an expression: its text, and for each field the set of what it says. Never one that matches on
# leap days and weekdays alone, which the oracle would have to look for through centuries.
sub random_expression
{
	my @fields = map { random_field($_) } @FIELDS;
	my $last_day = rand() < 0.1;

	$fields[2] = { text => '$', set => {} } if $last_day;
	my $both = $fields[2]{text} =~ /^\*/ || $fields[4]{text} =~ /^\*/;
	my @days = keys %{ $fields[2]{set} };
	my @months = keys %{ $fields[3]{set} };

	if ($both && !$last_day && !grep { $_ <= 28 } @days)
	{
		# days that come in each of the months, if rarely
		return random_expression() if grep { $_ == 2 } @months and @months == 1;
	}
	return {
		text => join(rand() < 0.1 ? " \t " : ' ', map { $_->{text} } @fields),
		sets => [ map { $_->{set} } @fields ],
		last_day => $last_day,
		both => $both
	};
}

# Makes a field. Half of them say anything, so that expressions that hardly ever match do not prevail.
sub random_field
{
	my ($field) = @_;
	my (@texts, %set);

	return { text => '*', set => { map { $_ => 1 } $field->{first} .. $field->{last} } }
	  if rand() < 0.4;
	for (1 .. (rand() < 0.7 ? 1 : 1 + int(rand(4))))
	{
		my $from = $field->{first} + int(rand($field->{last} - $field->{first} + 1));
		my $to = $from + int(rand($field->{last} - $from + 1));
		my $step = 1;
		my $kind = rand();

		if ($kind < 0.2)
		{
			($from, $to) = ($field->{first}, $field->{last});
			push @texts, '*';
		}
		elsif ($kind < 0.6)
		{
			$to = $from;
			push @texts, random_value($field, $from);
		}
		else
		{
			push @texts, random_value($field, $from) . '-' . random_value($field, $to);
		}
		if (($kind < 0.2 || $kind >= 0.6) && rand() < 0.6)
		{
			$step = 1 + int(rand(rand() < 0.5 ? 5 : $field->{last}));
			$texts[-1] .= "/$step";
		}
		$set{$_} = 1 for grep { ($_ - $from) % $step == 0 } $from .. $to;
	}
	return { text => join(',', @texts), set => \%set };
}

# Writes a value as a number, with or without zeros before it, or as a name in any case.
sub random_value
{
	my ($field, $value) = @_;
	my $name = $field->{names} && $field->{names}[ $value - $field->{first} ];

	if ($name && rand() < 0.5)
	{
		return rand() < 0.3 ? uc $name : rand() < 0.5 ? ucfirst $name : $name;
	}
	return sprintf(rand() < 0.1 ? '%04d' : '%d', $value);
}

# Makes a moment: seconds since 1970 and microseconds. Near or far, at the beginning of a minute or
# not, many of them about the ends of months and years.
sub random_moment
{
	my $year = rand() < 0.8 ? 1890 + int(rand(250)) : -4600 + int(rand(298_000));
	# from 1970 on by average years, which is near enough, and then to the first of a month
	my $second = int(($year - 1970) * 365.2425 + rand(366)) * 86400 + int(rand(86400));

	if (rand() < 0.4)
	{
		$second -= $second % 86400;
		$second -= 86400 until (gmtime($second))[3] == 1 && (rand() < 0.7 || (gmtime($second))[4] == 0);
		$second += int(rand(3)) - 1 if rand() < 0.7;
	}
	$second -= $second % 60 if rand() < 0.3;
	return { second => $second, micro => (0, 0, 1, 999_999)[ int(rand(4)) ] };
}
