"""A plan: what will be done, why, and in which order, as a value that prints as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an action does.

    Each is one call to the engine, except WAIT, which asks until it is so, and PREPARE, which sees to it that nothing
    is lost by the migration that comes after it.
    """

    BUILD = "build image"
    PULL = "pull image"
    CREATE_NETWORK = "create network"
    CREATE_VOLUME = "create volume"
    CREATE = "create container"
    CONNECT = "connect container"
    START = "start container"
    UNPAUSE = "unpause container"
    WAIT = "wait for service"
    PREPARE = "prepare migration"
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
    of; `volumes` is whether the volumes without a name go with a container that is removed.
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
    volumes: bool = False

    @property
    def id(self) -> str:
        """The action's name within its plan."""
        condition = f" {self.condition.value.removeprefix('service_')}" if self.condition else ""
        return f"{self.kind} {self.resource}{condition}" + (f" -> {self.to}" if self.to else "")

    def __str__(self) -> str:
        return self.id + (f"  ({self.cause})" if self.cause else "")


@dataclass(frozen=True, slots=True)
class Rescue:
    """What brings a service back that was stopped for the sake of a plan, should the plan come to an early end.

    The three marks are ids of actions of the plan: from the beginning of `stop` the service is away, with `start` it
    runs again ("": it does already), with `ready` it serves. `steps` are done in their order after a failure between
    `stop` and `ready`; an interruption leaves alone what runs, so it calls for them only until `start` is done.
    """

    stop: str
    start: str
    ready: str
    steps: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in an order in which they could be done one after the other, and what undoes the unfinished of them.

    `orphans` are names of containers that belong to the project and to none of its services.
    """

    actions: tuple[Action, ...] = ()
    orphans: tuple[str, ...] = ()
    rescues: tuple[Rescue, ...] = ()

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __bool__(self) -> bool:
        return bool(self.actions)

    @property
    def changes(self) -> tuple[Action, ...]:
        """The actions that change something; waiting does not, and neither does preparing."""
        return tuple(action for action in self.actions if action.kind not in (Kind.WAIT, Kind.PREPARE))

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
    rescues: list[Rescue] = field(default_factory=list)

    def add(self, action: Action) -> str:
        """Append an action and return its id."""
        self.actions.append(action)
        return action.id

    def finish(self, orphans: Iterable[str] = ()) -> Plan:
        """Return the plan. Every need and every mark of a rescue must name an action in it."""
        known = {action.id for action in self.actions}
        assert len(known) == len(self.actions), "two actions of a plan have the same id"
        named = [(action.id, action.needs) for action in self.actions]
        named += [(f"the rescue of {r.stop}", (r.stop, r.ready, *filter(None, [r.start]))) for r in self.rescues]
        for who, needs in named:
            if missing := set(needs) - known:
                raise AssertionError(f"{who} needs {sorted(missing)}, which the plan does not have")
        return Plan(tuple(self.actions), tuple(orphans), tuple(self.rescues))
