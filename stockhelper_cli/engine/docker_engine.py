"""The protocol on a real engine, and the one module that imports the Docker SDK; all errors are translated to ours.

What a method and a path say (every question, and start, stop, remove …) goes to the engine by `http`. What has a body,
or streams, goes through the SDK, which the first such call imports.
"""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import tarfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote, urlencode

from stockhelper_cli.engine import http
from stockhelper_cli.engine.protocol import (
    Attachment,
    Body,
    BuildOptions,
    Container,
    EngineInfo,
    ExecResult,
    Health,
    Image,
    LogStream,
    Mount,
    Network,
    Output,
    Port,
    Progress,
    Session,
    Volume,
)
from stockhelper_cli.engine.reference import parse
from stockhelper_cli.errors import Conflict, EngineError, NotFound

if TYPE_CHECKING:
    import docker
    import docker.errors
    import docker.tls
    import docker.utils.build
    import docker.utils.socket
    import requests.exceptions
    import urllib3.exceptions
    from docker.types.daemon import CancellableStream

    from stockhelper_cli.engine.endpoints import Endpoint

#: Seconds that an ordinary call may take before the engine counts as lost; builds and pulls have no such limit
#: between two of their messages, and a stop has the container's own grace period on top.
CALL_SECONDS: Final = 60
#: How many calls go to the engine side by side. The SDK keeps as many connections.
PARALLEL_CALLS: Final = 10
#: The last lines of a build's failing step that an error carries.
BUILD_TAIL_LINES: Final = 20
_CHUNK_BYTES: Final = 1 << 20
#: The classic builder writes in red what a step writes to stderr.
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_BUILD_STEP: Final = re.compile(r"Step [0-9]+/[0-9]+ : ")
#: The engine's word for whether it can put a limit on a container -> which.
_LIMITS: Final = {"MemoryLimit": "memory", "SwapLimit": "swap", "PidsLimit": "processes"}
_DEFAULT_STOP_SECONDS: Final = 10
#: The statuses of what is done; 304 is for a container that was in the wanted state already.
_DONE: Final = (200, 201, 204, 304)
_POLL_SECONDS: Final = 0.025
#: The header of a frame of a command's output: its stream and its length (Engine API, "Stream format").
_FRAME: Final = struct.Struct(">BxxxL")
#: How output begins that tells its two streams apart.
_FRAMED: Final = re.compile(rb"[\1\2]\0\0\0")
#: What the engine writes before a line, and before what is left of one that it cut.
_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")
#: The engine answers 403 here, not 409 as for everything else that is in use.
_NETWORK_IN_USE: Final = "has active endpoints"
#: The engine answers 404 for a missing file as it does for a missing container.
_NO_SUCH_FILE: Final = re.compile(r"Could not find the file|no such file or directory", re.IGNORECASE)
_PORT_TAKEN: Final = re.compile(r"(port is already allocated|address already in use|ports are not available)")


_importing = Lock()


def _import_sdk() -> None:
    """Make the SDK's modules this module's own, which they are from the first call on that needs them.

    One thread at a time: they import each other in circles, and two threads would each see half of one.
    """
    global docker, requests, urllib3
    with _importing:
        import docker.errors
        import docker.tls
        import docker.utils.build
        import docker.utils.socket
        import requests.exceptions
        import urllib3.exceptions


def connect(endpoint: Endpoint, call_seconds: int = CALL_SECONDS) -> DockerEngine:
    """Return the engine behind an endpoint; it is asked for nothing before its first call.

    It has `call_seconds` for each ordinary call.
    """
    return DockerEngine(endpoint, call_seconds)


