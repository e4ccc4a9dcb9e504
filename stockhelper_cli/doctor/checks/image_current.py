"""`image.current`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli import labels
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class ImageCurrent(Check):
    """Compares the digest of what goes into an image now with the one it was built of."""

    id = "image.current"
    group = Group.IMAGES
    title = "images are built of the sources as they are now"
    needs = ("engine.answers",)
    fixes = "builds them, and brings the stack up with them, as `up` does"
    mends_by_up = True

    def examine(self, context: Context) -> Finding:
        """Compare them."""
        built = {image: found for image in context.builds if (found := context.state.images.get(image))}
        if not built:
            return skipped("no image has been built yet")
        # One that is not there at all is none that is behind.
        behind = [image for image in context.needs.builds if image in built]
        if behind:
            return warning(
                f"{', '.join(behind)} is older than its sources",
                "what runs is not what they say: they, a build argument or the Dockerfile changed since",
                commands=["stockhelper up"],
                fix=f"build {', '.join(behind)}, and bring the stack up with it",
            )
        foreign = [image for image, found in built.items() if labels.BUILD_INPUTS not in found.labels]
        if foreign:
            return ok(f"{', '.join(foreign)} was not built by stockhelper, and does not tell of which sources")
        return ok(", ".join(built))

    def mend(self, context: Context, emit: Emit) -> None:
        """Build, and bring up."""
        from stockhelper_cli import stack

        stack.up(context.load_project(), context.engine, stack.UpOptions(), emit)
