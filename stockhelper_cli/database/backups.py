"""The folder of backups: for each a dump as `pg_dump -Fc` wrote it, and beside it what must come out of it again.

    backups/stockhelper-20261124T050852Z.dump      readable by any pg_restore
    backups/stockhelper-20261124T050852Z.json      its manifest
    backups/stockhelper-20261124T050852Z.dump.age  the dump in place of the first, where it is encrypted

A dump that has its name is whole: it is written under another one (`….dump.partial`), which it loses at the very end.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from stockhelper_cli import age
from stockhelper_cli.database.server import Contents, Table
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.age import Identity

SUFFIX: Final = ".dump"
ENCRYPTED: Final = ".age"
_SUFFIXES: Final = (SUFFIX, SUFFIX + ENCRYPTED)
_PARTIAL: Final = ".partial"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_ANY_STAMP: Final = "????????T??????Z"
_SCHEMA: Final = 1
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dump was made of.

    `created` and `verified` are times in UTC, `verified` the last one at which it was restored and compared. `size`
    is the file's and `database_size` the database's, in bytes; `sha256` is the file's. `contents` is what its
    snapshot held. `roles` are those that may own or be granted something in it. `cause` is what it was made for.
    `recipients` are the public keys that it is encrypted to, none for a plain dump. `copied` is when it
    was copied to where BACKUP_COPY_COMMAND brings it.
    """

    project: str
    database: str
    created: datetime
    server_version: str
    size: int
    database_size: int
    sha256: str
    contents: Contents
    roles: tuple[str, ...]
    cause: str
    verified: datetime | None = None
    recipients: tuple[str, ...] = ()
    copied: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as it stands in its file."""
        return {
            "schema": _SCHEMA,
            "project": self.project,
            "database": self.database,
            "created": self.created.isoformat(),
            "cause": self.cause,
            "server_version": self.server_version,
            "revisions": list(self.contents.revisions),
            "size": self.size,
            "database_size": self.database_size,
            "sha256": self.sha256,
            "tables": {name: asdict(table) for name, table in self.contents.tables.items()},
            "roles": list(self.roles),
            "recipients": list(self.recipients),
            "verified": self.verified and self.verified.isoformat(),
            "copied": self.copied and self.copied.isoformat(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Manifest:
        """Read a manifest. Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
        if raw["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {raw['schema']!r}")
        tables = {str(name): Table(int(t["rows"]), str(t["checksum"])) for name, t in raw["tables"].items()}
        return cls(
            project=str(raw["project"]),
            database=str(raw["database"]),
            created=datetime.fromisoformat(raw["created"]),
            server_version=str(raw["server_version"]),
            size=int(raw["size"]),
            database_size=int(raw["database_size"]),
            sha256=str(raw["sha256"]),
            contents=Contents(tuple(map(str, raw["revisions"])), tables),
            roles=tuple(map(str, raw["roles"])),
            cause=str(raw["cause"]),
            verified=datetime.fromisoformat(raw["verified"]) if raw["verified"] else None,
            recipients=tuple(map(str, raw.get("recipients", ()))),
            copied=datetime.fromisoformat(raw["copied"]) if raw.get("copied") else None,
        )


