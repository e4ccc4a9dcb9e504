"""Env files by Compose's rules: `.env`, `--env-file` and a service's `env_file`.

One parser for all of them. The rules are compose-go's (`dotenv` of 2.9.1), not those of the shell or python-dotenv:

    KEY=value            up to the line's end or ` #`, blanks around it trimmed, variables expanded
    KEY="value"          escapes (\\n \\t \\" \\$ \\\\ \\0101 …) and variables expanded; may span lines
    KEY='value'          literal, only \\' is a quote; may span lines
    export KEY=value     the same as without `export`
    KEY: value           the same as `=`
    KEY                  the shell's value, nothing if it has none

A variable is the shell's, then an earlier one of the file. A byte order mark and CRLF are accepted. Two things are
stricter here: a key that is set twice, and anything that is not UTF-8 text, are refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import ChainMap
from collections.abc import Iterator, Mapping
from pathlib import Path

from stockhelper_cli.compose.interpolate import InterpolationError, interpolate
from stockhelper_cli.errors import ConfigError

#: What Go's unicode.IsSpace takes for space; Python's str.isspace takes four control characters more.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_BLANK = "\t\v\f\r \x85\xa0"
#: What stands between two settings: blank space and comments.
_BETWEEN = re.compile(f"[{_SPACE}]*(?:#[^\n]*[{_SPACE}]*)*")
_EXPORT = re.compile(r"export[ \t\n\f\r]+")
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0[0-9]{0,3})')
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}


class Dotenv(Mapping[str, str]):
    """What one env file sets: a mapping of resolved values that knows each key's line."""

    def __init__(
        self, path: Path, shown: str, values: Mapping[str, str], lines: Mapping[str, int], unset: tuple[str, ...]
    ) -> None:
        """Hold `values` of the file `path`, which messages call `shown`; `unset` were expanded to nothing."""
        self.path = path
        self.shown = shown
        self.unset = unset
        self._values = dict(values)
        self._lines = dict(lines)

    def line(self, key: str) -> int:
        """Return the line, from 1, where the file names `key`. Raises `KeyError`."""
        return self._lines[key]

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def load_dotenv(
    path: Path,
    environ: Mapping[str, str] | None = None,
    *,
    earlier: Mapping[str, str] | None = None,
    shown: str = "",
) -> Dotenv:
    """Return what the env file `path` sets.

    Variables are looked up in `environ` (the shell's), then among the file's own, then in `earlier` (files before
    it). Messages call the file `shown`, or by its path; they never hold a value, which may be a secret.

    Raises `ConfigError` (config.env, config.env_missing) that names the file and, where there is one, the line.
    """
    shown = shown or str(path)
    return _Parser(path, shown, read_text(path, shown), environ or {}, earlier or {}).parse()


def place_of(key: str, environment: Mapping[str, str], dotenv: Dotenv | None) -> str:
    """Return where a key of the resolved environment was set: `.env:9`, or `environment` for the shell's."""
    if dotenv is not None and key in dotenv and dotenv[key] == environment.get(key):
        return f"{dotenv.shown}:{dotenv.line(key)}"
    if key in environment:
        return "environment"
    return dotenv.shown if dotenv is not None else ".env"


