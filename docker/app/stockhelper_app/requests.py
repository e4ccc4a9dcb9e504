"""Reading a request: its path, query and body checked by a model, and what kind of answer it wants."""

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
    from collections.abc import Mapping, Sequence

_I = TypeVar("_I", bound=Input)

#: No operation has more.
_MOST_FIELDS: Final = 10


def path(request: Request, model: type[_I]) -> _I:
    """Return the path's parameters; raises `Invalid`."""
    return _checked(model, request.path_params, "path")


def query(request: Request, model: type[_I]) -> _I:
    """Return the query's parameters, each of which may come once; raises `Invalid`."""
    try:
        text = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise Invalid([Fault("query", "query", "is not UTF-8")], HTTPStatus.BAD_REQUEST) from None
    except ValueError:
        raise Invalid([Fault("query", "query", f"has more than {_MOST_FIELDS} fields")]) from None
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Invalid([Fault("query", _shown(name), "is given more than once") for name in twice])
    return _checked(model, values, "query")


async def body(request: Request, model: type[_I]) -> _I:
    """Return what the body holds, or the model's defaults when there is none.

    Raises `Invalid`, and `HTTPException` for a body that is too long, breaks off or is no JSON object.
    """
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BODY:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers={"Connection": "close"})
    except ClientDisconnect:
        # For the log; whoever sent it has hung up.
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The body broke off.") from None
    if not raw:
        return _checked(model, {}, "body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A body is application/json.")
    try:
        given = from_json(bytes(raw), allow_inf_nan=False)
    except ValueError as error:
        raise Invalid([Fault("body", "body", f"is not JSON: {error}")], HTTPStatus.BAD_REQUEST) from None
    return _checked(model, given, "body")


def wanted(request: Request, offered: "Sequence[str]") -> str:
    """Return the media type, of those offered, that the caller likes most; the first where it does not say.

    By RFC 9110, 12.5.1: of the ranges that match, the most specific one decides. Raises `HTTPException` (406).
    """
    accept = ",".join(request.headers.getlist("accept")) or "*/*"
    liking: dict[str, tuple[int, float]] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(p.partition("=")[2]) for p in parameters if p.startswith("q=")), 1.0)
        for kind in offered:
            ranges = ("*/*", kind.partition("/")[0] + "/*", kind)
            if media in ranges:
                liking[kind] = max(liking.get(kind, (-1, 0.0)), (ranges.index(media), weight))
    best = max(offered, key=lambda kind: liking[kind][1] if kind in liking else 0.0)
    if best not in liking or liking[best][1] == 0:
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, f"There is {' and '.join(offered)}.")
    return best


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
