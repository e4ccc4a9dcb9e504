"""`db.volume`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stockhelper_cli.converge.volume import refuse_second_server
from stockhelper_cli.doctor.check import failure_of, ok
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.findings import Status

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbVolume(DatabaseCheck):
    """Looks for other containers that run on the database's volume."""

    id = "db.volume"
    title = "nobody else runs on the database's volume"
    needs = ("engine.answers",)
    explains = frozenset({"db.volume_in_use"})

    def look(self, context: Context, database: Database) -> Finding:
        """Look at who has it mounted."""
        project = context.project
        own = {container.id for container in context.state.of_service(database.service.name)}
        names = [project.volumes[key].name for key in database.service.volumes]
        try:
            for name in names:
                if name in context.state.volumes:
                    refuse_second_server(context.engine, name, own)
        except StockhelperError as error:
            finding = failure_of(error)
            running = database.container is not None and database.container.running
            return replace(finding, status=Status.WARNING) if running else finding
        return ok(", ".join(names) or "it has none")
