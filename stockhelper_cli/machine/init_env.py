"""Writing .env: a new one from .env.example, one key of an existing one."""

from __future__ import annotations

import os
import re
import secrets
import string
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.compose.dotenv import load_dotenv, read_text
from stockhelper_cli.errors import ConfigError, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project

#: Characters of a generated secret: 36 of 64 are more than 210 bits.
SECRET_CHARACTERS: Final = 36
_SECRET = re.compile(r"(PASSWORD|TOKEN|SECRET)\Z")
_ASSIGNMENT = re.compile(r"(?P<head>(?P<key>[A-Za-z_][A-Za-z0-9_]*)=)(?P<value>[^\n]*)")
#: What needs no quotes and means the same to Compose and to a shell.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_QUOTED = re.compile(r"""[^#\n'"=:]+[=:][ \t]*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EnvResult:
    """What became of .env: whether it was written now, the secrets filled in, the example's keys it lacks."""

    path: Path
    created: bool
    generated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def init_env(root: Path) -> EnvResult:
    """Write `root`/.env (mode 0600) from .env.example with every empty secret filled in; an existing one stays.

    Raises `ConfigError` if either file is not usable.
    """
    path, example = root / ".env", root / ".env.example"
    text = read_text(example)
    if path.exists():
        return _existing(path, text)
    generated: list[str] = []
    lines = [_fill_secret(line, generated) for line in text.splitlines(keepends=True)]
    temporary = _write_beside(path, "".join(lines), 0o600)
    try:
        # A link, unlike a rename, never replaces what another run has just written.
        os.link(temporary, path)
    except FileExistsError:
        return _existing(path, text)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink()
    return EnvResult(path, created=True, generated=tuple(generated))


def file_that_decides(project: Project, key: str, environ: Collection[str] = ()) -> Path:
    """Return the env file of a project in which a key may be set; `environ` is the shell's, which would count more.

    Raises `StockhelperError` (usage) where none may.
    """
    dotenv = project.dotenv
    if dotenv is None or key in environ or dotenv.get(key) != project.environment.get(key):
        raise StockhelperError(
            "usage",
            f"{key} is not .env's to decide",
            cause="the shell's environment, or no file at all, sets it",
            next=[f"unset {key}, then the same again"],
        )
    return dotenv.path


def set_value(path: Path, key: str, value: str) -> None:
    """Set one key of an env file in place, atomically; comments, order, mode and owner stay.

    A key that the file has not yet takes the place of its commented line (`#KEY=…`), else comes last. Raises
    `ConfigError` if the file is not usable or cannot be written.
    """
    path = path.resolve()
    before = load_dotenv(path)
    raw = path.read_bytes()
    # As it is, byte order mark and line ends included.
    text = raw.decode()
    newline = "\r\n" if b"\r\n" in raw else "\n"
    assignment = f"{key}={quote(value)}"
    place = _place(text, key)
    if place is not None:
        text = text[: place[0]] + assignment + text[place[1] :]
    else:
        separator = newline if text and not text.endswith("\n") else ""
        text += f"{separator}{assignment}{newline}"
    info = path.stat()
    temporary = _write_beside(path, text, info.st_mode & 0o7777)
    try:
        after = load_dotenv(temporary)
        if after.get(key) != value or any(after.get(other) != before[other] for other in before if other != key):
            raise ConfigError("config.env", f"{path}: {key} cannot be set to {value!r} without touching other keys")
        if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, info.st_uid, info.st_gid)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def recode(path: Path) -> Path:
    """Write an env file that is UTF-16 as UTF-8, atomically; return where the former one is kept, for its owner only.

    Mode and owner stay. Raises `ConfigError` if it is not UTF-16 text, or cannot be written.
    """
    path = path.resolve()
    try:
        raw, info = path.read_bytes(), path.stat()
        text = raw.decode("utf-16")
    except (OSError, UnicodeError) as error:
        raise ConfigError("config.env", f"{path}: cannot be read as UTF-16", cause=str(error)) from error
    kept = path.with_name(f"{path.name}.utf-16")
    temporary = _write_beside(path, text, info.st_mode & 0o7777)
    try:
        if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, info.st_uid, info.st_gid)
        # A link, so that there is no moment without the one or the other.
        kept.unlink(missing_ok=True)
        os.link(path, kept)
        kept.chmod(0o600)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return kept


def quote(value: str) -> str:
    """Return a value as it stands in an env file: bare, in single quotes, or in double ones where those cannot."""
    if _PLAIN.fullmatch(value):
        return value
    # In single quotes nothing is special but \', so no backslash may stand before a quote or the end; and Compose
    # reads CRLF as LF.
    if not re.search(r"\\('|\Z)|\r", value):
        return "'" + value.replace("'", r"\'") + "'"
    for character, escaped in (("\\", r"\\"), ('"', r"\""), ("$", r"\$"), ("\n", r"\n"), ("\r", r"\r")):
        value = value.replace(character, escaped)
    return f'"{value}"'


def _existing(path: Path, example: str) -> EnvResult:
    present = load_dotenv(path)
    wanted = [match["key"] for line in example.splitlines() if (match := _ASSIGNMENT.match(line))]
    return EnvResult(path, created=False, missing=tuple(key for key in wanted if key not in present))


def _fill_secret(line: str, generated: list[str]) -> str:
    match = _ASSIGNMENT.match(line)
    if match is None or match["value"].strip() or not _SECRET.search(match["key"]):
        return line
    generated.append(match["key"])
    return f"{match['head']}{random_secret()}\n"


def random_secret() -> str:
    """Return a new secret, of characters that mean nothing to a parser, a shell or a URL."""
    # token_urlsafe draws from [A-Za-z0-9_-]: nothing that a parser, a shell or a URL takes for its own; and no dash
    # comes first, which would make an option of it.
    return secrets.choice(string.ascii_letters) + secrets.token_urlsafe(SECRET_CHARACTERS)[1:SECRET_CHARACTERS]


def _write_beside(path: Path, text: str, mode: int) -> Path:
    """Write a new file in the same folder, on the disk when this returns, and return its path."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        Path(name).unlink()
        raise _unwritable(path, error) from error
    return Path(name)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError("config.env", f"{path}: cannot be written", cause=error.strerror or str(error))


def _place(text: str, key: str) -> tuple[int, int] | None:
    """Return where a key's statement stands, else its commented line; start and end as offsets."""
    commented: tuple[int, int] | None = None
    for start, end in _statements(text):
        statement = text[start:end]
        if re.match(rf"(export\s+)?{re.escape(key)}\s*(=|:|\Z)", statement):
            return start, end
        if commented is None and statement.startswith(f"#{key}="):
            commented = start, end
    return commented


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """Yield the offsets of each comment line and each assignment, whose quoted value may span lines."""
    position = 0
    while position < len(text):
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        start = position + len(text[position:line_end]) - len(text[position:line_end].lstrip("\ufeff \t"))
        end = line_end
        if match := _QUOTED.match(text, start):
            end = text.find("\n", match.end())
            end = len(text) if end < 0 else end
        yield start, end - 1 if text[start:end].endswith("\r") else end
        position = end + 1
