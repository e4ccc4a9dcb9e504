"""`db.collation`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.database.server import identifier
from stockhelper_cli.doctor.check import ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbCollation(DatabaseCheck):
    """Compares the versions of the library that orders text: then, when a database was made, and now.

    A database in the C collation, as the stack makes it, is of no version.
    """

    id = "db.collation"
    title = "text is ordered as it was when the databases were made"
    needs = ("db.connections",)

    def look(self, context: Context, database: Database) -> Finding:
        """Look at each database whose order is a library's."""
        other = context.vitals.collations
        if not other:
            return ok("no database's order has changed")
        names = [each.database for each in other]
        return warning(
            f"the order of text is another one now than that of {', '.join(names)}",
            *(f"{each.database} was made with version {each.made_by}; the server has {each.present}" for each in other),
            "indexes over text may not find what is there, and a UNIQUE one may let the same in twice",
            remedy="build the indexes anew, then have it written down:",
            commands=[
                command
                for name in names
                for command in (
                    f"stockhelper psql -- -d {name} -c 'REINDEX DATABASE {identifier(name)}'",
                    f"stockhelper psql -- -c 'ALTER DATABASE {identifier(name)} REFRESH COLLATION VERSION'",
                )
            ],
        )
