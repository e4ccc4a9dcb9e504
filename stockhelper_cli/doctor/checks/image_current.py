"""`image.current`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli import labels
from stockhelper_cli.doctor.check import Check, Group, ok, skipped

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ImageCurrent(Check):
    """Compares the digest of what goes into an image now with the one it was built of; that they differ is no fault."""

    id = "image.current"
    group = Group.IMAGES
    title = "images are built of the sources as they are now, or will be by the next up"
    needs = ("engine.answers",)

    def examine(self, context: Context) -> Finding:
        """Compare them."""
        built = {image: found for image in context.builds if (found := context.state.images.get(image))}
        if not built:
            return skipped("no image has been built yet")
        # One that is not there at all is none that is behind.
        behind = [image for image in context.needs.builds if image in built]
        if behind:
            return ok(
                f"the next stockhelper up builds {', '.join(behind)} anew",
                *(f"{image}: {context.needs.builds[image]}" for image in behind),
            )
        foreign = [image for image, found in built.items() if labels.BUILD_INPUTS not in found.labels]
        if foreign:
            return ok(f"{', '.join(foreign)} was not built by stockhelper, and does not tell of which sources")
        return ok(", ".join(built))
