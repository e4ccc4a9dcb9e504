"""What keeps services from running, as far as their containers show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from stockhelper_cli.converge.reconcile import is_one_shot

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Container, Engine

#: What a process exits with that was asked to end (SIGINT, SIGTERM) and did.
_ASKED_TO_END: Final = (0, 130, 143)
#: Seconds that a container must have run for the engine to count a restart as a success.
_SUCCESS_SECONDS: Final = 10
#: So many restarts, the last of them so few seconds ago, are a loop too.
_LOOP_RESTARTS: Final = 3
_LOOP_SECONDS: Final = 60
#: How many of its last log lines show what is the matter with a service.
_LOG_LINES: Final = 8


class Fault(StrEnum):
    """What is the matter with a service's container; the value is how it is told."""

    NONE = "well"
    MISSING = "has no container"
    CREATED = "was never started"
    PAUSED = "is paused"
    STOPPED = "is stopped"
    EXITED = "exited"
    RESTARTING = "restarts again and again"


#: As it is before the first `up`, after `stop`, and after `down`: wanted so, if it is so with all.
DOWN: Final = frozenset({Fault.MISSING, Fault.CREATED, Fault.STOPPED})


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service, its container if there is one, and what is the matter with it."""

    service: Service
    container: Container | None
    fault: Fault


@dataclass(frozen=True, slots=True)
class Services:
    """All services of a project, by name."""

    project: Project
    states: Mapping[str, ServiceState]

    @property
    def up(self) -> bool:
        """Whether the stack is meant to run: something of it does, or did until it failed."""
        return any(
            state.fault not in DOWN and not (state.fault is Fault.NONE and is_one_shot(self.project, state.service))
            for state in self.states.values()
        )

    def with_fault(self, *faults: Fault) -> list[ServiceState]:
        """Return those with one of these faults."""
        return [state for state in self.states.values() if state.fault in faults]

    def held_up_by(self, state: ServiceState) -> str:
        """Return the failed service that another one never started for, "" if there is none."""
        if state.fault not in (Fault.MISSING, Fault.CREATED):
            return ""
        return next(self._failed_below(state.service, {state.service.name}), "")

    def _failed_below(self, service: Service, seen: set[str]) -> Iterator[str]:
        for dependency in service.depends_on:
            below = self.states.get(dependency.service)
            if below is None or dependency.service in seen:
                continue
            seen.add(dependency.service)
            health = below.container.health if below.container else None
            # A paused one is called unhealthy too, and is told of as paused.
            unhealthy = below.fault is Fault.NONE and health is not None and health.status == "unhealthy"
            if below.fault in (Fault.EXITED, Fault.RESTARTING) or unhealthy:
                yield dependency.service
            yield from self._failed_below(below.service, seen)


def services_of(project: Project, state: ObservedState, clock: datetime | None) -> Services:
    """Return how the services of a project are; `clock` is the engine's, None where it does not tell."""
    now = clock or datetime.now(UTC)
    states = {}
    for service in project.services.values():
        container = next(iter(state.of_service(service.name)), None)
        fault = Fault.MISSING
        if container is not None:
            fault = _fault(container, now, one_shot=is_one_shot(project, service))
        states[service.name] = ServiceState(service, container, fault)
    return Services(project, states)


def _fault(container: Container, now: datetime, *, one_shot: bool) -> Fault:
    match container.status:
        case "created":
            return Fault.EXITED if container.error else Fault.CREATED
        case "paused":
            return Fault.PAUSED
        case "restarting":
            return Fault.RESTARTING
        case "exited" | "dead" if one_shot:
            return Fault.EXITED if container.exit_code or container.error else Fault.NONE
        case "exited" | "dead":
            asked = container.exit_code in _ASKED_TO_END and not container.error and not container.oom_killed
            return Fault.STOPPED if asked else Fault.EXITED
    if container.started_at is not None and container.restart_count:
        ran = (now - container.started_at).total_seconds()
        if ran < _SUCCESS_SECONDS or (container.restart_count >= _LOOP_RESTARTS and ran < _LOOP_SECONDS):
            return Fault.RESTARTING
    return Fault.NONE


def last_lines(engine: Engine, state: ServiceState) -> list[str]:
    """Return the last lines that a service has printed, each after its name."""
    if state.container is None:
        return []
    return [f"{state.service.name} | {line}" for line in engine.logs(state.container.id, tail=_LOG_LINES)]
