"""Whether a build reaches a server: what is asked is this machine, which a build's containers go out through."""

from __future__ import annotations

import socket
from typing import Final

_CONNECT_SECONDS: Final = 4.0


def obstacle(host: str, port: int) -> str:
    """Return what keeps a build from a server, "" if it takes connections."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return "that is loopback, which within a build is the build's own; containers need another address of it"
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
