"""What one run of `doctor` came to: a value, from which the exit code, the JSON and the picture derive."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockhelper_cli.doctor.judge import judge
from stockhelper_cli.errors import ExitCode
from stockhelper_cli.findings import Finding, Status

if TYPE_CHECKING:
    from stockhelper_cli.doctor.check import Check
    from stockhelper_cli.doctor.context import Context


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in the order of their checks, and what the command exits with."""

    findings: tuple[Finding, ...]
    exit_code: ExitCode

    @property
    def problems(self) -> list[Finding]:
        """The failures, then the warnings."""
        return sorted((f for f in self.findings if f.bad), key=lambda f: f.status is Status.WARNING)

    def of(self, status: Status) -> list[str]:
        """Return the ids of what was found like this."""
        return [finding.id for finding in self.findings if finding.status is status]

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "findings": [finding.as_json() for finding in self.findings],
            "counts": {status.value: len(self.of(status)) for status in Status},
        }


def examine(checks: Sequence[Check], context: Context, *, shown: Collection[str]) -> Report:
    """Examine with all these checks, and report on those whose ids are `shown`.

    What is not shown is reported where it failed: it is why others were skipped. The exit code is 0 unless something
    failed: then 4 where the environment is to blame, else 1.
    """
    judged = judge(checks, context)
    findings = tuple(f for f in judged if f.id in shown or f.status is Status.FAILED)
    codes = {check.id: check.exit_code for check in checks}
    failures = [codes[finding.id] for finding in findings if finding.status is Status.FAILED]
    return Report(findings, max(failures, default=ExitCode.DONE))
