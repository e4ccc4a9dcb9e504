"""`config.exposure`."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from stockhelper_cli.converge.reconcile import ROLE_APP
from stockhelper_cli.doctor.check import Check, Group, ok, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigExposure(Check):
    """Looks at the addresses of published ports: the engine opens them past the host's own firewall."""

    id = "config.exposure"
    group = Group.CONFIGURATION
    title = "nothing is published beyond this machine"
    needs = ("config.compose",)

    def examine(self, context: Context) -> Finding:
        """Look at each."""
        project = context.project
        open_ones = [
            (service, port)
            for service in project.services.values()
            for port in service.ports
            if not _is_loopback(port.host_ip)
        ]
        if not open_ones:
            return ok("no port, or on loopback only")
        remedies = [
            "set APP_BIND to 127.0.0.1 in .env"
            if service.role == ROLE_APP
            else f"begin it with 127.0.0.1: in {project.where('services', service.name, 'ports')}"
            for service, _ in open_ones
        ]
        return warning(
            "; ".join(
                f"{service.name} is published on {port.host_ip or 'all addresses'}, port {port.published or 'any'}"
                for service, port in open_ones
            ),
            "whoever reaches this machine reaches it, without a password or TLS, and past a firewall such as ufw",
            remedy=f"{'; '.join(dict.fromkeys(remedies))}; if it is meant so, --skip {self.id}",
        )


def _is_loopback(address: str) -> bool:
    return bool(address) and ipaddress.ip_address(address).is_loopback
