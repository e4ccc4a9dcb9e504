"""What the checks of the database have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockhelper_cli.database.psql import Credentials, NotAnswering, QueryFailed, database_service, query
from stockhelper_cli.database.server import Server
from stockhelper_cli.doctor.check import Check, Group, ok
from stockhelper_cli.errors import Conflict, NotFound, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import Container, Engine
    from stockhelper_cli.findings import Finding


@dataclass(frozen=True, slots=True)
class Database:
    """The service that is the database, its container if there is one, and how its owner asks."""

    service: Service
    container: Container | None
    engine: Engine

    @property
    def credentials(self) -> Credentials:
        """The owner's, as the files have them."""
        return Credentials.of(self.service.environment)

    @property
    def running(self) -> Container:
        """Its running container; there is one where `db.answers` has not been skipped."""
        assert self.container is not None
        return self.container

    @property
    def server(self) -> Server:
        """The server, as its owner reaches it without a password."""
        return Server(self.engine, self.running.id, self.credentials.user)

    def answer(self, credentials: Credentials) -> Exception | None:
        """Ask as one of its users; return None for an answer, else what stood against it.

        That is `NotAnswering`, `QueryFailed`, or a `StockhelperError` with the code db.password_drift or
        db.half_initialised.
        """
        try:
            query(self.engine, self.running.id, credentials, "SELECT 1")
        except (NotFound, Conflict) as error:
            return NotAnswering(error.cause or error.message)
        except (NotAnswering, QueryFailed) as error:
            return error
        except StockhelperError as error:
            if not error.code.startswith("db."):
                raise
            return error
        return None


def database_of(project: Project, engine: Engine, state: ObservedState) -> Database | None:
    """Return the project's database, None if no service of it is one."""
    service = database_service(project.services)
    if service is None:
        return None
    return Database(service, next(iter(state.of_service(service.name)), None), engine)


class DatabaseCheck(Check):
    """A check of the database: all is well where the project has none."""

    group = Group.DATABASE

    def examine(self, context: Context) -> Finding:
        """Look at the database, if the project has one."""
        database = context.database
        return ok("no service of the project is a database") if database is None else self.look(context, database)

    @abstractmethod
    def look(self, context: Context, database: Database) -> Finding:
        """Look at it; with `db.answers` among the needs it runs, and has answered."""
