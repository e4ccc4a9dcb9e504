"""HTTP/1.1 as uvicorn speaks it by httptools, with an end to what a caller may take of it; the image starts it so.

uvicorn hands a request on when its head is whole, and an endpoint's answer out as the caller reads: for both it waits
as long as that takes, and keeps what has come so far, however much. Nothing of that passes by the middleware, so it is
bounded here. What cannot be a request at all is told as every other error is, by a problem document.
"""

import asyncio
import json
from asyncio.events import TimerHandle
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

logger = structlog.get_logger(__name__)

#: Seconds within which a request must be here whole; `guard` lets none be so large that it needs one of them.
ARRIVAL: Final = 10.0
#: Bytes that a request may have beside its body: more than `guard` allows, which tells what is too large of it.
MOST_BESIDE: Final = 64 * 1024
#: Seconds that a caller may leave an answer lying: until then its next 48 KB must be read.
READING: Final = 30.0
#: Seconds for a last look at what has come when a time is up: a process that stood still for longer than that meets its
#: clocks before it reads what came meanwhile.
_LAST_LOOK: Final = 0.01


class BoundedHttp(HttpToolsProtocol):
    """One connection: what arrives too slowly, or without an end, is refused, and what nobody reads is cut off.

    It costs nothing where a request comes in one piece, as nearly all do.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        #: Whether a request is not here whole, as the first one is not while nothing has come.
        self._arriving = True
        #: Whether its head is, so that `cycle` is its own and no former one's.
        self._headed = False
        #: Bytes that have come of it, less those of its body.
        self._beside = 0
        self._arrival: TimerHandle | None = None
        self._reading: TimerHandle | None = None
        #: The request that is being answered; `cycle` is the last that came.
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first request."""
        super().connection_made(transport)
        self._arrival = self.loop.call_later(ARRIVAL, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        if self._answering is not None:
            # Else its answer goes on, and fails.
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        for clock in (self._arrival, self._reading):
            if clock is not None:
                clock.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and expect the rest of a request that is not whole."""
        self._beside += len(data)
        super().data_received(data)
        if not self._arriving or self.transport.is_closing():
            return
        if self._beside > MOST_BESIDE:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL, self._late)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._arriving, self._headed = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer (RFC 9112, 7.1.2) comes too late to be one."""
        if not self._headed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request on."""
        super().on_headers_complete()
        self._headed = True

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, which the endpoint counts that reads it."""
        self._beside -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._arriving, self._beside = False, 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def on_response_complete(self) -> None:
        """Go on with what has come meanwhile; what we did not read before now has all of its time from now on."""
        waited = self.flow.read_paused
        super().on_response_complete()
        if waited and not self.flow.read_paused and self._arrival is not None:
            self._arrival.cancel()
            self._arrival = self.loop.call_later(ARRIVAL, self._late)

    def pause_writing(self) -> None:
        """Expect that what was written is read."""
        super().pause_writing()
        self._reading = self.loop.call_later(READING, self._unread)

    def resume_writing(self) -> None:
        """Go on: enough of it was read."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def timeout_keep_alive_handler(self) -> None:
        """Close what lies idle, unless the next request has come."""
        self.timeout_keep_alive_task = self._look_before(super().timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn has logged it."""
        self._end(HTTPStatus.BAD_REQUEST)

    def _late(self) -> None:
        self._arrival = self._look_before(self._too_late)

    def _unread(self) -> None:
        self._reading = self._look_before(self.transport.abort)

    def _look_before(self, end: Callable[[], None]) -> TimerHandle:
        return self.loop.call_later(_LAST_LOOK, end)

    def _too_late(self) -> None:
        self._arrival = None
        if self.flow.read_paused:
            # It is we who do not read on, before all those are answered that came at once.
            self._arrival = self.loop.call_later(ARRIVAL, self._late)
        elif self._beside == 0:
            # Not a word. Nobody waits for an answer.
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        logger.info("request refused", status=int(status), client=self.client[0] if self.client else None)
        self._end(status)

    def _end(self, status: HTTPStatus) -> None:
        """Answer the request that is arriving, if nobody has, and close; answers that are under way come first."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._headed:
            self.transport.close()
        elif answered or (self._headed and not self.cycle.response_started and not self.pipeline):
            self._tell(status)
            self.transport.close()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _tell(self, status: HTTPStatus) -> None:
        body = json.dumps({"type": "about:blank", "title": status.phrase, "status": status, "request_id": None})
        head = {
            "content-type": "application/problem+json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        lines = [*self.server_state.default_headers, *((name.encode(), value.encode()) for name, value in head.items())]
        fields = b"".join(b"%b: %b\r\n" % line for line in lines)
        self.transport.write(STATUS_LINE[status] + fields + b"\r\n" + body.encode())
