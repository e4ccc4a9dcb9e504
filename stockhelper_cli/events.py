"""Facts that happen while a command works, as values; `console` is the only place where they become text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


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
