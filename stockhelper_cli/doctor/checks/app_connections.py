"""`app.connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Group, ok, warning
from stockhelper_cli.doctor.connections import wanted_connections
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class AppConnections(DatabaseCheck):
    """Compares the connections that the app's workers may open with those that the server allows."""

    id = "app.connections"
    group = Group.APP
    title = "the app's pools fit into the database's connections"
    needs = ("db.connections",)

    def look(self, context: Context, database: Database) -> Finding:
        """Compare them."""
        settings, server = context.settings, context.vitals.settings
        wanted = wanted_connections(context)
        workers = f"{settings.WEB_CONCURRENCY} worker{'' if settings.WEB_CONCURRENCY == 1 else 's'}"
        told = f"{wanted} at most ({workers} × {settings.DB_POOL_SIZE}, and a few) of {server.room}"
        if wanted <= server.room:
            return ok(told)
        return warning(
            f"the app may open more connections than the database allows: {told}",
            "when all are at work, requests fail, and so do backups and migrations that come then",
            remedy="lower WEB_CONCURRENCY or DB_POOL_SIZE in .env, or raise max_connections; then:",
            commands=["stockhelper up"],
        )
