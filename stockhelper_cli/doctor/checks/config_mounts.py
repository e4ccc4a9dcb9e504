"""`config.mounts`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped

if TYPE_CHECKING:
    from stockhelper_cli.compose import Service
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigMounts(Check):
    """Looks at folders and files of this machine that are mounted: whether the service's user may use them.

    Only a user that is given by number can be judged: a name's number is the image's affair.
    """

    id = "config.mounts"
    group = Group.CONFIGURATION
    title = "what is mounted from this machine may be used by who runs in the container"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy", "migration.failed"})

    def examine(self, context: Context) -> Finding:
        """Look at the rights of each."""
        if not context.state.local:
            return skipped("the engine is on another machine")
        mounts = [(service, mount) for service in context.project.services.values() for mount in _binds(service)]
        barred = [
            (service, path, user, lacks)
            for service, mount in mounts
            if (user := _user(service)) is not None
            and (lacks := _lacking(path := Path(mount["source"]), user, write=not mount.get("read_only", False)))
        ]
        if not barred:
            return ok(", ".join(f"{mount['source']} ({service.name})" for service, mount in mounts) or "nothing is")
        return failed(
            "; ".join(f"{service.name} cannot {lacks} {path}" for service, path, _, lacks in barred),
            *(_owner(path, user) for _, path, user, _ in barred),
            commands=[f"sudo chown -R {user[0]}:{user[1]} {path}" for _, path, user, _ in barred],
        )


def _binds(service: Service) -> Iterator[Mapping[str, Any]]:
    return (mount for mount in service.spec.get("volumes", ()) if mount["type"] == "bind")


def _user(service: Service) -> tuple[int, int] | None:
    """Return the numbers of the user and group that a service runs as, None for root and for names."""
    user, _, group = str(service.spec.get("user", "")).partition(":")
    if not user.isdecimal() or user == "0" or (group and not group.isdecimal()):
        return None
    return int(user), int(group or 0)


def _lacking(path: Path, user: tuple[int, int], *, write: bool) -> str:
    """Return what a user may not do with a path, "" if nothing. What is not there the engine makes, as root's."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return "write to" if write else ""
    except OSError:
        return ""  # in a folder of somebody else's: it cannot be told from here
    folder = stat.S_ISDIR(info.st_mode)
    wanted = os.R_OK | (os.X_OK if folder else 0) | (os.W_OK if write else 0)
    shift = 6 if info.st_uid == user[0] else 3 if info.st_gid == user[1] else 0
    lacking = wanted & ~(info.st_mode >> shift)
    return "" if not lacking else "read" if lacking & (os.R_OK | os.X_OK) else "write to"


def _owner(path: Path, user: tuple[int, int]) -> str:
    runs_as = f"it runs as user {user[0]}"
    if not path.exists():
        return f"{path} is not there: the engine makes it, as root's; {runs_as}"
    info = path.stat()
    return f"{path} belongs to user {info.st_uid} and is {stat.S_IMODE(info.st_mode):04o}; {runs_as}"
