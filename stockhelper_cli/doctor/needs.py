"""What the next `up` needs from outside: images to be pulled, and builds, which fetch packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stockhelper_cli.converge.images import ImageRules, plan_images
from stockhelper_cli.converge.plan import Kind
from stockhelper_cli.engine.pull import LOCAL
from stockhelper_cli.errors import EngineError, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import BuildOptions, Engine

#: The build argument, and the key of .env, that names the package index.
INDEX_KEY = "PIP_INDEX_URL"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the next `up` would build (image -> cause) and pull, and what it would miss and cannot get."""

    builds: Mapping[str, str]
    pulls: tuple[str, ...]
    missing: tuple[StockhelperError, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """The package index that a build is told to use; `host` is "" where the URL is none."""

    host: str
    port: int
    secure: bool


def needs_of(project: Project, engine: Engine, state: ObservedState, builds: Mapping[str, BuildOptions]) -> Needs:
    """Return what the next `up` needs. Raises `EngineError`."""
    built: dict[str, str] = {}
    pulls: dict[str, None] = {}
    missing: list[StockhelperError] = []
    for service in {service.image: service for service in project.services.values()}.values():
        try:
            plan, _ = plan_images([service], state, builds, ImageRules())
        except StockhelperError as error:
            missing.append(error)
            continue
        for action in plan:
            if action.kind is Kind.BUILD:
                built[action.resource] = action.cause
            else:
                pulls[action.resource] = None
    for reference in dict.fromkeys(base for image in built for base in builds[image].bases):
        if engine.image(reference) is not None:
            continue
        if not reference.startswith(LOCAL):
            pulls[reference] = None
            continue
        missing.append(
            EngineError(
                "image.missing",
                f"the image {reference} is not there",
                cause=f"{', '.join(built)} is built on it; {LOCAL}… images exist only on the machine that built them",
                next=["stockhelper setup"],
            )
        )
    return Needs(built, tuple(pulls), tuple(missing))


def index_of(builds: Mapping[str, BuildOptions]) -> Index | None:
    """Return the package index that builds are told to use, None if they are told none: pip's own then."""
    for options in builds.values():
        if url := options.args.get(INDEX_KEY):
            parts = urlsplit(url)
            secure = parts.scheme == "https"
            try:
                port = parts.port
            except ValueError:  # not a number
                return Index("", 0, secure)
            return Index(parts.hostname or "", port or (443 if secure else 80), secure)
    return None
