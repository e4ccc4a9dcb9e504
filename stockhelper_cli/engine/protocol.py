"""What the rest of the house may ask of a container engine.

The values are plain and frozen, the names are Docker's. `docker_engine` is the only implementation that talks to
a real engine; the fake of the tests is held against it by a contract test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeAlias

Body: TypeAlias = Mapping[str, Any]
"""A request body of the Engine API, as its reference describes it."""

#: Called with one line of what the engine says it does, and bytes done and in all where it says them.
Progress: TypeAlias = Callable[[str, int | None, int | None], None]


#: The name that the engine gives a volume without one.
_ENGINES_NAME: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who answers: a stable id of the engine, its version, its API's version, and where its data lies.

    `local` is whether it runs on this machine, so that a port it publishes can be reached from here. `clock` is what
    time it is there, None where the engine does not say. `lacks` names the limits that it cannot put on a container.
    `memory` is what the machine has that it runs on, in bytes. `proxy` is what it pulls through, a URL, "" for none.
    `live_restore` is whether containers run on while it is restarted. `pools` are the ranges that networks are given
    parts of, each with the length of their prefixes, where others than its own were set.
    """

    id: str
    version: str
    api_version: tuple[int, int]
    data_root: str
    operating_system: str
    architecture: str
    local: bool
    clock: datetime | None = None
    lacks: tuple[str, ...] = ()
    memory: int = 0
    proxy: str = ""
    live_restore: bool = False
    pools: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """The engine's own health check: its status, and the output of its last probe.

    `passed` is, of the last few probes since the container was started, oldest first, whether each of them succeeded.
    """

    status: str
    last_output: str = ""
    passed: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted into a container. `name` is the volume's, "" for a bind or a tmpfs."""

    type: str
    source: str
    target: str
    name: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether it is a volume that the engine named, for want of a name."""
        return self.type == "volume" and _ENGINES_NAME.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: where the host listens (`host_ip`, `host_port`), and the container's port ("8000/tcp")."""

    host_ip: str
    host_port: int
    container: str

    def __str__(self) -> str:
        return f"{_bracketed(self.host_ip)}:{self.host_port}->{self.container}"

    @property
    def address(self) -> str:
        """Where this machine reaches it, as in a URL: `127.0.0.1:8000`, `[::1]:8000`."""
        any_address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
        return f"{_bracketed(any_address.get(self.host_ip, self.host_ip))}:{self.host_port}"


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place in a network. Aliases are as they were asked for."""

    network: str
    network_id: str
    ip_address: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine describes it at one moment.

    `status` is Docker's: created, running, paused, restarting, removing, exited, dead. `settings` is what it was
    created with, as the engine shows it: the keys of a create body (Env, Cmd, HostConfig …). `log_path` is the file
    that its log goes to on the engine's machine, "" where it goes to none.
    """

    id: str
    name: str
    image: str
    image_id: str
    status: str
    labels: Mapping[str, str] = field(default_factory=dict)
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    health: Health | None = None
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    networks: tuple[Attachment, ...] = ()
    settings: Body = field(default_factory=dict)
    log_path: str = ""

    @property
    def running(self) -> bool:
        """Whether its process runs (restarting and paused do not count)."""
        return self.status == "running"

    @property
    def alive(self) -> bool:
        """Whether it has a process or is about to: it holds its ports and its networks."""
        return self.status in ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the engine.

    `containers` are the names of those that are in it and alive; a listing has none. `subnets` are its ranges.
    """

    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the engine."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the engine: its id, its names, its size in bytes, and the environment that it brings.

    `architecture` is as in `amd64`; `created` is when it was built, None where it does not tell; `digests` are
    the names, each with a digest, by which registries have it.
    """

    id: str
    tags: tuple[str, ...]
    size: int
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""
    created: datetime | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command in a container gave: exit code, and its two streams whole."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class LogStream(Protocol):
    """The lines of a container's log, in order, until it stops or `close` is called (from any thread)."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield one line at a time, without its end, after the engine's time stamp and a blank."""

    def close(self) -> None:
        """End the stream."""


class Output(Protocol):
    """What a container writes, its two streams told apart, until it ends."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (1, bytes) of stdout and (2, bytes) of stderr as they come; with a TTY all is 1."""

    def close(self) -> None:
        """Listen no longer."""


