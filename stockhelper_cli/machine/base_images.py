"""Stand-in base images, built from distribution packages by the recipes in docker/base.

A recipe is a folder: `recipe.sh VERSION` writes the tar of a root file system to stdout, and the Dockerfile beside it
adds what an import cannot say.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from stockhelper_cli import labels
from stockhelper_cli.engine.protocol import BuildOptions
from stockhelper_cli.engine.pull import LOCAL
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Event, Phase
from stockhelper_cli.machine import apt
from stockhelper_cli.machine.command import TAIL_LINES

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.events import Emit

_CHUNK_BYTES: Final = 1 << 20
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PREREQUISITES: Final = ("mmdebstrap", "debian-archive-keyring")


@dataclass(frozen=True, slots=True)
class StandIn:
    """A stand-in image: its family (a folder of docker/base) and the version of what it brings."""

    family: str
    version: str

    @property
    def reference(self) -> str:
        """The image's name."""
        return f"{LOCAL}stockhelper-{self.family}:{self.version}"


def recipe_digest(base: Path, stand_in: StandIn) -> str:
    """Return the digest (sha256, hex) of what a stand-in is built by; `base` is the folder docker/base."""
    digest = hashlib.sha256(stand_in.version.encode())
    for path in sorted((*base.glob("*.*"), *(base / stand_in.family).iterdir())):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(base)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def prepare(emit: Emit) -> None:
    """Install what the recipes are run by where it is missing. Raises `StockhelperError` (image.base)."""
    if shutil.which("mmdebstrap") and _KEYRING.exists():
        return
    if not apt.can_install():
        how = apt.install_command(_PREREQUISITES) if apt.has_apt() else "docker pull, where a registry can be reached"
        raise StockhelperError(
            "image.base",
            "the base images can neither be pulled nor built from distribution packages",
            cause=f"building them needs {' and '.join(_PREREQUISITES)}",
            next=[how, "stockhelper setup"],
        )
    apt.install(_PREREQUISITES, emit, code="image.base")


class Recipe:
    """One build of a stand-in. `build` may run in a thread of its own, and be ended from another by `cancel`."""

    def __init__(self, base: Path, stand_in: StandIn, network: Mapping[str, str] | None = None) -> None:
        """Hold what is to be built; `network` are the variables that say by which way packages are fetched."""
        self._base = base
        self._stand_in = stand_in
        self._network = network or {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def build(self, engine: Engine, emit: Emit) -> str:
        """Build the image, tag it, and return its id; takes about half a minute.

        Raises `StockhelperError` (image.base) with the recipe's last lines, and `EngineError`.
        """
        stand_in = self._stand_in
        resource = f"image {stand_in.reference}"
        started = time.monotonic()
        emit(Event("build", resource, Phase.BEGIN))
        try:
            image = self._build(engine, lambda line: emit(Event("build", resource, Phase.PROGRESS, detail=line)))
        except BaseException:
            emit(Event("build", resource, Phase.FAILED, time.monotonic() - started))
            raise
        emit(Event("build", resource, Phase.DONE, time.monotonic() - started))
        return image

    def cancel(self) -> None:
        """End the build soon: it raises, and leaves no image."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                _end(self._process)

    def _build(self, engine: Engine, show: Callable[[str], None]) -> str:
        stand_in = self._stand_in
        rootfs = f"{LOCAL}stockhelper-{stand_in.family}-rootfs:{stand_in.version}"
        engine.import_image(self._archive(show), rootfs, ())
        try:
            return engine.build(
                BuildOptions(
                    context=self._base / stand_in.family,
                    dockerfile="Dockerfile",
                    tag=stand_in.reference,
                    args={"ROOTFS": rootfs, "VERSION": stand_in.version},
                    labels={labels.BASE_RECIPE: recipe_digest(self._base, stand_in)},
                ),
                lambda line, _current, _total: show(line),
            )
        finally:
            engine.remove_image(rootfs)

    def _archive(self, show: Callable[[str], None]) -> Iterator[bytes]:
        """Yield the root file system as the recipe writes it; raise where it fails, so that no half of one counts."""
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        with self._lock:
            if self._cancelled:
                raise self._failed("it was cancelled", tail)
            self._process = process = subprocess.Popen(
                [self._base / self._stand_in.family / "recipe.sh", self._stand_in.version],
                env={**os.environ, **self._network},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=_read_lines, args=(process.stderr, tail, show), daemon=True)
        with process:
            reader.start()
            try:
                while chunk := process.stdout.read(_CHUNK_BYTES):
                    yield chunk
            except BaseException:
                # The engine went away, or nobody reads on.
                _end(process)
                raise
            finally:
                # First this end of the pipe: whoever still writes into it would never end, nor close stderr.
                process.stdout.close()
                reader.join()
        if process.returncode != 0:
            raise self._failed(f"its recipe ended with exit code {process.returncode}", tail)

    def _failed(self, cause: str, tail: deque[str]) -> StockhelperError:
        return StockhelperError(
            "image.base",
            f"could not build {self._stand_in.reference} from distribution packages",
            cause=next((line for line in reversed(tail) if line.startswith(("E:", "error:"))), cause),
            # Without root, mmdebstrap needs user namespaces, which many machines deny.
            next=["stockhelper setup" if os.geteuid() == 0 else "sudo stockhelper setup"],
            details=tuple(tail),
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a recipe with all that it runs: mmdebstrap itself waits for its children, then cleans up."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)


def _read_lines(stream: IO[bytes], tail: deque[str], show: Callable[[str], None]) -> None:
    for raw in stream:
        if line := raw.decode(errors="replace").rstrip():
            tail.append(line)
            show(line)
