"""Every error leaves as `application/problem+json` (RFC 9457) with the request's id, and without its inner cause."""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = structlog.get_logger(__name__)


class ProblemResponse(JSONResponse):
    """A JSON answer that says it describes a problem."""

    media_type = "application/problem+json"


def problem(status: int, *, detail: str | None = None, headers: Mapping[str, str] | None = None) -> ProblemResponse:
    """Return the answer for an error in the present request.

    Its title is the status code's own phrase; `detail` is left out when it says no more.
    """
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
    if detail and detail != title:
        body["detail"] = detail
    # The same id as in the log, from the same place.
    body["request_id"] = structlog.contextvars.get_contextvars().get("request_id")
    return ProblemResponse(body, status_code=status, headers=headers)


async def http_problem(request: Request, error: Exception) -> Response:
    """Return the answer for an `HTTPException`, which routing raises too: unknown path, wrong method."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, detail=error.detail, headers=error.headers)


class UnexpectedErrors:
    """Middleware: what nobody caught is logged with its traceback and answered with a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR)(scope, receive, send)
