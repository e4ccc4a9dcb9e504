"""Bars on a real stack: the sample of a fresh one, files of this machine, and the sync at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.e2e.steps import healthy
from tests.support.ports import free_port
from tests.support.refusals import explained
from tests.support.sandbox import Sandbox, sandbox
from tests.support.template import Template
from tests.support.waiting import PATIENCE, eventually, request

HEADER = "symbol,trade_date,open,high,low,close,volume,turnover,adjustment_factor\n"
RUNS = "SELECT job, outcome, rows FROM sync_runs ORDER BY id"
SAMPLE = "sync|done|177"


@pytest.fixture(scope="module")
def stocked(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up, with its schedule and metrics, and else as a user has it who has set nothing."""
    own = {"SCHEDULER_ENABLED": "", "METRICS_BIND": f"127.0.0.1:{free_port()}"}
    # When no test runs: a sync by the clock would meet those of the tests.
    own["SYNC_AT"] = f"{datetime.now(ZoneInfo('Asia/Shanghai')) + timedelta(hours=12):%H:%M}"
    with sandbox(tmp_path_factory.mktemp("stocked"), **own) as made:
        template.copy_into(made)
        made.up()
        yield made


def bar(symbol: str, day: str, close: str = "10") -> str:
    return f"{symbol},{day},10,12,9,{close},100,1000.5,1\n"


def bars(project: Sandbox, symbol: str) -> list[str]:
    query = f"SELECT trade_date, close FROM daily_bars WHERE symbol = '{symbol}' ORDER BY 1"
    return project.psql(query).splitlines()


def test_a_fresh_stack_soon_has_something_to_serve(stocked: Sandbox) -> None:
    assert eventually(lambda: stocked.psql(RUNS)).startswith(("sync|running|", "sync|done|"))
    assert eventually(lambda: stocked.psql(RUNS) == SAMPLE)
    assert stocked.psql("SELECT count(*), count(DISTINCT symbol) FROM daily_bars") == "177|3"


def nobody_syncs(project: Sandbox) -> bool:
    """Whether no sync is at work: one that has written down how it ended holds its locks for a moment yet."""
    return project.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


def setting(project: Sandbox, key: str) -> str:
    (value,) = re.findall(rf"^{key}=(.+)$", (project.root / ".env").read_text(), re.MULTILINE)
    return str(value).strip("'")


def test_the_api_serves_it_and_the_metrics_tell(stocked: Sandbox) -> None:
    token = {"Authorization": f"Bearer {setting(stocked, 'API_TOKEN')}"}
    with httpx.Client(base_url=f"{stocked.url}/api/v1/", trust_env=False, timeout=PATIENCE) as client:
        symbol = client.get("stocks").json()["items"][0]["symbol"]
        assert len(client.get(f"stocks/{symbol}/bars", params={"adjust": "forward"}).json()["bars"]) == 59
        assert client.put(f"watchlist/{symbol}").status_code == 401
        assert client.put(f"watchlist/{symbol}", headers=token).status_code == 201
        assert client.get("watchlist").json()["items"][0]["close"] > 0
        assert client.get("/metrics").status_code == 404
    metrics = request("GET", f"http://{setting(stocked, 'METRICS_BIND')}/metrics").text
    assert 'route="/api/v1/watchlist/{symbol}",status="201"} 1.0' in metrics
    assert 'stockhelper_sync_runs{outcome="done"} 1.0' in metrics
    assert "stockhelper_scheduler_next_run_timestamp_seconds" in metrics


