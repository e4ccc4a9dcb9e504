"""The use cases: what a person wants of the stack, each as one function from options to a result."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import backup as backing
from stockhelper_cli.converge.execute import execute
from stockhelper_cli.converge.gap import GapMeter
from stockhelper_cli.converge.images import (
    ImageRules,
    assume_built,
    assume_heads,
    build_options,
    make_images,
    plan_images,
    plan_pulls,
)
from stockhelper_cli.converge.perform import Performer
from stockhelper_cli.converge.plan import Kind, Plan
from stockhelper_cli.converge.ports import refuse_busy_ports
from stockhelper_cli.converge.reconcile import (
    ROLE_APP,
    ROLE_MIGRATE,
    DownRules,
    UpRules,
    brought_up,
    reconcile,
    reconcile_down,
    reconcile_restart,
    reconcile_start,
    reconcile_stop,
    selected,
    volumes_as_they_are,
)
from stockhelper_cli.converge.state import ObservedState, observe
from stockhelper_cli.converge.volume import discard, holds_nothing, refuse_unfit_volume
from stockhelper_cli.database.revisions import code_of
from stockhelper_cli.errors import Interruption, StockhelperError
from stockhelper_cli.events import Emit, Warned
from stockhelper_cli.migration import Preparation, refuse_unfit
from stockhelper_cli.status import ServiceStatus, status, status_of, urls_of

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.engine.protocol import Engine

#: Seconds that waiting for health may take unless the user says otherwise.
DEFAULT_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `up` may be told.

    `build`: None builds what changed, True everything, False nothing. `backup` is whether one is made before a
    migration is applied to a database that holds rows.
    """

    services: tuple[str, ...] = ()
    build: bool | None = None
    dry_run: bool = False
    timeout: float = DEFAULT_TIMEOUT
    migrate: bool = True
    backup: bool = True
    remove_orphans: bool = False


@dataclass(frozen=True, slots=True)
class UpResult:
    """What `up` did, or with `dry_run` would do: its plan, where the stack answers, and its services after it.

    `backup` was made before the database was migrated, None if none was needed or wanted.
    """

    plan: Plan
    dry_run: bool
    urls: tuple[str, ...]
    services: tuple[ServiceStatus, ...]
    seconds: float
    backup: Path | None = None

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "changed": bool(self.plan.changes) and not self.dry_run,
            "dry_run": self.dry_run,
            "plan": self.plan.as_json(),
            "urls": list(self.urls),
            "services": [service.as_json() for service in self.services],
            "backup": str(self.backup) if self.backup else None,
            "seconds": round(self.seconds, 3),
        }


def up(project: Project, engine: Engine, options: UpOptions, emit: Emit) -> UpResult:
    """Bring a project up and wait until it is ready; a project that is up already is left alone.

    Raises `StockhelperError` saying what failed; what was done until then stays, and `up` again goes on from there.
    """
    try:
        return _up(project, engine, options, emit)
    except StockhelperError as error:
        if error.code != "db.half_initialised" or options.dry_run:
            raise
        state = observe(project, engine)
        if not (volume := holds_nothing(project, engine, state)):
            raise
    _discard(project, engine, state, volume, emit)
    return _up(project, engine, options, emit)


def _up(project: Project, engine: Engine, options: UpOptions, emit: Emit) -> UpResult:
    began = time.monotonic()
    state = observe(project, engine, revisions=True)
    services = brought_up(project, state, options.services)
    builds = build_options(project, engine, services)
    images, warnings = plan_images(services, state, builds, ImageRules(build=options.build))
    for warning in (*warnings, *volumes_as_they_are(project, state)):
        emit(Warned(warning))
    state = assume_heads(state, builds)
    rebuilt = [action.resource for action in images]
    if options.migrate:
        _refuse_to_migrate(project, services, state, rebuilt)
    rules = UpRules(options.services, (), options.migrate, options.remove_orphans)
    if options.dry_run:
        plan = reconcile(project, assume_built(state, builds, rebuilt), replace(rules, rebuilt=rebuilt))
        return UpResult(_joined(images, plan), True, (), (), time.monotonic() - began)

    # Before anything is built: what cannot work is refused while nothing has changed.
    refuse_busy_ports(project, engine, state, reconcile(project, state, rules))
    state = make_images(project, engine, state, images, builds, emit)
    plan = reconcile(project, state, rules)
    if volume := refuse_unfit_volume(project, engine, state, plan):
        _discard(project, engine, state, volume, emit)
        return _up(project, engine, options, emit)
    for orphan in plan.orphans:
        emit(Warned(f"{orphan} belongs to no service of the project; --remove-orphans removes it"))
    made = _carry_out(project, engine, state, plan, emit, options.timeout, backup=options.backup)
    ready = {action.service for action in plan if action.kind is Kind.WAIT}
    after = status(project, engine, ready=ready) if plan else status_of(project, engine, state)
    return UpResult(_joined(images, plan), False, after.urls, after.services, time.monotonic() - began, made)


