"""`db.initialised`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.volume import holds_nothing
from stockhelper_cli.database.server import ServerError
from stockhelper_cli.doctor.check import failed, ok
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class DbInitialised(DatabaseCheck):
    """Looks whether the server has the database that the files name, and lets its owner in.

    A first start that was killed half-way leaves a server that runs without it.
    """

    id = "db.initialised"
    title = "the database's first start came to its end"
    needs = ("db.answers",)
    explains = frozenset({"db.half_initialised"})
    fixes = "begins its first start anew, only where the volume holds no table, as `up` does"
    mends_by_up = True

    def look(self, context: Context, database: Database) -> Finding:
        """Look at its answer; while it refuses the password, ask without one."""
        name = database.credentials.database
        refusal = context.owner_answer
        half = isinstance(refusal, StockhelperError) and refusal.code == "db.half_initialised"
        if isinstance(refusal, StockhelperError) and not half:
            try:
                half = name not in database.server.databases()
            except ServerError as error:
                return failed("the database refuses its owner", str(error), commands=["stockhelper logs db"])
        if not half:
            return ok(f"{name} is there")
        volume = holds_nothing(context.project, context.engine, context.state)
        cause = "the volume's first start was interrupted, or POSTGRES_DB was changed since"
        summary = f"the database {name} does not exist in the volume, or takes no connections"
        if volume:
            return failed(
                summary,
                cause,
                f"no database in {volume} holds a table",
                commands=["stockhelper up"],
                fix=f"remove the volume {volume}, which holds no table, and begin its first start anew",
            )
        return failed(
            f"the server has no database {name} that takes connections, but tables in others: nothing is removed",
            cause,
            f"there are {', '.join(sorted(database.server.databases()))}",
            remedy="set POSTGRES_DB in .env to the database that is there, or restore a backup",
            commands=["stockhelper psql -- -d postgres -l", "stockhelper restore --latest"],
        )

    def mend(self, context: Context, emit: Emit) -> None:
        """Let `up` do it, which looks once more whether there is a table."""
        from stockhelper_cli import stack

        stack.up(context.load_project(), context.engine, stack.UpOptions(), emit)
