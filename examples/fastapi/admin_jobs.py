"""Admin endpoints for challenge_jobs: uvicorn admin_jobs:app

The database comes from DATABASE_URL, or from libpq's variables (PGHOST, PGDATABASE, ...) where that
is not set. Requests have to carry "Authorization: Bearer <ADMIN_TOKEN>".
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, AsyncIterator, Optional

import psycopg
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from psycopg.rows import dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg_pool import AsyncNullConnectionPool

JOBS = {
    "auto-complete": "auto_complete_challenges",
    "refresh-stats": "refresh_challenge_stats",
    "send-reminders": "send_streak_reminders",
    "cleanup-notifications": "cleanup_expired_notifications",
}

# RFC 6750 has no others, and clients do not agree on how to send them.
if not os.environ.get("ADMIN_TOKEN", "").isascii():
    raise RuntimeError("ADMIN_TOKEN has to be plain ASCII")

# Admin requests are rare: this pool bounds and queues connections, and keeps none that could be
# dead when it is wanted. At most four are busy for long, one a job: a second run is skipped.
pool = AsyncNullConnectionPool(
    os.environ.get("DATABASE_URL", ""),
    max_size=8,
    open=False,
    # autocommit, since run() commits as it goes and refuses to be part of a transaction
    kwargs={
        "autocommit": True,
        "row_factory": dict_row,
        "application_name": "admin_jobs",
        "client_encoding": "utf8",
    },
)


class TimestampLoader(TimestamptzLoader):
    """Reads times, and leaves those that Python does not have, such as infinity, as they are."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the pool for as long as the app runs; the database may come later."""
    await pool.open()
    try:
        yield
    finally:
        await pool.close()


@asynccontextmanager
async def connect() -> AsyncIterator[psycopg.AsyncConnection[dict[str, Any]]]:
    """Give a connection, within ten seconds or not at all."""
    async with AsyncExitStack() as stack:
        try:
            # the pool makes one connection at a time, and waits for a server that hangs
            async with asyncio.timeout(10):
                connection = await stack.enter_async_context(pool.connection())
                # the only styles that psycopg reads, whatever the database is set to
                await connection.execute(
                    "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'"
                )
        except TimeoutError:
            message = "the database gave no connection within 10 seconds"
            raise psycopg.OperationalError(message) from None
        connection.adapters.register_loader("timestamptz", TimestampLoader)
        yield connection


async def require_admin(
    credentials: Optional[HTTPAuthorizationCredentials] = Depends(
        HTTPBearer(auto_error=False)
    ),
) -> None:
    """Let nobody pass but who knows the token, and nobody at all where there is none."""
    token = os.environ.get("ADMIN_TOKEN", "")
    if not token:
        raise HTTPException(503, "ADMIN_TOKEN is not set")
    if credentials is None:
        raise HTTPException(
            401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"}
        )
    if not secrets.compare_digest(credentials.credentials.encode(), token.encode()):
        raise HTTPException(403, "the token is wrong")


router = APIRouter(prefix="/admin/jobs", dependencies=[Depends(require_admin)])


@router.get("")
async def job_status() -> list[dict[str, Any]]:
    """How each job is doing."""
    async with connect() as connection:
        cursor = await connection.execute("SELECT * FROM challenge_jobs.job_status")
        return await cursor.fetchall()


@router.get("/runs")
async def job_runs(
    job: Optional[str] = None,
    status: Optional[str] = None,
    triggered_by: Optional[str] = None,
    before: Optional[int] = Query(
        None, ge=0, lt=2**63, description="only runs with a lower run_id"
    ),
    limit: int = Query(50, ge=1, le=1000),
) -> list[dict[str, Any]]:
    """The log of runs, newest first."""
    if "\0" in f"{job}{status}{triggered_by}":
        raise HTTPException(422, "no text in the database has a NUL")
    async with connect() as connection:
        cursor = await connection.execute(
            """
            SELECT *
              FROM challenge_jobs.job_run
             WHERE (%(job)s::text IS NULL OR job = %(job)s)
               AND (%(status)s::text IS NULL OR status = %(status)s)
               AND (%(triggered_by)s::text IS NULL OR triggered_by = %(triggered_by)s)
               AND (%(before)s::bigint IS NULL OR run_id < %(before)s)
             ORDER BY run_id DESC
             LIMIT %(limit)s
            """,
            {
                "job": job,
                "status": status,
                "triggered_by": triggered_by,
                "before": before,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


@router.post("/{name}")
async def run_job(name: str, response: Response) -> dict[str, Any]:
    """Run a job and answer when it has ended: 200 with its row of the log, 409 if it was skipped."""
    if name not in JOBS:
        raise HTTPException(404, f"there is no job {name!r}: {', '.join(JOBS)}")
    async with connect() as connection:
        await connection.execute(
            "CALL challenge_jobs.run(%s, 'admin-api')", (JOBS[name],)
        )
        cursor = await connection.execute(
            """
            SELECT *
              FROM challenge_jobs.job_run
             WHERE job = %s AND pid = pg_backend_pid() AND NOT dry_run
             ORDER BY - run_id
             LIMIT 1
            """,
            (JOBS[name],),
        )
        run = await cursor.fetchone()
    assert run is not None
    if run["status"] == "skipped":
        response.status_code = 409
    return run


async def database_error(_: Request, error: Exception) -> JSONResponse:
    """Answer with what the database says: 500, or 503 where there is no connection to be had."""
    assert isinstance(error, psycopg.Error)
    is_lost = isinstance(error, psycopg.OperationalError) and not error.sqlstate
    return JSONResponse(
        status_code=503 if is_lost else 500,
        content={
            "sqlstate": error.sqlstate,
            "message": error.diag.message_primary or str(error),
            "detail": error.diag.message_detail,
            "hint": error.diag.message_hint,
            "context": error.diag.context,
        },
    )


app = FastAPI(title="challenge_jobs")
app.router.lifespan_context = lifespan  # FastAPI(lifespan=lifespan) from 0.93 on
app.add_exception_handler(psycopg.Error, database_error)
app.include_router(router)
