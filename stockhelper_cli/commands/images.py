"""`stockhelper images`: list, pull, build-base, save and load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.archive import Saved
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Engine, Image

File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    images = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
    verb(images, "list", command="images list")(list_images)
    verb(images, "pull", command="images pull")(pull)
    verb(images, "build-base", command="images build-base")(build_base)
    verb(images, "save", command="images save")(save)
    verb(images, "load", command="images load")(load)
    app.add_typer(images, name="images", help="List, pull, save and load the images of the stack.")


def list_images(invocation: Invocation) -> None:
    """Show the images of the stack."""
    project = invocation.project()
    with invocation.engine() as engine:
        found = [(reference, engine.image(reference)) for reference in _references(project)]
    rows = [_as_json(reference, image) for reference, image in found]
    invocation.console.succeed("images list", {"images": rows}, lambda show: _render_list(found, show))


def pull(invocation: Invocation) -> None:
    """Pull the images that are neither built nor this machine's own."""
    from stockhelper_cli import stack

    project = invocation.project()
    with invocation.engine() as engine, exclusive(engine.info().id, project.name), invocation.progress(project) as emit:
        pulled = stack.pull(project, engine, _references(project), emit)
        digests = {reference: _digests(engine.image(reference)) for reference in pulled}
    data = {"pulled": list(pulled), "digests": digests}
    invocation.console.succeed("images pull", data, lambda show: _render_pull(digests, show))


def build_base(invocation: Invocation) -> None:
    """Build the stand-ins for the base images from distribution packages."""
    from stockhelper_cli.compose.dotenv import load_dotenv
    from stockhelper_cli.machine.images import build_stand_ins

    root = invocation.root()
    env = root / ".env"
    settings = load_dotenv(env, invocation.environ) if env.exists() else {}
    with invocation.engine() as engine, invocation.console.progress() as emit:
        built = build_stand_ins(engine, root, settings, invocation.environ, emit)
    invocation.console.succeed("images build-base", {"built": list(built)}, lambda show: _render_built(built, show))


def save(invocation: Invocation, file: File) -> None:
    """Write every image of the stack into one file, with checksums."""
    from stockhelper_cli import archive

    project = invocation.project()
    with invocation.engine() as engine, invocation.progress(project) as emit:
        saved = archive.save(engine, _present(engine, project), invocation.directory / file, emit)
    invocation.console.succeed("images save", _saved_json(saved), lambda show: _render_saved(saved, "holds", show))


def load(invocation: Invocation, file: File) -> None:
    """Take in the images of such a file, after its checksums were checked."""
    from stockhelper_cli import archive

    with invocation.engine() as engine, invocation.console.progress() as emit:
        loaded = archive.load(engine, invocation.directory / file, emit)
    invocation.console.succeed("images load", _saved_json(loaded), lambda show: _render_saved(loaded, "brought", show))


def _references(project: Project) -> list[str]:
    """Return the images of all services, and the base that the app's is built on."""
    from stockhelper_cli.settings import load_settings

    base = load_settings(project.environment, project.dotenv).PYTHON_IMAGE
    return list(dict.fromkeys([*(service.image for service in project.services.values()), base]))


def _present(engine: Engine, project: Project) -> list[str]:
    """Return what `save` writes: all that services need; the build's base too, where it is there."""
    needed = {service.image for service in project.services.values()}
    return [ref for ref in _references(project) if ref in needed or engine.image(ref) is not None]


def _as_json(reference: str, image: Image | None) -> dict[str, Any]:
    return {
        "reference": reference,
        "id": image and image.id,
        "size": image and image.size,
        "digests": _digests(image),
    }


def _render_list(found: list[tuple[str, Image | None]], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import table

    rows = [
        (reference, image.id.removeprefix("sha256:")[:12] if image else "missing", _size(image.size) if image else "")
        for reference, image in found
    ]
    show(table(("IMAGE", "ID", "SIZE"), rows))


def _digests(image: Image | None) -> list[str]:
    return list(image.digests) if image else []


def _render_pull(digests: Mapping[str, Sequence[str]], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for reference, names in digests.items():
        show(paint(f"{reference} pulled"))
        for name in names:
            show(paint("  ", (name, "dim")))
    if not digests:
        show(paint(("Nothing to do: ", "bold"), "every image is built, or exists on this machine only."))


def _render_built(built: tuple[str, ...], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for reference in built:
        show(paint(f"{reference} built; name it in .env to use it, or run ", ("stockhelper setup", "cyan")))


def _saved_json(saved: Saved) -> dict[str, Any]:
    return {"file": str(saved.path), "size": saved.size, "images": dict(saved.images)}


def _render_saved(saved: Saved, what: str, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    show(paint(f"{saved.path} ({_size(saved.size)}) {what}"))
    for reference, identity in saved.images:
        show(paint(f"  {reference}  ", (identity.removeprefix("sha256:")[:12], "dim")))


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
