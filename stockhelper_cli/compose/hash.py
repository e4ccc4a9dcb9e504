"""Config hashes: how Compose recognises that what runs is not what is wanted.

A hash is the SHA-256 of the Go structure's JSON. The canonical form is that JSON already, in the structure's order;
what remains is Go's way of writing it, and the keys that do not count. Observed with Compose 2.40.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from stockhelper_cli.compose.keys import SERVICE
from stockhelper_cli.compose.values import format_json_float

#: The versions of Compose that write a config hash differently: before 5.0, and from it on.
Profile: TypeAlias = Literal["2.40", "5.0"]

#: Made once: `json.dumps` would make one anew for every key and value.
_encode = json.JSONEncoder(ensure_ascii=False).encode
#: Keys of a service that change nothing about its containers.
UNHASHED = frozenset(key.name for key in SERVICE.keys if not key.hashed)


def service_hash(spec: Mapping[str, Any], profile: Profile = "2.40") -> str:
    """Return the config hash of a service's canonical form."""
    counted = {key: value for key, value in spec.items() if key not in UNHASHED}
    if profile == "5.0" and "volumes" in counted:
        counted["volumes"] = [_bind_of_5(volume) for volume in counted["volumes"]]
    return digest(counted)


def network_hash(spec: Mapping[str, Any]) -> str:
    """Return the config hash of a network's canonical form."""
    return digest(spec)


def volume_hash(spec: Mapping[str, Any]) -> str:
    """Return the config hash of a volume's canonical form; no driver counts as `local`."""
    named = {key: value for key, value in spec.items() if key == "name"}
    rest = {key: value for key, value in spec.items() if key not in ("name", "driver")}
    return digest({**named, "driver": spec.get("driver") or "local", **rest})


def digest(value: Any) -> str:
    """Return the SHA-256, 64 hex digits, of a value's JSON as Go writes it."""
    import hashlib

    return hashlib.sha256(go_json(value).encode()).hexdigest()


def go_json(value: Any) -> str:
    """Return JSON byte for byte as Go's json.Marshal writes it; the order of mappings is kept."""
    if isinstance(value, str):
        return _go_string(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_go_string(key)}:{go_json(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(go_json(entry) for entry in value) + "]"
    if isinstance(value, float):
        return format_json_float(value)
    return json.dumps(value)


def _go_string(text: str) -> str:
    written = _encode(text)
    for character in "<>&\u2028\u2029":
        if character in written:
            written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def _bind_of_5(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    if "bind" not in volume or not volume["bind"].get("create_host_path"):
        return volume
    bind = {key: value for key, value in volume["bind"].items() if key != "create_host_path"}
    return {key: bind if key == "bind" else value for key, value in volume.items()}
