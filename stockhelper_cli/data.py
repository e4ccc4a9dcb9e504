"""Bars into the database, as a user asks for them: files of this machine, and the sync at once.

Both run in the app's container, by the image's own code: `stockhelper_app.import_file` and `stockhelper_app.sync`. Each
prints JSON, an object a line, the last of which has the `result`. Neither takes the project's lock, as neither
changes the stack: whatever ends them meanwhile, the database keeps nothing of what was half done.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from stockhelper_cli.converge.reconcile import ROLE_APP
from stockhelper_cli.engine.exchange import exchange
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Event, Phase, Warned, step
from stockhelper_cli.status import running_container

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.events import Emit, Step

#: The name of a file that stands for stdin.
STDIN: Final = Path("-")
#: What follows a file that was read to its end; without it, nothing of the file is loaded.
_END: Final = b"\\.\n"
_PIECE: Final = 1 << 16
_STDOUT: Final = 1
_STDERR: Final = 2
#: How many lines of what the program said besides its JSON are told.
_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not taken: its line in the file, from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: bars loaded, how many of them were new or different, and the rows that were bad.

    A day with a bad row stays what it was (`refused_days`). `bad` has the first of the bad rows, `bad_rows` counts all.
    `error` says why nothing could be read. Days are as in ISO 8601.
    """

    file: str
    rows: int
    changed: int
    days: int
    first_day: str | None
    last_day: str | None
    bad_rows: int
    bad: tuple[BadRow, ...]
    refused_days: tuple[str, ...]
    error: str | None
    bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all of it was loaded."""
        return not (self.error or self.bad_rows)

    def as_json(self) -> Mapping[str, Any]:
        """Return the file's part of `--json`'s result."""
        bad = [{"line": row.line, "reason": row.reason} for row in self.bad]
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("bad", "seconds")}
        return {**plain, "bad": bad, "refused_days": list(self.refused_days), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync brought: days, bars, and how many of those were new or different. Days are as in ISO 8601."""

    source: str
    days: int
    first_day: str | None
    last_day: str | None
    rows: int
    changed: int
    seconds: float

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def import_files(project: Project, engine: Engine, files: Sequence[Path], emit: Emit) -> list[Imported]:
    """Load CSV files of bars, one after the other, each in one transaction, and return what became of each.

    Raises `StockhelperError`: usage for a file that cannot be opened, before any is loaded; failed if the app does not
    run; data.failed if the import itself breaks off.
    """
    for path in files:
        if not path.is_fifo():  # whose writer would be gone when it is opened again
            with _opened(path):
                pass
    container = _app(project, engine)
    return [_import(engine, container, path, emit) for path in files]


def sync(project: Project, engine: Engine, first: dt.date | None, last: dt.date | None, emit: Emit) -> Synced:
    """Run the sync now, for all days from `first` on, else for those that are missing, and return what it brought.

    Raises `StockhelperError`: locked if another one is at work, data.failed, failed if the app does not run.
    """
    command = ["python", "-m", "stockhelper_app.sync"]
    command += ["--from", first.isoformat()] if first else []
    command += ["--to", last.isoformat()] if last else []
    session = engine.open(_app(project, engine), command, tty=False, stdin=False)
    answer = _Answer(lambda said: _tell(said, emit))
    with step("sync", "bars", emit) as under_way:
        code = exchange(session, (), answer.take)
        result = answer.result(code, "the sync")
        if result["outcome"] == "busy":
            raise StockhelperError(
                "locked",
                "another sync is at work",
                cause="the service's schedule has started one, or somebody else has",
                next=["stockhelper logs app --tail 20"],
            )
        if result["outcome"] != "done":
            raise StockhelperError(
                "data.failed",
                f"the sync failed; {result['days']} days were loaded before",
                cause=result["error"] or "",
                next=["stockhelper data sync"],
            )
    kept = {name: result[name] for name in Synced.__slots__ if name != "seconds"}
    return Synced(**kept, seconds=round(under_way.seconds, 3))


