"""An initialised database to begin with, for stacks that are not about the first start of PostgreSQL.

A template is a volume that a real `up db` filled and a `stop` left, copied to a folder of this machine. It is made once
for a whole run of the tests. A stack that begins with a copy of it skips initdb and the creation of its role and
database. Its migration runs as in any other stack.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stockhelper_cli.compose import Project, Service, Volume, load
from stockhelper_cli.compose.create import volume_spec
from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.database.psql import database_service
from stockhelper_cli.engine.docker_engine import connect
from stockhelper_cli.engine.endpoints import find
from tests.support import PREFIX
from tests.support.sandbox import Sandbox, alone, client, has_ended, sandbox

_PASSWORD: Final = "POSTGRES_PASSWORD"
#: A run's folder is called this and the number of its first process.
_FOLDER: Final = f"{PREFIX}template-"


@dataclass(frozen=True, slots=True)
class Template:
    """A stopped cluster in a folder of this machine, made when it is first asked for."""

    folder: Path

    def copy_into(self, project: Sandbox) -> bool:
        """Create the database's volume of a project that was never up, and fill it; it gets the template's password.

        Return whether that was done. If the engine's volumes cannot be reached here, or the project's database is not
        the template's, the project is left as it is and starts fresh.
        """
        if os.geteuid() != 0 or find(os.environ).socket_path is None:
            return False
        database = _Database.of(project)
        if database is None:
            return False
        mountpoint = database.create_volume()
        if mountpoint.is_dir():
            made = self._made()
            if database.facts() == json.loads((made / "facts.json").read_text()):
                _copy(made / "cluster", mountpoint)
                project.set(_PASSWORD, (made / "password").read_text())
                return True
        client().api.remove_volume(database.volume.name)
        return False

    def _made(self) -> Path:
        """Return where the template is; the first process of a run that asks makes it, the others wait."""
        made = self.folder / "made"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with _locked(self.folder):
            if not made.exists():
                self._make().rename(made)
        return made

    def _make(self) -> Path:
        """Make a template in a folder that is nobody's if this is killed."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        with sandbox(folder / "sandbox") as project:
            project.up("db")
            stopped = project.run("stop")
            assert stopped.code == 0, stopped.err
            database = _Database.of(project)
            assert database
            (folder / "cluster").mkdir()
            _copy(database.mountpoint(), folder / "cluster")
            (folder / "facts.json").write_text(json.dumps(database.facts()))
            (folder / "password").write_text(load_dotenv(project.root / ".env")[_PASSWORD])
        return folder


@dataclass(frozen=True, slots=True)
class _Database:
    """The database of a project, whose data is in a volume of the engine's default kind."""

    project: Project
    service: Service
    volume: Volume

    @classmethod
    def of(cls, project: Sandbox) -> _Database | None:
        loaded = load(project.root, environ=project.environment({}))
        service = database_service(loaded.services)
        volumes = [loaded.volumes[key] for key in service.volumes] if service else []
        if service is None or len(volumes) != 1 or volumes[0].external:
            return None
        if {"driver", "driver_opts"} & volumes[0].spec.keys():
            return None
        return cls(loaded, service, volumes[0])

    def facts(self) -> Mapping[str, Any]:
        """Return what a cluster depends on, except for the password."""
        environment = {**self.service.environment, _PASSWORD: ""}
        images = client().api.images(self.service.image, quiet=True)
        return {"image": images, "environment": environment, "command": self.service.spec.get("command")}

    def create_volume(self) -> Path:
        """Create the volume as `up` does, and return where its data is on the engine's machine."""
        with closing(connect(find(os.environ))) as engine:
            engine.create_volume(*volume_spec(self.project, self.volume))
        return self.mountpoint()

    def mountpoint(self) -> Path:
        return Path(client().api.inspect_volume(self.volume.name)["Mountpoint"])


def _copy(source: Path, target: Path) -> None:
    """Copy everything in a folder, and the folder's own owner and mode."""
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", target], check=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def template_of_run(process: int) -> Template:
    """Return the template of the run that this process started, for all of its workers."""
    return Template(Path(tempfile.gettempdir()) / f"{_FOLDER}{process}")


def remove_template(template: Template) -> None:
    """Remove a template, if it was made."""
    shutil.rmtree(template.folder, ignore_errors=True)


def remove_orphaned_templates() -> None:
    """Remove the templates of runs that were killed."""
    with alone():
        for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
            if has_ended(folder.name.removeprefix(_FOLDER)):
                remove_template(Template(folder))
