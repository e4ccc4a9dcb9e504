"""What the services' containers print: one after the other, or as it comes, through restarts and replacements."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from stockhelper_cli.converge.reconcile import selected
from stockhelper_cli.converge.state import project_filter
from stockhelper_cli.errors import NotFound, StockhelperError
from stockhelper_cli.labels import NUMBER, ONEOFF, SERVICE

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Container, Engine, LogStream

#: Seconds between two looks for a container that was started again.
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """One line: who printed it (service, and container by its number), when (as the engine says it), and what."""

    service: str
    number: str
    time: str
    text: str

    @classmethod
    def read(cls, labels: Mapping[str, str], raw: str) -> Line:
        """Take a line apart that begins with the engine's time stamp, of a container with these labels."""
        time, _, text = raw.partition(" ")
        return cls(labels[SERVICE], labels.get(NUMBER, "1"), time, text.rstrip("\r"))


def read_logs(
    project: Project, engine: Engine, services: Sequence[str], *, tail: int | None = None, since: float | None = None
) -> list[Line]:
    """Return what the containers of services (none named: all) have printed, in order of time.

    `tail` limits it to so many last lines of each container, `since` to what came after (seconds of the epoch).
    """

    def read(container: str) -> list[Line]:
        try:
            raw = engine.logs(container, tail=tail, since=since, timestamps=True)
        except NotFound:  # removed since it was listed
            return []
        return [Line.read(labels[container], line) for line in raw]

    if services:
        selected(project, services)
    # What the list says is enough, and to inspect each container would take as long as to read its log.
    labels = {
        container: its
        for container, its in engine.labelled([project_filter(project.name)]).items()
        if _shown(project, services, its)
    }
    with ThreadPoolExecutor(thread_name_prefix="logs") as pool:
        return sorted((line for lines in pool.map(read, labels) for line in lines), key=lambda line: line.time)


def follow_logs(
    project: Project, engine: Engine, services: Sequence[str], *, tail: int | None = None, since: float | None = None
) -> Iterator[Line]:
    """Yield what the containers of services print as it comes, until all of them are removed.

    A container that stops is followed on when it starts again, and its successor when it is replaced.
    """
    if services:
        selected(project, services)
    follower = _Follower(project, engine, services)
    try:
        yield from follower.lines(tail, since)
    finally:
        follower.close()


class _Follower:
    """Reads every container in a thread of its own and looks for new ones."""

    def __init__(self, project: Project, engine: Engine, services: Sequence[str]) -> None:
        self._project = project
        self._engine = engine
        self._services = services
        self._lines: queue.SimpleQueue[Line | BaseException | None] = queue.SimpleQueue()
        self._closed = Flag()
        self._lock = Lock()
        self._streams: dict[str, LogStream] = {}
        #: Container -> the time of its last line: what comes after a restart is not told twice.
        self._last: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._begun: set[str] = set()

    def lines(self, tail: int | None, since: float | None) -> Iterator[Line]:
        Thread(target=self._watch, args=(tail, since), name="logs", daemon=True).start()
        while (line := self._lines.get()) is not None:
            if isinstance(line, BaseException):
                raise line
            yield line

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            for stream in self._streams.values():
                stream.close()

    def _watch(self, tail: int | None, since: float | None) -> None:
        try:
            while not self._closed.is_set():
                containers = [
                    container
                    for container in self._engine.containers([project_filter(self._project.name)])
                    if _shown(self._project, self._services, container.labels)
                ]
                for container in containers:
                    with self._lock:
                        known = container.id in self._streams
                    if known:
                        continue
                    if container.id not in self._begun:
                        self._begin(container, tail, since)
                    elif container.running:
                        # Started again; who has printed nothing before has no last line to go on from.
                        started = container.started_at.timestamp() if container.started_at else None
                        self._begin(container, None, self._last.get(container.id, started))
                if not containers:
                    break
                tail = None  # only of what was there before
                self._closed.wait(_POLL_SECONDS)
        except BaseException as error:  # noqa: BLE001 - raised on in the thread that reads
            self._lines.put(error)
        self._lines.put(None)

    def _begin(self, container: Container, tail: int | None, since: float | None) -> None:
        try:
            stream = self._engine.follow(container.id, tail=tail, since=since)
        except NotFound:
            return
        with self._lock:
            self._streams[container.id] = stream
        self._begun.add(container.id)
        told = self._told.get(container.id, "")
        arguments = (container, stream, told)
        Thread(target=self._read, args=arguments, name=f"logs {container.name}", daemon=True).start()

    def _read(self, container: Container, stream: LogStream, told: str) -> None:
        try:
            for raw in stream:
                line = Line.read(container.labels, raw.decode(errors="replace"))
                # The engine's times have nine digits always: they compare as text, and to the nanosecond.
                if line.time <= told:
                    continue
                self._told[container.id] = line.time
                self._last[container.id] = _seconds(line.time)
                self._lines.put(line)
        except StockhelperError as error:
            if not self._closed.is_set():
                self._lines.put(error)
        finally:
            with self._lock:
                del self._streams[container.id]


def _shown(project: Project, services: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Return whether a container with these labels is one of the services' own, not of a command run once."""
    return labels.get(ONEOFF) != "True" and labels.get(SERVICE) in (services or project.services)


def _seconds(time: str) -> float:
    """Return an RFC 3339 time of the engine as seconds of the epoch."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


def parse_since(text: str, now: float) -> float:
    """Return a moment as seconds of the epoch: an RFC 3339 time, a date, or a span back from now such as 90s or 1h30m.

    Raises `StockhelperError` (usage) for anything else. The forms are those of `docker compose logs --since`.
    """
    from stockhelper_cli.compose.values import parse_duration

    try:
        return now - parse_duration(text) / 1_000_000_000
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError as error:
        raise StockhelperError(
            "usage", f"--since {text}: neither a time such as 2026-01-31T09:30:00 nor a span such as 90s or 1h30m"
        ) from error
