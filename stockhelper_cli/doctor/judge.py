"""Running checks side by side, each after those that it needs and within its own time limit."""

from __future__ import annotations

import queue
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeAlias

from stockhelper_cli.doctor.check import Check, failed, failure_of, skipped
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.findings import Finding, Status

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context

_Answer: TypeAlias = tuple[str, Finding]
#: What a need must have come to for a check that needs it to make sense.
_MET: Final = (Status.OK, Status.WARNING)


def judge(
    checks: Sequence[Check], context: Context, *, assumed: Collection[str] = (), limit_seconds: float = float("inf")
) -> list[Finding]:
    """Examine with all these checks and return what they found, in their order.

    A check whose need failed is skipped, and says which failure stands behind it, so that one cause gives one failure;
    one that is skipped for want of something to look at skips those that need it too. A need that is not among the
    checks was left out, and skips too, unless it is `assumed`. `limit_seconds` bounds every check's own limit.
    """
    run = _Run(checks, context, assumed, limit_seconds)
    return run.to_the_end()


class _Run:
    """One run: this thread starts checks and takes in what they found; each runs in a thread of its own."""

    def __init__(
        self, checks: Sequence[Check], context: Context, assumed: Collection[str], limit_seconds: float
    ) -> None:
        self._checks = {check.id: check for check in checks}
        self._context = context
        self._assumed = assumed
        self._limit = limit_seconds
        self._found: dict[str, Finding] = {}
        #: When a check that is under way is late, by its id.
        self._deadlines: dict[str, float] = {}
        #: The check whose failure made another be skipped, by the other's id.
        self._roots: dict[str, str] = {}
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def to_the_end(self) -> list[Finding]:
        self._start_what_can()
        while self._deadlines:
            self._take_in()
            self._start_what_can()
        return [self._found[id] for id in self._checks]

    def _start_what_can(self) -> None:
        """Start or skip everything whose needs are all judged; a skip may free others to be skipped."""
        again = True
        while again:
            again = False
            for id, check in self._checks.items():
                if id in self._found or id in self._deadlines:
                    continue
                if reason := self._unmet(check):
                    self._note(check, skipped(reason), 0.0)
                    again = True
                elif all(need in self._found or need in self._assumed for need in check.needs):
                    self._deadlines[id] = time.monotonic() + min(check.seconds, self._limit)
                    # A daemon: one that is late is not waited for.
                    Thread(target=self._examine, args=(check,), name=id, daemon=True).start()

    def _unmet(self, check: Check) -> str:
        for need in check.needs:
            if need in self._assumed:
                continue
            if need not in self._checks:
                return f"needs {need}, which was left out"
            finding = self._found.get(need)
            if finding is None or finding.status in _MET:
                continue
            root = self._roots.get(need, need)
            self._roots[check.id] = root
            cause = self._found[root]
            return f"needs {root}" + (", which failed" if cause.status is Status.FAILED else f": {cause.summary}")
        return ""

    def _examine(self, check: Check) -> None:
        began = time.monotonic()
        try:
            finding = check.examine(self._context)
        except StockhelperError as error:
            finding = failure_of(error)
        except Exception as error:  # noqa: BLE001 - one broken check must not hide what the others found
            finding = failed(
                f"the check itself failed: {type(error).__name__}: {error}", "this is a bug in stockhelper"
            )
        self._answers.put((check.id, replace(finding, seconds=time.monotonic() - began)))

    def _take_in(self) -> None:
        """Take in one answer, or give up what is late."""
        late = min(self._deadlines, key=self._deadlines.__getitem__)
        try:
            id, finding = self._answers.get(timeout=max(0.0, self._deadlines[late] - time.monotonic()))
        except queue.Empty:
            check = self._checks[late]
            seconds = min(check.seconds, self._limit)
            self._note(check, failed(f"{check.title}: not known, there was no answer in {seconds:g} s"), seconds)
            return
        if id in self._deadlines:  # else it was given up
            self._note(self._checks[id], finding, finding.seconds)

    def _note(self, check: Check, finding: Finding, seconds: float) -> None:
        self._deadlines.pop(check.id, None)
        self._found[check.id] = replace(finding, id=check.id, group=check.group.value, seconds=seconds)
