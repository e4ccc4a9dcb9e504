"""Putting a backup in the database's place, so that the live data is at every moment the old or the new, whole.

The dump is read wholly before anything is touched, restored into a new database, compared with its manifest, and
only then put in the place of the live one, by two renames in one transaction. The former database stays under another
name until the next backup is made: `restore --undo` puts it back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import backup as backing
from stockhelper_cli import labels, migration, stack
from stockhelper_cli.converge.reconcile import ROLE_MIGRATE, is_one_shot, selected
from stockhelper_cli.converge.state import observe
from stockhelper_cli.database.server import Server, ServerError, identifier
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Warned, step

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.database.backups import Backup
    from stockhelper_cli.engine.protocol import Container, Engine

#: Seconds between two rounds of ending the sessions that keep a database from being renamed.
_POLL_SECONDS: Final = 0.05
#: How often the swap is tried: PostgreSQL waits 5 s each time for the database's sessions to end.
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Restored:
    """What is live now: where it came from, the revisions it is at, and how the former database is called now.

    `backup` was made of the former database before, None if none was asked for or there was nothing in it. `stopped`
    are services that use the database and do not run: they did not before, or their code wants another revision.
    """

    source: str
    database: str
    former: str | None
    revisions: tuple[str, ...]
    backup: Path | None
    stopped: tuple[str, ...]
    seconds: Mapping[str, float]

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "source": self.source,
            "database": self.database,
            "former": self.former,
            "revisions": list(self.revisions),
            "backup": str(self.backup) if self.backup else None,
            "stopped": list(self.stopped),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def restore(
    project: Project, engine: Engine, source: Backup, emit: Emit, *, backup_first: bool, timeout: float
) -> Restored:
    """Put a backup in the database's place; the caller holds the project's lock.

    A database that does not run is brought up for it. Raises `StockhelperError`: backup.damaged, backup.mismatch,
    backup.other_database, backup.newer_major, backup.failed, restore.failed; the live database is then as it was.
    """
    watch = backing.Stopwatch()
    stack.bring_up_database(project, engine, emit, timeout)
    server, database = backing.server_of(project, engine)
    with backing.failing_as("restore.failed", "the restore could not begin; nothing was touched"):
        backing.clear(server, database)
    with watch.time("read"):
        backing.read_whole(server, source, database, emit)
    made = None
    if backup_first and backing.needed(project, engine):
        with watch.time("backup"):
            made = backing.create(project, engine, emit, cause="before restore").backup.path
    began = time.monotonic()
    with backing.restored(server, source, database, emit, verb="restore") as contents:
        watch.seconds["restore"] = time.monotonic() - began
        revisions, scratch = contents.revisions, backing.scratch_name(database)
        former = _exchange(project, engine, server, database, scratch, revisions, emit, watch, timeout)
    return Restored(str(source.path), database, former, revisions, made, _idle(project, engine), watch.seconds)


def undo(project: Project, engine: Engine, emit: Emit, *, timeout: float) -> Restored:
    """Put the former database back that the last restore has kept; what was live is the former one then.

    Raises `StockhelperError`: backup.missing if none was kept, restore.failed.
    """
    watch = backing.Stopwatch()
    server, database = backing.server_of(project, engine)
    with backing.failing_as("restore.failed", "the restore could not be undone; nothing was touched"):
        backing.clear(server, database)
        kept = backing.formers(server, database)
        if not kept:
            raise StockhelperError(
                "backup.missing",
                f"there is no former database of {database}",
                cause="a restore keeps one, until the next backup is made",
                next=["stockhelper backup list"],
            )
        revisions = server.contents(kept[0]).revisions
    former = _exchange(project, engine, server, database, kept[0], revisions, emit, watch, timeout)
    return Restored(kept[0], database, former, revisions, None, _idle(project, engine), watch.seconds)


def _exchange(
    project: Project,
    engine: Engine,
    server: Server,
    database: str,
    new: str,
    revisions: Sequence[str],
    emit: Emit,
    watch: backing.Stopwatch,
    timeout: float,
) -> str | None:
    """Put a database in the live one's place while nobody uses it; return the former one's name, None without one.

    What was stopped for it runs again afterwards, unless its code wants another revision.
    """
    state = observe(project, engine)
    users = [name for name in _users_of_database(project) if any(c.running for c in state.of_service(name))]
    with watch.time("outage"):
        if users:
            stack.stop(project, engine, users, emit)
        try:
            former = _swap(server, database, new, emit)
        except BaseException:
            if users:
                stack.start(project, engine, users, timeout, emit)
            raise
        backing.tell_newest(project, server, database, emit)
        _repair_role(project, engine, revisions, emit)
        misfits = [name for name in users if not _fits(engine, state.of_service(name)[0], revisions)]
        if misfits:
            where = ", ".join(revisions) or "base"
            emit(Warned(f"{', '.join(misfits)} stays stopped: its code wants another revision than {where}"))
        elif users:
            stack.start(project, engine, users, timeout, emit)
    return former


def _idle(project: Project, engine: Engine) -> tuple[str, ...]:
    """Return the services that use the database and should run, and do not."""
    state = observe(project, engine)
    return tuple(
        name
        for name in _users_of_database(project)
        if not is_one_shot(project, project.services[name]) and not any(c.running for c in state.of_service(name))
    )


def _users_of_database(project: Project) -> list[str]:
    """Return the services that depend on the database, directly or not, dependencies first."""
    database = backing.service_of_database(project).name
    using = {database}
    services = selected(project, ())
    for service in services:
        if any(dependency.service in using for dependency in service.depends_on):
            using.add(service.name)
    return [service.name for service in services if service.name in using - {database}]


def _swap(server: Server, database: str, new: str, emit: Emit) -> str | None:
    """Rename both databases in one transaction, whoever is connected, and return the former one's new name.

    The first rename locks the database, so that no new session can begin, and waits for those that are there; they
    are ended from here meanwhile, also those of a container that is paused.
    """
    maintenance = "template1" if database == "postgres" else "postgres"
    with step("swap", f"database {database}", emit):
        former = None
        renames = [f"ALTER DATABASE {identifier(new)} RENAME TO {identifier(database)}"]
        with backing.failing_as("restore.failed", f"the database {database} was not replaced; it is as it was"):
            if database in server.databases():
                former = backing.former_name(database, datetime.now(UTC))
                renames.insert(0, f"ALTER DATABASE {identifier(database)} RENAME TO {identifier(former)}")
            for attempt in range(_TRIES):
                with ThreadPoolExecutor(1, thread_name_prefix="swap") as pool:
                    renaming = pool.submit(server.execute, *renames, database=maintenance, together=True)
                    while not renaming.done():
                        server.end_sessions(database)
                        server.end_sessions(new)
                        time.sleep(_POLL_SECONDS)
                try:
                    renaming.result()
                    break
                except ServerError as error:
                    if attempt == _TRIES - 1 or "being accessed by other users" not in str(error):
                        raise
    return former


def _repair_role(project: Project, engine: Engine, revisions: Sequence[str], emit: Emit) -> None:
    """Give the application's role its password and rights: those that .env names, not those of the backup's day."""
    service = next((s for s in project.services.values() if s.role == ROLE_MIGRATE), None)
    if service is None or not revisions or engine.image(service.image) is None:
        return
    said: list[str] = []
    with step("repair", "the application's role", emit):
        command = ["alembic", "upgrade", *revisions]
        state = observe(project, engine)
        ended = migration.run_one_off(project, engine, service, state, command, lambda _, line: said.append(line))
    if ended.exit_code:
        why = said[-1] if said else f"exit code {ended.exit_code}"
        emit(Warned(f"the application's role was not repaired ({why}); stockhelper migrate does"))


def _fits(engine: Engine, container: Container, revisions: Sequence[str]) -> bool:
    """Whether the code in a container wants the database to be at these revisions, as far as it says."""
    image = engine.image(container.image_id)
    heads = image.labels.get(labels.MIGRATION_HEADS) if image is not None else None
    return heads is None or sorted(filter(None, heads.split(","))) == sorted(revisions)
