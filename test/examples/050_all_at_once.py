#!/usr/bin/python3
"""Everything that can fire a job fires it at the same moment: what is due is done once, by one of them."""

from __future__ import annotations

import atexit
import collections
import concurrent.futures
import os
import re
import sys
import threading
from typing import Callable

from harness import LIMIT, ROOT, done, equal, folder, like, need, ok, psql, run, skip_all, wait_for

need("redis-server", "curl")
try:
    import celery  # noqa: F401
    import fastapi  # noqa: F401
    import psycopg  # noqa: F401
    import redis  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    skip_all(f"{error.name} for {sys.executable} is not installed")
if psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'") == "0":
    skip_all("pg_cron is not installed")

from due import Stall, make_due, undone
from servers import Missing, create_role, drop_role, start_admin_api, start_celery, start_edge_function, start_redis

JOB = "auto_complete_challenges"
SECRET = "of the test"
files = folder()

# ---- the triggers: each fires the job, waits for the end, and returns in a word how that went -----

roles = [create_role("celery"), create_role("fastapi")]
broker = start_redis(files)
os.environ["CELERY_BROKER_URL"] = os.environ["CELERY_RESULT_BACKEND"] = broker
sys.path.insert(0, str(ROOT / "examples/celery"))
sys.dont_write_bytecode = True
import tasks  # noqa: E402

start_celery(files, "worker", "--concurrency", "4", broker=broker)
_, admin_api = start_admin_api(files, ADMIN_TOKEN=SECRET)


def by_call() -> str:
    called = run("psql", "-Xqc", f"CALL challenge_jobs.run('{JOB}', 'psql')")
    return called.stderr if called.returncode or "skipped" in called.stderr else "succeeded"


def by_function() -> str:
    called = run("psql", "-Xqc", f"SELECT * FROM {JOB}()")
    return called.stderr if called.returncode else "succeeded"


def by_celery() -> str:
    task = tasks.app.send_task("challenge_jobs.run", (JOB,)).id
    wait_for(lambda: tasks.app.backend.get_state(task) in ("SUCCESS", "FAILURE"), "a task to end")
    result = tasks.app.backend.get_result(task)
    return result["status"] if isinstance(result, dict) else str(result)


def post(url: str) -> str:
    """Returns the HTTP status of a POST, and what was answered."""
    return run(
        *("curl", "-sS", "--max-time", str(LIMIT), "-w", "%{stderr}%{http_code}"),
        *("-X", "POST", "-H", f"Authorization: Bearer {SECRET}", url),
    )


def by_http() -> str:
    answer = post(f"{admin_api}/admin/jobs/auto-complete")
    return {"200": "succeeded", "409": "skipped"}.get(answer.stderr, answer.stderr + answer.stdout)


def by_edge_function() -> str:
    answer = post(f"{edge_function}?job={JOB}")
    return "succeeded" if answer.stderr == "200" else answer.stdout


# By what stands in the log: triggered_by, and the role.
triggers: dict[str, Callable[[], str]] = {
    "psql, postgres": by_call,
    "function, postgres": by_function,
    "celery, celery": by_celery,
    "admin-api, admin_api": by_http,
}
try:
    edge_function = start_edge_function(files, SECRET) + "/daily-jobs"
except Missing as error:
    ok(True, f"the edge function # skip {error}")
else:
    psql("CREATE ROLE service_role NOLOGIN BYPASSRLS; CREATE ROLE anon NOLOGIN; GRANT USAGE ON SCHEMA public TO anon")
    grants = re.search(r"```sql\n(.*?)```", (ROOT / "examples/edge-function/README.md").read_text(), re.DOTALL)
    psql(f"GRANT USAGE ON SCHEMA public TO service_role; {grants.group(1)}")
    roles += ["service_role", "anon"]
    triggers["function, service_role"] = by_edge_function

# ---- the moment ---------------------------------------------------------------------------------


def fire(repeat: int = 1, at: Callable[[], object] = lambda: None) -> list[str]:
    """Fires all triggers at once; returns how that went for each."""
    chosen = list(triggers.values()) * repeat
    barrier = threading.Barrier(len(chosen) + 1)

    def pull(trigger: Callable[[], str]) -> str:
        barrier.wait()
        return trigger()

    with concurrent.futures.ThreadPoolExecutor(len(chosen)) as threads:
        pulled = [threads.submit(pull, trigger) for trigger in chosen]
        at()
        barrier.wait()
        return [future.result() for future in pulled]


