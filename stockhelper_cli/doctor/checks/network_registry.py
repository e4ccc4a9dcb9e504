"""`network.registry`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, ok
from stockhelper_cli.doctor.context import CALL_SECONDS
from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class NetworkRegistry(Check):
    """Lets the engine ask for the images that are missing; where none is, no registry is needed, nor asked."""

    id = "network.registry"
    group = Group.NETWORK
    title = "the registry of every image that has to be pulled has it"
    needs = ("engine.answers",)
    seconds = CALL_SECONDS + 2.0  # the engine has its own limit for each answer
    explains = frozenset({"image.registry"})

    def examine(self, context: Context) -> Finding:
        """Ask for each, side by side."""
        pulls = context.needs.pulls
        if not pulls:
            return ok("none is needed: no image has to be pulled")
        with ThreadPoolExecutor(len(pulls)) as pool:
            errors = [error for error in pool.map(lambda pull: _objection(context, pull), pulls) if error]
        if not errors:
            return ok(f"has {', '.join(pulls)}")
        return failed(
            "; ".join(error.message for error in errors),
            *dict.fromkeys(error.cause for error in errors),
            remedy="build stand-ins for the base images, or carry the images over from a machine that has them",
            commands=["stockhelper setup", "stockhelper images load FILE"],
        )


def _objection(context: Context, reference: str) -> EngineError | None:
    try:
        context.engine.ask_registry(reference)
    except EngineError as error:
        return error
    return None
