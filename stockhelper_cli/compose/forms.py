"""Forms: the kinds of value a compose file holds, and for each how it is written, merged and read.

A form knows three things about a value, one step of loading each:

    canonical   the specification's short syntax becomes its long one, still with positions
    merge       what a later file makes of an earlier one's value (the specification's chapter "Merge")
    read        the value becomes what Compose's own structure writes as JSON: its `config`, and what is hashed

The schema was checked before `canonical`, so the forms rely on the shapes that it allows.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from stockhelper_cli.compose import values
from stockhelper_cli.compose.document import KeyPath, Map, Position, Seq, locate
from stockhelper_cli.errors import ConfigError


class OtherKindError(ValueError):
    """A later file's value that cannot complete an earlier one's: that is of a `kind`, and this at `path` is not."""

    def __init__(self, kind: str, path: KeyPath = ()) -> None:
        """Hold what it would have to be, and its path from where the merge began."""
        super().__init__(f"must be {kind}, as it is in a file before")
        self.kind = kind
        self.path = path


@dataclass(frozen=True)
class Context:
    """What reading needs to know: where relative paths start, the variables, and where warnings go.

    `tree` is what is read; `file` stands for whatever has no place in it of its own. `origin` says in words which
    variables a line of a file takes and where they are set, "" if none.
    """

    directory: Path
    environment: Mapping[str, str]
    tree: Map
    file: str
    warnings: list[str] = field(default_factory=list)
    origin: Callable[[Position], str] = lambda position: ""


@dataclass(frozen=True)
class Place:
    """Where in the project a value stands."""

    context: Context
    path: KeyPath = ()

    def child(self, key: str | int) -> Place:
        """Return the place of an entry."""
        return Place(self.context, (*self.path, key))

    @property
    def position(self) -> Position:
        """The file and line."""
        return locate(self.context.tree, self.path) or Position(self.context.file, 1)

    def refuse(self, what: str) -> ConfigError:
        """Return the error that names file, line and key, and the variables that stand there."""
        position = self.position
        return ConfigError(
            "config.compose", f"{position}: {dotted(self.path)}: {what}", cause=self.context.origin(position)
        )

    def warn(self, what: str) -> None:
        """Note a warning that names file, line and key."""
        self.context.warnings.append(f"{self.position}: {dotted(self.path)}: {what}")

    def absolute(self, path: str) -> str:
        """Return a path as Compose resolves it: `~` is the home, relative ones start at the project's folder."""
        if path.startswith("~"):
            return os.path.normpath(Path.home() / path[1:].lstrip("/"))
        return path if Path(path).is_absolute() else os.path.normpath(self.context.directory / path)


