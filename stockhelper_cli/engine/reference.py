"""The names of images: what their parts are, where they lead to, and by which name a mirror has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: The key of .env that names a mirror of the public registry.
MIRROR_KEY: Final = "REGISTRY_MIRROR"
_DIGEST: Final = re.compile(r"(.+)@(sha256:[0-9a-f]{64})")
_MIRROR: Final = re.compile(
    r"(?=[^/]*[.:]|localhost(?:/|$))"  # else it would be read as a part of a name of the public registry
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name taken apart; `tag` and `digest` ("sha256:…") are "" where it has none."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def host(self) -> str:
        """The host of its registry, "" for the public one, as the engine tells them apart."""
        host, slash, _ = self.repository.partition("/")
        return host if slash and ("." in host or ":" in host or host == "localhost") else ""

    @property
    def version(self) -> str:
        """What is asked for of the repository: the digest, which counts more than a tag beside it, or the tag."""
        return self.digest or self.tag or "latest"

    @property
    def tagged(self) -> str:
        """The name that the engine knows it by without its digest; "" if that is all there is."""
        return "" if self.digest and not self.tag else f"{self.repository}:{self.tag or 'latest'}"

    def __str__(self) -> str:
        """Return it as the engine takes it."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(reference: str) -> Reference:
    """Return the parts of an image's name."""
    pinned = _DIGEST.fullmatch(reference)
    named, digest = pinned.groups() if pinned else (reference, "")
    repository, colon, tag = named.rpartition(":")
    return Reference(repository, tag, digest) if colon and "/" not in tag else Reference(named, "", digest)


def mirrored(reference: Reference, mirror: str) -> Reference | None:
    """Return by which name a mirror has an image; None if there is no mirror, or it is not of the public registry."""
    if not mirror or reference.host:
        return None
    official = "" if "/" in reference.repository else "library/"
    return Reference(f"{mirror}/{official}{reference.repository}", reference.tag, reference.digest)


def mirror_name(value: str) -> str:
    """Return what REGISTRY_MIRROR says if it is such a name: host, port and prefix. Raises `ValueError`."""
    if not _MIRROR.fullmatch(value):
        raise ValueError("is not HOST[:PORT][/PREFIX], as a registry stands before an image's name")
    return value
