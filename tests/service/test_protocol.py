"""What has come when a time is up is still looked at: a process that stood still meets its clocks first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
import uvicorn
from uvicorn.server import ServerState

from stockhelper_app.app import create_app
from stockhelper_app.protocol import BoundedHttp
from tests.service.conftest import settings_at
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

ASKED = b"GET /nothing HTTP/1.1\r\nHost: stockhelper\r\n\r\n"


@pytest.fixture
async def connected(dead_port: int) -> AsyncIterator[tuple[socket.socket, BoundedHttp]]:
    """The two ends of a connection, ours without a loop, so that nothing is read while a test goes on."""
    config = uvicorn.Config(create_app(settings_at(dead_port)), lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    with closing(socket.create_connection(server.sockets[0].getsockname(), timeout=PATIENCE)) as ours:
        async with asyncio.timeout(PATIENCE):
            while not state.connections:
                await asyncio.sleep(0)
        (theirs,) = state.connections
        assert isinstance(theirs, BoundedHttp)
        yield ours, theirs
    server.close()


async def answer_to(ours: socket.socket) -> bytes:
    return await asyncio.to_thread(ours.recv, 65536)


async def test_a_request_that_came_in_time_is_not_late(connected: tuple[socket.socket, BoundedHttp]) -> None:
    ours, theirs = connected
    ours.sendall(ASKED)
    theirs._late()
    assert (await answer_to(ours)).startswith(b"HTTP/1.1 404")


async def test_one_that_did_not_is(connected: tuple[socket.socket, BoundedHttp]) -> None:
    ours, theirs = connected
    ours.sendall(ASKED[:-2])
    theirs._late()
    assert (await answer_to(ours)).startswith(b"HTTP/1.1 408")


async def test_a_connection_is_not_idle_when_the_next_request_has_come(
    connected: tuple[socket.socket, BoundedHttp],
) -> None:
    ours, theirs = connected
    for _ in range(2):
        ours.sendall(ASKED)
        if theirs.timeout_keep_alive_task is not None:
            theirs.timeout_keep_alive_handler()
        assert (await answer_to(ours)).startswith(b"HTTP/1.1 404")
    theirs.timeout_keep_alive_handler()
    assert await answer_to(ours) == b""


async def test_an_answer_is_not_unread_when_there_is_room_for_more(
    connected: tuple[socket.socket, BoundedHttp],
) -> None:
    ours, theirs = connected
    theirs.pause_writing()
    theirs._unread()
    theirs.resume_writing()
    ours.sendall(ASKED)
    assert (await answer_to(ours)).startswith(b"HTTP/1.1 404")
