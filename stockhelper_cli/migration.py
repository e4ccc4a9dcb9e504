"""Migrations as a user asks for them: Alembic, in a container of the app's image, on the stack's network.

No database port is published for it, and the code is the one that will run. `upgrade` to the head is what `up` does
for the service that migrates; everything else runs in a one-off container of that service, as `docker compose run`
would make it, which is removed when it ends.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import labels
from stockhelper_cli.compose.create import container_spec
from stockhelper_cli.converge.reconcile import ROLE_DATABASE, ROLE_MIGRATE
from stockhelper_cli.converge.state import ObservedState, observe
from stockhelper_cli.database.revisions import read_revisions, revisions_of_sources
from stockhelper_cli.errors import NotFound, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.engine.protocol import Container, Engine

#: The commands of Alembic that change the schema.
CHANGING: Final = frozenset({"upgrade", "downgrade"})
_SLUG_BYTES: Final = 6
_POLL_SECONDS: Final = 0.025


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """What Alembic did: its arguments, what it printed, and the database's revisions before and after."""

    arguments: tuple[str, ...]
    output: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether the database is at another revision than before."""
        return self.before != self.after

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "arguments": list(self.arguments),
            "changed": self.changed,
            "before": list(self.before),
            "after": list(self.after),
            "output": list(self.output),
            "seconds": round(self.seconds, 3),
        }


def migrate(project: Project, engine: Engine, arguments: Sequence[str], show: Callable[[str], None]) -> MigrateResult:
    """Run Alembic with these arguments; `show` is given each line that it prints, as it comes.

    Raises `StockhelperError`: migration.failed with what Alembic said and where the database really is,
    migration.unknown_revision where the database is at a revision that this code does not have, migration.heads where
    the code has several heads, failed where the database does not run.
    """
    began = time.monotonic()
    service = _with_role(project, ROLE_MIGRATE)
    state = observe(project, engine)
    _require_database(project, state)
    before = _revisions(project, engine, state)
    if arguments[0] in CHANGING:
        refuse_foreign(project, before)
    output: list[str] = []

    def line(text: str) -> None:
        output.append(text)
        show(text)

    code = run_one_off(project, engine, service, state, ["alembic", *arguments], line)
    after = _revisions(project, engine, state)
    if code:
        raise StockhelperError(
            "migration.failed",
            f"alembic {' '.join(arguments)} failed",
            cause=f"exit code {code}; the database is at {', '.join(after) or 'base'}, nothing was downgraded",
            details=output[-50:],
            next=["stockhelper migrate current", "stockhelper logs app"],
        )
    return MigrateResult(tuple(arguments), tuple(output), tuple(before), tuple(after), time.monotonic() - began)


def refuse_foreign(project: Project, revisions: Sequence[str]) -> None:
    """Raise `StockhelperError` where the sources cannot take a database on from these revisions."""
    build = next((service.build for service in project.services.values() if service.build), None)
    if build is None:
        return
    known, heads = revisions_of_sources(build.context / "migrations" / "versions")
    if len(heads) > 1:
        raise StockhelperError(
            "migration.heads",
            f"the migrations have {len(heads)} heads: {', '.join(heads)}",
            cause="two revisions build upon the same one; Alembic would not know which to go to",
            next=["stockhelper migrate history"],
        )
    if unknown := sorted(set(revisions) - known):
        raise StockhelperError(
            "migration.unknown_revision",
            f"the database is at revision {', '.join(unknown)}, which this code does not have",
            cause="it was migrated by a newer or another version of the code",
            next=["git log -- migrations/versions"],
        )


def run_one_off(
    project: Project,
    engine: Engine,
    service: Service,
    state: ObservedState,
    command: Sequence[str],
    show: Callable[[str], None],
) -> int:
    """Run a command in a container of a service's own that is removed when it ends; return its exit code.

    `show` is given each line of its output. Raises `StockhelperError` (image.missing) without the service's image.
    """
    image = engine.image(service.image)
    if image is None:
        raise StockhelperError("image.missing", f"the image {service.image} is not there", next=["stockhelper up"])
    spec = container_spec(project, service, image_id=image.id, api_version=state.api_version)
    slug = secrets.token_hex(_SLUG_BYTES)
    own = {labels.ONEOFF: "True", labels.SLUG: slug}
    kept = {key: value for key, value in spec.body["Labels"].items() if key != labels.NUMBER}
    body = {**spec.body, "Cmd": list(command), "Labels": {**kept, **own}}
    container = engine.create_container(f"{project.name}-{service.name}-run-{slug}", body, spec.platform)
    try:
        engine.start(container)
        for raw in engine.follow(container):
            show(raw.decode(errors="replace").partition(" ")[2])
        while (ended := engine.container(container)).status != "exited":
            time.sleep(_POLL_SECONDS)
        return ended.exit_code
    finally:
        engine.remove_container(container, force=True, volumes=True)


def _with_role(project: Project, role: str) -> Service:
    for service in project.services.values():
        if service.role == role:
            return service
    raise StockhelperError("config.compose", f"no service of the project has the role {role} (x-stockhelper)")


def _require_database(project: Project, state: ObservedState) -> Container:
    service = _with_role(project, ROLE_DATABASE)
    for container in state.of_service(service.name):
        if container.running:
            return container
    raise StockhelperError("failed", f"the service {service.name} does not run", next=["stockhelper up"])


def _revisions(project: Project, engine: Engine, state: ObservedState) -> list[str]:
    """Return where the database is now, sorted; empty before the first migration."""
    try:
        return sorted(read_revisions(project, engine, state.containers) or ())
    except NotFound:
        return []
