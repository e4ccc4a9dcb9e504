"""What is wanted: a compose project, resolved and frozen.

`Project`, `Service` and the rest hold Compose's canonical form (`spec`: what `docker compose config` shows, in the
order of Compose's own structures) and give names to what the rest of the house asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from stockhelper_cli.compose.document import Position, locate
from stockhelper_cli.compose.dotenv import Dotenv
from stockhelper_cli.compose.hash import Profile, network_hash, service_hash, volume_hash
from stockhelper_cli.compose.values import parse_duration

Spec: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = Literal["service_started", "service_healthy", "service_completed_successfully"]

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Dependency:
    """One entry of `depends_on`: the service waited for, until when, and whether its restart restarts us."""

    service: str
    condition: Condition = "service_started"
    restart: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A health check as the compose file overrides the image's; times in seconds, None where the image decides."""

    test: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    retries: int | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One published port. `host_ip` is "" for every address, `published` "" where the engine chooses."""

    host_ip: str
    published: str
    target: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Build:
    """How a service's image is built. `context` is absolute, `dockerfile` relative to it or absolute."""

    context: Path
    dockerfile: str
    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False


@dataclass(frozen=True)
class Resource:
    """A network or a volume of the project. `key` is its name in the file, `name` its name in the engine."""

    key: str
    spec: Spec

    @property
    def name(self) -> str:
        """Its name in the engine."""
        return str(self.spec["name"])

    @property
    def external(self) -> bool:
        """Whether it is made outside of the project."""
        return bool(self.spec.get("external"))


@dataclass(frozen=True)
class Network(Resource):
    """A network of the project."""

    @cached_property
    def hash(self) -> str:
        """Its config hash."""
        return network_hash(self.spec)


@dataclass(frozen=True)
class Volume(Resource):
    """A named volume of the project."""

    @cached_property
    def hash(self) -> str:
        """Its config hash."""
        return volume_hash(self.spec)


@dataclass(frozen=True)
class Secret:
    """A secret of the project, which is a file."""

    key: str
    spec: Spec

    @property
    def file(self) -> Path:
        """The file that holds it, absolute."""
        return Path(self.spec["file"])