def _refuse_to_migrate(
    project: Project, services: Sequence[Service], state: ObservedState, rebuilt: Collection[str]
) -> None:
    """Raise `StockhelperError` (migration.…) where the code cannot take the database on, as far as it can be asked."""
    for service in services:
        if service.role == ROLE_MIGRATE:
            image = None if service.image in rebuilt else state.images.get(service.image)
            refuse_unfit(project, state.recorded, code_of(project, image), service.image)


def _carry_out(
    project: Project, engine: Engine, state: ObservedState, plan: Plan, emit: Emit, timeout: float, *, backup: bool
) -> Path | None:
    """Carry out a plan that may migrate the database; return the backup that was made before it did."""
    preparation = Preparation(project, engine, backup_first=backup, again="stockhelper up --no-backup")
    try:
        execute(plan, Performer(project, engine, state, emit, timeout, prepare=preparation), emit)
    except StockhelperError as error:
        preparation.abandon()
        if error.code == "migration.failed":
            preparation.explain(error)
        raise
    except Interruption:
        preparation.abandon()
        raise
    return preparation.backup


def _discard(project: Project, engine: Engine, state: ObservedState, volume: str, emit: Emit) -> None:
    """Remove a volume in which there is nothing of anybody's, so that the database's first start can begin anew."""
    emit(Warned(f"the first start on the volume {volume} was interrupted; it holds no table, and is made anew"))
    execute(discard(state, volume), Performer(project, engine, state, emit), emit)


def _joined(first: Plan, second: Plan) -> Plan:
    return replace(second, actions=(*first.actions, *second.actions))


@dataclass(frozen=True, slots=True)
class DownOptions:
    """What `down` may be told; `backup` is whether one is made before the volumes go. `timeout` is in seconds."""

    volumes: bool = False
    backup: bool = True
    timeout: float = DEFAULT_TIMEOUT
    remove_orphans: bool = False


@dataclass(frozen=True, slots=True)
class DownResult:
    """What `down` did, the volumes that it kept, and the backup that it made of those that it did not."""

    plan: Plan
    kept_volumes: tuple[str, ...]
    seconds: float
    backup: Path | None = None

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "changed": bool(self.plan),
            "plan": self.plan.as_json(),
            "kept_volumes": list(self.kept_volumes),
            "backup": str(self.backup) if self.backup else None,
            "seconds": round(self.seconds, 3),
        }


def down(project: Project, engine: Engine, options: DownOptions, emit: Emit) -> DownResult:
    """Stop and remove a project's containers and networks; its volumes only when told so.

    Raises `StockhelperError`: what making the backup raises, for which a database that does not run is brought up.
    """
    began = time.monotonic()
    made = None
    if options.volumes and options.backup:
        try:
            made = _backup_before_loss(project, engine, emit, options.timeout)
        except StockhelperError as error:
            error.next = (*error.next, "stockhelper down --volumes --no-backup")
            raise
    state = observe(project, engine)
    plan, warnings = reconcile_down(project, state, DownRules(options.volumes, options.remove_orphans))
    for warning in warnings:
        emit(Warned(warning))
    execute(plan, Performer(project, engine, state, emit), emit)
    removed = {action.resource for action in plan if action.kind is Kind.REMOVE_VOLUME}
    return DownResult(plan, tuple(sorted(set(state.volumes) - removed)), time.monotonic() - began, made)


