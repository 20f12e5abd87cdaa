#!/usr/bin/python3
"""examples/fastapi: a real uvicorn, asked over HTTP, on the demo app."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from harness import BREAKABLE, LIMIT, ROOT, black_hole, done, equal, folder, like, ok, psql, run, skip_all, stop

try:
    import fastapi
    import httpx
    import psycopg
    import uvicorn
except ImportError as error:
    skip_all(f"{error.name} for {sys.executable} is not installed")

from due import Stall, decided, make_due, undone
from servers import create_role, drop_role, start_admin_api

AUTO_COMPLETE = "/admin/jobs/auto-complete"
TOKEN = "a-long-random-string"
files = folder()

role = create_role("fastapi")
processes = []


def serve(**environment: str) -> str:
    process, address = start_admin_api(files, **environment)
    processes.append(process)
    return address


address = serve(ADMIN_TOKEN=TOKEN)
admin = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=LIMIT)
anyone = httpx.Client(base_url=address, timeout=LIMIT)

# ---- who may ----------------------------------------------------------------------------------

for method, path in (("POST", AUTO_COMPLETE), ("GET", "/admin/jobs"), ("GET", "/admin/jobs/runs")):
    answer = anyone.request(method, path)
    equal((answer.status_code, answer.headers.get("www-authenticate")), (401, "Bearer"), f"{method} {path}: no token")
    for wrong in (f"{TOKEN}x", TOKEN[:-1], "é".encode()):
        header = b"Bearer " + (wrong if isinstance(wrong, bytes) else wrong.encode())
        answer = anyone.request(method, path, headers={"Authorization": header})
        equal(answer.status_code, 403, f"{method} {path}: token {wrong!r}")
    answer = anyone.request(method, path, auth=("admin", TOKEN))
    equal(answer.status_code, 401, f"{method} {path}: another kind of authentication")
equal(anyone.post("/admin/jobs/no-such-job").status_code, 401, "whoever has no token does not learn what there is")
for name, environment in (("unset", {}), ("empty", {"ADMIN_TOKEN": ""})):
    closed = serve(**environment)
    for header in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
        answer = httpx.post(f"{closed}{AUTO_COMPLETE}", headers=header)
        equal(answer.status_code, 503, f"ADMIN_TOKEN is {name}: nobody may, with {header}")
equal(decided(), 0, "nothing was done for any of them")
refused = run(
    *(sys.executable, "-B", "-m", "uvicorn", "admin_jobs:app", "--port", "0"),
    cwd=ROOT / "examples/fastapi",
    env={**os.environ, "ADMIN_TOKEN": "é"},
)
ok(refused.returncode != 0, "a token that cannot be sent: the server does not start")
like(refused.stderr, "ADMIN_TOKEN has to be plain ASCII", "and says why")

# ---- runs -------------------------------------------------------------------------------------

answer = admin.post(AUTO_COMPLETE)
row = answer.json()
equal((answer.status_code, row.get("status")), (200, "succeeded"), "POST auto-complete runs the job")
equal(row["result"]["completed"] + row["result"]["failed"], decided(), "and answers with its figures")
equal((row["triggered_by"], row["role_name"]), ("admin-api", "admin_api"), "the log says who did it")
equal(undone(), "", "everything was done, once")

for name, job in (
    ("refresh-stats", "refresh_challenge_stats"),
    ("send-reminders", "send_streak_reminders"),
    ("cleanup-notifications", "cleanup_expired_notifications"),
):
    answer = admin.post(f"/admin/jobs/{name}")
    got = answer.json()
    equal((answer.status_code, got.get("job"), got.get("status")), (200, job, "succeeded"), f"POST {name} runs {job}")

for method, path, status in (
    ("POST", "/admin/jobs/no-such-job", 404),
    ("POST", "/admin/jobs/auto_complete_challenges", 404),
    ("GET", "/admin/nothing", 404),
    ("GET", AUTO_COMPLETE, 405),
):
    answer = admin.request(method, path)
    equal(answer.status_code, status, f"{method} {path} is refused")
    ok(answer.json()["detail"], "in JSON")

# ---- while a job is running -------------------------------------------------------------------


async def while_running() -> None:
    """A run that takes its time keeps nobody waiting but who asked for it."""
    async with httpx.AsyncClient(base_url=address, headers=admin.headers, timeout=LIMIT) as client:
        with Stall() as stall:
            slow = asyncio.create_task(client.post(AUTO_COMPLETE))
            await asyncio.to_thread(stall.wait_for_run)

            answer = await client.post(AUTO_COMPLETE)
            equal((answer.status_code, answer.json()["status"]), (409, "skipped"), "the job is running: 409")
            like(answer.json()["message"], "running", "and the reason")
            answers = await asyncio.gather(*(client.get("/admin/jobs") for _ in range(40)))
            equal({answer.status_code for answer in answers}, {200}, "forty other requests are answered meanwhile")
            (state,) = {row["state"] for row in answers[-1].json() if row["job"] == "auto_complete_challenges"}
            equal(state, "running", "the status says that it is running")
            answer = await client.post("/admin/jobs/refresh-stats")
            equal(answer.status_code, 200, "another job can be run")
            ok(not slow.done(), "the slow one has not been answered by then")
        answer = await slow
        equal((answer.status_code, answer.json()["status"]), (200, "succeeded"), "then it ends well")


make_due()
asyncio.run(while_running())
equal(undone(), "", "everything was done, once")
equal(
    psql("SELECT count(*) <= 8 FROM pg_stat_activity WHERE application_name = 'admin_jobs'"), "t", "connections are few"
)

psql("SELECT challenge_jobs.alter_job('send_streak_reminders', enabled => false)")
answer = admin.post("/admin/jobs/send-reminders")
equal((answer.status_code, answer.json()["message"]), (409, "the job is disabled"), "a job that is disabled: 409")

# ---- what goes wrong --------------------------------------------------------------------------

psql(BREAKABLE)
psql("INSERT INTO broken VALUES ('not today', 'ask again')")
make_due()
answer = admin.post(AUTO_COMPLETE)
equal(answer.status_code, 500, "a job that fails: 500")
equal(
    {key: answer.json()[key] for key in ("sqlstate", "message")},
    {"sqlstate": "P0001", "message": "not today"},
    "with what the database said",
)
like(answer.json()["detail"], "^ask again", "and its detail")
equal(admin.get("/admin/jobs/runs", params={"limit": 1}).json()[0]["status"], "failed", "which is in the log")
psql("DELETE FROM broken")
equal(admin.post(AUTO_COMPLETE).status_code, 200, "when that is mended it goes on")
equal(undone(), "", "everything was done, once")

psql("REVOKE SELECT ON challenge_jobs.job_status FROM admin_api")
answer = admin.get("/admin/jobs")
equal((answer.status_code, answer.json()["sqlstate"]), (500, "42501"), "a query that fails: 500")
psql("GRANT SELECT ON challenge_jobs.job_status TO admin_api")

lost = serve(ADMIN_TOKEN=TOKEN, PGHOST=str(files))
answer = httpx.post(f"{lost}{AUTO_COMPLETE}", headers=admin.headers, timeout=LIMIT)
equal((answer.status_code, answer.json()["sqlstate"]), (503, None), "no database: 503")
ok(answer.json()["message"], "with a message")

hung = serve(ADMIN_TOKEN=TOKEN, PGHOST="127.0.0.1", PGPORT=str(black_hole()))


async def ask_hung() -> None:
    """Every request ends, however many there are at once."""
    async with httpx.AsyncClient(base_url=hung, headers=admin.headers, timeout=60) as client:
        requests = [client.post(AUTO_COMPLETE), *(client.get("/admin/jobs") for _ in range(20))]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        statuses = {getattr(answer, "status_code", answer) for answer in answers}
        equal(statuses, {503}, "a database that never answers: 503, for all who ask at once")


asyncio.run(ask_hung())

psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'admin_jobs'")
equal(admin.get("/admin/jobs").status_code, 200, "sessions that were terminated are not noticed")

# ---- status and log ---------------------------------------------------------------------------

rows = admin.get("/admin/jobs").json()
equal(
    {row["job"]: row["state"] for row in rows},
    dict(line.split("|") for line in psql("SELECT job, state FROM challenge_jobs.job_status").splitlines()),
    "GET /admin/jobs says the state of each job",
)


answers = {path: admin.get(path).json() for path in ("/admin/jobs", "/admin/jobs/runs")}
for setting in ("datestyle = 'German'", "intervalstyle = 'iso_8601'", "client_encoding = 'SQL_ASCII'"):
    psql(f"ALTER ROLE admin_api SET {setting}")
for path, wanted in answers.items():
    answer = admin.get(path)
    if equal(answer.status_code, 200, f"GET {path}, whatever styles and encoding are set for the role"):
        equal(answer.json(), wanted, "the answer is the same")
psql("ALTER ROLE admin_api RESET ALL")

for odd in ("0044-03-15 00:00:00+00 BC", "infinity"):
    psql(f"""UPDATE challenge_jobs.job_run SET as_of = '{odd}'
              WHERE run_id = (SELECT max(run_id) FROM challenge_jobs.job_run)""")
    answer = admin.get("/admin/jobs/runs", params={"limit": 1})
    equal((answer.status_code, answer.json()[0]["as_of"]), (200, odd), f"a run as of {odd} is in the log")


def logged(**parameters: Any) -> list[int]:
    return [row["run_id"] for row in admin.get("/admin/jobs/runs", params=parameters).json()]


def in_database(condition: str, limit: int = 50) -> list[int]:
    ids = psql(f"SELECT run_id FROM challenge_jobs.job_run WHERE {condition} ORDER BY run_id DESC LIMIT {limit}")
    return [int(line) for line in ids.splitlines()]


psql("CALL challenge_jobs.run('refresh_challenge_stats', 'somebody else')")
equal(logged(), in_database("true"), "GET runs: the log, newest first")
ok(len(set(logged())) > 8, "which is not empty")
equal(logged(limit=2), in_database("true", 2), "limit")
equal(logged(before=logged()[1]), in_database("true")[2:], "before")
for column, value in (
    ("job", "refresh_challenge_stats"),
    ("status", "failed"),
    ("triggered_by", "somebody else"),
    ("job", "x' OR true --"),
):
    equal(logged(**{column: value}), in_database(f"{column} = $${value}$$"), f"filter {column} = {value}")
equal(
    logged(job="refresh_challenge_stats", triggered_by="admin-api"),
    in_database("job = 'refresh_challenge_stats' AND triggered_by = 'admin-api'"),
    "two filters",
)
for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"before": "x"}, {"before": 2**63}, {"job": "\0"}):
    equal(admin.get("/admin/jobs/runs", params=wrong).status_code, 422, f"{wrong} is refused")

# ---- the end ----------------------------------------------------------------------------------

for process in processes:
    stop(process)
log = (files / "uvicorn.log").read_text()
equal(
    [line for line in log.splitlines() if "Traceback" in line or "WARNING" in line], [], "nothing is amiss in the log"
)
equal(log.count("Application shutdown complete"), len(processes), "each server ends as it should")
equal(log.count(TOKEN), 0, "the token is not logged")

drop_role(role)
done()
