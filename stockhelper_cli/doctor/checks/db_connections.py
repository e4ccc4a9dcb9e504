"""`db.connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.database.server import ServerError
from stockhelper_cli.doctor.check import failed, ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: The part of all connections beyond which the next ones may be refused any moment.
_MANY: Final = 0.85


class DbConnections(DatabaseCheck):
    """Counts the connections to the server; it asks what others judge, too, so they need it."""

    id = "db.connections"
    title = "the database has connections left"
    needs = ("db.initialised",)
    explains = frozenset({"service.unhealthy", "migration.failed"})

    def look(self, context: Context, database: Database) -> Finding:
        """Count them, by who has them."""
        try:
            vitals = context.vitals
        except ServerError as error:
            return failed("the database could not be asked how it is", str(error))
        used, room = sum(vitals.users.values()), vitals.settings.room
        holders = ", ".join(f"{user} {count}" for user, count in vitals.users.items())
        if used < _MANY * room:
            return ok(f"{used} of {room} are open" + (f": {holders}" if holders else ""))
        return warning(
            f"{used} of {room} connections are open",
            f"of {holders}; whoever comes when there are none left is refused, the app too",
            remedy="see who has them, and end what nobody needs, or raise max_connections:",
            commands=[
                "stockhelper psql -- -c 'SELECT pid, usename, application_name, client_addr, state, state_change"
                " FROM pg_stat_activity'"
            ],
        )
