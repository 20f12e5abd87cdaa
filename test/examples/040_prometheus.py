#!/usr/bin/python3
"""examples/prometheus: the real exporter on the demo app, and a real Prometheus that watches it."""

from __future__ import annotations

import atexit
import json
import math
import os
import pathlib
import re
import urllib.request

from harness import ROOT, configure, done, equal, folder, free_port, listens, need, ok, psql, run, start
from harness import stop, wait_for
from servers import create_role, drop_role

need("prometheus-postgres-exporter", "promtool", "prometheus")

EXAMPLE = ROOT / "examples/prometheus"
Sample = tuple[str, frozenset[tuple[str, str]]]
files = folder()

role = create_role("prometheus")

# ---- the rules --------------------------------------------------------------------------------

for check in (
    ("check", "rules", EXAMPLE / "alerts.yaml"),
    ("check", "config", EXAMPLE / "prometheus.yml"),
    ("test", "rules", ROOT / "test/examples/alerts_test.yaml"),
):
    result = run("promtool", *check)
    ok(result.returncode == 0, f"promtool {check[0]} {check[1]}", result.stdout, result.stderr)

# ---- the exporter -----------------------------------------------------------------------------

exporter_port = free_port()
exporter = start(
    "prometheus-postgres-exporter", f"--extend.query-path={EXAMPLE / 'queries.yaml'}", "--disable-default-metrics",
    "--disable-settings-metrics", f"--web.listen-address=127.0.0.1:{exporter_port}",
    log=files / "exporter.log",
    env={**os.environ, "DATA_SOURCE_NAME": f"host={os.environ['PGHOST']} user=exporter dbname=examples"},
)  # fmt: skip
wait_for(lambda: listens(exporter_port), "the exporter")


