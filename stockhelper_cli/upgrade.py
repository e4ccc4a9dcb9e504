"""Moving the database to another PostgreSQL major: into a volume of its own, so that the old one stays what it was.

The new server is made ready beside the stack, which is stopped only then. From there on nobody but this run can reach
either server: both are in containers without a network, so that nothing is written between the dump and the switch.
The switch is one line of .env, POSTGRES_VOLUME, which compose.yaml reads; until it is written, the stack as it was is
a `start` away. A server of ours ends with the run that holds its leash, and what a killed run has left behind is
known by its label.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import backup as backing
from stockhelper_cli import labels, stack
from stockhelper_cli.compose.create import container_spec, volume_spec
from stockhelper_cli.converge.images import ImageRules, make_images, plan_images
from stockhelper_cli.converge.plan import Condition
from stockhelper_cli.converge.ready import wait_ready
from stockhelper_cli.converge.state import observe, project_filter
from stockhelper_cli.converge.volume import (
    data_folder,
    is_newer,
    looking_into,
    read_volume,
    refuse_second_server,
)
from stockhelper_cli.database.psql import Credentials
from stockhelper_cli.database.server import Contents, Server, Snapshot, feed, identifier, literal, output_of
from stockhelper_cli.engine.pull import LOCAL
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Warned, step
from stockhelper_cli.machine.init_env import file_that_decides, set_value

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project, Service, Volume
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.converge.volume import DataDirectory
    from stockhelper_cli.engine.protocol import Container, Engine, Image

#: The key of .env that names the database's volume.
KEY: Final = "POSTGRES_VOLUME"
#: What a cluster without a row takes, its log included (bytes).
_EMPTY_CLUSTER: Final = 96 * 1024 * 1024
#: Lies beside the data in a volume to which all of it has come.
_MARK: Final = "stockhelper.upgraded"
#: Where a server of ours waits for its leash, for 20 s, as a busy engine may be late to run the command that holds it:
#: without one it must not start, as nothing would end it.
_LEASH_FOLDER: Final = "/leash"
_ON_A_LEASH: Final = (
    f'for _ in $(seq 200); do [ -e {_LEASH_FOLDER}/on ] && exec "$@"; sleep 0.1; done; echo "no leash" >&2; exit 1'
)
#: Lets the server start, and ends it when the run that keeps this command's input open is gone, in whatever way.
_LEASH: Final = ("sh", "-c", f"touch {_LEASH_FOLDER}/on; cat >/dev/null; kill -INT 1")
#: Waits a second at most for the server to take connections over TCP.
_LISTENS: Final = ("sh", "-c", "for _ in $(seq 20); do pg_isready -q -h 127.0.0.1 && exit; sleep 0.05; done; exit 1")
#: What pg_dumpall writes around its statements for newer clients; older ones do not know it.
_RESTRICTION: Final = re.compile(r"\\(un)?restrict\b")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the data is served: the major that serves it, the image that does, and the volume."""

    major: str
    image: str
    volume: str

    def as_json(self) -> Mapping[str, str]:
        """Return it as a plain mapping."""
        return {"major": self.major, "image": self.image, "volume": self.volume}


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Where the data was and is now; the same place where there was nothing to upgrade, and `backup` is None then.

    `rows` is how many were compared, `outage` for how long (seconds) the stack was away.
    """

    before: Place
    after: Place
    backup: Path | None = None
    rows: int = 0
    outage: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the data is served from another place."""
        return self.before != self.after

    def as_json(self) -> Mapping[str, Any]:
        """Return the result of `--json`."""
        return {
            "changed": self.changed,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "backup": str(self.backup) if self.backup else None,
            "rows": self.rows,
            "outage_seconds": round(self.outage, 3),
        }


