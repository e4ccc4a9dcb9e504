"""`db.answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import failed, ok, skipped
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.doctor.services import Fault, last_lines
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding


class DbAnswers(DatabaseCheck):
    """Asks the database as its owner, over TCP; that it refuses the owner is an answer too."""

    id = "db.answers"
    title = "the database answers"
    needs = ("engine.answers",)
    # A server that hangs is given up by psql after two seconds an attempt, and there may be two.
    seconds = 10.0
    explains = frozenset({"service.unhealthy"})

    def look(self, context: Context, database: Database) -> Finding:
        """Ask it, if it runs: that it does not is told of as of every service."""
        container, state = database.container, context.services.states[database.service.name]
        if container is None or state.fault is not Fault.NONE:
            return skipped("the database does not run")
        refusal = context.owner_answer
        if refusal is None or isinstance(refusal, StockhelperError):
            return ok(f"PostgreSQL in {container.name}")
        name = database.service.name
        probe = [f"its health check said: {container.health.last_output}"] if container.health else []
        return failed(
            f"{name} runs and does not answer: {refusal}",
            *probe,
            *last_lines(context.engine, state),
            commands=[f"stockhelper logs {name}", f"stockhelper restart {name}"],
        )
