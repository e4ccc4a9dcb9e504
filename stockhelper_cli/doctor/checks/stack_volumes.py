"""`stack.volumes`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.errors import Conflict, NotFound

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import Container, Mount
    from stockhelper_cli.findings import Finding

#: Service, container, and what is mounted there.
_Mounted: TypeAlias = tuple[str, "Container", "Mount"]
#: Exits with 10 where its user may not write there: no shell and no engine exits so by itself.
_TRY: Final = ("sh", "-c", 'test -w "$0" || { id -u; exit 10; }')
_BARRED: Final = 10


class StackVolumes(Check):
    """Tries, within running containers, whether their user may write to the volumes that are mounted there.

    The engine makes a volume root's, unless the image has the place with another owner. What is mounted from this
    machine is `config.mounts`' matter.
    """

    id = "stack.volumes"
    group = Group.STACK
    title = "services may write to their volumes"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy", "migration.failed"})

    def examine(self, context: Context) -> Finding:
        """Try each."""
        mounted = _mounted(context)
        if not mounted:
            return skipped("no container runs that has one")
        with ThreadPoolExecutor(len(mounted)) as pool:
            users = list(pool.map(lambda place: _barred(context, place), mounted))
        barred = [(*place, user) for place, user in zip(mounted, users, strict=True) if user]
        if not barred:
            return ok(", ".join(f"{mount.name} ({service})" for service, _, mount in mounted))
        return failed(
            "; ".join(f"{service} cannot write to {mount.target}" for service, _, mount, _ in barred),
            *(f"the volume {mount.name} is not writable for user {user}" for _, _, mount, user in barred),
            # In a container of its own: the service's has not the right to do that, root in it neither.
            commands=[
                f"docker run --rm -u 0 -v {mount.name}:/volume --entrypoint chown {container.image} {user} /volume"
                for _, container, mount, user in barred
            ],
        )


def _mounted(context: Context) -> list[_Mounted]:
    found: list[_Mounted] = []
    for name, state in context.services.states.items():
        container = state.container
        if container is None or not container.running:
            continue
        read_only = {m["target"] for m in state.service.spec.get("volumes", ()) if m.get("read_only")}
        found += [
            (name, container, mount)
            for mount in container.mounts
            if mount.type == "volume" and mount.target not in read_only
        ]
    return found


def _barred(context: Context, place: _Mounted) -> str:
    """Return the number of the user that may not write there, "" if it may or cannot be asked."""
    _, container, mount = place
    try:
        result = context.engine.exec(container.id, [*_TRY, mount.target])
    except (Conflict, NotFound):  # it has just stopped
        return ""
    return result.stdout.decode().strip() if result.exit_code == _BARRED else ""
