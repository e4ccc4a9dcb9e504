"""`app.version`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped
from stockhelper_cli.status import urls_of

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Where the service tells its name and version; one half of the contract with `stockhelper_app`.
_PATH: Final = "/api/v1"
_SECONDS: Final = 4.0


class AppVersion(Check):
    """Asks the app for its version, and compares the image that it runs with the one that has the name now."""

    id = "app.version"
    group = Group.APP
    title = "the app tells its version, and whether it is of the present image"
    needs = ("app.health",)

    def examine(self, context: Context) -> Finding:
        """Ask and compare; an image that was built since is for the next `up` to take."""
        app = context.app
        if app is None or app.container is None:
            return skipped("there is no app")
        told = "its version cannot be asked from here"
        if context.state.local and (urls := urls_of(app.service, app.container)):
            told = _told(urls[0] + _PATH)
        image = context.state.images.get(app.service.image)
        if image is None:
            return ok(told, f"the image {app.service.image} is no more; the container still has it")
        if image.id != app.container.image_id:
            return ok(
                told,
                f"it runs {_short(app.container.image_id)}; {app.service.image} is {_short(image.id)} now, and the next"
                " stockhelper up takes that",
            )
        return ok(f"{told}, of {app.service.image}")


def _told(url: str) -> str:
    import httpx

    try:
        answer: Any = httpx.get(url, timeout=_SECONDS, trust_env=False).json()
        return f"{answer['name']} {answer['version']}"
    except (httpx.TransportError, ValueError, LookupError, TypeError):
        return f"{url} does not tell a version"


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
