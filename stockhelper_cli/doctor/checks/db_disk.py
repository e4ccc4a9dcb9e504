"""`db.disk`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.backup import HEADROOM
from stockhelper_cli.database.server import ServerError
from stockhelper_cli.doctor.check import failed, ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: Bytes with which a database that is written to goes on for a while.
_LITTLE: Final = 500_000_000


class DbDisk(DatabaseCheck):
    """Measures the file system that the database is on, which need not be the engine's."""

    id = "db.disk"
    title = "there is room for the database"
    # Where it is the engine's, and that is full, it is told of once.
    needs = ("db.answers", "engine.disk")
    explains = frozenset({"disk.full", "migration.failed", "service.unhealthy"})

    def look(self, context: Context, database: Database) -> Finding:
        """Measure it from within."""
        try:
            free = database.server.free_bytes()
        except ServerError as error:
            return failed("the room for the database could not be measured", str(error))
        told = f"{free / 1e6:,.0f} MB free"
        if free >= _LITTLE:
            return ok(told)
        return (failed if free < HEADROOM else warning)(
            f"{told} where the database is",
            "PostgreSQL stops when it cannot write; what was committed is kept",
            remedy="make room there, or grow the disk:",
            commands=["docker system df", "stockhelper backup prune"],
        )