def upgrade(
    load: Callable[[str], Project],
    engine: Engine,
    former_image: str,
    emit: Emit,
    *,
    environ: Mapping[str, str],
    timeout: float,
) -> Upgraded:
    """Move the database to the major of the image that the project names, and bring the stack up on it.

    `load` reads the project as it is with this name for the volume ("": as it is). `former_image` is what serves the
    volume, "" to look for it; `environ` is the shell's. The caller holds the project's lock. Raises `StockhelperError`:
    db.other_major for an older image, config.compose where the files do not let the volume be another one, usage where
    .env does not decide, image.missing, disk.full, db.volume_in_use, backup.failed, restore.failed, backup.mismatch;
    the stack then runs again as it did. What `up` raises at the end leaves the database in its new place.
    """
    project = load("")
    file = file_that_decides(project, KEY, environ)
    service = backing.service_of_database(project)
    state = _with_image(project, engine, service, emit)
    image = state.images[service.image]
    volume, target = _volume_of_data(project, state, service, image)
    state = _sweep(project, engine, state, service, image, volume, target, emit)
    major = _major_of(read_volume(project, engine, state, service, image, volume.name, target), volume)
    wanted = image.environment.get("PG_MAJOR", "")
    if major == wanted:
        stack.up(project, engine, _options(project, state, timeout), emit)
        place = Place(major, service.image, volume.name)
        return Upgraded(place, place)
    if not is_newer(wanted, major):
        raise StockhelperError(
            "db.other_major",
            f"the volume {volume.name} is of PostgreSQL {major}, and {service.image} is {wanted or 'of none'}",
            cause="a database can be moved to a newer major only",
            next=[f"set POSTGRES_IMAGE to one of PostgreSQL {major} or newer in .env"],
        )
    refuse_second_server(engine, volume.name, {container.id for container in state.of_service(service.name)})
    former = _former_image(engine, state, service, major, former_image)
    moved = _moved(load, engine, project, volume, wanted)
    running = [name for name in project.services if any(c.running for c in state.of_service(name))]
    if service.name in running:
        _refuse_without_room(backing.server_of(project, engine)[0])

    name = _create_volume(moved, engine, volume, emit)
    stopped = 0.0
    try:
        with _serving(moved, engine, image, wanted, emit, timeout) as new:
            stopped = time.monotonic()
            stack.stop(project, engine, (), emit)
            with _serving(project, engine, former, major, emit, timeout) as old:
                _refuse_without_room(old)
                backup, rows = _move(project, old, new, emit)
            with backing.failing_as("restore.failed", "the upgrade could not be ended"):
                new.mark(_MARK)
        set_value(file, KEY, name)
    except BaseException:
        if load("").volumes[volume.key].name != name:  # an interruption may come right behind the switch
            _give_up(project, engine, name, running if stopped else [], emit, timeout)
        raise
    before = Place(major, _name_of(former, former_image), volume.name)
    project = load("")  # what the services are given of .env has changed with it
    try:
        stack.up(project, engine, _options(project, state, timeout), emit)
    except StockhelperError as error:
        error.next = (*error.next, f"back to PostgreSQL {major}: {way_back(before)}")
        raise
    return Upgraded(before, Place(wanted, service.image, name), backup, rows, time.monotonic() - stopped)


def way_back(before: Place) -> str:
    """Return what takes the stack back to the data as it was before an upgrade."""
    return f"set POSTGRES_IMAGE={before.image} and {KEY}={before.volume} in .env, then: stockhelper up"


# --- before anything is touched
def _with_image(project: Project, engine: Engine, service: Service, emit: Emit) -> ObservedState:
    """Return the state with the database's image, pulled where it is missing. Raises `StockhelperError` (image.…)."""
    state = observe(project, engine)
    pulls, _ = plan_images([service], state, {}, ImageRules())
    return make_images(project, engine, state, pulls, {}, emit)


def _options(project: Project, state: ObservedState, timeout: float) -> stack.UpOptions:
    """Return how the stack is brought up: with the images that are there, as far as they are."""
    there = all(service.image in state.images for service in project.services.values())
    return stack.UpOptions(build=False if there else None, timeout=timeout)


def _volume_of_data(project: Project, state: ObservedState, service: Service, image: Image) -> tuple[Volume, str]:
    """Return the volume that the image keeps its data in, and where it is mounted. Raises `StockhelperError`."""
    folder = PurePosixPath(data_folder(service, image))
    for mount in service.spec.get("volumes", ()):
        if mount["type"] != "volume" or "source" not in mount or not folder.is_relative_to(mount["target"]):
            continue
        volume = project.volumes[mount["source"]]
        if volume.name in state.volumes:
            return volume, mount["target"]
        raise StockhelperError(
            "failed", f"there is no volume {volume.name}, and no database to upgrade", next=["stockhelper up"]
        )
    raise StockhelperError(
        "config.compose",
        f"{service.image} keeps its data in {folder}, where no named volume of {service.name} is mounted",
        cause="the data would be in a volume without a name, or lost with the container",
        next=[f"set PGDATA in the environment of {service.name} to a folder of its volume"],
    )


def _major_of(found: DataDirectory | None, volume: Volume) -> str:
    """Return the major that made what lies in a volume. Raises `StockhelperError` (failed) for what is no database."""
    if found is None or not found.started:
        raise StockhelperError(
            "failed",
            f"there is no database to upgrade in the volume {volume.name}",
            cause="no server has ever run on it",
            next=["stockhelper up"],
        )
    return found.major


