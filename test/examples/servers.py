"""The servers of examples/celery and examples/fastapi, as their tests start them."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

from harness import ROOT, free_port, listens, psql, start, wait_for

# What the caller's shell is set to must not reach the examples.
for _name in ("ADMIN_TOKEN", "DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(_name, None)


def create_role(example: str) -> str:
    """Makes the role of an example by the statements of its README; returns its name."""
    statements = re.search(r"```sql\n(.*?)```", (ROOT / "examples" / example / "README.md").read_text(), re.DOTALL)
    assert statements
    role = statements.group(1).split()[2]
    psql(f"DROP ROLE IF EXISTS {role}")
    psql(statements.group(1))
    return role


def drop_role(role: str) -> None:
    psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def start_redis(files: pathlib.Path) -> str:
    """Starts a Redis that keeps nothing; returns its address."""
    port = str(free_port())
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", str(files)]
    start(*command, log=files / "redis.log")
    wait_for(lambda: listens(int(port)), "Redis")
    return f"redis://127.0.0.1:{port}/0"


def start_celery(files: pathlib.Path, *arguments: str, broker: str, app: str = "tasks") -> subprocess.Popen[bytes]:
    """Starts a Celery program in a folder, with the example's tasks and the modules of that folder."""
    return start(
        *(sys.executable, "-B", "-m", "celery", "-A", app, *arguments, "--loglevel", "info"),
        log=files / f"{arguments[0]}.log",
        cwd=files,
        env={
            **os.environ,
            "PGUSER": "celery",
            "CELERY_BROKER_URL": broker,
            "CELERY_RESULT_BACKEND": broker,
            "PYTHONPATH": f"{ROOT / 'examples/celery'}:{files}",
        },
    )


def start_admin_api(files: pathlib.Path, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
    """Starts the admin endpoints; returns the process and their address."""
    port = str(free_port())
    process = start(
        *(sys.executable, "-B", "-m", "uvicorn", "admin_jobs:app", "--host", "127.0.0.1", "--port", port),
        log=files / "uvicorn.log",
        cwd=ROOT / "examples/fastapi",
        env={**os.environ, "PGUSER": "admin_api", **environment},
    )
    wait_for(lambda: listens(int(port)), "uvicorn")
    return process, f"http://127.0.0.1:{port}"
