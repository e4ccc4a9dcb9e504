"""`db.indexes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbIndexes(DatabaseCheck):
    """Looks for indexes that PostgreSQL keeps up to date but does not use, because building them failed."""

    id = "db.indexes"
    title = "no index is INVALID"
    needs = ("db.connections",)
    explains = frozenset({"migration.failed"})

    def look(self, context: Context, database: Database) -> Finding:
        """Ask for them."""
        names = context.vitals.invalid_indexes
        if not names:
            return ok("none")
        return warning(
            f"INVALID: {', '.join(names)}",
            "no query uses it, a UNIQUE one keeps nothing unique, and the migration that makes it will fail on it",
            remedy="build it again; where that fails, see to the rows that it names, or drop it:",
            commands=[f"stockhelper psql -- -c 'REINDEX INDEX CONCURRENTLY {name}'" for name in names],
        )
