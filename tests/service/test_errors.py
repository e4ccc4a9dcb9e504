from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stockhelper_app.app import create_app
from tests.service.conftest import Lines, serving, settings_at

pytestmark = pytest.mark.anyio


async def fail(request: Request) -> Response:
    raise RuntimeError("canary-internals")


async def fail_late(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("canary-internals")

    return StreamingResponse(body())


def failing_app(port: int) -> Starlette:
    app = create_app(settings_at(port))
    app.router.routes.extend([Route("/fail", fail), Route("/late", fail_late)])
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/missing", 404, "Not Found"),
        ("GET", "/api/v1/", 404, "Not Found"),
        ("GET", "/api/v1/health/", 404, "Not Found"),
        ("GET", "/api/v1/%00%ff'; DROP TABLE stocks--", 404, "Not Found"),
        ("GET", "/" + "x" * 5000, 404, "Not Found"),
        ("POST", "/api/v1/health", 405, "Method Not Allowed"),
        ("DELETE", "/api/v1", 405, "Method Not Allowed"),
        ("GET", "/fail", 500, "Internal Server Error"),
    ],
)
async def test_an_error_is_a_problem_document(method: str, path: str, status: int, title: str, dead_port: int) -> None:
    async with serving(failing_app(dead_port)) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "request_id": answer.headers["x-request-id"],
    }


async def test_a_wrong_method_is_told_the_right_ones(dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.post("/api/v1/health")
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


async def test_an_unexpected_error_is_logged_once_with_its_traceback(dead_port: int, log_lines: Lines) -> None:
    async with serving(failing_app(dead_port)) as client:
        answer = await client.get("/fail")
    assert "canary-internals" not in answer.text
    (line,) = [line for line in log_lines() if "exception" in line]
    assert line["level"] == "error"
    assert "RuntimeError: canary-internals" in line["exception"]
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_an_error_after_the_answer_began_reaches_the_server(dead_port: int) -> None:
    async with serving(failing_app(dead_port)) as client:
        with pytest.raises(RuntimeError, match="canary-internals"):
            await client.get("/late")
