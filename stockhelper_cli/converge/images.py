"""Which images a project needs built or pulled, decided by the digest of what goes into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stockhelper_cli import labels
from stockhelper_cli.converge.dockerfile import bases_of
from stockhelper_cli.converge.execute import execute
from stockhelper_cli.converge.perform import Performer
from stockhelper_cli.converge.plan import Action, Draft, Kind, Plan
from stockhelper_cli.converge.reconcile import ROLE_MIGRATE
from stockhelper_cli.database.revisions import VERSIONS, heads_of_sources
from stockhelper_cli.engine.protocol import BuildOptions
from stockhelper_cli.engine.pull import LOCAL
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.proxies import build_proxies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.compose.model import Build
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.events import Emit


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Whether to build: None builds what is missing or whose inputs changed, True everything, False nothing."""

    build: bool | None = None


def build_options(project: Project, engine: Engine, services: Sequence[Service]) -> dict[str, BuildOptions]:
    """Return, by image reference, the builds that these services name, labelled with their inputs' digest."""
    migrating = {service.image for service in project.services.values() if service.role == ROLE_MIGRATE}
    references = {service.image for service in services}
    options: dict[str, BuildOptions] = {}
    for service in project.services.values():
        if service.build is None or service.image not in references:
            continue
        build = BuildOptions(
            context=service.build.context,
            dockerfile=service.build.dockerfile,
            tag=service.image,
            args=service.build.args,
            labels=service.build.labels,
            target=service.build.target,
            bases=_bases(service.build),
        )
        own = {labels.BUILD_INPUTS: inputs_digest(build, engine.context_files(build))}
        if service.image in migrating:
            own[labels.MIGRATION_HEADS] = ",".join(heads_of_sources(build.context / VERSIONS))
        # After the digest: by which way something is fetched is no reason to build it anew.
        args = {**build_proxies(project.environment), **build.args}
        options[service.image] = replace(build, args=args, labels={**build.labels, **own})
    return options


def inputs_digest(build: BuildOptions, files: Sequence[str]) -> str:
    """Return a digest of all that decides what a build gives: its files, arguments, Dockerfile and target.

    `files` are paths within the context. The base image counts by its name: a newer image of the same name is
    taken with `build --pull`.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([build.dockerfile, build.target, dict(build.args)], sort_keys=True).encode())
    for name in sorted(files):
        path = build.context / name
        if path.is_file():
            executable = bool(path.stat().st_mode & 0o100)
            digest.update(f"\0{name}\0{executable}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return "sha256:" + digest.hexdigest()


def assume_heads(state: ObservedState, builds: Mapping[str, BuildOptions]) -> ObservedState:
    """Return the state with the sources' migration heads on images that do not tell theirs: Compose built them."""
    images = {
        reference: replace(image, labels={**_heads(builds[reference]), **image.labels})
        if reference in builds and labels.BUILD_INPUTS not in image.labels
        else image
        for reference, image in state.images.items()
    }
    return replace(state, images=images)


def assume_built(
    state: ObservedState, builds: Mapping[str, BuildOptions], references: Collection[str]
) -> ObservedState:
    """Return the state as it will be labelled when these images are built anew; one that is not there stays absent."""
    images = {
        reference: replace(image, labels={**image.labels, **builds[reference].labels})
        if reference in references and reference in builds
        else image
        for reference, image in state.images.items()
    }
    return replace(state, images=images)


def make_images(
    project: Project,
    engine: Engine,
    state: ObservedState,
    plan: Plan,
    builds: Mapping[str, BuildOptions],
    emit: Emit,
) -> ObservedState:
    """Carry out a plan of `plan_images`, and return the state with the images that are there then."""
    execute(plan, Performer(project, engine, state, emit, builds=builds), emit)
    made = {action.resource: engine.image(action.resource) for action in plan}
    return replace(state, images={**state.images, **{name: image for name, image in made.items() if image is not None}})


def plan_images(
    services: Sequence[Service], state: ObservedState, builds: Mapping[str, BuildOptions], rules: ImageRules
) -> tuple[Plan, list[str]]:
    """Return what builds and pulls the images of these services, and warnings about those used as they are.

    Raises `StockhelperError` (image.missing) for an image that is absent and may neither be built nor pulled.
    """
    draft = Draft()
    warnings: list[str] = []
    for reference in dict.fromkeys(service.image for service in services):
        image = state.images.get(reference)
        build = builds.get(reference)
        if build is None:
            if image is None:
                draft.add(_pull(reference))
            continue
        if rules.build is False:
            if image is None:
                raise StockhelperError(
                    "image.missing",
                    f"the image {reference} is not there",
                    cause="--no-build forbids building it",
                    next=["stockhelper up"],
                )
            continue
        if image is None:
            draft.add(Action(Kind.BUILD, reference, "missing"))
        elif rules.build:
            draft.add(Action(Kind.BUILD, reference, "--build"))
        elif labels.BUILD_INPUTS not in image.labels:
            warnings.append(f"{reference} was not built by stockhelper and is used as it is; --build replaces it")
        elif image.labels[labels.BUILD_INPUTS] != build.labels[labels.BUILD_INPUTS]:
            draft.add(Action(Kind.BUILD, reference, "sources changed"))
    return draft.finish(), warnings


def plan_pulls(references: Sequence[str], built: Collection[str]) -> Plan:
    """Return what pulls these images, present or not; those that are built or this machine's own are left out."""
    draft = Draft()
    for reference in references:
        if reference not in built and not reference.startswith(LOCAL):
            draft.add(Action(Kind.PULL, reference, "images pull"))
    return draft.finish()


def _bases(build: Build) -> tuple[str, ...]:
    """Return the images that a build starts from; none where its Dockerfile cannot be read, as the engine will say."""
    path = build.context / build.dockerfile
    return bases_of(path.read_text(errors="replace"), build.args) if path.is_file() else ()


def _heads(build: BuildOptions) -> Mapping[str, str]:
    return {label: heads for label, heads in build.labels.items() if label == labels.MIGRATION_HEADS}


def _pull(reference: str) -> Action:
    if reference.startswith(LOCAL):
        raise StockhelperError(
            "image.missing",
            f"the image {reference} is not there",
            cause=f"{LOCAL}… images exist only on the machine that built them",
            next=["stockhelper setup"],
        )
    return Action(Kind.PULL, reference, "missing")
