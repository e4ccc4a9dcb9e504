"""One engine call for each action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event as Flag
from typing import TYPE_CHECKING

from stockhelper_cli.compose.create import ContainerSpec, container_spec, network_spec, volume_spec
from stockhelper_cli.converge.plan import Action, Kind
from stockhelper_cli.converge.ready import probe_for, wait_ready
from stockhelper_cli.engine.pull import Pull
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Event, Phase

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import BuildOptions, Engine


@dataclass(frozen=True, slots=True)
class Performer:
    """Carries out single actions of a project's plans on an engine. `timeout` is a WAIT's, in seconds."""

    project: Project
    engine: Engine
    state: ObservedState
    emit: Emit
    timeout: float = 0.0
    builds: Mapping[str, BuildOptions] = field(default_factory=dict)

    def __call__(self, action: Action, cancelled: Flag) -> None:
        """Carry out one action. Raises `StockhelperError`, or `Cancelled` from a WAIT when the flag is set."""
        engine, name = self.engine, action.resource
        match action.kind:
            case Kind.BUILD:
                engine.build(self.builds[name], self._progress(action))
            case Kind.PULL:
                Pull(engine, name).run(self._progress(action))
            case Kind.CREATE_NETWORK:
                network = next(n for n in self.project.networks.values() if n.name == name)
                engine.create_network(*network_spec(self.project, network))
            case Kind.CREATE_VOLUME:
                volume = next(v for v in self.project.volumes.values() if v.name == name)
                engine.create_volume(*volume_spec(self.project, volume))
            case Kind.CREATE:
                spec = self._spec(action)
                engine.create_container(name, spec.body, spec.platform)
            case Kind.CONNECT:
                engine.connect(action.to, name, self._spec(action).extra_networks[action.to])
            case Kind.START:
                engine.start(name)
            case Kind.UNPAUSE:
                engine.unpause(name)
            case Kind.WAIT:
                self._wait(action, cancelled)
            case Kind.STOP:
                engine.stop(name)
            case Kind.REMOVE:
                engine.remove_container(name, force=True, volumes=action.volumes)
            case Kind.RENAME:
                engine.rename(name, action.to)
            case Kind.REMOVE_NETWORK:
                engine.remove_network(name)
            case Kind.REMOVE_VOLUME:
                engine.remove_volume(name)

    def _spec(self, action: Action) -> ContainerSpec:
        service = self.project.services[action.service]
        # Asked now and not observed before: the image may have been built since.
        image = self.engine.image(service.image)
        if image is None:
            raise StockhelperError(
                "image.missing", f"the image {service.image} is not there", next=["stockhelper setup", "stockhelper up"]
            )
        previous = next((c for c in self.state.containers if c.id == action.replaces), None)
        return container_spec(
            self.project, service, image_id=image.id, api_version=self.state.api_version, previous=previous
        )

    def _wait(self, action: Action, cancelled: Flag) -> None:
        service = self.project.services[action.service]
        assert action.condition is not None
        wait_ready(
            self.engine,
            service,
            action.container,
            action.condition,
            probe_for(service, self.engine, local=self.state.local),
            timeout=self.timeout,
            cancelled=cancelled,
        )

    def _progress(self, action: Action) -> Callable[[str, int | None, int | None], None]:
        resource = f"{action.kind.noun} {action.resource}"

        def report(line: str, current: int | None, total: int | None) -> None:
            self.emit(Event(action.kind.verb, resource, Phase.PROGRESS, None, line, current, total))

        return report
