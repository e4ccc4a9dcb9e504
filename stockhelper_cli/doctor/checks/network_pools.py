"""`network.pools`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_network
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, failed, ok

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: What an engine gives networks parts of that was told nothing else (libnetwork's local scope): 31 of them.
_DEFAULT: Final = (*((f"172.{second}.0.0/16", 16) for second in range(17, 32)), ("192.168.0.0/16", 20))
_PLENTY: Final = 100
_ROUTES: Final = Path("/proc/net/route")


class NetworkPools(Check):
    """Counts what is left of the address ranges that the engine takes a new network's from.

    It gives none that a network has, nor one that overlaps with a route of its machine: a VPN may take many.
    """

    id = "network.pools"
    group = Group.NETWORK
    title = "the engine has an address range left for the stack's network"
    needs = ("engine.answers",)
    explains = frozenset({"engine.refused", "engine.not_found"})  # Docker 20.10 calls it "not found"

    def examine(self, context: Context) -> Finding:
        """Count them, if a network has to be made; one that is there has its own."""
        info = context.info
        pools = info.pools or _DEFAULT
        taken = {network.name: subnet for network in context.engine.networks(()) for subnet in _ipv4(network.subnets)}
        routes = list(_routes()) if info.local else []
        parts = (part for base, size in pools for part in _parts(base, size))
        free = (part for part in parts if not any(part.overlaps(other) for other in (*taken.values(), *routes)))
        # There may be thousands, and nobody needs to know how many.
        left = len(list(islice(free, _PLENTY)))
        wanted = _to_be_made(context.project) - set(context.state.networks)
        if left >= len(wanted):
            told = f"{_PLENTY} or more are left" if left == _PLENTY else f"{left} {'is' if left == 1 else 'are'} left"
            return ok(told if wanted else f"the stack has its own; {told}")
        return failed(
            f"the engine has no address range left for {', '.join(sorted(wanted))}",
            f"they are given out to {', '.join(sorted(taken))}",
            *([f"and this machine has routes to {', '.join(map(str, routes))}"] if routes else []),
            remedy="remove networks that no container uses, or give the engine more by default-address-pools in its"
            " daemon.json, and restart it:",
            commands=["docker network ls", "docker network prune"],
        )


def _to_be_made(project: Project) -> set[str]:
    """Return the networks that `up` makes and for which the engine chooses the range."""
    return {
        network.name
        for network in project.networks.values()
        if not network.external and not (network.spec.get("ipam") or {}).get("config")
    }


def _parts(base: str, size: int) -> Iterable[IPv4Network]:
    range_ = ip_network(base, strict=False)
    return range_.subnets(new_prefix=size) if isinstance(range_, IPv4Network) else ()


def _ipv4(subnets: Iterable[str]) -> Iterator[IPv4Network]:
    for subnet in map(ip_network, subnets):
        if isinstance(subnet, IPv4Network):
            yield subnet


def _routes() -> Iterator[IPv4Network]:
    """Yield where this machine has routes to, but not the way to everywhere."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:  # not Linux
        return
    for line in lines:
        fields = line.split()
        # In hexadecimal, in the order of bytes of this machine.
        address, mask = (IPv4Address(int(fields[at], 16).to_bytes(4, sys.byteorder)) for at in (1, 7))
        if int(mask):
            yield IPv4Network(f"{address}/{mask}")
