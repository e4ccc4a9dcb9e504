"""What is wanted and what is there -> what to do. Pure: no I/O, no clock.

The rules are Compose's (observed with 2.40.3: when a container is recreated, in which order things start and stop),
with three differences, each for the data's and the service's sake:

- A replaced container is removed only when its successor is ready, and started again if the successor never is.
- The `migrate` service is not run again while the database is at the revision that the image brings, and where it
  may not be, nothing is migrated before that was prepared.
- Everything that does not depend on something else may happen at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from stockhelper_cli import labels
from stockhelper_cli.compose.differences import differences
from stockhelper_cli.converge.plan import Action, Condition, Draft, Kind, Plan, Rescue
from stockhelper_cli.database.psql import database_service
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Network, Project, Service, Volume
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Container
    from stockhelper_cli.engine.protocol import Network as EngineNetwork
    from stockhelper_cli.engine.protocol import Volume as EngineVolume

#: The parts that a service may play for stockhelper, given by `x-stockhelper: {role: …}`.
ROLE_DATABASE: Final = "database"
ROLE_MIGRATE: Final = "migrate"
ROLE_APP: Final = "app"

#: How much of the old container's id goes before the name of its successor until that one is ready; as Compose does.
_REPLACED_ID_LENGTH: Final = 12
#: Why something is done that an interrupted `up` had begun.
_HALF_DONE: Final = "half-done update"


@dataclass(frozen=True, slots=True)
class UpRules:
    """What may vary in bringing a project up.

    `services` limits it to these and what they depend on (none: all). `rebuilt` are image references that are about
    to be built anew. `migrate` is whether the `migrate` service may run.
    """

    services: Collection[str] = ()
    rebuilt: Collection[str] = ()
    migrate: bool = True
    remove_orphans: bool = False


def selected(project: Project, names: Collection[str]) -> list[Service]:
    """Return the services of these names and all that they depend on, dependencies first.

    No names mean all services. Raises `StockhelperError` (usage) for a name that the project does not have.
    """
    for name in names:
        if name not in project.services:
            known = ", ".join(sorted(project.services))
            raise StockhelperError("usage", f"no such service: {name}", cause=f"the project has: {known}")
    ordered: dict[str, Service] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in project.services:
            return
        service = project.services[name]
        for dependency in service.depends_on:
            visit(dependency.service)
        ordered[name] = service

    for name in names or sorted(project.services):
        visit(name)
    return list(ordered.values())


def brought_up(project: Project, state: ObservedState, names: Collection[str]) -> list[Service]:
    """Return the services that an `up` of these names brings up: as `selected`, and those that share a network.

    A network whose definition changed is taken from under all that run in it, so all of them are brought along.
    """
    services = selected(project, names)
    while True:
        changed = {network.name for network in _changed_networks(project, state, services)}
        neighbours = {
            container.labels.get(labels.SERVICE, "")
            for container in state.containers
            if container.alive and _is_of_a_service(project, container) and _is_in(container, changed)
        }
        more = selected(project, [*(s.name for s in services), *sorted(neighbours)])
        if len(more) == len(services):
            return services
        services = more


def _changed_networks(project: Project, state: ObservedState, services: Iterable[Service]) -> list[Network]:
    """Return the project's own networks of these services that are there, but with another definition."""
    used = {key for service in services for key in service.networks}
    return [
        network
        for network in project.networks.values()
        if network.key in used
        and not network.external
        and network.name in state.networks
        and state.networks[network.name].labels.get(labels.CONFIG_HASH, network.hash) != network.hash
    ]


def reconcile(project: Project, state: ObservedState, rules: UpRules) -> Plan:
    """Return what brings a project up.

    Raises `StockhelperError`: name.taken where a name that is needed belongs to something that is not the project's,
    engine.conflict where somebody else is in a network that has to be made anew.
    """
    return _Up(project, state, rules).plan()


