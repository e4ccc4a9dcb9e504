"""`db.app_login`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.database.psql import Credentials
from stockhelper_cli.doctor.check import failed, ok, skipped
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.doctor.services import Fault

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class DbAppLogin(DatabaseCheck):
    """Logs in with the user, the password and the database that the running app has."""

    id = "db.app_login"
    title = "the database lets the app in"
    needs = ("db.answers", "db.initialised")
    explains = frozenset({"service.unhealthy"})
    fixes = "migrates to the newest revision, which gives the app's role its rights and password"

    def look(self, context: Context, database: Database) -> Finding:
        """Log in, at the app's side of the server: over TCP."""
        app = context.app
        if app is None:
            return ok("no service of the project is an app")
        if app.container is None or app.fault is not Fault.NONE:
            return skipped("the app does not run")
        environment = dict(entry.partition("=")[::2] for entry in app.container.settings.get("Env") or ())
        host = environment.get("POSTGRES_HOST", database.service.name)
        if host not in (database.service.name, database.service.container_name):
            return ok(f"the app uses the database at {host}")
        credentials = Credentials.of(environment)
        refusal = database.answer(credentials)
        if refusal is None:
            return ok(f"{credentials.user} may log in")
        return failed(
            f"the database does not let the app in as {credentials.user}",
            f"it refuses the password of {credentials.user}, or has no such role"
            if getattr(refusal, "code", "") == "db.password_drift"
            else str(refusal),
            commands=["stockhelper migrate"],
            fix="migrate to the newest revision, which gives the app's role its rights and password",
        )

    def mend(self, context: Context, emit: Emit) -> None:
        """Migrate, and bring up what has other settings than the files say."""
        from stockhelper_cli import stack
        from stockhelper_cli.migration import MigrateOptions, migrate

        project = context.load_project()
        migrate(project, context.engine, MigrateOptions(), emit, lambda stream, text: None)
        stack.up(project, context.engine, stack.UpOptions(), emit)
