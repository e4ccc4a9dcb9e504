"""What a service mounts: volumes and folders, with their short syntax `[source:]target[:options]`, and secrets."""

from __future__ import annotations

import posixpath
from typing import Any

from stockhelper_cli.compose.document import Map
from stockhelper_cli.compose.forms import BOOLEAN, SIZE, TEXT, Form, Key, ListOf, Omit, Place, Scalar, Struct, clean

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_SELINUX = ("z", "Z")
#: Hints for Docker Desktop; Compose ignores them, and so does an engine on Linux.
_CONSISTENCIES = ("cached", "consistent", "delegated")
_TYPES = ("bind", "volume", "tmpfs")

#: Who can write to one of these sockets is root on the machine.
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")
_SOCKET_FOLDERS = ("/", "/run", "/var", "/var/run")


def parse_mount(spec: str) -> Map:
    """Return the long form of a short one. Raises `ValueError`.

    A single letter before a colon is a Windows drive to Compose, so `v:/data` is no volume `v`.
    """
    if not spec:
        raise ValueError("is empty")
    if len(spec) < 3:
        return Map({"type": "volume", "target": clean(spec)})
    sections = _sections(spec)
    if "" in sections:
        raise ValueError(f"{spec!r} has an empty section between colons")
    if len(sections) > 3:
        raise ValueError(f"{spec!r} has too many colons")
    source, target = ("", sections[0]) if len(sections) == 1 else (sections[0], sections[1])
    bind = is_path(source)
    mount = Map({"type": "bind" if bind else "volume", "target": clean(target)})
    if source:
        mount["source"] = source
    options = Map({"create_host_path": True} if bind else {})
    for option in sections[2].split(",") if len(sections) == 3 else ():
        if option in ("ro", "rw"):
            mount["read_only"] = option == "ro"
        elif option == "nocopy" and not bind:
            options["nocopy"] = True
        elif option in _PROPAGATIONS and bind:
            options["propagation"] = option
        elif option in _SELINUX and bind:
            options["selinux"] = option
        elif option not in _CONSISTENCIES:
            raise ValueError(f"{spec!r} has the unknown option {option!r}")
    mount["bind" if bind else "volume"] = options
    return mount


def _sections(spec: str) -> list[str]:
    sections = [""]
    for character in spec:
        if character == ":" and not (len(sections[-1]) == 1 and sections[-1].isalpha()):
            sections.append("")
        else:
            sections[-1] += character
    return sections


def is_path(source: str) -> bool:
    """Return whether a mount's source is a path of the machine and not a volume's name."""
    return source[:1] in (".", "/", "~") if source else False


def parse_mode(value: Any) -> int:
    """Return a file mode, which YAML reads from octal digits."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not a file mode; write it without quotes, as in 0755")
    return value


#: compose-go's ServiceVolumeConfig and what it holds.
MOUNT = Struct(
    Key("type", TEXT),
    Key("source", TEXT),
    Key("target", TEXT),
    Key("read_only", BOOLEAN),
    Key(
        "bind",
        Struct(Key("selinux", TEXT), Key("propagation", TEXT), Key("create_host_path", BOOLEAN)),
        omit=Omit.UNSET,
    ),
    Key("volume", Struct(Key("nocopy", BOOLEAN)), omit=Omit.UNSET),
    Key("tmpfs", Struct(Key("size", SIZE), Key("mode", Scalar(parse_mode))), omit=Omit.UNSET),
)


class Mounts(ListOf):
    """The volumes of a service."""

    def __init__(self) -> None:
        """Two mounts are the same if their targets are."""
        super().__init__(MOUNT, unique=lambda mount: mount.get("target"))

    def expand(self, entry: Any, place: Place) -> list[Any]:
        """Return the long form of one entry."""
        if isinstance(entry, Map):
            return [entry]
        try:
            return [parse_mount(entry)]
        except ValueError as error:
            raise place.refuse(str(error)) from error

    def read(self, value: Any, place: Place) -> Any:
        """Return the mounts, paths made absolute. Refuses the engine's socket."""
        mounts = []
        for index, entry in enumerate(value):
            at = place.child(index)
            mount = MOUNT.read(entry, at)
            if mount["type"] not in _TYPES:
                raise at.child("type").refuse(f"a mount of type {mount['type']} is not supported by stockhelper")
            if "target" not in mount:
                raise at.refuse("has no target")
            mount["target"] = clean(mount["target"])
            if mount["type"] == "bind":
                if "source" not in mount:
                    raise at.refuse("a bind has no source")
                mount["source"] = at.absolute(mount["source"])
                refuse_socket(mount["source"], at)
            mounts.append(mount)
        return mounts


def refuse_socket(source: str, place: Place) -> None:
    """Refuse a path that is the engine's socket, or a folder that holds it. Raises `ConfigError`."""
    path = posixpath.normpath(source)
    if posixpath.basename(path) in _SOCKETS or path in _SOCKET_FOLDERS:
        raise place.refuse(f"is refused: {source} holds the engine's socket, which hands over the whole machine")


class SecretMount(Form):
    """Where a secret is mounted: its name, or a mapping of `source` and `target`."""

    _struct = Struct(Key("source", TEXT), Key("target", TEXT))

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping."""
        return self._struct.canonical(value, place) if isinstance(value, Map) else Map({"source": value})

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping; without a target, /run/secrets and the secret's name."""
        mount = self._struct.read(value, place)
        return {"source": mount["source"], "target": mount.get("target") or f"/run/secrets/{mount['source']}"}


def secret_name(mount: Map) -> str:
    """Return what makes two secrets of a service the same: where they are mounted."""
    return str(mount.get("target") or f"/run/secrets/{mount.get('source')}")
