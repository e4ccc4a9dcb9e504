"""`network.proxy`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.context import CALL_SECONDS
from stockhelper_cli.doctor.registry import Objection, objection_of

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


class NetworkProxy(Check):
    """Compares the proxy of .env or this shell with the engine's, which knows nothing of it and pulls by itself."""

    id = "network.proxy"
    group = Group.NETWORK
    title = "the engine needs no proxy to pull, or has one"
    needs = ("engine.answers",)
    seconds = CALL_SECONDS + 2.0
    explains = frozenset({"image.registry"})

    def examine(self, context: Context) -> Finding:
        """Compare them; only where a registry is out of reach does it matter that the engine has none."""
        if not context.state.local:
            return skipped("the engine is on another machine, and this one's proxy is not for it")
        key, ours = _proxy(context.project.environment)
        if theirs := context.info.proxy:
            return ok(f"the engine goes through {_shown(theirs)}")
        if not ours:
            return ok("there is none")
        lost = {
            reference: error
            for reference, error in context.refused_pulls.items()
            if objection_of(error) is Objection.UNREACHABLE
        }
        if not lost:
            return ok(f"{key} is {_shown(ours)}; the engine goes through none, and needs none now")
        return failed(
            f"the engine does not reach the registry of {', '.join(lost)}, and does not use this machine's proxy",
            f"{key} is {_shown(ours)} here; the engine has no proxy",
            *dict.fromkeys(error.cause for error in lost.values()),
            remedy=f'give it to the engine, as {key} in the environment of its service or as "proxies" in its'
            " daemon.json (Docker 23 and newer), and restart it; or do without a registry:",
            commands=["stockhelper setup"],
        )


def _proxy(environ: Mapping[str, str]) -> tuple[str, str]:
    return next(((key, environ[key]) for key in _VARIABLES if environ.get(key)), ("", ""))


def _shown(proxy: str) -> str:
    """Return a proxy's host and port; before them there may be a password."""
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]
