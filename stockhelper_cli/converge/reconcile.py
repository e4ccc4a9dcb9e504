"""What is wanted and what is there -> what to do. Pure: no I/O, no clock.

The rules are Compose's (observed with 2.40.3: when a container is recreated, in which order things start and stop),
with three differences, each for the data's and the service's sake:

- A replaced container is removed only when its successor is ready, and started again if the successor never is.
- The `migrate` service is not run again while the database is at the revision that the image brings.
- Everything that does not depend on something else may happen at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from stockhelper_cli import labels
from stockhelper_cli.compose.differences import differences
from stockhelper_cli.converge.plan import Action, Condition, Draft, Kind, Plan
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Container

#: The parts that a service may play for stockhelper, given by `x-stockhelper: {role: …}`.
ROLE_DATABASE: Final = "database"
ROLE_MIGRATE: Final = "migrate"
ROLE_APP: Final = "app"

#: How much of the old container's id goes before the name of its successor until that one is ready; as Compose does.
_REPLACED_ID_LENGTH: Final = 12


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


def reconcile(project: Project, state: ObservedState, rules: UpRules) -> Plan:
    """Return what brings a project up.

    Raises `StockhelperError` (name.taken) where a name that is needed belongs to something that is not the project's.
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
    #: Service -> the name of the container that stays, and the actions after which it has that name.
    kept: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    #: (service, condition) -> the id of its WAIT.
    waits: dict[tuple[str, Condition], str] = field(default_factory=dict)
    #: Engine's name of a network or volume -> the id of the action that creates it.
    created: dict[str, str] = field(default_factory=dict)
    #: Engine's names of networks whose definition changed: their containers are replaced.
    changed_networks: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    #: Actions that stop or remove what is in a changed network.
    vacated: dict[str, str] = field(default_factory=dict)

    def plan(self) -> Plan:
        services = selected(self.project, self.rules.services)
        self.refuse_strangers(services)
        self.volumes(services)
        self.networks(services)
        for service in services:
            if service.role == ROLE_MIGRATE and not self.rules.migrate:
                continue
            self.service(service)
        for service in services:
            self.await_ready(service)
        orphans = orphans_of(self.project, self.state)
        if self.rules.remove_orphans:
            for container in orphans:
                _remove(self.draft, container, "orphan")
            orphans = []
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
            if network.external:
                if there is None:
                    raise _missing_external("network", network.name)
                continue
            cause = "missing"
            needs: list[str] = []
            if there is not None:
                if there.labels.get(labels.PROJECT) != self.project.name:
                    raise StockhelperError(
                        "name.taken",
                        f"the network name {network.name} is taken",
                        cause=f"by {there.labels.get(labels.PROJECT) or 'a network that is no compose project’s'}",
                        next=[f"docker network rm {network.name}"],
                    )
                if there.labels.get(labels.CONFIG_HASH, network.hash) == network.hash:
                    continue
                cause = "configuration changed"
                self.changed_networks.add(network.name)
                for container in self.state.containers:
                    if any(attachment.network == network.name for attachment in container.networks):
                        self.vacated[container.id] = _remove(self.draft, container, f"network {network.key} changed")
                needs.append(
                    self.draft.add(Action(Kind.REMOVE_NETWORK, network.name, cause, tuple(self.vacated.values())))
                )
            self.created[network.name] = self.draft.add(Action(Kind.CREATE_NETWORK, network.name, cause, tuple(needs)))

    # --- services
    def service(self, service: Service) -> None:
        own = [container for container in self.state.of_service(service.name) if container.id not in self.vacated]
        if not own:
            # Of one that goes with its network the successor still takes over the volumes without a name.
            gone = next((c.id for c in self.state.of_service(service.name) if c.id in self.vacated), "")
            self.create(service, "network changed" if gone else "missing", gone)
            return
        current = min(own, key=lambda container: self.preference(service, container))
        cause = self.why_replace(service, current)
        for container in own:
            if container is not current:
                _remove(self.draft, container, "superseded")
        if cause:
            self.replace(service, current, cause)
            return
        needs: tuple[str, ...] = ()
        if current.name != service.container_name:
            removed = tuple(a.id for a in self.draft.actions if a.kind is Kind.REMOVE and a.service == service.name)
            rename = Action(
                Kind.RENAME, current.name, "half-done update", removed, service.name, to=service.container_name
            )
            needs = (self.draft.add(rename),)
            current = replace(current, name=service.container_name)
        self.kept[service.name] = current.name, needs
        self.keep(service, current, needs)

    def preference(self, service: Service, container: Container) -> tuple[bool, bool, bool]:
        """Order the containers of one service: what is as wanted, then what runs, then what has the right name."""
        return (
            bool(self.why_replace(service, container)),
            not container.running,
            container.name != service.container_name,
        )

    def why_replace(self, service: Service, container: Container) -> str:
        """Return why a container cannot stay, "" if it can."""
        # A container that a newer Compose made carries that one's hash of the same definition.
        if container.labels.get(labels.CONFIG_HASH) not in (service.hash, service.config_hash("5.0")):
            keys = differences(self.project, service, container, self.state.api_version)
            return "configuration changed" + (f": {', '.join(keys)}" if keys else "")
        image = self.state.images.get(service.image)
        if service.image in self.rules.rebuilt:
            return "image is built anew"
        if image is not None and container.labels.get(labels.IMAGE) != image.id:
            return "image changed"
        # Also of one that does not run: it may have been created and not yet connected.
        attached = {attachment.network: attachment.network_id for attachment in container.networks}
        for name in self.network_names(service):
            if name not in attached:
                return f"not in network {name}"
            there = self.state.networks.get(name)
            if attached[name] and there is not None and attached[name] != there.id:
                return f"network {name} was made anew"
        mounted = {mount.name for mount in container.mounts if mount.name}
        for key in service.volumes:
            if self.project.volumes[key].name not in mounted:
                return f"volume {key} is not mounted"
        return ""

    def network_names(self, service: Service) -> list[str]:
        return [self.project.networks[key].name for key in service.networks]

    def keep(self, service: Service, container: Container, needs: tuple[str, ...]) -> None:
        """Plan for a container that is as wanted: start it unless it runs or has done its work."""
        restarted = [
            dependency.service
            for dependency in service.depends_on
            if dependency.restart and dependency.service in self.replaced
        ]
        if container.running:
            if restarted:
                stop = self.draft.add(
                    Action(Kind.STOP, container.name, f"{restarted[0]} is replaced", self.ready(service), service.name)
                )
                self.start(service, container.name, f"{restarted[0]} is replaced", (stop,))
            return
        if self.is_done(service, container):
            return
        cause = f"exited ({container.exit_code})" if container.status == "exited" else container.status
        self.start(service, container.name, cause, needs)

    def is_done(self, service: Service, container: Container) -> bool:
        """Whether a finished `migrate` need not run again: the database is where the image's migrations lead."""
        image = self.state.images.get(service.image)
        return (
            service.role == ROLE_MIGRATE
            and container.status == "exited"
            and container.exit_code == 0
            and image is not None
            and labels.MIGRATION_HEADS in image.labels
            and self.state.revisions == frozenset(filter(None, image.labels[labels.MIGRATION_HEADS].split(",")))
            and not self.replaced.intersection(d.service for d in service.depends_on)
        )

    def create(self, service: Service, cause: str, replaces: str) -> None:
        name = service.container_name
        create = self.draft.add(
            Action(Kind.CREATE, name, cause, self.foundation(service), service.name, replaces=replaces)
        )
        self.replaced.add(service.name)
        self.start(service, name, "", (create, *self.connect(service, name, create)))

    def replace(self, service: Service, old: Container, cause: str) -> None:
        """Plan a successor: made beside the old container, started in its place, and named like it when ready."""
        name = f"{old.id[:_REPLACED_ID_LENGTH]}_{service.container_name}"
        create = self.draft.add(
            Action(Kind.CREATE, name, cause, self.foundation(service), service.name, replaces=old.id)
        )
        self.replaced.add(service.name)
        before_start = [create, *self.connect(service, name, create)]
        rescue: tuple[Action, ...] = ()
        if old.status in ("running", "restarting", "paused"):
            # Only now, when all that the successor waits for is ready: the old one serves until then.
            before_start.append(
                self.draft.add(Action(Kind.STOP, old.name, cause, (*before_start, *self.ready(service)), service.name))
            )
            if old.running:
                rescue = (
                    Action(Kind.STOP, name, "it did not get ready", service=service.name),
                    Action(Kind.REMOVE, name, "it did not get ready", service=service.name),
                    Action(Kind.START, old.name, "its successor did not get ready", service=service.name),
                )
        self.start(service, name, "", tuple(before_start), rescue=rescue)
        after = self.wait(service, self.goal(service), rescue)
        remove = self.draft.add(Action(Kind.REMOVE, old.name, "replaced", (after,), service.name))
        self.draft.add(Action(Kind.RENAME, name, "replaced", (remove,), service.name, to=service.container_name))

    def connect(self, service: Service, name: str, create: str) -> tuple[str, ...]:
        """Plan the further networks, which engines before API 1.44 do not take at creation."""
        if self.state.api_version >= (1, 44):
            return ()
        return tuple(
            self.draft.add(Action(Kind.CONNECT, name, "", (create,), service.name, to=network))
            for network in self.network_names(service)[1:]
        )

    def foundation(self, service: Service) -> tuple[str, ...]:
        """Return the ids of the actions that make the networks and volumes of a service."""
        names = [*self.network_names(service), *(self.project.volumes[key].name for key in service.volumes)]
        return tuple(self.created[name] for name in names if name in self.created)

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
        self,
        service: Service,
        name: str,
        cause: str,
        needs: tuple[str, ...] = (),
        rescue: tuple[Action, ...] = (),
    ) -> None:
        needs = tuple(dict.fromkeys((*needs, *self.ready(service))))
        self.started[service.name] = self.draft.add(
            Action(Kind.START, name, cause, needs, service.name, rescue=rescue[1:])
        )

    # --- waiting
    def goal(self, service: Service) -> Condition:
        """Return what an `up` waits for: a one-shot's end where something needs it, health where it is checked."""
        if is_one_shot(self.project, service):
            return Condition.COMPLETED
        checked = service.healthcheck is not None and not service.healthcheck.disabled
        return Condition.HEALTHY if checked or service.role == ROLE_DATABASE else Condition.STARTED

    def holds(self, service: Service, condition: Condition) -> bool:
        """Whether a condition holds by what was observed."""
        for container in self.state.of_service(service.name):
            if condition is Condition.COMPLETED:
                return container.status == "exited" and container.exit_code == 0
            if container.running:
                return condition is Condition.STARTED or (
                    container.health is not None and container.health.status == "healthy"
                )
        return False

    def wait(self, service: Service, condition: Condition, rescue: tuple[Action, ...] = ()) -> str:
        key = (service.name, condition)
        if key not in self.waits:
            there = next((c.name for c in self.state.of_service(service.name)), service.container_name)
            container, needs = self.kept.get(service.name, (there, ()))
            if starts := self.started.get(service.name):
                container = next(action.resource for action in self.draft.actions if action.id == starts)
                needs = (starts,)
            self.waits[key] = self.draft.add(
                Action(
                    Kind.WAIT,
                    service.name,
                    "",
                    needs,
                    service.name,
                    container=container,
                    condition=condition,
                    rescue=rescue,
                )
            )
        return self.waits[key]

    def await_ready(self, service: Service) -> None:
        """Plan the wait that ends an `up`, unless the service is seen to be ready already."""
        goal = self.goal(service)
        if service.role == ROLE_MIGRATE and not self.rules.migrate:
            return
        if service.name in self.started or not self.holds(service, goal):
            self.wait(service, goal)


