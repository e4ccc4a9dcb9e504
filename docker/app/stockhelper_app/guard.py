"""Who may ask, and how much of it: the bearer token, and limits on what a request brings along."""

import hmac
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from stockhelper_app.errors import problem
from stockhelper_app.settings import Settings

#: The longest body, in bytes; the only one that means something holds two days.
MOST_BODY: Final = 16 * 1024
#: All headers together, in bytes.
MOST_HEADERS: Final = 16 * 1024
#: Path and query, in bytes as they were sent.
MOST_TARGET: Final = 8 * 1024
#: What a 401 says of how to show the token (RFC 9110, 11.6.1).
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="stockhelper"'}


class Access:
    """Who may read and who may write.

    Writing needs the token always. Reading needs it once the service is published beyond loopback, unless the settings
    let everybody read.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.api_token.get_secret_value().encode() if settings.api_token else None
        #: Whether anybody may read.
        self.public_read = settings.app_bind.is_loopback or settings.api_public_read

    def check(self, request: HTTPConnection, *, writes: bool) -> None:
        """Return if the caller may; raises `HTTPException` (401; 403 where no token would do)."""
        if (self.public_read and not writes) or self._shown(request.headers.get("authorization", "")):
            return
        if self._token is None:
            raise HTTPException(HTTPStatus.FORBIDDEN, "This needs a token, and the service has none: set API_TOKEN.")
        detail = "This needs the token of API_TOKEN, as `Authorization: Bearer …`."
        raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)

    def _shown(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if self._token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(token.strip().encode(), self._token)


class Limits:
    """Middleware: refuses requests that are too large, by what they say of themselves; `requests.body` counts, too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413, 414 or 431."""
        refusal = _too_large(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            # What may still come of it is not read.
            await problem(refusal, headers={"Connection": "close"})(scope, receive, send)


def _too_large(scope: Scope) -> HTTPStatus | None:
    if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MOST_TARGET:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    for name, value in scope["headers"]:
        if name == b"content-length" and (len(value) > 9 or not value.isdigit() or int(value) > MOST_BODY):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return None
