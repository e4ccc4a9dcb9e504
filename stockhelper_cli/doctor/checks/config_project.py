"""`config.project`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, ok

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigProject(Check):
    """Looks for the project's root, upwards from where the command was started."""

    id = "config.project"
    group = Group.CONFIGURATION
    title = "there is a project here or in a folder above"

    def examine(self, context: Context) -> Finding:
        """Look for the root."""
        return ok(str(context.root))