def _former_image(engine: Engine, state: ObservedState, service: Service, major: str, given: str) -> Image:
    """Return the image that the files of a major were served by: a container's, or one of the usual names."""
    usual = [f"postgres:{major}-alpine", f"postgres:{major}", f"{LOCAL}stockhelper-postgres:{major}"]
    own = [container.image_id for container in state.of_service(service.name)]
    for reference in [given] if given else [*own, *usual]:
        image = engine.image(reference)
        if image is not None and image.environment.get("PG_MAJOR") == major:
            return image
    raise StockhelperError(
        "image.missing",
        f"{given} is no image of PostgreSQL {major}" if given else f"there is no image of PostgreSQL {major}",
        cause="only a server of the same major can read what is in the volume",
        next=[f"docker pull {usual[0]}", "stockhelper db upgrade --from IMAGE"],
    )


def _name_of(image: Image, given: str) -> str:
    return given or next(iter(image.tags), image.id)


def _moved(load: Callable[[str], Project], engine: Engine, project: Project, volume: Volume, major: str) -> Project:
    """Return the project as it will be, with a new volume for its data. Raises `StockhelperError` (config.compose)."""
    taken = {there.name for there in engine.volumes(())}
    names = (f"{project.name}_postgres_{major}{suffix}" for suffix in ("", *(f"_{n}" for n in range(2, 1000))))
    name = next(name for name in names if name not in taken)
    moved = load(name)
    there, wanted = project.volumes[volume.key], moved.volumes[volume.key]
    # Options of the driver say where a volume lies: with the same ones it would be the same.
    options = wanted.spec.get("driver_opts")
    fixed = wanted.external or (options and options == there.spec.get("driver_opts"))
    if wanted.name != name or fixed:
        raise StockhelperError(
            "config.compose",
            f"{project.where('volumes', volume.key)}: the files do not let the volume {volume.name} be another one",
            cause=f"{KEY} has to say which volume the database uses, and with it where that lies",
            next=[f"name: ${{{KEY}:-{volume.name}}} in that place, then: stockhelper db upgrade"],
        )
    return moved


def _refuse_without_room(server: Server) -> None:
    """Raise `StockhelperError` (disk.full) where a second copy of all databases would not fit beside them."""
    with backing.failing_as("backup.failed", "the database could not be asked how much room it needs"):
        wanted = sum(server.databases().values()) + _EMPTY_CLUSTER + backing.HEADROOM
        free = server.free_bytes()
    if free < wanted:
        raise StockhelperError(
            "disk.full",
            "there is no room for the upgraded database beside the one that is there",
            cause=f"{free / 1e6:.0f} MB are free where the engine keeps the volume; {wanted / 1e6:.0f} MB are needed",
            next=["docker system df"],
        )


# --- the way over
def _create_volume(moved: Project, engine: Engine, former: Volume, emit: Emit) -> str:
    """Create the volume that the data will be in, and return its name."""
    name, body = volume_spec(moved, moved.volumes[former.key])
    with step("create", f"volume {name}", emit):
        engine.create_volume(name, {**body, "Labels": {**body["Labels"], labels.UPGRADED_FROM: former.name}})
    return name


@contextmanager
def _serving(
    project: Project, engine: Engine, image: Image, major: str, emit: Emit, timeout: float
) -> Iterator[Server]:
    """Run a server on the project's volume that nobody else can reach, for the length of a block."""
    service = backing.service_of_database(project)
    spec = container_spec(project, service, image_id=image.id, api_version=engine.api_version)
    kept = {key: value for key, value in spec.body["Labels"].items() if key != labels.NUMBER}
    command = [*(spec.body.get("Entrypoint") or ["docker-entrypoint.sh"]), *(spec.body.get("Cmd") or ["postgres"])]
    body = {
        **spec.body,
        "Image": image.id,
        "Entrypoint": ["sh", "-c", _ON_A_LEASH, "server"],
        "Cmd": command,
        "Labels": {**kept, labels.ONEOFF: "True", labels.UPGRADE: major},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **spec.body["HostConfig"],
            "NetworkMode": "none",
            "PortBindings": {},
            "RestartPolicy": {"Name": "no"},
            "Tmpfs": {**(spec.body["HostConfig"].get("Tmpfs") or {}), _LEASH_FOLDER: "mode=1777"},
        },
    }
    body.pop("NetworkingConfig", None)
    name = f"{project.name}-{service.name}-upgrade-{major}"
    container = engine.create_container(name, body, spec.platform)
    try:
        engine.start(container)
        with closing(engine.open(container, _LEASH, tty=False, stdin=True)):
            with step("start", f"PostgreSQL {major}", emit):
                probe = _TakesConnections(engine)
                wait_ready(engine, service, name, Condition.STARTED, probe, timeout=timeout, cancelled=Flag())
            yield Server(engine, container, Credentials.of(service.environment).user)
    finally:
        engine.stop(container)
        engine.remove_container(container, force=True, volumes=True)


