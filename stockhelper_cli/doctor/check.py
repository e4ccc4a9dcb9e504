"""What a check is: it looks at one thing, changes nothing, and says how it found it.

A new check is a file in `checks/` with one subclass of `Check`, and a row in the README's table. An example:

    class AppAnswers(Check):
        id = "app.answers"
        group = Group.APP
        title = "the service answers"
        needs = ("engine.answers",)
        explains = frozenset({"service.unhealthy"})

        def examine(self, context: Context) -> Finding:
            ...
            return failed("the service does not answer", "no route to host", commands=["stockhelper logs app"])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from stockhelper_cli.errors import ExitCode, StockhelperError
from stockhelper_cli.findings import Finding, Status

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit


class Group(StrEnum):
    """What a check is about, in the order in which they are shown."""

    ENGINE = "Engine"
    NETWORK = "Network"
    IMAGES = "Images"
    CONFIGURATION = "Configuration"
    STACK = "Stack"
    DATABASE = "Database"
    APP = "App"


class Check(ABC):
    """One thing that is looked at.

    `id` never changes once it was released; `title` says what is well when it is. `needs` are ids of checks that must
    not have failed before this one makes sense. `seconds` is how long `examine` may take before it counts as failed.
    `explains` are the codes of errors (`errors.ERROR_CODES`) that this check may show the cause of. `fixes` says what
    `--fix` does, "" where there is nothing that it could; `mends_by_up` whether that is an `up` of the whole stack,
    which stumbles over what others mend and therefore comes after them. `exit_code` is what `doctor` exits with when
    it fails.
    """

    id: ClassVar[str]
    group: ClassVar[Group]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    seconds: ClassVar[float] = 5.0
    explains: ClassVar[frozenset[str]] = frozenset()
    fixes: ClassVar[str] = ""
    mends_by_up: ClassVar[bool] = False
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    @abstractmethod
    def examine(self, context: Context) -> Finding:
        """Look, change nothing, and return what was found; runs in a thread of its own, beside other checks.

        A `StockhelperError` that is raised counts as a failure with its message, cause, details and next commands.
        """

    def mend(self, context: Context, emit: Emit) -> None:
        """Do what the finding's `fix` announced; the caller holds the project's lock, if there is a project.

        Called only after a finding with a `fix`, with a context that has not asked anything yet. Raises
        `StockhelperError`.
        """
        raise NotImplementedError(f"{self.id} announced a fix and has none")


def ok(summary: str, *evidence: str) -> Finding:
    """Return that all is well."""
    return Finding(Status.OK, summary, evidence)


def skipped(reason: str) -> Finding:
    """Return that there was nothing to look at."""
    return Finding(Status.SKIPPED, reason)


def failed(summary: str, *evidence: str, remedy: str = "", commands: Sequence[str] = (), fix: str = "") -> Finding:
    """Return that the stack cannot work like this."""
    return Finding(Status.FAILED, summary, evidence, remedy, tuple(commands), fix)


def warning(summary: str, *evidence: str, remedy: str = "", commands: Sequence[str] = (), fix: str = "") -> Finding:
    """Return that the next action will fail, or that data is in danger."""
    return Finding(Status.WARNING, summary, evidence, remedy, tuple(commands), fix)


def failure_of(error: StockhelperError, *, fix: str = "") -> Finding:
    """Return an error as a failure: what it would tell a user, as a finding."""
    evidence = (error.cause, *error.details) if error.cause else error.details
    return failed(error.message, *evidence, commands=error.next, fix=fix)