@dataclass(slots=True)
class _Up:
    """The making of one plan."""

    project: Project
    state: ObservedState
    rules: UpRules
    draft: Draft = field(default_factory=Draft)
    #: Service -> the id of the action after which its container runs; absent where it runs already.
    started: dict[str, str] = field(default_factory=dict)
    #: Service -> the container that stays, by the name it has then, and the actions after which it has that name.
    kept: dict[str, tuple[Container, tuple[str, ...]]] = field(default_factory=dict)
    #: (service, condition) -> the id of its WAIT.
    waits: dict[tuple[str, Condition], str] = field(default_factory=dict)
    #: Engine's name of a network or volume -> the id of the action that creates it.
    created: dict[str, str] = field(default_factory=dict)
    #: Keys of networks whose definition changed: the containers in them are replaced.
    changed_networks: set[str] = field(default_factory=set)
    #: Services whose container is another one after this plan.
    replaced: set[str] = field(default_factory=set)
    #: Container id -> the id of the action that stops it.
    stopped: dict[str, str] = field(default_factory=dict)
    #: The ids of the actions that remove what is in the way: what is made may need a name, a port or a volume of it.
    cleared: tuple[str, ...] = ()

    def plan(self) -> Plan:
        services = brought_up(self.project, self.state, self.rules.services)
        self.refuse_strangers(services)
        self.cleared = tuple(self.remove(container, "left by a killed command") for container in self.state.leftovers)
        orphans = orphans_of(self.project, self.state)
        if self.rules.remove_orphans:
            self.cleared += tuple(self.remove(container, "orphan") for container in orphans)
            orphans = []
        self.volumes(services)
        self.networks(services)
        for service in services:
            if service.role == ROLE_MIGRATE and not self.rules.migrate:
                continue
            self.service(service)
        for service in services:
            self.await_ready(service)
        return self.draft.finish(container.name for container in orphans)

    def refuse_strangers(self, services: Iterable[Service]) -> None:
        for service in services:
            stranger = self.state.strangers.get(service.container_name)
            if stranger is not None:
                owner = stranger.labels.get(labels.PROJECT)
                raise StockhelperError(
                    "name.taken",
                    f"the container name {stranger.name} is taken",
                    cause=f"by {f'project {owner}' if owner else 'a container that is no compose project’s'}"
                    f" (image {stranger.image}, {stranger.status})",
                    next=[f"docker rename {stranger.name} {stranger.name}-old"],
                )

    # --- volumes and networks
    def volumes(self, services: Sequence[Service]) -> None:
        used = {name for service in services for name in service.volumes}
        for volume in self.project.volumes.values():
            there = self.state.volumes.get(volume.name)
            if volume.external:
                if there is None:
                    raise _missing_external("volume", volume.name)
            elif there is None and volume.key in used:
                self.created[volume.name] = self.draft.add(Action(Kind.CREATE_VOLUME, volume.name, "missing"))
            # A volume is never made anew because its definition changed: it holds the data.

    def networks(self, services: Sequence[Service]) -> None:
        used = {key for service in services for key in service.networks}
        for network in self.project.networks.values():
            if network.key not in used:
                continue
            there = self.state.networks.get(network.name)
            if there is None:
                if network.external:
                    raise _missing_external("network", network.name)
                self.created[network.name] = self.draft.add(Action(Kind.CREATE_NETWORK, network.name, "missing"))
            elif not network.external and there.labels.get(labels.PROJECT) != self.project.name:
                raise StockhelperError(
                    "name.taken",
                    f"the network name {network.name} is taken",
                    cause=f"by {there.labels.get(labels.PROJECT) or 'a network that is no compose project’s'}",
                    next=[f"docker network rm {network.name}"],
                )
        if changed := _changed_networks(self.project, self.state, services):
            self.changed_networks = {network.key for network in changed}
            self.make_anew(changed)

    def make_anew(self, networks: Sequence[Network]) -> None:
        """Plan to stop all that runs in these networks, and to make them once more; the containers are replaced later.

        They are not removed before that: their successors take over their volumes without a name.
        """
        names = {network.name for network in networks}
        inside = [
            container
            for container in self.state.containers
            if container.alive and _is_of_a_service(self.project, container) and _is_in(container, names)
        ]
        for network in networks:
            self.refuse_company(network, inside)
        cause = f"network {', '.join(network.key for network in networks)} changed"
        self.stopped |= _stop_in_order(self.draft, self.project, inside, cause)
        needs = (*(self.stopped[container.id] for container in inside), *self.cleared)
        changed = "configuration changed"
        first = ""
        for network in networks:
            # The others after the first: until that one is gone, all containers can be started again as they were.
            after = (*needs, *filter(None, [first]))
            removed = self.draft.add(Action(Kind.REMOVE_NETWORK, network.name, changed, after))
            self.created[network.name] = self.draft.add(Action(Kind.CREATE_NETWORK, network.name, changed, (removed,)))
            first = first or removed
        for container in inside:
            if container.running:
                self.bring_back(container, self.stopped[container.id], first, first)

    def refuse_company(self, network: Network, inside: Sequence[Container]) -> None:
        """Refuse to take a network from under somebody who would not come back to it."""
        own = {container.name for container in inside}
        orphans = {container.name for container in orphans_of(self.project, self.state)}
        company = [
            name
            for name in self.state.networks[network.name].containers
            if name not in own and not (self.rules.remove_orphans and name in orphans)
        ]
        if company:
            leave = [f"docker network disconnect {network.name} {name}" for name in company if name not in orphans]
            raise StockhelperError(
                "engine.conflict",
                f"the network {network.name} changed and cannot be made anew",
                cause=f"{', '.join(company)} would lose it",
                next=leave or ["stockhelper up --remove-orphans"],
            )

    # --- services
    def service(self, service: Service) -> None:
        own = self.state.of_service(service.name)
        if not own:
            self.create(service)
            return
        current = min(own, key=lambda container: self.preference(service, container))
        cause = self.why_replace(service, current)
        others = [container for container in own if container is not current]
        predecessor = None if cause else self.predecessor(service, current, others)
        superseded = tuple(self.remove(container, "superseded") for container in others if container is not predecessor)
        if cause:
            self.replace(service, current, cause, superseded)
        elif predecessor is not None:
            self.kept[service.name] = current, superseded
            self.take_over(service, current.name, predecessor, _HALF_DONE, superseded, successor=current)
        else:
            if current.name != service.container_name:
                superseded = (self.rename(service, current.name, _HALF_DONE, superseded),)
                current = replace(current, name=service.container_name)
            self.kept[service.name] = current, superseded
            self.keep(service, current, superseded)

    def preference(self, service: Service, container: Container) -> tuple[bool, bool, bool]:
        """Order the containers of one service: what is as wanted, then what runs, then what has the right name."""
        return (
            bool(self.why_replace(service, container)),
            not container.running,
            container.name != service.container_name,
        )

    def why_replace(self, service: Service, container: Container) -> str:
        """Return why a container cannot stay, "" if it can."""
        image = self.state.images.get(service.image)
        carried = container.labels.get(labels.CONFIG_HASH)
        # A container that a newer Compose made carries that one's hash of the same definition.
        if carried != service.hash and carried != service.config_hash("5.0"):
            variables = None if image is None else image.environment
            keys = differences(self.project, service, container, self.state.api_version, variables)
            return "configuration changed" + (f": {', '.join(keys)}" if keys else "")
        if service.image in self.rules.rebuilt:
            return "image is built anew"
        if image is not None and container.labels.get(labels.IMAGE) != image.id:
            return "image changed"
        # Also of one that does not run: it may have been created and not yet connected.
        attached = {attachment.network: attachment.network_id for attachment in container.networks}
        for key in service.networks:
            name = self.project.networks[key].name
            if name not in attached:
                return f"not in network {name}"
            if key in self.changed_networks:
                return f"network {key} changed"
            there = self.state.networks.get(name)
            # It knows the network by its id, and would not start in another one of that name.
            if attached[name] and (there is None or attached[name] != there.id):
                return f"network {name} was made anew" if there else f"network {name} is missing"
        mounted = {mount.name for mount in container.mounts if mount.name}
        for key in service.volumes:
            if self.project.volumes[key].name not in mounted:
                return f"volume {key} is not mounted"
        return ""

    def predecessor(self, service: Service, current: Container, others: Iterable[Container]) -> Container | None:
        """Return the container whose place a half-done update left the current one to take, None if it has its place.

        That is one that still runs, or was stopped for it: neither may go before the current one is ready.
        """
        if self.is_done(service, current) or _meets(current, self.goal(service)):
            return None
        return next((c for c in others if c.alive or _successor_name(service, c) == current.name), None)

    def network_names(self, service: Service) -> list[str]:
        return [self.project.networks[key].name for key in service.networks]

    def keep(self, service: Service, container: Container, needs: tuple[str, ...]) -> None:
        """Plan for a container that is as wanted: start it unless it runs or has done its work."""
        restarted = [
            dependency.service
            for dependency in service.depends_on
            if dependency.restart and dependency.service in self.replaced
        ]
        if restarted and container.alive:
            cause = f"{restarted[0]} is replaced"
            stop = self.stop(container, cause, (*needs, *self.ready(service)))
            start = self.start(service, container.name, cause, (stop,))
            if container.running:
                self.bring_back(container, stop, start, start)
        elif not container.running and not self.is_done(service, container):
            cause = f"exited ({container.exit_code})" if container.status == "exited" else container.status
            self.start(service, container.name, cause, (*needs, *self.cleared), paused=container.status == "paused")

    def is_done(self, service: Service, container: Container) -> bool:
        """Whether a finished `migrate` need not run again: the database is where the image's migrations lead."""
        return (
            service.role == ROLE_MIGRATE
            and container.status == "exited"
            and container.exit_code == 0
            and not self.unmigrated(service)
            and not self.replaced.intersection(d.service for d in service.depends_on)
        )

    def unmigrated(self, service: Service) -> str:
        """Return why the database may not be where the image of `migrate` leads, "" if it is seen to be there."""
        image, recorded = self.state.images.get(service.image), self.state.recorded
        heads = image.labels.get(labels.MIGRATION_HEADS) if image is not None else None
        if recorded is None:
            return "the database was not asked yet"
        if heads is None:
            return f"the database is at {recorded}, and the image does not say where it leads"
        wanted = sorted(filter(None, heads.split(",")))
        return "" if recorded.at == set(wanted) else f"{recorded} -> {', '.join(wanted) or 'base'}"

    def create(self, service: Service) -> None:
        name = service.container_name
        create = self.draft.add(Action(Kind.CREATE, name, "missing", self.foundation(service), service.name))
        self.replaced.add(service.name)
        self.start(service, name, "", (create, *self.connect(service, name, create)))

    def replace(self, service: Service, old: Container, cause: str, needs: tuple[str, ...]) -> None:
        """Plan a successor that is made beside the old container, which serves until then, and takes its place."""
        name = _successor_name(service, old)
        foundation = (*self.foundation(service), *needs)
        create = self.draft.add(Action(Kind.CREATE, name, cause, foundation, service.name, replaces=old.id))
        self.take_over(service, name, old, cause, (create, *self.connect(service, name, create)))

    def take_over(
        self,
        service: Service,
        name: str,
        old: Container,
        cause: str,
        needs: tuple[str, ...],
        *,
        successor: Container | None = None,
    ) -> None:
        """Plan that a container takes an old one's place: it is started instead of it, and has its name when ready.

        Until then the old one stays, and serves again if its successor, there already or about to be made, never
        gets ready.
        """
        self.replaced.add(service.name)
        goal = self.goal(service)
        runs = successor is not None and successor.running
        # A one-shot has nothing to serve. What does not run was stopped for a successor only where there is one.
        serves = goal is not Condition.COMPLETED and (
            old.running and old.id not in self.stopped if old.alive else successor is not None
        )
        stop = self.stopped.get(old.id, "")
        if old.alive and not stop and not runs:
            # Only now, when all that the successor waits for is ready: the old one serves until then.
            stop = self.stop(old, cause, (*needs, *self.ready(service)))
        start = "" if runs else self.start(service, name, "", (*needs, *filter(None, [stop])))
        ready = self.wait(service, goal)
        if serves:
            self.bring_back(old, stop or start or ready, start, ready, successor=name)
        removed = self.remove(old, "replaced", (ready,))
        if name != service.container_name:  # that of a change taken back was never another one
            self.rename(service, name, "replaced", (removed,))

    def bring_back(self, old: Container, stop: str, start: str, ready: str, *, successor: str = "") -> None:
        """Plan for an early end: a container that was stopped runs again, its successor goes that did not get ready."""
        service = old.labels.get(labels.SERVICE, "")
        steps = [Action(Kind.START, old.name, "what it was stopped for failed", service=service)]
        if successor:
            unready = "it did not get ready"
            steps = [
                Action(Kind.STOP, successor, unready, service=service),
                Action(Kind.REMOVE, successor, unready, service=service),
                *steps,
            ]
        self.draft.rescues.append(Rescue(stop, start, ready, tuple(steps)))

    # --- containers
    def stop(self, container: Container, cause: str, needs: tuple[str, ...] = ()) -> str:
        self.stopped[container.id] = self.draft.add(
            Action(Kind.STOP, container.name, cause, needs, container.labels.get(labels.SERVICE, ""))
        )
        return self.stopped[container.id]

    def remove(self, container: Container, cause: str, needs: tuple[str, ...] = ()) -> str:
        """Plan to stop a container, where it still runs, and to remove it."""
        if container.alive and container.id not in self.stopped:
            needs = (self.stop(container, cause, needs),)
        elif container.id in self.stopped:
            needs = (*needs, self.stopped[container.id])
        service = container.labels.get(labels.SERVICE, "")
        return self.draft.add(Action(Kind.REMOVE, container.name, cause, needs, service))

    def rename(self, service: Service, name: str, cause: str, needs: tuple[str, ...]) -> str:
        """Plan to give a container the name of its service's."""
        return self.draft.add(Action(Kind.RENAME, name, cause, needs, service.name, to=service.container_name))

    def connect(self, service: Service, name: str, create: str) -> tuple[str, ...]:
        """Plan the further networks, which engines before API 1.44 do not take at creation."""
        if self.state.api_version >= (1, 44):
            return ()
        return tuple(
            self.draft.add(Action(Kind.CONNECT, name, "", (create,), service.name, to=network))
            for network in self.network_names(service)[1:]
        )

    def foundation(self, service: Service) -> tuple[str, ...]:
        """Return the ids of the actions that make the networks and volumes of a service, and room for it."""
        names = [*self.network_names(service), *(self.project.volumes[key].name for key in service.volumes)]
        return (*(self.created[name] for name in names if name in self.created), *self.cleared)

    def ready(self, service: Service) -> tuple[str, ...]:
        """Return the ids of the actions after which what a service depends on is as it must be."""
        ids = []
        for dependency in service.depends_on:
            target = self.project.services.get(dependency.service)
            if target is None or (target.role == ROLE_MIGRATE and not self.rules.migrate):
                continue
            condition = Condition(dependency.condition)
            if condition is Condition.STARTED:
                if target.name in self.started:
                    ids.append(self.started[target.name])
            elif target.name in self.started or not self.holds(target, condition):
                ids.append(self.wait(target, condition))
        return tuple(ids)

    def start(
        self, service: Service, name: str, cause: str, needs: tuple[str, ...] = (), *, paused: bool = False
    ) -> str:
        needs = tuple(dict.fromkeys((*needs, *self.ready(service), *self.prepare(service))))
        kind = Kind.UNPAUSE if paused else Kind.START
        self.started[service.name] = self.draft.add(Action(kind, name, cause, needs, service.name))
        return self.started[service.name]

    def prepare(self, service: Service) -> tuple[str, ...]:
        """Plan what goes before a migration: where the database may be behind and may hold something to lose."""
        database = database_service(self.project.services)
        if service.role != ROLE_MIGRATE or database is None or not (cause := self.unmigrated(service)):
            return ()
        names = {self.project.volumes[key].name for key in database.volumes}
        if not self.state.of_service(database.name) and names <= set(self.created):
            return ()  # it is made by this plan: there is nothing in it
        runs = database.name not in self.started and self.holds(database, Condition.HEALTHY)
        needs = () if runs else (self.wait(database, Condition.HEALTHY),)
        return (self.draft.add(Action(Kind.PREPARE, service.name, cause, needs, service.name)),)

    # --- waiting
    def goal(self, service: Service) -> Condition:
        """Return what an `up` waits for: a one-shot's end where something needs it, health where it is checked."""
        if is_one_shot(self.project, service):
            return Condition.COMPLETED
        checked = service.healthcheck is not None and not service.healthcheck.disabled
        return Condition.HEALTHY if checked or service.role == ROLE_DATABASE else Condition.STARTED

    def holds(self, service: Service, condition: Condition) -> bool:
        """Whether a condition holds by what was observed."""
        container, _ = self.staying(service)
        return container is not None and _meets(container, condition)

    def staying(self, service: Service) -> tuple[Container | None, tuple[str, ...]]:
        """Return the container that a service keeps, and the actions after which it has its name."""
        there = next(iter(self.state.of_service(service.name)), None)
        return self.kept.get(service.name, (there, ()))

    def wait(self, service: Service, condition: Condition) -> str:
        key = (service.name, condition)
        if key not in self.waits:
            container, needs = self.staying(service)
            name = container.name if container is not None else service.container_name
            if starts := self.started.get(service.name):
                name = next(action.resource for action in self.draft.actions if action.id == starts)
                needs = (starts,)
            self.waits[key] = self.draft.add(
                Action(Kind.WAIT, service.name, "", needs, service.name, container=name, condition=condition)
            )
        return self.waits[key]

    def await_ready(self, service: Service) -> None:
        """Plan the wait that ends an `up`, unless the service is seen to be ready already."""
        goal = self.goal(service)
        if service.role == ROLE_MIGRATE and not self.rules.migrate:
            return
        if service.name in self.started or not self.holds(service, goal):
            self.wait(service, goal)


