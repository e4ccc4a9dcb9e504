"""An engine in memory, for tests of what is above it; `tests/contract` holds it against the real one."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import Condition
from typing import Any, BinaryIO

from stockhelper_cli.engine.protocol import (
    Attachment,
    Body,
    BuildOptions,
    Container,
    EngineInfo,
    ExecResult,
    Health,
    Image,
    Mount,
    Network,
    Port,
    Progress,
    Volume,
)
from stockhelper_cli.errors import Conflict, EngineError, NotFound

#: From this API on a container may be created in several networks at once.
_MANY_NETWORKS = (1, 44)
_SHORT = 12


def _id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class FakeEngine:
    """Keeps containers, networks, volumes and images in dictionaries. May be called from several threads.

    What a test may set:

    - `scripts` decides, by container name, what happens at a start: it returns the exit code of a container that
      ends at once, None for one that goes on running.
    - `answer` is what `exec` gives, by container name and command; `answer_input` what `open` gives, with the input.
    - `intercept` is called with the name of a changing call and its object before anything happens, and may raise.
    - `build_failure` makes every build fail with these last lines.
    - `files` is what `read_file` finds: by container or volume, path -> content.
    - `log` holds each container's log lines; `say` appends one, of stdout or stderr, and wakes those who follow.
    - `clock` tells when a container starts and ends.

    `calls` records every call that changed something.
    """

    def __init__(
        self, images: Mapping[str, Mapping[str, str]] | None = None, *, api_version: tuple[int, int] = (1, 41)
    ) -> None:
        self.api_version = api_version
        self.local = False
        self.calls: list[tuple[str, ...]] = []
        self.scripts: Callable[[str], int | None] = lambda name: None
        self.answer: Callable[[str, Sequence[str]], ExecResult] = lambda name, command: ExecResult(0, b"", b"")
        self.answer_input: Callable[[str, Sequence[str], bytes], ExecResult] = lambda name, command, typed: self.answer(
            name, command
        )
        self.intercept: Callable[[str, str], None] = lambda call, name: None
        self.build_failure: Sequence[str] = ()
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.files: dict[str, dict[str, bytes]] = {}
        self.log: dict[str, list[str]] = {}
        #: Which lines of a container's log are of stderr.
        self._errors: dict[str, set[int]] = {}
        self._containers: dict[str, Container] = {}
        self._networks: dict[str, Network] = {}
        self._volumes: dict[str, Volume] = {}
        self._images: dict[str, Image] = {}
        #: Kind and name -> numbers of those that had that name: ids do not depend on the turns that threads take.
        self._serials = defaultdict[tuple[str, str], Iterator[int]](itertools.count)
        #: Held while anything changes; notified when it has.
        self._changed = Condition()
        for reference, labels in (images or {}).items():
            self.add_image(reference, labels)

    # --- for tests
    def add_image(self, reference: str, labels: Mapping[str, str] | None = None) -> Image:
        """Put an image in; one that had the name loses it."""
        reference, labels = _tagged(reference), dict(labels or {})
        with self._changed:
            self._untag(reference)
            image = Image("sha256:" + _id("image", reference, sorted(labels.items())), (reference,), 1, labels)
            self._images[image.id] = image
            return image

    def change(self, name_or_id: str, /, **fields: Any) -> None:
        """Change what a container looks like."""
        with self._changed:
            container = self._find(name_or_id, "inspect")
            self._containers[container.id] = replace(container, **fields)
            self._changed.notify_all()

    def say(self, name: str, line: str, stream: int = 1) -> None:
        """Let a container write a line to stdout (1) or stderr (2)."""
        with self._changed:
            lines = self.log.setdefault(name, [])
            if stream == 2:
                self._errors.setdefault(name, set()).add(len(lines))
            lines.append(line)
            self._changed.notify_all()

    def settle(self) -> None:
        """Let the engine's own health checks find every running container healthy."""
        for container in self.containers([]):
            if container.running and container.health is not None:
                self.change(container.id, health=Health("healthy"))

    # --- the protocol
    def info(self) -> EngineInfo:
        return EngineInfo(
            "fake-engine",
            "20.10.24",
            self.api_version,
            "/var/lib/docker",
            "Fake",
            "x86_64",
            local=self.local,
            clock=self.clock(),
        )

    def containers(self, labels: Sequence[str]) -> list[Container]:
        with self._changed:
            return [container for container in self._containers.values() if _carries(container.labels, labels)]

    def labelled(self, labels: Sequence[str]) -> dict[str, dict[str, str]]:
        return {container.id: dict(container.labels) for container in self.containers(labels)}

    def container(self, name_or_id: str) -> Container:
        with self._changed:
            return self._find(name_or_id, "inspect")

    def create_container(self, name: str, body: Body, platform: str = "") -> str:
        what = f"could not create the container {name}"
        self.intercept("create_container", name)
        with self._changed:
            image = self.image(body["Image"])
            if image is None:
                raise NotFound("engine.not_found", what, cause=f"No such image: {body['Image']}")
            self._refuse_name(name, what)
            host = body.get("HostConfig") or {}
            endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
            if len(endpoints) > 1 and self.api_version < _MANY_NETWORKS:
                raise EngineError("engine.refused", what, cause="Container cannot be connected to network endpoints")
            mode = host.get("NetworkMode") or "default"
            if not endpoints and mode != "none":
                endpoints = {"bridge" if mode == "default" else mode: {}}
            identity = _id("container", name, next(self._serials["container", name]))
            self._containers[identity] = Container(
                id=identity,
                name=name,
                image=body["Image"],
                image_id=image.id,
                status="created",
                labels={**image.labels, **(body.get("Labels") or {})},
                mounts=tuple(self._mounts(identity, body, host)),
                networks=tuple(
                    Attachment(network, "", "", tuple((endpoint or {}).get("Aliases") or ()))
                    for network, endpoint in endpoints.items()
                ),
                settings=dict(body),
            )
            self.calls.append(("create_container", name))
            return identity

    def start(self, container: str) -> None:
        what = f"could not start the container {container}"
        self.intercept("start", self._find(container, "start").name)
        with self._changed:
            found = self._find(container, "start")
            if found.status == "paused":
                raise Conflict("engine.conflict", what, cause="cannot start a paused container, try unpause instead")
            if found.alive:
                return
            networks = tuple(self._joined(found, attachment, what) for attachment in found.networks)
            ports = _bindings(found)
            for other in self._containers.values():
                if other.alive and _overlap(other.ports, ports):
                    self.change(found.id, exit_code=128, error="port is already allocated")
                    raise EngineError("port.busy", what, cause="port is already allocated")
            self.calls.append(("start", found.name))
            now = self.clock()
            check = (found.settings.get("Healthcheck") or {}).get("Test") or ["NONE"]
            started = {
                "started_at": now,
                "networks": networks,
                "error": "",
                "health": None if check[0] == "NONE" else Health("starting"),
            }
            self.change(found.id, status="running", ports=ports, exit_code=0, **started)
        # Outside of the lock: a script may look at the engine, or at something else that is asked meanwhile.
        code = self.scripts(found.name)
        if code is not None:
            self.change(found.id, **_ended(self._find(found.id, "start"), code, self.clock()))

    def unpause(self, container: str) -> None:
        self.intercept("unpause", self._find(container, "unpause").name)
        with self._changed:
            found = self._find(container, "unpause")
            if found.status != "paused":
                raise EngineError(
                    "engine.refused",
                    f"could not unpause the container {container}",
                    cause=f"Container {found.id} is not paused",
                )
            self.calls.append(("unpause", found.name))
            self.change(found.id, status="running")

    def stop(self, container: str, timeout: int | None = None) -> None:
        self.intercept("stop", self._find(container, "stop").name)
        with self._changed:
            found = self._find(container, "stop")
            if found.alive:
                self.calls.append(("stop", found.name))
                self.change(found.id, **_ended(found, 0, self.clock()))

    def remove_container(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        self.intercept("remove_container", self._find(container, "remove").name)
        with self._changed:
            found = self._find(container, "remove")
            if found.alive and not force:
                raise Conflict(
                    "engine.conflict",
                    f"could not remove the container {container}",
                    cause=f"You cannot remove a {found.status} container {found.id}",
                )
            del self._containers[found.id]
            used = {mount.name for other in self._containers.values() for mount in other.mounts}
            for mount in found.mounts if volumes else ():
                if mount.name == _id("volume", found.id, mount.target) and mount.name not in used:
                    del self._volumes[mount.name]
            self.calls.append(("remove_container", found.name))
            self._changed.notify_all()

    def rename(self, container: str, name: str) -> None:
        what = f"could not rename the container {container} to {name}"
        self.intercept("rename", self._find(container, "rename").name)
        with self._changed:
            found = self._find(container, "rename")
            if found.name == name:
                raise EngineError("engine.refused", what, cause="Renaming a container with the same name")
            self._refuse_name(name, what)
            self.change(found.id, name=name)
            self.calls.append(("rename", found.name, name))

    def logs(
        self, container: str, *, tail: int | None = None, since: float | None = None, timestamps: bool = False
    ) -> list[str]:
        found = self._find(container, "read the log of")
        # All lines count as written when the container started: no test tells them apart by the clock.
        written = found.started_at or self.clock()
        if since is not None and written.timestamp() < since:
            return []
        lines = list(self.log.get(found.name, []))
        lines = lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
        return [f"{_stamp(written)} {line}" for line in lines] if timestamps else lines

    def exec(
        self, container: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, user: str = ""
    ) -> ExecResult:
        return self.answer(self._running(container, command).name, command)

    def follow(self, container: str, *, tail: int | None = None, since: float | None = None) -> _FollowedLog:
        return _FollowedLog(self, self._find(container, "follow the log of").id, tail)

    def attach(self, container: str) -> _AttachedOutput:
        return _AttachedOutput(self, self._find(container, "attach to").id)

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
    ) -> FakeSession:
        found = self._running(container, command)
        return FakeSession(lambda typed: self.answer_input(found.name, command, typed), tty=tty)

    def written_bytes(self, container: str) -> int:
        self._find(container, "measure")
        return 0

    def networks(self, labels: Sequence[str]) -> list[Network]:
        with self._changed:
            return [network for network in self._networks.values() if _carries(network.labels, labels)]

    def network(self, name: str) -> Network:
        with self._changed:
            network = self._network(name, "inspect")
            inside = (
                c.name for c in self._containers.values() if c.alive and any(a.network == name for a in c.networks)
            )
            return replace(network, containers=tuple(sorted(inside)))

    def create_network(self, name: str, body: Body) -> str:
        self.intercept("create_network", name)
        with self._changed:
            if name in self._networks:
                raise Conflict(
                    "engine.conflict",
                    f"could not create the network {name}",
                    cause=f"network with name {name} already exists",
                )
            network = Network(
                _id("network", name, next(self._serials["network", name])), name, dict(body.get("Labels") or {})
            )
            self._networks[name] = network
            self.calls.append(("create_network", name))
            return network.id

    def remove_network(self, network: str) -> None:
        self.intercept("remove_network", network)
        with self._changed:
            found = self._network(network, "remove")
            if any(a.network == found.name for c in self._containers.values() if c.alive for a in c.networks):
                raise Conflict(
                    "engine.conflict", f"could not remove the network {network}", cause="has active endpoints"
                )
            del self._networks[found.name]
            self.calls.append(("remove_network", found.name))

    def connect(self, network: str, container: str, endpoint: Body) -> None:
        self.intercept("connect", network)
        with self._changed:
            found = self._find(container, "connect")
            # What does not run yet is only told where to go; whether that exists shows at the start.
            joined = self._network(network, f"connect {container} to") if found.running else None
            if found.running and any(attachment.network == network for attachment in found.networks):
                raise EngineError(
                    "engine.refused",
                    f"could not connect {container} to the network {network}",
                    cause=f"endpoint with name {found.name} already exists in network {network}",
                )
            aliases = (*(endpoint.get("Aliases") or ()), found.id[:_SHORT])
            others = tuple(attachment for attachment in found.networks if attachment.network != network)
            attachment = Attachment(network, joined.id if joined else "", "", aliases)
            self.change(found.id, networks=(*others, attachment))
            self.calls.append(("connect", network, found.name))

    def disconnect(self, network: str, container: str) -> None:
        self.intercept("disconnect", network)
        with self._changed:
            found = self._find(container, "disconnect")
            self._network(network, f"disconnect {container} from")
            kept = tuple(attachment for attachment in found.networks if attachment.network != network)
            if kept == found.networks:
                raise EngineError(
                    "engine.refused",
                    f"could not disconnect {container} from the network {network}",
                    cause=f"container {found.id} is not connected to network {network}",
                )
            self.change(found.id, networks=kept)
            self.calls.append(("disconnect", network, found.name))

    def volumes(self, labels: Sequence[str]) -> list[Volume]:
        with self._changed:
            return [volume for volume in self._volumes.values() if _carries(volume.labels, labels)]

    def volume(self, name: str) -> Volume:
        with self._changed:
            if name not in self._volumes:
                raise NotFound("engine.not_found", f"could not inspect the volume {name}", cause="no such volume")
            return self._volumes[name]

    def volume_users(self, name: str) -> list[Container]:
        with self._changed:
            return [c for c in self._containers.values() if any(mount.name == name for mount in c.mounts)]

    def read_file(self, container: str, path: str) -> bytes | None:
        found = self.container(container)
        for place in (found.name, *(mount.name for mount in found.mounts)):
            if path in self.files.get(place, {}):
                return self.files[place][path]
        return None

    def create_volume(self, name: str, body: Body) -> None:
        self.intercept("create_volume", name)
        with self._changed:
            self._volumes.setdefault(name, Volume(name, dict(body.get("Labels") or {})))
            self.calls.append(("create_volume", name))

    def remove_volume(self, name: str) -> None:
        self.intercept("remove_volume", name)
        with self._changed:
            what = f"could not remove the volume {name}"
            if name not in self._volumes:
                raise NotFound("engine.not_found", what, cause="no such volume")
            if any(mount.name == name for container in self._containers.values() for mount in container.mounts):
                raise Conflict("engine.conflict", what, cause="volume is in use")
            del self._volumes[name]
            self.calls.append(("remove_volume", name))

    def image(self, reference: str) -> Image | None:
        with self._changed:
            named = (image for image in self._images.values() if _tagged(reference) in image.tags)
            return next(named, None) or self._images.get(reference)

    def pull(self, reference: str, progress: Progress) -> None:
        self.intercept("pull", reference)
        raise EngineError("image.registry", f"could not pull the image {reference}", cause="no registry in memory")

    def ask_registry(self, reference: str) -> str:
        what = f"could not find the image {reference} in its registry"
        raise EngineError("image.registry", what, cause="no registry in memory")

    def context_files(self, options: BuildOptions) -> list[str]:
        import docker.utils.build  # the SDK, for half a second; few tests build

        ignore = options.context / ".dockerignore"
        lines = ignore.read_text().splitlines() if ignore.is_file() else []
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return sorted(docker.utils.build.exclude_paths(str(options.context), patterns, options.dockerfile))

    def build(self, options: BuildOptions, progress: Progress) -> str:
        self.intercept("build", options.tag)
        progress("Step 1/1 : FROM scratch", None, None)
        if self.build_failure:
            for line in self.build_failure:
                progress(line, None, None)
            raise EngineError(
                "image.build",
                f"could not build the image {options.tag}",
                cause=self.build_failure[-1],
                details=self.build_failure,
            )
        self.calls.append(("build", options.tag))
        return self.add_image(options.tag, options.labels).id

    def import_image(self, archive: Iterator[bytes], reference: str, changes: Sequence[str]) -> str:
        self.intercept("import_image", reference)
        digest = hashlib.sha256(b"".join(archive)).hexdigest()
        labels = dict(change.split(" ", 1)[1].split("=", 1) for change in changes if change.startswith("LABEL "))
        with self._changed:
            self._untag(reference)
            image = Image("sha256:" + _id("import", digest, changes), (reference,), 1, labels)
            self._images[image.id] = image
            self.calls.append(("import_image", reference))
            return image.id

    def tag(self, image: str, reference: str) -> None:
        self.intercept("tag", reference)
        with self._changed:
            found = self.image(image)
            if found is None:
                raise NotFound("engine.not_found", f"could not tag the image {image} as {reference}", cause="no image")
            self._untag(_tagged(reference))
            self._images[found.id] = replace(found, tags=(*found.tags, _tagged(reference)))

    def save(self, references: Sequence[str]) -> Iterator[bytes]:
        images = []
        for reference in references:
            image = self.image(reference)
            if image is None:
                raise NotFound("engine.not_found", f"could not save the images {reference}", cause="No such image")
            images.append([reference, image.id, dict(image.labels)])
        yield json.dumps(images).encode()

    def load(self, archive: BinaryIO) -> None:
        self.intercept("load", "")
        try:
            images = json.load(archive)
        except ValueError as error:
            raise EngineError("engine.refused", "could not load the images", cause=str(error)) from error
        with self._changed:
            for reference, identity, labels in images:
                self._untag(reference)
                found = self._images.get(identity, Image(identity, (), 1, labels))
                self._images[identity] = replace(found, tags=(*found.tags, reference))

    def remove_image(self, reference: str) -> None:
        what = f"could not remove the image {reference}"
        self.intercept("remove_image", reference)
        with self._changed:
            image = self.image(reference)
            if image is None:
                raise NotFound("engine.not_found", what, cause=f"No such image: {reference}")
            named = _tagged(reference) in image.tags
            if not named and len(image.tags) > 1:
                raise Conflict("engine.conflict", what, cause="image is referenced in multiple repositories")
            if len(image.tags) <= 1 and any(c.image_id == image.id for c in self._containers.values()):
                raise Conflict("engine.conflict", what, cause="container is using its referenced image")
            tags = tuple(tag for tag in image.tags if named and tag != _tagged(reference))
            if tags:
                self._images[image.id] = replace(image, tags=tags)
            else:
                del self._images[image.id]

    def close(self) -> None:
        pass

    # --- inside
    def _find(self, name_or_id: str, verb: str) -> Container:
        with self._changed:
            for container in self._containers.values():
                if name_or_id == container.name or container.id.startswith(name_or_id):
                    return container
        raise NotFound(
            "engine.not_found",
            f"could not {verb} the container {name_or_id}",
            cause=f"No such container: {name_or_id}",
        )

    def _running(self, container: str, command: Sequence[str]) -> Container:
        found = self._find(container, f"run {command[0]} in")
        if not found.running:
            state = {"paused": "paused", "restarting": "restarting"}.get(found.status, "not running")
            raise Conflict(
                "engine.conflict",
                f"could not run {command[0]} in the container {container}",
                cause=f"Container {found.id} is {state}",
            )
        return found

    def _refuse_name(self, name: str, what: str) -> None:
        if any(container.name == name for container in self._containers.values()):
            raise Conflict("engine.conflict", what, cause=f"The container name /{name} is already in use")

    def _network(self, name: str, verb: str) -> Network:
        with self._changed:
            if name not in self._networks:
                raise NotFound(
                    "engine.not_found", f"could not {verb} the network {name}", cause=f"network {name} not found"
                )
            return self._networks[name]

    def _joined(self, container: Container, attachment: Attachment, what: str) -> Attachment:
        """Return a container's place in a network once it runs: the network is found by the id it once had."""
        if attachment.network == "bridge":
            return attachment
        network = self._networks.get(attachment.network)
        if network is None or attachment.network_id not in ("", network.id):
            gone = attachment.network_id or attachment.network
            raise NotFound("engine.not_found", what, cause=f"network {gone} not found")
        short = container.id[:_SHORT]
        aliases = attachment.aliases if short in attachment.aliases else (*attachment.aliases, short)
        return replace(attachment, network_id=network.id, aliases=aliases)

    def _mounts(self, identity: str, body: Body, host: Body) -> Iterator[Mount]:
        """Yield what is mounted, and make the volumes that are not there yet."""
        targets = set()
        for bind in host.get("Binds") or ():
            source, target = bind.split(":")[:2]
            targets.add(target)
            yield self._mount("bind" if source.startswith("/") else "volume", source, target)
        for mount in host.get("Mounts") or ():
            targets.add(mount["Target"])
            anonymous = _id("volume", identity, mount["Target"]) if mount["Type"] == "volume" else ""
            yield self._mount(mount["Type"], mount.get("Source") or anonymous, mount["Target"])
        for target in body.get("Volumes") or {}:
            if target not in targets:
                yield self._mount("volume", _id("volume", identity, target), target)

    def _mount(self, kind: str, source: str, target: str) -> Mount:
        if kind != "volume":
            return Mount(kind, source, target)
        self._volumes.setdefault(source, Volume(source))
        return Mount(kind, f"/var/lib/docker/volumes/{source}/_data", target, source)

    def _untag(self, reference: str) -> None:
        for image in self._images.values():
            if reference in image.tags:
                self._images[image.id] = replace(image, tags=tuple(tag for tag in image.tags if tag != reference))
                return


