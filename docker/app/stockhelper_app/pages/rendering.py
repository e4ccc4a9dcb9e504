"""From a template and what it shows to a response: its language, the headers that close it, and its ETag."""

import hashlib
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stockhelper_app import requests
from stockhelper_app.bars import SHANGHAI
from stockhelper_app.pages import chart, numbers
from stockhelper_app.pages.logins import Logins
from stockhelper_app.pages.texts import TEXTS

if TYPE_CHECKING:
    import datetime as dt

    from jinja2 import Environment

_FOLDER: Final = Path(__file__).parent
_LANGUAGE_COOKIE: Final = "stockhelper_lang"
_YEAR: Final = 365 * 24 * 3600
_KINDS: Final = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

_SAFE: Final = {
    # Nothing but our own style sheet and icon is loaded, nothing is run, and forms go nowhere else.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer browsers would send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
}
# Who asks sees a page of theirs, in their language.
_PRIVATE: Final = {"Cache-Control": "private, no-cache", "Vary": "Accept-Language, Cookie"}


def _named_by_content() -> dict[str, Path]:
    """Return the files that pages load, by a name that changes when the file does."""
    found = {}
    for file in sorted((_FOLDER / "static").iterdir()):
        digest = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        found[f"{file.stem}-{digest}{file.suffix}"] = file
    return found


STATIC: Final = _named_by_content()
_ADDRESSES: Final = {file.name: f"/static/{name}" for name, file in STATIC.items()}


def static_file(name: str) -> Response | None:
    """Return a file that pages load; None if there is none of this name."""
    if name not in STATIC:
        return None
    headers = {"Content-Type": _KINDS[STATIC[name].suffix], "Cache-Control": f"public, max-age={_YEAR}, immutable"}
    return Response(STATIC[name].read_bytes(), headers={**_SAFE, **headers})


def language(request: Request) -> str:
    """Return the language that was chosen, now or before, else what the browser asks for."""
    for chosen in (request.query_params.get("lang"), request.cookies.get(_LANGUAGE_COOKIE)):
        if chosen is not None and chosen in TEXTS:
            return chosen
    return requests.language(request, tuple(TEXTS))


def page(
    request: Request,
    template: str,
    shown: Mapping[str, object],
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a page; 304 for one that the browser has."""
    logins: Logins = request.app.state.logins
    lang = language(request)
    made = _environment().get_template(template)
    body = made.render(
        shown,
        t=TEXTS[lang],
        lang=lang,
        languages=[(code, texts["language"], _address(request, code)) for code, texts in TEXTS.items()],
        login_possible=logins.possible,
        logged_in=logins.holds(request),
    )
    etag = f'"{hashlib.blake2b(body.encode(), digest_size=16).hexdigest()}"'
    kept = {"ETag": etag, **_PRIVATE} if status == HTTPStatus.OK else {"Cache-Control": "no-store"}
    if status == HTTPStatus.OK and requests.known(request, etag):
        response = Response(status_code=HTTPStatus.NOT_MODIFIED)
    else:
        response = HTMLResponse(body, status)
    response.headers.update({**_SAFE, **kept})
    response.headers.update(headers or {})
    if request.query_params.get("lang") == lang:
        response.set_cookie(_LANGUAGE_COOKIE, lang, max_age=_YEAR, httponly=True, samesite="lax")
    return response


def _address(request: Request, code: str) -> str:
    """Return where the same page is in another language; the list's for what cannot be asked for again."""
    if request.method not in ("GET", "HEAD") and request.scope["path"] != "/login":
        return f"/?lang={code}"
    rest = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    return f"?{urlencode([*rest, ('lang', code)])}"


@cache
def _environment() -> "Environment":
    # The first page pays for the import, which no start has to wait for.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "plain": numbers.plain,
        "signed": numbers.signed,
        "percent": numbers.percent,
        "amount": numbers.amount,
        "direction": numbers.direction,
        "shanghai": _shanghai,
    }
    made.globals |= {"static": _ADDRESSES, "slot": chart.SLOT, "prices": chart.PRICES, "volumes": chart.VOLUMES}
    return made


def _shanghai(moment: "dt.datetime") -> str:
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