def exported() -> dict[Sample, float]:
    """Returns what the exporter serves of challenge_jobs."""
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter_port}/metrics") as answer:
        text = answer.read().decode()
    samples = {}
    for name, labels, value in re.findall(r"^(challenge_jobs_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        del pairs["server"]
        samples[name, frozenset(pairs.items())] = float(value)
    return samples


def in_view() -> dict[Sample, float]:
    """Returns what the view has, with the label as the exporter has it."""
    rows = json.loads(psql("SELECT json_agg(m) FROM challenge_jobs.metrics m"))
    return {
        (row["name"], frozenset((key.replace("job", "job_name"), value) for key, value in row["labels"].items())):
        row["value"]
        for row in rows
    }  # fmt: skip


psql("CALL challenge_jobs.run('auto_complete_challenges')")
psql("CALL challenge_jobs.run('refresh_challenge_stats')")
got, wanted = exported(), in_view()
equal(got.pop(("challenge_jobs_worker_up", frozenset()), None), 1, "the exporter serves that the worker is there")
equal({name for name, _ in got}, {name for name, _ in wanted}, "every metric of the view, by its own name")
age = "challenge_jobs_seconds_since_last_success"
equal(
    {sample: value for sample, value in got.items() if not math.isnan(value) and sample[0] != age},
    {sample: value for sample, value in wanted.items() if sample[0] != age},
    "with the view's values",
)
equal(
    {sample for sample, value in got.items() if not math.isnan(value)}, set(wanted), "and nothing where there is none"
)

# ---- Prometheus -------------------------------------------------------------------------------

prometheus_port = free_port()
config = (EXAMPLE / "prometheus.yml").read_text()
for old, new in (
    ("localhost:9187", f"127.0.0.1:{exporter_port}"),
    ("scrape_interval: 1m", "scrape_interval: 1s"),
    ("- alerts.yaml", f"- {EXAMPLE / 'alerts.yaml'}"),
):
    assert config.count(old) == 1, old
    config = config.replace(old, new)
(files / "prometheus.yml").write_text(f"global: {{evaluation_interval: 1s}}\n{config}")
start(
    "prometheus", f"--config.file={files / 'prometheus.yml'}", f"--storage.tsdb.path={files / 'data'}",
    f"--web.listen-address=127.0.0.1:{prometheus_port}",
    log=files / "prometheus.log",
)  # fmt: skip


def ask(path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{prometheus_port}/api/v1/{path}") as answer:
        return json.load(answer)["data"]


def prometheus_is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{prometheus_port}/-/ready"):
            return True
    except OSError:
        return False


def alerts() -> set[tuple[str, str]]:
    """Returns the alerts that Prometheus sees, waiting to fire or firing, each with its job."""
    return {(a["labels"]["alertname"], a["labels"].get("job_name", "")) for a in ask("alerts")["alerts"]}


def prometheus_sees(wanted: set[tuple[str, str]], name: str) -> None:
    seen = None

    def is_seen() -> bool:
        nonlocal seen
        seen = alerts()
        return seen == wanted

    try:
        wait_for(is_seen, name)
    except TimeoutError:
        pass
    # Not asked once more: just after a restart, the exporter may have lost its connection.
    equal(seen, wanted, name)


wait_for(prometheus_is_ready, "Prometheus")
wait_for(lambda: ask("query?query=challenge_jobs_worker_up")["result"], "Prometheus to have asked the exporter")
wait_for(
    lambda: all(rule["health"] == "ok" for group in ask("rules")["groups"] for rule in group["rules"]),
    "Prometheus to have looked at the rules",
)
prometheus_sees(set(), "Prometheus sees nothing wrong")

psql("ALTER TABLE notifications RENAME TO messages")
run("psql", "-Xqc", "CALL challenge_jobs.run('auto_complete_challenges')")
failing = {
    ("ChallengeJobFailing", "auto_complete_challenges"),
    ("ChallengeJobsAlertsUndelivered", "auto_complete_challenges"),
}
prometheus_sees(failing, "a job that fails, and an alert that nobody has taken")

configure(alert_command="cat >/dev/null")
prometheus_sees({("ChallengeJobFailing", "auto_complete_challenges")}, "the alert is delivered")
psql("ALTER TABLE messages RENAME TO notifications")
psql("CALL challenge_jobs.run('auto_complete_challenges')")
prometheus_sees(set(), "the job has succeeded")

# A scheduled time that was missed before anybody looked, and that nobody is to make up for.
psql("SELECT challenge_jobs.alter_job('cleanup_expired_notifications', catch_up => 'skip')")
psql("SELECT challenge_jobs.schedule('cleanup_expired_notifications', 'external')")
psql("UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '3 days' WHERE engine IS NOT NULL")
prometheus_sees({("ChallengeJobOverdue", "cleanup_expired_notifications")}, "a scheduled time that was missed")
psql("CALL challenge_jobs.run('cleanup_expired_notifications')")
prometheus_sees(set(), "it has been served")

# ---- no worker --------------------------------------------------------------------------------

settings = pathlib.Path(os.environ["CJ_DATA"], "examples.conf")


def restart_server() -> None:
    stopped = run("pg_ctl", "restart", "-D", os.environ["CJ_DATA"], "-l", os.environ["CJ_SERVER_LOG"], "-m", "fast",
                  "-w", "-s")  # fmt: skip
    assert stopped.returncode == 0, stopped.stderr


def restart_server_with_worker() -> None:
    settings.unlink(missing_ok=True)
    restart_server()


atexit.register(restart_server_with_worker)
settings.write_text("shared_preload_libraries = ''\n")
restart_server()
prometheus_sees({("ChallengeJobsWorkerDown", "")}, "the worker does not run")
atexit.unregister(restart_server_with_worker)
restart_server_with_worker()
prometheus_sees(set(), "it runs again")

# ---- nobody who looks -------------------------------------------------------------------------

psql("REVOKE SELECT ON challenge_jobs.metrics FROM exporter")
prometheus_sees({("ChallengeJobsUnobserved", "")}, "the exporter may not read the view")
psql("GRANT SELECT ON challenge_jobs.metrics TO exporter")
prometheus_sees(set(), "it may again")
stop(exporter)
prometheus_sees({("ChallengeJobsUnobserved", "")}, "there is no exporter")

drop_role(role)
done()
