"""Forms with a short syntax or a rule of merging of their own."""

from __future__ import annotations

import ipaddress
from typing import Any

from stockhelper_cli.compose import values
from stockhelper_cli.compose.document import Map, Seq
from stockhelper_cli.compose.forms import (
    BOOLEAN,
    INTEGER,
    TEXT,
    Form,
    Key,
    ListOf,
    MapOf,
    Omit,
    Options,
    Place,
    Replaced,
    Struct,
    before_equals,
    refuse_duplicates,
)

_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


class BuildOrContext(Struct):
    """A build, or only its context."""

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping."""
        if isinstance(value, str):
            context = Map()
            context.put("context", value, place.position)
            return context
        return super().canonical(value, place)

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping with its defaults, the context made absolute."""
        build = {"context": ".", "dockerfile": "Dockerfile", **super().read(value, place)}
        context = build["context"]
        if "://" in context or context.startswith(("github.com/", "git@", "service:")):
            raise place.child("context").refuse("a remote context is not supported by stockhelper")
        build["context"] = place.absolute(context)
        return {key.name: build[key.name] for key in self.keys if key.name in build}


class Dependencies(Form):
    """`depends_on`: names, or a mapping of conditions."""

    _entries = MapOf(
        Struct(
            Key("condition", TEXT),
            Key("restart", BOOLEAN),
            Key("required", BOOLEAN, omit=Omit.NEVER, default=True),
        )
    )

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping; a name alone waits for the start only."""
        if not isinstance(value, Seq):
            return value
        refuse_duplicates(value, place)
        entries = Map()
        for name, position in zip(value, value.at, strict=True):
            entries.put(name, Map({"condition": "service_started", "required": True}), position)
        return entries

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' entries, those in both merged."""
        return self._entries.merge(base, over)

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping, sorted by name."""
        entries = self._entries.read(value, place)
        for name, entry in entries.items():
            entry.setdefault("condition", "service_started")
            if entry["condition"] not in _CONDITIONS:
                raise place.child(name).refuse(f"the condition must be one of {', '.join(_CONDITIONS)}")
        order = ("condition", "restart", "required")
        return {name: {key: entry[key] for key in order if key in entry} for name, entry in entries.items()}


#: compose-go's ServiceNetworkConfig.
ATTACHMENT = Struct(
    Key("aliases", ListOf(TEXT, unique=before_equals)),
    Key("driver_opts", Options()),
    Key("ipv4_address", TEXT),
    Key("ipv6_address", TEXT),
    Key("priority", INTEGER),
)


class Attachments(Form):
    """A service's networks: names, or a mapping; nothing at all is the network `default`."""

    _entries = MapOf(ATTACHMENT)

    def canonical(self, value: Any, place: Place) -> Any:
        """Return the mapping."""
        if not isinstance(value, Seq):
            return self._entries.canonical(value, place)
        refuse_duplicates(value, place)
        entries = Map()
        for name, position in zip(value, value.at, strict=True):
            entries.put(name, None, position)
        return entries

    def merge(self, base: Any, over: Any) -> Any:
        """Return both mappings' networks, those in both merged."""
        return self._entries.merge(base, over)

    def read(self, value: Any, place: Place) -> Any:
        """Return the mapping, sorted by name; None for a network without settings."""
        networks: dict[str, Any] = {}
        for name in sorted(value):
            at = place.child(name)
            networks[name] = None if value[name] is None else ATTACHMENT.read(value[name], at)
            for key, version in (("ipv4_address", 4), ("ipv6_address", 6)):
                address = (networks[name] or {}).get(key)
                if address is not None and not _is_address(address, version):
                    raise at.child(key).refuse(f"{address!r} is not an IPv{version} address")
        return networks or {"default": None}


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