def orphans_of(project: Project, state: ObservedState) -> list[Container]:
    """Return the containers that belong to the project and to none of its services; one-offs are not orphans."""
    known = {*project.services, *project.disabled}
    return [
        container
        for container in state.containers
        if container.labels.get(labels.SERVICE) not in known and container.labels.get(labels.ONEOFF) != "True"
    ]


@dataclass(frozen=True, slots=True)
class DownRules:
    """What may vary in taking a project down: whether its volumes and its orphans go too."""

    volumes: bool = False
    remove_orphans: bool = False


def reconcile_down(project: Project, state: ObservedState, rules: DownRules) -> Plan:
    """Return what takes a project down: dependents before what they depend on, then networks, then volumes."""
    draft = Draft()
    orphans = {container.id for container in orphans_of(project, state)}
    removed = _stop_in_order(
        draft,
        project,
        [c for c in state.containers if rules.remove_orphans or c.id not in orphans],
        remove=True,
    )
    for network in project.networks.values():
        if network.name in state.networks and not network.external:
            draft.add(Action(Kind.REMOVE_NETWORK, network.name, "", tuple(removed.values())))
    if rules.volumes:
        for volume in project.volumes.values():
            if volume.name in state.volumes and not volume.external:
                draft.add(Action(Kind.REMOVE_VOLUME, volume.name, "--volumes", tuple(removed.values())))
    left = [] if rules.remove_orphans else [c.name for c in state.containers if c.id in orphans]
    return draft.finish(left)


