"""`image.present`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, ok

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ImagePresent(Check):
    """Looks for every image of the stack; one that `up` builds or pulls is not missing."""

    id = "image.present"
    group = Group.IMAGES
    title = "every image is there, or can be built or pulled"
    needs = ("engine.answers",)
    explains = frozenset({"image.missing"})

    def examine(self, context: Context) -> Finding:
        """Look for them."""
        needs = context.needs
        if needs.missing:
            return failed(
                "; ".join(error.message for error in needs.missing),
                *dict.fromkeys(error.cause for error in needs.missing),
                remedy="build or load it, or name another in .env:",
                commands=["stockhelper setup", "stockhelper images load FILE"],
            )
        coming = [
            *(f"up builds {image} ({cause})" for image, cause in needs.builds.items()),
            *(f"up pulls {image}" for image in needs.pulls),
        ]
        return ok("; ".join(coming) or ", ".join(sorted(context.state.images)))
