"""Reading a request: its path, query and body checked by a model, what kind of answer it wants, and what it has."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from stockhelper_app.errors import Fault, Invalid
from stockhelper_app.guard import MOST_BODY
from stockhelper_app.schemas import Input

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_I = TypeVar("_I", bound=Input)

#: No operation has more.
_MOST_FIELDS: Final = 10


def path(request: Request, model: type[_I]) -> _I:
    """Return the path's parameters; raises `Invalid`."""
    return _checked(model, request.path_params, "path")


def query(request: Request, model: type[_I]) -> _I:
    """Return the query's parameters, each of which may come once; raises `Invalid`."""
    return _checked(model, _fields(request.scope["query_string"], "query"), "query")


async def body(request: Request, model: type[_I]) -> _I:
    """Return what the body holds, or the model's defaults when there is none.

    Raises `Invalid`, and `HTTPException` for a body that is too long, breaks off or is no JSON object.
    """
    raw = await _sent(request, "application/json")
    if not raw:
        return _checked(model, {}, "body")
    try:
        given = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid([Fault("body", "body", f"is not JSON: {error}")], HTTPStatus.BAD_REQUEST) from None
    return _checked(model, given, "body")


async def form(request: Request, model: type[_I]) -> _I:
    """Return the fields of a form, each of which may come once.

    Raises `Invalid`, and `HTTPException` for a body that is too long, breaks off or is no form.
    """
    raw = await _sent(request, "application/x-www-form-urlencoded")
    return _checked(model, _fields(raw, "body"), "body")


def wanted(request: Request, offered: "Sequence[str]") -> str:
    """Return the media type, of those offered, that the caller likes most; the first where it does not say.

    By RFC 9110, 12.5.1: of the ranges that match, the most specific one decides. Raises `HTTPException` (406).
    """
    liking: dict[str, tuple[int, float]] = {}
    for media, weight in _weighted(request, "accept", "*/*"):
        for kind in offered:
            ranges = ("*/*", kind.partition("/")[0] + "/*", kind)
            if media in ranges:
                liking[kind] = max(liking.get(kind, (-1, 0.0)), (ranges.index(media), weight))
    best = max(offered, key=lambda kind: liking[kind][1] if kind in liking else 0.0)
    if best not in liking or liking[best][1] == 0:
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, f"There is {' and '.join(offered)}.")
    return best


def likes_html(request: Request) -> bool:
    """Return whether the caller likes a page more than a document, as browsers do."""
    try:
        return wanted(request, ("application/problem+json", "text/html")) == "text/html"
    except HTTPException:
        return False


def language(request: Request, offered: "Sequence[str]") -> str:
    """Return the language, of those offered, that the caller likes most; the first where it names none of them."""
    liking: dict[str, float] = {}
    for tag, weight in _weighted(request, "accept-language", ""):
        code = tag.partition("-")[0]
        liking[code] = max(liking.get(code, 0.0), weight)
    return max(offered, key=lambda code: liking.get(code, 0.0))


def known(request: Request, etag: str) -> bool:
    """Return whether the caller has it already (RFC 9110, 13.1.2: compared weakly)."""
    given = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in given)


async def _sent(request: Request, kind: str) -> bytes:
    """Return the body, which is of this media type unless it is empty."""
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BODY:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers={"Connection": "close"})
    except ClientDisconnect:
        # For the log; whoever sent it has hung up.
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The body broke off.") from None
    if raw and request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"A body is {kind}.")
    return bytes(raw)


def _fields(raw: bytes, where: str) -> dict[str, str]:
    """Return the fields of a query or a form, by their names."""
    try:
        text = raw.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise Invalid([Fault(where, where, "is not UTF-8")], HTTPStatus.BAD_REQUEST) from None
    except ValueError:
        raise Invalid([Fault(where, where, f"has more than {_MOST_FIELDS} fields")]) from None
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Invalid([Fault(where, _shown(name), "is given more than once") for name in twice])
    return values


def _weighted(request: Request, header: str, default: str) -> "Iterator[tuple[str, float]]":
    """Yield what a header names, in small letters, and how much it is liked (RFC 9110, 12.4.2)."""
    for part in (",".join(request.headers.getlist(header)) or default).split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        yield name, next((_weight(p.partition("=")[2]) for p in parameters if p.startswith("q=")), 1.0)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _checked(model: type[_I], values: "Mapping[str, Any] | Any", where: str) -> _I:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid(
            [
                Fault(where, _shown(".".join(map(str, fault["loc"])) or where), _said(fault["msg"]))
                for fault in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        ) from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


def _shown(name: str) -> str:
    """Return a name for an error document; one that is not known is the caller's own text."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name[:100])