def _connected(endpoint: Endpoint, call_seconds: int) -> docker.APIClient:
    """Return the SDK's client. Raises `EngineError` if the engine goes away meanwhile or speaks too old an API."""
    _import_sdk()
    tls: docker.tls.TLSConfig | bool = False
    if endpoint.tls is not None:
        tls = docker.tls.TLSConfig(
            client_cert=(str(endpoint.tls.cert), str(endpoint.tls.key)) if endpoint.tls.cert else None,
            ca_cert=str(endpoint.tls.ca) if endpoint.tls.ca else None,
            verify=endpoint.tls.verify,
        )
    with _translated("connect to the engine"):
        return docker.APIClient(
            base_url=endpoint.url,
            # Asking for it takes the engine 15 ms, and the one who found it has asked already.
            version=".".join(map(str, endpoint.api_version)) if endpoint.api_version else "auto",
            timeout=call_seconds,
            tls=tls,
            max_pool_size=PARALLEL_CALLS,
            use_ssh_client=endpoint.url.startswith("ssh://"),
        )


def _let_go(error: docker.errors.APIError) -> None:
    """Close the connection of a refused streaming call: nobody reads it to its end."""
    if error.response is not None:
        error.response.close()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `what` completes the sentence "could not …"."""
    _import_sdk()
    try:
        yield
    except docker.errors.APIError as error:
        _let_go(error)
        raise _refusal(what, error.status_code, _explanation(error)) from error
    except docker.errors.InvalidVersion as error:
        raise EngineError("engine.too_old", f"could not {what}", cause=str(error)) from error
    except (requests.exceptions.Timeout, TimeoutError) as error:
        raise _silence(what) from error
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise _loss(what, error) from error


def _refusal(what: str, status: int | None, cause: str) -> EngineError:
    """Return the error that an HTTP status of the engine means."""
    if status == 404:
        return NotFound("engine.not_found", f"could not {what}", cause=cause)
    if _PORT_TAKEN.search(cause):
        return EngineError("port.busy", f"could not {what}", cause=cause)
    if status == 409 or _NETWORK_IN_USE in cause:
        return Conflict("engine.conflict", f"could not {what}", cause=cause)
    return EngineError("engine.refused", f"could not {what}", cause=cause)


def _silence(what: str) -> EngineError:
    return EngineError(
        "engine.timeout",
        f"could not {what}: the engine does not answer",
        cause="there was no answer within its time limit",
        next=["stockhelper setup"],
    )


def _loss(what: str, error: BaseException) -> EngineError:
    return EngineError(
        "engine.lost",
        f"could not {what}: the connection to the engine broke",
        cause=_innermost(error),
        next=["stockhelper setup"],
    )


def _explanation(error: docker.errors.APIError) -> str:
    return " ".join(str(error.explanation or error).split())


def _message(body: bytes) -> str:
    """Return what the engine says in an answer that is a refusal."""
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        said = body.decode(errors="replace")
    return " ".join(said.split())


def _innermost(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _moment(text: str) -> datetime | None:
    """Read a time of the Engine API, which writes the year 1 for "never"."""
    return None if not text or text.startswith("0001-") else datetime.fromisoformat(text)


def _health(state: Mapping[str, Any]) -> Health | None:
    health = state.get("Health")
    if not health or health["Status"] == "none":
        return None
    log = health.get("Log") or []
    # The engine keeps those of before a restart.
    since = _moment(state["StartedAt"])
    passed = [each["ExitCode"] == 0 for each in log if since is None or datetime.fromisoformat(each["Start"]) >= since]
    return Health(health["Status"], log[-1]["Output"].strip() if log else "", tuple(passed))


def _since(moment: float | None) -> float | None:
    """Return a moment as the SDK takes it, which knows none before 1970: all that is written came after it."""
    return moment if moment is not None and moment > 0 else None


def _ports(settings: Mapping[str, Any]) -> tuple[Port, ...]:
    return tuple(
        Port(binding["HostIp"], int(binding["HostPort"]), container)
        for container, bindings in (settings.get("Ports") or {}).items()
        for binding in bindings or ()
    )


def _mounts(raw: Mapping[str, Any]) -> tuple[Mount, ...]:
    return tuple(
        Mount(mount["Type"], mount.get("Source", ""), mount["Destination"], mount.get("Name", ""))
        for mount in raw.get("Mounts") or ()
    )


def _container(raw: Mapping[str, Any]) -> Container:
    """Read the answer of ContainerInspect."""
    state, config, settings = raw["State"], raw["Config"], raw["NetworkSettings"]
    return Container(
        id=raw["Id"],
        name=raw["Name"].removeprefix("/"),
        image=config["Image"],
        image_id=raw["Image"],
        status=state["Status"],
        labels=config.get("Labels") or {},
        exit_code=state["ExitCode"],
        oom_killed=state.get("OOMKilled", False),
        error=state.get("Error", ""),
        restart_count=raw.get("RestartCount", 0),
        started_at=_moment(state["StartedAt"]),
        finished_at=_moment(state["FinishedAt"]),
        health=_health(state),
        mounts=_mounts(raw),
        ports=_ports(settings),
        networks=tuple(
            Attachment(name, endpoint["NetworkID"], endpoint.get("IPAddress", ""), tuple(endpoint.get("Aliases") or ()))
            for name, endpoint in (settings.get("Networks") or {}).items()
        ),
        settings={**config, "HostConfig": raw["HostConfig"]},
        log_path=raw.get("LogPath", ""),
    )


def _network(raw: Mapping[str, Any], containers: Sequence[str] = ()) -> Network:
    """Read the answer of NetworkInspect, or a row of NetworkList."""
    ranges = (raw.get("IPAM") or {}).get("Config") or ()
    subnets = tuple(config["Subnet"] for config in ranges if "Subnet" in config)
    return Network(raw["Id"], raw["Name"], raw.get("Labels") or {}, tuple(containers), subnets)


def _filters(filters: Mapping[str, Sequence[str]]) -> str:
    """Write the filters of a list as the Engine API wants them."""
    return json.dumps({name: list(values) for name, values in filters.items()})


class _FollowedLog:
    """`LogStream` on the SDK's stream of chunks, which end anywhere."""

    def __init__(self, chunks: CancellableStream[bytes], what: str) -> None:
        self._chunks = chunks
        self._what = what
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        try:
            with _translated(self._what):
                for chunk in self._chunks:
                    stamp = _STAMP.match(chunk) if rest else None
                    *lines, rest = (rest + chunk[stamp.end() if stamp else 0 :]).split(b"\n")
                    yield from lines
        except EngineError:
            # Closing it from another thread breaks the read under way: that is how it is meant to end.
            if not self._closed:
                raise
        if rest:
            yield rest

    def close(self) -> None:
        self._closed = True
        self._chunks.close()


