"""What no decent caller sends, to the real process: it is refused in a documented way, and disturbs nobody else."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPResponse
from typing import Any
from unittest.mock import Mock

import httpx
import psutil
import pytest
import uvicorn
from uvicorn.server import ServerState

from stockhelper_app import protocol
from stockhelper_app.routes import operations
from tests.service.live import CANARY, Live, live
from tests.service.steps import TOKEN, V1, until
from tests.support import waiting
from tests.support.alembic import Alembic
from tests.support.service import AT_ONCE, LONG
from tests.support.waiting import eventually, request

PROBLEM = "application/problem+json"
SHARE = f"{V1}/stocks/600519.SH"
AUTHORIZED = f"Authorization: Bearer {TOKEN}"
JSON = "Content-Type: application/json"
CLOSE = "Connection: close"
CHUNKED = "Transfer-Encoding: chunked"


def waits_for(seconds: float) -> str:
    """Python that makes the service wait so long for a caller."""
    return f"import stockhelper_app.protocol as p; p.ARRIVAL = p.READING = {seconds}"


@pytest.fixture(scope="module")
def running_service(migrated: Alembic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(migrated, tmp_path_factory.mktemp("abuse"), before=waits_for(LONG), DB_POOL_SIZE="2") as made:
        yield made


@pytest.fixture
def service(running_service: Live) -> Iterator[Live]:
    """The service, which each test must leave as it was."""
    yield running_service
    running_service.check()


def ask(target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request as it is sent; a secret in a header that nobody asks for must stay one."""
    lines = [f"{method} {target} HTTP/1.1", "Host: stockhelper", f"Cookie: session={CANARY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Received(io.BytesIO):
    """What came over a connection; one answer after the other is read of it, as of a socket."""

    def makefile(self, *_: object) -> Received:
        return self

    def close(self) -> None:
        """Stay open: the next answer follows."""


def dial(service: Live) -> socket.socket:
    return socket.create_connection(service.place, timeout=waiting.PATIENCE)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    received = b""
    # It may have closed while there was something on its way that it did not want to read.
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def answers_in(received: bytes, *methods: str) -> list[HTTPResponse]:
    """The answers, each of which must be whole; those to HEAD, which have no body, are told by the methods."""
    stream = Received(received)
    found: list[HTTPResponse] = []
    while stream.tell() < len(received):
        method = methods[len(found)] if methods else "GET"
        answer = HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        answer.begin()
        text = answer.read()
        if answer.status >= 400:
            assert answer.headers["content-type"] == PROBLEM, text
            assert method == "HEAD" or json.loads(text)["status"] == answer.status
        found.append(answer)
    return found


def told(service: Live, sent: bytes, *methods: str) -> list[int]:
    """Send these bytes, and return the status of each answer until the connection is closed."""
    with closing(dial(service)) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        return [answer.status for answer in answers_in(rest_of(connection), *methods)]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /api/v1/stocks?q=\xe5\xb9\xb3 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : stockhelper\r\n\r\n",
        b"GET / HTTP/1.1\r\n: nameless\r\n\r\n",
        b"CONNECT stockhelper:443 HTTP/1.1\r\n\r\n",
        ask("http://stockhelper"),
        ask(V1, method="BREW"),
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_what_is_no_request_is_400(sent: bytes, service: Live) -> None:
    assert told(service, sent) == [400]


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 2", CHUNKED),
        (CHUNKED, "Content-Length: 2"),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2", "Content-Length: 2"),
        ("Content-Length: 2, 2",),
        ("Content-Length: -1",),
        ("Content-Length: +2",),
        ("Content-Length: 0x2",),
        ("Content-Length: two",),
        ("Content-Length: 99999999999999999999",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, identity",),
    ],
)
def test_a_body_whose_length_is_told_in_two_ways_or_none_is_400(framing: Sequence[str], service: Live) -> None:
    assert told(service, ask(f"{V1}/sync", AUTHORIZED, JSON, *framing, method="POST", body=b"{}")) == [400]


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"2\r\n{}}\r\n0\r\n\r\n", b"2{}"]
)
def test_chunks_that_are_none_are_400(chunks: bytes, service: Live) -> None:
    assert told(service, ask(f"{V1}/sync", AUTHORIZED, JSON, CHUNKED, method="POST", body=chunks)) == [400]


def test_a_body_longer_than_it_was_told_is_no_second_request(service: Live) -> None:
    hidden = ask(f"{V1}/watchlist/600519.SH", AUTHORIZED, CLOSE, method="DELETE")
    sent = ask(f"{V1}/sync", AUTHORIZED, JSON, "Content-Length: 2", method="POST", body=b"[]}" + hidden)
    assert told(service, sent) == [422]