def _meets(container: Container, condition: Condition) -> bool:
    """Whether a condition holds for a container by what was observed."""
    if condition is Condition.COMPLETED:
        return container.status == "exited" and container.exit_code == 0
    healthy = container.health is not None and container.health.status == "healthy"
    return container.running and (condition is Condition.STARTED or healthy)


def _successor_name(service: Service, old: Container) -> str:
    """Return the name of the container that replaces an old one, until it is ready."""
    return f"{old.id[:_REPLACED_ID_LENGTH]}_{service.container_name}"


def _is_of_a_service(project: Project, container: Container) -> bool:
    """Whether a container is one of a service's own: no orphan, and no one-off."""
    return container.labels.get(labels.SERVICE) in project.services and container.labels.get(labels.ONEOFF) != "True"


def _is_own(project: Project, wanted: Network | Volume, there: EngineNetwork | EngineVolume) -> bool:
    """Whether a network or volume under a name of the project's was made for the project."""
    return not wanted.external and there.labels.get(labels.PROJECT) == project.name


def _is_in(container: Container, networks: Collection[str]) -> bool:
    """Whether a container is in one of these networks."""
    return any(attachment.network in networks for attachment in container.networks)


def orphans_of(project: Project, state: ObservedState) -> list[Container]:
    """Return the containers that belong to the project and to none of its services; one-offs are not orphans."""
    known = {*project.services, *project.disabled}
    return [
        container
        for container in state.containers
        if container.labels.get(labels.SERVICE) not in known and container.labels.get(labels.ONEOFF) != "True"
    ]


