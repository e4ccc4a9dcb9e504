"""`db.checksums`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import failed, ok
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: How PostgreSQL's log names a damaged page.
_INVALID: Final = re.compile(r"invalid page in block \d+ of relation \S+")


class DbChecksums(DatabaseCheck):
    """Looks whether the server has read pages whose checksum was wrong: the disk gave back other than was written."""

    id = "db.checksums"
    title = "the database has read no damaged page"
    needs = ("db.connections",)
    explains = frozenset({"backup.failed", "migration.failed"})

    def look(self, context: Context, database: Database) -> Finding:
        """Look at what it has counted."""
        vitals = context.vitals
        if not vitals.damages:
            on = vitals.settings.data_checksums
            return ok("none" if on else "checksums are off in this volume: damage would not be noticed")
        named = dict.fromkeys(found for line in database.server.log() for found in _INVALID.findall(line))
        return failed(
            "; ".join(f"{each.pages} damaged pages were read of {each.database}" for each in vitals.damages),
            *(f"the last one of {each.database} at {each.last}" for each in vitals.damages),
            *named,
            remedy="the disk or the memory of the machine is failing: take the newest verified backup to another one,"
            " and restore it there:",
            commands=["stockhelper backup list", "stockhelper restore --latest"],
        )
