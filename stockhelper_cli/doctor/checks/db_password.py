"""`db.password`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import failure_of, ok
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class DbPassword(DatabaseCheck):
    """Looks whether the database takes the owner's password as the files have it."""

    id = "db.password"
    title = "the database takes the owner's password of .env"
    needs = ("db.answers",)
    explains = frozenset({"db.password_drift"})
    fixes = "gives the owner the password of .env, in place, as `db set-password` does"

    def look(self, context: Context, database: Database) -> Finding:
        """Look at its answer."""
        refusal = context.owner_answer
        if isinstance(refusal, StockhelperError) and refusal.code == "db.password_drift":
            user = database.credentials.user
            return failure_of(refusal, fix=f"give {user} the password of .env in the database; the data stays")
        return ok(f"{database.credentials.user} may log in")

    def mend(self, context: Context, emit: Emit) -> None:
        """Set it in the database, and replace the containers that know another."""
        from stockhelper_cli import stack
        from stockhelper_cli.credentials import set_password

        set_password(context.load_project, context.engine, None, emit, timeout=stack.DEFAULT_TIMEOUT)
