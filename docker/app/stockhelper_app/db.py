"""The connection to PostgreSQL: one pool for each worker, questions that end in time, and whether it answers at all."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import Executable, Row, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from stockhelper_app.settings import Settings

logger = structlog.get_logger(__name__)

#: Seconds that a question for the database's health may take, connecting included.
HEALTH_TIMEOUT = 2.0
#: Seconds that a request's query may take, waiting for a connection included.
QUERY_TIMEOUT = 5.0
#: Connections of a container besides its pools: who starts a sync, the sync, and a command of the user's.
_BESIDES: Final = 3

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


class Unavailable(Exception):
    """The database is away, or does not answer in time; the message says which, for the log."""


_PROBE: Final = text("SELECT 1")
# What the server itself says that it is set to; a superuser's reserve is nothing that the service could use.
_ROOM: Final = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""


class Database:
    """The pool of connections. Making one connects to nothing: the service starts while the database is away."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_async_engine(
            settings.url,
            pool_size=settings.db_pool_size,
            max_overflow=0,
            pool_timeout=QUERY_TIMEOUT,
            # Each request is one statement: no round trip begins or ends a transaction around it. Nor does one ask
            # whether a connection still lives: `fetch` finds out, and takes another.
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            connect_args={
                "application_name": "stockhelper-app",
                "connect_timeout": settings.db_connect_timeout,
                # The server ends what nobody waits for any more.
                "options": f"-c timezone=UTC -c statement_timeout={2 * QUERY_TIMEOUT:.0f}s",
                **_WATCHFUL,
            },
        )
        self._wanted = settings.web_concurrency * settings.db_pool_size + _BESIDES
        event.listen(self.engine.sync_engine, "first_connect", self._check_room)
        self._probe: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def fetch(
        self, statement: Executable, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Run one statement, and return its rows; none of one that returns nothing.

        It may run twice, when the connection turns out to be cut: it must be one that does no harm then. Raises
        `Unavailable` after `QUERY_TIMEOUT` seconds at most.
        """
        query = asyncio.create_task(self._query(statement, parameters))
        try:
            # Not asyncio.timeout(): it would wait for the end of the query, see _end.
            await asyncio.wait({query}, timeout=QUERY_TIMEOUT)
        finally:
            if not query.done():
                self._abandon(query)
        if not query.done():
            raise Unavailable(f"no answer within {QUERY_TIMEOUT:.0f} s")
        try:
            return query.result()
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable(one_line(getattr(error, "orig", None) or error)) from error

    async def answers(self) -> bool:
        """Return whether the database answers `SELECT 1` within its limit; the fault is logged, never raised.

        Questions asked at the same time share one probe, so that polling does not use up the pool.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._select())
        probe = self._probe
        # Not asyncio.timeout(): it would wait for the end of the probe, see _end.
        await asyncio.wait({probe}, timeout=HEALTH_TIMEOUT)
        if not probe.done():
            if self._probe is probe:
                self._probe = None
                self._abandon(probe)
            logger.warning("database does not answer", within_seconds=HEALTH_TIMEOUT)
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
            self._probe = None
        if self._ending:
            await asyncio.wait(self._ending, timeout=1)
        await self.engine.dispose()

    async def _select(self) -> None:
        await self._query(_PROBE, None)

    async def _query(
        self, statement: Executable, parameters: Mapping[str, object] | None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        try:
            return await self._once(statement, parameters)
        except DBAPIError as error:
            # The server was restarted, say. SQLAlchemy has given up every connection of that time by now.
            if not error.connection_invalidated:
                raise
            return await self._once(statement, parameters)

    async def _once(
        self, statement: Executable, parameters: Mapping[str, object] | None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        async with self.engine.connect() as connection:
            result = await connection.execute(statement, parameters)
            return result.all() if result.returns_rows else ()

    def _check_room(self, connection: Any, _: object) -> None:
        """Say so, once for each worker, when the pools of all of them do not fit into the server."""
        cursor = connection.cursor()
        cursor.execute(_ROOM)
        (room,) = cursor.fetchone()
        cursor.close()
        # What it began: the connection is not the pool's yet, and so not in autocommit mode.
        connection.rollback()
        if self._wanted > room:
            logger.error(
                "more connections may be opened than PostgreSQL allows: lower WEB_CONCURRENCY or DB_POOL_SIZE,"
                " or raise max_connections",
                wanted=self._wanted,
                allowed=room,
            )

    def _abandon(self, query: asyncio.Task[Any]) -> None:
        ending = asyncio.create_task(self._end(query))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, query: asyncio.Task[Any]) -> None:
        """Give the query's connection up, and its place in the pool back.

        A cancelled query of psycopg first asks the server to cancel it, then waits for its end, 5 s for each, and
        then the pool does the same to roll back; of a server that hangs nothing of it is to be expected. Each
        further cancellation ends one such wait.
        """
        while not query.done():
            query.cancel()
            await asyncio.wait({query}, timeout=0.1)
        if not query.cancelled():
            # Asked for, so that asyncio does not report it as never retrieved: its failure is logged already.
            query.exception()
