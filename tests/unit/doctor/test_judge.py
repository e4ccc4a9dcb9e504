"""The judge: side by side, in the order of needs, one failure for one cause, nobody waited for beyond a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped, warning
from stockhelper_cli.doctor.context import Context
from stockhelper_cli.doctor.judge import judge
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.findings import Finding, Status
from tests.support.waiting import PATIENCE

Examine = Callable[[Context], Finding]


def check(name: str, examine: Examine, *, needing: tuple[str, ...] = (), limit: float = PATIENCE) -> Check:
    class Made(Check):
        id = name
        group = Group.STACK
        title = f"{name} is well"
        needs = needing
        seconds = limit

        def examine(self, context: Context) -> Finding:
            return examine(context)

    return Made()


def nowhere() -> Context:
    def find_root() -> Path:
        raise ConfigError("config.project", "no project", cause="looked everywhere", next=["go there"])

    def load_project(**_: object) -> None:
        raise AssertionError

    return Context({}, find_root, load_project)  # type: ignore[arg-type]


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.id: finding.status.value for finding in findings}


def test_findings_keep_the_order_of_the_checks() -> None:
    """Findings come in the order of the checks, with their id and group."""
    findings = judge([check("b", lambda _: ok("fine")), check("a", lambda _: warning("hm"))], nowhere())
    assert [(f.id, f.group, f.status) for f in findings] == [("b", "Stack", Status.OK), ("a", "Stack", Status.WARNING)]


def test_dependent_checks_are_skipped_with_the_first_cause() -> None:
    """One cause gives one failure, and every check that depends on it names that cause."""
    chain = [
        check("last", lambda _: ok(""), needing=("middle",)),
        check("middle", lambda _: ok(""), needing=("first",)),
        check("first", lambda _: failed("broken")),
        check("other", lambda _: failed("broken too")),
    ]
    findings = judge(chain, nowhere())
    assert statuses(findings) == {"last": "skipped", "middle": "skipped", "first": "failed", "other": "failed"}
    assert {f.summary for f in findings if f.status is Status.SKIPPED} == {"needs first, which failed"}


def test_check_after_a_skipped_one_reports_the_same_reason() -> None:
    """A check that depends on a skipped one reports the same reason."""
    chain = [check("a", lambda _: skipped("nothing runs")), check("b", lambda _: ok(""), needing=("a",))]
    assert judge(chain, nowhere())[1].summary == "needs a: nothing runs"


def test_a_warning_is_no_reason_to_skip() -> None:
    chain = [check("a", lambda _: warning("hm")), check("b", lambda _: ok("fine"), needing=("a",))]
    assert statuses(judge(chain, nowhere())) == {"a": "warning", "b": "ok"}


def test_a_need_that_was_left_out_skips_unless_it_is_assumed() -> None:
    lonely = check("b", lambda _: ok("fine"), needing=("a",))
    assert judge([lonely], nowhere())[0].summary == "needs a, which was left out"
    assert statuses(judge([lonely], nowhere(), assumed=["a"])) == {"b": "ok"}


def test_checks_run_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE)

    def meet(context: Context) -> Finding:
        meeting.wait()
        return ok("met")

    assert set(statuses(judge([check(name, meet) for name in "abc"], nowhere())).values()) == {"ok"}


@pytest.mark.parametrize(("own", "bound"), [(0.1, float("inf")), (PATIENCE, 0.1)], ids=["its own", "the caller's"])
def test_late_check_fails_at_its_limit_and_skips_dependents(own: float, bound: float) -> None:
    """A check that takes too long fails at its limit, and checks that depend on it are skipped."""
    never = threading.Event()

    def hang(context: Context) -> Finding:
        never.wait()
        return ok("too late")

    findings = judge(
        [check("a", hang, limit=own), check("b", lambda _: ok(""), needing=("a",))], nowhere(), limit_seconds=bound
    )
    never.set()
    assert statuses(findings) == {"a": "failed", "b": "skipped"}
    assert findings[0].summary == "a is well: not known, there was no answer in 0.1 s"


def test_one_that_is_late_takes_no_other_with_it() -> None:
    never = threading.Event()

    def hang(context: Context) -> Finding:
        never.wait()
        return ok("too late")

    findings = judge([check("a", hang, limit=0.1), check("b", lambda _: ok(""))], nowhere())
    never.set()
    assert statuses(findings) == {"a": "failed", "b": "ok"}


def test_an_error_of_ours_is_a_failure_with_all_that_it_tells() -> None:
    def look(context: Context) -> Finding:
        return ok(str(context.root))

    finding = judge([check("a", look)], nowhere())[0]
    assert (finding.status, finding.summary) == (Status.FAILED, "no project")
    assert (finding.evidence, finding.commands) == (("looked everywhere",), ("go there",))


def test_a_check_that_breaks_hides_no_other() -> None:
    def break_down(context: Context) -> Finding:
        raise ZeroDivisionError("by zero")

    findings = judge([check("a", break_down), check("b", lambda _: ok("fine"))], nowhere())
    assert statuses(findings) == {"a": "failed", "b": "ok"}
    assert findings[0].summary == "the check itself failed: ZeroDivisionError: by zero"


def test_shared_value_is_read_once_and_its_error_is_shared() -> None:
    """A value that several checks use is read once, and each of them reports its error."""
    asked: list[int] = []
    meeting = threading.Barrier(4, timeout=PATIENCE)

    def find_root() -> Path:
        asked.append(1)
        time.sleep(0.05)
        raise ConfigError("config.project", "no project")

    context = Context({}, find_root, lambda **_: None)  # type: ignore[arg-type]

    def look(context: Context) -> Finding:
        meeting.wait()
        return ok(str(context.root))

    findings = judge([check(name, look) for name in "abcd"], context)
    assert [finding.summary for finding in findings] == ["no project"] * 4
    assert len(asked) == 1