def volumes_as_they_are(project: Project, state: ObservedState) -> list[str]:
    """Return a line for each volume that is used though it is not what the compose files define: it holds the data."""
    said = []
    for volume in project.volumes.values():
        there = state.volumes.get(volume.name)
        if there is None or volume.external:
            continue
        if not _is_own(project, volume, there):
            maker = there.labels.get(labels.PROJECT)
            by = f"for project {maker}" if maker else "by no compose project"
            said.append(f"the volume {volume.name} was made {by}, and is used as it is; `external: true` declares that")
        elif there.labels.get(labels.CONFIG_HASH, volume.hash) != volume.hash:
            said.append(f"the definition of volume {volume.key} changed; {volume.name} stays as it is, with its data")
    return said


@dataclass(frozen=True, slots=True)
class DownRules:
    """What may vary in taking a project down: whether its volumes and its orphans go too."""

    volumes: bool = False
    remove_orphans: bool = False


def reconcile_down(project: Project, state: ObservedState, rules: DownRules) -> tuple[Plan, list[str]]:
    """Return what takes a project down, and warnings about what stays though nobody asked for that.

    Dependents go before what they depend on, then networks, then volumes: those that the project made, and that
    nobody holds who stays, neither an orphan nor, in a network, a stranger.
    """
    draft = Draft()
    left = [] if rules.remove_orphans else orphans_of(project, state)
    going = [container for container in state.containers if container not in left]
    removed = tuple(_stop_in_order(draft, project, going, remove=True, volumes=rules.volumes).values())
    warnings = [f"{c.name} belongs to no service of the project and stays; --remove-orphans removes it" for c in left]

    def remove(kind: Kind, name: str, cause: str, holders: Collection[str]) -> None:
        if holders:
            warnings.append(f"the {kind.noun} {name} stays, held by {', '.join(sorted(holders))}")
        else:
            draft.add(Action(kind, name, cause, removed))

    for network in project.networks.values():
        there = state.networks.get(network.name)
        if there is not None and _is_own(project, network, there):
            strangers = set(there.containers) - {container.name for container in going}
            orphans = {container.name for container in left if _is_in(container, {network.name})}
            remove(Kind.REMOVE_NETWORK, network.name, "", strangers | orphans)
    for volume in project.volumes.values() if rules.volumes else ():
        kept = state.volumes.get(volume.name)
        if kept is not None and _is_own(project, volume, kept):
            holders = {c.name for c in left if any(mount.name == volume.name for mount in c.mounts)}
            remove(Kind.REMOVE_VOLUME, volume.name, "--volumes", holders)
    return draft.finish(container.name for container in left), warnings


