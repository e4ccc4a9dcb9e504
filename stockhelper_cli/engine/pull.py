"""A pull that can be given up: an engine's own patience with a registry that says nothing is minutes."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Final, TypeAlias

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
    """One pull of an image that is given up where the registry goes silent, and from another thread by `cancel`."""

    def __init__(self, engine: Engine, reference: str) -> None:
        self._engine = engine
        self._reference = reference
        self._messages: queue.SimpleQueue[_Line | Exception | None] = queue.SimpleQueue()

    def run(
        self, progress: Progress, *, registry_seconds: float = REGISTRY_SECONDS, stall_seconds: float = STALL_SECONDS
    ) -> None:
        """Pull the image. Raises `EngineError` (image.registry).

        The registry has `registry_seconds` for its first answer, and then `stall_seconds` between two signs of life.
        """
        # A daemon: nothing ends the engine's call from outside.
        threading.Thread(target=self._work, name=f"pull {self._reference}", daemon=True).start()
        patience, deadline = registry_seconds, time.monotonic() + registry_seconds
        while (line := self._next(deadline, patience)) is not None:
            # Some engines announce the pull before they have reached the registry.
            if not line[0].startswith("Pulling from"):
                patience, deadline = stall_seconds, time.monotonic() + stall_seconds
            progress(*line)

    def cancel(self) -> None:
        """Make `run` raise now."""
        self._messages.put(self._failed("it was cancelled"))

    def _work(self) -> None:
        try:
            self._engine.pull(self._reference, lambda *line: self._messages.put(line))
            self._messages.put(None)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self._messages.put(error)

    def _next(self, deadline: float, patience: float) -> _Line | None:
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self._failed(f"its registry said nothing for {patience:g} s") from None
        if isinstance(message, Exception):
            raise message
        return message

    def _failed(self, cause: str) -> EngineError:
        return EngineError(
            "image.registry", f"could not pull the image {self._reference}", cause=cause, next=["stockhelper setup"]
        )
