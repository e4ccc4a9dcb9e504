"""Ports that the stack is about to publish: whether they are free, and if not, who holds them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stockhelper_cli.converge.plan import Kind, Plan
from stockhelper_cli.converge.reconcile import ROLE_APP
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Engine


def refuse_busy_ports(project: Project, engine: Engine, state: ObservedState, plan: Plan) -> None:
    """Check the ports that a plan's starts publish, before anything is done.

    Raises `StockhelperError` (port.busy) naming who holds the port, where that can be seen.
    """
    starting = [project.services[action.service] for action in plan if action.kind is Kind.START]
    for error in busy_ports(project, engine, state, starting):
        raise error


def busy_ports(
    project: Project, engine: Engine, state: ObservedState, services: Sequence[Service]
) -> Iterator[StockhelperError]:
    """Yield an error (port.busy) for each port of these services that somebody else holds, naming who if it is seen.

    A remote engine's ports cannot be tried from here: there the engine itself refuses the start.
    """
    if not state.local:
        return
    # Whatever the address: one that moves from loopback to all addresses is stopped before its successor starts.
    own = {(p.host_port, p.container.partition("/")[2]) for c in state.containers if c.alive for p in c.ports}
    for service in services:
        for published in service.ports:
            if not published.published.isdigit():
                continue  # the engine chooses, from all ports or from a range
            host_ip, port = published.host_ip, int(published.published)
            if (port, published.protocol) in own or not is_busy(host_ip, port, published.protocol):
                continue
            place = project.where("services", service.name, "ports")
            what = "APP_PORT" if service.role == ROLE_APP else f"the published port of {service.name}"
            yield StockhelperError(
                "port.busy",
                f"port {port} on {host_ip or 'all addresses'} is taken ({place})",
                cause=f"by {holder(engine, port)}",
                next=[f"set {what} to a free port in .env, then: stockhelper up"],
            )


def is_busy(host_ip: str, port: int, protocol: str) -> bool:
    """Return whether another process listens where the engine would."""
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as candidate:
        # As the engine's proxy does: connections that only linger do not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host_ip, port))
            if kind == socket.SOCK_STREAM:
                candidate.listen(1)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def holder(engine: Engine, port: int) -> str:
    """Say who listens on a port of this machine: a container, a process, or somebody who cannot be seen."""
    for container in engine.containers([]):
        if container.alive and any(published.host_port == port for published in container.ports):
            return f"the container {container.name}"

    import psutil

    try:
        for connection in psutil.net_connections("inet"):
            if connection.laddr and connection.laddr.port == port and connection.status in ("LISTEN", "NONE"):
                if connection.pid is None:
                    break
                return f"the process {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return "a process of another user"
    return "a process that cannot be seen from here"
