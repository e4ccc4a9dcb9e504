"""Backups as a user asks for them: made, read back, restored into a scratch database and compared, let go.

A backup is a `pg_dump` of one snapshot, made by the server's own version of it and streamed out of the container. It
counts as made only when all of it was read back from the disk, and as verified when what comes out of it is what
went in, row by row. One that is encrypted is no exception: it is encrypted to a key of this run, too, which is nowhere
but in this process; whether the recipients still have theirs is for `verify` with an identity to tell.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import age
from stockhelper_cli.database import backups
from stockhelper_cli.database.backups import Backup, Manifest, Writer
from stockhelper_cli.database.psql import Credentials, database_service
from stockhelper_cli.database.server import Contents, Server, ServerError, Snapshot, collect, feed, identifier
from stockhelper_cli.errors import ConfigError, EngineError, StockhelperError
from stockhelper_cli.events import Emit, Warned, step
from stockhelper_cli.machine.command import run
from stockhelper_cli.status import running_container

if TYPE_CHECKING:
    from stockhelper_cli.age import Identity
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.engine.protocol import Engine

#: How many backups retention keeps: the newest of so many days, and of so many weeks.
KEEP_DAILY: Final = 7
KEEP_WEEKLY: Final = 4
#: What our scratch databases, and the former ones that a restore keeps, have behind their database's name.
_SCRATCH: Final = "__scratch"
_FORMER: Final = "__former_"
#: Where the newest verified backup is told of; one half of the contract with `stockhelper_app`.
_NEWEST: Final = "stockhelper.backed_up"
#: How much of a database's name those names begin with: PostgreSQL cuts at 63 bytes.
_NAME_BYTES: Final = 36
#: What must be free beyond the size of what is restored: PostgreSQL writes it all to its log first.
HEADROOM: Final = 32 * 1024 * 1024
#: Lines of the server's log that say why it gave up.
_GRAVE: Final = re.compile(r"\b(PANIC|FATAL|ERROR):")
#: What the table of contents of a dump says of its origin.
_HEADER: Final = re.compile(r"^;\s+(dbname|Dumped from database version): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made, and how long each part took (seconds): dump, count, read back, and verify if asked."""

    backup: Backup
    seconds: Mapping[str, float]

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {**self.backup.as_json(), "seconds": {name: round(value, 3) for name, value in self.seconds.items()}}


@dataclass(slots=True)
class Stopwatch:
    """How long the parts of something took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Measure a part."""
        began = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - began


def service_of_database(project: Project) -> Service:
    """Return the service that is the database. Raises `StockhelperError` (config.compose) if the project has none."""
    service = database_service(project.services)
    if service is None:
        raise StockhelperError("config.compose", "no service of the project has the role database (x-stockhelper)")
    return service


def server_of(project: Project, engine: Engine) -> tuple[Server, str]:
    """Return the project's running server, and the name of its database.

    Raises `StockhelperError` (failed) if it does not run.
    """
    service = service_of_database(project)
    credentials = Credentials.of(service.environment)
    container = running_container(project, engine, service.name)
    return Server(engine, container.id, credentials.user), credentials.database


def create(project: Project, engine: Engine, emit: Emit, *, cause: str, verify: bool = False) -> Made:
    """Make a backup of the project's database; the caller holds the project's lock.

    Former databases that a restore has kept go when it is made. Raises `StockhelperError`: backup.failed, and what
    verifying raises; then nothing is left of it but, if it was whole, the unverified backup.
    """
    server, database = server_of(project, engine)
    return create_from(project, server, database, emit, cause=cause, verify=verify)


