"""How many connections to the database the app may open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context

#: What a container of the app opens besides its pools; one half of a contract with `stockhelper_app.db`.
_BESIDES: Final = 3


def wanted_connections(context: Context) -> int:
    """Return how many connections all containers of the app may have open at once. Raises `ConfigError`."""
    settings = context.settings
    app = context.app
    containers = len(context.state.of_service(app.service.name)) if app is not None else 0
    return max(1, containers) * (settings.WEB_CONCURRENCY * settings.DB_POOL_SIZE + _BESIDES)