class _Streams:
    """`Output` on what the SDK hands out for a hijacked connection."""

    def __init__(self, stream: Any, *, tty: bool) -> None:
        self._stream = stream
        #: The SDK hands out a reader; beneath it lies the socket that can be written to.
        self.socket: socket.socket = getattr(stream, "_sock", stream)
        self.socket.settimeout(None)
        self._tty = tty
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        # The reader that took in the answer's headers may hold the first bytes of what came behind them; the SDK's own
        # way goes past it, to the bare socket, and would lose them. Over ssh there is no such reader.
        response = getattr(self._stream, "_response", None)
        reader: Any = response.raw._fp.fp if response is not None else None
        try:
            with _translated("read the command's output"):
                if not hasattr(reader, "read1"):
                    yield from docker.utils.socket.frames_iter(self._stream, self._tty)
                elif self._tty:
                    while data := reader.read1(_CHUNK_BYTES):
                        yield 1, data
                else:
                    yield from _frames(reader)
        except (EngineError, ValueError):  # ValueError: the reader's, of one that is closed
            # Closing it from another thread breaks the read under way, or the next: that is how it is meant to end.
            if not self._closed:
                raise
        finally:
            self.close()

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):  # it is closed already; else the shutdown wakes who reads or writes in another thread
            self.socket.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self.socket.close()