def create_from(
    project: Project, server: Server, database: str, emit: Emit, *, cause: str, verify: bool = False
) -> Made:
    """Make a backup as `create` does, of a server that need not be the project's own container."""
    folder = backups.folder_of(project.root, project.environment)
    recipients = recipients_of(project)
    watch = Stopwatch()
    backups.sweep(folder, project.name)
    now = datetime.now(UTC)
    writer = Writer(folder, project.name, now, recipients)
    try:
        with failing_as("backup.failed", "the backup was not made"):
            clear(server, database)
            size = server.databases()[database]
            with Snapshot(server, database) as snapshot:
                with watch.time("dump"), step("dump", f"database {database}", emit) as under_way:

                    def take(data: bytes) -> None:
                        writer.write(data)
                        under_way.advance(len(data))

                    collect(server.dump(database, snapshot.id), take)
                    written = writer.finish()
                with watch.time("count"), step("count", f"rows of {database}", emit):
                    contents = snapshot.contents()
            manifest = Manifest(
                project=project.name,
                database=database,
                created=now.replace(microsecond=0),
                server_version=server.version(),
                size=writer.size,
                database_size=size,
                sha256=writer.sha256,
                contents=contents,
                roles=tuple(server.roles()),
                cause=cause,
                recipients=recipients,
            )
        with watch.time("read_back"):
            read_whole(server, replace(written, manifest=manifest), database, emit)
        backup = writer.publish(manifest)
    finally:
        writer.discard()
    with failing_as("backup.failed", "a former database was not removed"):
        for name in formers(server, database):
            server.execute(f"DROP DATABASE {identifier(name)} WITH (FORCE)")
    if verify:
        with watch.time("verify"):
            backup = _verify(server, database, backup, emit)
        tell_newest(project, server, database, emit)
    return Made(backup, watch.seconds)


def recipients_of(project: Project) -> tuple[str, ...]:
    """Return the public keys that backups are encrypted to, none for plain ones.

    Raises `ConfigError` (config.value).
    """
    keys = age.split(project.environment.get("BACKUP_RECIPIENTS", ""))
    try:
        for key in keys:
            age.recipient(key)
    except ValueError as error:  # for a command that does not check all of the settings
        raise ConfigError(
            "config.value", f".env: BACKUP_RECIPIENTS {error}", next=["mend BACKUP_RECIPIENTS"]
        ) from error
    if file := project.environment.get("BACKUP_RECIPIENTS_FILE"):
        keys += age.read_recipients(project.root / file)
    return tuple(dict.fromkeys(keys))


def opened(backup: Backup, keys: Sequence[Identity]) -> Backup:
    """Return a backup with the identities to open it. Raises `StockhelperError` (backup.encrypted) if it needs some."""
    if backup.encrypted and not keys:
        raise StockhelperError(
            "backup.encrypted",
            f"{backup.path.name} is encrypted, and no identity was given",
            cause=_told_recipients(backup),
            next=["the same with --identity FILE (-: from stdin)"],
        )
    return replace(backup, keys=tuple(keys))


def check(project: Project, engine: Engine, backup: Backup, emit: Emit) -> Backup:
    """Restore a backup into a scratch database, compare what came out with what had gone in, and mark it verified.

    The caller holds the project's lock. Raises `StockhelperError`: backup.damaged, backup.mismatch, and those of
    `read_whole`; the live database is not touched.
    """
    if backup.manifest is None:
        raise StockhelperError(
            "backup.mismatch",
            f"{backup.path.name} cannot be verified: it has no manifest",
            cause="what should come out of it is not known; it was not made by `stockhelper backup create`",
            next=["stockhelper backup create"],
        )
    server, database = server_of(project, engine)
    with failing_as("backup.failed", f"{backup.path.name} could not be verified"):
        clear(server, database)
    read_whole(server, backup, database, emit)
    backup = _verify(server, database, backup, emit)
    tell_newest(project, server, database, emit)
    return backup


def _verify(server: Server, database: str, backup: Backup, emit: Emit) -> Backup:
    with restored(server, backup, database, emit, verb="verify"):
        pass
    return verified(backup)


def verified(backup: Backup) -> Backup:
    """Note that a backup was restored just now, and that what came out was what had gone in; return it so."""
    return backups.mark_verified(backup, datetime.now(UTC).replace(microsecond=0))


