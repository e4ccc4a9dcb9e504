"""One engine call for each action."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Final

from stockhelper_cli.compose.create import ContainerSpec, container_spec, network_spec, volume_spec
from stockhelper_cli.converge.plan import Action, Kind
from stockhelper_cli.converge.ready import Cancelled, probe_for, wait_ready
from stockhelper_cli.engine.pull import LOCAL, Pull
from stockhelper_cli.engine.reference import MIRROR_KEY
from stockhelper_cli.errors import Conflict, EngineError, NotFound, StockhelperError
from stockhelper_cli.events import Emit, Event, Phase, Warned

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import BuildOptions, Engine, Progress


#: Seconds between two looks at whether a build or a pull is still wanted.
_POLL_SECONDS: Final = 0.1
#: What pip and apt say to a certificate whose root they do not know.
_UNTRUSTED: Final = re.compile("certificate.verif(y|ication).failed", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Performer:
    """Carries out single actions of a project's plans on an engine.

    `timeout` is a WAIT's, in seconds; `prepare` is what a PREPARE does, and tells of it by the `Emit` it is given.
    """

    project: Project
    engine: Engine
    state: ObservedState
    emit: Emit
    timeout: float = 0.0
    builds: Mapping[str, BuildOptions] = field(default_factory=dict)
    prepare: Callable[[Emit], object] | None = None

    def __call__(self, action: Action, cancelled: Flag) -> None:
        """Carry out one action.

        Raises `StockhelperError`; when the flag is set, `Cancelled` from what may take minutes: BUILD, PULL, WAIT and
        PREPARE.
        """
        engine, name = self.engine, action.resource
        match action.kind:
            case Kind.BUILD:
                self._build(action, cancelled)
            case Kind.PULL:
                report = self._progress(action, cancelled)
                _unless_cancelled(cancelled, lambda: self._pull(name, report))
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
            case Kind.PREPARE:
                self._prepare(cancelled)
            case Kind.STOP:
                engine.stop(name)
            case Kind.REMOVE:
                self._remove(name, volumes=action.volumes)
            case Kind.RENAME:
                engine.rename(name, action.to)
            case Kind.REMOVE_NETWORK:
                engine.remove_network(name)
            case Kind.REMOVE_VOLUME:
                engine.remove_volume(name)

    def _remove(self, name: str, *, volumes: bool) -> None:
        try:
            mounts = self.engine.container(name).mounts if volumes else ()
            self.engine.remove_container(name, force=True, volumes=volumes)
        except NotFound:  # a `migrate current`, which needs no lock, has ended meanwhile, and removed its own
            return
        # A recreated container mounts its anonymous volumes by their names, and the engine keeps what it was named.
        # A volume of the project may be called as an engine calls one: that is not ours to remove here.
        declared = {volume.name for volume in self.project.volumes.values()}
        for mount in mounts:
            if mount.is_anonymous and mount.name not in declared:
                with suppress(NotFound, Conflict):  # gone with the container, or another one has it
                    self.engine.remove_volume(mount.name)

    def _build(self, action: Action, cancelled: Flag) -> None:
        report = self._progress(action, cancelled)
        try:
            _unless_cancelled(cancelled, lambda: self._pull_and_build(self.builds[action.resource], report))
        except EngineError as error:
            if any(_UNTRUSTED.search(line) for line in error.details):
                error.cause = "the build does not trust a certificate: a proxy intercepts TLS, or a mirror is private"
                error.next = (
                    "stockhelper setup, which gives the build the private roots of this machine",
                    "set BUILD_CA_FILE in .env to a file with the missing root, then: stockhelper setup",
                )
            raise

    def _pull_and_build(self, build: BuildOptions, report: Progress) -> None:
        """Build an image; what it is built on comes before, as other images do, because a build knows no mirror."""
        for base in build.bases:
            if not base.startswith(LOCAL) and (build.pull or self.engine.image(base) is None):
                self._pull(base, report)
        self.engine.build(replace(build, pull=False), report)

    def _pull(self, reference: str, report: Progress) -> None:
        Pull(self.engine, reference, self.project.environment.get(MIRROR_KEY, "")).run(report)

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

    def _prepare(self, cancelled: Flag) -> None:
        prepare = self.prepare
        assert prepare is not None, "the plan has a migration to prepare, and nobody said how"

        def tell(event: Event | Warned) -> None:
            if cancelled.is_set():  # nobody waits any more: it ends at its next word, and takes away what is half done
                raise Cancelled
            self.emit(event)

        _unless_cancelled(cancelled, lambda: prepare(tell))

    def _progress(self, action: Action, cancelled: Flag) -> Progress:
        resource = f"{action.kind.noun} {action.resource}"

        def report(line: str, current: int | None, total: int | None) -> None:
            if cancelled.is_set():  # nobody waits any more: the call ends at its next word
                raise Cancelled
            self.emit(Event(action.kind.verb, resource, Phase.PROGRESS, None, line, current, total))

        return report


def _unless_cancelled(cancelled: Flag, call: Callable[[], object]) -> None:
    """Make a call to the engine that may say nothing for minutes. Raises `Cancelled` soon after the flag is set.

    The engine gives up what it was asked for when the connection ends: at the call's next word, or with this process.
    """
    outcome: Future[object] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised on in the thread that waits
            outcome.set_exception(error)

    # A daemon, outside of the executor's pool: Python waits for the others before it ends.
    Thread(target=work, name="engine call", daemon=True).start()
    while not wait([outcome], _POLL_SECONDS).done:
        if cancelled.is_set():
            raise Cancelled
    outcome.result()
