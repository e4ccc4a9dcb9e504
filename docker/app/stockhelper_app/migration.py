"""What a migration needs around it: one at a time, never waiting for long, and a connection of its own."""

import logging
import time
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Engine, NullPool, create_engine

from stockhelper_app.settings import MigrationSettings

logger = logging.getLogger(__name__)

#: The advisory lock that a migrating session holds, in the database it migrates.
LOCK_KEY = 0x73746F636B6D6967

#: Seconds between two tries to get it.
POLL_INTERVAL = 0.1


class LockTimeout(Exception):
    """Another migration held the lock for the whole time that we were ready to wait."""


def engine(settings: MigrationSettings) -> Engine:
    """Return an engine whose connections are the owner's and end when they are closed."""
    # As an option of the connection: a SET inside a transaction would be undone with it.
    options = f"-c lock_timeout={settings.migration_statement_lock_timeout}"
    return create_engine(
        settings.url,
        poolclass=NullPool,
        connect_args={
            "application_name": "stockhelper-migrate",
            "connect_timeout": settings.db_connect_timeout,
            "options": options,
        },
    )


def acquire(connection: psycopg.Connection[Any], timeout: float) -> None:
    """Take the lock within so many seconds; it is held until the session ends. Raises `LockTimeout`.

    It polls, each time in a transaction of its own, and never waits inside PostgreSQL: a session that waits there
    has a snapshot, for whose end a CREATE INDEX CONCURRENTLY of the lock's holder would wait, and neither would go on.
    """
    deadline = time.monotonic() + timeout
    announced = False
    while not _try(connection):
        if time.monotonic() >= deadline:
            raise LockTimeout(f"another migration is running ({_holder(connection)}) and did not end in {timeout:g} s")
        if not announced:
            logger.info("another migration is running (%s); waiting for it", _holder(connection))
            announced = True
        time.sleep(min(POLL_INTERVAL, max(0.0, deadline - time.monotonic())))


def is_lost_race(error: BaseException | None) -> bool:
    """Return whether the database gave up on a lock that others held, so that trying again makes sense."""
    return isinstance(error, LockNotAvailable | DeadlockDetected)


def _try(connection: psycopg.Connection[Any]) -> bool:
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
    return bool(row and row[0])


def _holder(connection: psycopg.Connection[Any]) -> str:
    with connection.transaction():
        row = connection.execute(
            "SELECT a.pid, a.client_addr, date_trunc('second', now() - a.backend_start)"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted"
            " AND l.classid = %s AND l.objid = %s AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF),
        ).fetchone()
    return f"database process {row[0]}, from {row[1] or 'a local socket'}, for {row[2]}" if row else "just ended"
