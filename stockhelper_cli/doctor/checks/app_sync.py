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
#: The last run that has ended, the last day that any of them brought, how many have failed since one did not, and for
#: how many days nothing has come from its source; nothing is written for a run that found no day.
_LAST: Final = """
    SELECT outcome, source, to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
        coalesce(error, ''), coalesce((SELECT max(last_day) FROM sync_runs)::text, ''),
        (SELECT count(*) FROM sync_runs WHERE job = 'sync' AND outcome IN ('failed', 'interrupted') AND started_at >
            coalesce((SELECT max(started_at) FROM sync_runs WHERE job = 'sync' AND outcome = 'done'), '-infinity')),
        coalesce((now() AT TIME ZONE 'Asia/Shanghai')::date
            - (SELECT max(last_day) FROM sync_runs WHERE job = 'sync' AND source = last.source), 0)
    FROM sync_runs last WHERE job = 'sync' AND finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""
#: The provider of whom there are bars for each trading day; what is in a folder of CSV files ends when it ends.
_DAILY: Final = "tushare"
#: The longest time from one trading day to the next in years (around the Spring Festival of 2020), in days.
_LONGEST_BREAK: Final = 11


class AppSync(DatabaseCheck):
    """Looks at when the app last fetched bars from its provider, and how that ended."""

    id = "app.sync"
    group = Group.APP
    title = "the last sync of bars ended well, and is not long ago"
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
        outcome, source, when, said, day, failures, days = rows[0]
        until = f"bars until {day}" if day else "no bars yet"
        if outcome != "done":
            often = f"{failures} of them in a row ended so" if int(failures) > 1 else ""
            return warning(
                f"the last sync ({source}, {when}) {'failed' if outcome == 'failed' else 'was broken off'}",
                *filter(None, (said, often)),
                until,
                remedy="what was loaded stays, and the next sync goes on from there; to see it at once:",
                commands=["stockhelper data sync"],
            )
        if source == _DAILY and int(days) > _LONGEST_BREAK and context.settings.SCHEDULER_ENABLED:
            return warning(
                f"no bars have come from {source} for {days} days",
                f"{until}; the exchanges are never closed for so long, and SCHEDULER_ENABLED is true",
                remedy="see what the service says of its schedule, and fetch them now:",
                commands=["stockhelper logs app", "stockhelper data sync"],
            )
        return ok(f"{source}, {when}: {until}")