class EnvFiles(ListOf):
    """`env_file`: paths, or mappings that may say that a file is not required."""

    _entry = Struct(Key("path", TEXT), Key("required", BOOLEAN, omit=Omit.NEVER, default=True))

    def __init__(self) -> None:
        """Two entries are the same if their paths are."""
        super().__init__(self._entry, unique=lambda entry: entry.get("path"))

    def expand(self, entry: Any, place: Place) -> list[Any]:
        """Return the long form of one entry."""
        return [entry if isinstance(entry, Map) else Map({"path": entry})]

    def read(self, value: Any, place: Place) -> Any:
        """Return the entries, paths made absolute. One that is not required may be without, as a blank variable is."""
        files = []
        for index, entry in enumerate(super().read(value, place)):
            if "path" in entry:
                files.append({**entry, "path": place.absolute(entry["path"])})
            elif entry["required"]:
                raise place.child(index).refuse("names no file")
        return files


class Servers(ListOf):
    """`dns`: addresses, of which empty ones are left out, so that a variable may be blank."""

    def __init__(self) -> None:
        """Each address counts once."""
        super().__init__(TEXT, unique=before_equals)

    def expand(self, entry: Any, place: Place) -> list[Any]:
        """Return the entry unless it is empty."""
        return [entry] if entry else []


class Hosts(Form):
    """`extra_hosts`: `host=ip` or `host:ip` entries, or a mapping of a host to an address or several."""

    def canonical(self, value: Any, place: Place) -> Any:
        """Return a sequence of entries."""
        if isinstance(value, Seq):
            refuse_duplicates(value, place)
        if not isinstance(value, Map):
            return value
        entries = Seq()
        for host in sorted(value):
            addresses = value[host] if isinstance(value[host], Seq) else [value[host]]
            for address in addresses:
                entries.add(f"{host}={'' if address is None else address}", value.at.get(host))
        return entries

    def merge(self, base: Any, over: Any) -> Any:
        """Return the earlier entries and then those of the later ones that are new."""
        if not isinstance(base, Seq) or not isinstance(over, Seq):
            return super().merge(base, over)
        new = [(entry, at) for entry, at in zip(over, over.at, strict=True) if entry not in base]
        return Seq([*base, *(entry for entry, _ in new)], [*base.at, *(at for _, at in new)])

    def read(self, value: Any, place: Place) -> Any:
        """Return the entries as `host=ip`, sorted."""
        hosts: list[str] = []
        for index, entry in enumerate(value):
            separator = "=" if "=" in entry else ":"
            host, found, addresses = entry.partition(separator)
            if not found or not host or ":" in host:
                raise place.child(index).refuse(f"{entry!r} is not an entry of the form host=ip")
            for address in addresses.split(","):
                bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
                hosts.append(f"{host}={bare}")
        return sorted(hosts)


class Ulimit(Replaced):
    """One limit for both, or a soft and a hard one."""

    _pair = Struct(Key("soft", INTEGER), Key("hard", INTEGER))

    def read(self, value: Any, place: Place) -> Any:
        """Return the number, or the mapping of two."""
        if isinstance(value, Map):
            return self._pair.read(value, place)
        # Go writes a limit of zero as a pair without entries.
        return values.parse_integer(values.parse_code(value)) or {}


class Logging(Struct):
    """A log driver and its options, which another driver's do not inherit."""

    def merge(self, base: Any, over: Any) -> Any:
        """Return both, or the later file's where the drivers differ."""
        if isinstance(base, Map) and isinstance(over, Map):
            drivers = {entry["driver"] for entry in (base, over) if "driver" in entry}
            return over if len(drivers) > 1 else super().merge(base, over)
        return super().merge(base, over)


class Pools(ListOf):
    """`ipam.config`: pools, of which two files' with the same subnet are one."""

    def merge(self, base: Any, over: Any) -> Any:
        """Return the later file's pools, those of a known subnet merged with the earlier one's."""
        merged = Seq()
        for pool, position in zip(over, over.at, strict=True):
            same = [earlier for earlier in base if earlier.get("subnet") == pool.get("subnet")]
            merged.add(self.form.merge(same[0], pool) if same else pool, position)
        return merged
