"""`app.sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.database.server import ServerError
from stockhelper_cli.doctor.check import Group, failed, ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

_KEPT: Final = "SELECT to_regclass('public.sync_runs') IS NOT NULL"
#: The last run that has ended, and the last day that any of them brought; nothing is written for one that found no day.
_LAST: Final = """
    SELECT outcome, source, to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
        coalesce(error, ''), coalesce((SELECT max(last_day) FROM sync_runs)::text, '')
    FROM sync_runs WHERE job = 'sync' AND finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""


class AppSync(DatabaseCheck):
    """Looks at the last time that the app fetched bars from its provider."""

    id = "app.sync"
    group = Group.APP
    title = "the last sync of bars ended well"
    needs = ("db.initialised", "db.migrations")

    def look(self, context: Context, database: Database) -> Finding:
        """Read how it ended."""
        name = database.credentials.database
        try:
            kept = database.server.rows(_KEPT, database=name) == [["t"]]
            rows = database.server.rows(_LAST, database=name) if kept else []
        except ServerError as error:
            return failed("the database could not be asked for the last sync", str(error))
        if not rows:
            return ok("there was none yet")
        outcome, source, when, said, day = rows[0]
        until = f"bars until {day}" if day else "no bars yet"
        if outcome == "done":
            return ok(f"{source}, {when}: {until}")
        return warning(
            f"the last sync ({source}, {when}) {'failed' if outcome == 'failed' else 'was broken off'}",
            *([said] if said else []),
            until,
            remedy="what was loaded stays, and the next sync goes on from there; to see it at once:",
            commands=["stockhelper data sync"],
        )
