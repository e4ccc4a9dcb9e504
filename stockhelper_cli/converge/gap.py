"""How long a restart leaves the app without an answer, measured from outside as a user would notice it."""

from __future__ import annotations

import time
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from stockhelper_cli.converge.ready import PROBE_SECONDS, ask_health

_POLL_SECONDS: Final = 0.01
_ANSWER_SECONDS: Final = 1.0


class GapMeter:
    """Asks the app every 10 ms while the block lasts; `gap` is then the longest time without a good answer (seconds).

    Without a URL nothing is asked, and `gap` is None; so it is when the app never answered.
    """

    def __init__(self, url: str | None) -> None:
        self.gap: float | None = None
        self._url = url
        self._asked = Flag()
        self._ended = Flag()
        self._thread = Thread(target=self._measure, name="gap", daemon=True)

    def __enter__(self) -> GapMeter:
        if self._url is not None:
            self._thread.start()
            # The last good answer of the old has to be seen before it is stopped.
            self._asked.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._url is not None:
            self._thread.join()

    def _measure(self) -> None:
        last_good: float | None = None
        patience = PROBE_SECONDS  # at first: of one that is late, and stopped then, no good answer would be seen
        address = urlsplit(self._url or "").netloc
        while True:
            ended = self._ended.is_set()
            try:
                good = not ask_health(address, patience)
            finally:
                self._asked.set()
            patience = _ANSWER_SECONDS
            now = time.monotonic()
            if good:
                if last_good is not None:
                    self.gap = max(self.gap or 0.0, now - last_good)
                last_good = now
            if ended or (self._ended.wait(_POLL_SECONDS) and good):
                return
