"""Servers of a test's own that a build reaches."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil


def own_address() -> str:
    """Return an address of this machine by which a build's containers reach it."""
    addresses = [address for group in psutil.net_if_addrs().values() for address in group]
    return next(a.address for a in addresses if a.family == socket.AF_INET and not a.address.startswith("127."))


@contextmanager
def listening(host: str, answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Take connections at a port for the length of a block, each answered and closed; yield the port."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it is closed
                return
            with connection, suppress(OSError):  # who only connects, or has gone
                answer(connection)

    with socket.create_server((host, 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
