"""One writer at a time for an engine and project, by a lock of the kernel: whoever dies lets go of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stockhelper_cli.errors import StockhelperError

#: Linux' folder for locks, which all users share, so that root and a member of the docker group exclude each other.
_SHARED_FOLDER: Final = Path("/run/lock")
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock; written into the lock's file for the one who is refused."""

    pid: int
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"`{self.command}`, pid {self.pid} on {self.host}, since {self.since}"


def path_for(engine_id: str, project: str) -> Path:
    """Return the lock's file. Its key is engine and project: two folders may well hold the same stack."""
    if os.access(_SHARED_FOLDER, os.W_OK):
        folder = _SHARED_FOLDER
    else:
        import tempfile

        folder = Path(tempfile.gettempdir())
    key = hashlib.sha256(f"{engine_id}\0{project}".encode()).hexdigest()[:24]
    return folder / f"stockhelper-{key}.lock"


@contextmanager
def exclusive(engine_id: str, project: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a project on an engine.

    Raises `StockhelperError` (locked), naming the holder, if another process holds it still after `wait_seconds`.
    """
    path = path_for(engine_id, project)
    descriptor = _open(path)
    try:
        _acquire(descriptor, project, time.monotonic() + wait_seconds)
        now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        command = " ".join(["stockhelper", *sys.argv[1:]])
        _write(descriptor, json.dumps(asdict(Holder(os.getpid(), os.uname().nodename, now, command))))
        try:
            yield
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the lock's file for everybody, whoever made it."""
    while True:
        try:
            # Without O_CREAT first: in a sticky folder the kernel refuses it on another user's file.
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            os.fchmod(descriptor, 0o666)
            return descriptor


def _acquire(descriptor: int, project: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            raise StockhelperError(
                "locked",
                f"another run is at work on the project {project}",
                cause=_holder(descriptor),
                next=["stockhelper status"],
            ) from error
        return


def _holder(descriptor: int) -> str:
    """Say who holds the lock, as far as its file tells."""
    try:
        return f"held by {Holder(**json.loads(os.pread(descriptor, 4096, 0)))}"
    except (ValueError, TypeError):
        return "held by a process that has only just begun"


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
