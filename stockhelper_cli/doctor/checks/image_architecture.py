"""`image.architecture`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: The kernel's names, which the engine tells, where images have others (GOARCH, by the OCI image specification).
_AS_IMAGES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}


class ImageArchitecture(Check):
    """Compares the architecture of each image with the engine's."""

    id = "image.architecture"
    group = Group.IMAGES
    title = "images are of the engine's architecture"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "image.build"})

    def examine(self, context: Context) -> Finding:
        """Compare those that are there; what a service asks for by `platform` is meant so."""
        own = _AS_IMAGES.get(context.info.architecture, context.info.architecture)
        meant = {service.image for service in context.project.services.values() if service.spec.get("platform")}
        there = {**context.bases, **context.state.images}
        found = {name: image.architecture for name, image in there.items() if image.architecture}
        if not found:
            return skipped("no image is there")
        other = {
            name: architecture for name, architecture in found.items() if architecture != own and name not in meant
        }
        if not other:
            return ok(f"{own}: {', '.join(sorted(found))}")
        return warning(
            "; ".join(f"{name} is for {its}" for name, its in other.items()),
            f"the engine's machine is {own}: it runs them slowly, by emulation, or not at all (exec format error)",
            remedy=f"name images in .env that are for {own}, and build the others anew:",
            commands=["stockhelper images pull", "stockhelper build --no-cache"],
        )
