"""`image.age`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stockhelper_cli import labels
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ImageAge(Check):
    """Looks at when the base images were built: what was found insecure in them since is in them still."""

    id = "image.age"
    group = Group.IMAGES
    title = "the base images are not older than IMAGE_MAX_AGE_DAYS"
    needs = ("engine.answers",)

    def examine(self, context: Context) -> Finding:
        """Look at each that is there."""
        most = context.settings.IMAGE_MAX_AGE_DAYS
        now = context.info.clock or datetime.now(UTC)
        built = {name: image.created for name, image in context.bases.items() if image.created is not None}
        ages = {name: (now - created).days for name, created in built.items()}
        if not ages:
            return skipped("none is there, or tells its age")
        old = {reference: days for reference, days in ages.items() if days > most}
        if not old:
            return ok(", ".join(f"{reference}: {_days(days)}" for reference, days in ages.items()))
        return warning(
            "; ".join(f"{name} is {_days(days)} old" for name, days in old.items()),
            *(f"{name} was built on {built[name]:%Y-%m-%d}" for name in old),
            f"holes that were found in it since are open; IMAGE_MAX_AGE_DAYS allows {most}",
            remedy="get them anew, and bring the stack up with them:",
            commands=[*dict.fromkeys(_anew(context, name) for name in old), "stockhelper up"],
        )


def _anew(context: Context, reference: str) -> str:
    """Return what gets an image anew."""
    if labels.BASE_RECIPE in context.bases[reference].labels:
        return "stockhelper images build-base"
    return "stockhelper images pull" if reference in context.state.images else "stockhelper build --pull"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
