"""`db.migrations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.reconcile import ROLE_MIGRATE
from stockhelper_cli.database.revisions import Position, code_of, compare, read_recorded
from stockhelper_cli.doctor.check import failed, ok, skipped
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.doctor.services import Fault
from stockhelper_cli.migration import refuse_unfit

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbMigrations(DatabaseCheck):
    """Compares the revision that the database is at with those that the image, and the next build of it, brings."""

    id = "db.migrations"
    title = "the database is at the newest migration of the code"
    needs = ("db.password", "db.initialised")
    explains = frozenset({"migration.heads", "migration.ahead", "migration.unknown_revision"})

    def look(self, context: Context, database: Database) -> Finding:
        """Compare them."""
        project = context.project
        service = next((s for s in project.services.values() if s.role == ROLE_MIGRATE), None)
        if service is None:
            return ok("no service of the project migrates")
        if context.services.states[service.name].fault is Fault.EXITED:
            return skipped(f"needs stack.exited: {service.name} failed")
        recorded = read_recorded(project, context.engine, context.state.containers)
        if recorded is None:
            return failed("the database could not be asked for its revision", commands=["stockhelper migrate current"])
        image = context.state.images.get(service.image)
        if service.image in context.needs.builds:
            # The next `up` brings those of the sources; that the image is behind is told of already.
            refuse_unfit(project, recorded, code_of(project, None), service.image)
        code = code_of(project, image)
        refuse_unfit(project, recorded, code, service.image)
        if code is None:
            return ok(f"it is at {recorded}; the image does not say where it leads")
        standing = compare(recorded, code)
        if standing.position is Position.BEHIND:
            pending = ", ".join(standing.pending)
            return failed(
                f"the database is at {recorded}, and the code needs {code}",
                *([f"not applied: {pending}"] if pending else []),
                commands=["stockhelper migrate"],
            )
        return ok(f"it is at {recorded}")
