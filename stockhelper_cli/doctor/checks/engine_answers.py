"""`engine.answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, ok
from stockhelper_cli.errors import ExitCode

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class EngineAnswers(Check):
    """Asks for all that is there of the project: an engine may say who it is and still be stuck."""

    id = "engine.answers"
    group = Group.ENGINE
    title = "the engine tells what there is of the project"
    needs = ("engine.reachable", "config.compose")
    exit_code = ExitCode.ENVIRONMENT

    def examine(self, context: Context) -> Finding:
        """Ask for containers, networks, volumes and images."""
        state = context.state
        found = {
            "container": len(state.containers),
            "network": len(state.networks),
            "volume": len(state.volumes),
            "image": len(state.images),
        }
        told = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in found.items())
        return ok(f"{context.project.name}: {told}")
