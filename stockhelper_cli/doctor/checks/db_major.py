"""`db.major`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stockhelper_cli.converge.volume import read_data_directory, refuse_other_major
from stockhelper_cli.doctor.check import failure_of, ok, skipped
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.findings import Status

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbMajor(DatabaseCheck):
    """Compares the version of the files in the volume with the image's; only through a container that is there."""

    id = "db.major"
    title = "the database's image reads the files of its volume"
    needs = ("engine.answers",)
    explains = frozenset({"db.other_major"})

    def look(self, context: Context, database: Database) -> Finding:
        """Read it."""
        service, container = database.service, database.container
        image = context.state.images.get(service.image)
        if container is None or image is None:
            return skipped("there is no container by which to look; up looks before it starts anything")
        found = read_data_directory(context.engine, container.id, service, image)
        if found is None:
            return ok("nothing is in it yet")
        volume = next((mount.name for mount in container.mounts if mount.name), container.name)
        try:
            refuse_other_major(found, service, image, volume)
        except StockhelperError as error:
            finding = failure_of(error)
            # The server that runs is the one that made them; it is the next one that could not.
            return replace(finding, status=Status.WARNING) if container.running else finding
        return ok(f"PostgreSQL {found.major}")