@dataclass(frozen=True, slots=True)
class _TakesConnections:
    """Ready when the server listens on TCP: the one of its first start, which runs the scripts, does not."""

    engine: Engine

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" or that it does not."""
        result = self.engine.exec(container.id, _LISTENS)
        return "" if result.exit_code == 0 else "it takes no connections yet"


def _move(project: Project, old: Server, new: Server, emit: Emit) -> tuple[Path, int]:
    """Take roles and databases over, and compare them; return the backup that was made, and how many rows there are."""
    main = Credentials.of(backing.service_of_database(project).environment).database
    made = backing.create_from(project, old, main, emit, cause="before db upgrade").backup
    assert made.manifest is not None
    rows = made.rows or 0
    with backing.failing_as("restore.failed", "the data could not be taken over"):
        _take_roles(old, new)
        if main != "postgres":  # the image's first start has made it, empty
            new.execute(f"DROP DATABASE IF EXISTS {identifier(main)}")
        with step("restore", f"database {main}", emit) as under_way:
            _restore(new, main, backing.plain(made, under_way.advance), made.manifest.contents)
        for name in sorted(set(old.databases()) - {main}):
            with step("restore", f"database {name}", emit), Snapshot(old, name) as snapshot:
                contents = snapshot.contents()
                _restore(new, name, output_of(old.dump(name, snapshot.id)), contents)
            rows += sum(table.rows for table in contents.tables.values())
    backing.verified(made)
    backing.tell_newest(project, new, main, emit)
    return made.path, rows


def _take_roles(old: Server, new: Server) -> None:
    """Make the old server's roles in the new one, with their passwords; the owner is there already."""
    owner = new.rows(f"SELECT quote_ident({literal(old.owner)})")[0][0]
    dumped = b"".join(output_of(old.open(["pg_dumpall", "--roles-only", "--no-password"], stdin=False)))
    lines = dumped.decode().splitlines()
    kept = (line for line in lines if line != f"CREATE ROLE {owner};" and not _RESTRICTION.match(line))
    feed(new.open(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"], stdin=True), ["\n".join(kept).encode()])


def _restore(new: Server, name: str, dump: Iterable[bytes], wanted: Contents) -> None:
    """Restore a database with its owners, rights and settings, and compare what came out."""
    arguments = [f"--dbname={name}"] if name in new.databases() else ["--create", "--dbname=postgres"]
    feed(new.open(["pg_restore", "--exit-on-error", "--no-password", *arguments], stdin=True), dump)
    if lines := wanted.differences(new.contents(name)):
        raise StockhelperError(
            "backup.mismatch",
            f"what came into the new volume of {name} is not what is in the old one",
            cause=lines[0],
            details=lines,
            next=["stockhelper doctor"],
        )
    new.execute("ANALYZE", database=name)


# --- what did not come to its end
def _give_up(
    project: Project,
    engine: Engine,
    volume: str,
    services: Sequence[str],
    emit: Emit,
    timeout: float,
) -> None:
    """Take away what was made, and start what had run; what of it fails must not hide why that is needed."""
    undoing: list[Callable[[], object]] = [lambda: engine.remove_volume(volume)]
    if services:
        undoing.append(lambda: stack.start(project, engine, services, timeout, emit))
    for undo in undoing:
        try:
            undo()
        except StockhelperError as further:
            emit(Warned(f"{further.message}; stockhelper up with the former POSTGRES_IMAGE goes on from here"))


def _sweep(
    project: Project,
    engine: Engine,
    state: ObservedState,
    service: Service,
    image: Image,
    current: Volume,
    target: str,
    emit: Emit,
) -> ObservedState:
    """Remove what a killed run has left behind, and tell of the volumes of others that came to their end."""
    for left in state.containers:
        if labels.UPGRADE in left.labels:
            engine.stop(left.id)
            engine.remove_container(left.id, force=True, volumes=True)
    for volume in engine.volumes([project_filter(project.name), labels.UPGRADED_FROM]):
        if volume.name == current.name:
            continue
        with looking_into(project, engine, state, service, image, volume.name, target) as container:
            whole = engine.read_file(container, str(PurePosixPath(data_folder(service, image), _MARK))) is not None
        if whole:
            emit(Warned(f"the volume {volume.name} is of an earlier upgrade, and is kept"))
        else:
            with step("remove", f"volume {volume.name}", emit):
                engine.remove_volume(volume.name)
    return observe(project, engine)
