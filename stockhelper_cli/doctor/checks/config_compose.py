"""`config.compose`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, ok

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigCompose(Check):
    """Resolves the compose files, as every command does."""

    id = "config.compose"
    group = Group.CONFIGURATION
    title = "the compose files are valid"
    needs = ("config.values",)

    def examine(self, context: Context) -> Finding:
        """Load the project."""
        project = context.project
        files = ", ".join(
            str(file.relative_to(project.root) if file.is_relative_to(project.root) else file) for file in project.files
        )
        services = len(project.services)
        return ok(f"{files}: {services} service{'' if services == 1 else 's'}", *project.warnings)
