"""The limits that the files put on a service, as the engine will be told them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service

#: Bytes of /dev/shm in a container that nobody gave more or less.
_SHARED_MEMORY: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service may use: memory and /dev/shm in bytes, processes with their threads; 0 for as much as there is."""

    memory: int
    shared_memory: int
    processes: int


def limits_of(project: Project, service: Service, api_version: tuple[int, int]) -> Limits:
    """Return the limits of a service. Raises `ConfigError` for a key that this engine does not know."""
    from stockhelper_cli.compose.create import container_spec

    body = container_spec(project, service, image_id="", api_version=api_version).body
    host: dict[str, Any] = body["HostConfig"]
    return Limits(
        memory=int(host.get("Memory") or 0),
        shared_memory=int(host.get("ShmSize") or _SHARED_MEMORY),
        processes=max(0, int(host.get("PidsLimit") or 0)),  # -1 too is none
    )
