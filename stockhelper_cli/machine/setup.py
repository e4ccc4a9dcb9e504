"""`stockhelper setup`: make this machine ready. Each step says what it found or did; a second run changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.compose.dotenv import Dotenv, load_dotenv
from stockhelper_cli.machine.engine_install import EngineStep, ensure_engine
from stockhelper_cli.machine.engine_install import How as EngineHow
from stockhelper_cli.machine.images import BaseImage, ensure_images
from stockhelper_cli.machine.images import How as ImageHow
from stockhelper_cli.machine.init_env import EnvResult, init_env
from stockhelper_cli.machine.roots import RootsResult, sync_roots

if TYPE_CHECKING:
    from stockhelper_cli.events import Emit

CA_FILE_KEY: Final = "BUILD_CA_FILE"
#: Where the image's builder stage finds further roots, relative to the project's root.
CA_FOLDER: Final = Path("docker") / "app" / "ca"


@dataclass(frozen=True, slots=True)
class SetupResult:
    """What each step found or did."""

    engine: EngineStep
    env: EnvResult
    roots: RootsResult
    images: tuple[BaseImage, ...]

    @property
    def changed(self) -> bool:
        """Whether anything on this machine was changed."""
        return (
            self.engine.how is not EngineHow.FOUND
            or self.env.created
            or self.roots.changed
            or any(image.how is not ImageHow.FOUND or image.recorded for image in self.images)
        )


def setup(
    root: Path,
    *,
    environ: Mapping[str, str],
    emit: Emit,
    confirm: Callable[[str], None] = lambda question: None,
) -> SetupResult:
    """Make the machine ready for the project at `root`: engine, .env, private roots, base images.

    `emit` is called from several threads. `confirm` is asked before packages are installed for the engine, and raises
    where the answer is no. Raises `StockhelperError`; what was done before stays done, and the next run goes on.
    """
    engine_step = ensure_engine(environ, emit, confirm=confirm)
    env = init_env(root)
    settings = load_dotenv(env.path, environ)
    roots = sync_own_roots(root, settings, environ)

    from stockhelper_cli.engine.docker_engine import connect

    engine = connect(engine_step.endpoint)
    try:
        images = ensure_images(engine, root, settings, environ, emit)
    finally:
        engine.close()
    return SetupResult(engine_step, env, roots, images)


def sync_own_roots(root: Path, settings: Dotenv | None, environ: Mapping[str, str]) -> RootsResult:
    """Make docker/app/ca hold what this host and BUILD_CA_FILE (relative to `root`) say. Raises `ConfigError`."""
    bundle, named_by = own_bundle(root, settings, environ)
    return sync_roots(root / CA_FOLDER, bundle, named_by=named_by)


def own_bundle(root: Path, settings: Dotenv | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Return the bundle that BUILD_CA_FILE names, None if it is not set, and who says so; the shell counts more."""
    if value := environ.get(CA_FILE_KEY):
        named_by = CA_FILE_KEY
    elif settings is not None and (value := settings.get(CA_FILE_KEY)):
        named_by = f"{settings.path}:{settings.line(CA_FILE_KEY)}: {CA_FILE_KEY}"
    else:
        return None, ""
    return root / Path(value).expanduser(), named_by