class Session(Protocol):
    """A command that runs in a container, its streams open. Reading and writing may happen in two threads."""

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Yield (1, bytes) of stdout and (2, bytes) of stderr until the command closes them; with a TTY all is 1."""

    def write(self, data: bytes) -> None:
        """Give the command input."""

    def end_input(self) -> None:
        """Tell the command that its input has ended."""

    def resize(self, height: int, width: int) -> None:
        """Set the size of its terminal, in characters."""

    def exit_code(self) -> int:
        """Return its exit code, after the output has ended; -1 where the connection ended before the command."""

    def close(self) -> None:
        """Let go of it, in whatever state; the command is given the end of its input, and reading ends."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """One image build. `context` is a folder; its .dockerignore counts. `bases` are the images that it is built on."""

    context: Path
    dockerfile: str
    tag: str
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    bases: tuple[str, ...] = ()


class Engine(Protocol):
    """A container engine. Every method may raise `EngineError`; a lost connection has the code `engine.lost`."""

    @property
    def api_version(self) -> tuple[int, int]:
        """The version of its API that is spoken; known since it was found."""

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, so that a port it publishes can be reached from here."""

    def info(self) -> EngineInfo:
        """Return who answers. An engine takes its time for that: it starts runc and others to ask for theirs."""

    # --- containers
    def containers(self, labels: Sequence[str]) -> list[Container]:
        """Return all containers, stopped ones too, that carry every label ("key" or "key=value"), inspected."""

    def labelled(self, labels: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the labels of all containers, stopped ones too, that carry every label of these, by their ids."""

    def container(self, name_or_id: str) -> Container:
        """Return one container. Raises `NotFound`."""

    def create_container(self, name: str, body: Body, platform: str = "") -> str:
        """Create a container from an Engine API body and return its id; `platform` is "" or such as linux/arm64.

        Raises `Conflict` if the name is taken.
        """

    def start(self, container: str) -> None:
        """Start a container; nothing happens if it runs. Raises `EngineError` (port.busy if a port is taken)."""

    def unpause(self, container: str) -> None:
        """Let a paused container go on. Raises `EngineError` if it is not paused."""

    def stop(self, container: str, timeout: int | None = None) -> None:
        """Stop a container; None gives it the stop timeout (seconds) that it was created with."""

    def remove_container(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; `volumes` removes the anonymous volumes too that were made with it."""

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""

    def logs(
        self, container: str, *, tail: int | None = None, since: float | None = None, timestamps: bool = False
    ) -> list[str]:
        """Return the log's lines, both streams in order; `since` in seconds of the epoch."""

    def exec(
        self, container: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, user: str = ""
    ) -> ExecResult:
        """Run a command in a running container and return what it gave."""

    def follow(self, container: str, *, tail: int | None = None, since: float | None = None) -> LogStream:
        """Return the log's lines, time-stamped, as they come, both streams in order."""

    def attach(self, container: str) -> Output:
        """Return what a container writes from now on; of one that is started only after this, nothing is missed."""

    def open(
        self,
        container: str,
        command: Sequence[str],
        *,
        tty: bool,
        stdin: bool,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        working_dir: str = "",
    ) -> Session:
        """Start a command in a running container and return its streams. Raises `Conflict` if it does not run."""

    def read_file(self, container: str, path: str) -> bytes | None:
        """Return a small file of a container, running or not; None where there is none. Volumes are looked into."""

    def written_bytes(self, container: str) -> int:
        """Return how much a container has written into its own file system, outside of volumes and tmpfs."""

    # --- networks and volumes
    def networks(self, labels: Sequence[str]) -> list[Network]:
        """Return the networks that carry every label."""

    def network(self, name: str) -> Network:
        """Return the network of exactly this name. Raises `NotFound`."""

    def create_network(self, name: str, body: Body) -> str:
        """Create a network from an Engine API body and return its id."""

    def remove_network(self, network: str) -> None:
        """Remove a network. Raises `Conflict` while containers are in it."""

    def connect(self, network: str, container: str, endpoint: Body) -> None:
        """Put a container into a network, with an EndpointConfig (aliases …)."""

    def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network."""

    def volumes(self, labels: Sequence[str]) -> list[Volume]:
        """Return the volumes that carry every label."""

    def volume(self, name: str) -> Volume:
        """Return one volume. Raises `NotFound`."""

    def volume_users(self, name: str) -> list[Container]:
        """Return all containers that have a volume mounted, stopped ones too, whoever made them, inspected."""

    def create_volume(self, name: str, body: Body) -> None:
        """Create a volume from an Engine API body."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume. Raises `Conflict` while a container uses it."""

    # --- images
    def image(self, reference: str) -> Image | None:
        """Return the image of this name or id, None where there is none; one with a digest may have come as another."""

    def pull(self, reference: str, progress: Progress) -> None:
        """Pull an image. Raises `EngineError` (image.registry)."""

    def ask_registry(self, reference: str) -> str:
        """Let the engine ask an image's registry for it, without pulling, and return the digest that it has there.

        Raises `EngineError` (image.registry).
        """

    def context_files(self, options: BuildOptions) -> list[str]:
        """Return the paths, relative to the context, that a build sends to the engine; .dockerignore counts."""

    def build(self, options: BuildOptions, progress: Progress) -> str:
        """Build an image, tag it, and return its id. Raises `EngineError` (image.build) with the last lines."""

    def import_image(self, archive: Iterator[bytes], reference: str, changes: Sequence[str]) -> str:
        """Make an image of a root file system (a tar stream) and Dockerfile instructions; return its id."""

    def tag(self, image: str, reference: str) -> None:
        """Give an image another name."""

    def save(self, references: Sequence[str]) -> Iterator[bytes]:
        """Return images as one archive, as `docker save` writes it."""

    def load(self, archive: BinaryIO) -> None:
        """Take in images from such an archive."""

    def remove_image(self, reference: str) -> None:
        """Take a name from an image, and the image itself with its last name."""

    def close(self) -> None:
        """Let go of the connections."""
