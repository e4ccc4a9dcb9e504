"""Tushare Pro, played by a server of the tests: what is asked, how often, and what becomes of its answers."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import stamina

from stockhelper_app.providers import ProviderError, Share, chosen
from stockhelper_app.providers.tushare import Tushare
from stockhelper_app.settings import Settings
from tests.service.conftest import Lines
from tests.support.fake_tushare import (
    NOT_PERMITTED,
    OUT_OF_ORDER,
    TOKEN,
    TOO_MUCH_TODAY,
    TOO_OFTEN,
    FakeTushare,
    serving,
)
from tests.support.waiting import PATIENCE

DAY = dt.date(2026, 11, 20)
BAR = (1460.0, 1472.5, 1451.2, 1468.8, 24133.57, 3529120.123)


@pytest.fixture
def server() -> Iterator[FakeTushare]:
    with serving() as fake:
        fake.bars = {"20261119": {"600519.SH": BAR}, "20261120": {"600519.SH": BAR, "000001.SZ": (1, 1, 1, 1, 0, 0)}}
        fake.factors = {"600519.SH": 8.1234}
        yield fake


@contextmanager
def provider(
    server: FakeTushare,
    token: str = TOKEN,
    *,
    calls_per_minute: int = 10_000,
    minute: float = 60,
    timeout: float = PATIENCE,
) -> Iterator[Tushare]:
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        yield Tushare(client, server.url, token, calls_per_minute=calls_per_minute, minute=minute)


def bars(made: Tushare, *days: dt.date) -> list[str]:
    return [line.decode().strip() for batch in made.batches(days or (DAY,)) for part in batch.parts for line in part]


@pytest.fixture
def at_once() -> Iterator[None]:
    """Let retries come without the pauses between them."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def test_lots_become_shares_and_thousands_become_yuan(server: FakeTushare) -> None:
    with provider(server) as made:
        assert bars(made) == [
            "1,600519.SH,2026-11-20,1460.0,1472.5,1451.2,1468.8,2413357,3529120123.000,8.1234",
            "2,000001.SZ,2026-11-20,1,1,1,1,0,0,",
        ]


def test_each_day_is_a_batch_of_its_own(server: FakeTushare) -> None:
    with provider(server) as made:
        days = [DAY - dt.timedelta(days=1), DAY]
        assert [batch.days for batch in made.batches(days)] == [(days[0],), (days[1],)]


def test_trading_days_are_those_of_the_calendar(server: FakeTushare) -> None:
    with provider(server) as made:
        assert made.trading_days(None, DAY) == [dt.date(2026, 11, 19), DAY]
        assert made.trading_days(DAY, DAY) == [DAY]
    assert [params["start_date"] for _, params in server.calls] == ["20251120", "20261120"]


def test_shares_have_names_and_other_symbols_are_skipped(server: FakeTushare) -> None:
    """Shares have their names, and symbols that are no shares are skipped."""
    server.names = {"600519.SH": "贵州茅台", "T00018.SH": "上港集箱(退)"}
    with provider(server) as made:
        assert list(made.shares()) == [Share("600519.SH", "贵州茅台", dt.date(2001, 8, 27))]


def test_a_table_is_asked_for_page_by_page(server: FakeTushare) -> None:
    server.page = 2
    server.bars["20261120"] = {f"60000{n}.SH": BAR for n in range(5)}
    with provider(server) as made:
        assert len(bars(made)) == 5
    assert [params.get("offset") for api, params in server.calls if api == "daily"] == [None, "2", "4"]


def test_a_day_without_bars_is_not_there_yet(server: FakeTushare) -> None:
    server.bars["20261123"] = {}
    with provider(server) as made, pytest.raises(ProviderError, match="no bars of 2026-11-23 yet"):
        bars(made, DAY, dt.date(2026, 11, 23))


@pytest.mark.parametrize(
    "bar",
    [
        (10, 9, 8, 9, 1, 1),
        (10, 11, 0, 10, 1, 1),
        (10, 11, 9, 10, -1, 1),
        (10, 11, 9, 10, None, 1),
        ("NaN", 11, 9, 10, 1, 1),
        (1e9, 1e9, 1e9, 1e9, 1, 1),
    ],
)
def test_a_bar_that_contradicts_itself_is_left_out_and_told(
    bar: tuple[object, ...], server: FakeTushare, capsys: pytest.CaptureFixture[str]
) -> None:
    server.bars["20261120"]["600000.SH"] = bar
    with provider(server) as made:
        assert [line.split(",")[1] for line in bars(made)] == ["600519.SH", "000001.SZ"]
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [OUT_OF_ORDER, 500, 503, 429, b"<html>proxy</html>", b"[]"])
def test_what_may_pass_is_tried_again(fault: tuple[int, str] | int | bytes, server: FakeTushare, at_once: None) -> None:
    server.faults.extend([fault, fault])
    with provider(server) as made:
        assert made.trading_days(DAY, DAY) == [DAY]
    assert len(server.calls) == 3


