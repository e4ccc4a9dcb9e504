"""A socket before the engine's that passes everything on, and alters the answers to one kind of question.

For what this machine's own engine will not do: be too old, have another clock, lack a limit, get stuck.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.sandbox import engine_socket

#: From an answer, head and body as they came, to the one that is given in its place.
Alter: TypeAlias = Callable[[bytes, bytes], tuple[bytes, bytes]]


def in_json(change: Callable[[Any], Any]) -> Alter:
    """Return what replaces an answer's JSON by what `change` makes of it (or in it, where it returns None)."""

    def alter(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        tree = json.loads(body)
        changed = change(tree)
        return head, json.dumps(tree if changed is None else changed).encode()

    return alter


class _Socket(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def _carry(client: socket.socket, engine_path: str, path: re.Pattern[str], alter: Alter) -> None:
    """Carry one request and its answer; one a connection, so that none of them goes by unseen."""
    request = b""
    while b"\r\n\r\n" not in request:
        if not (data := client.recv(65536)):
            return
        request += data
    head, _, rest = request.partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    method, target, version = first.split(" ")
    ours = path.search(f"{method} {target}") is not None
    upgrades = any(header.lower().startswith("upgrade:") for header in headers)
    if not upgrades:
        headers = [header for header in headers if not header.lower().startswith("connection:")]
        headers.append("Connection: close")
    # HTTP/1.0: the answer to be altered ends with its connection, and is not chunked.
    first = f"{method} {target} {'HTTP/1.0' if ours else version}"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(engine_path)
        engine.sendall("\r\n".join([first, *headers]).encode() + b"\r\n\r\n" + rest)
        onwards = threading.Thread(target=_pump, args=(client, engine), daemon=True)
        onwards.start()
        if ours:
            answer = b""
            while data := engine.recv(65536):
                answer += data
            told, _, body = answer.partition(b"\r\n\r\n")
            told, body = alter(told, body)
            told = re.sub(rb"\r\nContent-Length: \d+", b"", told, flags=re.IGNORECASE)
            with suppress(OSError):  # nobody waited for it
                client.sendall(told + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        else:
            _pump(engine, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # one side has ended: so does the other
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def altering(socket_path: Path, requests: str, alter: Alter) -> Iterator[Mapping[str, str]]:
    """Listen at a path for the length of a block; yield the environment that leads a command there.

    `requests` is a pattern that is looked for in "METHOD /path".
    """
    pattern, engine_path = re.compile(requests), engine_socket()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            _carry(self.request, engine_path, pattern, alter)

    with _Socket(str(socket_path), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield {"DOCKER_HOST": f"unix://{socket_path}"}
        finally:
            server.shutdown()
