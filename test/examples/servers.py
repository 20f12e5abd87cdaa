"""The servers of the examples, as their tests start them."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

from harness import ROOT, free_port, listens, npm_ci, psql, start, wait_for

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


class Missing(Exception):
    """This machine lacks something; says what."""


def start_edge_function(files: pathlib.Path, secret: str) -> str:
    """Starts examples/edge-function and an API for it, in Deno; returns the function's address."""

    def missing(reason: str) -> None:
        raise Missing(reason)

    home = npm_ci("test/examples/edge_function", missing)
    deno = next(home.glob("node_modules/@deno/*/deno"), None)
    if deno is None:
        raise Missing("npm has no Deno for this machine")
    shutil.copytree(ROOT / "examples/edge-function/daily-jobs", home / "daily-jobs")
    shutil.copy(ROOT / "test/examples/edge_function/rest_server.mjs", home)

    def serve(name: str, **environment: str) -> str:
        log = files / f"{pathlib.Path(name).stem}.log"
        plain = {"DENO_DIR": str(files / "deno"), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
        start(
            *(deno, "run", "--node-modules-dir=manual", "--allow-all", name),
            log=log,
            cwd=home,
            env={**os.environ, **plain, "DENO_SERVE_ADDRESS": "tcp:127.0.0.1:0", **environment},
        )
        address = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), f"{name} to listen")
        return address.group()

    api = serve("rest_server.mjs", SECRET_KEY="key")
    return serve("daily-jobs/index.ts", SUPABASE_URL=api, SUPABASE_SERVICE_ROLE_KEY="key", CRON_SECRET=secret)
