"""YAML read as Compose reads it, with the place in the file kept for every key.

A document becomes `Map` and `Seq`: a dict and a list that also know where each entry was written, so that any later
step can name file and line. Scalars follow go-yaml 3, which Compose uses (YAML 1.2, with octal 0755 and without
yes/no); anchors, aliases and merge keys follow YAML 1.1, and `!reset` and `!override` the specification's "Merge".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from stockhelper_cli.compose.dotenv import read_text
from stockhelper_cli.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]

#: Aliases may blow a document up to this many values, as `billion laughs` does; real files have some hundred.
MOST_VALUES = 100_000
MOST_LEVELS = 64

_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_TAG = "tag:yaml.org,2002:"


class Position(NamedTuple):
    """A line, from 1, of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Map(dict[str, Any]):
    """A mapping that knows where each key was written."""

    __slots__ = ("at",)

    def __init__(self, *entries: Any) -> None:
        """Hold a dict's entries, without positions as yet."""
        super().__init__(*entries)
        self.at: dict[str, Position] = {}

    def put(self, key: str, value: Any, position: Position | None) -> None:
        """Set a key and where it was written."""
        self[key] = value
        if position is not None:
            self.at[key] = position


class Seq(list[Any]):
    """A sequence that knows where each entry was written."""

    __slots__ = ("at",)

    def __init__(self, entries: Sequence[Any] = (), at: Sequence[Position | None] = ()) -> None:
        """Hold entries, and their positions as far as they are given."""
        super().__init__(entries)
        self.at: list[Position | None] = [*at, *[None] * (len(self) - len(at))]

    def add(self, value: Any, position: Position | None) -> None:
        """Append an entry and where it was written."""
        self.append(value)
        self.at.append(position)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its tree, and the paths that `!reset` and `!override` take from the files before."""

    tree: Map
    replaced: tuple[KeyPath, ...]


def locate(tree: Any, path: Sequence[str | int]) -> Position | None:
    """Return where the last key of `path` that is in the tree was written; None where nothing of it is."""
    found: Position | None = None
    for key in path:
        if isinstance(tree, Map) and key in tree:
            found = tree.at.get(str(key), found)
            tree = tree[str(key)]
        elif isinstance(tree, Seq) and isinstance(key, int) and key < len(tree):
            found = tree.at[key] or found
            tree = tree[key]
        else:
            break
    return found


def read_documents(path: Path, shown: str) -> list[Document]:
    """Return the documents of a YAML file; `shown` is the file's name in messages.

    Raises `ConfigError` (config.compose) that names file and line.
    """
    return list(parse_documents(read_text(path, shown, code="config.compose"), shown))


def parse_documents(text: str, shown: str) -> Iterator[Document]:
    """Yield the documents of a YAML text. Raises `ConfigError` (config.compose) that names file and line."""
    import yaml

    builder = _Builder(shown)
    try:
        # libyaml, where the package has it: Compose's own parser is that one in Go, and it is fifty times as fast.
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for event in events:
            if type(event).__name__ == "DocumentStartEvent":
                builder.start()
                tree = builder.value(next(events), events, ())
                if tree is not None and not isinstance(tree, Map):
                    raise ConfigError("config.compose", f"{shown}:1: the top level must be a mapping")
                if tree is not None:
                    yield Document(tree, tuple(builder.replaced))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines = text.splitlines()
        line = min(mark.line + 1, len(lines)) if mark is not None else 1  # its end is the line after the last
        said = " ".join(part for part in (error.context, error.problem) if part)
        if lines[line - 1].lstrip(" ").startswith("\t"):
            said = "a tab indents this line; YAML wants spaces"
        raise ConfigError("config.compose", f"{shown}:{line}: is not YAML: {said}") from error
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        offset = getattr(error, "position", 0)
        line = text.count("\n", 0, offset if isinstance(offset, int) else 0) + 1
        raise ConfigError("config.compose", f"{shown}:{line}: is not YAML: {said}") from error


class _Builder:
    """Builds one document at a time out of the parser's events."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def start(self) -> None:
        self.anchors: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        self.size = 0
        self.replaced: list[KeyPath] = []

    def value(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        kind = type(event).__name__
        before = self.size
        self.size += 1
        if kind == "AliasEvent":
            if event.anchor not in self.anchors:
                raise self.refuse(event, f"the alias *{event.anchor} stands before or inside of its anchor")
            self.size += self.sizes[event.anchor]
            if self.size > MOST_VALUES:
                raise self.refuse(event, f"aliases make this file larger than {MOST_VALUES} values")
            return self.anchors[event.anchor]
        if len(path) > MOST_LEVELS:
            raise self.refuse(event, f"nested more than {MOST_LEVELS} levels deep")
        tag = str(event.tag) if event.tag is not None else ""
        if tag in ("!reset", "!override"):
            self.replaced.append(path)
        elif tag not in ("", "!") and not tag.startswith(_TAG):
            raise self.refuse(event, f"the tag {tag} is not supported")
        built: Any
        match kind:
            case "ScalarEvent":
                built = self.scalar(event, tag)
            case "SequenceStartEvent":
                built = self.sequence(events, path)
            case _:
                built = self.mapping(events, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = built
            self.sizes[event.anchor] = self.size - before
        return _Reset if tag == "!reset" else built

    def sequence(self, events: Iterator[Any], path: KeyPath) -> Seq:
        built = Seq()
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            value = self.value(event, events, (*path, len(built)))
            if value is not _Reset:
                built.add(value, self.position(event))
        return built

    def mapping(self, events: Iterator[Any], path: KeyPath) -> Map:
        built = Map()
        lines: dict[str, int] = {}
        merged: list[tuple[Any, Any]] = []
        for event in events:
            kind = type(event).__name__
            if kind == "MappingEndEvent":
                break
            if kind == "ScalarEvent" and event.value == "<<" and event.implicit[0]:
                merged.append((event, self.value(next(events), events, path)))
                continue
            key = self.scalar(event, str(event.tag or "")) if kind == "ScalarEvent" else None
            if not isinstance(key, str):
                shown = event.value if kind == "ScalarEvent" else "a collection"
                raise self.refuse(event, f"{_above(path)}the key {shown} is not text; put it in quotes")
            if key in lines:
                raise self.refuse(
                    event, f"{_dotted(path)}{key} is set a second time; the first is in line {lines[key]}"
                )
            lines[key] = event.start_mark.line + 1
            value = self.value(next(events), events, (*path, key))
            if value is not _Reset:
                built.put(key, value, self.position(event))
        for event, value in merged:
            for source in value if isinstance(value, Seq) else [value]:
                if not isinstance(source, Map):
                    raise self.refuse(event, f"{_above(path)}<< merges mappings only")
                for key in source:
                    if key not in built and key not in lines:
                        built.put(key, source[key], source.at.get(key))
        return built

    def scalar(self, event: Any, tag: str) -> Any:
        text: str = event.value
        if tag.startswith(_TAG):
            return self.tagged(event, tag.removeprefix(_TAG), text)
        if not event.implicit[0] or tag == "!":
            return text
        value = resolve_scalar(text)
        if value is _Timestamp:
            raise self.refuse(event, f"{text} is a date in YAML; put it in quotes")
        return value

    def tagged(self, event: Any, tag: str, text: str) -> Any:
        value = text if tag == "str" else resolve_scalar(text)
        kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "null": type(None)}
        if tag not in kinds or not isinstance(value, kinds[tag]) or (tag == "int" and isinstance(value, bool)):
            raise self.refuse(event, f"{text!r} cannot be read as !!{tag}")
        return float(value) if tag == "float" else value

    def position(self, event: Any) -> Position:
        return Position(self.shown, event.start_mark.line + 1)

    def refuse(self, event: Any, what: str) -> ConfigError:
        return ConfigError("config.compose", f"{self.position(event)}: {what}")


class _Reset:
    """Stands for a value tagged `!reset`."""


class _Timestamp:
    """Stands for a plain scalar that YAML takes for a date."""


def resolve_scalar(text: str) -> Any:
    """Return what a plain scalar means to go-yaml 3: None, a bool, an int, a float, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        value = _integer(digits)
        if -(2**63) <= value < 2**64:
            return value
    if _FLOAT.fullmatch(digits) and not math.isinf(float(digits)):
        return float(digits)
    if infinity := _INFINITY.fullmatch(text):
        return float(f"{infinity[1]}inf")
    if text in (".nan", ".NaN", ".NAN"):
        return float("nan")
    return _Timestamp if _TIMESTAMP.fullmatch(text) else text


def _integer(digits: str) -> int:
    sign, body = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
    if len(body) > 1 and body[0] == "0" and body[1].isdigit():
        return sign * int(body, 8)
    return sign * int(body, 0)


def _above(path: KeyPath) -> str:
    return ".".join(map(str, path)) + ": " if path else ""


def _dotted(path: KeyPath) -> str:
    return "".join(f"{key}." for key in path)