def test_what_is_asked_again_is_told(server: FakeTushare, at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults.append(503)
    settings = Settings.model_validate({"tushare_token": TOKEN, "tushare_url": server.url})
    with chosen(settings) as made:
        made.trading_days(DAY, DAY)
    said = capsys.readouterr().out
    assert "tushare is asked again" in said
    assert "tushare answers 503" in said
    assert TOKEN not in said


def test_what_does_not_pass_is_given_up_and_told(server: FakeTushare, at_once: None) -> None:
    server.faults.extend([502] * 9)
    with provider(server) as made, pytest.raises(ProviderError, match="tushare answers 502"):
        made.trading_days(DAY, DAY)
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (NOT_PERMITTED, "没有接口访问权限"),
        (TOO_MUCH_TODAY, "每天最多访问"),
        (404, "tushare answers 404"),
        (b'{"code": 0, "msg": "", "data": {"fields": ["x"], "items": []}}', "no table of cal_date"),
        (b'{"code": 0, "msg": "", "data": {"fields": ["cal_date"], "items": [["soon"]]}}', "no day: 'soon'"),
        (b'{"code": 0, "msg": "", "data": null}', "code 0"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(
    fault: tuple[int, str] | int | bytes, message: str, server: FakeTushare
) -> None:
    server.faults.append(fault)
    with provider(server) as made, pytest.raises(ProviderError, match=message):
        made.trading_days(DAY, DAY)
    assert len(server.calls) == 1


def test_a_wrong_token_is_told_without_being_shown(server: FakeTushare, log_lines: Lines) -> None:
    with provider(server, "canary-wrong-token") as made, pytest.raises(ProviderError, match="token不对") as raised:
        made.trading_days(DAY, DAY)
    assert "canary" not in str(raised.value)


def test_account_without_factors_or_names_still_gets_bars(server: FakeTushare) -> None:
    """An account that may not ask for factors or names still gets bars."""
    server.refused = {"adj_factor": NOT_PERMITTED, "stock_basic": NOT_PERMITTED}
    with provider(server) as made:
        assert list(made.shares()) == []
        assert [line.rpartition(",")[2] for line in bars(made, DAY, DAY)] == [""] * 4
    # Having been told once suffices.
    assert server.count()["adj_factor"] == 1


def test_factors_that_are_only_late_are_not_done_without(server: FakeTushare) -> None:
    server.refused = {"adj_factor": TOO_MUCH_TODAY}
    with provider(server) as made, pytest.raises(ProviderError, match="每天最多访问"):
        bars(made)


def test_it_is_asked_no_more_often_than_allowed(server: FakeTushare) -> None:
    with provider(server, calls_per_minute=10, minute=0.5) as made:
        began = time.monotonic()
        for _ in range(5):
            made.trading_days(DAY, DAY)
        assert time.monotonic() - began >= 4 * 0.05


def test_too_often_is_waited_out(server: FakeTushare) -> None:
    # Somebody else uses the same token: keeping to the limit is not enough.
    server.faults.extend([TOO_OFTEN] * 2)
    with provider(server, minute=0.4) as made:
        began = time.monotonic()
        assert made.trading_days(DAY, DAY) == [DAY]
        assert 0.8 <= time.monotonic() - began < PATIENCE
    assert len(server.calls) == 3


def test_a_server_that_says_nothing_is_not_waited_for_long(silent_port: int, at_once: None) -> None:
    fake = FakeTushare(f"http://127.0.0.1:{silent_port}")
    with provider(fake, timeout=0.2) as made, pytest.raises(ProviderError, match="cannot be reached: timed out"):
        made.trading_days(DAY, DAY)


def test_a_private_root_certificate_is_trusted_when_it_is_named(tmp_path: Path, at_once: None) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(tls) as server:
        server.bars = {"20261120": {}}
        settings = Settings.model_validate({"tushare_token": TOKEN, "tushare_url": server.url})
        with chosen(settings) as made, pytest.raises(ProviderError, match="CERTIFICATE_VERIFY_FAILED"):
            made.trading_days(DAY, DAY)
        # As compose.yaml mounts it when nothing is named.
        none = settings.model_copy(update={"data_ca_file": Path("/dev/null")})
        with chosen(none) as made, pytest.raises(ProviderError, match="CERTIFICATE_VERIFY_FAILED"):
            made.trading_days(DAY, DAY)
        with chosen(settings.model_copy(update={"data_ca_file": certificate})) as made:
            assert made.trading_days(DAY, DAY) == [DAY]
        key.write_text("no certificate\n")
        bad = settings.model_copy(update={"data_ca_file": key})
        with pytest.raises(ProviderError, match="DATA_CA_FILE cannot be used"), chosen(bad):
            pass
