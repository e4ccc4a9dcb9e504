"""Getting an image: from its registry or from a mirror of that, given up where nobody says anything any more."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from stockhelper_cli.engine.reference import MIRROR_KEY, Reference, mirrored, parse
from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine, Progress

#: Names under this host exist only on this machine: asking a registry for them would ask whoever registers the name.
LOCAL: Final = "localhost/"
#: Seconds that a registry has for its first answer, and between two signs of life after it.
REGISTRY_SECONDS: Final = 15.0
STALL_SECONDS: Final = 120.0

_Line: TypeAlias = tuple[str, int | None, int | None]


class Pull:
    """One pull of an image, from `mirror` where that has images of its registry.

    It is given up where the registry goes silent (an engine's own patience is minutes), and from another thread by
    `cancel`.
    """

    def __init__(self, engine: Engine, reference: str, mirror: str = "") -> None:
        self._engine = engine
        self._reference = reference
        self._mirror = mirror
        self._at_mirror = mirrored(parse(reference), mirror)
        self._messages: queue.SimpleQueue[_Line | Exception | None] = queue.SimpleQueue()
        self._given_up = threading.Event()

    def run(
        self, progress: Progress, *, registry_seconds: float = REGISTRY_SECONDS, stall_seconds: float = STALL_SECONDS
    ) -> None:
        """Pull the image. Raises `EngineError` (image.registry).

        The registry has `registry_seconds` for its first answer, and then `stall_seconds` between two signs of life.
        """
        # A daemon: nothing ends the engine's call from outside.
        threading.Thread(target=self._work, name=f"pull {self._reference}", daemon=True).start()
        patience, deadline = registry_seconds, time.monotonic() + registry_seconds
        try:
            while (line := self._next(deadline, patience)) is not None:
                # Some engines announce the pull before they have reached the registry.
                if not line[0].startswith("Pulling from"):
                    patience, deadline = stall_seconds, time.monotonic() + stall_seconds
                progress(*line)
        except BaseException:
            self._given_up.set()
            raise

    def cancel(self) -> None:
        """Make `run` raise now."""
        self._messages.put(self._failed("it was cancelled"))

    def _work(self) -> None:
        try:
            if self._at_mirror is None:
                self._engine.pull(self._reference, lambda *line: self._messages.put(line))
            else:
                self._by_digest(self._at_mirror)
            self._messages.put(None)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self._messages.put(error)

    def _by_digest(self, there: Reference) -> None:
        """Pull from the mirror the image of a digest, the name's own or what the mirror says, and give it its name.

        Named by its digest, the engine takes no other image for it, and no name of the mirror's is left but that one.
        """
        try:
            digest = there.digest or self._engine.ask_registry(str(there))
            source = str(Reference(there.repository, digest=digest))
            self._engine.pull(source, lambda *line: self._messages.put(line))
        except EngineError as error:
            if error.code != "image.registry":
                raise
            raise self._failed(error.cause) from error
        image = self._engine.image(source)
        if image is None or source not in image.digests:
            raise self._failed(f"what came is not {digest}")
        name = parse(self._reference).tagged
        if name and not self._given_up.is_set():  # nobody may want it any more
            self._engine.tag(source, name)

    def _next(self, deadline: float, patience: float) -> _Line | None:
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self._failed(f"its registry said nothing for {patience:g} s") from None
        if isinstance(message, Exception):
            raise message
        return message

    def _failed(self, cause: str) -> EngineError:
        what = f"could not pull the image {self._reference}"
        if self._at_mirror is None:
            return EngineError("image.registry", what, cause=cause, next=["stockhelper setup"])
        return EngineError(
            "image.registry",
            f"{what} from the mirror {self._mirror}",
            cause=f"{MIRROR_KEY} is {self._mirror}: {cause}",
            next=[f"mend {MIRROR_KEY} in .env, or remove it", "stockhelper setup"],
        )
