"""Every error leaves as `application/problem+json` (RFC 9457) with the request's id, and without its inner cause."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockhelper_app.db import Unavailable

logger = structlog.get_logger(__name__)


#: Seconds after which a caller may ask again when the database is away.
RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request: the part of it (path, query, body), the field there, and what it is."""

    where: str
    field: str
    detail: str


class Invalid(HTTPException):
    """A request whose values cannot be used; names each of them, and shows none."""

    def __init__(self, faults: Sequence[Fault], status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(status, "; ".join(f"{fault.field}: {fault.detail}" for fault in faults))
        self.faults = faults


class ProblemResponse(JSONResponse):
    """A JSON answer that says it describes a problem."""

    media_type = "application/problem+json"


def problem(
    status: int, *, detail: str | None = None, headers: Mapping[str, str] | None = None, faults: Sequence[Fault] = ()
) -> ProblemResponse:
    """Return the answer for an error in the present request.

    Its title is the status code's own phrase; `detail` is left out when it says no more. `errors` are the faults.
    """
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
    if detail and detail != title:
        body["detail"] = detail
    if faults:
        body["errors"] = [asdict(fault) for fault in faults]
    # The same id as in the log, from the same place.
    body["request_id"] = structlog.contextvars.get_contextvars().get("request_id")
    return ProblemResponse(body, status_code=status, headers=headers)


async def http_problem(request: Request, error: Exception) -> Response:
    """Return the answer for an `HTTPException`, which routing raises too: unknown path, wrong method."""
    assert isinstance(error, HTTPException)
    faults = error.faults if isinstance(error, Invalid) else ()
    return problem(error.status_code, detail=error.detail, headers=error.headers, faults=faults)


async def unavailable_problem(request: Request, error: Exception) -> Response:
    """Return the answer while the database is away; why it is stays in the log."""
    assert isinstance(error, Unavailable)
    logger.warning("database not available", error=str(error))
    headers = {"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail="The database does not answer.", headers=headers)


class UnexpectedErrors:
    """Middleware: what nobody caught is logged with its traceback and answered with a bare 500, made by `answer`."""

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Response]) -> None:
        self.app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; raises only when the answer had begun already, so that the server cuts it off."""
        started = False

        async def observe(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, observe)
        except Exception:
            if started or scope["type"] != "http":
                raise
            logger.exception("unexpected error")
            await self._answer(Request(scope))(scope, receive, send)