class _FollowedLog:
    """The lines of a container's log until it ends or `close` is called."""

    #: Whether what has not been started yet is waited for.
    _awaits_start = False

    def __init__(self, engine: FakeEngine, container: str, tail: int | None) -> None:
        self._engine = engine
        self._container = container
        self._tail = tail
        self._closed = False
        self._position = 0

    def __iter__(self) -> Iterator[bytes]:
        engine = self._engine
        found = engine.container(self._container)
        lines = engine.log.setdefault(found.name, [])
        self._position = 0 if self._tail is None else max(len(lines) - self._tail, 0)
        while self._has_next(lines):
            yield f"{_stamp(found.started_at or engine.clock())} {lines[self._position]}".encode()
            self._position += 1

    def _has_next(self, lines: Sequence[str]) -> bool:
        """Wait for the next line; False when there will be none."""
        with self._engine._changed:
            self._engine._changed.wait_for(lambda: self._closed or self._position < len(lines) or not self._alive())
            return not self._closed and self._position < len(lines)

    def close(self) -> None:
        with self._engine._changed:
            self._closed = True
            self._engine._changed.notify_all()

    def _alive(self) -> bool:
        try:
            found = self._engine.container(self._container)
            return found.alive or (self._awaits_start and found.status == "created")
        except NotFound:
            return False