def read_text(path: Path, shown: str = "", *, code: str = "config.env") -> str:
    """Return a file's text, without a byte order mark. Raises `ConfigError` with `code` if it is not UTF-8 text."""
    shown = shown or str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        missing = "config.env_missing" if code == "config.env" else code
        raise ConfigError(missing, f"{shown}: there is no such file") from error
    except IsADirectoryError as error:
        raise ConfigError(code, f"{shown}: is a folder, not a file") from error
    except OSError as error:
        raise ConfigError(code, f"{shown}: cannot be read", cause=error.strerror or str(error)) from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigError(code, f"{shown}:1: is UTF-16; save it as UTF-8")
    if b"\0" in raw:
        raise ConfigError(code, f"{shown}:{_line(raw, raw.index(0))}: holds a NUL byte; it is not a text file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(code, f"{shown}:{_line(raw, error.start)}: is not UTF-8; save it as UTF-8") from error


def _line(raw: bytes, offset: int) -> int:
    return raw.count(b"\n", 0, offset) + 1


class _Parser:
    def __init__(
        self, path: Path, shown: str, text: str, environ: Mapping[str, str], earlier: Mapping[str, str]
    ) -> None:
        self.path = path
        self.shown = shown
        self.text = text
        self.environ = environ
        self.earlier = earlier
        self.position = self.counted = 0
        self.line = 1
        self.values: dict[str, str] = {}
        self.variables = ChainMap(dict(environ), self.values, dict(earlier))
        self.lines: dict[str, int] = {}
        self.unset: list[str] = []

    def parse(self) -> Dotenv:
        while self._find_statement():
            line = self.line
            key, inherited = self._key(line)
            if key in self.lines:
                raise self._refuse(line, f"{key} is set a second time; the first is in line {self.lines[key]}")
            self.lines[key] = line
            if not inherited:
                self.values[key] = self._value(line)
            elif (value := self.environ.get(key, self.earlier.get(key))) is not None:
                self.values[key] = value
        known = {key: line for key, line in self.lines.items() if key in self.values}
        return Dotenv(self.path, self.shown, self.values, known, tuple(self.unset))

    def _find_statement(self) -> bool:
        skipped = _BETWEEN.match(self.text, self.position)
        assert skipped is not None
        self.line += self.text.count("\n", self.counted, skipped.end())
        self.position = self.counted = skipped.end()
        return self.position < len(self.text)

    def _key(self, line: int) -> tuple[str, bool]:
        if export := _EXPORT.match(self.text, self.position):
            self.position = export.end()
        start = self.position
        for offset in range(start, len(self.text)):
            character = self.text[offset]
            if character in "=:\n":
                break
            if not (character in _BLANK or character in "_.-[]" or _is_letter(character)):
                # The rest of the line is not told: it may be a piece of a secret.
                raise self._refuse(line, f"unexpected character {character!r} in a variable's name")
        else:
            # The last line, without a line end: Compose 2.40 takes the name for a nameless variable's value.
            offset, character = len(self.text), "\n"
        key = self.text[start:offset].rstrip(_SPACE)
        if not key:
            raise self._refuse(line, "a value without a name")
        if " " in key:
            raise self._refuse(line, "a name holds a space")
        self.position = min(offset + 1, len(self.text))
        while self.position < len(self.text) and self.text[self.position] in _BLANK:
            self.position += 1
        return key, character == "\n"

    def _value(self, line: int) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote not in ("'", '"') or not quote:
            end = self.text.find("\n", self.position)
            end = len(self.text) if end < 0 else end
            value = self.text[self.position : end].partition(" #")[0].rstrip(_SPACE)
            self.position = min(end + 1, len(self.text))
            return self._expand(value, line)
        characters: list[str] = []
        escaped = False
        for offset in range(self.position + 1, len(self.text)):
            character = self.text[offset]
            if character == quote and not escaped:
                self.position = offset + 1
                if "\n" in characters and not self._ends_here():
                    break
                value = "".join(characters)
                return self._expand(_ESCAPE.sub(_unescape, value), line) if quote == '"' else value
            if character == "\\" and not escaped:
                escaped = True
                continue
            if escaped and character != quote:
                characters.append("\\")
            escaped = False
            characters.append(character)
        raise self._refuse(line, f"the quote that {quote} opens is not closed")

    def _ends_here(self) -> bool:
        """Whether nothing but a comment follows on this line.

        After a value of several lines anything else is an apostrophe further down that was taken for the missing quote.
        """
        rest = self.text[self.position :].partition("\n")[0].strip(_SPACE)
        return not rest or rest.startswith("#")

    def _expand(self, value: str, line: int) -> str:
        try:
            return interpolate(value, self.variables, self.unset.append)
        except InterpolationError as error:
            raise self._refuse(line, str(error)) from error

    def _refuse(self, line: int, what: str) -> ConfigError:
        return ConfigError("config.env", f"{self.shown}:{line}: {what}")


def _is_letter(character: str) -> bool:
    return character.isalnum() if character.isascii() else unicodedata.category(character)[0] in "LN"


def _unescape(match: re.Match[str]) -> str:
    text = match.group()
    if text == r"\$":
        return "$$"
    if text[1] != "0":
        return _ESCAPED.get(text[1], text)
    digits = text[2:]
    if re.fullmatch("[0-3][0-7][0-7]", digits):
        return chr(int(digits, 8))
    return "\\" + digits
