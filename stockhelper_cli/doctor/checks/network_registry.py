"""`network.registry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, ok
from stockhelper_cli.doctor.context import CALL_SECONDS
from stockhelper_cli.doctor.registry import Objection, objection_of, registry_of
from stockhelper_cli.engine.reference import MIRROR_KEY, mirrored, parse

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class NetworkRegistry(Check):
    """Lets the engine ask for the images that are missing; where none is, no registry is needed, nor asked."""

    id = "network.registry"
    group = Group.NETWORK
    title = "the registry of every image that has to be pulled has it, and gives it"
    needs = ("engine.answers", "network.proxy")
    seconds = CALL_SECONDS + 2.0  # the engine has its own limit for each answer
    explains = frozenset({"image.registry"})

    def examine(self, context: Context) -> Finding:
        """Ask for each, side by side."""
        refused = context.refused_pulls
        if not context.needs.pulls:
            return ok("none is needed: no image has to be pulled")
        if not refused:
            return ok(f"has {', '.join(context.needs.pulls)}")
        objections = {reference: objection_of(error) for reference, error in refused.items()}
        mirror = context.project.environment.get(MIRROR_KEY, "")
        remedy, commands = _ways_out(objections, mirror)
        return failed(
            "; ".join(_told(reference, objection, mirror) for reference, objection in objections.items()),
            *dict.fromkeys(error.cause for error in refused.values()),
            remedy=remedy,
            commands=commands,
        )


def _told(reference: str, objection: Objection, mirror: str) -> str:
    if mirrored(parse(reference), mirror):
        return f"the mirror {mirror}, of which {reference} is to come, {objection}"
    return f"the registry of {reference} {objection}"


def _ways_out(objections: Mapping[str, Objection], mirror: str) -> tuple[str, list[str]]:
    """Return what to do in words, and what to type; the way without a registry is always open, and comes last."""
    said = objections.values()
    remedies = [
        *(["wait some hours, or log in: who is known may pull more"] if Objection.LIMITED in said else []),
        *(["log in"] if Objection.DENIED in said else []),
        *(["mend the image's name in .env"] if Objection.UNKNOWN in said else []),
        *([f"mend {MIRROR_KEY} in .env, or remove it"] if any(mirrored(parse(r), mirror) for r in objections) else []),
        "build stand-ins for the base images, or carry the images over from a machine that has them",
    ]
    closed = [name for name, each in objections.items() if each in (Objection.LIMITED, Objection.DENIED)]
    logins = dict.fromkeys(f"docker login {registry_of(name, mirror)}".strip() for name in closed)
    return "; or ".join(remedies), [*logins, "stockhelper setup", "stockhelper images load FILE"]
