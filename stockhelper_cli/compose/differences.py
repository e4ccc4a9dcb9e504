"""Which keys of a service differ from what its container was created with; for telling, never for deciding.

Whether a container is as wanted says its config hash alone. This names the keys that made it differ, as far as the
container still shows them: what is wanted now is compared key by key, by the same table that creates it. Of what was
taken out of the file, only ports, mounts and variables leave a trace that can be told from the image's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from stockhelper_cli.compose.body import Body
from stockhelper_cli.compose.keys import SERVICE

if TYPE_CHECKING:
    from stockhelper_cli.compose.model import Project, Service
    from stockhelper_cli.engine.protocol import Container


def differences(
    project: Project,
    service: Service,
    container: Container,
    api_version: tuple[int, int],
    image_variables: Collection[str] | None,
) -> list[str]:
    """Return the names of the keys that differ, "environment" with the variables' names but not their values.

    `image_variables` are the names that the image itself sets; without them (None) no variable is missed.
    """
    settings = container.settings
    if not settings:
        return []
    host = settings.get("HostConfig") or {}
    found = ["image"] if container.image != service.image else []
    mounted: set[str] = set()
    for key in SERVICE.keys:
        value = service.spec.get(key.name)
        body = Body(project, service, api_version)
        if key.create is not None and value is not None:
            key.create(body, value)
        mounted.update(body.mounts)
        match key.name:
            case "environment":
                names = _changed_variables(body.config.get("Env", ()), settings.get("Env") or (), image_variables)
                if names:
                    found.append(f"environment ({', '.join(names)})")
            case "ports" if set(host.get("PortBindings") or ()) != set(body.host.get("PortBindings", ())):
                found.append("ports")
            case _:
                missing = set(body.mounts) - {mount.target for mount in container.mounts}
                if _differ(body.config, settings) or _differ(body.host, host) or missing:
                    found.append(key.name)
    named = {m.target for m in container.mounts if m.type == "bind" or (m.name and not m.is_anonymous)}
    if named - mounted and "volumes" not in found:
        found.append("volumes")
    if service.networks and _endpoints_differ(project, service, container):
        found.append("networks")
    return found


def _endpoints_differ(project: Project, service: Service, container: Container) -> bool:
    """Whether a container is in other networks, or has other aliases there, than its service asks for."""
    given = {container.name, container.id[:12], service.container_name, service.name}
    present = {attachment.network: set(attachment.aliases) - given for attachment in container.networks}
    settings = service.spec["networks"]
    wanted = {project.networks[key].name: set((settings[key] or {}).get("aliases", ())) for key in service.networks}
    return {name: aliases - given for name, aliases in wanted.items()} != present


def _changed_variables(wanted: Collection[str], present: Collection[str], image: Collection[str] | None) -> list[str]:
    """Return the names of variables with another value, and of those that neither we nor the image set any more."""
    names = {entry.partition("=")[0] for entry in {*wanted} - {*present}}
    if image is not None:
        gone = {entry.partition("=")[0] for entry in present} - {entry.partition("=")[0] for entry in wanted}
        names |= gone - {*image}
    return sorted(names)


def _differ(wanted: Any, actual: Any) -> bool:
    """Whether something wanted is not so; what the engine leaves out or empty is the same as nothing."""
    if isinstance(wanted, Mapping):
        if not isinstance(actual, Mapping):
            return bool(wanted)
        return any(_differ(value, actual.get(name)) for name, value in wanted.items())
    return (wanted or None) != (actual or None)