@pytest.mark.parametrize("announced", ["Content-Length: 200", CHUNKED])
def test_a_body_that_breaks_off_is_no_fault_of_ours(announced: str, service: Live) -> None:
    with closing(dial(service)) as connection:
        connection.sendall(ask(f"{V1}/sync", AUTHORIZED, JSON, announced, method="POST", body=b'64\r\n{"from":'))
    eventually(lambda: any(line.get("path") == f"{V1}/sync" and line["status"] == 400 for line in service.lines()))


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("*", 404),
        (f"{V1}/%00", 404),
        (f"{V1}/%ff", 404),
        (f"{V1}/%zz%", 404),
        (f"{V1}/../v1/stocks", 404),
        (f"{V1}/%2e%2e/v1/stocks", 404),
        (f"{V1}/stocks/..", 422),
        (f"{V1}/stocks/%2e%2e%2f%2e%2e", 404),
        ("/../../etc/passwd", 404),
        (f"/{V1}/stocks", 404),
        (f"{V1}/stocks/600519.SH%0d%0aSet-Cookie:%20a=b", 422),
        (f"{V1}/stocks;jsessionid=1", 404),
        (f"{V1}/stocks?", 200),
        (f"{V1}/stocks?&&", 200),
        (f"{V1}/stocks?=", 422),
        (f"{V1}/stocks?limit", 422),
        (f"{V1}/stocks?limit=1&limit=1", 422),
        (f"{V1}/stocks?token={CANARY}", 422),
        (f"{V1}/stocks?q=1?q=2", 200),
        (f"{V1}/stocks#fragment", 200),
        (f"http://elsewhere.example{V1}/stocks", 200),
        (f"http://user:{CANARY}@elsewhere.example{V1}/stocks", 200),
        (f"http://elsewhere.example{V1}/nothing", 404),
        (f"{V1}/stocks?q={'a' * 60_000}", 414),
    ],
)
def test_an_odd_target_is_answered_as_any_other(target: str, status: int, service: Live) -> None:
    assert told(service, ask(target, CLOSE)) == [status]


def test_the_oldest_http_is_understood(service: Live) -> None:
    assert told(service, b"GET /\r\n\r\n") == [200]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X{number}: a" for number in range(1000)], 200),
        ([f"X{number}: a" for number in range(5000)], 431),
        (["X: " + "a" * 60_000], 431),
        (["Accept: " + "," * 1000], 406),
        (["Accept: */*;q=nan, text/csv;q=-1, application/json;q=9e999"], 406),
        (["Accept: \xff/\xff, application/json"], 200),
        (['If-None-Match: "'], 200),
        (["If-None-Match: W/, , ,, W/W/\"a\", '*'"], 200),
        (["If-None-Match: " + ",".join(['"a"'] * 1000)], 200),
        (["If-None-Match: \xff\xfe"], 200),
        (["If-None-Match: *", "If-None-Match: *"], 304),
        (["Range: bytes=0-1,5-2,-9999999999999999999"], 200),
        (["Content-Type: \xff;=;;"], 200),
        ([f"Authorization: Bearer {CANARY}"], 200),
        (["Authorization: Bearer \xff"], 200),
        (["X-Request-ID: a b", "X-Request-ID: \xff"], 200),
        (["Origin: null", "Access-Control-Request-Method: \xff"], 200),
        (["Upgrade: websocket", "Sec-WebSocket-Key: a"], 200),
        (["Expect: something else"], 200),
        (["Content-Length: 0"], 200),
        (["Content-Length: 99999999"], 413),
    ],
)
def test_an_odd_header_is_passed_over_or_refused(headers: Sequence[str], status: int, service: Live) -> None:
    assert told(service, ask(f"{SHARE}/bars", *headers, CLOSE)) == [status]


@pytest.mark.parametrize("path", sorted({operation.path for operation in operations}))
def test_every_path_answers_every_method(path: str, service: Live) -> None:
    served = {operation.method for operation in operations if operation.path == path}
    target = path.format(symbol="600519.SH")
    for method in ("HEAD", "OPTIONS", "TRACE", "PATCH", "POST", "PUT", "DELETE", "PROPFIND"):
        sent = ask(target, CLOSE, method=method)
        (status,) = told(service, sent, method)
        if method == "HEAD" and "GET" in served:
            assert status == 200
        else:
            # Nobody may change something without the token.
            assert status == (401 if method in served else 405), method


def test_requests_that_come_all_at_once_are_answered_in_order(service: Live) -> None:
    targets = [f"{V1}/stocks", "/nothing", f"{SHARE}/bars", f"{V1}/stocks?limit=0", V1] * 20
    sent = b"".join(ask(target) for target in targets) + ask(V1, CLOSE)
    assert told(service, sent) == [200, 404, 200, 422, 200] * 20 + [200]