class _ExecSession:
    """`Session` on the socket that the SDK hands out."""

    def __init__(self, client: docker.APIClient, identity: str, streams: _Streams) -> None:
        self._client = client
        self._identity = identity
        self._streams = streams
        self._closed = False

    def output(self) -> Iterator[tuple[int, bytes]]:
        return iter(self._streams)

    def write(self, data: bytes) -> None:
        with _translated("give the command input"):
            self._streams.socket.sendall(data)

    def end_input(self) -> None:
        with suppress(OSError):  # it has ended, and nobody reads any more
            self._streams.socket.shutdown(socket.SHUT_WR)

    def resize(self, height: int, width: int) -> None:
        with _translated("resize the command's terminal"):
            self._client.exec_resize(self._identity, height, width)

    def exit_code(self) -> int:
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            with _translated("ask for the command's exit code"):
                code = self._client.exec_inspect(self._identity)["ExitCode"]
            # The streams may end a moment before the engine has noticed that the command has. One that we have left
            # may run on: whoever was interrupted does not wait for it.
            if code is not None or self._closed or time.monotonic() >= deadline:
                return -1 if code is None else int(code)
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._closed = True
        self._streams.close()


def _frames(reader: Any) -> Iterator[tuple[int, bytes]]:
    """Yield a command's output, each piece with its stream, until the connection ends."""
    while len(header := reader.read(_FRAME.size)) == _FRAME.size:
        stream, left = _FRAME.unpack(header)
        while left and (data := reader.read1(left)):
            left -= len(data)
            yield stream, data


def _log_lines(raw: bytes, *, timestamps: bool) -> Iterator[bytes]:
    """Yield a log's lines. The engine cuts long ones in pieces, each with a time stamp of its own.

    That a container has a terminal, whose output is not framed, is told by the first bytes: before API 1.42 nothing
    else in the answer does, and to inspect the container takes as long as to read its log.
    """
    if not _FRAMED.match(raw):
        yield from (line.removesuffix(b"\r") for line in raw.removesuffix(b"\n").split(b"\n") if raw)
        return
    begun: dict[int, bytes] = {}
    for stream, data in _frames(io.BytesIO(raw)):
        line = begun.pop(stream, b"")
        line += data.partition(b" ")[2] if line and timestamps else data
        if line.endswith(b"\n"):
            yield line[:-1]
        else:
            begun[stream] = line
    yield from begun.values()


