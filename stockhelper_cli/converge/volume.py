"""The database's volume before a container is made for it: whether what lies in it can be served, and by whom else.

PostgreSQL refuses the files of another major version only when it is started, and two servers on the same files it
cannot tell apart at all when each sits in a container of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import labels
from stockhelper_cli.converge.plan import Action, Kind, Plan
from stockhelper_cli.database.psql import Credentials, database_service
from stockhelper_cli.database.server import Server, ServerError
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.engine.protocol import Engine, Image

#: Where the official image keeps its data, unless PGDATA says otherwise.
_PGDATA: Final = "/var/lib/postgresql/data"


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """What lies in a database's volume: the PostgreSQL major that made it, and whether a server ever ran on it.

    Before one has, there can be no table of anybody's: `initdb` does not start the server that it prepares.
    """

    major: str
    started: bool


def refuse_unfit_volume(project: Project, engine: Engine, state: ObservedState, plan: Plan) -> str:
    """Look into the volume of a database that a plan is about to create or start, before anything is done.

    Returns the volume's name where an interrupted first start left it without a table, so that it may be made anew,
    "" otherwise. Raises `StockhelperError`: db.other_major, db.volume_in_use.
    """
    service = database_service(project.services)
    touched = {(action.kind, action.service) for action in plan}
    if service is None or not touched & {(Kind.CREATE, service.name), (Kind.START, service.name)}:
        return ""
    for mount in service.spec.get("volumes", ()):
        volume = project.volumes.get(mount.get("source", "")) if mount["type"] == "volume" else None
        if volume is None or volume.name not in state.volumes:
            continue
        # What killed commands have left is removed by the plan before anything is started.
        own = (*state.leftovers, *state.of_service(service.name))
        refuse_second_server(engine, volume.name, {container.id for container in own})
        image = engine.image(service.image)
        if (Kind.CREATE, service.name) not in touched or image is None:
            continue
        found = read_volume(project, engine, state, service, image, volume.name, mount["target"])
        if found is None:
            continue
        refuse_other_major(found, service, image, volume.name)
        if not found.started:
            return volume.name
    return ""


def refuse_other_major(found: DataDirectory, service: Service, image: Image, volume: str) -> None:
    """Raise `StockhelperError` (db.other_major) for files that the image's server cannot read."""
    wanted = image.environment.get("PG_MAJOR", found.major)
    if found.major != wanted:
        raise StockhelperError(
            "db.other_major",
            f"the volume {volume} is of PostgreSQL {found.major}, and the image is PostgreSQL {wanted}",
            cause=f"{service.image} cannot read its files; the volume was not touched",
            next=_ways_out(found.major, wanted),
        )


def _ways_out(major: str, wanted: str) -> list[str]:
    stay = f"set POSTGRES_IMAGE to one of PostgreSQL {major} in .env, then: stockhelper up"
    if is_newer(wanted, major):
        return ["stockhelper db upgrade", f"to stay with PostgreSQL {major}: {stay}"]
    return [stay, "back from `db upgrade`: set POSTGRES_VOLUME to the former volume, too, then: stockhelper up"]


def is_newer(major: str, than: str) -> bool:
    """Whether a PostgreSQL major, such as "17" or "9.6", comes after another."""
    return _numbers(major) > _numbers(than)


def _numbers(major: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", major)]


def holds_nothing(project: Project, engine: Engine, state: ObservedState) -> str:
    """Return the name of the running database's volume if no database in it has a table of a user's, else "".

    Raises `StockhelperError` (db.refused) if the server cannot be asked.
    """
    service = database_service(project.services)
    if service is None:
        return ""
    own = [container for container in state.of_service(service.name) if container.running]
    volumes = [project.volumes[key] for key in service.volumes if not project.volumes[key].external]
    if not own or not volumes:
        return ""
    try:
        if Server(engine, own[0].id, Credentials.of(service.environment).user).holds_tables():
            return ""
    except ServerError as error:
        raise StockhelperError(
            "db.refused",
            "the database could not be asked for its tables",
            cause=str(error),
            next=["stockhelper logs db"],
        ) from error
    return volumes[0].name


def discard(state: ObservedState, volume: str) -> Plan:
    """Return what removes a volume, and the project's containers that have it mounted."""
    cause = "its first start was interrupted; it holds no table"
    actions: list[Action] = []
    for container in state.containers:
        if any(mount.name == volume for mount in container.mounts):
            actions.append(Action(Kind.REMOVE, container.name, cause, service=container.labels[labels.SERVICE]))
    needs = tuple(action.id for action in actions)
    return Plan((*actions, Action(Kind.REMOVE_VOLUME, volume, cause, needs)))


def read_volume(
    project: Project, engine: Engine, state: ObservedState, service: Service, image: Image, volume: str, target: str
) -> DataDirectory | None:
    """Return what lies in a database's volume, None if it is empty; nothing in it is changed or started."""
    with looking_into(project, engine, state, service, image, volume, target) as container:
        return read_data_directory(engine, container, service, image)


def read_data_directory(engine: Engine, container: str, service: Service, image: Image) -> DataDirectory | None:
    """Return what lies where a container, running or not, has the database's data; None if nothing does."""
    data = data_folder(service, image)
    major = engine.read_file(container, str(PurePosixPath(data, "PG_VERSION")))
    # Written by every start of a server, and left there.
    started = engine.read_file(container, str(PurePosixPath(data, "postmaster.opts"))) is not None
    return None if major is None else DataDirectory(major.decode(errors="replace").strip(), started)


def data_folder(service: Service, image: Image) -> str:
    """Return where a server of this image keeps its data in the service's container."""
    return service.environment.get("PGDATA") or image.environment.get("PGDATA") or _PGDATA


@contextmanager
def looking_into(
    project: Project, engine: Engine, state: ObservedState, service: Service, image: Image, volume: str, target: str
) -> Iterator[str]:
    """Find a container that has a volume mounted, or make one for as long as the block lasts; it is never started."""
    for container in state.of_service(service.name):
        if any(mount.name == volume for mount in container.mounts):
            yield container.id
            return
    name = f"{project.name}-{service.name}-look"
    body: dict[str, Any] = {
        "Image": image.id,
        # As `docker compose run` labels a container: one that a kill leaves behind is known for what it is.
        "Labels": {labels.PROJECT: project.name, labels.SERVICE: service.name, labels.ONEOFF: "True"},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": volume,
                    "Target": target,
                    "ReadOnly": True,
                    # Else the engine fills an empty volume with what the image has there.
                    "VolumeOptions": {"NoCopy": True},
                }
            ],
        },
    }
    if any(container.name == name for container in state.containers):
        engine.remove_container(name, force=True)
    made = engine.create_container(name, body)
    try:
        yield made
    finally:
        engine.remove_container(made, force=True, volumes=True)


def refuse_second_server(engine: Engine, volume: str, own: Collection[str]) -> None:
    """Raise `StockhelperError` (db.volume_in_use) where a container other than these ids has the volume and lives."""
    for container in engine.volume_users(volume):
        if container.id not in own and container.alive:
            raise StockhelperError(
                "db.volume_in_use",
                f"the volume {volume} is in use by the container {container.name}",
                cause="two database servers on the same files destroy them",
                next=[f"docker stop {container.name}", "stockhelper up"],
            )
