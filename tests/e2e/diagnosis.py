"""What `doctor` says of a project. As a script: `stockhelper`, with checks that may take all the time they need."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from stockhelper_cli.doctor import explain
from stockhelper_cli.doctor.catalogue import all_checks
from stockhelper_cli.doctor.checks import app_health, app_version, network_tls
from stockhelper_cli.doctor.context import Context
from stockhelper_cli.main import main
from tests.support.sandbox import Result, Sandbox
from tests.support.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One answer of `doctor --json`: its exit code, and every finding by its id."""

    code: int
    findings: Mapping[str, Mapping[str, Any]]
    fixed: tuple[str, ...]

    @property
    def named(self) -> set[str]:
        """The ids of what failed or is warned of."""
        return {id for id, finding in self.findings.items() if finding["status"] in ("failed", "warning")}

    def statuses(self, *ids: str) -> list[str]:
        """Return how these were found."""
        return [self.findings[id]["status"] for id in ids]

    def told(self, id: str) -> str:
        """Return all that a finding says, one thing a line."""
        finding = self.findings[id]
        remedy = finding["remedy"]
        return "\n".join([finding["summary"], *finding["evidence"], remedy["text"], *remedy["commands"]])


def diagnosed(result: Result) -> Diagnosis:
    """Read the answer of `doctor --json`."""
    answer = result.json
    assert answer["error"] is None, answer
    findings = {finding["id"]: finding for finding in answer["result"]["findings"]}
    diagnosis = Diagnosis(result.code, findings, tuple(answer["result"]["fixed"]))
    assert answer["ok"] == (result.code == 0)
    assert "bug in stockhelper" not in result.out, result.out
    return diagnosis


def diagnose(project: Sandbox, *arguments: str, environment: Mapping[str, str] | None = None) -> Diagnosis:
    """Ask `doctor` what is wrong with a project."""
    return diagnosed(run_patiently(project, "doctor", "--json", *arguments, environment=environment))


@contextmanager
def patience() -> Iterator[None]:
    """Let checks take all the time they need, for the length of a block.

    A user must not be kept waiting by a check; on a machine that stands still each of them could be late.
    """
    with ExitStack() as patient:
        for check in all_checks():
            patient.enter_context(patch.object(type(check), "seconds", PATIENCE))
        patient.enter_context(patch.dict(Context.__init__.__kwdefaults__, call_seconds=int(PATIENCE)))
        patient.enter_context(patch.object(explain, "EXPLAIN_SECONDS", PATIENCE))
        for check_module in (app_health, app_version, network_tls):
            patient.enter_context(patch.object(check_module, "_SECONDS", PATIENCE))
        yield


def run_patiently(project: Sandbox, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    """Run `stockhelper` with patience in this process."""
    with patience():
        return project.run(*arguments, environment=environment)


def patient_command(*arguments: str) -> list[str]:
    """Return the words that run `stockhelper` with patience in a process of its own."""
    return [sys.executable, "-m", "tests.e2e.diagnosis", *arguments]


def names_only(project: Sandbox, *ids: str, environment: Mapping[str, str] | None = None) -> Diagnosis:
    """Check that `doctor` names exactly these, and return what it says."""
    diagnosis = diagnose(project, environment=environment)
    assert diagnosis.named == set(ids), {id: diagnosis.told(id) for id in diagnosis.named ^ set(ids)}
    return diagnosis


if __name__ == "__main__":
    with patience():
        main()
