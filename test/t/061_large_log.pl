# A log of a million runs: no statement on the extension's own tables reads job_run as a whole. The plans are those that
# were made: auto_explain writes each to the server log.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use ChallengeJobsTest;

my $db = 'postgres';
my $node = create_node('large_log', "challenge_jobs.databases = ''\nautovacuum = off\n");
create_app($node, $db, 5);

# One job has succeeded at most once a minute for two years, and was skipped as often; another one fails; none has a scheduled time.
$node->safe_psql($db, <<'SQL');
INSERT INTO challenge_jobs.job_run (job, triggered_by, as_of, started_at, finished_at, status, role_name, pid)
SELECT j, CASE WHEN n % 3 = 0 THEN 'manual' ELSE 'function' END, m, m, m + interval '1 s', s, 'x', 1
  FROM generate_series(1, 250000) n
 CROSS JOIN LATERAL (SELECT now() - (250001 - n) * interval '4 min') AS moment(m)
 CROSS JOIN (VALUES ('auto_complete_challenges', 'succeeded'), ('auto_complete_challenges', 'skipped'),
                    ('refresh_challenge_stats', 'failed'), ('refresh_challenge_stats', 'skipped')) AS kind(j, s);
VACUUM ANALYZE challenge_jobs.job_run;
SELECT challenge_jobs.alter_job('cleanup_expired_notifications', settings => '{"max_runs_per_job": 0, "run_retention": "3000 days", "failed_run_retention": "3000 days"}');
SQL

sub plans
{
	my (@statements) = @_;
	my $offset = -s $node->logfile;
	my ($status, $out, $err) = $node->psql($db, '', extra_params => [ map { ('-c', $_) }
		"LOAD 'auto_explain'", 'SET auto_explain.log_min_duration = 0', 'SET auto_explain.log_nested_statements = on', @statements ]);

	return slurp_file($node->logfile, $offset);
}

my %cases = (
	'job_status' => 'TABLE challenge_jobs.job_status',
	'metrics' => 'TABLE challenge_jobs.metrics',
	'watchdog()' => 'SELECT * FROM challenge_jobs.watchdog()',
	'watchdog(), before any scheduled time' => "SELECT * FROM challenge_jobs.watchdog('2000-01-01')",
	'doctor()' => 'SELECT * FROM challenge_jobs.doctor()',
	'report_html()' => 'SELECT length(challenge_jobs.report_html())',
	'run()' => "CALL challenge_jobs.run('auto_complete_challenges')",
	'run() of a job that has never succeeded' => "CALL challenge_jobs.run('refresh_challenge_stats')",
	'a job function' => 'SELECT * FROM auto_complete_challenges()',
	'reminders' => 'SELECT * FROM send_streak_reminders()',
	'clean-up' => 'SELECT * FROM cleanup_expired_notifications()',
	'clean-up by run()' => "CALL challenge_jobs.run('cleanup_expired_notifications')",
	'deliver_alerts()' => 'CALL challenge_jobs.deliver_alerts()');

# the test itself: a statement that does read everything is seen
like(plans("SELECT count(*) FROM challenge_jobs.job_run WHERE message = 'x'"), qr/Seq Scan on job_run/, 'a sequential scan would be seen');
foreach my $name (sort keys %cases)
{
	my $log = plans($cases{$name});

	like($log, qr/Query Text:/, "$name: there are plans") if $name ne 'deliver_alerts()';
	my ($scan) = $log =~ /(Query Text:(?:(?!Query Text:).)*?Seq Scan on job_run\b.*?$)/ms;
	is($scan, undef, "$name: no sequential scan of the log");
}

done_testing();
