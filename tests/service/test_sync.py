"""The sync: which days it fetches, what it leaves behind when it fails, and that only one is at work."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stockhelper_app import runs
from stockhelper_app.bars import COLUMNS
from stockhelper_app.providers import Provider, chosen
from stockhelper_app.providers.csv_files import SAMPLE
from stockhelper_app.settings import Settings
from stockhelper_app.sync import Result, main, sync
from tests.service.conftest import settings_for
from tests.service.steps import LOCKS
from tests.support import ROOT
from tests.support.fake_tushare import NOT_PERMITTED, TOKEN, FakeTushare, serving
from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE, eventually

HEADER = ",".join(COLUMNS)
BAR = (10, 11, 9, 10.5, 100, 100)
RUNS = "SELECT outcome, source, first_day::text, last_day::text, rows, changed, error FROM sync_runs ORDER BY id"
DAYS = "SELECT DISTINCT trade_date::text FROM daily_bars ORDER BY 1"


@pytest.fixture
def server() -> Iterator[FakeTushare]:
    with serving() as fake:
        fake.bars = {f"202611{day}": {"600519.SH": BAR, "000001.SZ": BAR} for day in (16, 17, 18, 19, 20)}
        fake.names = {"600519.SH": "贵州茅台"}
        yield fake


@pytest.fixture
def settings(tables: Postgres, server: FakeTushare) -> Settings:
    """Those of a stack with Tushare."""
    return settings_for(
        tables, tushare_token=TOKEN, tushare_url=server.url, tushare_calls_per_minute=10_000, sync_from="2026-11-17"
    )


@pytest.fixture(autouse=True)
def handlers_kept() -> Iterator[None]:
    """Give this process its signal handlers back: the command line ends with none."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def csv_settings(tables: Postgres, folder: Path, **files: str) -> Settings:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return settings_for(tables, csv_dir=folder)


def row(symbol: str, day: str, close: str = "10") -> str:
    return f"{symbol},{day},10,11,1,{close},100,1000,1\n"


def days_of(tables: Postgres) -> list[str]:
    return [day for (day,) in tables.query(DAYS)]


def asked(server: FakeTushare) -> list[str]:
    return [str(params["trade_date"])[-2:] for api, params in server.calls if api == "daily"]


def test_the_missing_days_are_fetched_and_written_down(settings: Settings, tables: Postgres) -> None:
    result = sync(settings)
    assert (result.outcome, result.days, result.first_day, result.last_day) == ("done", 4, "2026-11-17", "2026-11-20")
    assert days_of(tables) == ["2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"]
    assert tables.query(RUNS) == [("done", "tushare", "2026-11-17", "2026-11-20", 8, 8, None)]
    assert tables.query("SELECT name FROM stocks ORDER BY symbol") == [("000001.SZ",), ("贵州茅台",)]
    ((started, finished),) = tables.query("SELECT started_at, finished_at FROM sync_runs")
    assert started < finished


def test_when_nothing_is_missing_nothing_is_written(settings: Settings, tables: Postgres, server: FakeTushare) -> None:
    sync(settings)
    before = tables.query(RUNS)
    assert replace(sync(settings), seconds=0) == Result("done", "tushare")
    assert tables.query(RUNS) == before
    assert server.count()["daily"] == 4


def test_failed_run_is_cleared_by_a_run_with_nothing_to_do(
    settings: Settings, tables: Postgres, server: FakeTushare
) -> None:
    """A failed run is followed by a successful one even if no day is missing."""
    sync(settings)
    server.refused = {"trade_cal": NOT_PERMITTED}
    assert sync(settings).outcome == "failed"
    server.refused = {}
    assert sync(settings).days == sync(settings).days == 0
    assert [run[0] for run in tables.query(RUNS)] == ["done", "failed", "done"]
    assert tables.query(RUNS)[-1] == ("done", "tushare", None, None, 0, 0, None)


def test_days_missed_while_it_was_away_are_caught_up(settings: Settings, tables: Postgres, server: FakeTushare) -> None:
    later = {day: server.bars.pop(day) for day in ("20261118", "20261119", "20261120")}
    assert sync(settings).last_day == "2026-11-17"
    server.bars |= later
    assert (sync(settings).first_day, sync(settings).days) == ("2026-11-18", 0)
    assert asked(server) == ["17", "18", "19", "20"]


