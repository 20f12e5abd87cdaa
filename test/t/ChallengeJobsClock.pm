# Servers whose wall clock can be set while they run: test/clock/clock.c, built here and loaded into all of
# their processes.
package ChallengeJobsClock;

use strict;
use warnings;

use Cwd ();
use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use Time::Local ();

our @EXPORT = qw(start_clock set_clock);

# (absolute, as programs that a server starts are in another folder)
my $folder = Cwd::abs_path(PostgreSQL::Test::Utils::tempdir());
my $file = "$folder/clock";

# Builds the clock, sets it ("YYYY-MM-DD HH:MI:SS", UTC), and has every server that is started from now on go by it.
sub start_clock
{
	my ($moment) = @_;
	my $source = Cwd::abs_path('test/clock/clock.c');

	system_or_bail($ENV{CC} // 'cc', '-O1', '-Wall', '-Werror', '-fPIC', '-shared', '-o', "$folder/clock.so", $source);
	append_to_file($file, pack('q', 0));
	shift_clock($moment);
	$ENV{CJ_CLOCK_FILE} = $file;
	$ENV{LD_PRELOAD} = "$folder/clock.so";
	return;
}

# Sets the clock; it goes on from there. Without a server that runs, nobody can be asked whether it does.
sub set_clock
{
	my ($node, $moment) = @_;
	my $now;

	shift_clock($moment);
	return unless $node;
	$now = $node->safe_psql('postgres',
		"SELECT clock_timestamp() BETWEEN '$moment+00' AND timestamptz '$moment+00' + interval '1 min'");
	BAIL_OUT("the clock of the server does not go by $file") if $now ne 't';
	return;
}

# Writes into the file what the real clock differs by; in one piece, as it is being read.
sub shift_clock
{
	my ($moment) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = split /[- :]/, $moment;
	my $wanted = Time::Local::timegm($second, $minute, $hour, $day, $month - 1, $year);
	my $shift = int(($wanted - real_time()) * 1e6);

	open my $handle, '+<:raw', $file or die "cannot open $file: $!";
	syswrite($handle, pack('q', $shift)) == 8 or die "cannot write $file: $!";
	close $handle;
	return;
}

# The time of this process, which the clock is not loaded into.
sub real_time { return Time::HiRes::time(); }

1;