def reconcile_stop(project: Project, state: ObservedState, names: Collection[str]) -> Plan:
    """Return what stops these services (none named: all), dependents before what they depend on."""
    draft = Draft()
    _stop_in_order(draft, project, _own(project, state, names), remove=False)
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
            making.start(service, container.name, container.status)
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
    running = [c for service in services for c in state.of_service(service.name)[:1] if c.running]
    stops = _stop_in_order(making.draft, project, running, remove=False)
    for service in services:
        container = state.of_service(service.name)[0]
        needs = (stops[container.id],) if container.id in stops else ()
        making.start(service, container.name, "restart", needs)
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
    draft: Draft, project: Project, containers: Sequence[Container], *, remove: bool
) -> Mapping[str, str]:
    """Plan to stop containers, each after those that depend on it; return container id -> its last action's id."""
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
            if container.status not in ("exited", "created", "dead"):
                stop = draft.add(Action(Kind.STOP, container.name, "", needs, name))
                stopped.setdefault(name, []).append(stop)
                last[container.id] = stop
            if remove:
                before = (last[container.id],) if container.id in last else ()
                last[container.id] = draft.add(Action(Kind.REMOVE, container.name, "", before, name))
    return last


def _remove(draft: Draft, container: Container, cause: str) -> str:
    """Plan to stop a container, where it runs, and to remove it; return the id of the removal."""
    service = container.labels.get(labels.SERVICE, "")
    needs: tuple[str, ...] = ()
    if container.status not in ("exited", "created", "dead"):
        needs = (draft.add(Action(Kind.STOP, container.name, cause, (), service)),)
    return draft.add(Action(Kind.REMOVE, container.name, cause, needs, service))


def _missing_external(kind: str, name: str) -> StockhelperError:
    return StockhelperError(
        "config.compose",
        f"the external {kind} {name} does not exist",
        cause="the compose files declare it as external: it is made outside of the project, and is not there",
        next=[f"docker {kind} create {name}"],
    )
