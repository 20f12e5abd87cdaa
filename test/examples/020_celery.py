#!/usr/bin/python3
"""examples/celery: a real worker and beat, with Redis, on the demo app."""

from __future__ import annotations

import os
import signal
import sys
import threading

from harness import BREAKABLE, ROOT, black_hole, done, equal, folder, like, need, ok, psql, skip_all, stop, wait_for

need("redis-server")
try:
    import celery
    import psycopg
    import redis
    from celery.schedules import crontab
except ImportError as error:
    skip_all(f"{error.name} for {sys.executable} is not installed")

from due import Stall, make_due, undone
from servers import create_role, drop_role, start_celery, start_redis

AUTO_COMPLETE = "auto_complete_challenges"
REFRESH = "refresh_challenge_stats"
files = folder()

# ---- Redis, the role of the README, the worker -----------------------------------------------

role = create_role("celery")
broker = start_redis(files)
os.environ["CELERY_BROKER_URL"] = os.environ["CELERY_RESULT_BACKEND"] = broker
sys.path.insert(0, str(ROOT / "examples/celery"))
sys.dont_write_bytecode = True
import tasks  # noqa: E402

# The example in a hurry: repetitions after milliseconds, and every entry of the schedule each second.
(files / "hurry.py").write_text(
    """
from tasks import app, run_job

run_job.default_retry_delay = 0.05
for entry in app.conf.beat_schedule.values():
    entry["schedule"] = 1.0
"""
)
worker_log = files / "worker.log"


worker = start_celery(files, "worker", "--concurrency", "2", broker=broker, app="hurry")


def send(job: str) -> str:
    """Has a job run by a task; returns the task's id."""
    return tasks.app.send_task("challenge_jobs.run", (job,)).id


def end(task: str) -> tuple[str, object]:
    """Waits for the end of a task; returns its state, and its result or error."""
    backend = tasks.app.backend
    wait_for(lambda: backend.get_state(task) in ("SUCCESS", "FAILURE"), "a task to end")
    return backend.get_state(task), backend.get_result(task)


def runs(columns: str, job: str = AUTO_COMPLETE) -> str:
    """Returns columns of the runs of a job since this was last called."""
    global last
    rows = psql(f"SELECT {columns} FROM challenge_jobs.job_run WHERE job = '{job}' AND run_id > {last} ORDER BY run_id")
    last = psql("SELECT coalesce(max(run_id), 0) FROM challenge_jobs.job_run")
    return rows


last = "0"


def show_log_on_failure(passed: bool) -> None:
    if not passed:
        print(f"# the worker's log:\n# {worker_log.read_text()[-4000:]}".replace("\n", "\n# "))


# ---- a run ---------------------------------------------------------------------------------

state, result = end(send(AUTO_COMPLETE))
if not equal(state, "SUCCESS", "a task runs the job"):
    print("# the worker's log:", *worker_log.read_text()[-4000:].splitlines(), sep="\n# ")
    sys.exit(1)
equal(result["status"], "succeeded", "the result of the task says how the run ended")
equal(result["result"]["locked"], 0, "and has its figures")
equal(undone(), "", "everything was done, once")
equal(runs("status, triggered_by, role_name"), "succeeded|celery|celery", "the log says who did it")

# ---- a database without an encoding, and one that hangs ------------------------------------------

psql("ALTER ROLE celery SET client_encoding = 'SQL_ASCII'")
state, result = end(send(AUTO_COMPLETE))
equal((state, result["status"]), ("SUCCESS", "succeeded"), "texts are texts, whatever encoding is set for the role")
psql("ALTER ROLE celery RESET ALL")
runs("status")

limit = tasks.app.conf.task_time_limit
equal(psql(f"SELECT max(max_runtime) < '{limit} s' FROM challenge_jobs.job"), "t", "the server ends long runs before Celery")
hung: list[object] = []


