"""What must not be shown: secrets, told by the names that they stand under, and masked however they are written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MASK: Final = "********"
_WORDS: Final = "PASSWORD|PASSWD|SECRET|TOKEN|API[_-]?KEY|PRIVATE[_-]?KEY|CREDENTIALS?"
#: Names of settings that hold secrets.
SECRET_NAME: Final = re.compile(rf"({_WORDS})$", re.IGNORECASE)
#: A value that is shorter, or one of these, is no secret where no name says so.
_LEAST: Final = 4
_COMMON: Final = frozenset({"true", "false", "none", "null"})
#: A line of a secret of several lines is one by itself, unless it is shorter.
_LEAST_LINE: Final = 8
#: Not a variable, as $NAME in a shell's command, whose value stands elsewhere.
_VALUE: Final = r"(?!\$+[\w{])[^\s\"'&;,]+"


def _looks(*patterns: tuple[str, str]) -> tuple[re.Pattern[str], ...]:
    """Return what finds secrets by what stands before them, and by what they look like."""
    return tuple(re.compile(f"({before})({secret})", re.IGNORECASE) for before, secret in patterns)


#: A name that ends with one of these. It is looked for once a word, not from each of its characters on: a line of a log
#: may be one word of a megabyte.
_NAMED: Final = rf"(?<![\w.-])[\w.-]*(?:{_WORDS})"

#: Where a configuration has secrets besides under a name: in a URL, and in words of a command.
_PLACES: Final = _looks(
    (r"(?<![a-z])[a-z][a-z0-9+.-]{0,30}://[^\s/@:\"']*:", r"[^\s/\"']+(?=@)"),
    (rf"{_NAMED}=[\"']?", _VALUE),
    (rf"(?<![\w-])--[\w-]*(?:{_WORDS})\s+[\"']?", _VALUE),
)
#: What else looks like a secret in a log.
_LOOKS: Final = _looks(
    (rf"{_NAMED}[\"']?\s*[=:]\s*[\"']?", _VALUE),
    (r"\bAuthorization[\"']?\s*[=:]\s*[\"']?[a-z]+\s+", r"[^\s\"',]+"),
    (r"\bBearer\s+", r"[\w.~+/=-]{16,}"),
    (r"\bPASSWORD\s+E?'", r"(?:[^']|'')+"),  # SQL
    (r"\bSCRAM-SHA-256\$", r"[^\s\"']+"),
    (r"\bmd5", r"[0-9a-f]{32}\b"),
    (r"\bAGE-SECRET-KEY-1", r"[0-9A-Z]+"),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", r"(?:(?!-----END)[\s\S])+"),
    (r"\beyJ", r"[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),  # a JSON Web Token
)
#: NAME=value, as a container's environment has it.
_ASSIGNMENT: Final = re.compile(rf"([\w.-]*(?:{_WORDS}))=(.+)", re.IGNORECASE | re.DOTALL)
#: The word of a command line after which a secret comes.
_OPTION: Final = re.compile(rf"--[\w-]*(?:{_WORDS})", re.IGNORECASE)

#: What Go's JSON writes otherwise than Python's: that of the engine, and of Compose.
_GO_ESCAPES: Final = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


class Secrets:
    """The secrets that stand in what it was told of, and how to show anything without them."""

    def __init__(self, *told: Any) -> None:
        """Learn the secrets of trees of mappings, lists and scalars: of settings, a configuration, what was inspected.

        A secret is what stands under a name that says so, a password in a URL, and what an option of a command such as
        --password is given.
        """
        values = {value.strip() for value in _secrets_in(list(told))}
        values |= {line.strip() for value in values for line in value.splitlines() if len(line) >= _LEAST_LINE}
        known = {value for value in values if len(value) >= _LEAST and value.lower() not in _COMMON}
        # Longest first: one secret may be a part of another.
        forms = sorted({form for value in known for form in _forms(value)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, forms))) if forms else None

    def text(self, text: str) -> str:
        """Return a text with every secret masked: those that are known in whatever form, others by their looks."""
        if self._known:
            text = self._known.sub(MASK, text)
        for look in (*_PLACES, *_LOOKS):
            text = look.sub(rf"\1{MASK}", text)
        return text

    def tree(self, tree: Any, *, secret: bool = False) -> Any:
        """Return a tree of mappings, lists and scalars with every secret masked; with `secret` it is one."""
        match tree:
            case Mapping():
                return {key: self.tree(entry, secret=_is_secret(key)) for key, entry in tree.items()}
            case list() | tuple():
                return [self.tree(entry, secret=given) for entry, given in _words(tree)]
            case str() if tree and secret:
                return MASK
            case str():
                assignment = _ASSIGNMENT.fullmatch(tree)
                return f"{assignment[1]}={MASK}" if assignment else self.text(tree)
            case _:
                return tree


def _secrets_in(tree: Any, *, secret: bool = False) -> Iterator[str]:
    match tree:
        case Mapping():
            for key, entry in tree.items():
                yield from _secrets_in(entry, secret=_is_secret(key))
        case list() | tuple():
            for entry, given in _words(tree):
                yield from _secrets_in(entry, secret=given)
        case str() if secret:
            yield from (tree, tree.replace("$$", "$"))  # as Compose writes a configuration
        case str():
            if assignment := _ASSIGNMENT.fullmatch(tree):
                yield assignment[2]
            for place in _PLACES:
                for found in place.finditer(tree):
                    yield from (found[2], unquote(found[2]))


def _is_secret(name: object) -> bool:
    return SECRET_NAME.search(str(name)) is not None


def _words(entries: Sequence[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each entry of a list, and whether it is a secret that the word before it announces, as --password does."""
    announced = False
    for entry in entries:
        yield entry, announced
        announced = isinstance(entry, str) and _OPTION.fullmatch(entry) is not None


def _in_json(text: str) -> Iterator[str]:
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.translate(_GO_ESCAPES)


def _forms(value: str) -> Iterator[str]:
    """Yield the ways in which a secret is written: in URLs, JSON, YAML, SQL, shells, and in base64 within anything."""
    yield value
    yield value.replace("$", "$$")
    for encoded in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)
    for written in _in_json(value):
        yield written
        yield from _in_json(written)  # JSON in JSON: a service's line in an engine's answer
    yield repr(value)[1:-1]
    for quoted in ("''", "'\\''", "'\"'\"'"):
        yield value.replace("'", quoted)
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", value, flags=re.ASCII)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Its bits lie in one of three ways, by how many bytes come before it; whole characters of its own are searched.
        for before in range(3):
            raw = value.encode()
            end = (before + len(raw)) * 8 // 6
            yield encode(bytes(before) + raw).decode()[-(-before * 8 // 6) : end]
