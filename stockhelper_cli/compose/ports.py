"""Published ports: the short syntax `[[host_ip:]published:]target[/protocol]`, ranges included."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from stockhelper_cli.compose import values
from stockhelper_cli.compose.document import Map
from stockhelper_cli.compose.forms import TEXT, Key, ListOf, Place, Scalar, Struct

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_PORT = 65535


def parse_port(spec: str) -> list[dict[str, Any]]:
    """Return the long forms that one short one stands for: a range of targets is one entry each.

    Raises `ValueError`. A range of published ports for one target stays a range; the engine chooses from it.
    """
    address, protocol = spec, "tcp"
    if "/" in spec:
        address, _, protocol = spec.rpartition("/")
        protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{spec!r} has no protocol of {', '.join(_PROTOCOLS)}")
    *host, target = address.split(":")
    published = host[-1] if host else ""
    host_ip = _address(":".join(host[:-1])) if len(host) > 1 else ""
    first, last = _range(target, spec)
    if first == 0:
        raise ValueError(f"{spec!r} names the port 0, which no container has")
    entries = []
    if published:
        first_published, last_published = _range(published, spec)
        if last - first != last_published - first_published and first != last:
            raise ValueError(f"{spec!r} publishes {published} for {target}: the ranges are not of the same length")
    for offset in range(last - first + 1):
        entry: dict[str, Any] = {"mode": "ingress", "target": first + offset, "protocol": protocol}
        if host_ip:
            entry["host_ip"] = host_ip
        if published:
            many = first == last and first_published != last_published
            entry["published"] = f"{first_published}-{last_published}" if many else str(first_published + offset)
        entries.append(entry)
    # Compose sorts the ports of a range as text.
    return sorted(entries, key=lambda entry: f"{entry['target']}/{entry['protocol']}")


def _range(text: str, spec: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{spec!r} is not a port; write it as in 127.0.0.1:8080:80")
    first = int(match[1])
    last = int(match[2] or first)
    if last > _LAST_PORT or last < first:
        raise ValueError(f"{spec!r} is not a port between 0 and {_LAST_PORT}, or a range of them")
    return first, last


def _address(text: str) -> str:
    """Return the address of a short form, where one of IPv6 stands in brackets."""
    if ":" in text and not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"{text!r} is not an IP address; write one of IPv6 in brackets")
    bare = text.removeprefix("[").removesuffix("]")
    return _ip(bare) if bare else ""


def _ip(bare: str) -> str:
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{bare!r} is not an IP address") from None
    if "%" in bare:
        raise ValueError(f"{bare!r} is an address of one interface, which the engine does not know")
    return bare


def _target(value: Any) -> int:
    port = values.parse_integer(value)
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f"{value!r} is not a port between 1 and {_LAST_PORT}")
    return port


def _published(value: Any) -> str:
    text = values.parse_code(value)
    if text:
        _range(text, text)
    return text


#: compose-go's ServicePortConfig.
PORT = Struct(
    Key("name", TEXT),
    Key("mode", TEXT),
    Key("host_ip", Scalar(lambda value: _ip(values.text_of(value)))),
    Key("target", Scalar(_target)),
    Key("published", Scalar(_published)),
    Key("protocol", TEXT),
    Key("app_protocol", TEXT),
)


def _name(port: Map) -> tuple[Any, ...]:
    # A published port that is written as a number is not the same as its text to Compose, and so not once but twice.
    defaults = {"host_ip": "0.0.0.0", "published": "", "protocol": "tcp"}
    return tuple(port.get(key, defaults.get(key)) for key in ("host_ip", "published", "target", "protocol"))


class Ports(ListOf):
    """The ports of a service."""

    def __init__(self) -> None:
        """Two ports are the same if address, published port, target and protocol are."""
        super().__init__(PORT, unique=_name)

    def expand(self, entry: Any, place: Place) -> list[Any]:
        """Return the long forms of one entry."""
        if isinstance(entry, Map):
            if "target" not in entry:
                raise place.refuse("has no target")
            return [entry]
        try:
            return [Map(port) for port in parse_port(values.parse_code(entry))]
        except ValueError as error:
            raise place.refuse(str(error)) from error

    def read(self, value: Any, place: Place) -> Any:
        """Return the ports with their defaults."""
        return [
            {**PORT.read(Map({"protocol": "tcp", "mode": "ingress", **port}), place.child(index))}
            for index, port in enumerate(value)
        ]
