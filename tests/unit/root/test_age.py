"""Encryption as a stream: what goes in comes out, whatever its size, and who stops early holds up nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyrage
import pytest

from stockhelper_cli import age
from stockhelper_cli.errors import StockhelperError

CHUNK = 64 * 1024
KEY = age.ephemeral()
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHPWSA8cU/FmNxYQyucxcEyYxJFhnobIFbnzgEkm0cZ somebody@somewhere"


def encrypted(data: bytes, pieces: int = 100_000) -> bytes:
    written = bytearray()
    work = age.Encryption([age.recipient(age.public_key(KEY))], written.extend)
    for start in range(0, len(data), pieces):
        work.write(data[start : start + pieces])
    work.close()
    return bytes(written)


def cut(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7])
def test_what_goes_in_comes_out(size: int) -> None:
    data = os.urandom(size)
    sealed = encrypted(data)
    assert b"".join(age.decrypted(cut(sealed), [KEY])) == data
    assert pyrage.decrypt(sealed, [KEY]) == data


def test_another_key_and_a_changed_file_are_told_apart() -> None:
    sealed = encrypted(os.urandom(3 * CHUNK))
    with pytest.raises(age.NoKeyFits):
        list(age.decrypted(cut(sealed), [age.ephemeral()]))
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for changed in (sealed[:-1], sealed[: -CHUNK - 16], flipped, sealed + b"x", b"", b"x" * 1000):
        with pytest.raises(age.Broken):
            list(age.decrypted(cut(changed), [KEY]))


def test_what_the_pieces_raise_says_more_and_is_raised() -> None:
    def pieces(sealed: bytes) -> Iterator[bytes]:
        yield from cut(sealed)
        raise StockhelperError("backup.damaged", "its checksum is another")

    sealed = encrypted(os.urandom(3 * CHUNK))
    for each in (sealed, sealed[:-1], sealed[:50]):
        for key in (KEY, age.ephemeral()):
            with pytest.raises(StockhelperError, match="its checksum is another"):
                list(age.decrypted(pieces(each), [key]))


def test_who_stops_early_waits_for_nothing() -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        for piece in cut(sealed):
            read += len(piece)
            yield piece

    sealed = encrypted(bytes(100 * CHUNK))
    opening = age.decrypted(pieces(), [KEY])
    next(opening)
    del opening
    assert read < len(sealed) / 2


def test_what_the_sink_raises_ends_the_writing() -> None:
    def full(data: bytes) -> None:
        raise StockhelperError("backup.failed", "no space left")

    work = age.Encryption([age.recipient(age.public_key(KEY))], full)
    with pytest.raises(StockhelperError, match="no space left"):
        work.write(bytes(100 * CHUNK))
    with pytest.raises(StockhelperError, match="no space left"):
        work.close()


def test_keys_of_age_and_ssh_are_public_keys_and_others_are_not() -> None:
    assert age.split(f" {age.public_key(KEY)},, {SSH} ") == [age.public_key(KEY), SSH]
    age.recipient(SSH)
    public = age.public_key(KEY)
    mistyped = public[:-1] + ("p" if public.endswith("q") else "q")
    for bad in ("age1nonsense", mistyped, "ssh-ed25519 AAAA", "somebody", SSH[4:]):
        with pytest.raises(ValueError, match="is no public key"):
            age.recipient(bad)
    with pytest.raises(ValueError, match="holds a private key") as raised:
        age.recipient(str(KEY).lower())
    assert str(KEY).lower() not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [("", "it is empty"), ("# a comment\n", "it is empty"), ("AGE-SECRET-KEY-1ABC", "no private key")],
)
def test_what_is_no_private_key_is_refused_and_not_shown(content: str, cause: str) -> None:
    with pytest.raises(StockhelperError) as raised:
        age.identities(content.encode(), "key.txt")
    assert (raised.value.code, cause in raised.value.cause) == ("backup.identity", True)
    assert "SECRET" not in raised.value.message + raised.value.cause