@dataclass(frozen=True)
class Service:
    """A service of the project.

    `spec` is its canonical form, as in `docker compose config --format json` before `$` is escaped. `extensions`
    are its `x-…` keys, which Compose leaves out of the canonical form.
    """

    name: str
    project: str
    spec: Spec
    extensions: Spec = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """Its config hash as Compose 2.40 writes it."""
        return service_hash(self.spec)

    def config_hash(self, profile: Profile) -> str:
        """Return its config hash as a version of Compose writes it."""
        return service_hash(self.spec, profile)

    @property
    def image(self) -> str:
        """The image's reference; `<project>-<service>` for a service that is only built."""
        return str(self.spec.get("image") or f"{self.project}-{self.name}")

    @cached_property
    def build(self) -> Build | None:
        """How the image is built, None where it is only pulled."""
        build = self.spec.get("build")
        if build is None:
            return None
        return Build(
            context=Path(build["context"]),
            dockerfile=build["dockerfile"],
            args=build.get("args", {}),
            target=build.get("target", ""),
            labels=build.get("labels", {}),
            cache_from=tuple(build.get("cache_from", ())),
            no_cache=build.get("no_cache", False),
            pull=build.get("pull", False),
        )

    @cached_property
    def depends_on(self) -> tuple[Dependency, ...]:
        """What it waits for, by name."""
        return tuple(
            Dependency(name, entry["condition"], entry.get("restart", False), entry["required"])
            for name, entry in sorted(self.spec.get("depends_on", {}).items())
        )

    @property
    def container_name(self) -> str:
        """The name of its (first) container."""
        return self.container(1)

    def container(self, number: int) -> str:
        """Return the name of its container of that number: `<project>-<service>-<number>` unless it has its own."""
        return str(self.spec.get("container_name") or f"{self.project}-{self.name}-{number}")

    @cached_property
    def healthcheck(self) -> Healthcheck | None:
        """The health check that the file asks for, None where it leaves the image's."""
        check = self.spec.get("healthcheck")
        if check is None:
            return None
        test = tuple(check.get("test", ()))
        return Healthcheck(
            test=test,
            interval=_seconds(check.get("interval")),
            timeout=_seconds(check.get("timeout")),
            start_period=_seconds(check.get("start_period")),
            retries=check.get("retries"),
            disabled=check.get("disable", False) or test[:1] == ("NONE",),
        )

    @property
    def stop_grace_period(self) -> float | None:
        """The seconds between the stop signal and SIGKILL, None for the engine's default of 10."""
        return _seconds(self.spec.get("stop_grace_period"))

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles that enable it; none means always."""
        return tuple(self.spec.get("profiles", ()))

    @property
    def role(self) -> str:
        """The part it plays for stockhelper, from `x-stockhelper`: database, migrate, app, or ""."""
        return str(self.stockhelper.get("role", ""))

    @property
    def stockhelper(self) -> Spec:
        """Its `x-stockhelper` mapping, empty without one."""
        value = self.extensions.get("x-stockhelper")
        return value if isinstance(value, Mapping) else {}

    @property
    def environment(self) -> Mapping[str, str | None]:
        """Its environment, `env_file` included; None for a variable that is taken from the shell and is not there."""
        return self.spec.get("environment") or {}

    @cached_property
    def ports(self) -> tuple[PublishedPort, ...]:
        """Its published ports, ranges expanded."""
        return tuple(
            PublishedPort(port.get("host_ip", ""), port.get("published", ""), port["target"], port["protocol"])
            for port in self.spec.get("ports", ())
        )

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """The keys of its networks, the primary one first: by descending priority, then by name."""
        networks = self.spec.get("networks", {})
        return tuple(sorted(networks, key=lambda key: (-(networks[key] or {}).get("priority", 0), key)))

    @cached_property
    def volumes(self) -> tuple[str, ...]:
        """The keys of the named volumes that it mounts."""
        return tuple(
            mount["source"] for mount in self.spec.get("volumes", ()) if mount["type"] == "volume" and "source" in mount
        )

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The keys of the secrets that it mounts."""
        return tuple(entry["source"] for entry in self.spec.get("secrets", ()))


@dataclass(frozen=True)
class Project:
    """A compose project.

    `directory` is Compose's working directory (the first file's folder), `root` the folder whose `.env` counts;
    both absolute. `environment` is what variables were taken from. `services` are those that are enabled, `disabled`
    the names of the others. `warnings` are one line each, `env_files` those that were asked for in place of `.env`.
    """

    name: str
    root: Path
    directory: Path
    files: tuple[Path, ...]
    environment: Mapping[str, str]
    dotenv: Dotenv | None
    services: Mapping[str, Service]
    disabled: tuple[str, ...]
    networks: Mapping[str, Network]
    volumes: Mapping[str, Volume]
    secrets: Mapping[str, Secret]
    extensions: Spec = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    env_files: tuple[Path, ...] = ()
    tree: Any = field(default=None, repr=False)

    def config(self) -> dict[str, Any]:
        """Return what `docker compose config --format json` prints: canonical, `$` doubled, only what is used."""
        whole: dict[str, Any] = {"name": self.name, "services": {n: s.spec for n, s in sorted(self.services.items())}}
        if self.networks:
            whole["networks"] = {key: network.spec for key, network in sorted(self.networks.items())}
        if self.volumes:
            whole["volumes"] = {key: volume.spec for key, volume in sorted(self.volumes.items())}
        if self.secrets:
            whole["secrets"] = {key: secret.spec for key, secret in sorted(self.secrets.items())}
        escaped = _escape({**whole, **self.extensions})
        assert isinstance(escaped, dict)
        return escaped

    def where(self, *path: str | int) -> str:
        """Return `file:line` of a key such as `("services", "app", "ports", 0)`, or of the nearest one above it."""
        first = self.files[0]
        shown = first.relative_to(self.root) if first.is_relative_to(self.root) else first
        return str(locate(self.tree, path) or Position(str(shown), 1))


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else parse_duration(duration) / _SECOND


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {_escape(key): _escape(entry) for key, entry in value.items()}
    if isinstance(value, Sequence):
        return [_escape(entry) for entry in value]
    return value