def run_hung() -> None:
    os.environ["DATABASE_URL"] = f"postgresql://127.0.0.1:{black_hole()}/app"
    try:
        hung.append(tasks.run(AUTO_COMPLETE))
    except psycopg.OperationalError as error:
        hung.append(error)
    del os.environ["DATABASE_URL"]


threading.Thread(target=run_hung, daemon=True).start()
try:
    wait_for(lambda: hung, "the connection to be given up", 60)
except TimeoutError:
    pass
like(str(hung), "timeout expired", "a database that never answers is given up")

# ---- a run that is skipped --------------------------------------------------------------------

make_due()
with Stall() as stall:
    first = send(AUTO_COMPLETE)
    stall.wait_for_run()
    state, result = end(send(AUTO_COMPLETE))
    equal(state, "SUCCESS", "a task that comes while the job is running is no failure")
    equal(result["status"], "skipped", "its run was skipped")
    like(worker_log.read_text(), "was skipped: .*running", "which is logged")
state, result = end(first)
equal((state, result["status"]), ("SUCCESS", "succeeded"), "the run that was first goes on and succeeds")
equal(undone(), "", "everything was done, once")
equal(runs("status, triggered_by"), "succeeded|celery\nskipped|celery", "both runs are in the log")

# ---- a worker that is killed ------------------------------------------------------------------

make_due()
with Stall() as stall:
    task = send(AUTO_COMPLETE)
    stall.wait_for_run()
    (active,) = tasks.app.control.inspect(timeout=20, limit=1).active().values()
    os.kill(active[0]["worker_pid"], signal.SIGKILL)
    state, result = end(task)
    equal(state, "SUCCESS", "a task whose process is killed is delivered again")
    equal(result["status"], "skipped", "while the server is still at it")
wait_for(
    lambda: psql("SELECT NOT EXISTS (SELECT FROM challenge_jobs.job_run WHERE status = 'running')") == "t",
    "the run in the server to end",
)
equal(undone(), "", "everything was done, once")
equal(runs("status, triggered_by"), "succeeded|celery\nskipped|celery", "both runs are in the log")

# ---- a task that hangs -------------------------------------------------------------------------

make_due()
with Stall() as stall:
    task = tasks.app.send_task("challenge_jobs.run", (AUTO_COMPLETE,), time_limit=2).id
    stall.wait_for_run()
    state, error = end(task)
    equal(state, "FAILURE", "a task that hangs is ended at its time limit")
    like(repr(error), "TimeLimitExceeded", "which is the reason that is given")
    state, result = end(send("send_streak_reminders"))
    equal(state, "SUCCESS", "the worker goes on")
wait_for(
    lambda: psql("SELECT NOT EXISTS (SELECT FROM challenge_jobs.job_run WHERE status = 'running')") == "t",
    "the run in the server to end",
)
equal(undone(), "", "everything was done, once")
equal(runs("status, triggered_by"), "succeeded|celery", "and the task was not repeated")

# ---- the refresh that follows -------------------------------------------------------------------


def fire(job: str) -> str:
    """Fires an entry of the schedule as beat does; returns the task's id."""
    entry = tasks.app.conf.beat_schedule[job]
    return tasks.app.send_task(entry["task"], entry["args"], **entry["options"]).id


def wait_for_refresh() -> None:
    """Waits for the end of a refresh since runs() was last called."""
    wait_for(
        lambda: psql(f"SELECT 1 FROM challenge_jobs.job_run WHERE job = '{REFRESH}' AND run_id > {last} AND status <> 'running'"),
        "the statistics to be refreshed",
    )


runs("status")
make_due()
with Stall() as stall:
    task = fire(AUTO_COMPLETE)
    stall.wait_for_run()
    equal(
        psql(f"SELECT count(*) FROM challenge_jobs.job_run WHERE job = '{REFRESH}' AND run_id > {last}"),
        "0",
        "while challenges are being decided, the statistics are not refreshed",
    )