def test_a_file_with_bad_rows_is_loaded_but_for_their_days(stocked: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text(
        HEADER
        + bar("600519.SH", "2026-11-18")
        + bar("600519.SH", "2026-11-19")
        + bar("000001.SZ", "2026-11-19", "x")
        + bar("600519.SH", "2026-11-20", "13")
        + bar("600519.SH", "2026-11-17").rstrip("\n")
    )
    result = stocked.run("data", "import", str(file), "--json")
    assert result.code == 1
    answer = result.json
    assert (answer["ok"], answer["command"], answer["error"]) == (False, "data import", None)
    (imported,) = answer["result"]["files"]
    assert (imported["rows"], imported["changed"], imported["bytes"]) == (2, 2, file.stat().st_size)
    assert imported["bad"] == [
        {"line": 4, "reason": "close is not a price in yuan: 'x'"},
        {"line": 5, "reason": "low, open, close and high contradict each other, or are 0"},
    ]
    assert imported["refused_days"] == ["2026-11-19", "2026-11-20"]
    assert bars(stocked, "600519.SH") == ["2026-11-17|10.0000", "2026-11-18|10.0000"]
    assert stocked.psql(RUNS).splitlines()[-1] == "import|failed|2"

    said = stocked.run("data", "import", str(file))
    assert said.code == 1
    assert "bars.csv:4: close is not a price in yuan: 'x'\n" in said.out
    assert "2 bad rows; 2 days left as they were: 2026-11-19, 2026-11-20\n" in said.out
    assert "bars.csv imported" in said.err

    file.write_text(file.read_text().replace(",x,", ",11,").replace(",13,", ",12,"))
    mended = stocked.run("data", "import", str(file))
    assert (mended.code, mended.out) == (
        0,
        "bars.csv: 5 bars of 4 days, 2026-11-17 to 2026-11-20; 3 new or different\n",
    )


def test_several_files_and_stdin_are_loaded_one_after_the_other(stocked: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + bar("600001.SH", "2026-11-18"))
    (tmp_path / "b.csv").write_text("not bars\n")
    (tmp_path / "c.csv").write_text(HEADER + bar("600002.SH", "2026-11-18"))
    result = stocked.run("-C", str(stocked.root), "data", "import", *(str(tmp_path / f"{n}.csv") for n in "abc"))
    assert result.code == 1
    assert "b.csv: not imported; line 1 does not name the columns" in result.out
    assert bars(stocked, "600001.SH") == bars(stocked, "600002.SH") == ["2026-11-18|10.0000"]
    os.mkfifo(tmp_path / "pipe.csv")
    with subprocess.Popen(["sh", "-c", "cat a.csv > pipe.csv"], cwd=tmp_path):
        assert stocked.run("data", "import", str(tmp_path / "pipe.csv")).out.startswith("pipe.csv: 1 bar of 1 day")
    piped = stocked.run("data", "import", "-", stdin=HEADER + bar("600003.SH", "2026-11-18"))
    assert (piped.code, piped.out) == (0, "stdin: 1 bar of 1 day, 2026-11-18 to 2026-11-18; 1 new or different\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_kept_of_a_file_that_breaks_off(number: signal.Signals, stocked: Sandbox) -> None:
    before = len(stocked.psql(RUNS).splitlines())
    process = subprocess.Popen(
        stocked.command("data", "import", "-"),
        cwd=stocked.root,
        env=stocked.environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(HEADER + bar("600004.SH", "2026-11-18") * 5000)
    process.stdin.flush()
    staging = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stockhelper-import' AND query LIKE 'COPY%'"
    )
    assert eventually(lambda: stocked.psql(staging) == "1")
    process.send_signal(number)
    # What it has read so far ends there: for all that a pipe can tell, that is the file's end.
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert eventually(lambda: len(stocked.psql(RUNS).splitlines()) > before)
    assert stocked.psql("SELECT outcome, error FROM sync_runs ORDER BY id DESC LIMIT 1") == (
        "failed|it broke off before its end"
    )
    assert bars(stocked, "600004.SH") == []


def test_a_wrong_call_is_told_before_anything_is_loaded(stocked: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + bar("600005.SH", "2026-11-18"))
    both = [str(tmp_path / "a.csv"), str(tmp_path / "missing.csv")]
    explained(stocked.run("data", "import", *both), 2, "missing.csv cannot be read", "No such file")
    explained(stocked.run("data", "import", str(tmp_path)), 2, "cannot be read", "Is a directory")
    explained(stocked.run("data", "sync", "--from", "soon"), 2, "--from is not a day, such as 2026-11-20: soon")
    explained(
        stocked.run("data", "sync", "--from", "2026-11-20", "--to", "2026-11-19"), 2, "--from 2026-11-20 is after"
    )
    assert bars(stocked, "600005.SH") == []


def test_sync_fetches_missing_days_and_requested_days_again(stocked: Sandbox) -> None:
    """A sync fetches days that are missing, and fetches days again that are requested."""
    assert eventually(lambda: SAMPLE in stocked.psql(RUNS))
    eventually(lambda: nobody_syncs(stocked))
    assert stocked.run("data", "sync").out == "Nothing to do: no trading day is missing (csv).\n"
    stocked.psql("DELETE FROM daily_bars WHERE symbol = '990001.SH' AND trade_date = '2026-11-19'")
    result = stocked.run("data", "sync", "--from", "2026-11-19", "--json").json["result"]
    wanted = {"source": "csv", "days": 2, "first_day": "2026-11-19", "last_day": "2026-11-20", "rows": 6, "changed": 1}
    assert wanted.items() <= result.items()
    told = stocked.run("data", "sync", "--from", "2026-11-20", "--to", "2026-11-20")
    assert told.out == "Synced: 1 day, 2026-11-20 to 2026-11-20; 3 bars, 0 new or different, from csv.\n"
    assert "bars up to 2026-11-20 loaded" in told.err


def test_of_two_syncs_one_is_told_that_the_other_is_at_work(stocked: Sandbox) -> None:
    holder = subprocess.Popen(
        ["docker", "exec", "-i", f"{stocked.name}-db-1", "psql", "-XqAtU", "stockhelper", "stockhelper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    # The lock of `stockhelper_app.runs`.
    holder.stdin.write("SELECT pg_advisory_lock(x'73746F636B73796E'::bigint);\n\\echo held\n")
    holder.stdin.flush()
    assert "held\n" in iter(holder.stdout.readline, "")
    try:
        explained(stocked.run("data", "sync"), 8, "another sync is at work")
    finally:
        holder.communicate("\\q\n", timeout=PATIENCE)


def test_a_folder_of_this_machine_is_read_once_it_is_named(stocked: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    folder.joinpath("mine.csv").write_text(HEADER + bar("600006.SH", "2025-01-02"))
    folder.joinpath("stocks.csv").write_text("symbol,name,listing_date\n600006.SH,钢,\n")
    stocked.set("CSV_DIR", str(folder))
    stocked.up()
    assert eventually(lambda: bars(stocked, "600006.SH") == ["2025-01-02|10.0000"])
    eventually(lambda: nobody_syncs(stocked))
    assert stocked.psql("SELECT name FROM stocks WHERE symbol = '600006.SH'") == "钢"
    folder.joinpath("mine.csv").write_text(
        HEADER + bar("600006.SH", "2025-01-02") + bar("600006.SH", "2025-01-03", "x")
    )
    explained(stocked.run("data", "sync"), 1, "the sync failed", "a bad row, in mine.csv:3: close is not")
    inspected = stocked.container("app")
    assert all(not mount["RW"] for mount in inspected["Mounts"])


def test_without_the_app_it_says_what_to_do(stocked: Sandbox, tmp_path: Path) -> None:
    assert healthy(stocked)
    assert stocked.run("stop", "app").code == 0
    file = tmp_path / "a.csv"
    file.write_text(HEADER)
    for command in (["import", str(file)], ["sync"]):
        explained(stocked.run("data", *command), 1, "the service app does not run", "next: stockhelper up")
