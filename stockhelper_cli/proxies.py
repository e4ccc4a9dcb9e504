"""The proxies that .env and the shell name, for those who fetch something on behalf of the stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

#: As Docker and Compose know them. apt reads the small spelling only, other programs either: each is given under both.
_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell a program of this machine about proxies, under both of their spellings."""
    named: dict[str, str] = {}
    for name in _NAMES:
        if value := environment.get(name.lower()) or environment.get(name):
            named |= {name: environment.get(name) or value, name.lower(): value}
    return named


def build_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that tell a build about proxies; the engine knows their names, and keeps them in no image.

    One on loopback is left out: within a build that is the build's own, where nobody listens.
    """
    return {name: value for name, value in proxies(environment).items() if not _on_loopback(name, value)}


def _on_loopback(name: str, value: str) -> bool:
    if name.upper() == "NO_PROXY":
        return False
    host = urlsplit(value if "//" in value else f"//{value}").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
