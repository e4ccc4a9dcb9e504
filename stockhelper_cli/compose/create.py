"""What goes to the engine: the bodies that create a project's containers, networks and volumes.

Pure: nothing is asked and nothing is created. The bodies are those of Compose 2.40.3, label for label, so that
`docker compose` takes what was created with them for its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import labels
from stockhelper_cli.compose.body import API_OF_ENGINE_25, Body
from stockhelper_cli.compose.keys import SERVICE
from stockhelper_cli.compose.model import Network, Project, Service, Volume

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Container

#: The Compose whose labels, hashes and bodies these are.
COMPOSE_VERSION: Final = "2.40.3"
ENVIRONMENT_FILES: Final = labels.PREFIX + "project.environment_file"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to create: its final name, the body of `POST /containers/create`, and the platform asked for.

    `extra_networks` are to be connected after the create and before the start: the network's name in the engine,
    and the EndpointConfig. From API 1.44 on there are none; the body has them all.
    """

    name: str
    body: Mapping[str, Any]
    extra_networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    platform: str = ""


def container_spec(
    project: Project,
    service: Service,
    *,
    number: int = 1,
    image_id: str,
    image_volumes: Collection[str] | None = None,
    api_version: tuple[int, int],
    previous: Container | None = None,
) -> ContainerSpec:
    """Return what creates container `number` of a service.

    `image_id` is the image's id in the engine ("sha256:…"); Compose recreates when it is another one. Of `previous`,
    the container that is replaced, the volumes without a name are kept: those where the image declares one
    (`image_volumes`, paths; None keeps all of them) and those where the service mounts one without a name.

    Raises `ConfigError` for a key that this engine does not know (`healthcheck.start_interval` before Engine 25).
    """
    body = Body(project, service, api_version, previous, image_volumes)
    body.keep_anonymous_volumes()
    for key in SERVICE.keys:
        if key.create is not None and service.spec.get(key.name) is not None:
            key.create(body, service.spec[key.name])
    mounts = [mount for mount in body.mounts.values() if not isinstance(mount, str)]
    binds = [mount for mount in body.mounts.values() if isinstance(mount, str)]
    networking, extra, mode = _networks(project, service, number, api_version)
    host = {
        "NetworkMode": mode,
        "OomKillDisable": False,
        "ExtraHosts": [],
        "PortBindings": {},
        **({"Binds": binds} if binds else {}),
        **({"Mounts": mounts} if mounts else {}),
        **body.host,
    }
    whole: dict[str, Any] = {
        "AttachStdout": True,
        "AttachStderr": True,
        "Image": service.image,
        **body.config,
        "Labels": {
            **service.spec.get("labels", {}),
            **container_labels(project, service, number, image_id),
            **({labels.REPLACE: f"{service.name}-{number}"} if previous else {}),
        },
        "HostConfig": host,
    }
    if networking:
        whole["NetworkingConfig"] = {"EndpointsConfig": networking}
    return ContainerSpec(service.container(number), whole, extra, service.spec.get("platform", ""))


def container_labels(project: Project, service: Service, number: int, image_id: str) -> dict[str, str]:
    """Return the ten labels by which Compose knows a service's container, and one for env files that were asked for."""
    env_files = {ENVIRONMENT_FILES: ",".join(map(str, project.env_files))} if project.env_files else {}
    depends_on = (f"{on.service}:{on.condition}:{str(on.restart).lower()}" for on in service.depends_on)
    return {
        labels.PROJECT: project.name,
        labels.SERVICE: service.name,
        labels.CONFIG_HASH: service.hash,
        labels.NUMBER: str(number),
        labels.ONEOFF: "False",
        labels.IMAGE: image_id,
        labels.DEPENDS_ON: ",".join(depends_on),
        labels.CONFIG_FILES: ",".join(str(file) for file in project.files),
        labels.WORKING_DIR: str(project.directory),
        labels.VERSION: COMPOSE_VERSION,
        **env_files,
    }


def _networks(
    project: Project, service: Service, number: int, api_version: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the endpoints of the create, those to connect afterwards, and the network mode."""
    if "network_mode" in service.spec:
        return {}, {}, service.spec["network_mode"]
    endpoints = {project.networks[key].name: endpoint(service, key, number) for key in service.networks}
    primary = project.networks[service.networks[0]].name
    if api_version >= API_OF_ENGINE_25:
        return endpoints, {}, primary
    return {primary: endpoints.pop(primary)}, endpoints, primary


def endpoint(service: Service, network: str, number: int = 1) -> dict[str, Any]:
    """Return the EndpointConfig of a service in one of its networks, by the network's key.

    Aliases are to be sent on every connect: Compose 2.40.3 forgets them when it reconnects, and the name is lost.
    """
    settings = service.spec["networks"][network]
    made: dict[str, Any] = {
        "Aliases": [service.container(number), service.name, *(settings or {}).get("aliases", ())],
    }
    if settings is not None:
        addresses = {"ipv4_address": "IPv4Address", "ipv6_address": "IPv6Address"}
        made["IPAMConfig"] = {name: settings[key] for key, name in addresses.items() if key in settings}
        if "ipv4_address" in settings:
            made["IPAddress"] = settings["ipv4_address"]
        if "ipv6_address" in settings:
            made["IPv6Gateway"] = settings["ipv6_address"]  # as Compose does
        if "driver_opts" in settings:
            made["DriverOpts"] = settings["driver_opts"]
    return made


def network_spec(project: Project, network: Network) -> tuple[str, dict[str, Any]]:
    """Return a network's name in the engine, and the body of `POST /networks/create` without the name."""
    spec = network.spec
    body: dict[str, Any] = {
        "CheckDuplicate": True,
        "Driver": spec.get("driver", ""),
        "Internal": spec.get("internal", False),
        "Attachable": spec.get("attachable", False),
        "Options": spec.get("driver_opts"),
        "IPAM": _ipam(spec["ipam"]) if spec.get("ipam") else None,
        "Labels": {
            **spec.get("labels", {}),
            labels.PROJECT: project.name,
            labels.NETWORK: network.key,
            labels.VERSION: COMPOSE_VERSION,
            labels.CONFIG_HASH: network.hash,
        },
    }
    for key, name in (("enable_ipv4", "EnableIPv4"), ("enable_ipv6", "EnableIPv6")):
        if key in spec:
            body[name] = spec[key]
    return network.name, body


def _ipam(spec: Mapping[str, Any]) -> dict[str, Any]:
    names = {"subnet": "Subnet", "ip_range": "IPRange", "gateway": "Gateway", "aux_addresses": "AuxiliaryAddresses"}
    pools = [{names[key]: value for key, value in pool.items()} for pool in spec.get("config", ())]
    return {"Driver": spec.get("driver", ""), "Config": pools}


def volume_spec(project: Project, volume: Volume) -> tuple[str, dict[str, Any]]:
    """Return a volume's name in the engine, and the body of `POST /volumes/create` without the name."""
    spec = volume.spec
    body: dict[str, Any] = {
        "Labels": {
            **spec.get("labels", {}),
            labels.PROJECT: project.name,
            labels.VOLUME: volume.key,
            labels.VERSION: COMPOSE_VERSION,
            labels.CONFIG_HASH: volume.hash,
        },
    }
    if "driver" in spec:
        body["Driver"] = spec["driver"]
    if "driver_opts" in spec:
        body["DriverOpts"] = spec["driver_opts"]
    return volume.name, body
