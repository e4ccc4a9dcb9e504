"""How a service's keys are put into the body of the call that creates its container.

One small function for each way; the rows of `keys` name them. The body is that of `POST /containers/create` of the
Engine API, filled as Compose 2.40.3 fills it (its calls were recorded; the tests record them again).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from stockhelper_cli.compose import values
from stockhelper_cli.errors import ConfigError

if TYPE_CHECKING:
    from stockhelper_cli.compose.model import Project, Service
    from stockhelper_cli.engine.protocol import Container

_BILLION = 1_000_000_000

#: From this API on, a create takes every network at once, and a health check an interval for the start.
API_OF_ENGINE_25 = (1, 44)


@dataclass
class Body:
    """A container's create body in the making, and what making it depends on."""

    project: Project
    service: Service
    api_version: tuple[int, int]
    previous: Container | None = None
    image_volumes: Collection[str] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    mounts: dict[str, dict[str, Any] | str] = field(default_factory=dict)

    def keep_anonymous_volumes(self) -> None:
        """Mount the previous container's volumes again that have no name of their own.

        Those are where the image declares a volume, or the service one without a name. Not knowing the image's
        (None), every volume is kept that the engine named.
        """
        unnamed = {
            mount["target"]
            for mount in self.service.spec.get("volumes", ())
            if mount["type"] == "volume" and "source" not in mount
        }
        for mount in self.previous.mounts if self.previous else ():
            declared = mount.is_anonymous if self.image_volumes is None else mount.target in self.image_volumes
            if mount.type != "tmpfs" and (declared or mount.target in unnamed):
                source = mount.name if mount.type == "volume" else mount.source
                self.mounts[mount.target] = {"Type": mount.type, "Source": source, "Target": mount.target}


Put: TypeAlias = Callable[[Body, Any], None]


def as_given(value: Any) -> Any:
    """Return the value."""
    return value


def in_config(name: str, convert: Callable[[Any], Any] = as_given) -> Put:
    """Return a function that sets a field of the container's own configuration."""

    def put(body: Body, value: Any) -> None:
        body.config[name] = convert(value)

    return put


def in_host(name: str, convert: Callable[[Any], Any] = as_given) -> Put:
    """Return a function that sets a field of `HostConfig`."""

    def put(body: Body, value: Any) -> None:
        body.host[name] = convert(value)

    return put


def environment(variables: Mapping[str, str | None]) -> list[str]:
    """Return `KEY=value` for each variable; a key alone takes the variable away from what the image sets."""
    return [key if value is None else f"{key}={value}" for key, value in variables.items()]


def whole_seconds(duration: str) -> int:
    """Return a duration's whole seconds."""
    return values.parse_duration(duration) // _BILLION


def billionths(cpus: float) -> int:
    """Return CPUs in billionths, multiplied in single precision as Compose does."""
    return int(values.float32(values.float32(cpus) * _BILLION))


def restart_policy(text: str) -> dict[str, Any]:
    """Return the policy of `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`."""
    name, _, attempts = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(attempts or 0)}


def tmpfs(entries: list[str]) -> dict[str, str]:
    """Return the mount options of each path, from `path` or `path:options`."""
    return {path: options for path, _, options in (entry.partition(":") for entry in entries)}


def extra_hosts(entries: list[str]) -> list[str]:
    """Return `host:ip` of `host=ip`."""
    return [entry.replace("=", ":", 1) for entry in entries]


