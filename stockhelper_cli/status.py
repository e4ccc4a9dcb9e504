"""How the stack is: every service as it is at this moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stockhelper_cli.converge.ready import PROBE_SECONDS, probe_for
from stockhelper_cli.converge.reconcile import ROLE_APP, is_one_shot, orphans_of, selected
from stockhelper_cli.converge.state import ObservedState, observe, project_filter
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.engine.protocol import Container, Engine


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service as it is now.

    `state` is Docker's word ("missing" where there is no container), `health` is "healthy", "unhealthy", "starting"
    or "" where nothing checks it; `ok` whether it is as it should be. `container` is None where there is none.
    `problem` is one line on why it could not be asked, or is not ready yet.
    """

    name: str
    state: str
    health: str
    ok: bool
    container: Container | None
    problem: str = ""

    def as_json(self) -> Mapping[str, Any]:
        """Return the service as a plain mapping."""
        container = self.container
        return {
            "service": self.name,
            "state": self.state,
            "health": self.health,
            "ok": self.ok,
            "problem": self.problem,
            "container": container.name if container else None,
            "image": container.image if container else None,
            "ports": [str(port) for port in container.ports] if container else [],
            "exit_code": container.exit_code if container else None,
            "started_at": _isoformat(container.started_at) if container else None,
        }


def _isoformat(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True, slots=True)
class StatusResult:
    """The services of a project, those of inactive profiles that run, where the app answers, and orphans by name."""

    services: tuple[ServiceStatus, ...]
    urls: tuple[str, ...]
    orphans: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every service is as it should be."""
        return all(service.ok for service in self.services)

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "ok": self.ok,
            "services": [service.as_json() for service in self.services],
            "urls": list(self.urls),
            "orphans": list(self.orphans),
        }


def status(project: Project, engine: Engine, *, ready: Collection[str] = ()) -> StatusResult:
    """Return how every service is. Where the engine's next health check is still to come, the service is asked.

    `ready` are services that were seen to be ready just now: they are not asked once more.
    """
    return status_of(project, engine, observe(project, engine), ready=ready)


def status_of(project: Project, engine: Engine, state: ObservedState, *, ready: Collection[str] = ()) -> StatusResult:
    """Return how every service was when it was observed; those that have to be asked are asked side by side."""
    with ThreadPoolExecutor(thread_name_prefix="status") as pool:
        services = tuple(
            pool.map(
                lambda service: _service_status(service, engine, state, project, ready=service.name in ready),
                project.services.values(),
            )
        )
    others = (_inactive_status(name, state) for name in project.disabled)
    return StatusResult(
        (*services, *(other for other in others if other is not None)),
        tuple(url for service in services for url in urls_of(project.services[service.name], service.container)),
        tuple(container.name for container in orphans_of(project, state)),
    )


def _service_status(
    service: Service, engine: Engine, state: ObservedState, project: Project, *, ready: bool
) -> ServiceStatus:
    container = next(iter(state.of_service(service.name)), None)
    if container is None:
        return ServiceStatus(service.name, "missing", "", False, None)
    if is_one_shot(project, service):
        ok = container.status == "exited" and container.exit_code == 0
        return ServiceStatus(service.name, container.status, "", ok, container)
    health = container.health.status if container.health else ""
    problem = ""
    if container.running and health == "starting":
        problem = "" if ready else _missing(service, container, engine, local=state.local)
        health = "starting" if problem else "healthy"
    ok = container.running and health in ("", "healthy")
    return ServiceStatus(service.name, container.status, health, ok, container, problem)


def _inactive_status(name: str, state: ObservedState) -> ServiceStatus | None:
    """Return the status of a service of a profile that is not active, None where nothing of it runs."""
    container = next(iter(state.of_service(name)), None)
    if container is None or not container.alive:
        return None
    health = container.health.status if container.health else ""
    return ServiceStatus(name, container.status, health, container.running and health != "unhealthy", container)


def _missing(service: Service, container: Container, engine: Engine, *, local: bool) -> str:
    """Return what a service lacks to be ready, "" if nothing: one that cannot be asked does not hide the others."""
    try:
        return probe_for(service, engine, local=local)(container, PROBE_SECONDS)
    except StockhelperError as error:
        if error.code == "engine.lost":  # it has no answer for the other services either
            raise
        return error.message


def running_container(project: Project, engine: Engine, service: str) -> Container:
    """Return the container in which a service runs.

    Raises `StockhelperError`: usage for a name that the project does not have, failed if it does not run.
    """
    selected(project, [service])
    found = engine.containers([project_filter(project.name)])
    own = ObservedState((0, 0), containers=tuple(found)).of_service(service)
    if own and own[0].running:
        return own[0]
    raise StockhelperError(
        "failed",
        f"the service {service} does not run",
        cause=f"its container is {own[0].status}" if own else "it has no container",
        next=["stockhelper up"],
    )


def urls_of(service: Service, container: Container | None) -> list[str]:
    """Return where a browser on this machine finds the app."""
    if service.role != ROLE_APP or container is None:
        return []
    ports = [port for port in container.ports if port.container.endswith("/tcp")]
    # Published on all addresses, a newer engine names those of IPv6 as well: one and the same to a browser here.
    everywhere = {port.host_port for port in ports if port.host_ip == "0.0.0.0"}
    return [f"http://{port.address}" for port in ports if port.host_ip != "::" or port.host_port not in everywhere]
