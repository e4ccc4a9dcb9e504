"""Servers of a few lines on sockets, in the place of an engine that misbehaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stockhelper_cli.engine.endpoints import Endpoint

Serve = Callable[[socket.socket], None]


def say_nothing(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(65536):
            pass


@contextmanager
def serving(listener: socket.socket, serve: Serve) -> Iterator[None]:
    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept)
    listener.listen()
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def unix_engine(path: Path, serve: Serve) -> Iterator[Endpoint]:
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with serving(listener, serve):
        yield Endpoint(f"unix://{path}", "test")
