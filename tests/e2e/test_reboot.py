"""After the machine has booted, what ran runs again: an engine of the test's own is shut down, and loses its power."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import docker
import pytest

from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.sandbox import APP_IMAGE, Result, Sandbox, base_images, sandbox
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

SERVICES = ("app", "db", "migrate")


class Machine:
    """A stack on an engine of its own."""

    def __init__(self, engine: PrivateEngine, project: Sandbox) -> None:
        self.engine = engine
        self.project = project

    def run(self, *arguments: str) -> Result:
        """Run `stockhelper` on the machine to its end."""
        return self.project.run(*arguments, environment=self.engine.environment, within=self.engine.inside())

    def states(self) -> dict[str, str]:
        """Return each service's state."""
        engine = docker.DockerClient(base_url=self.engine.url)
        try:
            names = {service: f"{self.project.name}-{service}-1" for service in SERVICES}
            return {service: engine.containers.get(name).status for service, name in names.items()}
        finally:
            engine.close()

    def rows(self) -> str:
        """Return how many sentinels there are."""
        return self.run("psql", "-XAtc", "SELECT count(*) FROM sentinels").out.strip()


@pytest.fixture(scope="module")
def machine(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with private_engine() as engine, sandbox(tmp_path_factory.mktemp("reboot")) as project:
        assert project.run("build").code == 0  # on the machine's engine, which has what it is built on
        engine.load([APP_IMAGE, base_images()["POSTGRES_IMAGE"]])
        made = Machine(engine, project)
        result = made.run("up", "--no-build")
        assert result.code == 0, result.err
        sentinels = "CREATE TABLE sentinels AS SELECT generate_series(1, 100) id"
        assert made.run("psql", "-c", sentinels).code == 0
        yield made


@pytest.mark.parametrize("end", [PrivateEngine.shut_down, PrivateEngine.cut_power], ids=["shut down", "power cut"])
def test_what_ran_runs_again_with_every_row(machine: Machine, end: Callable[[PrivateEngine], None]) -> None:
    end(machine.engine)
    machine.engine.start()
    eventually(lambda: machine.run("status").code == 0)
    assert machine.states() == {"app": "running", "db": "running", "migrate": "exited"}
    assert machine.rows() == "100"


def test_what_was_stopped_stays_stopped(machine: Machine) -> None:
    assert machine.run("stop").code == 0
    machine.engine.cut_power()
    machine.engine.start()
    assert set(machine.states().values()) == {"exited"}
    assert machine.run("start").code == 0
    assert machine.rows() == "100"
