"""Who a page is for: the holder of the token, known by a cookie, or anybody; and that a form came from our own page."""

import hmac
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stockhelper_app.guard import CHALLENGE, Access
from stockhelper_app.pages.texts import EN
from stockhelper_app.settings import Settings

#: Pages only: the API never looks at it.
COOKIE: Final = "stockhelper_login"
#: Seconds that a login lasts.
LASTS: Final = 7 * 24 * 3600


class Refusal(HTTPException):
    """A page that is not given; `text` is the key of what is said about it, and `given` what differs in that."""

    def __init__(
        self, status: int, text: str, *, given: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, EN[text] if given is None else EN[text] % given, headers)
        self.text, self.given = text, given


class Logins:
    """Cookies for who has shown the token. Each is made of the token and its own end, so no worker has to remember any,
    and all of them end when the token changes.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.api_token.get_secret_value().encode() if settings.api_token else None

    @property
    def possible(self) -> bool:
        """Whether there is a token to log in with."""
        return self._token is not None

    def begin(self, token: str) -> str | None:
        """Return the cookie's value for who shows this token; None if it is another one."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token):
            return None
        until = str(int(time.time()) + LASTS)
        return f"{until}.{_sign(self._token, until)}"

    def holds(self, request: Request) -> bool:
        """Return whether the token's holder asks."""
        until, _, signature = request.cookies.get(COOKIE, "").partition(".")
        if self._token is None or not hmac.compare_digest(signature.encode(), _sign(self._token, until).encode()):
            return False
        return time.time() < int(until)


def _sign(token: bytes, until: str) -> str:
    return hmac.digest(token, f"stockhelper page login until {until}".encode(), "sha256").hex()


def admit(request: Request, *, writes: bool = False) -> None:
    """Return if who asks may, by the rules of `guard.Access`; raises `Refusal` (401; 403 where no token would do)."""
    access: Access = request.app.state.access
    logins: Logins = request.app.state.logins
    if writes:
        check_origin(request)
    if (access.public_read and not writes) or logins.holds(request):
        return
    if not logins.possible:
        raise Refusal(HTTPStatus.FORBIDDEN, "no_token")
    raise Refusal(HTTPStatus.UNAUTHORIZED, "needs_login", headers=CHALLENGE)


def check_origin(request: Request) -> None:
    """Return if a form was sent from a page of this service; raises `Refusal` (403).

    Browsers say where a form comes from: by Sec-Fetch-Site over TLS and on loopback, by Origin everywhere.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site == "same-origin"
    else:
        # Without the scheme: behind a proxy that ends TLS it is not the one that this request came by.
        ours = urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host", "-")
    if not ours:
        raise Refusal(HTTPStatus.FORBIDDEN, "foreign")


def remember(request: Request, response: Response, value: str) -> None:
    """Give the cookie along, which no script and no other site's page can use."""
    # What a proxy in front says may be anybody's word; a lie costs the liar the login.
    outside = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    secure = "https" in (request.url.scheme, outside)
    response.set_cookie(COOKIE, value, max_age=LASTS, httponly=True, samesite="strict", secure=secure)


def forget(response: Response) -> None:
    """Have the cookie thrown away."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
