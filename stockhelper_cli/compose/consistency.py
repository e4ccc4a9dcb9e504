"""What must fit together in a project beyond each key's own form.

The rules are compose-go's `checkConsistency` and `validation`, for the keys that stockhelper supports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockhelper_cli.compose.forms import Place
from stockhelper_cli.compose.model import Service
from stockhelper_cli.compose.values import float32

Resources = Mapping[str, Mapping[str, Mapping[str, Any]]]

#: Limits that may be said in two places, and then must be the same: the service's key, and that under deploy.resources.
_LIMITS = (
    ("cpus", "limits", "cpus"),
    ("mem_limit", "limits", "memory"),
    ("mem_reservation", "reservations", "memory"),
    ("pids_limit", "limits", "pids"),
)


def check(enabled: Mapping[str, Service], everything: Mapping[str, Service], resources: Resources, top: Place) -> None:
    """Check the enabled services and their networks, volumes and secrets. Raises `ConfigError`."""
    for key, spec in resources["networks"].items():
        # An empty ipam is only how a network is shown.
        _check_external(spec, [name for name in spec if spec[name] != {}], top.child("networks").child(key))
    for key, spec in resources["volumes"].items():
        # Of volumes Compose looks at what was written, be it empty.
        _check_external(spec, top.context.tree["volumes"][key] or (), top.child("volumes").child(key))
    names: dict[str, str] = {}
    for name, service in enabled.items():
        place = top.child("services").child(name)
        _check_service(service, place)
        _check_references(service, resources, place)
        _check_dependencies(service, enabled, everything, place)
        _check_limits(service, place)
        _check_targets(service, place)
        own = service.spec.get("container_name")
        if own and own in names:
            raise place.child("container_name").refuse(f"{own} is the name of {names[own]}'s container already")
        if own:
            names[own] = name
    _check_cycles(enabled, top)


def _check_external(spec: Mapping[str, Any], given: Iterable[str], place: Place) -> None:
    if spec.get("external"):
        for key in given:
            if key not in ("name", "external") and not key.startswith("x-"):
                raise place.child(key).refuse("an external one is made elsewhere; only its name can be given")


def _check_service(service: Service, place: Place) -> None:
    if "image" not in service.spec and "build" not in service.spec:
        raise place.refuse("has neither an image nor a build")
    if "network_mode" in service.spec and "networks" in service.spec:
        raise place.child("network_mode").refuse("cannot stand beside networks")


def _check_references(service: Service, resources: Resources, place: Place) -> None:
    for network in service.networks:
        if network not in resources["networks"]:
            raise place.child("networks").child(network).refuse(f"there is no network {network}")
    for index, mount in enumerate(service.spec.get("volumes", ())):
        if mount["type"] == "volume" and "source" in mount and mount["source"] not in resources["volumes"]:
            raise place.child("volumes").child(index).refuse(f"there is no volume {mount['source']}")
    for index, secret in enumerate(service.spec.get("secrets", ())):
        if secret["source"] not in resources["secrets"]:
            raise place.child("secrets").child(index).refuse(f"there is no secret {secret['source']}")


def _check_dependencies(
    service: Service, enabled: Mapping[str, Service], everything: Mapping[str, Service], place: Place
) -> None:
    for dependency in service.depends_on:
        if dependency.service in enabled or (dependency.service in everything and not dependency.required):
            continue
        why = "needs a profile that is not active" if dependency.service in everything else "does not exist"
        raise place.child("depends_on").child(dependency.service).refuse(f"the service {dependency.service} {why}")


def _check_limits(service: Service, place: Place) -> None:
    resources = service.spec.get("deploy", {}).get("resources", {})
    for key, kind, inner in _LIMITS:
        if key not in service.spec or kind not in resources:
            continue
        own, other = service.spec[key], resources[kind].get(inner, 0)
        if own != other and (key != "cpus" or float32(own) != float32(other)):
            raise place.child(key).refuse(f"is not the same as deploy.resources.{kind}.{inner}")


def _check_targets(service: Service, place: Place) -> None:
    mounted: dict[str, str] = {}
    tmpfs = [(("tmpfs", index), entry.partition(":")[0]) for index, entry in enumerate(service.spec.get("tmpfs", ()))]
    volumes = [(("volumes", index), mount["target"]) for index, mount in enumerate(service.spec.get("volumes", ()))]
    for (key, index), target in (*tmpfs, *volumes):
        if target in mounted:
            raise place.child(key).child(index).refuse(f"{target} is mounted already, by {mounted[target]}")
        mounted[target] = f"{key}[{index}]"


def _check_cycles(services: Mapping[str, Service], top: Place) -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise top.child("services").child(name).child("depends_on").refuse(f"goes in a circle: {circle}")
        if name in done or name not in services:
            return
        for dependency in services[name].depends_on:
            visit(dependency.service, (*trail, name))
        done.add(name)

    for name in services:
        visit(name, ())
