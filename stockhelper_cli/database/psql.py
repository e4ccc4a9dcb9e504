"""Asking the database inside its container: over TCP and with the password, so that the answer proves both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Service
    from stockhelper_cli.engine.protocol import Engine

_FIELD: Final = "\x1f"
#: Between two looks inside the container whether the server takes connections.
_STEP_SECONDS: Final = 0.04
#: The container's own name, because pg_hba trusts everybody who comes over 127.0.0.1.
_COMMAND: Final = (
    f'host=$(hostname); left=$1; until [ "$left" -le 0 ] || pg_isready -q -h "$host"; do left=$((left - 1));'
    f" sleep {_STEP_SECONDS}; done;"
    ' exec psql -h "$host" -w -X -q -A -t -F "$0" -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -c "$2"'
)
#: A busy machine takes its time to check a password; a server that is not there refuses at once.
_CONNECT_SECONDS: Final = 5
#: For questions about the database that its users must not be kept waiting for, nor the one who asks.
QUESTION_SECONDS: Final = 2
_SET_PASSWORD: Final = r"""printf '%s\n' '\getenv new NEW_PASSWORD' "SET log_statement = 'none';" \
'ALTER ROLE :"USER" PASSWORD :'"'new';" | psql -w -X -q -v ON_ERROR_STOP=1"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks which database."""

    user: str
    password: str
    database: str

    @classmethod
    def of(cls, environment: Mapping[str, str | None]) -> Credentials:
        """Read them from a service's environment, with the official image's defaults for what it leaves out."""
        user = environment.get("POSTGRES_USER") or "postgres"
        return cls(user, environment.get("POSTGRES_PASSWORD") or "", environment.get("POSTGRES_DB") or user)


class NotAnswering(Exception):
    """The database did not answer; the text is what psql said last."""


class QueryFailed(Exception):
    """The database refused a statement. `sqlstate` is the SQL standard's five characters, "" if it gave none."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def query(
    engine: Engine,
    container: str,
    credentials: Credentials,
    sql: str,
    *,
    limit_seconds: int | None = None,
    patience: float = 0.0,
) -> list[list[str]]:
    """Run one statement as this user and return its rows as text.

    With `limit_seconds` the server gives the statement up after so long, for a lock or for what it has to do. For
    about `patience` seconds it is waited for, inside the container, until the server takes connections.

    Raises `NotAnswering` while the server takes no connections, `QueryFailed` when it refuses the statement, and
    `StockhelperError` when it refuses the user (db.password_drift) or has no such database (db.half_initialised).
    """
    result = engine.exec(
        container,
        ["sh", "-c", _COMMAND, _FIELD, str(round(patience / _STEP_SECONDS)), sql],
        environment={
            "PGUSER": credentials.user,
            "PGPASSWORD": credentials.password,
            "PGDATABASE": credentials.database,
            "PGCONNECT_TIMEOUT": str(_CONNECT_SECONDS),
            "LC_ALL": "C",
            **_limits(limit_seconds),
        },
    )
    if result.exit_code == 0:
        return [line.split(_FIELD) for line in result.stdout.decode().splitlines()]
    message = (result.stderr or result.stdout).decode(errors="replace").strip()
    if "password authentication failed" in message:
        raise StockhelperError(
            "db.password_drift",
            f"the database refuses the password of {credentials.user}",
            cause="POSTGRES_PASSWORD differs from the one that the volume was made with: changing it in .env"
            " does not change it in the database",
            next=["stockhelper db set-password"],
        )
    if f'database "{credentials.database}" does not exist' in message or "no pg_hba.conf entry" in message:
        raise StockhelperError(
            "db.half_initialised",
            f"the database {credentials.database} does not exist in the volume, or takes no connections",
            cause="the volume's first start was interrupted, or POSTGRES_DB was changed since",
            next=["stockhelper logs db", "stockhelper doctor"],
        )
    if result.exit_code == 1 or result.exit_code == 3:  # psql's own: a fatal error of its own, a failed script
        sqlstate = re.search(r":\s+([0-9A-Z]{5})$", message)
        raise QueryFailed(message, sqlstate[1] if sqlstate else "")
    raise NotAnswering(message.splitlines()[-1] if message else f"psql exited with {result.exit_code}")


def _limits(seconds: int | None) -> Mapping[str, str]:
    return {} if seconds is None else {"PGOPTIONS": f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s"}


def set_owner_password(engine: Engine, container: str, credentials: Credentials) -> None:
    """Give the user of these credentials their password, over the container's own socket, where no password is asked.

    The password goes through the environment into a psql variable: it is in no command line and in no log.
    Raises `StockhelperError` (db.refused) with what psql said.
    """
    result = engine.exec(
        container,
        ["sh", "-c", _SET_PASSWORD],
        environment={"PGUSER": credentials.user, "PGDATABASE": "postgres", "NEW_PASSWORD": credentials.password},
    )
    if result.exit_code:
        raise StockhelperError(
            "db.refused",
            f"the database did not take the password of {credentials.user}",
            cause=(result.stderr or result.stdout).decode(errors="replace").strip().replace("\n", " "),
            next=["stockhelper logs db"],
        )


def database_service(services: Mapping[str, Service]) -> Service | None:
    """Return the service that plays the database's part, None if there is none."""
    return next((service for service in services.values() if service.role == "database"), None)