class DockerEngine:
    """The `Engine` protocol on the Docker SDK. Its methods may be called from several threads."""

    def __init__(self, endpoint: Endpoint, call_seconds: int = CALL_SECONDS) -> None:
        self._endpoint = endpoint
        self._call_seconds = call_seconds
        self._pool = ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix="engine")
        self._sdk: docker.APIClient | None = None
        self._sdk_lock = Lock()

    def close(self) -> None:
        """Let go of the connections and threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._sdk is not None:
            self._sdk.close()

    @property
    def _client(self) -> docker.APIClient:
        """The SDK's client, made when it is needed first: to import the SDK takes longer than most commands."""
        with self._sdk_lock:
            if self._sdk is None:
                self._sdk = _connected(self._endpoint, self._call_seconds)
            return self._sdk

    # --- asking
    @property
    def api_version(self) -> tuple[int, int]:
        """The version of its API that is spoken."""
        if self._endpoint.api_version is not None:
            return self._endpoint.api_version
        major, minor = str(self._client.api_version).split(".")
        return int(major), int(minor)

    @property
    def local(self) -> bool:
        """Whether it runs on this machine."""
        return self._endpoint.url.startswith(("unix:", "npipe:"))

    def _ask(self, what: str, path: str, **query: str | int) -> Any:
        """Return the engine's answer to a question, read from its JSON; "could not `what`" is the error's sentence."""
        body = self._ask_raw(what, path, **query)
        try:
            return json.loads(body)
        except ValueError as error:
            raise _loss(what, ValueError("it hung up in the middle of its answer")) from error

    def _ask_raw(self, what: str, path: str, **query: str | int) -> bytes:
        return self._call(what, "GET", path, self._call_seconds, **query)

    def _order(self, what: str, method: str, path: str, seconds: float = 0, **query: str | int) -> None:
        """Let the engine do something, for which it has `seconds` beside those of any call."""
        self._call(what, method, path, self._call_seconds + seconds, **query)

    def _call(self, what: str, method: str, path: str, seconds: float, **query: str | int) -> bytes:
        major, minor = self.api_version
        target = f"/v{major}.{minor}{path}" + (f"?{urlencode(query)}" if query else "")
        if self._endpoint.url.startswith("ssh://"):  # there every connection is a process, and the SDK keeps one
            with _translated(what):
                answer = self._client.request(method, f"{self._client.base_url}{target}", timeout=seconds)
                status, body = answer.status_code, answer.content
        else:
            try:
                status, _, _, body = http.call(self._endpoint, target, seconds, method)
            except TimeoutError as error:
                raise _silence(what) from error
            except (OSError, ValueError) as error:
                raise _loss(what, error) from error
        if status not in _DONE:
            raise _refusal(what, status, _message(body))
        return body

    def info(self) -> EngineInfo:
        """Return who answers."""
        info = self._ask("ask the engine about itself", "/info")
        return EngineInfo(
            id=info["ID"],
            version=info["ServerVersion"],
            api_version=self.api_version,
            data_root=info["DockerRootDir"],
            operating_system=info["OperatingSystem"],
            architecture=info["Architecture"],
            local=self.local,
            clock=_moment(info.get("SystemTime", "")),
            lacks=tuple(limit for key, limit in _LIMITS.items() if not info.get(key, True)),
            memory=info.get("MemTotal", 0),
            proxy=info.get("HttpsProxy") or info.get("HttpProxy") or "",
            live_restore=info.get("LiveRestoreEnabled", False),
            pools=tuple((pool["Base"], pool["Size"]) for pool in info.get("DefaultAddressPools") or ()),
        )

    # --- containers
    def containers(self, labels: Sequence[str]) -> list[Container]:
        """Return all containers with these labels, inspected side by side."""
        return self._containers({"label": list(labels)})

    def _containers(self, filters: Mapping[str, Sequence[str]]) -> list[Container]:
        found = self._pool.map(self._container_or_none, [row["Id"] for row in self._list(filters)])
        return [container for container in found if container is not None]

    def labelled(self, labels: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the labels of all containers with these labels, as the list tells them."""
        return {row["Id"]: row["Labels"] for row in self._list({"label": list(labels)})}

    def _list(self, filters: Mapping[str, Sequence[str]]) -> Any:
        return self._ask("list the containers", "/containers/json", all=1, filters=_filters(filters))

    def _container_or_none(self, container: str) -> Container | None:
        """Return a container, None if it vanished since it was listed."""
        try:
            return self.container(container)
        except NotFound:
            return None

    def container(self, name_or_id: str) -> Container:
        """Return one container."""
        return _container(self._ask(f"inspect the container {name_or_id}", f"/containers/{quote(name_or_id)}/json"))

    def create_container(self, name: str, body: Body, platform: str = "") -> str:
        """Create a container and return its id."""
        known = {**body, "Image": self._as_known(body["Image"])}
        with _translated(f"create the container {name}"):
            created = self._client.create_container_from_config(known, name, platform or None)
        return str(created["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        self._order(f"start the container {container}", "POST", f"/containers/{quote(container)}/start")

    def unpause(self, container: str) -> None:
        """Let a paused container go on."""
        self._order(f"unpause the container {container}", "POST", f"/containers/{quote(container)}/unpause")

    def stop(self, container: str, timeout: int | None = None) -> None:
        """Stop a container within `timeout` seconds, or its own stop timeout."""
        what, path = f"stop the container {container}", f"/containers/{quote(container)}"
        if timeout is None:
            timeout = int(self._ask(what, f"{path}/json")["Config"].get("StopTimeout") or _DEFAULT_STOP_SECONDS)
        self._order(what, "POST", f"{path}/stop", timeout, t=timeout)

    def remove_container(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container."""
        path = f"/containers/{quote(container)}"
        self._order(f"remove the container {container}", "DELETE", path, force=int(force), v=int(volumes))

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        what = f"rename the container {container} to {name}"
        self._order(what, "POST", f"/containers/{quote(container)}/rename", name=name)

    def logs(
        self, container: str, *, tail: int | None = None, since: float | None = None, timestamps: bool = False
    ) -> list[str]:
        """Return the log's lines."""
        query: dict[str, str] = {"tail": "all" if tail is None else str(tail)}
        if (after := _since(since)) is not None:
            query["since"] = str(after)
        path = f"/containers/{quote(container)}/logs"
        what = f"read the log of {container}"
        raw = self._ask_raw(what, path, stdout=1, stderr=1, timestamps=int(timestamps), **query)
        return [line.decode(errors="replace") for line in _log_lines(raw, timestamps=timestamps)]

    def exec(
        self, container: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, user: str = ""
    ) -> ExecResult:
        """Run a command in a running container to its end."""
        session = self.open(container, command, tty=False, stdin=False, environment=environment, user=user)
        written = {1: bytearray(), 2: bytearray()}
        with closing(session):
            for stream, data in session.output():
                written[stream] += data
            exit_code = session.exit_code()
        return ExecResult(exit_code, bytes(written[1]), bytes(written[2]))

    def follow(self, container: str, *, tail: int | None = None, since: float | None = None) -> LogStream:
        """Return the log's lines as they come."""
        what = f"follow the log of {container}"
        with _translated(what):
            # First, because the SDK leaves the connection of a stream open that the engine refuses.
            self._client.inspect_container(container)
            chunks = self._client.logs(
                container,
                stream=True,
                follow=True,
                timestamps=True,
                tail="all" if tail is None else tail,
                since=_since(since),
            )
        return _FollowedLog(chunks, what)

    def attach(self, container: str) -> Output:
        """Return what a container writes from now on."""
        with _translated(f"attach to the container {container}"):
            tty = bool(self._client.inspect_container(container)["Config"]["Tty"])
            return _Streams(self._client.attach_socket(container), tty=tty)

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
        """Start a command in a running container and return its streams."""
        with _translated(f"run {command[0]} in the container {container}"):
            created = self._client.exec_create(
                container,
                list(command),
                tty=tty,
                stdin=stdin,
                environment=dict(environment or {}),
                user=user,
                workdir=working_dir or None,
            )
            stream = self._client.exec_start(created["Id"], tty=tty, socket=True)
        return _ExecSession(self._client, created["Id"], _Streams(stream, tty=tty))

    def read_file(self, container: str, path: str) -> bytes | None:
        """Return a small file of a container, None where there is none."""
        try:
            with _translated(f"read {path} in the container {container}"):
                stream, _ = self._client.get_archive(container, path)
                with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                    file = archive.extractfile(archive.getmembers()[0])
                    return None if file is None else file.read()
        except NotFound as error:
            if _NO_SUCH_FILE.search(error.cause):
                return None
            raise

    def written_bytes(self, container: str) -> int:
        """Return how much a container has written into its own file system."""
        raw = self._ask(f"measure the container {container}", f"/containers/{quote(container)}/json", size=1)
        return int(raw.get("SizeRw", 0))

    # --- networks and volumes
    def networks(self, labels: Sequence[str]) -> list[Network]:
        """Return the networks with these labels."""
        rows = self._ask("list the networks", "/networks", filters=_filters({"label": labels}))
        return [_network(row) for row in rows]

    def network(self, name: str) -> Network:
        """Return the network of this name; an id does not count as one."""
        raw = self._ask(f"inspect the network {name}", f"/networks/{quote(name)}")
        if raw["Name"] != name:
            raise NotFound("engine.not_found", f"could not inspect the network {name}", cause="no such network")
        inside = sorted(endpoint["Name"] for endpoint in (raw.get("Containers") or {}).values())
        return _network(raw, inside)

    def create_network(self, name: str, body: Body) -> str:
        """Create a network and return its id."""
        with _translated(f"create the network {name}"):
            created = self._client.create_network(
                name,
                driver=body.get("Driver"),
                options=body.get("Options"),
                ipam=body.get("IPAM"),
                check_duplicate=True,
                internal=body.get("Internal", False),
                labels=body.get("Labels"),
                enable_ipv6=body.get("EnableIPv6", False),
                attachable=body.get("Attachable"),
            )
        return str(created["Id"])

    def remove_network(self, network: str) -> None:
        """Remove a network."""
        self._order(f"remove the network {network}", "DELETE", f"/networks/{quote(network)}")

    def connect(self, network: str, container: str, endpoint: Body) -> None:
        """Put a container into a network."""
        ipam = endpoint.get("IPAMConfig") or {}
        with _translated(f"connect {container} to the network {network}"):
            self._client.connect_container_to_network(
                container,
                network,
                aliases=endpoint.get("Aliases"),
                ipv4_address=ipam.get("IPv4Address"),
                ipv6_address=ipam.get("IPv6Address"),
                link_local_ips=ipam.get("LinkLocalIPs"),
                driver_opt=endpoint.get("DriverOpts"),
                mac_address=endpoint.get("MacAddress"),
            )

    def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network."""
        with _translated(f"disconnect {container} from the network {network}"):
            self._client.disconnect_container_from_network(container, network)

    def volumes(self, labels: Sequence[str]) -> list[Volume]:
        """Return the volumes with these labels."""
        rows = self._ask("list the volumes", "/volumes", filters=_filters({"label": labels}))["Volumes"] or []
        return [Volume(row["Name"], row.get("Labels") or {}) for row in rows]

    def volume(self, name: str) -> Volume:
        """Return one volume."""
        raw = self._ask(f"inspect the volume {name}", f"/volumes/{quote(name)}")
        return Volume(raw["Name"], raw.get("Labels") or {})

    def volume_users(self, name: str) -> list[Container]:
        """Return all containers that have a volume mounted."""
        return self._containers({"volume": [name]})

    def create_volume(self, name: str, body: Body) -> None:
        """Create a volume."""
        with _translated(f"create the volume {name}"):
            self._client.create_volume(name, body.get("Driver"), body.get("DriverOpts"), body.get("Labels"))

    def remove_volume(self, name: str) -> None:
        """Remove a volume."""
        self._order(f"remove the volume {name}", "DELETE", f"/volumes/{quote(name)}")

    # --- images
    def image(self, reference: str) -> Image | None:
        """Return the image of this name or id, None where there is none."""
        what, pinned = f"inspect the image {reference}", parse(reference).digest
        try:
            raw = self._ask(what, f"/images/{quote(reference)}/json")
        except NotFound:
            if not pinned:
                return None
            # What came by another name, a mirror's, has its digest under that one; the digest says that it is the same.
            rows = self._ask(what, "/images/json", digests=1)
            found = (row["Id"] for row in rows if any(d.endswith(f"@{pinned}") for d in row["RepoDigests"] or ()))
            identity = next(found, "")
            return self.image(identity) if identity else None
        return Image(
            raw["Id"],
            tuple(raw.get("RepoTags") or ()),
            raw["Size"],
            (raw.get("Config") or {}).get("Labels") or {},
            dict(entry.split("=", 1) for entry in (raw.get("Config") or {}).get("Env") or () if "=" in entry),
            raw.get("Architecture", ""),
            _moment(raw.get("Created", "")),
            tuple(raw.get("RepoDigests") or ()),
        )

    def _as_known(self, reference: str) -> str:
        """Return how the engine itself can be told of an image: by its id where a digest came by another name."""
        name = parse(reference)
        image = self.image(reference) if name.digest else None
        return image.id if image is not None and f"{name.repository}@{name.digest}" not in image.digests else reference

    def pull(self, reference: str, progress: Progress) -> None:
        """Pull an image."""
        name = parse(reference)
        try:
            with _translated(f"pull the image {reference}"):
                for message in self._client.pull(name.repository, name.version, stream=True, decode=True):
                    self._raise_streamed("image.registry", f"could not pull the image {reference}", message)
                    detail = message.get("progressDetail") or {}
                    progress(str(message.get("status", "")), detail.get("current"), detail.get("total"))
        except EngineError as error:
            if error.code in ("engine.refused", "engine.not_found"):
                raise EngineError(
                    "image.registry", error.message, cause=error.cause, next=["stockhelper setup"]
                ) from error
            raise

    def ask_registry(self, reference: str) -> str:
        """Let the engine ask an image's registry for it; return its digest."""
        what = f"could not find the image {reference} in its registry"
        try:
            with _translated("ask the registry"):
                return str(self._client.inspect_distribution(reference)["Descriptor"]["digest"])
        except EngineError as error:
            if error.code == "engine.lost":
                raise
            raise EngineError("image.registry", what, cause=error.cause, next=["stockhelper setup"]) from error

    @staticmethod
    def _raise_streamed(code: str, what: str, message: Mapping[str, Any], details: Sequence[str] = ()) -> None:
        """Raise the error that the engine reports inside a stream whose HTTP status was already 200."""
        if "error" in message:
            raise EngineError(code, what, cause=" ".join(str(message["error"]).split()), details=details)

    def context_files(self, options: BuildOptions) -> list[str]:
        """Return what a build sends to the engine, by the very rules by which the SDK packs it."""
        _import_sdk()
        ignored: list[str] = []
        ignore_file = options.context / ".dockerignore"
        if ignore_file.is_file():
            ignored = [line.strip() for line in ignore_file.read_text().splitlines()]
            ignored = [line for line in ignored if line and not line.startswith("#")]
        return sorted(docker.utils.build.exclude_paths(str(options.context), ignored, options.dockerfile))

    def build(self, options: BuildOptions, progress: Progress) -> str:
        """Build an image and return its id."""
        what = f"could not build the image {options.tag}"
        tail: deque[str] = deque(maxlen=BUILD_TAIL_LINES)
        image_id = ""
        args = {key: self._as_known(value) for key, value in options.args.items()}
        with _translated(f"build the image {options.tag}"):
            for message in self._client.build(
                path=str(options.context),
                dockerfile=options.dockerfile,
                tag=options.tag,
                buildargs=args,
                labels=dict(options.labels),
                target=options.target or None,
                nocache=options.no_cache,
                pull=options.pull,
                rm=True,
                forcerm=True,
                decode=True,
                # Between two messages of a compile step lie minutes: the call's own limit does not fit.
                timeout=3600,
            ):
                self._raise_streamed("image.build", what, message, list(tail))
                for line in _COLOUR.sub("", str(message.get("stream", ""))).splitlines():
                    if line.strip():
                        if _BUILD_STEP.match(line):
                            tail.clear()  # the steps before have succeeded
                        tail.append(line.rstrip())
                        progress(line.strip(), None, None)
                image_id = (message.get("aux") or {}).get("ID", image_id)
        if not image_id:
            raise EngineError("image.build", what, cause="the engine named no image at the end", details=list(tail))
        return image_id

    def import_image(self, archive: Iterator[bytes], reference: str, changes: Sequence[str]) -> str:
        """Make an image of a tar stream."""
        name = parse(reference)
        with _translated(f"import the image {reference}"):
            self._client.import_image(archive, name.repository, name.version, changes=list(changes), stream_src=True)
        image = self.image(reference)
        if image is None:
            raise EngineError("engine.refused", f"could not import the image {reference}", cause="no image came of it")
        return image.id

    def tag(self, image: str, reference: str) -> None:
        """Give an image another name."""
        name = parse(reference)
        what = f"tag the image {image} as {reference}"
        self._order(what, "POST", f"/images/{quote(image)}/tag", repo=name.repository, tag=name.version)

    def save(self, references: Sequence[str]) -> Iterator[bytes]:
        """Return images as one archive."""
        with _translated(f"save the images {', '.join(references)}"):
            # The SDK's own call takes one image, and would write the layers that two share twice.
            answer = self._client.get(
                f"{self._client.base_url}/v{self._client.api_version}/images/get",
                params={"names": list(references)},
                stream=True,
                timeout=None,
            )
            try:
                answer.raise_for_status()
            except requests.exceptions.HTTPError as error:
                docker.errors.create_api_error_from_http_exception(error)
            with answer:
                yield from answer.iter_content(_CHUNK_BYTES)

    def load(self, archive: BinaryIO) -> None:
        """Take in images from an archive."""
        with _translated("load the images"):
            for message in self._client.load_image(archive):
                self._raise_streamed("engine.refused", "could not load the images", message)

    def remove_image(self, reference: str) -> None:
        """Take a name from an image."""
        self._order(f"remove the image {reference}", "DELETE", f"/images/{quote(reference)}")
