"""`network.mirror`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stockhelper_cli import labels
from stockhelper_cli.doctor.check import Check, Group, ok, warning
from stockhelper_cli.doctor.reach import obstacle

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import BuildOptions
    from stockhelper_cli.findings import Finding

#: The build argument, and the key of .env, that names the mirror.
_KEY: Final = "APT_MIRROR"
#: The build argument that names the image whose own mirrors are used otherwise.
_BASE_KEY: Final = "PYTHON_IMAGE"
_APT: Final = Path("/etc/apt")
_SOURCES: Final = ("sources.list.d/debian.sources", "sources.list")
#: What names mirrors, in either form that apt's sources are written in.
_SOURCE: Final = re.compile(r"^(?:deb|URIs:)\s.*", re.MULTILINE)
_PORTS: Final = {"http": 80, "https": 443}


class NetworkMirror(Check):
    """Connects to the distribution mirrors that a build fetches packages from, as far as they are known.

    They are APT_MIRROR's, else those of the base image: of a container that is there, whose image has them too; and a
    stand-in for a base has this machine's.
    """

    id = "network.mirror"
    group = Group.NETWORK
    title = "the distribution mirror that a build uses can be reached"
    needs = ("engine.answers",)
    explains = frozenset({"image.build"})

    def examine(self, context: Context) -> Finding:
        """Connect, if a build is due; what of it is in the builder's cache is not fetched again."""
        due = [context.builds[image] for image in context.needs.builds]
        if not due:
            return ok("no build is due")
        whose, urls = _mirrors(context, due[0])
        places = {place for url in urls if (place := _place(url))}
        if not places and due[0].args.get(_KEY):
            return warning(f"{_KEY} is not a URL with a host", remedy=f"mend {_KEY} in .env, or remove it")
        if not places:
            return ok(f"a build is due; its mirrors are those of {due[0].args.get(_BASE_KEY, 'its base')}")
        with ThreadPoolExecutor(len(places)) as pool:
            lost = {place: reason for place, reason in zip(places, pool.map(_obstacle, places), strict=True) if reason}
        named = ", ".join(f"{host}:{port}" for host, port in sorted(places))
        if not lost:
            return ok(f"{named} takes connections ({whose})")
        return warning(
            f"the distribution mirror {', '.join(f'{host}:{port}' for host, port in sorted(lost))} cannot be reached"
            " by a build",
            *dict.fromkeys(lost.values()),
            f"it is {whose}; a build fails that does not find the packages in the engine's cache",
            remedy=f"name a mirror in {_KEY} in .env that this machine reaches",
        )


def _mirrors(context: Context, build: BuildOptions) -> tuple[str, list[str]]:
    """Return whose word it is, and the URLs; none where nobody can be asked."""
    if mirror := build.args.get(_KEY):
        return f"{_KEY}'s", [mirror]
    for container in context.state.containers:
        if container.image == build.tag:
            said = (context.engine.read_file(container.id, str(_APT / source)) for source in _SOURCES)
            return "the base image's", _urls((text or b"").decode(errors="replace") for text in said)
    base = context.engine.image(build.args.get(_BASE_KEY, ""))
    if base is None or labels.BASE_RECIPE not in base.labels:
        return "", []
    files = [path for source in _SOURCES if (path := _APT / source).is_file()]
    return "this machine's, as is the base image", _urls(path.read_text(errors="replace") for path in files)


def _urls(texts: Iterable[str]) -> list[str]:
    lines = [line for text in texts for line in _SOURCE.findall(text)]
    return [word for line in lines for word in line.split() if "://" in word]


def _place(url: str) -> tuple[str, int] | None:
    """Return host and port of a URL, None where it has none: a mirror may be a disk."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # not a number
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def _obstacle(place: tuple[str, int]) -> str:
    return obstacle(*place)
