"""What is there: one snapshot of everything that reconciling a project needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from stockhelper_cli import labels
from stockhelper_cli.engine.protocol import Container, Engine, Image, Network, Volume
from stockhelper_cli.errors import NotFound

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.database.revisions import Recorded


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObservedState:
    """The engine's side of a project at one moment.

    `containers` are the project's by label, stopped ones and one-offs too. `networks` and `volumes` are those that
    exist under a name the project wants, whoever made them; `images` those that its services name. `strangers` hold
    a container name that the project wants without being its own. `recorded` is what the database says of its
    migrations, None where it was not or could not be asked.
    """

    api_version: tuple[int, int]
    local: bool = True
    containers: tuple[Container, ...] = ()
    networks: Mapping[str, Network] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    strangers: Mapping[str, Container] = field(default_factory=dict)
    recorded: Recorded | None = None

    def of_service(self, service: str) -> list[Container]:
        """Return a service's own containers (no one-offs), running ones first, then by name."""
        return sorted(
            (
                container
                for container in self.containers
                if container.labels.get(labels.SERVICE) == service
                and container.labels.get(labels.ONEOFF, "False") != "True"
            ),
            key=lambda container: (not container.running, container.name),
        )

    @property
    def leftovers(self) -> list[Container]:
        """Return what killed commands have left behind: no one-off that works on, it may be applying a migration.

        Without the project's lock they may be of a command that works: `db upgrade` holds it while its servers run.
        """
        return [
            container
            for container in self.containers
            if labels.UPGRADE in container.labels
            or (labels.TEMPORARY in container.labels and container.status == "exited")
        ]


def project_filter(name: str) -> str:
    """Return the label filter that selects what belongs to a project."""
    return f"{labels.PROJECT}={name}"


def observe(project: Project, engine: Engine, *, revisions: bool = False) -> ObservedState:
    """Return one snapshot of the engine's side of a project; the questions go out side by side.

    With `revisions` the database is asked too; only who is about to migrate it needs that.

    Raises `EngineError` when the engine cannot be asked.
    """
    wanted_containers = {service.container_name for service in project.services.values()}
    with ThreadPoolExecutor(thread_name_prefix="observe") as pool:
        containers = pool.submit(engine.containers, [project_filter(project.name)])
        networks = {n.name: pool.submit(_or_none, engine.network, n.name) for n in project.networks.values()}
        volumes = {v.name: pool.submit(_or_none, engine.volume, v.name) for v in project.volumes.values()}
        images = {
            reference: pool.submit(engine.image, reference)
            for reference in {service.image for service in project.services.values()}
        }
        own = tuple(containers.result())
        asked = None
        if revisions:
            from stockhelper_cli.database.revisions import read_recorded

            asked = pool.submit(read_recorded, project, engine, own)
        unseen = wanted_containers - {container.name for container in own}
        strangers = {name: pool.submit(_or_none, engine.container, name) for name in unseen}
        return ObservedState(
            api_version=engine.api_version,
            local=engine.local,
            containers=own,
            networks=_present(networks),
            volumes=_present(volumes),
            images=_present(images),
            strangers=_present(strangers),
            recorded=asked.result() if asked else None,
        )


def _or_none(ask: Callable[[str], T], name: str) -> T | None:
    try:
        return ask(name)
    except NotFound:
        return None


def _present(questions: Mapping[str, Future[T | None]]) -> Mapping[str, T]:
    """Wait for the answers and leave out what is not there."""
    return {name: answer for name, future in questions.items() if (answer := future.result()) is not None}
