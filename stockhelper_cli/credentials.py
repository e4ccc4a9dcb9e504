"""The password of the database's owner, changed where it is kept: in the database, in .env, and in what runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import stack
from stockhelper_cli.backup import service_of_database
from stockhelper_cli.converge.state import observe
from stockhelper_cli.database.psql import Credentials, set_owner_password
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit
from stockhelper_cli.status import running_container

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Engine

#: The key of .env that holds it.
KEY: Final = "POSTGRES_PASSWORD"


@dataclass(frozen=True, slots=True)
class PasswordSet:
    """Whose password was set, whether .env was changed for it, and the services that were restarted."""

    user: str
    updated_env: bool
    restarted: tuple[str, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {"user": self.user, "updated_env": self.updated_env, "restarted": list(self.restarted)}


def set_password(
    load: Callable[[], Project], engine: Engine, new: str | None, emit: Emit, *, timeout: float
) -> PasswordSet:
    """Give the database's owner a password in place; the data stays, and the caller holds the project's lock.

    None sets the one that .env holds; a new one is written to .env first, so that a kill in between leaves what the
    same command without a new one mends. `load` reads the project. Containers that know the former one are replaced.
    Raises `StockhelperError`: usage where .env does not decide, failed where the database does not run, db.refused
    (.env is then as it was), and what `up` raises.
    """
    project = load()
    service = service_of_database(project)
    credentials = Credentials.of(service.environment)
    container = running_container(project, engine, service.name)
    if new is not None:
        _write(project, new)
        credentials = replace(credentials, password=new)
    try:
        set_owner_password(engine, container.id, credentials)
    except StockhelperError:
        if new is not None:
            _write(project, project.environment[KEY])
        raise
    if new is not None:
        project = load()
    state = observe(project, engine)
    present = tuple(name for name in project.services if state.of_service(name))
    options = stack.UpOptions(services=present, build=False, timeout=timeout)
    done = stack.up(project, engine, options, emit).plan
    changed = {action.service for action in done.changes if action.service}
    return PasswordSet(credentials.user, new is not None, tuple(sorted(changed)))


def _write(project: Project, password: str) -> None:
    from stockhelper_cli.machine.init_env import file_that_decides, set_value

    set_value(file_that_decides(project, KEY), KEY, password)
