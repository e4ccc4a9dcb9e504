"""An engine on this machine: found, else started, else installed and started."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.engine import endpoints
from stockhelper_cli.engine.endpoints import DEFAULT_SOCKET, Endpoint, State
from stockhelper_cli.errors import EngineError
from stockhelper_cli.events import Event, Phase
from stockhelper_cli.machine import apt
from stockhelper_cli.machine.command import TAIL_LINES, Finished, run_service_command

if TYPE_CHECKING:
    from stockhelper_cli.events import Emit

#: iptables is only recommended by Debian's docker.io, which does not start without; registries need root certificates.
PACKAGES: Final = ("docker.io", "iptables", "ca-certificates")
#: Seconds that a started engine has until it answers; the first start makes its storage.
START_SECONDS: Final = 60.0
#: Where the output of an engine goes that was started without a service manager.
LOG: Final = Path("/var/log/stockhelper-dockerd.log")
#: Seconds for an init script, and for reading a log.
_COMMAND_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.03
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_SYSTEMD: Final = Path("/run/systemd/system")
_INIT_SCRIPT: Final = Path("/etc/init.d/docker")
_INIT_LOG: Final = Path("/var/log/docker.log")


class How(StrEnum):
    """How an engine came to answer."""

    FOUND = "found"
    STARTED = "started"
    INSTALLED = "installed and started"


@dataclass(frozen=True, slots=True)
class EngineStep:
    """The engine that answers: where, how it came to be there, and by what it was started ("" if found)."""

    endpoint: Endpoint
    how: How
    started_by: str = ""


def ensure_engine(
    environ: Mapping[str, str], emit: Emit, *, confirm: Callable[[str], None] = lambda question: None
) -> EngineStep:
    """Return an engine that answers; where none does, install and start Docker (root on Debian and Ubuntu).

    An engine that the user chose (DOCKER_HOST, a context) is used or complained about, never replaced. `confirm` is
    asked before packages are installed, and raises where the answer is no. Raises `EngineError`: engine.permission,
    engine.timeout, engine.too_old, engine.unreachable, engine.install.
    """
    chosen = any(endpoint.explicit for endpoint in endpoints.candidates(environ))
    try:
        return EngineStep(endpoints.find(environ), How.FOUND)
    except EngineError as error:
        if chosen or error.code != "engine.unreachable":
            raise
        absent = error
    how = How.STARTED
    if _dockerd() is None:
        if not apt.can_install():
            raise EngineError(
                "engine.install",
                "no container engine is installed, and only root on Debian or Ubuntu can have it installed here",
                cause=absent.cause,
                next=[*_install_advice(), "stockhelper setup"],
            ) from absent
        confirm(f"No container engine answers. Install {', '.join(PACKAGES)} with apt?")
        apt.install(PACKAGES, emit, code="engine.install")
        how = How.INSTALLED
    elif os.geteuid() != 0:
        start = "systemctl" if _SYSTEMD.exists() else "service"
        raise EngineError(
            "engine.unreachable",
            "Docker is installed but does not run",
            cause=absent.cause,
            next=[
                "sudo systemctl enable --now docker" if start == "systemctl" else "sudo service docker start",
                "stockhelper setup",
            ],
        ) from absent
    endpoint, started_by = _start(emit)
    return EngineStep(endpoint, how, started_by)


def start_plan(environ: Mapping[str, str]) -> str:
    """Return what `ensure_engine` would do where no engine answers, "" if it could do nothing but complain."""
    try:
        chosen = any(endpoint.explicit for endpoint in endpoints.candidates(environ))
    except EngineError:
        return ""
    if chosen or os.geteuid() != 0:
        return ""
    if _dockerd() is not None:
        return "start the Docker engine"
    return f"install {', '.join(PACKAGES)} with apt and start the Docker engine" if apt.can_install() else ""


def _dockerd() -> str | None:
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def _install_advice() -> list[str]:
    if apt.has_apt():
        return [apt.install_command(PACKAGES), "sudo usermod -aG docker $USER    # then log out and in again"]
    if platform.system() == "Darwin":
        return ["brew install colima docker && colima start"]
    if shutil.which("dnf"):
        return ["sudo dnf install -y moby-engine && sudo systemctl enable --now docker"]
    if shutil.which("pacman"):
        return ["sudo pacman -S docker && sudo systemctl enable --now docker"]
    return ["install Docker Engine 20.10 or newer, or Podman 4 or newer with its socket"]


def _start(emit: Emit) -> tuple[Endpoint, str]:
    """Start the installed engine by the best means that there is, and wait until it answers."""
    endpoint = Endpoint(f"unix://{DEFAULT_SOCKET}", "default socket")
    started = time.monotonic()
    emit(Event("start", "engine", Phase.BEGIN))
    ways: list[tuple[str, Callable[[Endpoint], list[str] | None]]] = (
        [("systemd", _by_systemd)]
        if _SYSTEMD.exists()
        else [("the init script", _by_init_script), ("dockerd", _by_dockerd)]
    )
    lines: list[str] = []
    for name, way in ways:
        emit(Event("start", "engine", Phase.PROGRESS, detail=f"by {name}"))
        failed = way(endpoint)
        if failed is None:
            emit(Event("start", "engine", Phase.DONE, time.monotonic() - started, detail=f"by {name}"))
            return endpoint, name
        lines += [f"by {name}:", *(f"  {line}" for line in failed)]
    emit(Event("start", "engine", Phase.FAILED, time.monotonic() - started))
    raise EngineError(
        "engine.install",
        "the container engine could not be started",
        cause=lines[-1].strip(),
        next=["dockerd    # shows why it does not start", "stockhelper setup"],
        details=lines[-2 * TAIL_LINES :],
    )


def _by_systemd(endpoint: Endpoint) -> list[str] | None:
    """Start the engine; return None when it answers, else the lines that show why not."""
    finished = run_service_command(["systemctl", "start", "docker"], START_SECONDS)
    if finished.exit_code == 0 and _answers(endpoint, lambda: True):
        return None
    journal = run_service_command(["journalctl", "--no-pager", "-u", "docker", "-n", str(TAIL_LINES)], _COMMAND_SECONDS)
    return [*finished.tail, *journal.tail]


def _by_init_script(endpoint: Endpoint) -> list[str] | None:
    if not _INIT_SCRIPT.exists():
        return ["there is none"]
    finished = _init_script("start")
    if finished.exit_code != 0:
        return [*finished.tail, f"exit code {finished.exit_code}"]
    if _answers(endpoint, lambda: _init_script("status").exit_code == 0):
        return None
    # What it started must not stand in the way of the next attempt.
    stopped = _init_script("stop")
    return [*_tail(_INIT_LOG), *stopped.tail]


def _init_script(verb: str) -> Finished:
    return run_service_command([str(_INIT_SCRIPT), verb], _COMMAND_SECONDS)


def _by_dockerd(endpoint: Endpoint) -> list[str] | None:
    dockerd = _dockerd()
    if dockerd is None:
        return ["there is none"]
    with LOG.open("ab") as log:
        # A session of its own, so that it outlives this command and its terminal. Not subprocess, which insists on
        # waiting for its children.
        process = os.posix_spawn(
            dockerd,
            [dockerd],
            {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setsid=True,
        )
    if _answers(endpoint, lambda: os.waitpid(process, os.WNOHANG) == (0, 0)):
        return None
    return _tail(LOG)


def _answers(endpoint: Endpoint, alive: Callable[[], bool]) -> bool:
    """Wait until an engine answers; not longer than it lives, nor than `START_SECONDS`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if endpoints.probe(endpoint).state is State.ANSWERS:
            return True
        if not alive():
            # It may have answered and died; it may also be that another one of them won the socket.
            return endpoints.probe(endpoint).state is State.ANSWERS
        time.sleep(_POLL_SECONDS)
    return False


def _tail(path: Path) -> list[str]:
    try:
        with path.open(errors="replace") as file:
            return [line.rstrip() for line in deque(file, TAIL_LINES)]
    except OSError as error:
        return [f"{path}: {error.strerror}"]