def test_a_gap_that_a_range_left_is_filled(settings: Settings, tables: Postgres, server: FakeTushare) -> None:
    sync(settings, dt.date(2026, 11, 19), dt.date(2026, 11, 19))
    sync(settings)
    assert asked(server) == ["19", "17", "18", "20"]


def test_a_range_is_fetched_again(settings: Settings, tables: Postgres, server: FakeTushare) -> None:
    sync(settings)
    server.bars["20261118"]["600519.SH"] = (10, 11, 9, 9.5, 100, 100)
    result = sync(settings, dt.date(2026, 11, 16), dt.date(2026, 11, 18))
    assert (result.rows, result.changed) == (6, 3)
    assert asked(server) == ["17", "18", "19", "20", "16", "17", "18"]


def test_days_loaded_before_a_failure_stay_and_sync_resumes(
    settings: Settings, tables: Postgres, server: FakeTushare
) -> None:
    """Days loaded before a failure stay, and the next run continues after them."""
    server.bars["20261119"] = {}
    failed = sync(settings)
    assert (failed.outcome, failed.error, failed.last_day) == (
        "failed",
        "tushare has no bars of 2026-11-19 yet",
        "2026-11-18",
    )
    server.bars["20261119"] = {"600519.SH": BAR}
    sync(settings)
    assert asked(server) == ["17", "18", "19", "19", "20"]
    assert tables.query(RUNS) == [
        ("failed", "tushare", "2026-11-17", "2026-11-18", 4, 4, "tushare has no bars of 2026-11-19 yet"),
        ("done", "tushare", "2026-11-19", "2026-11-20", 3, 3, None),
    ]


def test_provider_error_is_recorded_without_the_token(
    settings: Settings, tables: Postgres, server: FakeTushare
) -> None:
    """An error of the provider is recorded without its token."""
    server.refused = {"trade_cal": NOT_PERMITTED}
    assert sync(settings).outcome == "failed"
    ((outcome, *_, error),) = tables.query(RUNS)
    assert outcome == "failed"
    assert "没有接口访问权限" in error
    assert TOKEN not in error


def test_of_several_at_once_one_is_at_work(settings: Settings, tables: Postgres, server: FakeTushare) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def wait(api: str, params: Mapping[str, Any]) -> None:
        under_way.set()
        assert go_on.wait(PATIENCE)

    server.before = wait
    first: list[Result] = []
    thread = threading.Thread(target=lambda: first.append(sync(settings)))
    thread.start()
    assert under_way.wait(PATIENCE)
    assert [sync(settings).outcome for _ in range(3)] == ["busy"] * 3
    go_on.set()
    thread.join()
    assert [result.outcome for result in first] == ["done"]
    assert len(tables.query(RUNS)) == 1


def test_a_database_that_is_away_is_told_in_one_line(dead_port: int, tables: Postgres) -> None:
    result = sync(settings_for(tables, postgres_port=dead_port))
    assert result.outcome == "failed"
    assert "Connection refused" in str(result.error)
    assert "\n" not in str(result.error)
    assert tables.password not in str(result.error)


# --- CSV files
def test_sync_without_a_provider_loads_the_labelled_sample(tables: Postgres) -> None:
    """Without a provider, the sample is loaded, and its names say that it is made up."""
    for path in SAMPLE.glob("*.csv"):
        assert path.read_text().startswith("# Made-up data")
    # A mount of nothing, as compose.yaml makes it.
    result = sync(settings_for(tables, csv_dir=Path("/dev/null")))
    assert (result.outcome, result.source, result.days) == ("done", "csv", 59)
    assert tables.query("SELECT count(*) FROM daily_bars") == [(59 * 3,)]
    assert all("made-up" in name for (name,) in tables.query("SELECT name FROM stocks"))


def test_files_are_read_whatever_they_are_sorted_by(tables: Postgres, tmp_path: Path) -> None:
    settings = csv_settings(
        tables,
        tmp_path,
        a=HEADER + "\n" + row("600000.SH", "2026-11-18") + row("600000.SH", "2026-11-19"),
        b=HEADER + "\n" + row("600001.SH", "2026-11-19") + row("600001.SH", "2026-11-18"),
        stocks="symbol,name,listing_date\n600000.SH,浦发银行,1999-11-10\n",
    )
    assert (sync(settings).rows, sync(settings).days) == (4, 0)
    (tmp_path / "c.csv").write_text(HEADER + "\n" + row("600000.SH", "2026-11-20"))
    assert (sync(settings).rows, days_of(tables)) == (1, ["2026-11-18", "2026-11-19", "2026-11-20"])
    assert tables.query("SELECT name FROM stocks ORDER BY symbol") == [("浦发银行",), ("600001.SH",)]


