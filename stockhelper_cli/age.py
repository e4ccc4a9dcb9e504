"""Encryption in the age format (https://age-encryption.org/v1), streamed: memory does not grow with what goes through.

Recipients are public keys, `age1…` or of SSH (ed25519, RSA); identities are the private ones that open what was
encrypted to them. The library reads and writes files; what goes through here comes and goes piece by piece, so it does
its work in a thread of its own, at the other end of a pipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from stockhelper_cli.errors import ConfigError, StockhelperError

if TYPE_CHECKING:
    from pyrage import ssh, x25519

    Recipient: TypeAlias = x25519.Recipient | ssh.Recipient
    Identity: TypeAlias = x25519.Identity | ssh.Identity

#: What an encrypted file begins with, in binary or as text.
MAGIC: Final = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_PRIVATE: Final = "AGE-SECRET-KEY-"
_PIECE_BYTES: Final = 1 << 18


class NoKeyFits(Exception):
    """None of the identities opens it."""


class Broken(Exception):
    """It is not what was encrypted: cut off, changed, or something else; the text says how that shows."""


def recipient(key: str) -> Recipient:
    """Read a public key. Raises `ValueError`, which never shows a private one."""
    import pyrage

    if _PRIVATE in key.upper():
        raise ValueError("holds a private key; what belongs there is its public one (age-keygen -y prints it)")
    kind = pyrage.ssh if key.startswith("ssh-") else pyrage.x25519
    try:
        found: Recipient = kind.Recipient.from_str(key)
    except pyrage.RecipientError as error:
        raise ValueError(f"holds {key!r}, which is no public key of age (age1…) or SSH") from error
    return found


def split(keys: str) -> list[str]:
    """Return the public keys that a comma-separated list names."""
    return [key for part in keys.split(",") if (key := part.strip())]


def read_recipients(path: Path) -> list[str]:
    """Return the public keys of a file: one a line, `#` begins a comment, as `age -R` takes it.

    Raises `ConfigError` (config.value), naming the line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(f"{path} cannot be read", getattr(error, "strerror", "") or str(error)) from error
    keys = {n: key for n, line in enumerate(lines, 1) if (key := line.strip()) and not key.startswith("#")}
    for number, key in keys.items():
        try:
            recipient(key)
        except ValueError as error:
            raise _unusable(f"{path}:{number}: {error}") from error
    if not keys:
        raise _unusable(f"{path} names no recipient")
    return list(keys.values())


def _unusable(message: str, cause: str = "") -> ConfigError:
    what = cause or "BACKUP_RECIPIENTS_FILE in .env names it"
    return ConfigError("config.value", message, cause=what, next=["mend BACKUP_RECIPIENTS_FILE"])


def ephemeral() -> Identity:
    """Return a new identity, which is nowhere but in this process."""
    from pyrage import x25519

    return x25519.Identity.generate()


def public_key(identity: Identity) -> str:
    """Return the public key of an identity of age."""
    return str(identity.to_public())


def identities(content: bytes, name: str) -> list[Identity]:
    """Read a file of private keys, as `age -i` takes it: age's, one a line, or one of SSH.

    Raises `StockhelperError` (backup.identity), which never shows a key.
    """
    import pyrage

    found: list[Identity] = []
    number = 0
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer(content)]
        for line in content.decode().splitlines():
            number += 1
            if (key := line.strip()) and not key.startswith("#"):
                found.append(pyrage.x25519.Identity.from_str(key))
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        where = f"{name}:{number}" if number else name
        # An SSH key's complaint says that it wants its passphrase; one of age would quote nothing useful.
        why = "it is protected by a passphrase" if "decrypted first" in str(error) else "no private key of age or SSH"
        raise _no_identity(f"{where} cannot be used to decrypt", why) from error
    if not found:
        raise _no_identity(f"{name} holds no private key", "it is empty, or has comments only")
    return found


def _no_identity(message: str, cause: str) -> StockhelperError:
    return StockhelperError("backup.identity", message, cause=cause, next=["age-keygen -y FILE shows whose key it is"])


class Encryption:
    """Encrypts what is written to it; the result goes to `sink`, in a thread of its own, until `close` has returned."""

    def __init__(self, recipients: Sequence[Recipient], sink: Callable[[bytes], object]) -> None:
        output, given = os.pipe()
        self._input = os.fdopen(given, "wb", buffering=0)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="encrypt")
        self._work = self._pool.submit(_encrypt, output, list(recipients), _Sink(sink))

    def write(self, data: bytes) -> None:
        """Encrypt more. Raises what `sink` raised."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._input.write(rest) :]
        except BrokenPipeError:
            self._work.result()
            raise

    def close(self) -> None:
        """Encrypt the end, and wait for all of it to be in the sink. Raises what `sink` raised."""
        self._input.close()
        self._pool.shutdown()
        self._work.result()


def decrypted(pieces: Iterator[bytes], keys: Sequence[Identity]) -> Iterator[bytes]:
    """Yield what was encrypted.

    `pieces` are read to their end also where they cannot be decrypted: what they raise says more, and is raised then.
    Raises `NoKeyFits` and `Broken`; what was yielded before is genuine, but not all.
    """
    output, given = os.pipe()
    with ThreadPoolExecutor(1, thread_name_prefix="decrypt") as pool, os.fdopen(output, "rb", buffering=0) as plain:
        work = pool.submit(_decrypt, _Source(pieces), given, list(keys))
        while piece := plain.read(_PIECE_BYTES):
            yield piece
        work.result()


def _encrypt(source: int, recipients: Sequence[Recipient], sink: _Sink) -> None:
    import pyrage

    with os.fdopen(source, "rb", buffering=0) as plain:
        try:
            pyrage.encrypt_io(plain, sink, recipients)
        except (pyrage.EncryptError, OSError) as error:
            raise sink.error or error from error


def _decrypt(source: _Source, given: int, keys: Sequence[Identity]) -> None:
    import pyrage

    with os.fdopen(given, "wb", buffering=0) as plain:
        sink = _Sink(plain.write)
        try:
            pyrage.decrypt_io(source, sink, keys)
            source.drain()
        except (pyrage.DecryptError, OSError) as error:
            if isinstance(sink.error, BrokenPipeError):
                return  # nobody wants the rest
            source.drain()
            if "No matching keys" in str(error):
                raise NoKeyFits from error
            raise Broken(_cause(error)) from error


def _cause(error: Exception) -> str:
    text = str(error)
    return "the file ends too early" if "truncated" in text or "fill whole" in text or "ncomplete" in text else text


class _Sink:
    """A file to the library; keeps what went wrong, of which the library passes on the text only."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self.error: Exception | None = None

    def write(self, data: bytes) -> int:
        try:
            self._take(data)
        except Exception as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class _Source:
    """A file to the library, of pieces of any size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        if not self._rest:
            try:
                self._rest = memoryview(next(self._pieces, b""))
            except Exception as error:
                self._error = error
                raise
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def drain(self) -> None:
        """Read to the end. Raises what the pieces raise, or have raised."""
        if self._error is not None:
            raise self._error
        for _ in self._pieces:
            pass
