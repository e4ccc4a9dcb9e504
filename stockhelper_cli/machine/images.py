"""The base images: used where they are present, else pulled, else built as stand-ins and recorded in .env."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli import labels
from stockhelper_cli.engine.pull import LOCAL, REGISTRY_SECONDS, Pull
from stockhelper_cli.engine.reference import MIRROR_KEY, mirror_name
from stockhelper_cli.errors import ConfigError, EngineError, StockhelperError
from stockhelper_cli.events import Event, Phase
from stockhelper_cli.machine.base_images import Recipe, StandIn, prepare, recipe_digest
from stockhelper_cli.machine.init_env import set_value
from stockhelper_cli.proxies import proxies

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.events import Emit


#: The key of .env that names a distribution mirror.
APT_MIRROR_KEY: Final = "APT_MIRROR"
#: Compose's own key for the profiles that are on.
PROFILES_KEY: Final = "COMPOSE_PROFILES"


@dataclass(frozen=True, slots=True)
class Base:
    """A base image that the stack is built on: its key in .env, compose.yaml's default, what stands in for it.

    With a `profile` it is needed only where that is on.
    """

    key: str
    default: str
    stand_in: StandIn
    profile: str = ""


BASES: Final = (
    Base("PYTHON_IMAGE", "python:3.13-slim", StandIn("python", "3.13")),
    Base("POSTGRES_IMAGE", "postgres:15-alpine", StandIn("postgres", "15")),
    Base("PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0", StandIn("prometheus", "2.53"), "monitoring"),
    Base("ALERTMANAGER_IMAGE", "prom/alertmanager:v0.28.1", StandIn("alertmanager", "0.28"), "monitoring"),
)


class How(StrEnum):
    """How a base image came to be there."""

    FOUND = "found"
    PULLED = "pulled"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A base image that is there now; `recorded` says that .env was changed to name it."""

    key: str
    reference: str
    how: How
    recorded: bool = False


def ensure_images(
    engine: Engine,
    root: Path,
    settings: Mapping[str, str],
    environ: Mapping[str, str],
    emit: Emit,
    *,
    bases: Sequence[Base] = BASES,
    registry_seconds: float = REGISTRY_SECONDS,
) -> tuple[BaseImage, ...]:
    """Make every base image present that is needed, side by side, and return them in the order of `bases`.

    `settings` is what `root`/.env sets, `environ` the shell's, which counts more. An image that the user chose is
    never replaced. Raises `EngineError` (image.registry, image.missing) for one that cannot be had, and
    `StockhelperError` (image.base) where the stand-in cannot be built.
    """
    base_folder = root / "docker" / "base"
    bases = _needed(bases, settings, environ)
    found = {base.key: _found(engine, base, settings, environ, base_folder) for base in bases}
    missing = [base for base in bases if found[base.key] is None]
    results = {key: image for key, image in found.items() if image is not None}
    if missing:
        prepared = _Once(lambda: prepare(emit))
        mirror, network = _mirror(settings, environ), _network(settings, environ)
        steps = {
            base.key: _Missing(
                engine,
                base,
                _chosen(base, settings, environ),
                Pull(engine, _chosen(base, settings, environ) or base.default, mirror),
                Recipe(base_folder, base.stand_in, network),
                prepared,
                emit,
            )
            for base in missing
        }
        with ThreadPoolExecutor(len(missing), thread_name_prefix="base-image") as pool:
            futures: dict[Future[BaseImage], str] = {
                pool.submit(step.obtain, registry_seconds): key for key, step in steps.items()
            }
            try:
                # Each is recorded as soon as it is there: it counts even if the other fails.
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    _record(root / ".env", results[futures[future]])
            except BaseException:
                for step in steps.values():
                    step.cancel()
                raise
    for image in found.values():
        if image is not None:
            _record(root / ".env", image)
    return tuple(results[base.key] for base in bases)


def build_stand_ins(
    engine: Engine,
    root: Path,
    settings: Mapping[str, str],
    environ: Mapping[str, str],
    emit: Emit,
    *,
    bases: Sequence[Base] = BASES,
) -> tuple[str, ...]:
    """Build the stand-ins for base images, side by side, whatever is there; return their names.

    Of one that the settings name by its own name, it is that version. Raises `StockhelperError` (image.base).
    """
    prepare(emit)
    bases = _needed(bases, settings, environ)
    network = _network(settings, environ)
    recipes = [Recipe(root / "docker" / "base", base.stand_in, network) for base in bases]
    with ThreadPoolExecutor(len(recipes), thread_name_prefix="base-image") as pool:
        futures = [pool.submit(recipe.build, engine, emit) for recipe in recipes]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            for recipe in recipes:
                recipe.cancel()
            raise
    return tuple(base.stand_in.reference for base in bases)


