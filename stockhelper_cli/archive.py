"""One file with every image of the stack, for machines without a registry.

It is what `docker save` writes, so `docker load` reads it too, with one member more at its end: the images' names and
ids, and the checksum of every other member. What was cut short or damaged on its way is refused before the engine
sees it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Event, Phase

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine

#: The member that is ours, the archive's last.
MANIFEST: Final = "stockhelper.json"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """What an archive holds: its path, its size in bytes, and its images' names and ids."""

    path: Path
    size: int
    images: tuple[tuple[str, str], ...]


def save(engine: Engine, references: Sequence[str], path: Path, emit: Emit) -> Saved:
    """Write images into one file, which appears only when it is whole.

    Raises `StockhelperError` (image.missing) for one that is not there, (image.archive) if the file cannot be written.
    """
    images = []
    for reference in references:
        image = engine.image(reference)
        if image is None:
            raise StockhelperError(
                "image.missing", f"the image {reference} is not there", next=["stockhelper setup", "stockhelper build"]
            )
        images.append((reference, image.id))
    partial = path.with_name(path.name + ".partial")
    resource = f"file {path.name}"
    emit(Event("write", resource, Phase.BEGIN))
    try:
        with partial.open("wb") as file:
            written = 0
            for chunk in engine.save(references):
                written += file.write(chunk)
                emit(Event("write", resource, Phase.PROGRESS, detail=f"{written / 1e6:.0f} MB"))
        manifest = {"images": dict(images), "sha256": dict(_checksums(partial, emit))}
        with tarfile.open(partial, "a") as archive:
            content = json.dumps(manifest, sort_keys=True).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StockhelperError(
            "image.archive", f"could not write {path}", cause=error.strerror or str(error)
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    emit(Event("write", resource, Phase.DONE))
    return Saved(path, path.stat().st_size, tuple(images))


def load(engine: Engine, path: Path, emit: Emit) -> Saved:
    """Check a file wholly, then give its images to the engine.

    Raises `StockhelperError` (image.archive) for one that is cut short, damaged, or not ours; the engine is untouched.
    """
    try:
        manifest = _manifest(path)
        if dict(_checksums(path, emit)) != manifest["sha256"]:
            raise _damaged(path, "a checksum differs from the one that was written with it")
        with path.open("rb") as file:
            engine.load(file)
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise StockhelperError("image.archive", f"could not read {path}", cause=error.strerror or str(error)) from error
    images = tuple(sorted(manifest["images"].items()))
    for reference, identity in images:
        image = engine.image(reference)
        if image is None or image.id != identity:
            raise StockhelperError(
                "image.archive",
                f"{reference} did not become the image that {path} holds",
                cause="the engine took another",
            )
    return Saved(path, path.stat().st_size, images)


def _manifest(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1:]
        content = archive.extractfile(last[0]) if last and last[0].name == MANIFEST else None
        if content is None:
            raise _damaged(
                path, f"it does not end with {MANIFEST}: it was cut short, or `images save` did not write it"
            )
        manifest: dict[str, Any] = json.loads(content.read())
        return manifest


def _checksums(path: Path, emit: Emit) -> Iterator[tuple[str, str]]:
    """Yield the name and sha256 of every member but our own; folders and links count with their names and targets."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name == MANIFEST:
                continue
            emit(Event("check", f"file {path.name}", Phase.PROGRESS, detail=member.name))
            digest = hashlib.sha256(f"{member.type!r} {member.size} {member.linkname}".encode())
            content = archive.extractfile(member) if member.isfile() else None
            while content is not None and (chunk := content.read(_CHUNK_BYTES)):
                digest.update(chunk)
            yield member.name, digest.hexdigest()


def _damaged(path: Path, cause: str) -> StockhelperError:
    return StockhelperError(
        "image.archive", f"{path} is not a whole archive of images", cause=cause, next=["stockhelper images save FILE"]
    )