def _app(project: Project, engine: Engine) -> str:
    for service in project.services.values():
        if service.role == ROLE_APP:
            return running_container(project, engine, service.name).id
    raise StockhelperError("config.compose", f"no service of the project has the role {ROLE_APP} (x-stockhelper)")


def _import(engine: Engine, container: str, path: Path, emit: Emit) -> Imported:
    name = "stdin" if path == STDIN else path.name
    began = time.monotonic()
    answer = _Answer()
    with _opened(path) as stream, step("import", name, emit, total=_size(path)) as under_way:
        session = engine.open(container, ["python", "-m", "stockhelper_app.import_file", name], tty=False, stdin=True)
        code = exchange(session, _pieces(stream, under_way), answer.take)
        result = answer.result(code, name)
        if result["error"] or (result["bad_rows"] and not result["days"]):
            under_way.outcome = Phase.FAILED
    return Imported(
        **{
            **result,
            "file": name if path == STDIN else str(path),
            "bad": tuple(BadRow(**row) for row in result["bad"]),
            "refused_days": tuple(result["refused_days"]),
            "bytes": under_way.bytes,
            "seconds": time.monotonic() - began,
        }
    )


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file for reading. Raises `StockhelperError` (usage)."""
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except OSError as error:
        raise StockhelperError("usage", f"{path} cannot be read", cause=error.strerror or str(error)) from error


def _size(path: Path) -> int | None:
    """Return how many bytes a file has, None where that is not known before it was read."""
    return path.stat().st_size if path.is_file() else None


def _pieces(stream: BinaryIO, under_way: Step) -> Iterator[bytes]:
    """Yield a file, and after it the mark that it was read to its end."""
    last = b"\n"
    while piece := stream.read(_PIECE):
        yield piece
        under_way.advance(len(piece))
        last = piece[-1:]
    yield _END if last == b"\n" else b"\n" + _END
    under_way.emit(Phase.PROGRESS, "storing")


class _Answer:
    """What a program of the app prints: JSON on stdout, an object a line, and whatever it says on stderr.

    `hear` is given each object but the last, as it comes.
    """

    def __init__(self, hear: Callable[[Mapping[str, Any]], None] = lambda said: None) -> None:
        self._hear = hear
        self._rest = {_STDOUT: b"", _STDERR: b""}
        self._said: deque[str] = deque(maxlen=_TOLD)
        self._result: Mapping[str, Any] | None = None

    def take(self, stream: int, data: bytes) -> None:
        """Take in a piece of the output."""
        *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line) if stream == _STDOUT else None
            except ValueError:
                said = None
            if not isinstance(said, dict):
                self._said.append(line.decode(errors="replace"))
            elif "result" in said:
                self._result = said["result"]
            else:
                self._hear(said)

    def result(self, code: int, what: str) -> Mapping[str, Any]:
        """Return the result. Raises `StockhelperError` (data.failed) if the program ended without one."""
        if self._result is None:
            raise StockhelperError(
                "data.failed",
                f"{what} broke off; nothing of what was under way is kept",
                cause=f"its process in the app's container ended with exit code {code}",
                details=tuple(self._said),
                next=["stockhelper status", "stockhelper logs app"],
            )
        return self._result


def _tell(said: Mapping[str, Any], emit: Emit) -> None:
    """Tell what the sync logs: each batch as a thing done, and its warnings."""
    match said:
        case {"event": "loaded", "last": str(day), "days": int(days), "of": int(of), "rows": int(rows)}:
            emit(Event("load", f"bars up to {day}", Phase.DONE, detail=f"day {days} of {of}, {rows} bars"))
        case {"event": str(event), "level": "warning", **more}:
            reason = more.get("reason") or more.get("error") or ""
            emit(Warned(f"{event}: {reason}" if reason else event))
        case _:
            pass
