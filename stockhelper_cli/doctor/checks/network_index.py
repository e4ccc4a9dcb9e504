"""`network.index`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, failed, ok
from stockhelper_cli.doctor.needs import INDEX_KEY, index_of

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

_CONNECT_SECONDS: Final = 4.0


class NetworkIndex(Check):
    """Connects to the package index that a build is told to use; pip's own is nobody's setting, and not asked."""

    id = "network.index"
    group = Group.NETWORK
    title = "the package index that a build is told to use can be reached"
    needs = ("engine.answers",)
    explains = frozenset({"image.build"})

    def examine(self, context: Context) -> Finding:
        """Connect, if a build is due."""
        index = index_of(context.builds)
        if not context.needs.builds:
            return ok("no build is due")
        if index is None:
            return ok(f"a build is due ({_causes(context)}); it uses pip's own index, unless {INDEX_KEY} names another")
        place = f"{index.host}:{index.port}"
        remedy = f"mend {INDEX_KEY} in .env, or remove it"
        if not index.host:
            # Not shown: it may hold a password.
            return failed(f"{INDEX_KEY} is not a URL with a host, and a port that is a number", remedy=remedy)
        if index.host in ("localhost", "::1") or index.host.startswith("127."):
            return failed(
                f"the package index {place} is out of a build's reach",
                f"{INDEX_KEY} names loopback, which within a build is the build's own",
                remedy=f"name it in {INDEX_KEY} by an address of this machine that containers reach",
            )
        try:
            socket.create_connection((index.host, index.port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            return failed(f"the package index {place} cannot be reached", error.strerror or str(error), remedy=remedy)
        return ok(f"{place} takes connections, for the build that is due ({_causes(context)})")


def _causes(context: Context) -> str:
    return ", ".join(dict.fromkeys(context.needs.builds.values()))
