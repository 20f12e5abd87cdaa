"""Celery beat fires the jobs of challenge_jobs: celery -A tasks worker --beat

Broker and result backend come from CELERY_BROKER_URL and CELERY_RESULT_BACKEND, the database from
DATABASE_URL, or from libpq's variables (PGHOST, PGDATABASE, ...) where that is not set.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import psycopg
from celery import Celery, Task
from celery.schedules import crontab
from psycopg.rows import dict_row

log = logging.getLogger(__name__)

app = Celery("challenge_jobs")

# Members are told that a challenge has ended and look at the leaderboard: so the statistics are refreshed once challenges
# have been decided, well or not, and at that hour not by beat.
refresh = app.signature("challenge_jobs.run", ("refresh_challenge_stats",), immutable=True)

app.conf.update(
    # A task whose worker is killed is delivered again. It can do no harm: nothing is done twice.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Seconds until a task that hangs is ended: longer than any max_runtime of challenge_jobs.job, by which
    # the server ends a run itself.
    task_time_limit=2 * 60 * 60,
    timezone="UTC",
    # The schedules of challenge_jobs.job: by those its watchdog judges whether a run is overdue.
    beat_schedule={
        job: {"task": "challenge_jobs.run", "args": (job,), "schedule": schedule, "options": options}
        for job, schedule, options in (
            ("auto_complete_challenges", crontab(minute="0", hour="0"), {"link": refresh, "link_error": refresh}),
            ("refresh_challenge_stats", crontab(minute="0", hour="1-23"), {}),
            ("send_streak_reminders", crontab(minute="*/15"), {}),
            ("cleanup_expired_notifications", crontab(minute="0", hour="3"), {}),
        )
    },
)

# SQLSTATEs, or classes of them, that repeating cannot mend (missing tables, columns, rights or jobs), and
# a run that was cancelled: the worker of challenge_jobs does not repeat these either.
PERMANENT = re.compile("0A|28|2F|3D|3F|42|54|22023|25006|55000|57014|XX001|XX002")


def run(job: str) -> dict[str, Any]:
    """Run a job and return how that ended; raise the job's error if it failed."""
    # autocommit, since run() commits as it goes and refuses to be part of a transaction
    with psycopg.connect(
        os.environ.get("DATABASE_URL", ""),
        autocommit=True,
        row_factory=dict_row,
        application_name="celery",
        client_encoding="utf8",
        connect_timeout=10,
    ) as connection:
        connection.execute("CALL challenge_jobs.run(%s, 'celery')", (job,))
        outcome = connection.execute(
            """
            SELECT run_id, status, rows_affected, result, message, detail
              FROM challenge_jobs.job_run
             WHERE job = %s AND pid = pg_backend_pid() AND NOT dry_run
             ORDER BY - run_id
             LIMIT 1
            """,
            (job,),
        ).fetchone()
    assert outcome is not None
    return outcome


@app.task(bind=True, name="challenge_jobs.run", max_retries=3, default_retry_delay=60)
def run_job(self: Task, job: str) -> dict[str, Any]:
    """Run a job; repeat it after 1, 2 and 4 minutes if it fails."""
    try:
        outcome = run(job)
    except psycopg.Error as error:
        if PERMANENT.match(error.sqlstate or ""):
            raise
        delay = self.default_retry_delay * 2**self.request.retries
        raise self.retry(exc=error, countdown=delay)
    if outcome["status"] == "skipped":
        # At work elsewhere, or disabled: whoever is at work does what there is to do.
        log.warning("%s was skipped: %s", job, outcome["message"])
    return outcome
