"""What a migration needs around it: one at a time, never waiting for long, and a connection of its own."""

import logging
import threading
import time
from types import TracebackType
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

#: How much of a session's statement is told.
_STATEMENT_CHARACTERS = 200

#: Who a session is, as columns of pg_stat_activity; `_described` makes a sentence of them.
_SESSION = (
    "a.pid, a.application_name, a.client_addr, a.state, date_trunc('second', now() - coalesce(a.xact_start,"
    " a.backend_start)), a.query"
)


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
            f"SELECT {_SESSION} FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted"
            " AND l.classid = %s AND l.objid = %s AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF),
        ).fetchone()
    return _described(row) if row else "just ended"


def _described(row: tuple[Any, ...]) -> str:
    pid, application, address, state, since, statement = row
    said = " ".join(statement.split())
    said = said if len(said) <= _STATEMENT_CHARACTERS else said[:_STATEMENT_CHARACTERS] + "…"
    return (
        f"database process {pid}, application {application or 'without a name'}, from {address or 'a local socket'},"
        f" {state} for {since}: {said}"
    )


class Watch:
    """Sees, from a session of its own, who keeps a session waiting for a lock, while the block lasts.

    Only then can it be seen: a statement that gave up waits for nobody any more.
    """

    def __init__(self, settings: MigrationSettings, pid: int) -> None:
        self._settings = settings
        self._pid = pid
        self._looking = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._seen = "who holds the lock was not seen"

    @property
    def blockers(self) -> str:
        """Who was seen last to hold what the session waited for, in one line."""
        return self._seen

    def __enter__(self) -> "Watch":
        self._thread.start()
        self._looking.wait()  # else a short wait for a lock may be over before anybody looks
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        settings = self._settings
        try:
            with psycopg.connect(
                host=settings.postgres_host,
                port=settings.postgres_port,
                user=settings.postgres_user,
                password=settings.postgres_password.get_secret_value(),
                dbname=settings.postgres_db,
                connect_timeout=settings.db_connect_timeout,
                application_name="stockhelper-migrate-watch",
                autocommit=True,
            ) as connection:
                # Several looks within the time that one statement waits.
                pause = min(0.5, settings.migration_statement_lock_timeout / 4000)
                self._looking.set()
                while not self._ended.wait(pause):
                    rows = connection.execute(
                        f"SELECT {_SESSION} FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids(%s))"
                        " ORDER BY a.xact_start",
                        (self._pid,),
                    ).fetchall()
                    if rows:
                        self._seen = "the lock is held by " + "; and by ".join(map(_described, rows))
        except psycopg.Error as error:  # the migration itself does not depend on being watched
            logger.debug("nobody watches who holds locks: %s", type(error).__name__)
        finally:
            self._looking.set()
