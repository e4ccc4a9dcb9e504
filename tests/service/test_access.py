"""Who may read and write, and that no input, however bad, ends in anything but a problem document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.service.conftest import Lines, serving, settings_at, settings_for
from tests.service.steps import BEARER, TOKEN, V1, Line
from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

WRITES = [("PUT", "watchlist/600519.SH"), ("DELETE", "watchlist/600519.SH"), ("POST", "sync")]
READS = ["", "/openapi.json", "/stocks", "/stocks/600519.SH", "/stocks/600519.SH/bars", "/watchlist", "/sync/runs"]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff", TOKEN]
)
async def test_writing_needs_the_token(method: str, path: str, given: str | None, dead_port: int) -> None:
    async with serving(settings_at(dead_port, api_token=TOKEN)) as reader:
        headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
        answer = await reader.request(method, f"{V1}/{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_without_a_token_of_its_own_nothing_is_written(method: str, path: str, dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as anybody:
        answer = await anybody.request(method, f"{V1}/{path}", headers=BEARER)
    assert answer.status_code == 403
    assert "API_TOKEN" in answer.json()["detail"]


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.168.1.5", "::"])
async def test_beyond_loopback_reading_needs_it_too_but_not_health(bind: str, shelf: Postgres) -> None:
    async with serving(settings_for(shelf, api_token=TOKEN, app_bind=bind)) as reader:
        for path in READS:
            assert (await reader.get(V1 + path)).status_code == 401
            assert (await reader.get(V1 + path, headers=BEARER)).status_code == 200
        for path in ("/health", "/health/live"):
            assert (await reader.get(V1 + path)).status_code == 200


@pytest.mark.parametrize("more", [{"app_bind": "127.0.0.9"}, {"app_bind": "0.0.0.0", "api_public_read": True}])
async def test_on_loopback_or_when_all_may_reading_needs_none(more: dict[str, object], shelf: Postgres) -> None:
    async with serving(settings_for(shelf, api_token=TOKEN, **more)) as reader:
        for path in READS:
            assert (await reader.get(V1 + path)).status_code == 200


async def test_the_token_is_in_no_line_of_the_log(stocked: Postgres, log_lines: Lines) -> None:
    async with serving(settings_for(stocked, api_token=TOKEN)) as writer:
        for given in (TOKEN, "canary-secret"):
            await writer.put(f"{V1}/watchlist/600519.SH", headers={"Authorization": f"Bearer {given}"})
    text = str(log_lines())
    assert "request" in text
    assert TOKEN not in text
    assert "canary-secret" not in text


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/stocks?limit=0", 422, "limit"),
        ("/stocks?limit=1001", 422, "limit"),
        ("/stocks?limit=-1", 422, "limit"),
        ("/stocks?limit=NaN", 422, "limit"),
        ("/stocks?limit=9223372036854775808", 422, "limit"),
        ("/stocks?limit=" + "9" * 5000, 422, "limit"),
        ("/stocks?limit=", 422, "limit"),
        ("/stocks?limit=1;DROP TABLE stocks", 422, "limit"),
        ("/stocks?limit=1&limit=2", 422, "limit"),
        ("/stocks?q=", 422, "q"),
        ("/stocks?q=" + "a" * 51, 422, "q"),
        ("/stocks?q=%00", 422, "q"),
        ("/stocks?q=%ff", 400, "query"),
        ("/stocks?q=%ED%A0%80", 400, "query"),
        ("/stocks?cursor=%00", 422, "cursor"),
        ("/stocks?cursor=!!!!", 422, "cursor"),
        ("/stocks?cursor=JyBPUiAxPTE", 422, "cursor"),
        ("/stocks?unknown=1", 422, "unknown"),
        ("/stocks?%00=1", 422, "\N{REPLACEMENT CHARACTER}"),
        ("/stocks?" + "&".join(f"a{i}=1" for i in range(50)), 422, "query"),
        ("/sync/runs?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5", 422, "cursor"),
        ("/sync/runs?cursor=LTE", 422, "cursor"),
        ("/stocks/600519", 422, "symbol"),
        ("/stocks/600519.SH%0A", 422, "symbol"),
        ("/stocks/600519.SH%00", 422, "symbol"),
        ("/stocks/%ff", 422, "symbol"),
        ("/stocks/'; DROP TABLE stocks--", 422, "symbol"),
        ("/stocks/٦٠٠٥١٩.SH", 422, "symbol"),
        ("/stocks/600519.SH/bars?from=2026-02-30", 422, "from"),
        ("/stocks/600519.SH/bars?from=20260201", 422, "from"),
        ("/stocks/600519.SH/bars?to=NaN", 422, "to"),
        ("/stocks/600519.SH/bars?to=99999-01-01", 422, "to"),
        ("/stocks/600519.SH/bars?from=2026-11-20&to=2026-11-19", 422, "query"),
        ("/stocks/600519.SH/bars?adjust=sideways", 422, "adjust"),
    ],
)
async def test_a_bad_value_is_told_by_its_field(path: str, status: int, field: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(V1 + path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


DEEP = b"[" * 8000 + b"]" * 8000
JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", JSON, 400),
        (DEEP, JSON, 400),
        (b'{"from": NaN}', JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (b'{"from": "\\ud800"}', JSON, 400),
        (b'{"from": 9223372036854775808}', JSON, 422),
        (b'{"from": "2026-11-20\\u0000"}', JSON, 422),
        (b'{"from": 1763596800}', JSON, 422),
        (b'{"from": {"from": []}}', JSON, 422),
        (b"[]", JSON, 422),
        (b"null", JSON, 422),
        (b'{"until": "2026-11-20"}', JSON, 422),
        (b'{"from": "2026-11-20", "to": "2026-11-19"}', JSON, 422),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b" " * 20_000, JSON, 413),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_bad_body_is_refused(
    body: bytes, kind: str, status: int, chunked: bool, client: httpx.AsyncClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 4096):
            yield body[start : start + 4096]

    answer = await client.post(
        f"{V1}/sync", content=pieces() if chunked else body, headers={**BEARER, "Content-Type": kind}
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"X-Long": "a" * 20_000}, "/stocks", 431),
        ({f"X-{number}": "a" * 100 for number in range(200)}, "/stocks", 431),
        ({}, "/stocks?q=" + "a" * 9000, 414),
        ({}, "/" + "a" * 9000, 414),
        ({"Content-Length": "99999999999"}, "/stocks", 413),
        ({"Content-Length": "9" * 6000}, "/stocks", 413),
    ],
)
async def test_what_is_too_large_is_refused(
    headers: dict[str, str], path: str, status: int, client: httpx.AsyncClient
) -> None:
    answer = await client.get(V1 + path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "stocks"), ("PATCH", "watchlist/600519.SH"), ("GET", "sync"), ("TRACE", "health"), ("BREW", "stocks")],
)
async def test_a_wrong_method_is_405(method: str, path: str, client: httpx.AsyncClient) -> None:
    answer = await client.request(method, f"{V1}/{path}", headers=BEARER)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"]


async def test_a_database_that_is_away_is_503_with_a_time_to_come_back(dead_port: int) -> None:
    async with serving(settings_at(dead_port, api_token=TOKEN)) as reader:
        for method, path in [
            *(("GET", path) for path in READS[2:]),
            ("PUT", "/watchlist/600519.SH"),
            ("POST", "/sync"),
        ]:
            answer = await reader.request(method, V1 + path, headers=BEARER)
            assert answer.status_code == 503, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0


async def test_one_that_hangs_is_503_in_time_and_recovers(stocked: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"db_pool_size": 1}
    async with Line().to(stocked) as line, serving(settings_for(stocked, postgres_port=line.port, **more)) as reader:
        assert (await reader.get(f"{V1}/stocks")).status_code == 200
        line.flowing.clear()
        monkeypatch.setattr("stockhelper_app.db.QUERY_TIMEOUT", 1.0)
        began = time.monotonic()
        # Far more than the pool has connections: in turns, they would take 100 s.
        answers = await asyncio.gather(*(reader.get(f"{V1}/stocks") for _ in range(100)))
        assert {answer.status_code for answer in answers} == {503}
        assert time.monotonic() - began < PATIENCE
        line.flowing.set()
        began = time.monotonic()
        while (await reader.get(f"{V1}/stocks")).status_code != 200:
            assert time.monotonic() - began < PATIENCE
        assert (await reader.get(f"{V1}/health")).status_code == 200


async def test_connections_that_were_cut_are_not_noticed(stocked: Postgres, postgres: Postgres) -> None:
    async with serving(settings_for(stocked)) as reader:
        assert (await reader.get(f"{V1}/stocks")).status_code == 200
        # With a time limit it waits until they have ended.
        cut = "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE datname = %s"
        assert postgres.query(cut, int(PATIENCE * 1000), stocked.name) != []
        assert (await reader.get(f"{V1}/stocks")).status_code == 200