def reconcile_stop(project: Project, state: ObservedState, names: Collection[str]) -> Plan:
    """Return what stops these services (none named: all), dependents before what they depend on."""
    draft = Draft()
    _stop_in_order(draft, project, _own(project, state, names))
    return draft.finish()


def reconcile_start(project: Project, state: ObservedState, names: Collection[str]) -> Plan:
    """Return what starts the stopped containers of these services, and waits for them.

    Nothing is created. Raises `StockhelperError` (failed) for a service that has no container.
    """
    making = _Up(project, state, UpRules(names, migrate=False))
    services = _with_containers(project, state, names)
    for service in services:
        container = state.of_service(service.name)[0]
        if not container.running:
            making.start(service, container.name, container.status, paused=container.status == "paused")
    for service in services:
        making.await_ready(service)
    return making.draft.finish()


def reconcile_restart(project: Project, state: ObservedState, names: Collection[str]) -> Plan:
    """Return what stops and starts these services in the order of their dependencies, and waits for them.

    Those that depend on one of them with `restart: true` follow. A one-shot that has done its work is not repeated.
    Raises `StockhelperError` (failed) for a service that has no container.
    """
    chosen = {service.name for service in _with_containers(project, state, names)}
    for service in selected(project, ()):  # dependencies first, so that those that follow are followed in turn
        if any(d.restart and d.service in chosen for d in service.depends_on) and state.of_service(service.name):
            chosen.add(service.name)
    making = _Up(project, state, UpRules(chosen, migrate=False))
    services = [service for service in selected(project, ()) if service.name in chosen]
    stops = _stop_in_order(making.draft, project, [state.of_service(service.name)[0] for service in services])
    for service in services:
        container = state.of_service(service.name)[0]
        stop = stops.get(container.id, "")
        start = making.start(service, container.name, "restart", tuple(filter(None, [stop])))
        if container.running:
            making.bring_back(container, stop, start, start)
    for service in services:
        making.await_ready(service)
    return making.draft.finish()