def tell_newest(project: Project, server: Server, database: str, emit: Emit) -> None:
    """Leave with the database when its newest verified backup was made (seconds since 1970): its metrics tell that.

    A setting of the database's own needs no table, and is no part of the data that is compared. What is restored into
    another database has it not: that is told anew. A server that does not take it is no failure of the backup.
    """
    newest = next((backup.manifest for backup in list_backups(project) if backup.manifest and backup.verified), None)
    if newest is None:
        return
    try:
        server.execute(f"ALTER DATABASE {identifier(database)} SET {_NEWEST} = '{newest.created.timestamp():.0f}'")
    except (ServerError, EngineError) as error:
        emit(Warned(f"the metrics will not show that a backup was verified: {error}"))


def copy(project: Project, emit: Emit) -> list[Backup]:
    """Copy every verified backup that was not copied yet, the oldest first, and return them.

    BACKUP_COPY_COMMAND is run by the shell at the project's root, once for the dump and once for its manifest. Without
    it nothing is copied. The caller holds the project's lock. Raises `StockhelperError` (backup.copy).
    """
    command = project.environment.get("BACKUP_COPY_COMMAND")
    waiting = [backup for backup in reversed(list_backups(project)) if backup.verified and not backup.copied]
    copied = []
    for backup in waiting if command else ():
        assert command
        with step("copy", backup.path.name, emit):
            for path in (backup.path, backups.manifest_path(backup.path)):
                _copy(project.root, command, path)
        copied.append(backups.mark_copied(backup, datetime.now(UTC).replace(microsecond=0)))
    return copied


def _copy(root: Path, command: str, path: Path) -> None:
    line = command.replace("{}", shlex.quote(str(path.resolve())))
    finished = run(["sh", "-c", 'cd "$0" && eval "$1"', str(root), line], lambda _: None)
    if finished.exit_code:
        raise StockhelperError(
            "backup.copy",
            f"{path} was not copied away; it is whole, and stays where it is",
            cause=f"BACKUP_COPY_COMMAND ended with exit code {finished.exit_code}",
            details=finished.tail,
            next=["stockhelper backup copy"],
        )


def prune(project: Project, *, daily: int, weekly: int, dry_run: bool) -> list[Backup]:
    """Remove the backups that retention lets go, and return them; the rules are those of `backups.to_prune`."""
    found = backups.find_all(backups.folder_of(project.root, project.environment), project.name)
    gone = backups.to_prune(found, daily=daily, weekly=weekly)
    for backup in () if dry_run else gone:
        backups.remove(backup)
    return gone


def list_backups(project: Project) -> list[Backup]:
    """Return the project's backups, the newest first."""
    return backups.find_all(backups.folder_of(project.root, project.environment), project.name)


def latest(project: Project) -> Backup:
    """Return the project's newest backup. Raises `StockhelperError` (backup.missing) if there is none."""
    found = list_backups(project)
    if not found:
        folder = backups.folder_of(project.root, project.environment)
        raise StockhelperError(
            "backup.missing", f"there is no backup of {project.name} in {folder}", next=["stockhelper backup create"]
        )
    return found[0]


def restore_command(file: Path) -> str:
    """Return what a user types to bring a backup back."""
    command = f"stockhelper restore {shlex.quote(str(file))}"
    return f"{command} --identity FILE" if file.suffix == backups.ENCRYPTED else command


def needed(project: Project, engine: Engine) -> bool:
    """Whether the database holds a row that somebody could miss. Raises `StockhelperError` (backup.failed)."""
    server, database = server_of(project, engine)
    with failing_as("backup.failed", f"the database {database} could not be asked whether it holds rows"):
        if database not in server.databases():
            return False
        with Snapshot(server, database) as snapshot:
            return snapshot.holds_rows()


