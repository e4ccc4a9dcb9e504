"""Ports of loopback, and networks, that no other test is given."""

from __future__ import annotations

import contextlib
import random
import socket

from tests.support import PREFIX

#: Below those that a kernel or an engine chooses from where nobody has asked for one.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that no other test is given while this process lives."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket(socket.AF_UNIX) as claim, socket.socket() as listener, contextlib.suppress(OSError):
            # A name in the kernel alone, which goes with this process: whoever got the port may take it much later.
            claim.bind(f"\0{PREFIX}port-{port}")
            listener.bind(("127.0.0.1", port))
            claim.detach()
            return port


def free_subnet() -> str:
    """Return the first three numbers of a network that no other test is given while this process lives.

    It is one of those for benchmarks (RFC 2544), which nobody else uses.
    """
    while True:
        subnet = f"198.18.{random.randrange(256)}"
        with socket.socket(socket.AF_UNIX) as claim, contextlib.suppress(OSError):
            claim.bind(f"\0{PREFIX}subnet-{subnet}")
            claim.detach()
            return subnet
