"""How the tests wait: for what has to come true, on a shared machine that stands still for seconds at times.

Patience costs nothing where all is well, and a limit that is close to the usual turns a pause of the machine into a
failure. A test that something is quick compares it with what it must not wait for, which takes far longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

#: Seconds until something that a test waits for must have come true.
PATIENCE = 60.0


def eventually(ask: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds:g} s"
        time.sleep(0.05)
    return answer


def request(method: str, url: str, timeout: float = PATIENCE, **how: Any) -> httpx.Response:
    """Ask a server of this machine, past any proxy."""
    import httpx  # for the few that ask: it costs every other test 0.1 s

    # Nothing here speaks TLS, and to read the roots that it would trust takes twenty times as long as the rest.
    return httpx.request(method, url, trust_env=False, verify=False, timeout=timeout, **how)