# --- what restoring needs too
def read_whole(server: Server, backup: Backup, database: str, emit: Emit) -> None:
    """Read a dump from its first byte to its last, and check that it can be restored over this database.

    Raises `StockhelperError`: backup.damaged (empty, cut off, changed), backup.other_database, backup.newer_major.
    """
    name = backup.path.name.removesuffix(".partial")
    if not backup.size:
        raise _damaged(name, "it is empty")
    if backup.manifest is not None and backup.size != backup.manifest.size:
        raise _damaged(name, f"it has {backup.size} bytes, and had {backup.manifest.size} when it was made")
    with step("read", name, emit) as under_way:
        try:
            contents = feed(server.open(["pg_restore", "--list"], stdin=True), plain(backup, lambda _: None))
            _refuse_foreign(name, contents.decode(errors="replace"), server, database)
            # `--list` looks at the beginning only; writing it out as SQL needs all of it.
            command = ["pg_restore", "--file=/dev/null"]
            feed(server.open(command, stdin=True), plain(backup, under_way.advance))
        except ServerError as error:
            if "unsupported version" in str(error):
                raise StockhelperError(
                    "backup.newer_major",
                    f"{name} was made by a newer PostgreSQL than this one ({server.version()})",
                    cause=str(error),
                    next=["set POSTGRES_IMAGE in .env to that version, then: stockhelper db upgrade"],
                ) from error
            raise _damaged(name, str(error)) from error


@contextmanager
def restored(server: Server, backup: Backup, database: str, emit: Emit, *, verb: str) -> Iterator[Contents]:
    """Restore a dump into a scratch database, compare it with its manifest, and keep it while the block lasts.

    Yields what came out. Roles that it grants something to and that are missing here are made, without the right to
    log in. Raises `StockhelperError`: disk.full, restore.failed, backup.mismatch, backup.damaged.
    """
    name, scratch = backup.path.name, scratch_name(database)
    try:
        with step(verb, name, emit) as under_way:
            try:
                contents = _restore(server, backup, scratch, emit, under_way.advance)
            except ServerError as error:
                raise StockhelperError(
                    "restore.failed",
                    f"{name} could not be restored; the database was not touched",
                    cause=str(error),
                    details=[line for line in server.log() if _GRAVE.search(line)],
                    next=["stockhelper logs db"],
                ) from error
            if backup.manifest is not None and (lines := backup.manifest.contents.differences(contents)):
                raise StockhelperError(
                    "backup.mismatch",
                    f"what comes out of {name} is not what went in",
                    cause=lines[0],
                    details=lines,
                    next=["stockhelper backup list"],
                )
        yield contents
    finally:
        try:
            server.execute(f"DROP DATABASE IF EXISTS {identifier(scratch)} WITH (FORCE)")
        except (ServerError, EngineError) as error:
            # Not raised: it must not hide what went wrong before, and whatever comes next removes it.
            emit(Warned(f"the database {scratch} was not removed: {error}"))


def _restore(server: Server, backup: Backup, scratch: str, emit: Emit, advance: Callable[[int], None]) -> Contents:
    _refuse_without_room(server, backup)
    server.execute(
        f"DROP DATABASE IF EXISTS {identifier(scratch)} WITH (FORCE)",
        f"CREATE DATABASE {identifier(scratch)} TEMPLATE template0 OWNER {identifier(server.owner)}",
    )
    for role in sorted(set(backup.manifest.roles if backup.manifest else ()) - set(server.roles())):
        server.execute(f"CREATE ROLE {identifier(role)} NOLOGIN")
        emit(Warned(f"the role {role} was made, without the right to log in: the backup grants it something"))
    command = ["pg_restore", "--exit-on-error", "--no-owner", "--no-password", f"--dbname={scratch}"]
    feed(server.open(command, stdin=True), plain(backup, advance))
    return server.contents(scratch)


def clear(server: Server, database: str) -> None:
    """Remove what a run has left behind in the server that was killed. Raises `ServerError`."""
    server.end_own_sessions()
    server.execute(f"DROP DATABASE IF EXISTS {identifier(scratch_name(database))} WITH (FORCE)")


def scratch_name(database: str) -> str:
    """Return the name of the database that backups are restored into."""
    return _shortened(database) + _SCRATCH


