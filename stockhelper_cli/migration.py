"""Migrations as a user asks for them: Alembic, in a container of the app's image, on the stack's network.

No database port is published for it, and the code is the one that will run. What `up` does for the service that
migrates, and what `migrate` does in a one-off container of that service, goes the same way: `Preparation` before,
`Preparation.explain` after a failure. Nothing is ever downgraded by itself.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import backup as backing
from stockhelper_cli import labels
from stockhelper_cli.compose.create import container_spec
from stockhelper_cli.converge.images import ImageRules, assume_heads, build_options, make_images, plan_images
from stockhelper_cli.converge.plan import Plan
from stockhelper_cli.converge.ready import how_it_ended
from stockhelper_cli.converge.reconcile import ROLE_DATABASE, ROLE_MIGRATE, is_one_shot
from stockhelper_cli.converge.state import ObservedState, observe, project_filter
from stockhelper_cli.database import backups
from stockhelper_cli.database.revisions import (
    VERSIONS,
    Code,
    Position,
    Recorded,
    code_of,
    code_of_sources,
    compare,
    read_recorded,
)
from stockhelper_cli.database.server import ServerError
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Warned

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.engine.protocol import Container, Engine

#: Called with the number of a stream (1 or 2) and a line that came out of it.
Show = Callable[[int, str], None]

#: Alembic's commands that change the schema.
CHANGING: Final = frozenset({"upgrade", "downgrade"})
#: Those that only tell; what runs now is good enough to ask.
_TELLING: Final = frozenset({"current", "history"})
_SLUG_BYTES: Final = 6
_POLL_SECONDS: Final = 0.025
#: How many of its last lines an error carries.
_LINES: Final = 50
#: What Alembic says last when it gives up.
_REASON: Final = re.compile(r"FAILED: (.*)")
#: Lets Alembic write a migration where the container can be written to; prints the new file's name, then the file.
_NEW: Final = """
set -eu
sources=$(dirname "$ALEMBIC_CONFIG")
cp -r "$sources" /tmp/migrations
cd /tmp/migrations
alembic -c "$(basename "$ALEMBIC_CONFIG")" revision --autogenerate -m "$0" >&2
for file in versions/*.py; do
    [ -e "$sources/$file" ] || { echo "${file#versions/}"; cat "$file"; }
done
"""


@dataclass(frozen=True, slots=True)
class MigrateOptions:
    """What `migrate` may be told: Alembic's command, and where to go.

    `sql` prints what would be done and does nothing. `backup` is whether one is made before the schema changes.
    """

    command: str = "upgrade"
    revision: str = ""
    sql: bool = False
    backup: bool = True


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """What Alembic did: its arguments, what it printed, and the database's revisions before and after.

    `output` is what was asked for (stdout), `messages` what was said besides. Both revisions are None for a database
    that does not run, where none was needed. `backup` was made before, None if none was needed or wanted.
    """

    arguments: tuple[str, ...]
    output: tuple[str, ...]
    messages: tuple[str, ...]
    before: Recorded | None
    after: Recorded | None
    backup: Path | None
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
            "before": _sorted(self.before),
            "after": _sorted(self.after),
            "backup": str(self.backup) if self.backup else None,
            "output": list(self.output),
            "messages": list(self.messages),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class NewMigration:
    """A migration that was written: its file and revision, whether it changes anything, and what Alembic said."""

    path: Path
    revision: str
    changes: bool
    messages: tuple[str, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "file": str(self.path),
            "revision": self.revision,
            "changes": self.changes,
            "messages": list(self.messages),
        }


def _sorted(recorded: Recorded | None) -> list[str] | None:
    return None if recorded is None else sorted(recorded.at)


@dataclass(slots=True)
class Preparation:
    """What is done before a migration is applied, so that nothing is lost by it, and told after one that failed.

    `again` is the command that does the same without a backup. `backup` is the one that was made.
    """

    project: Project
    engine: Engine
    backup_first: bool
    again: str
    backup: Path | None = None

    def __call__(self, emit: Emit) -> None:
        """Check that the image's migrations can take the running database on, and prepare it for them.

        Raises `StockhelperError`: what `refuse_unfit` and `secure` raise, db.password_drift, db.half_initialised.
        """
        service = _with_role(self.project, ROLE_MIGRATE)
        containers = self.engine.containers([project_filter(self.project.name)])
        recorded = read_recorded(self.project, self.engine, containers)
        code = code_of(self.project, self.engine.image(service.image))
        refuse_unfit(self.project, recorded, code, service.image)
        if recorded is None or code is None or compare(recorded, code).position is not Position.HEAD:
            self.secure(emit, "before migrating")

    def secure(self, emit: Emit, cause: str) -> None:
        """See to it that there is room, and a verified backup of every row.

        Raises `StockhelperError`: disk.full, and what making and verifying a backup raises.
        """
        server, _ = backing.server_of(self.project, self.engine)
        with backing.failing_as("migration.failed", "the database could not be asked how much room it has"):
            free = server.free_bytes()
        if free < backing.HEADROOM:
            raise StockhelperError(
                "disk.full",
                "there is no room to migrate the database",
                cause=f"{free / 1e6:.0f} MB are free where the engine keeps the volume;"
                f" {backing.HEADROOM / 1e6:.0f} MB are the least that PostgreSQL needs to write its log",
                next=["docker system df"],
            )
        if not self.backup_first or not backing.needed(self.project, self.engine):
            return
        try:
            self.backup = backing.create(self.project, self.engine, emit, cause=cause, verify=True).backup.path
        except StockhelperError as error:
            error.next = (*error.next, self.again)
            raise

    def abandon(self) -> None:
        """Remove what there is of a backup that nobody waits for any more; the thread that makes it may hang.

        The caller holds the project's lock, so it is nobody else's.
        """
        backups.sweep(backups.folder_of(self.project.root, self.project.environment), self.project.name)

    def explain(self, error: StockhelperError) -> None:
        """Add to a migration's failure where the database really is, what still runs, and how the data comes back.

        What cannot be found out is left out: the failure itself is what matters.
        """
        error.cause = _reason(error.details) or error.cause
        try:
            state = observe(self.project, self.engine, revisions=True)
            facts = [_whereabouts(state.recorded), *self._invalid_indexes(), _still_running(self.project, state)]
        except StockhelperError as further:
            facts = [f"where the database is could not be asked: {further.message}"]
        error.message = f"{error.message}; {facts[0]}, nothing was downgraded"
        error.details = (*error.details, *facts[1:])
        if self.backup is not None:
            error.next = (*error.next, backing.restore_command(self.backup))

    def _invalid_indexes(self) -> Iterator[str]:
        server, database = backing.server_of(self.project, self.engine)
        try:
            names = server.invalid_indexes(database)
        except ServerError as error:
            yield f"its indexes could not be looked at: {error}"
            return
        for name in names:
            yield f"the index {name} is INVALID: DROP INDEX {name} before the migration is tried again"


def _whereabouts(recorded: Recorded | None) -> str:
    return "the database cannot be asked where it is" if recorded is None else f"the database is at {recorded}"


def _still_running(project: Project, state: ObservedState) -> str:
    """Say which services serve, and which do not."""
    services = [service.name for service in project.services.values() if not is_one_shot(project, service)]
    running = [name for name in services if any(container.running for container in state.of_service(name))]
    stopped = [name for name in services if name not in running]
    return f"running: {', '.join(running) or 'nothing'}" + (f"; not running: {', '.join(stopped)}" if stopped else "")


def refuse_unfit(project: Project, recorded: Recorded | None, code: Code | None, image: str) -> None:
    """Raise `StockhelperError` where a version of the code cannot take the database on from where it is.

    migration.heads where the code has several heads; migration.ahead where a newer version of it has migrated the
    database already; migration.unknown_revision where another one has. None is what could not be asked.
    """
    if code is None:
        return
    found = compare(recorded or Recorded(), code)
    strange = ", ".join(found.strange)
    if found.position is Position.SEVERAL_HEADS:
        raise StockhelperError(
            "migration.heads",
            f"the migrations have {len(code.heads)} heads: {', '.join(code.heads)}",
            cause="two revisions build upon the same one; Alembic would not know which to go to",
            next=["in migrations/versions set down_revision of one of them to the other one"],
        )
    sources = code_of(project, None)
    if strange and sources is not None and set(found.strange) <= set(sources.parents or ()):
        raise StockhelperError(
            "migration.ahead",
            f"the database is ahead of the image: it is at {found.recorded}, and {image} leads to {code}",
            cause="the image is older than the sources, which have what was applied",
            next=["stockhelper build"],
        )
    if found.position is Position.AHEAD:
        raise StockhelperError(
            "migration.ahead",
            f"the database is ahead of the code: it is at {found.recorded}, and the code leads to {code}",
            cause="a newer version of the code has migrated it, and only that one knows how to go back",
            next=[
                f"with the newer code: stockhelper migrate downgrade {code}",
                "with this code as it is: stockhelper up --no-migrate",
            ],
        )
    if found.position is Position.UNKNOWN:
        raise StockhelperError(
            "migration.unknown_revision",
            f"the database is at revision {strange}, which this code does not have",
            cause="another line of the code has migrated it, or its migration was removed",
            next=["git log --all -- migrations/versions"],
        )


def migrate(project: Project, engine: Engine, options: MigrateOptions, emit: Emit, show: Show) -> MigrateResult:
    """Run one of Alembic's commands; `show` is given each line that it prints, as it comes.

    The caller holds the project's lock for all but what only tells. The image is built first where its sources
    changed. Raises `StockhelperError`: what `Preparation` raises; migration.failed with what Alembic said and where
    the database really is; migration.difference where a check finds one; failed where the database does not run.
    """
    began = time.monotonic()
    service = _with_role(project, ROLE_MIGRATE)
    state = observe(project, engine, revisions=True)
    offline = options.sql or options.command == "history"
    if not offline:
        _require_database(project, state)
    changing = options.command in CHANGING and not options.sql
    told = {"build": options.command not in _TELLING, "fit": options.command != "history"}
    state = _with_image(project, engine, service, state, emit, **told)
    code = code_of(project, state.images.get(service.image))
    again = " ".join(filter(None, ["stockhelper migrate", options.command, options.revision, "--no-backup"]))
    preparation = Preparation(project, engine, backup_first=options.backup, again=again)
    if changing and _changes_something(options, state.recorded, code):
        preparation.secure(emit, f"before migrate {options.command}")

    arguments = _arguments(options, state.recorded)
    output: list[str] = []
    messages: list[str] = []

    def line(stream: int, text: str) -> None:
        # What changes the schema has no other result than where it is then.
        (output if stream == 1 and not changing else messages).append(text)
        show(stream, text)

    ended = run_one_off(project, engine, service, state, ["alembic", *arguments], line, offline=offline)
    after = read_recorded(project, engine, state.containers) if changing else state.recorded
    if ended.exit_code:
        raise _failure(options, ended, preparation, [*output, *messages])
    return MigrateResult(
        tuple(arguments),
        tuple(output),
        tuple(messages),
        state.recorded,
        after,
        preparation.backup,
        time.monotonic() - began,
    )


def _arguments(options: MigrateOptions, recorded: Recorded | None) -> list[str]:
    """Return Alembic's words; SQL is written from where the database is, where it can be asked."""
    if options.command not in CHANGING:
        return [options.command]
    revision = options.revision or "head"
    if not options.sql:
        return [options.command, revision]
    if recorded is not None and len(recorded.at) == 1 and ":" not in revision:
        revision = f"{recorded}:{revision}"
    return [options.command, revision, "--sql"]


def _changes_something(options: MigrateOptions, recorded: Recorded | None, code: Code | None) -> bool:
    """Whether the schema will change, as far as that can be told without asking Alembic."""
    if options.command == "downgrade" or recorded is None or code is None:
        return True
    wanted = code.heads if options.revision in ("", "head", "heads") else (options.revision,)
    known = code.until(wanted)
    return not known.issuperset(wanted) or bool(known - code.until(recorded.at))


def _failure(
    options: MigrateOptions, ended: Container, preparation: Preparation, lines: Sequence[str]
) -> StockhelperError:
    differs = options.command == "check" and any(line.startswith("INFO Detected") for line in lines)
    error = StockhelperError(
        "migration.difference" if differs else "migration.failed",
        "the models and the database differ" if differs else f"migrate {options.command} failed",
        cause=how_it_ended(ended),
        details=lines[-_LINES:],
        next=["stockhelper migrate new -m MESSAGE"] if differs else ["stockhelper migrate current"],
    )
    if options.command in CHANGING and not options.sql:
        preparation.explain(error)
    else:
        error.cause = _reason(lines) or error.cause
    return error


def new_migration(project: Project, engine: Engine, message: str, emit: Emit, show: Show) -> NewMigration:
    """Write a migration that takes the database to what the models are; Alembic works out what differs.

    The file comes out of the container as text, and belongs to whoever the folder of migrations belongs to. The caller
    holds the project's lock; the image is built first where its sources changed. `show` is given what Alembic says.
    Raises `StockhelperError`: failed where the database does not run or the file cannot be written, config.compose
    where the project does not build its image, migration.failed with what Alembic said, and those of `refuse_unfit`.
    """
    service = _with_role(project, ROLE_MIGRATE)
    state = observe(project, engine, revisions=True)
    _require_database(project, state)
    builds = (s.build for s in project.services.values() if s.image == service.image)
    build = next(filter(None, builds), None)
    if build is None:
        raise StockhelperError(
            "config.compose",
            "the project has no folder of migrations",
            cause=f"no service builds the image {service.image}; a new migration belongs to the sources it is built of",
        )
    state = _with_image(project, engine, service, state, emit)
    written: list[str] = []
    said: list[str] = []

    def line(stream: int, text: str) -> None:
        (written if stream == 1 else said).append(text)
        if stream != 1:
            show(stream, text)

    ended = run_one_off(project, engine, service, state, ["sh", "-c", _NEW, message], line)
    if ended.exit_code or not written:
        raise StockhelperError(
            "migration.failed",
            "no migration was written",
            cause=_reason(said) or how_it_ended(ended),
            details=said[-_LINES:],
            next=["stockhelper migrate"],
        )
    name, *lines = written
    path = build.context / VERSIONS / Path(name).name
    _write(path, "\n".join([*lines, ""]))
    changes = any(line.startswith("INFO Detected") for line in said)
    return NewMigration(path, code_of_sources(path.parent).heads[-1], changes, tuple(said))


def _write(path: Path, text: str) -> None:
    """Write a new file that belongs to whoever its folder belongs to. Raises `StockhelperError` (failed)."""
    folder = path.parent.stat()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        if (folder.st_uid, folder.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(path, folder.st_uid, folder.st_gid)
    except OSError as error:
        raise StockhelperError(
            "failed", f"{path} cannot be written", cause=error.strerror or str(error), details=text.splitlines()
        ) from error


def _reason(lines: Sequence[str]) -> str:
    """Return what Alembic said last of why it gave up, "" if it did not say."""
    found = (_REASON.match(line) for line in reversed(lines))
    return next((match[1] for match in found if match), "")


def _with_image(
    project: Project,
    engine: Engine,
    service: Service,
    state: ObservedState,
    emit: Emit,
    *,
    build: bool = True,
    fit: bool = True,
) -> ObservedState:
    """Return the state with an image of the present sources; without `build` with the one that is there.

    With `fit`, what cannot take the database on is refused before anything is built.
    """
    builds = build_options(project, engine, [service])
    plan, warnings = plan_images([service], state, builds, ImageRules())
    for warning in warnings:
        emit(Warned(warning))
    image = state.images.get(service.image)
    if plan and image is not None and not build:
        emit(Warned(f"the image {service.image} is older than the sources; stockhelper build makes it anew"))
        plan = Plan()
    if fit:
        refuse_unfit(project, state.recorded, code_of(project, None if plan else image), service.image)
    return assume_heads(make_images(project, engine, state, plan, builds, emit), builds)


def run_one_off(
    project: Project,
    engine: Engine,
    service: Service,
    state: ObservedState,
    command: Sequence[str],
    show: Show,
    *,
    offline: bool = False,
) -> Container:
    """Run a command in a container of a service's own that is removed when it ends; return how it was at its end.

    `show` is given each line of its output. `offline` is without a network. Raises `StockhelperError` (image.missing)
    without the service's image.
    """
    image = engine.image(service.image)
    if image is None:
        raise StockhelperError("image.missing", f"the image {service.image} is not there", next=["stockhelper up"])
    spec = container_spec(project, service, image_id=image.id, api_version=state.api_version)
    slug = secrets.token_hex(_SLUG_BYTES)
    own = {labels.ONEOFF: "True", labels.SLUG: slug, labels.TEMPORARY: service.name}
    kept = {key: value for key, value in spec.body["Labels"].items() if key != labels.NUMBER}
    body = {**spec.body, "Cmd": list(command), "Labels": {**kept, **own}}
    if offline:
        body["HostConfig"] = {**body["HostConfig"], "NetworkMode": "none"}
        body.pop("NetworkingConfig", None)
    container = engine.create_container(f"{project.name}-{service.name}-run-{slug}", body, spec.platform)
    try:
        for network, endpoint in ({} if offline else spec.extra_networks).items():
            engine.connect(network, container, endpoint)
        output = engine.attach(container)
        engine.start(container)
        rest = {1: b"", 2: b""}
        for stream, data in output:
            *lines, rest[stream] = (rest[stream] + data).split(b"\n")
            for line in lines:
                show(stream, line.decode(errors="replace"))
        for stream, left in rest.items():
            if left:
                show(stream, left.decode(errors="replace"))
        while (ended := engine.container(container)).alive:
            time.sleep(_POLL_SECONDS)
        return ended
    finally:
        engine.remove_container(container, force=True, volumes=True)


def _with_role(project: Project, role: str) -> Service:
    for service in project.services.values():
        if service.role == role:
            return service
    raise StockhelperError("config.compose", f"no service of the project has the role {role} (x-stockhelper)")


def _require_database(project: Project, state: ObservedState) -> None:
    service = _with_role(project, ROLE_DATABASE)
    if not any(container.running for container in state.of_service(service.name)):
        raise StockhelperError("failed", f"the service {service.name} does not run", next=["stockhelper up"])
