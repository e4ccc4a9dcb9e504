"""What stands between an image and the engine: what a registry said, told apart by what somebody can do about it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from stockhelper_cli.engine.reference import mirrored, parse
from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine


class Objection(StrEnum):
    """Why the engine does not get an image; the value is how it is told."""

    LIMITED = "lets nobody pull any more for now: too many have"
    DENIED = "wants a login"
    UNKNOWN = "has no such image"
    UNREACHABLE = "cannot be reached"


#: What the engine says that a registry said (the error codes of the OCI distribution specification, and its HTTP
#: statuses in words) -> what it means. Whatever else it says, it was not the registry who did.
_SAID: Final = {
    re.compile(r"toomanyrequests|rate limit|too many requests", re.IGNORECASE): Objection.LIMITED,
    re.compile(
        r"denied|unauthorized|authentication required|no basic auth credentials|forbidden", re.IGNORECASE
    ): Objection.DENIED,
    re.compile(r"manifest unknown|name unknown|not found|repository does not exist", re.IGNORECASE): Objection.UNKNOWN,
}


def refusal(engine: Engine, reference: str, mirror: str) -> EngineError | None:
    """Let the engine ask for an image where it would pull it from; return why it would not get it, None if it would."""
    try:
        engine.ask_registry(str(mirrored(parse(reference), mirror) or reference))
    except EngineError as error:
        return error
    return None


def objection_of(error: EngineError) -> Objection:
    """Return what an error with the code image.registry means."""
    return next((meant for said, meant in _SAID.items() if said.search(error.cause)), Objection.UNREACHABLE)


def registry_of(reference: str, mirror: str) -> str:
    """Return the host of the registry that an image comes from, "" for the engine's own choice."""
    name = parse(reference)
    return (mirrored(name, mirror) or name).host