def test_a_bad_row_is_told_with_its_file_and_keeps_its_day_out(tables: Postgres, tmp_path: Path) -> None:
    settings = csv_settings(
        tables,
        tmp_path,
        a=HEADER + "\n" + row("600000.SH", "2026-11-18") + row("600000.SH", "2026-11-19"),
        b=HEADER + "\n" + row("600001.SH", "2026-11-19", "x") + row("600001.SH", "2026-11-20"),
    )
    for _ in range(2):
        assert sync(settings).error == "a bad row, in b.csv:2: close is not a price in yuan: 'x'"
        assert days_of(tables) == ["2026-11-18", "2026-11-20"]
    # Mended, the day is fetched, and the one after it again: a run covers its days without a gap.
    (tmp_path / "b.csv").write_text(HEADER + "\n" + row("600001.SH", "2026-11-19") + row("600001.SH", "2026-11-20"))
    assert (sync(settings).first_day, sync(settings).days) == ("2026-11-19", 0)
    assert days_of(tables) == ["2026-11-18", "2026-11-19", "2026-11-20"]


def test_duplicate_row_in_two_files_is_reported_with_both(tables: Postgres, tmp_path: Path) -> None:
    """A row that is repeated in another file is reported with both files and lines."""
    text = HEADER + "\n" + row("600000.SH", "2026-11-18")
    settings = csv_settings(tables, tmp_path, a=text, b=text)
    assert sync(settings).error == "a bad row, in b.csv:2: is the same share and day as a.csv:2"
    assert days_of(tables) == []


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, "has no CSV file of bars"),
        ({"stocks": "symbol,name\n"}, "has no CSV file of bars"),
        ({"a": "x,y\n"}, "a.csv: line 1 does not name the columns"),
        (
            {"a": f"{HEADER}\n{row('600000.SH', '2026-11-18')}", "stocks": "symbol,name\nx,y\n"},
            "stocks.csv: names no share",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_told(
    files: Mapping[str, str], error: str, tables: Postgres, tmp_path: Path
) -> None:
    result = sync(csv_settings(tables, tmp_path, **files))
    assert result.outcome == "failed"
    assert error in str(result.error)
    assert [outcome for outcome, *_ in tables.query(RUNS)] == ["failed"]


def test_a_row_without_a_day_is_told_when_no_day_is_missing(tables: Postgres, tmp_path: Path) -> None:
    """A new row whose date cannot be read is of no day that could be missing. The sync said that it was done."""
    settings = csv_settings(tables, tmp_path, a=HEADER + "\n" + row("600000.SH", "2026-11-18"))
    assert sync(settings).days == 1
    csv_settings(tables, tmp_path, b=HEADER + "\n" + row("600000.SH", "19.11.2026"))
    result = sync(settings)
    assert (result.outcome, result.days) == ("failed", 0)
    assert str(result.error).startswith("a bad row, in b.csv:2: trade_date is not a day")


def test_days_of_one_provider_are_not_covered_by_another(settings: Settings, tables: Postgres, tmp_path: Path) -> None:
    files = csv_settings(tables, tmp_path, a=HEADER + "\n" + row("600000.SH", "2026-11-18"))
    assert sync(files).days == 1
    assert sync(settings).days == 4


# --- the process
def start(tables: Postgres, *arguments: str, code: str = "", **environment: str) -> subprocess.Popen[str]:
    program = ["-c", code] if code else ["-m", "stockhelper_app.sync"]
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "docker/app"), **tables.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tushare(server: FakeTushare) -> dict[str, str]:
    settings = {"TUSHARE_TOKEN": TOKEN, "TUSHARE_URL": server.url, "TUSHARE_CALLS_PER_MINUTE": "10000"}
    # Else the last year's, and one day these bars will be older.
    return {**settings, "SYNC_FROM": "2026-11-16"}


def test_it_logs_json_and_ends_with_its_result(tables: Postgres, server: FakeTushare) -> None:
    process = start(tables, "--from", "2026-11-18", "--to", "2026-11-19", **tushare(server))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    *logged, last = map(json.loads, out.splitlines())
    assert [line["event"] for line in logged] == ["sync begins", "loaded", "loaded"]
    assert (last["event"], last["result"]["outcome"], last["result"]["rows"]) == ("sync ends", "done", 4)
    assert TOKEN not in out