class _AttachedOutput(_FollowedLog):
    """The same with its streams told apart; what has not been started yet is waited for."""

    _awaits_start = True

    def __init__(self, engine: FakeEngine, container: str) -> None:
        super().__init__(engine, container, None)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:  # type: ignore[override]
        name = self._engine.container(self._container).name
        lines = self._engine.log.setdefault(name, [])
        while self._has_next(lines):
            stream = 2 if self._position in self._engine._errors.get(name, ()) else 1
            yield stream, f"{lines[self._position]}\n".encode()
            self._position += 1


class FakeSession:
    """A command whose output is known as soon as its input has ended, or at once if none is wanted."""

    def __init__(self, run: Callable[[bytes], ExecResult], *, tty: bool) -> None:
        self._run = run
        self._tty = tty
        self._code = -1
        self.typed = b""
        self.size = (0, 0)

    def output(self) -> Iterator[tuple[int, bytes]]:
        result = self._run(self.typed)
        self._code = result.exit_code
        if result.stdout:
            yield 1, result.stdout
        if result.stderr:
            yield 1 if self._tty else 2, result.stderr

    def write(self, data: bytes) -> None:
        self.typed += data

    def end_input(self) -> None:
        pass

    def resize(self, height: int, width: int) -> None:
        self.size = (height, width)

    def exit_code(self) -> int:
        return self._code

    def close(self) -> None:
        pass


def _tagged(reference: str) -> str:
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _ended(container: Container, code: int, now: datetime) -> Mapping[str, Any]:
    """Return what changes of a container when its process ends; the engine calls what no longer runs unhealthy."""
    health = None if container.health is None else Health("unhealthy")
    return {"status": "exited", "exit_code": code, "finished_at": now, "ports": (), "health": health}


def _bindings(container: Container) -> tuple[Port, ...]:
    """Return the ports that a container publishes when it runs; an empty port number is the engine's choice."""
    chosen = itertools.count(49153)
    bindings = (container.settings.get("HostConfig") or {}).get("PortBindings") or {}
    return tuple(
        Port(binding.get("HostIp") or "0.0.0.0", int(binding.get("HostPort") or next(chosen)), port)
        for port, entries in bindings.items()
        for binding in entries
    )


def _overlap(held: Sequence[Port], wanted: Sequence[Port]) -> bool:
    return any(
        a.host_port == b.host_port and ("0.0.0.0" in (a.host_ip, b.host_ip) or a.host_ip == b.host_ip)
        for a in held
        for b in wanted
    )


def _carries(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    for label in wanted:
        key, equals, value = label.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