equal(end(task)[0], "SUCCESS", "challenges are decided")
wait_for_refresh()
equal(
    runs(
        "status, triggered_by, (result->>'after_run')::bigint"
        f" = (SELECT max(run_id) FROM challenge_jobs.job_run WHERE job = '{AUTO_COMPLETE}' AND rows_affected > 0)",
        REFRESH,
    ),
    "succeeded|celery|t",
    "then they are, once, with what was decided",
)

# ---- a run that fails -------------------------------------------------------------------------

psql(BREAKABLE)
psql("INSERT INTO broken VALUES ('not today')")
make_due()
task = fire(AUTO_COMPLETE)
state, error = end(task)
equal(state, "FAILURE", "a task whose job fails again and again fails")
like(str(error), "not today", "with the error of the database")
wait_for_refresh()
equal(
    psql(f"SELECT count(*), min(status) FROM challenge_jobs.job_run WHERE job = '{REFRESH}' AND run_id > {last}"),
    "1|succeeded",
    "the statistics are refreshed all the same, once",
)
equal(runs("status, triggered_by, message"), "\n".join(["failed|celery|not today"] * 4), "after three repetitions")
equal(worker_log.read_text().count(f"{task}] retry"), 3, "which are logged")
like(undone(), "still active", "nothing was done")

psql(
    """
    CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM public.broken;
        RETURN NULL;
    END $$;
    CREATE TRIGGER mend AFTER UPDATE ON challenge_jobs.job_run FOR EACH ROW
        WHEN (NEW.status = 'failed') EXECUTE FUNCTION mend();
    """
)
state, result = end(send(AUTO_COMPLETE))
equal((state, result["status"]), ("SUCCESS", "succeeded"), "a task whose job fails once succeeds")
equal(runs("status"), "failed\nsucceeded", "by its first repetition")
equal(undone(), "", "everything was done, once")

psql("ALTER TABLE notifications RENAME TO messages")
state, error = end(send(AUTO_COMPLETE))
equal(state, "FAILURE", "a task whose table is gone fails")
equal(runs("status, sqlstate"), "failed|42P01", "at once: repeating would not mend it")
psql("ALTER TABLE messages RENAME TO notifications")

task = send("no_such_job")
state, error = end(task)
equal(state, "FAILURE", "so does one for a job that does not exist")
like(str(error), "there is no job", "with the error of the database")
equal(worker_log.read_text().count(f"{task}] retry"), 0, "at once")

# ---- beat -------------------------------------------------------------------------------------

beat = start_celery(files, "beat", "--schedule", str(files / "schedule"), broker=broker, app="hurry")
wait_for(
    lambda: psql(
        f"""SELECT count(DISTINCT job) FROM challenge_jobs.job_run
             WHERE run_id > {last} AND triggered_by = 'celery' AND status = 'succeeded'"""
    )
    == "4",
    "beat to have all four jobs run",
)
stop(beat)
ok(True, "beat has all four jobs run")

for job, schedule in (line.split("|") for line in psql("SELECT job, schedule FROM challenge_jobs.job").splitlines()):
    minute, hour, day, month, weekday = schedule.split()
    fired = tasks.app.conf.beat_schedule[job]["schedule"]
    wanted = crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    if job == REFRESH:
        linked = tasks.app.conf.beat_schedule[AUTO_COMPLETE]["schedule"]
        equal((fired.minute, linked.minute), (wanted.minute, wanted.minute), f"{job} comes in the minute of challenge_jobs.job")
        equal(sorted([*fired.hour, *linked.hour]), sorted(wanted.hour), "once at each hour: after challenges were decided, or by beat")
    else:
        equal(fired, wanted, f"the schedule of {job} is that of challenge_jobs.job")
equal(tasks.app.conf.timezone, "UTC", "in UTC")

stop(worker)
drop_role(role)
done()
