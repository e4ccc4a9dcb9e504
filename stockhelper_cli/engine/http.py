"""One request to an engine and its answer, over its socket, with the standard library alone.

The SDK takes five times as long to import as all that a look at the stack asks for, and a third of what `down` takes.
So what a method and a path say goes this way, and what has a body, or streams, goes through the SDK (`docker_engine`).
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockhelper_cli.engine.endpoints import Endpoint, Tls

_TCP_PORT: Final = 2375
_TLS_PORT: Final = 2376
_CHUNK_BYTES: Final = 1 << 16
#: How much of an answer's time (seconds) one look for it can cost at most, however long it lasts by the clock.
_LOOK_SECONDS: Final = 0.25


class Answer(NamedTuple):
    """What an engine answered; the headers' names are in small letters."""

    status: int
    status_line: str
    headers: Mapping[str, str]
    body: bytes


def call(endpoint: Endpoint, path: str, seconds: float, method: str = "GET") -> Answer:
    """Send an engine (unix, tcp or http(s) URL) a request without a body; return its answer, whatever its status.

    `seconds` is for the whole answer: an engine that drips is not one that answers. A time in which this process stood
    still (Ctrl-Z, a machine that sleeps) does not count. Raises `OSError` (`TimeoutError` when the time is over), and
    `ValueError` for a URL that is none, or for an answer that is not HTTP or not whole.
    """
    with _open(endpoint, seconds) as connection:
        # HTTP/1.0: the engine closes when it has said everything, and does not chunk.
        length = "" if method == "GET" else "Content-Length: 0\r\n"
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: engine\r\n{length}\r\n".encode())
        head, _, body = _read_all(connection, seconds).partition(b"\r\n\r\n")
    status_line, *lines = head.decode(errors="replace").split("\r\n")
    status = re.match(r"HTTP/1\.[01] ([0-9]{3})\b", status_line)
    if status is None:
        raise ValueError(f"something else answers there: {status_line or 'it hung up'}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if len(body) < int(headers.get("content-length", 0)):
        raise ValueError("it hung up in the middle of its answer")
    return Answer(int(status[1]), status_line, headers, body)


def _open(endpoint: Endpoint, seconds: float) -> socket.socket:
    path = endpoint.socket_path
    if path is not None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return connection
    parts = urlsplit(endpoint.url)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise ValueError(f"{endpoint.url} is no URL of an engine (unix://, tcp:// or ssh://)")
    secure = endpoint.tls is not None or parts.scheme == "https"
    port = parts.port or (_TLS_PORT if secure else _TCP_PORT)
    connection = socket.create_connection((parts.hostname, port), timeout=seconds)
    if not secure:
        return connection
    try:
        return _wrap(connection, endpoint.tls, parts.hostname)
    except BaseException:
        connection.close()
        raise


def _wrap(connection: socket.socket, tls: Tls | None, host: str) -> socket.socket:
    import ssl

    context = ssl.create_default_context(cafile=tls.ca if tls else None)
    if tls and not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls and tls.cert and tls.key:
        context.load_cert_chain(tls.cert, tls.key)
    return context.wrap_socket(connection, server_hostname=host)


def _read_all(connection: socket.socket, seconds: float) -> bytes:
    pieces: list[bytes] = []
    while seconds > 0:
        began = time.monotonic()
        connection.settimeout(min(seconds, _LOOK_SECONDS))
        with suppress(TimeoutError):
            received = connection.recv(_CHUNK_BYTES)
            if not received:
                return b"".join(pieces)
            pieces.append(received)
        seconds -= min(time.monotonic() - began, _LOOK_SECONDS)
    raise TimeoutError
