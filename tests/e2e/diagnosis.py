"""What `doctor` says of a project."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from stockhelper_cli.main import run
from tests.sandbox import Result, Sandbox


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
    """Ask `doctor` what is wrong with a project; in this process, which spares half of the time."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, project.environment(environment or {}), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = run(["-C", str(project.root), "doctor", "--json", *arguments])
    return diagnosed(Result(code, out.getvalue(), err.getvalue()))


def names_only(project: Sandbox, *ids: str, environment: Mapping[str, str] | None = None) -> Diagnosis:
    """Check that `doctor` names exactly these, and return what it says."""
    diagnosis = diagnose(project, environment=environment)
    assert diagnosis.named == set(ids), {id: diagnosis.told(id) for id in diagnosis.named ^ set(ids)}
    return diagnosis