@dataclass(frozen=True, slots=True)
class Backup:
    """A dump and its manifest; None for a dump that was made by something else.

    `keys` are the identities that an encrypted one is to be opened with.
    """

    path: Path
    size: int
    manifest: Manifest | None
    encrypted: bool = False
    keys: tuple[Identity, ...] = field(default=(), repr=False, compare=False)

    @property
    def verified(self) -> bool:
        """Whether it was restored once, and what came out was what had gone in."""
        return self.manifest is not None and self.manifest.verified is not None

    @property
    def copied(self) -> bool:
        """Whether it was copied away."""
        return self.manifest is not None and self.manifest.copied is not None

    @property
    def rows(self) -> int | None:
        """How many rows it holds, None where that is not known."""
        return None if self.manifest is None else sum(table.rows for table in self.manifest.contents.tables.values())

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` shows of it: its manifest without the tables, and where it is."""
        manifest = self.manifest.as_json() if self.manifest else {}
        shown = {key: value for key, value in manifest.items() if key not in ("schema", "tables", "roles")}
        return {
            **shown,
            "file": str(self.path),
            "size": self.size,
            "rows": self.rows,
            "encrypted": self.encrypted,
        }

    def pieces(self) -> Iterator[bytes]:
        """Yield the file from its beginning. Raises `StockhelperError` (backup.damaged) where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                while piece := file.read(_CHUNK_BYTES):
                    yield piece
        except OSError as error:
            raise StockhelperError(
                "backup.damaged", f"{self.path} cannot be read", cause=error.strerror or str(error)
            ) from error


class Writer:
    """A dump in the making. Nothing has its name before `publish`, and nothing is left of it after `discard`.

    With recipients, only what is encrypted to them reaches the disk. A key that is nowhere but in this process is one
    more of them, so that what was written can be read back and restored without any of theirs.
    """

    def __init__(self, folder: Path, project: str, now: datetime, recipients: Sequence[str] = ()) -> None:
        """Raises `StockhelperError` (backup.failed) if the folder cannot be written to."""
        suffix = SUFFIX + ENCRYPTED if recipients else SUFFIX
        self.path = folder / f"{project}-{now.strftime(_STAMP)}{suffix}"
        self._keys = (age.ephemeral(),) if recipients else ()
        self._partial = self.path.with_name(self.path.name + _PARTIAL)
        self.size = 0
        self._digest = hashlib.sha256()
        try:
            _make_folder(folder)
            self._file: BinaryIO = open(  # noqa: SIM115 - it stays open over several calls
                self._partial, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)
            )
        except OSError as error:
            raise _unwritable(self._partial, error) from error
        everybody = [age.recipient(key) for key in (*recipients, *map(age.public_key, self._keys))]
        self._encryption = age.Encryption(everybody, self._store) if recipients else None

    def write(self, data: bytes) -> None:
        """Append to the dump."""
        if self._encryption is not None:
            self._encryption.write(data)
        else:
            self._store(data)

    def _store(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritable(self._partial, error) from error
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> Backup:
        """Bring the dump to the disk, and return what has been written as it can be read from there."""
        if self._encryption is not None:
            self._encryption.close()
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            # What is read next comes from the disk, as far as the kernel lets one say that.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._file.close()
        except OSError as error:
            raise _unwritable(self._partial, error) from error
        return Backup(self._partial, self.size, None, bool(self._keys), self._keys)

    @property
    def sha256(self) -> str:
        """The digest of what was written."""
        return self._digest.hexdigest()

    def publish(self, manifest: Manifest) -> Backup:
        """Write the manifest, and then give the dump its name."""
        try:
            write_manifest(self.path, manifest)
            self._partial.rename(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return Backup(self.path, self.size, manifest, bool(self._keys), self._keys)

    def discard(self) -> None:
        """Remove what is there of it."""
        if self._encryption is not None:
            with suppress(StockhelperError, OSError):
                self._encryption.close()
        with suppress(OSError):  # flushing what does not fit, for one
            self._file.close()
        self._partial.unlink(missing_ok=True)
        if not self.path.exists():
            manifest_path(self.path).unlink(missing_ok=True)


def folder_of(root: Path, environment: Mapping[str, str]) -> Path:
    """Return where a project's backups are: BACKUP_DIR, relative to the project's root."""
    return root / (environment.get("BACKUP_DIR") or "backups")


def manifest_path(dump: Path) -> Path:
    """Return where the manifest of a dump is, encrypted or not."""
    return (dump.with_suffix("") if dump.suffix == ENCRYPTED else dump).with_suffix(".json")


def write_manifest(dump: Path, manifest: Manifest) -> None:
    """Write the manifest of a dump, atomically. Raises `OSError`."""
    path = manifest_path(dump)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(manifest.as_json(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(dump: Path) -> Backup:
    """Return the backup in a file. Raises `StockhelperError`: backup.missing, backup.damaged for a broken manifest."""
    try:
        size = dump.stat().st_size
        if not dump.is_file():
            raise StockhelperError("backup.missing", f"{dump} is not a file", next=["stockhelper backup list"])
        with dump.open("rb") as file:
            encrypted = dump.suffix == ENCRYPTED or file.read(max(map(len, age.MAGIC))).startswith(age.MAGIC)
    except OSError as error:
        raise StockhelperError(
            "backup.missing",
            f"{dump} cannot be read",
            cause=error.strerror or str(error),
            next=["stockhelper backup list"],
        ) from error
    path = manifest_path(dump)
    try:
        return Backup(dump, size, Manifest.from_json(json.loads(path.read_bytes())), encrypted)
    except FileNotFoundError:
        return Backup(dump, size, None, encrypted)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StockhelperError(
            "backup.damaged",
            f"{path} is no manifest of a backup",
            cause=f"{type(error).__name__}: {error}; without the file, the dump counts as one of another program's",
            next=["stockhelper backup list"],
        ) from error


def find_all(folder: Path, project: str) -> list[Backup]:
    """Return the backups of a project that have a manifest, the newest first; other dumps may lie beside them."""
    found = []
    for path in (p for suffix in _SUFFIXES for p in folder.glob(f"{project}-{_ANY_STAMP}{suffix}")):
        with suppress(StockhelperError):  # `read` says what is wrong with it to whoever asks for it by its name
            found.append(read(path))
    own = [backup for backup in found if backup.manifest is not None and backup.manifest.project == project]
    return sorted(own, key=_created, reverse=True)


def sweep(folder: Path, project: str) -> None:
    """Remove what a run has left behind that was killed; the caller holds the project's lock."""
    for partial in (p for suffix in _SUFFIXES for p in folder.glob(f"{project}-{_ANY_STAMP}{suffix}{_PARTIAL}")):
        partial.unlink()
        dump = partial.with_suffix("")
        if not dump.exists():
            manifest_path(dump).unlink(missing_ok=True)


def mark_verified(backup: Backup, now: datetime) -> Backup:
    """Note in its manifest that a backup was restored and compared, and return it so."""
    assert backup.manifest is not None
    return _note(backup, replace(backup.manifest, verified=now))


def mark_copied(backup: Backup, now: datetime) -> Backup:
    """Note in its manifest that a backup was copied away, and return it so."""
    assert backup.manifest is not None
    return _note(backup, replace(backup.manifest, copied=now))


def _note(backup: Backup, manifest: Manifest) -> Backup:
    try:
        write_manifest(backup.path, manifest)
    except OSError as error:
        raise _unwritable(manifest_path(backup.path), error) from error
    return replace(backup, manifest=manifest)


def to_prune(backups: Sequence[Backup], *, daily: int, weekly: int) -> list[Backup]:
    """Return the backups that retention lets go, oldest first.

    Only verified ones count: of each of the last `daily` days and `weekly` ISO weeks that have one, the newest stays,
    and the newest of all stays whatever the numbers. One that was never verified is never let go.
    """
    verified = sorted((b for b in backups if b.verified), key=_created, reverse=True)
    kept = {backup.path for backup in verified[:1]}
    for count, period in ((daily, _day), (weekly, _week)):
        newest: dict[object, Backup] = {}
        for backup in verified:
            newest.setdefault(period(_created(backup).date()), backup)
        kept.update(backup.path for backup in list(newest.values())[:count])
    return [backup for backup in reversed(verified) if backup.path not in kept]


def remove(backup: Backup) -> None:
    """Remove a backup's files, the dump first. Raises `StockhelperError` (backup.failed)."""
    try:
        backup.path.unlink()
        manifest_path(backup.path).unlink(missing_ok=True)
    except OSError as error:
        raise StockhelperError(
            "backup.failed", f"{backup.path} cannot be removed", cause=error.strerror or str(error)
        ) from error


def _created(backup: Backup) -> datetime:
    return backup.manifest.created if backup.manifest else datetime.min.replace(tzinfo=UTC)


def _day(day: date) -> object:
    return day


def _week(day: date) -> object:
    return day.isocalendar()[:2]


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> StockhelperError:
    return StockhelperError(
        "backup.failed",
        f"{path} cannot be written",
        cause=error.strerror or str(error),
        next=["BACKUP_DIR in .env says where backups go"],
    )
