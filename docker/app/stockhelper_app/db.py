"""The connection to PostgreSQL: one pool for each worker, and the question whether it answers."""

import asyncio
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stockhelper_app.settings import Settings

logger = structlog.get_logger(__name__)

#: Seconds that a question for the database's health may take, connecting included.
HEALTH_TIMEOUT = 2.0


#: A peer that vanished without a word is found out in seconds; the kernel's own patience is minutes.
_WATCHFUL: Final[dict[str, Any]] = {"tcp_user_timeout": 5000, "keepalives_idle": 30}


def connect(settings: Settings, name: str) -> psycopg.Connection[Any]:
    """Return a connection of a job's own, in autocommit mode; `name` is who is shown to the database's owner.

    Raises `psycopg.OperationalError`.
    """
    return psycopg.connect(autocommit=True, **_parameters(settings, name))


async def connect_async(settings: Settings, name: str) -> psycopg.AsyncConnection[Any]:
    """Return what `connect` does, for use in an event loop."""
    return await psycopg.AsyncConnection.connect(autocommit=True, **_parameters(settings, name))


def _parameters(settings: Settings, name: str) -> dict[str, Any]:
    return {
        "host": settings.postgres_host,
        "port": settings.postgres_port,
        "user": settings.postgres_user,
        "password": settings.postgres_password.get_secret_value(),
        "dbname": settings.postgres_db,
        "application_name": name,
        "connect_timeout": settings.db_connect_timeout,
        **_WATCHFUL,
    }


def one_line(error: Exception) -> str:
    """Return what an error says on one line; the database's own come on several."""
    return " ".join(str(error).split())


class Database:
    """The pool of connections. Making one connects to nothing: the service starts while the database is away."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_async_engine(
            settings.url,
            pool_size=settings.db_pool_size,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={
                "application_name": "stockhelper-app",
                "connect_timeout": settings.db_connect_timeout,
                **_WATCHFUL,
            },
        )
        self._probe: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def answers(self, within: float = HEALTH_TIMEOUT) -> bool:
        """Return whether the database answers `SELECT 1` within so many seconds; the fault is logged, never raised.

        Questions asked at the same time share one probe, so that polling does not use up the pool.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._select())
        probe = self._probe
        # Not asyncio.timeout(): it would wait for the end of the probe, see _end.
        await asyncio.wait({probe}, timeout=within)
        if not probe.done():
            self._abandon(probe)
            logger.warning("database does not answer", within_seconds=within)
            return False
        if probe.cancelled():
            return False
        if fault := probe.exception():
            logger.warning("database not reachable", error=str(getattr(fault, "orig", None) or fault).strip())
            return False
        return True

    async def close(self) -> None:
        """Close every connection; takes no longer when the database hangs."""
        if self._probe is not None and not self._probe.done():
            self._abandon(self._probe)
        if self._ending:
            await asyncio.wait(self._ending, timeout=1)
        await self.engine.dispose()

    async def _select(self) -> None:
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    def _abandon(self, probe: asyncio.Task[None]) -> None:
        if self._probe is probe:
            self._probe = None
            ending = asyncio.create_task(self._end(probe))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self, probe: asyncio.Task[None]) -> None:
        """Give the probe's connection up, and its place in the pool back.

        A cancelled query of psycopg first asks the server to cancel it, then waits for its end, 5 s for each, and
        then the pool does the same to roll back; of a server that hangs nothing of it is to be expected. Each
        further cancellation ends one such wait.
        """
        while not probe.done():
            probe.cancel()
            await asyncio.wait({probe}, timeout=0.1)
        if not probe.cancelled():
            # Asked for, so that asyncio does not report it as never retrieved: its failure is logged already.
            probe.exception()