def _own(project: Project, state: ObservedState, names: Collection[str]) -> list[Container]:
    wanted = [project.services[name] for name in names] if names else list(project.services.values())
    return [container for service in wanted for container in state.of_service(service.name)]


def _with_containers(project: Project, state: ObservedState, names: Collection[str]) -> list[Service]:
    """Return the named services, or without names all that run on, in dependency order."""
    for name in names:
        selected(project, [name])
        if not state.of_service(name):
            raise StockhelperError(
                "failed",
                f"the service {name} has no container",
                cause="it was never brought up, or was taken down",
                next=["stockhelper up"],
            )
    services = [
        service
        for service in selected(project, ())
        if (service.name in names if names else state.of_service(service.name) and not is_one_shot(project, service))
    ]
    if not services:
        raise StockhelperError(
            "failed", "nothing of the stack is there", cause="it was never brought up", next=["stockhelper up"]
        )
    return services


def is_one_shot(project: Project, service: Service) -> bool:
    """Whether a service is there to end: another one waits for its completion."""
    return any(
        dependency.service == service.name and Condition(dependency.condition) is Condition.COMPLETED
        for other in project.services.values()
        for dependency in other.depends_on
    )


def _stop_in_order(
    draft: Draft,
    project: Project,
    containers: Sequence[Container],
    cause: str = "",
    *,
    remove: bool = False,
    volumes: bool = False,
) -> dict[str, str]:
    """Plan to stop containers, each after those that depend on it; return container id -> its last action's id.

    `remove` removes them too, and `volumes` with them the volumes that have no name.
    """
    dependents: dict[str, set[str]] = {}
    for service in project.services.values():
        for dependency in service.depends_on:
            dependents.setdefault(dependency.service, set()).add(service.name)
    order = [service.name for service in reversed(selected(project, ()))]
    by_service: dict[str, list[Container]] = {}
    for container in containers:
        by_service.setdefault(container.labels.get(labels.SERVICE, ""), []).append(container)
    stopped: dict[str, list[str]] = {}
    last: dict[str, str] = {}
    for name in [*order, *sorted(set(by_service) - set(order))]:
        needs = tuple(action for other in sorted(dependents.get(name, ())) for action in stopped.get(other, ()))
        for container in by_service.get(name, ()):
            if container.alive:
                stop = draft.add(Action(Kind.STOP, container.name, cause, needs, name))
                stopped.setdefault(name, []).append(stop)
                last[container.id] = stop
            if remove:
                before = (last[container.id],) if container.id in last else ()
                last[container.id] = draft.add(
                    Action(Kind.REMOVE, container.name, cause, before, name, volumes=volumes)
                )
    return last


def _missing_external(kind: str, name: str) -> StockhelperError:
    return StockhelperError(
        "config.compose",
        f"the external {kind} {name} does not exist",
        cause="the compose files declare it as external: it is made outside of the project, and is not there",
        next=[f"docker {kind} create {name}"],
    )
