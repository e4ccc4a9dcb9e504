"""Installing distribution packages: as root, on Debian and Ubuntu."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Event, Phase
from stockhelper_cli.machine.command import Finished, run

if TYPE_CHECKING:
    from stockhelper_cli.events import Emit

_POLICY = Path("/usr/sbin/policy-rc.d")
_SYSTEMD = Path("/run/systemd/system")


def can_install() -> bool:
    """Return whether this process may install packages: root, on a distribution with apt."""
    return os.geteuid() == 0 and has_apt()


def has_apt() -> bool:
    """Return whether this machine's distribution has apt (Debian, Ubuntu and their like)."""
    return shutil.which("apt-get") is not None


def install_command(packages: Sequence[str]) -> str:
    """Return what a user types to install these packages."""
    return f"sudo apt-get install -y {' '.join(packages)}"


def install(packages: Sequence[str], emit: Emit, *, code: str) -> None:
    """Install packages. Raises `StockhelperError` with `code` and apt's last lines."""
    resource = f"packages {' '.join(packages)}"
    started = time.monotonic()
    emit(Event("install", resource, Phase.BEGIN))

    def show(line: str) -> None:
        emit(Event("install", resource, Phase.PROGRESS, detail=line))

    with _no_service_start():
        finished = _apt_get(["install", "-y", "--no-install-recommends", *packages], show)
        if finished.exit_code != 0:
            # A fresh machine has no package lists, an old one stale ones.
            updated = _apt_get(["update"], show)
            finished = _apt_get(["install", "-y", "--no-install-recommends", *packages], show)
            if finished.exit_code != 0 and updated.exit_code != 0:
                finished = Finished(finished.exit_code, (*updated.tail, *finished.tail))
    seconds = time.monotonic() - started
    if finished.exit_code != 0:
        emit(Event("install", resource, Phase.FAILED, seconds))
        raise StockhelperError(
            code,
            f"could not install {' '.join(packages)}",
            cause=next((line for line in reversed(finished.tail) if line.startswith("E:")), ""),
            next=["sudo apt-get update", install_command(packages)],
            details=finished.tail,
        )
    emit(Event("install", resource, Phase.DONE, seconds))


def _apt_get(arguments: Sequence[str], show: Callable[[str], None]) -> Finished:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    # An unattended upgrade may hold the lock for a while on a fresh machine.
    return run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", *arguments], show, environ=environ)


@contextmanager
def _no_service_start() -> Iterator[None]:
    """Keep packages from starting their services where no systemd runs.

    Init scripts fail in containers and the like, and a failed start leaves the package half installed. Who wants the
    service starts it afterwards, and sees why it fails.
    """
    if _SYSTEMD.exists():
        yield
        return
    try:
        with _POLICY.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
            os.fchmod(file.fileno(), 0o755)
    except FileExistsError:
        # Somebody's own policy.
        yield
        return
    try:
        yield
    finally:
        _POLICY.unlink()