def former_name(database: str, now: datetime) -> str:
    """Return the name that a database gets when a restored one takes its place."""
    return f"{_shortened(database)}{_FORMER}{now:%Y%m%d_%H%M%S}"


def formers(server: Server, database: str) -> list[str]:
    """Return the former databases that restores have kept, the newest first."""
    return sorted((n for n in server.databases() if n.startswith(_shortened(database) + _FORMER)), reverse=True)


@contextmanager
def failing_as(code: str, message: str) -> Iterator[None]:
    """Raise what the server refuses within as a `StockhelperError` of this code."""
    try:
        yield
    except ServerError as error:
        raise StockhelperError(code, message, cause=str(error), next=["stockhelper logs db"]) from error


def plain(backup: Backup, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a dump as pg_restore takes it; `advance` is told how much of its file (bytes) was read.

    Raises `StockhelperError`: backup.damaged, at the latest after the last byte, and backup.identity.
    """
    if not backup.encrypted:
        yield from _checked(backup, advance)
        return
    try:
        yield from age.decrypted(_checked(backup, advance), backup.keys)
    except age.NoKeyFits as error:
        raise StockhelperError(
            "backup.identity",
            f"{backup.path.name} cannot be opened with this identity; the database was not touched",
            cause=_told_recipients(backup),
            next=["age-keygen -y FILE shows whose key it is"],
        ) from error
    except age.Broken as error:
        raise _damaged(backup.path.name, f"it cannot be decrypted: {error}") from error


def _told_recipients(backup: Backup) -> str:
    return f"it is encrypted to {', '.join(backup.manifest.recipients)}" if backup.manifest else "it has no manifest"


def _checked(backup: Backup, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a file; after its last byte, raise `StockhelperError` (backup.damaged) if it is not what was written."""
    digest = hashlib.sha256()
    for piece in backup.pieces():
        yield piece
        digest.update(piece)
        advance(len(piece))
    if backup.manifest is not None and digest.hexdigest() != backup.manifest.sha256:
        raise _damaged(backup.path.name, "its checksum is not that of its manifest")


def _refuse_without_room(server: Server, backup: Backup) -> None:
    """Raise `StockhelperError` (disk.full) where a restored dump would leave the server hardly any room to write."""
    # Of a dump without a manifest only its own size is known, and it is compressed.
    wanted = (backup.manifest.database_size if backup.manifest else backup.size) + HEADROOM
    free = server.free_bytes()
    if free < wanted:
        raise StockhelperError(
            "disk.full",
            f"there is no room to restore {backup.path.name} beside the database",
            cause=f"{free / 1e6:.0f} MB are free where the engine keeps the volume; {wanted / 1e6:.0f} MB are needed",
            next=["docker system df"],
        )


def _refuse_foreign(name: str, listing: str, server: Server, database: str) -> None:
    header = dict(_HEADER.findall(listing))
    origin, version = header.get("dbname", ""), header.get("Dumped from database version", "")
    if origin != database:
        raise StockhelperError(
            "backup.other_database",
            f"{name} is of the database {origin or '(unnamed)'}, not of {database}",
            cause="POSTGRES_DB in .env names the database of this stack",
            next=["stockhelper backup list"],
        )
    mine = server.version()
    if int(version.partition(".")[0] or 0) > int(mine.partition(".")[0]):
        raise StockhelperError(
            "backup.newer_major",
            f"{name} was made by PostgreSQL {version.split()[0]}, which is newer than this one ({mine})",
            next=["set POSTGRES_IMAGE in .env to that version, then: stockhelper db upgrade"],
        )


def _damaged(name: str, cause: str) -> StockhelperError:
    return StockhelperError(
        "backup.damaged",
        f"{name.removesuffix('.partial')} is damaged; the database was not touched",
        cause=cause,
        next=["stockhelper backup list"],
    )


def _shortened(database: str) -> str:
    return database.encode()[:_NAME_BYTES].decode(errors="ignore")
