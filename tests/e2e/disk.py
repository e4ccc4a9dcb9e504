"""A file system of a few megabytes, for tests that fill it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.sandbox import Sandbox


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of this size within a folder, for everybody to write to."""
    image, place = folder / "disk", folder / "mounted"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        shutil.rmtree(place / "lost+found")
        place.chmod(0o777)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def keep_data_on(project: Sandbox, place: Path) -> None:
    """Let the database's volume of a project that was never up be this folder."""
    (project.root / "small.yaml").write_text(
        f"volumes: {{postgres_data: {{driver_opts: {{type: none, o: bind, device: {place}}}}}}}\n"
    )
    project.set("COMPOSE_FILE", "compose/compose.yaml:small.yaml")
