"""The two engines that one suite is run on, each behind a `Lab` that makes what the tests need alike on both."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker import DockerClient
from docker.errors import APIError

from stockhelper_cli.engine.protocol import BuildOptions, Container, Engine, ExecResult
from stockhelper_cli.errors import NotFound
from tests.support import PREFIX
from tests.support.fake_engine import FakeEngine
from tests.support.sandbox import alone, base_images, client, has_ended
from tests.support.waiting import PATIENCE, eventually

#: On everything that a test makes on the real engine, with the test's mark; leftovers of a killed run are found by it.
LABEL = "stockhelper.contract-test"
#: Ends at once, and with 0, when it is told to stop; so does a well-behaved service.
FOREVER = "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"


@dataclass
class Lab:
    """One engine, an image to make containers of, and names that nobody else uses."""

    engine: Engine
    image: str
    #: Container name -> the exit code with which it ends at once.
    endings: dict[str, int] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: f"{os.getpid()}-{uuid.uuid4().hex[:8]}")

    def name(self, suffix: str) -> str:
        """Return a name of this test's own."""
        return f"{PREFIX}{self.mark}-{suffix}"

    def tag(self, suffix: str) -> str:
        """Return an image reference of this test's own."""
        return f"localhost/{self.name(suffix)}:1"

    @property
    def labels(self) -> dict[str, str]:
        """What everything that this test makes is labelled with."""
        return {LABEL: self.mark}

    @property
    def selector(self) -> list[str]:
        """The label that selects what this test made."""
        return [f"{LABEL}={self.mark}"]

    def create(
        self,
        suffix: str = "one",
        *,
        ends: int | None = None,
        says: Sequence[str] = (),
        complains: Sequence[str] = (),
        host: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> str:
        """Create a container that says some lines, then some on stderr, and then runs on, or ends with an exit code.

        Return its name.
        """
        name = self.name(suffix)
        if ends is not None:
            self.endings[name] = ends
        spoken = [*(f"echo '{line}'" for line in says), *(f"echo '{line}' >&2" for line in complains)]
        script = "; ".join([*spoken, FOREVER if ends is None else f"exit {ends}"])
        if isinstance(self.engine, FakeEngine):
            self.engine.log[name] = list(says)
            for line in complains:
                self.engine.say(name, line, 2)
        settings = {"Image": self.image, "Cmd": ["sh", "-c", script], "HostConfig": {"Init": True, **(host or {})}}
        labels = {**self.labels, **body.pop("Labels", {})}
        self.engine.create_container(name, {**settings, "Labels": labels, **body})
        return name

    def run(
        self,
        suffix: str = "one",
        *,
        ends: int | None = None,
        says: Sequence[str] = (),
        complains: Sequence[str] = (),
        **settings: Any,
    ) -> str:
        """Create a container and start it; one that runs on has said its lines and heeds a stop from then on."""
        name = self.create(suffix, ends=ends, says=says, complains=complains, **settings)
        self.engine.start(name)
        if ends is None and not isinstance(self.engine, FakeEngine):
            eventually(lambda: _has_come_to_its_loop(name))
            eventually(lambda: len(self.engine.logs(name)) == len(says) + len(complains))
        return name

    def finished(self, suffix: str = "one", *, code: int = 0, **settings: Any) -> str:
        """Run a container to its end."""
        name = self.run(suffix, ends=code, **settings)
        if not isinstance(self.engine, FakeEngine):
            with closing(client()) as sdk:
                sdk.api.wait(name)
        return name

    def network(self, suffix: str = "net") -> str:
        """Create a network."""
        name = self.name(suffix)
        self.engine.create_network(name, {"Labels": self.labels})
        return name

    def volume(self, suffix: str = "data") -> str:
        """Create a volume."""
        name = self.name(suffix)
        self.engine.create_volume(name, {"Labels": self.labels})
        return name

    def imported(self, suffix: str = "empty", changes: Sequence[str] = ()) -> str:
        """Make an image of nothing and return its reference; `suffix` is in it, so that no other one has its id."""
        reference = self.tag(suffix)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(self.name(suffix)))
        self.engine.import_image(iter([content.getvalue()]), reference, changes)
        return reference

    def context(self, folder: Path, dockerfile: str, **files: str) -> BuildOptions:
        """Write a build context and return the build of it."""
        (folder / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            (folder / name).write_text(content)
        return BuildOptions(folder, "Dockerfile", self.tag("built"), labels=self.labels)

    def pause(self, name: str) -> None:
        """Freeze a container, as somebody with `docker pause` does."""
        if isinstance(self.engine, FakeEngine):
            self.engine.change(name, status="paused")
        else:
            with closing(client()) as sdk:
                eventually(lambda: _is_paused(sdk, name))

    def container(self, suffix: str = "one") -> Container:
        """Return one of this test's containers."""
        return self.engine.container(self.name(suffix))


def _is_paused(sdk: DockerClient, name: str) -> bool:
    """Pause a container; return whether it is. Under load a kernel takes longer to freeze one than an engine waits."""
    try:
        sdk.api.pause(name)
    except APIError as error:
        if "unable to freeze" not in str(error):
            raise
        return False
    return True


def _has_come_to_its_loop(name: str) -> bool:
    """Return whether a container sleeps by now: its shell's trap is set before, and what it says has been said.

    Looked for from outside, since a command in it would take five times as long.
    """
    with closing(client()) as sdk, suppress(psutil.NoSuchProcess):
        first = psutil.Process(sdk.api.inspect_container(name)["State"]["Pid"])
        return any(child.name() == "sleep" for child in first.children(recursive=True))
    return False


def _on_this_machine(name: str, command: Sequence[str], typed: bytes = b"") -> ExecResult:
    """Run the command of an exec here: what it gives is what a container of any distribution gives."""
    done = subprocess.run(list(command), input=typed, capture_output=True, check=False, timeout=PATIENCE)
    return ExecResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def real_engine() -> Iterator[Engine]:
    """The engine of this machine. Without one the tests fail: they are not skipped."""
    from stockhelper_cli.engine.docker_engine import connect
    from stockhelper_cli.engine.endpoints import find

    engine = connect(find(os.environ))
    with alone():
        for mark in {row["Labels"][LABEL] for rows in _rows(LABEL) for row in rows}:
            if has_ended(mark):  # another run, at the same time on the same engine, keeps its own
                _sweep(mark)
    yield engine
    engine.close()


def _rows(label: str) -> tuple[Sequence[Mapping[str, Any]], ...]:
    """Return the real engine's lists of what carries a label: containers, networks and volumes."""
    api, chosen = client().api, {"label": label}
    volumes = api.volumes(filters=chosen)["Volumes"] or ()
    return api.containers(all=True, filters=chosen), api.networks(filters=chosen), volumes


def _sweep(mark: str) -> None:
    """Remove whatever carries a test's mark from the real engine."""
    # Until there is nothing: the engine may still be removing something itself.
    eventually(lambda: _nothing_left(mark))


def _nothing_left(mark: str) -> bool:
    """Remove what can be removed now, and return whether there was nothing."""
    with closing(client()) as engine:
        containers, networks, volumes = found = _rows(f"{LABEL}={mark}")
        for container in containers:
            with suppress(APIError):
                engine.api.remove_container(container["Id"], force=True, v=True)
        for network in networks:
            with suppress(APIError):
                engine.api.remove_network(network["Id"])
        for volume in volumes:
            with suppress(APIError):
                engine.api.remove_volume(volume["Name"])
    return not any(found)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The fake engine, then the real one."""
    if request.param == "fake":
        fake = FakeEngine({"localhost/python:1": {"of": "the image"}})
        made = Lab(fake, "localhost/python:1")
        fake.scripts = made.endings.get
        fake.answer = _on_this_machine
        fake.answer_input = _on_this_machine
        yield made
        return
    made = Lab(request.getfixturevalue("real_engine"), base_images()["PYTHON_IMAGE"])
    yield made
    _sweep(made.mark)
    with closing(client()) as engine:
        # As they are listed: of those of other tests, one may be gone before it could be inspected.
        for image in engine.api.images():
            for tag in image["RepoTags"] or ():
                if made.mark in tag:
                    with suppress(NotFound):
                        made.engine.remove_image(tag)


@pytest.fixture
def engine(lab: Lab) -> Engine:
    """The engine alone."""
    return lab.engine