def test_those_before_a_broken_one_are_answered_first(service: Live) -> None:
    assert told(service, ask(f"{SHARE}/bars") + ask(f"{V1}/stocks") + b"\x00\xff\r\n\r\n") == [200, 200]


def test_a_body_is_asked_for_only_when_it_is_wanted(service: Live) -> None:
    expect = ("Expect: 100-continue", "Content-Length: 2", JSON, CLOSE)
    for more, status, goes_on in (((), 401, False), ((AUTHORIZED,), 422, True)):
        with closing(dial(service)) as connection:
            connection.sendall(ask(f"{V1}/sync", *expect, *more, method="POST"))
            first = connection.recv(65536)
            assert first.startswith(b"HTTP/1.1 100") == goes_on
            if goes_on:
                connection.sendall(b"[]")
            (answer,) = answers_in(first + rest_of(connection))
            assert answer.status == status


@pytest.mark.parametrize(
    ("beginning", "more", "status"),
    [
        (b"GET /", b"a", 431),
        (b"GET / HTTP/1.1\r\n", b"a", 431),
        (b"GET / HTTP/1.1\r\nX: ", b"a", 431),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n", 431),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, CHUNKED, method="POST"), b"1;" + b"a" * 100 + b"\r\n \r\n", 431),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, CHUNKED, method="POST", body=b"0\r\n"), b"X: a\r\n", 431),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, CHUNKED, method="POST"), b"1000\r\n" + b" " * 4096 + b"\r\n", 413),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, "Content-Length: 99999999", method="POST"), b" ", 413),
    ],
)
def test_what_never_ends_is_refused_before_it_fills_the_memory(
    beginning: bytes, more: bytes, status: int, service: Live
) -> None:
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    with closing(dial(service)) as connection:
        connection.sendall(beginning)
        block = more * (65536 // len(more))
        with suppress(ConnectionError):
            for _ in range(512):
                connection.sendall(block)
            pytest.fail("it took 32 MB")
        assert [answer.status for answer in answers_in(rest_of(connection))] == [status]
    assert process.memory_info().rss - before < 8_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 8000 + b"]" * 8000,
        b'{"from": NaN}',
        b'{"from": 9223372036854775808}',
        b'{"from": "\\u0000"}',
        b'{"from": "\xff"}',
        b'{"from": "2026-11-20\'; DROP TABLE stocks; --"}',
        b'{"from": "2026-W47-5"}',
        b'{"from": "canary-secret"}',
        b'{"canary-secret": 1}',
        b'{"from": "2026-11-20", "from": "2026-11-20"',
    ],
    ids=range(10),
)
def test_a_bad_body_is_refused_and_not_logged(body: bytes, service: Live) -> None:
    (status,) = told(
        service, ask(f"{V1}/sync", AUTHORIZED, JSON, f"Content-Length: {len(body)}", CLOSE, method="POST", body=body)
    )
    assert status in (400, 422)
    assert service.database.query("SELECT count(*) FROM sync_runs") == [(0,)]


def test_callers_who_dawdle_hold_up_nobody(service: Live) -> None:
    dawdling = [
        ask(V1)[:-2],
        ask(f"{V1}/sync", AUTHORIZED, JSON, "Content-Length: 100", method="POST", body=b"{"),
        ask(f"{SHARE}/bars", "Content-Length: 100", body=b"{"),
        b"",
    ]
    with ExitStack() as opened:
        for sent in dawdling * 50:
            opened.enter_context(closing(dial(service))).sendall(sent)
        for target in (f"{V1}/stocks", f"{SHARE}/bars", f"{V1}/health"):
            assert request("GET", service.address + target, timeout=AT_ONCE).status_code == 200


#: Seconds that the service below is patient for.
PATIENCE = 0.5
#: Seconds by which its clock may be late: uvloop's counts whole milliseconds.
TICK = 0.001


class Impatient(Live):
    """A service that gives up a request that is not there at once."""

    def asked(self) -> int:
        """Return what it answers to a request that it sees only when all of it has come."""
        with ExitStack() as opened:
            with suspended(self):
                connection = opened.enter_context(closing(dial(self)))
                connection.sendall(ask(f"{V1}/stocks", AUTHORIZED, CLOSE))
            (answer,) = answers_in(rest_of(connection))
            return answer.status


