"""What every request gets: an id, a line in the log, and CORS as it is set."""

from __future__ import annotations

import re

import pytest

from tests.service.conftest import Lines, serving, settings_at

pytestmark = pytest.mark.anyio

PAGE = "https://charts.example"
PREFLIGHT = {"Access-Control-Request-Method": "GET"}


async def test_a_sane_request_id_is_kept(dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1", headers={"X-Request-ID": "order-66_a.b"})
    assert answer.headers.get_list("x-request-id") == ["order-66_a.b"]


@pytest.mark.parametrize("given", ["", "two words", "a" * 65, "<script>", 'x","level":"critical', "é"])
async def test_any_other_request_id_is_replaced(given: str, dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_each_request_has_a_line_in_the_log(dead_port: int, log_lines: Lines) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1", params={"token": "canary-secret"})
    (line,) = [line for line in log_lines() if line["event"] == "request"]
    assert line["duration_ms"] >= 0
    assert line["timestamp"].endswith("Z")
    assert {name: line[name] for name in ("method", "path", "status", "level", "request_id")} == {
        "method": "GET",
        "path": "/api/v1",
        "status": 200,
        "level": "info",
        "request_id": answer.headers["x-request-id"],
    }
    assert "canary-secret" not in str(line)


@pytest.mark.parametrize(("level", "lines"), [("INFO", 0), ("DEBUG", 1)])
async def test_probes_that_succeed_do_not_fill_the_log(
    level: str, lines: int, dead_port: int, log_lines: Lines
) -> None:
    async with serving(settings_at(dead_port, log_level=level)) as client:
        await client.get("/api/v1/health/live")
    assert len([line for line in log_lines() if line["event"] == "request"]) == lines


async def test_no_origin_may_call_by_default(dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1", headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_a_listed_origin_may_call_and_sees_errors_too(dead_port: int) -> None:
    async with serving(settings_at(dead_port, cors_origins=f"https://other.example, {PAGE}")) as client:
        preflight = await client.options("/api/v1", headers={"Origin": PAGE, **PREFLIGHT})
        missing = await client.get("/missing", headers={"Origin": PAGE})
    assert preflight.status_code == 200
    assert missing.status_code == 404
    for answer in (preflight, missing):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers
    assert missing.headers["access-control-expose-headers"] == "X-Request-ID, ETag, Retry-After"


async def test_an_origin_that_is_not_listed_is_refused_with_a_problem(dead_port: int) -> None:
    async with serving(settings_at(dead_port, cors_origins=PAGE)) as client:
        answer = await client.options("/api/v1", headers={"Origin": "https://evil.example", **PREFLIGHT})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "Disallowed CORS origin"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "access-control-allow-origin" not in answer.headers
