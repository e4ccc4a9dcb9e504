"""The run as a whole: its tier, the order of its files, that every test has run, what it cost, and what it left.

`--tier test` runs what is not marked `slow`, `--tier slow` the rest, `--tier all` both. A file or test that is named
runs whatever its mark. Only the process that starts the others (the controller, where there are workers) judges the
run.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import budgets, leftovers
from tests.support.budgets import Costs, Meter

#: Whether property tests draw other examples in each run; see `tests/support/properties.py`.
_SOAKING: Final = bool(os.environ.get("SOAK"))

#: What a worker could not collect, in what it sends at its end.
_NOT_COLLECTED: Final = "stockhelper_not_collected"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=("test", "slow", "all"), default="all", help="which tests run (default: all)")


def pytest_configure(config: pytest.Config) -> None:
    leftovers.mark_run()
    if _SOAKING and config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(random.randrange(2**32))
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Measure(), "stockhelper-measure")
        config.pluginmanager.register(Collecting(), "stockhelper-collecting")
    else:
        run = Run(config)
        config.pluginmanager.register(run, "stockhelper-run")
        if not config.getoption("numprocesses", None):
            config.pluginmanager.register(Measure(), "stockhelper-measure")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how what property tests draw at random is drawn again."""
    return f"soak: --hypothesis-seed={config.getoption('--hypothesis-seed')}" if _SOAKING else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse equal ids, leave out what is of another tier, and put files that take long first."""
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        # xdist takes them for one, and runs one of them.
        raise pytest.UsageError("these ids stand for several tests:\n  " + "\n  ".join(twice))
    tier = config.getoption("tier")
    if tier != "all":
        named = {path.resolve() for arg in config.args if (path := Path(arg.partition("::")[0])).is_file()}
        others = {
            item
            for item in items
            if item.path not in named and bool(item.get_closest_marker("slow")) != (tier == "slow")
        }
        config.hook.pytest_deselected(items=list(others))
        items[:] = [item for item in items if item not in others]
    seconds: Counter[str] = Counter()
    for budget in budgets.read().values() if tier == "all" else [budgets.read()[tier]]:
        seconds.update(budget)
    items.sort(key=lambda item: -seconds[_module(item.nodeid)])


class Measure:
    """In the process that runs the tests: what each phase of a test costs goes along with its report."""

    def __init__(self) -> None:
        self._meter = Meter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        report.user_properties.append(("counted", self._meter.lap()))
        if (mark := item.get_closest_marker("long")) is not None:
            report.user_properties.append(("long", mark.args[0]))
        return report

    def pytest_runtestloop(self) -> None:
        """Leave out what collecting the tests has cost, also from each garbage collection: a quarter of the time."""
        gc.freeze()
        self._meter.lap()


class Collecting:
    """In a worker: tells the controller why nothing can be collected (a name with a typo, say), which xdist loses."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        try:
            return (yield)
        except pytest.UsageError as error:
            output: dict[str, object] = session.config.workeroutput  # type: ignore[attr-defined]
            output[_NOT_COLLECTED] = [str(line) for line in error.args]
            session.items = []
            session.config.hook.pytest_collection_finish(session=session)
            return True


class Run:
    """In the process that judges the run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._costs = Costs()
        self._collected: set[str] = set()
        self._reported: set[str] = set()
        self._faults: list[str] = []
        self._unseen = ""
        self._not_collected: set[str] = set()
        self._before = leftovers.on_engine()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected |= {item.nodeid for item in session.items}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Iterable[str]) -> None:
        self._collected |= set(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._not_collected |= set(getattr(node, "workeroutput", {}).get(_NOT_COLLECTED, ()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        known: dict[str, Any] = dict(report.user_properties)
        self._costs.add(report.nodeid, report.duration, known.get("counted", 0.0))
        # Of the test alone: who sets up what a session shares is a matter of chance.
        if report.when == "call" and known.get("counted", 0.0) > budgets.LONG_SECONDS and "long" not in known:
            self._costs.long[report.nodeid] = round(known["counted"], 1)
        if report.when == "call" or report.outcome != "passed":
            self._reported.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that is not whole, or that leaves something; trylast: when the workers have ended."""
        config = self._config
        if "hypothesis" not in sys.modules and (unused := config.pluginmanager.get_plugin("hypothesispytest")):
            # Its summary would import hypothesis, for a second, to find that nothing has used it.
            config.pluginmanager.unregister(unused)
        if config.option.collectonly:
            return
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldstop:
            lost = sorted(self._collected - self._reported)
            self._faults += [f"collected and not run: {name}" for name in lost]
        left, self._unseen = leftovers.left_since(self._before)
        self._faults += [f"left behind: {name}" for name in left]
        if self._faults:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._not_collected:
            self._faults += sorted(self._not_collected)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
        if whole and session.exitstatus == pytest.ExitCode.OK and config.getoption("tier") in budgets.TIERS:
            self._costs.save(config.getoption("tier"))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._reported:
            terminalreporter.section("seconds by module")
            for line in self._costs.table():
                terminalreporter.write_line(line)
        if self._unseen:
            terminalreporter.write_line(self._unseen)
        if self._faults:
            terminalreporter.section("the run as a whole failed", red=True)
            for fault in self._faults:
                terminalreporter.write_line(fault, red=True)


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]