def next_minute() -> None:
    """Waits until the server's clock comes to a full minute, when pg_cron and the worker fire."""
    now = "SELECT date_trunc('minute', clock_timestamp())"
    minute = psql(now)
    wait_for(lambda: psql(now) != minute, "the next minute")


def logged(since: int) -> dict[str, set[str]]:
    """Returns how the runs since then ended, by who triggered them. A function that is refused leaves no run; it is counted."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    rows = psql(
        f"""SELECT triggered_by || ', ' || role_name, status FROM challenge_jobs.job_run
             WHERE job = '{JOB}' AND run_id > {since}
             UNION
            SELECT 'function, ' || role_name, 'refused' FROM challenge_jobs.refusal
             WHERE job = '{JOB}' AND sqlstate = '55P03'"""
    )
    for who, status in (line.split("|") for line in rows.splitlines()):
        found[who].add(status)
    return found


def last_run() -> int:
    return int(psql("SELECT coalesce(max(run_id), 0) FROM challenge_jobs.job_run"))


def wait_for_rows(since: int, wanted: set[str]) -> None:
    """Waits until all of them are in the log, and none is at work."""
    wait_for(lambda: wanted <= logged(since).keys(), "everybody to be in the log")
    wait_for(lambda: not any("running" in ends for ends in logged(since).values()), "all runs to end")


def working_runs(since: int) -> str:
    """Returns how many runs found something to decide, and how many challenges that was."""
    return psql(
        f"""SELECT count(*), sum((result->>'completed')::int + (result->>'failed')::int)
              FROM challenge_jobs.job_run
             WHERE run_id > {since} AND (result->>'completed')::int + (result->>'failed')::int > 0"""
    )


def refusals(outcomes: list[str]) -> list[str]:
    """Returns those of the outcomes that are neither a success nor what a second comer gets."""
    return [notified for notified in outcomes if notified != "succeeded" and not re.search("skipped|running in another", notified)]


psql(f"CALL challenge_jobs.run('{JOB}')")  # what the demo app has due

# ---- the worker is first, and all others come while it is at work --------------------------------

make_due(20)
since = last_run()
with Stall() as stall:
    psql(f"SELECT challenge_jobs.alter_job('{JOB}', schedule => '* * * * *')")
    psql(f"SELECT challenge_jobs.schedule('{JOB}', 'worker')")
    psql("UPDATE challenge_jobs.job_override SET scheduled_at = now() - interval '5 minutes' WHERE engine = 'worker'")
    stall.wait_for_run()
    equal(logged(since), {"worker, postgres": {"running"}}, "the worker fires the job")
    psql("CREATE EXTENSION pg_cron", "-d", "postgres")
    atexit.register(psql, "DROP EXTENSION pg_cron", "-d", "postgres")
    command = f"CALL challenge_jobs.run(''{JOB}'', ''pg_cron'')"
    psql(f"SELECT cron.schedule_in_database('all at once', '* * * * *', '{command}', 'examples')", "-d", "postgres")
    outcomes = fire(at=next_minute)
    wait_for(lambda: {*triggers, "pg_cron, postgres"} <= logged(since).keys(), "everybody to be in the log")
    for who, notified in zip(triggers, outcomes):
        like(notified, "skipped|running in another session", f"{who}: gets the error that the job is running")
    everybody = {
        who: {"refused" if who.startswith("function") else "skipped"} for who in (*triggers, "pg_cron, postgres")
    }
    equal(logged(since), everybody | {"worker, postgres": {"running"}}, "each of them is in the log as skipped, or counted as refused")
wait_for_rows(since, {"worker, postgres"})
equal(working_runs(since), "1|20", "the worker's run has done it all")
equal(undone(), "", "each challenge was decided once, each member was notified once")

# ---- again and again, two of each, and nobody is first; pg_cron and the worker may come as well ----

for attempt in range(1, 6):
    wait_for_rows(0, set())
    psql("DELETE FROM challenge_jobs.refusal")
    since = last_run()
    make_due(20)
    outcomes = fire(repeat=2)
    wait_for_rows(since, set(triggers))
    equal(refusals(outcomes), [], f"round {attempt}: whoever did not run got the error that the job is running")
    ok(
        working_runs(since) == "1|20" and undone() == "",
        f"round {attempt}: one run has done it all, once",
        working_runs(since),
        undone(),
        logged(since),
    )

psql("SELECT cron.unschedule('all at once')", "-d", "postgres")
psql(f"SELECT challenge_jobs.unschedule('{JOB}')")

# ---- the end ----------------------------------------------------------------------------------------

for role in roles:
    drop_role(role)
done()
