"""Finding the container engine: where one may answer, and what is wrong where none does.

Standard library only, and nothing heavy: this runs before every command, and before the SDK is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from stockhelper_cli.engine import http
from stockhelper_cli.errors import EngineError

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
#: Engine 20.10, the oldest that is supported.
OLDEST_API: Final = (1, 41)
#: Seconds that an engine has to say who it is.
PROBE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of an endpoint; `verify` says whether the engine must prove who it is."""

    ca: Path | None
    cert: Path | None
    key: Path | None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place where an engine may answer.

    `source` says who named it ("DOCKER_HOST", "context colima", "default socket", "Podman"); `explicit` whether that
    was the user, whose choice is never replaced by another engine. `api_version` is what it answered when it was
    asked last, None before.
    """

    url: str
    source: str
    tls: Tls | None = None
    explicit: bool = False
    api_version: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def socket_path(self) -> Path | None:
        """The path of a unix socket, None for anything else."""
        return Path(self.url.removeprefix("unix://")) if self.url.startswith("unix://") else None


class State(Enum):
    """What a probe found."""

    ANSWERS = "answers"
    ABSENT = "no engine"
    DENIED = "permission denied"
    SILENT = "not answering"
    TOO_OLD = "too old"


@dataclass(frozen=True, slots=True)
class Probe:
    """What an endpoint answered: `version` and `api_version` if it did, one line of evidence in `detail` if not."""

    endpoint: Endpoint
    state: State
    version: str = ""
    api_version: tuple[int, int] = (0, 0)
    detail: str = ""


def candidates(environ: Mapping[str, str]) -> list[Endpoint]:
    """Return where to look, best first: only the user's choice where there is one, else the usual sockets.

    The choice is made as Docker's own client makes it: DOCKER_HOST, then DOCKER_CONTEXT, then the current context of
    its configuration. Raises `EngineError` (engine.unreachable) for a context that does not exist or points nowhere.
    """
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    if url := environ.get("DOCKER_HOST"):
        return [Endpoint(_with_scheme(url), "DOCKER_HOST", _environment_tls(environ, config), explicit=True)]
    name, source = environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    if not name:
        name, source = _current_context(config), str(config / "config.json")
    if name and name != "default":
        return [_context(config, name, source)]
    return _usual_sockets(environ, home)


def find(environ: Mapping[str, str], timeout: float = PROBE_SECONDS) -> Endpoint:
    """Return the first endpoint with a usable engine; each has `timeout` seconds to answer.

    One that is reached over ssh is returned unasked. Raises `EngineError`: engine.unreachable, engine.permission,
    engine.timeout or engine.too_old.
    """
    found: list[Probe] = []
    for endpoint in candidates(environ):
        if endpoint.url.startswith("ssh://"):
            return endpoint
        result = probe(endpoint, timeout)
        if result.state is State.ANSWERS:
            return result.endpoint
        found.append(result)
    # An engine that is there tells more than a socket that is not; among equals the first counts.
    severity = (State.DENIED, State.TOO_OLD, State.SILENT, State.ABSENT)
    raise failure(min(found, key=lambda result: severity.index(result.state)))


def probe(endpoint: Endpoint, timeout: float = PROBE_SECONDS) -> Probe:
    """Ask an engine (unix, tcp or http(s) URL) who it is, in at most `timeout` seconds."""
    try:
        # _ping and not version, for which an engine first starts runc and others to ask for theirs.
        answer = http.call(endpoint, "/_ping", timeout)
    except PermissionError as error:
        return Probe(endpoint, State.DENIED, detail=_reason(error))
    except TimeoutError:
        return Probe(endpoint, State.SILENT, detail=f"it said nothing for {timeout:g} s")
    except BlockingIOError:
        return Probe(endpoint, State.SILENT, detail="it takes no more connections: its queue is full")
    except FileNotFoundError:
        return Probe(endpoint, State.ABSENT, detail="there is no such socket")
    except ConnectionRefusedError:
        return Probe(endpoint, State.ABSENT, detail="nobody listens there")
    except (OSError, ValueError) as error:
        return Probe(endpoint, State.ABSENT, detail=_reason(error))
    return _read_version(endpoint, answer)


def failure(result: Probe) -> EngineError:
    """Return the error that tells a user what a probe without an answer means and what to type."""
    where = f"{result.endpoint.url} ({result.endpoint.source})"
    if result.state is State.DENIED:
        cause, steps = _permission_advice(result)
        return EngineError("engine.permission", f"no permission to use the engine at {where}", cause=cause, next=steps)
    if result.state is State.TOO_OLD:
        oldest = ".".join(map(str, OLDEST_API))
        return EngineError(
            "engine.too_old",
            f"the engine at {where} is too old",
            cause=f"version {result.version} speaks {result.detail}; {oldest} is needed (Docker 20.10 or newer)",
        )
    if result.state is State.SILENT:
        return EngineError(
            "engine.timeout",
            f"the engine at {where} does not answer",
            cause=result.detail,
            next=["sudo systemctl restart docker"] if result.endpoint.socket_path == Path(DEFAULT_SOCKET) else (),
        )
    if result.endpoint.explicit:
        return EngineError(
            "engine.unreachable",
            f"no engine answers at {where}",
            cause=result.detail,
            next=[_undo_choice(result.endpoint.source)],
        )
    return EngineError(
        "engine.unreachable",
        "no container engine answers on this machine",
        cause=f"{where}: {result.detail}; nor do Podman, Colima, Rancher Desktop or rootless Docker",
        next=["stockhelper setup"],
    )


# --- where to look


def _with_scheme(url: str) -> str:
    """Docker's client takes a path and a bare host:port too."""
    if url.startswith("/"):
        return f"unix://{url}"
    return url if "://" in url else f"tcp://{url}"