def dotted(path: KeyPath) -> str:
    """Return a key path as text: `services.app.ports[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


class Form:
    """A form whose value a later file replaces, and which is read as it stands."""

    def canonical(self, value: Any, place: Place) -> Any:
        """Return `value` in its long syntax. Raises `ValueError` or `ConfigError`."""
        return value

    def merge(self, base: Any, over: Any) -> Any:
        """Return what `over`, of a later file, makes of `base`."""
        return base if over is None else over

    def read(self, value: Any, place: Place) -> Any:
        """Return the value as Compose writes it; None for one that is not set. Raises `ValueError`, `ConfigError`."""
        return value


class Scalar(Form):
    """One value, read by a function that raises `ValueError`."""

    def __init__(self, reader: Callable[[Any], Any]) -> None:
        """Hold the reader."""
        self.reader = reader

    def read(self, value: Any, place: Place) -> Any:
        """Return what the reader makes of the value."""
        return self.reader(value)


TEXT = Scalar(values.text_of)
CODE = Scalar(values.parse_code)
INTEGER = Scalar(values.parse_integer)
NATURAL = Scalar(values.parse_natural)
BOOLEAN = Scalar(values.parse_boolean)
FLOAT = Scalar(values.parse_float)
SIZE = Scalar(lambda value: _unless_zero(values.parse_size(value)))
DURATION = Scalar(lambda value: values.format_duration(values.parse_duration(values.text_of(value))))


def _unless_zero(size: int) -> str:
    # An integer to Go, which leaves zero out, written as text.
    return str(size) if size else ""


class Omit(Enum):
    """When Go leaves a field out of its JSON."""

    EMPTY = "when it is empty"
    UNSET = "when it is not given"  # a pointer
    NEVER = "never"


@dataclass(frozen=True)
class Key:
    """One key of a structure: the one row that says all about it.

    `form` reads and merges it; `hashed` tells whether it counts in a service's config hash; `omit` when Compose's
    structure leaves it out, with `default` for the fields that it never leaves out.
    `create` puts the read value into the body of the engine call that creates the container.
    """

    name: str
    form: Form
    hashed: bool = True
    omit: Omit = Omit.EMPTY
    default: Any = None
    create: Callable[..., None] | None = None


class Struct(Form):
    """A mapping with known keys, in the order of Compose's Go structure."""

    def __init__(self, *keys: Key) -> None:
        """Hold the keys, in Go's order."""
        self.keys = keys
        self.by_name = {key.name: key for key in keys}

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping with its entries in their long syntax."""
        if not isinstance(value, Map):
            return value
        return _each(value, lambda name, entry: self._form(name, place).canonical(entry, place.child(name)), place)

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' keys, those in both merged by their own forms."""
        if not isinstance(base, Map) or not isinstance(over, Map):
            return super().merge(base, over)
        return _merge_maps(base, over, lambda name: self.by_name[name].form if name in self.by_name else ANY)

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping in Go's order, without extensions and without what Go leaves out."""
        given = value if isinstance(value, Mapping) else {}
        for name in given:
            if not name.startswith("x-"):
                self._form(name, place)
        result: dict[str, Any] = {}
        for key in self.keys:
            entry = given.get(key.name)
            read = key.default if entry is None else attempt(key.form.read, entry, place.child(key.name))
            if key.omit is Omit.NEVER or (read is not None and (key.omit is Omit.UNSET or not is_empty(read))):
                result[key.name] = read
        return result

    def in_order(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return a read mapping with its keys in Go's order again."""
        return {key.name: spec[key.name] for key in self.keys if key.name in spec}

    def _form(self, name: str, place: Place) -> Form:
        if name.startswith("x-"):
            return ANY
        if name not in self.by_name:
            raise place.child(name).refuse("is not supported by stockhelper")
        return self.by_name[name].form


class MapOf(Form):
    """A mapping with names of the user's choice, each entry of the same form."""

    def __init__(self, form: Form) -> None:
        """Hold the entries' form."""
        self.form = form

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping with its entries in their long syntax."""
        if not isinstance(value, Map):
            return value
        return _each(value, lambda name, entry: self.form.canonical(entry, place.child(name)), place)

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' keys, those in both merged."""
        if not isinstance(base, Map) or not isinstance(over, Map):
            return super().merge(base, over)
        return _merge_maps(base, over, lambda name: self.form)

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping, sorted by name as Go writes it."""
        return {name: attempt(self.form.read, value[name], place.child(name)) for name in sorted(value)}


class ListOf(Form):
    """A sequence; a later file's entries are appended.

    A single entry may stand for a sequence of one. Where `unique` gives two entries the same name, the later one
    takes the earlier one's place. Without it no two may be equal, unless the list allows `repeats`.
    """

    def __init__(self, form: Form = TEXT, unique: Callable[[Any], Any] | None = None, *, repeats: bool = False) -> None:
        """Hold the entries' form, and what makes two of them the same."""
        self.form = form
        self.unique = unique
        self.repeats = repeats

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the sequence with its entries in their long syntax, each once."""
        if value is None:
            return None
        if not isinstance(value, Seq):
            value = Seq([value], [place.position])
        entries = Seq()
        for index, entry in enumerate(value):
            for long in self.expand(entry, place.child(index)):
                entries.add(long, value.at[index])
        return self._once(entries)

    def expand(self, entry: Any, place: Place) -> list[Any]:
        """Return the entries that one entry of the file stands for."""
        return [attempt(self.form.canonical, entry, place)]

    def merge(self, base: Any, over: Any) -> Any:
        """Return the earlier entries and then the later ones, each once."""
        if not isinstance(base, Seq) or not isinstance(over, Seq):
            return super().merge(base, over)
        return self._once(Seq([*base, *over], [*base.at, *over.at]))

    def read(self, value: Any, place: Place) -> Any:
        """Return the entries read. Raises `ConfigError` for one that stands twice where that means nothing."""
        entries = [attempt(self.form.read, entry, place.child(index)) for index, entry in enumerate(value)]
        if not self.repeats:
            refuse_duplicates(entries, place)
        return entries

    def _once(self, entries: Seq) -> Seq:
        if self.unique is None:
            return entries
        kept = Seq()
        index: dict[Any, int] = {}
        for entry, position in zip(entries, entries.at, strict=True):
            name = self.unique(entry)
            if name in index:
                kept[index[name]] = entry
                kept.at[index[name]] = position
            else:
                index[name] = len(kept)
                kept.add(entry, position)
        return kept


def refuse_duplicates(entries: Sequence[Any], place: Place) -> None:
    """Raise `ConfigError` for the first of `entries` that is equal to an earlier one."""
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            raise place.child(index).refuse(f"{entry} stands there twice")


def before_equals(entry: Any) -> str:
    """Return what names a `key=value` entry: its key."""
    return values.text_of(entry).partition("=")[0]


class Pairs(Form):
    """A mapping of texts that may be written as a sequence of `KEY=value`; a key without a value is ""."""

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping; the last entry of a key counts."""
        if not isinstance(value, Seq):
            return value
        pairs = Map()
        for index, entry in enumerate(value):
            name, equals, text = values.text_of(entry).partition("=")
            if name[-1:].isspace():
                raise place.child(index).refuse(f"{name!r} ends with a space")
            pairs.put(name, text if equals else None, value.at[index])
        return pairs

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' pairs; the later file's count."""
        if not isinstance(base, Map) or not isinstance(over, Map):
            return super().merge(base, over)
        return _merge_maps(base, over, lambda name: REPLACED)

    def read(self, value: Any, place: Place) -> Any:
        """Return the texts, sorted by key."""
        return {name: self.text(name, value[name], place) for name in sorted(value)}

    def text(self, name: str, value: Any, place: Place) -> str | None:
        """Return one value."""
        return "" if value is None else values.text_of(value)


class Variables(Pairs):
    """Pairs in which a key without a value takes the shell's or `.env`'s."""

    def text(self, name: str, value: Any, place: Place) -> str | None:
        """Return one value, None where neither the file nor the environment has one."""
        return place.context.environment.get(name) if value is None else values.text_of(value)


class Arguments(Variables):
    """Variables of which those without a value anywhere are left out: a build's `args`."""

    def read(self, value: Any, place: Place) -> Any:
        """Return the texts, sorted by key."""
        return {name: text for name, text in super().read(value, place).items() if text is not None}


class Options(MapOf):
    """A mapping of texts, such as a log driver's options; never a sequence."""

    def __init__(self) -> None:
        """Read each entry as text."""
        super().__init__(Scalar(lambda value: "" if value is None else values.text_of(value)))

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' pairs; the later file's count."""
        return super().merge(base, over)


class Replaced(Form):
    """A value that a later file replaces whole, with nothing too."""

    def merge(self, base: Any, over: Any) -> Any:
        """Return the later one."""
        return over


class Command(Replaced):
    """A command: a sequence of words, or one text that is split into words."""

    def read(self, value: Any, place: Place) -> Any:
        """Return the words."""
        return values.split_command(value) if isinstance(value, str) else [values.text_of(word) for word in value]


class Test(Replaced):
    """A health check's test: a text for the container's shell, or CMD, CMD-SHELL or NONE and its words."""

    def read(self, value: Any, place: Place) -> Any:
        """Return the words, the first of them the kind."""
        words = ["CMD-SHELL", value] if isinstance(value, str) else [values.text_of(word) for word in value]
        if words and words[0] not in ("CMD", "CMD-SHELL", "NONE"):
            raise ValueError("must begin with CMD, CMD-SHELL or NONE")
        return words


class Refused(Form):
    """A key of which all but harmless values are refused, because it hands the machine over."""

    def __init__(self, why: str, harmless: tuple[Any, ...], then: Form) -> None:
        """Hold the reason, the values that are fine, and how those are read."""
        self.why = why
        self.harmless = harmless
        self.then = then

    def read(self, value: Any, place: Place) -> Any:
        """Return a harmless value read. Raises `ValueError` with the reason for any other."""
        read = self.then.read(value, place)
        if read not in self.harmless:
            raise ValueError(f"is refused: it {self.why}")
        return read


def clean(target: str) -> str:
    """Return a path inside of a container as Go's path.Clean writes it."""
    cleaned = posixpath.normpath(target)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def is_empty(value: Any) -> bool:
    """Return whether Go's omitempty leaves the value out."""
    return (
        value is None or value is False or value == "" or value == 0 or (isinstance(value, (dict, list)) and not value)
    )


def attempt(step: Callable[[Any, Place], Any], value: Any, place: Place) -> Any:
    """Return what a step makes of a value; a `ValueError` of it becomes the error that names the place."""
    try:
        return step(value, place)
    except ValueError as error:
        raise place.refuse(str(error)) from error


def _each(mapping: Map, step: Callable[[str, Any], Any], place: Place) -> Map:
    result = Map()
    for name, entry in mapping.items():
        try:
            result.put(name, step(name, entry), mapping.at.get(name))
        except ValueError as error:
            raise place.child(name).refuse(str(error)) from error
    return result


def _merge_maps(base: Map, over: Map, form: Callable[[str], Form]) -> Map:
    result = Map(base)
    result.at.update(base.at)
    for name, entry in over.items():
        try:
            merged = form(name).merge(base[name], entry) if name in base else entry
        except OtherKindError as error:
            raise OtherKindError(error.kind, (name, *error.path)) from None
        result.put(name, merged, over.at.get(name) if name not in base or entry is not None else None)
    return result


class Anything(Form):
    """An extension: any value at all, mappings merged and sequences appended."""

    def merge(self, base: Any, over: Any) -> Any:
        """Return both, the later one's scalars first."""
        if isinstance(base, Map) and isinstance(over, Map):
            return _merge_maps(base, over, lambda name: self)
        if isinstance(base, Seq) and isinstance(over, Seq):
            return Seq([*base, *over], [*base.at, *over.at])
        if isinstance(base, (Map, Seq)) and over is not None:
            raise OtherKindError("a mapping" if isinstance(base, Map) else "a list")
        return super().merge(base, over)


ANY = Anything()
REPLACED = Replaced()