def ulimits(limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the limits with a soft and a hard value each."""
    both = {
        name: limit if isinstance(limit, Mapping) else {"soft": limit, "hard": limit} for name, limit in limits.items()
    }
    return [{"Name": name, "Hard": pair.get("hard", 0), "Soft": pair.get("soft", 0)} for name, pair in both.items()]


def capabilities(names: list[str]) -> list[str]:
    """Return capabilities by their whole names, sorted."""
    given = {name.strip().upper() for name in names}
    return sorted(name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in given)


def logging(body: Body, value: Mapping[str, Any]) -> None:
    """Set the log driver."""
    body.host["LogConfig"] = {"Type": value.get("driver", ""), "Config": value.get("options")}


def limits(body: Body, value: Mapping[str, Any]) -> None:
    """Set the limits of `deploy.resources`, which beat the service's own keys."""
    given = value["resources"].get("limits", {})
    if given.get("memory"):
        body.host["Memory"] = int(given["memory"])
    if given.get("cpus"):
        body.host["NanoCpus"] = billionths(given["cpus"])
    if given.get("pids", 0) > 0:
        body.host["PidsLimit"] = given["pids"]
    if reserved := value["resources"].get("reservations", {}).get("memory"):
        body.host["MemoryReservation"] = int(reserved)


def healthcheck(body: Body, value: Mapping[str, Any]) -> None:
    """Set the health check, times in nanoseconds. Raises `ConfigError` for what the engine does not know."""
    check: dict[str, Any] = {}
    if test := ["NONE"] if value.get("disable") else value.get("test"):
        check["Test"] = test
    for key, name in (("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod")):
        if key in value:
            check[name] = values.parse_duration(value[key])
    if "start_interval" in value:
        position = body.project.where("services", body.service.name, "healthcheck", "start_interval")
        key = f"{position}: services.{body.service.name}.healthcheck.start_interval"
        if body.api_version < API_OF_ENGINE_25:
            raise ConfigError("config.compose", f"{key}: needs Docker Engine 25 or newer")
        if "start_period" not in value:
            raise ConfigError("config.compose", f"{key}: needs a start_period")
        check["StartInterval"] = values.parse_duration(value["start_interval"])
    if "retries" in value:
        check["Retries"] = value["retries"]
    body.config["Healthcheck"] = check


def expose(body: Body, value: list[str]) -> None:
    """Expose ports without publishing them."""
    body.config.setdefault("ExposedPorts", {}).update({port: {} for port in value})


def ports(body: Body, value: list[Mapping[str, Any]]) -> None:
    """Expose and publish ports."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in value:
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": port.get("published", "")}
        bindings.setdefault(f"{port['target']}/{port['protocol']}", []).append(binding)
    expose(body, list(bindings))
    body.host["PortBindings"] = bindings


def volumes(body: Body, value: list[Mapping[str, Any]]) -> None:
    """Mount folders, volumes and tmpfs.

    What the engine's older way can say goes there (`Binds`, which also creates a missing folder), the rest as a Mount.
    """
    for mount in value:
        target = mount["target"]
        if mount["type"] == "volume" and "source" not in mount and target in body.mounts:
            continue  # kept from the previous container
        body.mounts[target] = _bind(body, mount) or _mount(body, mount)


def _bind(body: Body, mount: Mapping[str, Any]) -> str | None:
    options = mount.get("bind", {})
    if (
        mount["type"] == "bind"
        and "propagation" not in options
        and options.get("create_host_path", "bind" not in mount)
    ):
        selinux = f",{options['selinux']}" if "selinux" in options else ""
    elif mount["type"] == "volume" and "source" in mount and not mount.get("volume", {}).get("nocopy"):
        selinux = ""
    else:
        return None
    access = "ro" if mount.get("read_only") else "rw"
    return f"{_source(body, mount)}:{mount['target']}:{access}{selinux}"


def _mount(body: Body, mount: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"Type": mount["type"], "Target": mount["target"]}
    if "source" in mount:
        made["Source"] = _source(body, mount)
    if mount.get("read_only"):
        made["ReadOnly"] = True
    if "bind" in mount:
        names = {"propagation": "Propagation", "create_host_path": "CreateMountpoint"}
        made["BindOptions"] = {name: mount["bind"][key] for key, name in names.items() if key in mount["bind"]}
    if "volume" in mount:
        made["VolumeOptions"] = {"NoCopy": True} if mount["volume"].get("nocopy") else {}
    if given := mount.get("tmpfs"):
        sizes = {"SizeBytes": int(given["size"])} if "size" in given else {}
        made["TmpfsOptions"] = {**sizes, **({"Mode": given["mode"]} if "mode" in given else {})}
    return made


def _source(body: Body, mount: Mapping[str, Any]) -> str:
    return body.project.volumes[mount["source"]].name if mount["type"] == "volume" else str(mount["source"])


def secrets(body: Body, value: list[Mapping[str, Any]]) -> None:
    """Mount the secrets' files read-only; never creates a missing one."""
    for secret in value:
        given = secret["target"]
        target = given if given.startswith("/") else f"/run/secrets/{given}"
        source = str(body.project.secrets[secret["source"]].file)
        mount: dict[str, Any] = {
            "Type": "bind",
            "Source": source,
            "Target": target,
            "ReadOnly": True,
            "BindOptions": {},
        }
        body.mounts.setdefault(target, mount)