def _environment_tls(environ: Mapping[str, str], config: Path) -> Tls | None:
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    folder = environ.get("DOCKER_CERT_PATH") or (str(config) if verify else "")
    return _tls(Path(folder), verify=verify) if folder else None


def _tls(folder: Path, *, verify: bool) -> Tls:
    def present(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    return Tls(present("ca.pem"), present("cert.pem"), present("key.pem"), verify)


def _current_context(config: Path) -> str:
    try:
        return str(json.loads((config / "config.json").read_bytes()).get("currentContext", ""))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError(
            "engine.unreachable", f"{config / 'config.json'} cannot be read", cause=_reason(error)
        ) from error


def _context(config: Path, name: str, source: str) -> Endpoint:
    """Return a context's endpoint, from where `docker context create` stores it."""
    key = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta: Any = json.loads((config / "contexts" / "meta" / key / "meta.json").read_bytes())
        docker = meta["Endpoints"]["docker"]
        url, insecure = str(docker["Host"]), bool(docker.get("SkipTLSVerify"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise EngineError(
            "engine.unreachable",
            f'the Docker context "{name}" ({source}) ' + ("does not exist" if missing else "points nowhere"),
            cause="" if missing else f"its metadata are not usable: {_reason(error)}",
            next=["docker context ls", _undo_choice(source)],
        ) from error
    folder = config / "contexts" / "tls" / key / "docker"
    tls = _tls(folder, verify=not insecure) if folder.is_dir() or insecure else None
    return Endpoint(url, f"context {name}", tls, explicit=True)


def _undo_choice(source: str) -> str:
    return f"unset {source}" if source.startswith("DOCKER_") else "docker context use default"


def _usual_sockets(environ: Mapping[str, str], home: Path) -> list[Endpoint]:
    """Return the default socket, and those of the usual engines that exist."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    usual = [
        (runtime / "docker.sock", "rootless Docker"),
        (home / ".docker/run/docker.sock", "Docker Desktop"),
        (home / ".docker/desktop/docker.sock", "Docker Desktop"),
        (home / ".colima/default/docker.sock", "Colima"),
        (home / ".config/colima/default/docker.sock", "Colima"),
        (home / ".rd/docker.sock", "Rancher Desktop"),
        (runtime / "podman/podman.sock", "Podman"),
        (home / ".local/share/containers/podman/machine/podman.sock", "Podman"),
        (Path("/run/podman/podman.sock"), "Podman"),
    ]
    found = [Endpoint(f"unix://{path}", source) for path, source in usual if _is_socket(path)]
    return [Endpoint(f"unix://{DEFAULT_SOCKET}", "default socket"), *found]


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        # Not there, or in a folder of somebody else's: either way not an engine of this user's.
        return False


# --- asking


def _read_version(endpoint: Endpoint, answer: http.Answer) -> Probe:
    api = re.fullmatch(r"(\d+)\.(\d+)", answer.headers.get("api-version", ""))
    if api is None or answer.status != 200:
        return Probe(endpoint, State.ABSENT, detail=f"something else answers there: {answer.status_line}")
    api_version = (int(api[1]), int(api[2]))
    # It reads like: Docker/20.10.24+dfsg1 (linux)
    server = answer.headers.get("server", "").partition(" ")[0]
    version = server.partition("/")[2] or server
    if api_version < OLDEST_API:
        return Probe(endpoint, State.TOO_OLD, version, api_version, f"API {api[0]}")
    return Probe(replace(endpoint, api_version=api_version), State.ANSWERS, version, api_version)


# --- telling


def _permission_advice(result: Probe) -> tuple[str, Sequence[str]]:
    """Return why the user may not use a socket and what to type."""
    import grp
    import pwd

    path = result.endpoint.socket_path
    try:
        if path is None:
            raise FileNotFoundError
        info = path.stat()
        user = pwd.getpwuid(os.getuid()).pw_name
        group = grp.getgrgid(info.st_gid)
    except (OSError, KeyError):
        return result.detail, ()
    if not info.st_mode & stat.S_IWGRP or group.gr_name == "root":
        return f"{path} is for its owner only", ["sudo stockhelper setup"]
    if user in group.gr_mem:
        return f'"{user}" is in the group "{group.gr_name}", but was not yet when this session began', [
            f"newgrp {group.gr_name}"
        ]
    return f'{path} is for the group "{group.gr_name}", and "{user}" is not in it', [
        f"sudo usermod -aG {group.gr_name} {user}",
        f"newgrp {group.gr_name}    # or log out and in again",
    ]


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
