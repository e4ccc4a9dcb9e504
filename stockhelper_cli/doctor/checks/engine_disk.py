"""`engine.disk`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, failed, ok, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Bytes below which nothing goes on: PostgreSQL stops at a full disk, and needs room to start again.
_TOO_LITTLE: Final = 200_000_000
#: Bytes that building the service's image takes at most, its layers and the builder's.
_FOR_A_BUILD: Final = 1_500_000_000
_FEW_INODES: Final = 10_000


class EngineDisk(Check):
    """Measures the file system under the engine's data, which holds images, containers, logs and the database."""

    id = "engine.disk"
    group = Group.ENGINE
    title = "there is room where the engine keeps its data"
    needs = ("engine.reachable",)
    explains = frozenset({"disk.full", "image.build", "image.registry", "service.exited", "service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Ask the file system; that of an engine elsewhere cannot be asked from here."""
        info = context.info
        try:
            if not info.local:
                raise FileNotFoundError
            disk = os.statvfs(info.data_root)
        except OSError:  # in a virtual machine, or nothing that this user may look at
            return ok(f"{info.data_root} cannot be looked at from here")
        free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        told = f"{_gigabytes(free)} of {_gigabytes(whole)} free in {info.data_root}"
        if free < _TOO_LITTLE:
            return _short(failed, told, "PostgreSQL stops when it cannot write")
        if disk.f_files and disk.f_favail < _FEW_INODES:
            return _short(failed, f"{disk.f_favail} inodes free in {info.data_root}", "no more files can be made")
        if free < _FOR_A_BUILD:
            return _short(warning, told, f"a build takes up to {_gigabytes(_FOR_A_BUILD)}")
        return ok(told)


def _short(finding: Callable[..., Finding], summary: str, consequence: str) -> Finding:
    return finding(
        summary,
        consequence,
        remedy="see what takes the room, and remove what no container uses:",
        commands=["docker system df", "docker system prune"],
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
