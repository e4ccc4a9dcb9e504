"""What the service's tests share: shares in a database, the API's addresses, and waiting inside an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE

TOKEN = "a-token-of-the-tests"


BEARER = {"Authorization": f"Bearer {TOKEN}"}


V1 = "/api/v1"


def stock(tables: Postgres) -> None:
    """Bring in three shares: one with a dividend between its bars, one with a single bar, one with none."""
    tables.query(
        "INSERT INTO stocks (symbol, name, exchange, listing_date) VALUES"
        " ('000001.SZ', '平安', 'SZ', NULL), ('600519.SH', 'Moutai 100%_', 'SH', '2001-08-27'),"
        " ('830001.BJ', 'Bare', 'BJ', NULL)"
    )
    tables.query(
        "INSERT INTO daily_bars VALUES"
        " ('600519.SH', '2026-11-18', 12, 12.5, 11.11, 12, 100, 1200.50, 1),"
        " ('600519.SH', '2026-11-19', 10, 10, 10, 10, 9007199254740993, 123456789012345678.90, 1.2),"
        " ('600519.SH', '2026-11-20', 10, 11, 10, 10.5, 0, 0, 1.2),"
        " ('000001.SZ', '2026-11-20', 7, 7, 7, 7, 1, 7, 3)"
    )


RUNS = "SELECT outcome, rows FROM sync_runs ORDER BY id"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.05)


LOCKS = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Line:
    """A connection to the database that can be frozen, as a paused container freezes it."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = 0

    @asynccontextmanager
    async def to(self, database: Postgres) -> AsyncIterator[Line]:
        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    await self.flowing.wait()
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                # The other side hung up, which is what the tests make it do.
                return
            finally:
                writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_connection(database.host, database.port)
            await asyncio.gather(pump(reader, ours), pump(theirs, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.flowing.set()
            server.close()
