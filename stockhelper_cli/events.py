"""Facts that happen while a command works, as values; `console` is the only place where they become text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

#: How often (seconds) a stream of bytes reports how far it is.
_REPORT_SECONDS: Final = 0.1


class Phase(StrEnum):
    """Where an action stands."""

    BEGIN = "begin"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact: an action on a resource began, went on, was done or failed.

    `verb` is the infinitive ("create", "wait", "build", "pull"), `resource` its object ("container stockhelper-db-1",
    "image python:3.13-slim"). `seconds` is how long the action took, on DONE and FAILED. `detail` is one line of
    evidence (a build step, a cause). `current` and `total` measure progress in bytes or steps where known.
    """

    verb: str
    resource: str
    phase: Phase
    seconds: float | None = None
    detail: str = ""
    current: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that does not stop the command and that the user should know."""

    message: str


Emit: TypeAlias = Callable[[Event | Warned], None]


class Step:
    """An action under way that bytes go through: counts them, and tells of it now and then."""

    def __init__(self, verb: str, resource: str, emit: Emit, total: int | None = None) -> None:
        self.verb, self.resource, self._emit, self._total = verb, resource, emit, total
        self.bytes = 0
        #: How it ends unless an exception does it; FAILED where that is no exception's business.
        self.outcome = Phase.DONE
        self._began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long it has been under way."""
        return time.monotonic() - self._began

    def advance(self, count: int) -> None:
        """Tell that so many more bytes went through."""
        self.bytes += count
        if (now := time.monotonic()) - self._told >= _REPORT_SECONDS:
            self._told = now
            self.emit(Phase.PROGRESS)

    def emit(self, phase: Phase, detail: str = "") -> None:
        """Tell where it stands."""
        total = self._total if phase is Phase.PROGRESS else None
        self._emit(Event(self.verb, self.resource, phase, self.seconds, detail, self.bytes or None, total))


@contextmanager
def step(verb: str, resource: str, emit: Emit, total: int | None = None) -> Iterator[Step]:
    """Tell that an action begins, and how it ends; `total` is how many bytes will go through it, if that is known."""
    action = Step(verb, resource, emit, total)
    action.emit(Phase.BEGIN)
    try:
        yield action
    except BaseException as error:
        action.emit(Phase.FAILED, str(error))
        raise
    action.emit(action.outcome)
