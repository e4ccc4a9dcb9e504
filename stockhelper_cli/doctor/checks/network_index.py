"""`network.index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, ok
from stockhelper_cli.doctor.needs import INDEX_KEY, index_of
from stockhelper_cli.doctor.reach import obstacle

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


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
        if reason := obstacle(index.host, index.port):
            return failed(f"the package index {place} cannot be reached by a build", reason, remedy=remedy)
        return ok(f"{place} takes connections, for the build that is due ({_causes(context)})")


def _causes(context: Context) -> str:
    return ", ".join(dict.fromkeys(context.needs.builds.values()))
