"""A project whose sources a test may change: its image has a name of its own and goes when the test ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockhelper_cli.database.revisions import heads_of_sources
from tests.support.sandbox import RUN_PREFIX, Sandbox, client, copy_sources, sandbox

#: On every image of a build, the intermediate ones too, so that all of them can be found again.
_LABEL: Final = "stockhelper.test-release"
#: From here on a build differs from that of other projects; all before it is taken from the builder's cache.
_SOURCES: Final = "COPY docker/app/stockhelper_app"


@dataclass(frozen=True, slots=True)
class Release:
    """A project with sources and an image of its own."""

    project: Sandbox
    image: str

    @property
    def dockerfile(self) -> Path:
        """Its Dockerfile."""
        return self.project.root / "docker" / "app" / "Dockerfile"

    @property
    def app(self) -> Path:
        """The folder of its service's source."""
        return self.project.root / "docker" / "app" / "stockhelper_app"

    def edit(self, path: Path, old: str, new: str) -> None:
        """Replace a text that stands once in a file."""
        text = path.read_text()
        assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
        path.write_text(text.replace(old, new))

    @property
    def versions(self) -> Path:
        """The folder of its migrations."""
        return self.project.root / "migrations" / "versions"

    @property
    def head(self) -> str:
        """The revision that its sources lead to."""
        (head,) = heads_of_sources(self.versions)
        return head

    def add_migration(self, body: str, revision: str = "test", after: str | None = None, back: str = "pass") -> Path:
        """Add a migration, after the last one unless another is named, and the way `back`; return its file."""
        lines = [
            '"""A test."""',
            "from alembic import op",
            f'revision = "{revision}"',
            f'down_revision = "{after or self.head}"',
            "def upgrade():",
            *(f"    {line}" for line in body.splitlines()),
            "def downgrade():",
            f"    {back}",
        ]
        file = self.versions / f"9999_{revision}.py"
        file.write_text("\n".join(lines) + "\n")
        return file

    def bring_up(self) -> None:
        """Bring it up with an image built from the present sources, whoever built the one before."""
        if self.project.up().json["warnings"]:
            self.project.up("--build")

    def use_image(self, identity: str) -> None:
        """Give its image's name to one that was built before."""
        client().images.get(identity).tag(self.image)

    def image_id(self) -> str:
        """Return the id of its image."""
        return str(client().images.get(self.image).id)

    def restore(self) -> None:
        """Make the sources what they were."""
        folders = ("docker", "migrations")
        for folder in folders:
            shutil.rmtree(self.project.root / folder)
        copy_sources(self.project.root, folders)
        text = self.dockerfile.read_text()
        label = f"LABEL {_LABEL}={self.project.name}\n"
        assert text.count(_SOURCES) == 1
        self.dockerfile.write_text(text.replace(_SOURCES, label + _SOURCES) + label)

    def remove_images(self) -> None:
        """Remove its image, those it had before, and what building them left."""
        images = client().images
        for image in images.list(filters={"label": f"{_LABEL}={self.project.name}"}):
            images.remove(str(image.id), force=True)


@contextmanager
def own_release(folder: Path, **settings: str) -> Iterator[Release]:
    """Make a project with an image of its own in a folder; all of it goes at the end."""
    image = f"localhost/{RUN_PREFIX}{folder.name.lower()}:latest"
    made: Release | None = None
    try:
        with sandbox(folder, APP_IMAGE=image, **settings) as project:
            made = Release(project, image)
            made.restore()
            yield made
    finally:
        if made is not None:
            made.remove_images()