@pytest.mark.parametrize(
    "arguments", [["--from", "tomorrow"], ["--from", "2026-11-19", "--to", "2026-11-18"], ["--bogus"], ["x"]]
)
def test_a_wrong_call_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    said = capsys.readouterr()
    assert (exited.value.code, said.out) == (2, "")
    assert "error: " in said.err


def test_stopped_it_takes_back_the_day_it_is_at_and_says_so(tables: Postgres, server: FakeTushare) -> None:
    under_way, release = threading.Event(), threading.Event()

    def hang(api: str, params: Mapping[str, Any]) -> None:
        if api == "daily" and params["trade_date"] == "20261118":
            under_way.set()
            release.wait(PATIENCE)

    server.before = hang
    process = start(tables, **tushare(server))
    try:
        assert under_way.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        release.set()
    assert (process.returncode, err) == (130, "")
    assert json.loads(out.splitlines()[-1])["result"]["outcome"] == "interrupted"
    assert days_of(tables) == ["2026-11-16", "2026-11-17"]
    assert [(outcome, last) for outcome, _, _, last, *_ in tables.query(RUNS)] == [("interrupted", "2026-11-17")]


def test_a_stop_among_the_imports_of_the_provider_is_heeded(
    settings: Settings, tables: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Imported: ...

    def chosen_with_a_stop(settings: Settings) -> AbstractContextManager[Provider]:
        module = Imported()
        reference = weakref.ref(module, lambda _: signal.raise_signal(signal.SIGINT))
        del module
        assert reference() is None
        return chosen(settings)

    monkeypatch.setattr("stockhelper_app.sync.chosen", chosen_with_a_stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert sync(settings).outcome == "interrupted"
    assert [(outcome, rows) for outcome, *_, rows, _, _ in tables.query(RUNS)] == [("interrupted", 0)]


@pytest.mark.parametrize("step", ["begin", "finish"])
def test_a_stop_as_a_run_begins_or_ends_leaves_none_under_way(
    step: str, settings: Settings, tables: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = getattr(runs, step)

    def take_and_stop(connection: psycopg.Connection[Any], *given: Any) -> Any:
        if step == "begin":
            take(connection, *given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs, step, take_and_stop)
    assert sync(settings).outcome == "interrupted"
    assert [outcome for outcome, *_ in tables.query(RUNS)] == ["interrupted"]


def test_stopped_before_it_has_begun_it_says_so(tables: Postgres) -> None:
    code = """if True:
        import signal, sys
        from stockhelper_app import sync
        load = sync.load_settings
        sync.load_settings = lambda kind: signal.raise_signal(signal.SIGTERM) or load(kind)
        sys.exit(sync.main([]))
    """
    process = start(tables, code=code)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    assert json.loads(out)["result"]["outcome"] == "interrupted"
    assert tables.query(RUNS) == []


def test_killed_run_is_marked_interrupted_by_the_next_one(tables: Postgres, server: FakeTushare) -> None:
    """The run of a killed process is marked as interrupted by the next one."""
    under_way, release = threading.Event(), threading.Event()

    def hang(api: str, params: Mapping[str, Any]) -> None:
        if api == "daily" and params["trade_date"] == "20261118" and not release.is_set():
            under_way.set()
            release.wait(PATIENCE)

    server.before = hang
    process = start(tables, **tushare(server))
    try:
        assert under_way.wait(PATIENCE)
        process.kill()
        process.communicate()
    finally:
        release.set()
    assert [outcome for outcome, *_ in tables.query(RUNS)] == ["running"]
    # The server lets go of its lock a moment after it has ended.
    eventually(lambda: tables.query(LOCKS) == [(0,)])
    url, rate = server.url, 10_000
    again = settings_for(tables, tushare_token=TOKEN, tushare_url=url, tushare_calls_per_minute=rate)
    assert sync(again).outcome == "done"
    assert [(outcome, first) for outcome, _, first, *_ in tables.query(RUNS)] == [
        ("interrupted", "2026-11-16"),
        ("done", "2026-11-18"),
    ]


def test_the_lock_is_one_session_s_and_ends_with_it(tables: Postgres) -> None:
    with closing(tables.connect()) as one, closing(tables.connect()) as other:
        with runs.lock(one) as first, runs.lock(other) as second:
            assert (first, second) == (True, False)
        with runs.lock(other) as second:
            assert second
