"""A plan: what will be done, why, and in which order, as a value that prints as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an action does. Each is one call to the engine, except WAIT, which asks until it is so."""

    BUILD = "build image"
    PULL = "pull image"
    CREATE_NETWORK = "create network"
    CREATE_VOLUME = "create volume"
    CREATE = "create container"
    CONNECT = "connect container"
    START = "start container"
    WAIT = "wait for service"
    STOP = "stop container"
    REMOVE = "remove container"
    RENAME = "rename container"
    REMOVE_NETWORK = "remove network"
    REMOVE_VOLUME = "remove volume"

    @property
    def verb(self) -> str:
        """The infinitive, as events name it."""
        return self.value.split()[0]

    @property
    def noun(self) -> str:
        """The kind of thing that it is done to."""
        return self.value.split()[-1]


class Condition(StrEnum):
    """What a WAIT waits for; the values are those of the Compose specification's `depends_on`."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True)
class Action:
    """One step.

    `resource` is the engine's name of what is acted on (for WAIT the service), `needs` the ids of the actions that
    must be done before, `cause` why it is done. `container` names the container that a WAIT watches; `to` is a
    RENAME's new name or a CONNECT's network; `replaces` is the id of the container that a CREATE takes the place
    of. `rescue` is what to do, in this order, if the action fails.
    """

    kind: Kind
    resource: str
    cause: str = ""
    needs: tuple[str, ...] = ()
    service: str = ""
    container: str = ""
    to: str = ""
    replaces: str = ""
    condition: Condition | None = None
    rescue: tuple[Action, ...] = ()

    @property
    def id(self) -> str:
        """The action's name within its plan."""
        return f"{self.kind} {self.resource}" + (f" -> {self.to}" if self.to else "")

    def __str__(self) -> str:
        condition = f" {self.condition.value.removeprefix('service_')}" if self.condition else ""
        return f"{self.id}{condition}" + (f"  ({self.cause})" if self.cause else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in an order in which they could be done one after the other.

    `orphans` are names of containers that belong to the project and to none of its services.
    """

    actions: tuple[Action, ...] = ()
    orphans: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __bool__(self) -> bool:
        return bool(self.actions)

    @property
    def changes(self) -> tuple[Action, ...]:
        """The actions that change something; waiting does not."""
        return tuple(action for action in self.actions if action.kind is not Kind.WAIT)

    def __str__(self) -> str:
        """Return one line an action, with the numbers of the actions it comes after."""
        number = {action.id: index for index, action in enumerate(self.actions, 1)}
        width = len(str(len(self.actions)))
        lines = []
        for index, action in enumerate(self.actions, 1):
            after = ", ".join(str(number[need]) for need in action.needs)
            lines.append(f"{index:>{width}}. {action}" + (f"  after {after}" if after else ""))
        return "\n".join(lines) or "nothing to do"

    def as_json(self) -> list[Mapping[str, Any]]:
        """Return the actions as plain mappings, for `--json`."""
        return [
            {
                "action": action.kind.verb,
                "kind": action.kind.noun,
                "resource": action.resource,
                "cause": action.cause,
                "needs": list(action.needs),
            }
            for action in self.actions
        ]


@dataclass(slots=True)
class Draft:
    """A plan in the making: collects actions and drops needs that turned out to need nothing."""

    actions: list[Action] = field(default_factory=list)

    def add(self, action: Action) -> str:
        """Append an action and return its id."""
        self.actions.append(action)
        return action.id

    def finish(self, orphans: Iterable[str] = ()) -> Plan:
        """Return the plan. Every need must name an action in it."""
        known = {action.id for action in self.actions}
        for action in self.actions:
            missing = set(action.needs) - known
            if missing:
                raise AssertionError(f"{action.id} needs {sorted(missing)}, which the plan does not have")
        return Plan(tuple(self.actions), tuple(orphans))
