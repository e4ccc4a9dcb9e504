"""What a check of `doctor` found, as a value: `doctor` makes it, `up` puts it beside its error, `console` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How something was found; the worst first.

    A warning is what blocks the next action or endangers data; what is only worth knowing is evidence of an ok.
    """

    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how it was.

    `summary` is one line; `evidence` are lines that show it. `remedy` says in words what to do, "" where `commands`,
    to be typed in this order, say it all. `fix` is what `--fix` would do, "" where it can do nothing. `id` and `group`
    are the check's, and `seconds` is how long it took; the judge fills them in.
    """

    status: Status
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    commands: tuple[str, ...] = ()
    fix: str = ""
    id: str = ""
    group: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether somebody should do something about it."""
        return self.status in (Status.FAILED, Status.WARNING)

    def as_json(self) -> Mapping[str, Any]:
        """Return it as a plain mapping."""
        return {
            "id": self.id,
            "group": self.group,
            "status": self.status.value,
            "summary": self.summary,
            "evidence": list(self.evidence),
            "remedy": {"text": self.remedy, "commands": list(self.commands)},
            "fixable": bool(self.fix),
            "fix": self.fix,
            "seconds": round(self.seconds, 3),
        }
