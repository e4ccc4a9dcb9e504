"""`stockhelper config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from stockhelper_cli.commands.context import Invocation, verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "config")(config)


def config(
    invocation: Invocation,
    plan: Annotated[bool, typer.Option("--plan", help="What `up` would do, as `up --dry-run`.")] = False,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Do not mask passwords and tokens.")] = False,
) -> None:
    """Show the resolved stack, secrets masked."""
    if plan:
        from stockhelper_cli.commands.up import up

        up(invocation, dry_run=True)
        return
    project = invocation.project()
    resolved: Any = project.config()
    if not show_secrets:
        from stockhelper_cli.secrets import Secrets

        resolved = Secrets(project.environment, resolved).tree(resolved)
    invocation.console.succeed("config", resolved, lambda show: _render(resolved, show))


def _render(resolved: Mapping[str, Any], show: Callable[..., None]) -> None:
    import yaml

    text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=4096)
    show(text.rstrip(), markup=False, soft_wrap=True)