def _needed(bases: Sequence[Base], settings: Mapping[str, str], environ: Mapping[str, str]) -> list[Base]:
    """Return the bases whose profile is on, or that have none, each with the stand-in of the version that is named."""
    profiles = {part.strip() for part in _value(PROFILES_KEY, settings, environ).split(",")}
    needed = [base for base in bases if not base.profile or {base.profile, "*"} & profiles]
    return [_as_named(base, _chosen(base, settings, environ)) for base in needed]


def _chosen(base: Base, settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the image that the shell or .env names, "" where neither does."""
    return _value(base.key, settings, environ)


def _value(key: str, settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return what a key is set to, "" where it is not; the shell's counts more, as in Compose."""
    return environ[key] if key in environ else settings.get(key, "")


def _mirror(settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return what REGISTRY_MIRROR says, "" if nothing. Raises `ConfigError` if it is no registry's name."""
    mirror = _value(MIRROR_KEY, settings, environ)
    try:
        return mirror and mirror_name(mirror)
    except ValueError as error:
        raise ConfigError(
            "config.value", f"{MIRROR_KEY} {error}", cause=f"it is {mirror!r}", next=[f"mend {MIRROR_KEY} in .env"]
        ) from error


def _network(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell a recipe by which way packages are fetched: the mirror, and proxies."""
    named = {**settings, **environ}
    return {**proxies(named), **({APT_MIRROR_KEY: named[APT_MIRROR_KEY]} if named.get(APT_MIRROR_KEY) else {})}


def _as_named(base: Base, chosen: str) -> Base:
    """Return the base with the stand-in of another version, where one is chosen by its name."""
    family, _, version = chosen.rpartition(":")
    if family == base.stand_in.reference.rpartition(":")[0]:
        return replace(base, stand_in=replace(base.stand_in, version=version))
    return base


def _found(
    engine: Engine, base: Base, settings: Mapping[str, str], environ: Mapping[str, str], base_folder: Path
) -> BaseImage | None:
    chosen = _chosen(base, settings, environ)
    wanted, reference = chosen or base.default, base.stand_in.reference
    if wanted != reference and engine.image(wanted) is not None:
        return BaseImage(base.key, wanted, How.FOUND)
    if chosen in ("", reference):
        # Built here before: no need to wait for the registry again. By another recipe it counts as absent.
        stand_in = engine.image(reference)
        if stand_in and stand_in.labels.get(labels.BASE_RECIPE) == recipe_digest(base_folder, base.stand_in):
            return BaseImage(base.key, reference, How.FOUND, recorded=chosen != reference)
    return None


def _record(path: Path, image: BaseImage) -> None:
    if image.recorded:
        set_value(path, image.key, image.reference)


class _Once:
    """Something that several threads need done, and that the first of them does."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._done = False

    def __call__(self) -> None:
        with self._lock:
            if not self._done:
                self._action()
                self._done = True


class _Missing:
    """One base image that has to be obtained."""

    def __init__(
        self,
        engine: Engine,
        base: Base,
        chosen: str,
        pull: Pull,
        recipe: Recipe,
        prepared: Callable[[], None],
        emit: Emit,
    ) -> None:
        self._engine = engine
        self._base = base
        self._chosen = chosen
        self._wanted = chosen or base.default
        self._pull = pull
        self._recipe = recipe
        self._prepared = prepared
        self._emit = emit

    def cancel(self) -> None:
        # In this order: what gives up the pull must not begin to build.
        self._recipe.cancel()
        self._pull.cancel()

    def obtain(self, registry_seconds: float) -> BaseImage:
        base, wanted = self._base, self._wanted
        if wanted != base.stand_in.reference:
            if wanted.startswith(LOCAL):
                raise EngineError(
                    "image.missing",
                    f"there is no image {wanted}, which {base.key} names",
                    cause=f"names under {LOCAL} are this machine's own; no registry has them",
                    next=[f"remove {base.key} from .env, or build or load that image", "stockhelper setup"],
                )
            try:
                self._run_pull(registry_seconds)
            except EngineError as error:
                if wanted != base.default:
                    raise EngineError(
                        "image.registry",
                        f"could not pull {wanted}, which {base.key} names",
                        cause=error.cause,
                        next=[f"remove {base.key} from .env to use the default", "stockhelper setup"],
                    ) from error
            else:
                return BaseImage(base.key, wanted, How.PULLED)
        self._prepared()
        self._recipe.build(self._engine, self._emit)
        return BaseImage(base.key, base.stand_in.reference, How.BUILT, recorded=self._chosen != base.stand_in.reference)

    def _run_pull(self, registry_seconds: float) -> None:
        resource, began = f"image {self._wanted}", time.monotonic()

        def progress(line: str, current: int | None, total: int | None) -> None:
            self._emit(Event("pull", resource, Phase.PROGRESS, None, line, current, total))

        self._emit(Event("pull", resource, Phase.BEGIN))
        try:
            self._pull.run(progress, registry_seconds=registry_seconds)
        except StockhelperError as error:
            self._emit(Event("pull", resource, Phase.FAILED, time.monotonic() - began, error.cause))
            raise
        self._emit(Event("pull", resource, Phase.DONE, time.monotonic() - began))
