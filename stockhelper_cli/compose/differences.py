"""Which keys of a service differ from what its container was created with; for telling, never for deciding.

Whether a container is as wanted says its config hash alone. This names the keys that made it differ, as far as the
container still shows them: what is wanted now is compared key by key, by the same table that creates it. A key that
was taken out of the file leaves no trace to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stockhelper_cli.compose.body import Body
from stockhelper_cli.compose.keys import SERVICE

if TYPE_CHECKING:
    from stockhelper_cli.compose.model import Project, Service
    from stockhelper_cli.engine.protocol import Container


def differences(project: Project, service: Service, container: Container, api_version: tuple[int, int]) -> list[str]:
    """Return the names of the keys that differ, "environment" with the variables' names but not their values."""
    settings = container.settings
    if not settings:
        return []
    found = ["image"] if container.image != service.image else []
    for key in SERVICE.keys:
        value = service.spec.get(key.name)
        if key.create is None or value is None:
            continue
        body = Body(project, service, api_version)
        key.create(body, value)
        if key.name == "environment":
            present = set(settings.get("Env") or ())
            if changed := sorted(entry.partition("=")[0] for entry in set(body.config["Env"]) - present):
                found.append(f"environment ({', '.join(changed)})")
        elif (
            _differ(body.config, settings)
            or _differ(body.host, settings.get("HostConfig") or {})
            or set(body.mounts) - {mount.target for mount in container.mounts}
        ):
            found.append(key.name)
    wanted = {project.networks[name].name for name in service.networks}
    if service.networks and wanted != {attachment.network for attachment in container.networks}:
        found.append("networks")
    return found


def _differ(wanted: Any, actual: Any) -> bool:
    """Whether something wanted is not so; what the engine leaves out or empty is the same as nothing."""
    if isinstance(wanted, Mapping):
        if not isinstance(actual, Mapping):
            return bool(wanted)
        return any(_differ(value, actual.get(name)) for name, value in wanted.items())
    return (wanted or None) != (actual or None)