@pytest.fixture(scope="module")
def impatient(migrated: Alembic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(migrated, tmp_path_factory.mktemp("impatient"), waits_for(PATIENCE), Impatient) as made:
        yield made


@contextmanager
def suspended(service: Live) -> Iterator[None]:
    """Let the service see nothing of what comes in the block before all of it has: its clock does not run meanwhile."""
    process = psutil.Process(service.process.pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def drip(service: Live, first: bytes, piece: bytes) -> tuple[bytes, float]:
    """Send a little now and then until the service closes; return what it said, and after how many seconds."""
    began = time.monotonic()
    with ExitStack() as opened:
        with suspended(service):
            connection = opened.enter_context(closing(dial(service)))
            connection.sendall(first)
        connection.settimeout(PATIENCE / 10)
        received = b""
        while time.monotonic() < began + waiting.PATIENCE:
            # It may have answered and closed by now.
            with suppress(ConnectionError):
                connection.sendall(piece)
            with suppress(TimeoutError):
                try:
                    came = connection.recv(65536)
                except ConnectionError:
                    came = b""
                if not came:
                    return received, time.monotonic() - began
                received += came
    pytest.fail("it waits for ever")


@pytest.mark.parametrize(
    ("first", "piece", "statuses"),
    [
        (b"", b"", []),
        (b"GET /", b"a", [408]),
        (ask(V1)[:-2], b"X: a\r\n", [408]),
        (ask(V1) + ask(V1)[:-2], b"X: a\r\n", [200, 408]),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, "Content-Length: 1000", method="POST"), b" ", [408]),
        (ask(f"{V1}/sync", AUTHORIZED, JSON, CHUNKED, method="POST"), b"1\r\n \r\n", [408]),
        (ask(f"{V1}/sync", JSON, CHUNKED, method="POST"), b"1\r\n \r\n", [401]),
        (ask(V1, CHUNKED), b"1\r\n \r\n", [200]),
    ],
    ids=range(8),
)
def test_a_request_that_dawdles_is_given_up(first: bytes, piece: bytes, statuses: list[int], impatient: Live) -> None:
    received, seconds = drip(impatient, first, piece)
    assert [answer.status for answer in answers_in(received)] == statuses
    assert seconds >= PATIENCE - TICK
    impatient.check()


def test_one_that_waits_for_those_before_it_is_not(impatient: Live, migrated: Alembic) -> None:
    owner = replace(migrated.database, name=impatient.database.name)
    locked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    last = ask(V1, CLOSE)
    with ExitStack() as opened:
        locking = opened.enter_context(owner.connect())
        with locking.transaction():
            locking.execute("LOCK TABLE stocks")
            with suspended(impatient):
                connection = opened.enter_context(closing(dial(impatient)))
                connection.sendall(ask(f"{V1}/stocks") * 2 + last[:-2])
            eventually(lambda: owner.query(locked) == [(1,)])
            # The first is slow for longer than its successors may take to arrive.
            time.sleep(3 * PATIENCE)
            # It is read when those are answered.
            connection.sendall(last[-2:])
        assert [answer.status for answer in answers_in(rest_of(connection))] == [200] * 3
    impatient.check()


@pytest.mark.anyio
async def test_one_that_had_to_wait_has_its_whole_time_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ARRIVAL", LONG)
    answering = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    transport = Mock()
    transport.is_closing.return_value = False
    transport.get_extra_info.return_value = None
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    connection = protocol.BoundedHttp(config, ServerState(), {})
    connection.connection_made(transport)
    connection.data_received(ask(V1) * 2 + ask(V1)[:-2])
    assert connection.flow.read_paused
    before = connection._arrival
    assert before is not None
    answering.set()
    await until(lambda: not connection.flow.read_paused)
    # Begun again, which no clock needs to be fine enough to show.
    assert before.cancelled()
    assert connection._arrival is not None
    assert not connection._arrival.cancelled()
    connection.connection_lost(None)


def test_an_answer_that_nobody_reads_is_given_up(impatient: Live) -> None:
    impatient.database.query(
        "INSERT INTO daily_bars SELECT '830001.BJ', day::date, 1, 1, 1, 1, 1, 1, 1"
        " FROM generate_series('1991-01-01'::date, '2026-12-31', '1 day') AS day ON CONFLICT DO NOTHING"
    )
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(waiting.PATIENCE)
        with suspended(impatient):
            connection.connect(impatient.place)
            connection.sendall(ask(f"{V1}/stocks/830001.BJ/bars") * 20)
        # It has begun to answer.
        assert connection.recv(1, socket.MSG_PEEK)
        ours = connection.getsockname()[1]

        def held() -> list[Any]:
            open_now = psutil.Process(impatient.process.pid).net_connections("tcp")
            return [one for one in open_now if one.raddr and one.raddr.port == ours]

        eventually(lambda: not held())
    impatient.check()


def test_many_at_once_are_each_told_what_they_asked(service: Live) -> None:
    def asked(number: int) -> str:
        detail: str = client.get(f"{V1}/stocks/{number:06}.SH").json()["detail"]
        return detail

    with (
        httpx.Client(base_url=service.address, trust_env=False, timeout=waiting.PATIENCE) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        assert list(pool.map(asked, range(200))) == [f"There is no share {number:06}.SH." for number in range(200)]