def _backup_before_loss(project: Project, engine: Engine, emit: Emit, timeout: float) -> Path | None:
    """Make and verify a backup before the volumes go; return its file, None where no row could be missed."""
    state = observe(project, engine)
    service = backing.service_of_database(project)
    held = {project.volumes[key].name for key in service.volumes} & set(state.volumes)
    if not held and not state.of_service(service.name):
        return None
    bring_up_database(project, engine, emit, timeout)
    if not backing.needed(project, engine):
        return None
    return backing.create(project, engine, emit, cause="before down --volumes", verify=True).backup.path


def bring_up_database(project: Project, engine: Engine, emit: Emit, timeout: float) -> None:
    """Bring the database up, and nothing else, unless it runs. Raises what `up` does."""
    service = backing.service_of_database(project)
    own = observe(project, engine).of_service(service.name)
    if not (own and own[0].running):
        up(project, engine, UpOptions((service.name,), build=False, migrate=False, timeout=timeout), emit)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `start`, `stop` or `restart` did.

    `gap` is for how long (seconds) the app gave no good answer during a restart, None where that was not measured.
    """

    plan: Plan
    seconds: float
    gap: float | None = None

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "changed": bool(self.plan.changes),
            "plan": self.plan.as_json(),
            "gap_seconds": None if self.gap is None else round(self.gap, 3),
            "seconds": round(self.seconds, 3),
        }


def stop(project: Project, engine: Engine, services: Sequence[str], emit: Emit) -> RunResult:
    """Stop the containers of services (none named: all), each gracefully, dependents first. Nothing is removed."""
    began = time.monotonic()
    selected(project, services)
    state = observe(project, engine)
    plan = reconcile_stop(project, state, services)
    execute(plan, Performer(project, engine, state, emit), emit)
    return RunResult(plan, time.monotonic() - began)


def start(project: Project, engine: Engine, services: Sequence[str], timeout: float, emit: Emit) -> RunResult:
    """Start the stopped containers of services (none named: all), dependencies first, and wait until they are ready."""
    began = time.monotonic()
    state = observe(project, engine)
    plan = reconcile_start(project, state, services)
    refuse_busy_ports(project, engine, state, plan)
    _carry_out(project, engine, state, plan, emit, timeout, backup=True)
    return RunResult(plan, time.monotonic() - began)


def restart(project: Project, engine: Engine, services: Sequence[str], timeout: float, emit: Emit) -> RunResult:
    """Stop and start services (none named: all) in the order of their dependencies, and wait until they are ready."""
    began = time.monotonic()
    state = observe(project, engine)
    plan = reconcile_restart(project, state, services)
    stopped = {action.service for action in plan if action.kind is Kind.STOP}
    app = next((service for service in project.services.values() if service.role == ROLE_APP), None)
    urls = urls_of(app, state.of_service(app.name)[0]) if app is not None and app.name in stopped else []
    with GapMeter(urls[0] if urls and state.local else None) as meter:
        _carry_out(project, engine, state, plan, emit, timeout, backup=True)
    return RunResult(plan, time.monotonic() - began, meter.gap)


def build(
    project: Project, engine: Engine, services: Sequence[str], *, no_cache: bool, pull: bool, emit: Emit
) -> RunResult:
    """Build the images of services (none named: all) that have a build; what is unchanged comes from the cache."""
    began = time.monotonic()
    chosen = selected(project, services)
    state = observe(project, engine)
    builds = {
        reference: replace(options, no_cache=no_cache or options.no_cache, pull=pull or options.pull)
        for reference, options in build_options(project, engine, chosen).items()
    }
    plan, _ = plan_images([s for s in chosen if s.image in builds], state, builds, ImageRules(build=True))
    execute(plan, Performer(project, engine, state, emit, builds=builds), emit)
    return RunResult(plan, time.monotonic() - began)


def pull(project: Project, engine: Engine, references: Sequence[str], emit: Emit) -> tuple[str, ...]:
    """Pull images, present or not; return which. What is built, or exists on this machine only, is left out."""
    plan = plan_pulls(references, {service.image for service in project.services.values() if service.build})
    execute(plan, Performer(project, engine, ObservedState(engine.api_version), emit), emit)
    return tuple(action.resource for action in plan)
