"""Base images: what is used, pulled, built and recorded; a silent registry or a failing recipe ends in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from stockhelper_cli import labels
from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.engine.protocol import Progress
from stockhelper_cli.engine.pull import Pull
from stockhelper_cli.errors import ConfigError, EngineError, StockhelperError
from stockhelper_cli.events import Event, Phase, Warned
from stockhelper_cli.machine import images
from stockhelper_cli.machine.base_images import Recipe, StandIn, recipe_digest
from stockhelper_cli.machine.images import BASES, Base, BaseImage, How, ensure_images
from tests.support import ROOT
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import PATIENCE

PINNED = "sha256:" + "0" * 64
PYTHON = Base("PYTHON_IMAGE", "python:9-slim", StandIn("python", "9"))
POSTGRES = Base("POSTGRES_IMAGE", "postgres:8-alpine", StandIn("postgres", "8"))


class Engine(FakeEngine):
    """A fake engine with a registry: `registry` says what a pull does."""

    def __init__(self) -> None:
        super().__init__()
        self.pulled: list[str] = []
        self.registry: Callable[[str, Progress], None] = refuse

    def pull(self, reference: str, progress: Progress) -> None:
        self.pulled.append(reference)
        self.registry(reference, progress)
        self.add_image(reference)


def refuse(reference: str, progress: Progress) -> None:
    raise EngineError("image.registry", f"could not pull the image {reference}", cause="no such host")


def serve(reference: str, progress: Progress) -> None:
    progress(f"Pulling from {reference}", None, None)
    progress("Downloading", 1, 2)


@dataclass
class World:
    """A project whose recipes take no time, and an engine."""

    root: Path
    engine: Engine = field(default_factory=Engine)
    events: list[Event | Warned] = field(default_factory=list)

    def recipe(self, family: str, script: str) -> None:
        folder = self.root / "docker" / "base" / family
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.sh").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "recipe.sh").chmod(0o755)
        (folder / "Dockerfile").write_text("ARG ROOTFS\nFROM $ROOTFS\n")

    def env(self, text: str) -> None:
        (self.root / ".env").write_text(text)

    def ensure(
        self, environ: dict[str, str] | None = None, *, registry_seconds: float = PATIENCE
    ) -> tuple[BaseImage, ...]:
        settings = load_dotenv(self.root / ".env")
        return ensure_images(
            self.engine,
            self.root,
            settings,
            environ or {},
            self.events.append,
            bases=(PYTHON, POSTGRES),
            registry_seconds=registry_seconds,
        )

    @property
    def built(self) -> set[str]:
        return {call[1] for call in self.engine.calls if call[0] == "build"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    for family in ("python", "postgres"):
        world.recipe(family, 'echo "I: working" >&2; echo "rootfs of $1"')
    world.env("A=1\n#PYTHON_IMAGE=python:9-slim\nB=2\n")
    monkeypatch.setattr(images, "prepare", lambda emit: None)
    return world


def test_the_defaults_are_those_of_the_compose_file() -> None:
    compose = (ROOT / "compose" / "compose.yaml").read_text()
    for base in BASES:
        assert f"${{{base.key}:-{base.default}}}" in compose


def test_stand_in_of_another_version_in_env_is_built(world: World) -> None:
    """A stand-in of another version is built if it is set in .env."""
    world.engine.add_image(PYTHON.default)
    world.env("POSTGRES_IMAGE=localhost/stockhelper-postgres:17\n")
    built = BaseImage("POSTGRES_IMAGE", "localhost/stockhelper-postgres:17", How.BUILT)
    assert world.ensure()[1] == built
    assert (world.built, world.engine.pulled) == ({built.reference}, [])
    assert world.ensure()[1] == replace(built, how=How.FOUND)


def test_what_belongs_to_a_profile_is_made_where_that_is_on(world: World) -> None:
    extra = Base("EXTRA_IMAGE", "extra:1", StandIn("extra", "1"), "extra")
    world.engine.registry = serve

    def keys(environ: dict[str, str]) -> list[str]:
        settings = load_dotenv(world.root / ".env")
        found = ensure_images(world.engine, world.root, settings, environ, world.events.append, bases=(PYTHON, extra))
        return [image.key for image in found]

    assert keys({}) == ["PYTHON_IMAGE"]
    assert keys({"COMPOSE_PROFILES": "other, extra"}) == ["PYTHON_IMAGE", "EXTRA_IMAGE"]
    world.env("COMPOSE_PROFILES=*\n")
    assert keys({}) == ["PYTHON_IMAGE", "EXTRA_IMAGE"]
    assert keys({"COMPOSE_PROFILES": ""}) == ["PYTHON_IMAGE"]


def test_images_that_are_there_are_used(world: World) -> None:
    for base in (PYTHON, POSTGRES):
        world.engine.add_image(base.default)
    assert [image.how for image in world.ensure()] == [How.FOUND, How.FOUND]
    assert (world.engine.pulled, world.engine.calls) == ([], [])


def test_missing_images_are_pulled_and_env_stays(world: World) -> None:
    world.engine.registry = serve
    before = (world.root / ".env").read_text()
    assert world.ensure() == (
        BaseImage("PYTHON_IMAGE", "python:9-slim", How.PULLED),
        BaseImage("POSTGRES_IMAGE", "postgres:8-alpine", How.PULLED),
    )
    assert (world.root / ".env").read_text() == before
    assert Event("pull", "image python:9-slim", Phase.PROGRESS, None, "Downloading", 1, 2) in world.events


def test_without_a_registry_stand_ins_are_built_and_recorded(world: World) -> None:
    assert world.ensure() == (
        BaseImage("PYTHON_IMAGE", "localhost/stockhelper-python:9", How.BUILT, recorded=True),
        BaseImage("POSTGRES_IMAGE", "localhost/stockhelper-postgres:8", How.BUILT, recorded=True),
    )
    assert (world.root / ".env").read_text() == (
        "A=1\nPYTHON_IMAGE=localhost/stockhelper-python:9\nB=2\nPOSTGRES_IMAGE=localhost/stockhelper-postgres:8\n"
    )
    image = world.engine.image("localhost/stockhelper-python:9")
    assert image is not None
    assert image.labels[labels.BASE_RECIPE] == recipe_digest(world.root / "docker" / "base", PYTHON.stand_in)
    assert world.engine.image("localhost/stockhelper-python-rootfs:9") is None
    assert [image.how for image in world.ensure()] == [How.FOUND, How.FOUND]


def test_new_env_reuses_the_stand_in_without_the_registry(world: World) -> None:
    """A new .env uses the stand-ins that were built before, without asking the registry."""
    world.ensure()
    world.engine.pulled.clear()
    world.env("")
    assert [(image.how, image.recorded) for image in world.ensure()] == [(How.FOUND, True), (How.FOUND, True)]
    assert world.engine.pulled == []


def test_an_outdated_stand_in_is_not_taken_unasked(world: World) -> None:
    world.ensure()
    world.env("")
    world.recipe("python", "echo other")
    assert [image.how for image in world.ensure()] == [How.BUILT, How.FOUND]


def test_recorded_stand_in_that_is_missing_is_rebuilt(world: World) -> None:
    """A recorded stand-in that is missing is rebuilt and never pulled."""
    world.env("PYTHON_IMAGE=localhost/stockhelper-python:9\nPOSTGRES_IMAGE=localhost/stockhelper-postgres:8\n")
    assert [image.how for image in world.ensure()] == [How.BUILT, How.BUILT]
    assert world.engine.pulled == []


@pytest.mark.parametrize(
    ("chosen", "code", "pulls"),
    [("registry.example/own:1", "image.registry", True), ("localhost/own:1", "image.missing", False)],
)
@pytest.mark.parametrize("by_shell", [False, True])
def test_an_image_that_the_user_chose_is_never_replaced(
    world: World, chosen: str, code: str, pulls: bool, by_shell: bool
) -> None:
    world.engine.add_image("postgres:8-alpine")
    before = f"PYTHON_IMAGE={'python:9-slim' if by_shell else chosen}\n"
    world.env(before)
    with pytest.raises(EngineError) as raised:
        world.ensure({"PYTHON_IMAGE": chosen} if by_shell else {})
    assert raised.value.code == code
    assert chosen in raised.value.message
    assert (chosen in world.engine.pulled, world.built) == (pulls, set())
    assert (world.root / ".env").read_text() == before


def test_one_that_is_there_stays_recorded_when_the_other_fails(world: World) -> None:
    recorded = f"grep -q ^PYTHON_IMAGE= {world.root}/.env"
    late = f"for _ in $(seq {int(PATIENCE) * 10}); do {recorded} && break; sleep 0.1; done"
    world.recipe("postgres", f'{late}; echo "E: no mirror" >&2; exit 3')
    with pytest.raises(StockhelperError, match="stockhelper-postgres:8"):
        world.ensure()
    assert load_dotenv(world.root / ".env")["PYTHON_IMAGE"] == "localhost/stockhelper-python:9"


def test_prepare_happens_once_for_both(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    monkeypatch.setattr(images, "prepare", lambda emit: prepared.append(1))
    world.ensure()
    assert prepared == [1]


def test_recipe_gets_mirror_and_proxies_from_env_and_shell(world: World) -> None:
    """A recipe gets the mirror and the proxies that are set in .env and in the shell."""
    world.recipe("python", 'echo "mirror $APT_MIRROR proxies $http_proxy $HTTPS_PROXY" >&2; echo rootfs')
    world.env("APT_MIRROR=http://m.example/debian\nHTTP_PROXY=http://file.example:1\nHTTPS_PROXY=of-the-file\n")
    world.ensure({"https_proxy": "http://shell.example:1", "HTTPS_PROXY": "http://shell.example:1"})
    told = {event.detail for event in world.events if isinstance(event, Event)}
    assert "mirror http://m.example/debian proxies http://file.example:1 http://shell.example:1" in told


def test_base_images_come_from_the_mirror_by_their_digest(world: World) -> None:
    asked: list[str] = []

    def registry(reference: str, progress: Progress) -> None:
        asked.append(reference)
        raise EngineError("image.registry", "no", cause="gone")

    world.engine.registry = registry
    world.env(f"REGISTRY_MIRROR=hub.example/x\nPYTHON_IMAGE=team/own:1@{PINNED}\n")
    world.engine.add_image(POSTGRES.default)
    with pytest.raises(EngineError) as raised:
        world.ensure()
    assert asked == [f"hub.example/x/team/own@{PINNED}"]
    assert raised.value.cause == "REGISTRY_MIRROR is hub.example/x: gone"


def test_invalid_mirror_is_rejected_before_any_pull(world: World) -> None:
    world.env("REGISTRY_MIRROR=https://hub.example\n")
    with pytest.raises(ConfigError, match="REGISTRY_MIRROR is not HOST"):
        world.ensure()
    assert world.engine.pulled == []


# --- pulls that are given up


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """Ends the silence of registries when the test is over, so that no thread outlives it."""
    over = threading.Event()
    yield over
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("pull "):
            thread.join()


def test_a_registry_that_does_not_answer_is_given_up(world: World, silence: threading.Event) -> None:
    def registry(reference: str, progress: Progress) -> None:
        progress(f"Pulling from {reference}", None, None)
        silence.wait()

    world.engine.registry = registry
    assert {image.how for image in world.ensure(registry_seconds=0.2)} == {How.BUILT}
    failed = [event for event in world.events if isinstance(event, Event) and event.verb == "pull" and event.seconds]
    assert {event.detail for event in failed} == {"its registry said nothing for 0.2 s"}


def test_a_pull_that_stalls_later_has_the_longer_patience(silence: threading.Event) -> None:
    engine = Engine()

    def registry(reference: str, progress: Progress) -> None:
        progress("Downloading", 1, 2)
        silence.wait()

    engine.registry = registry
    with pytest.raises(EngineError) as raised:
        Pull(engine, "x:1").run(lambda *line: None, registry_seconds=PATIENCE, stall_seconds=0.3)
    assert raised.value.cause == "its registry said nothing for 0.3 s"


def test_a_cancelled_pull_ends_at_once(silence: threading.Event) -> None:
    engine = Engine()

    def registry(reference: str, progress: Progress) -> None:
        silence.wait()

    engine.registry = registry
    pull = Pull(engine, "x:1")
    threading.Timer(0.05, pull.cancel).start()
    with pytest.raises(EngineError) as raised:
        pull.run(lambda *line: None, registry_seconds=PATIENCE)
    assert raised.value.cause == "it was cancelled"


# --- recipes


def test_a_failing_recipe_shows_its_last_lines(world: World) -> None:
    world.recipe("python", 'for i in $(seq 30); do echo "line $i" >&2; done; echo half; echo "E: bad" >&2; exit 7')
    with pytest.raises(StockhelperError) as raised:
        Recipe(world.root / "docker" / "base", PYTHON.stand_in).build(world.engine, world.events.append)
    assert (raised.value.code, raised.value.cause) == ("image.base", "E: bad")
    assert (len(raised.value.details), raised.value.details[-2:]) == (20, ("line 30", "E: bad"))
    assert world.engine.image(PYTHON.stand_in.reference) is None
    last = world.events[-1]
    assert isinstance(last, Event)
    assert last.phase is Phase.FAILED


def test_a_cancelled_recipe_is_ended(world: World) -> None:
    world.recipe("python", 'echo "I: begun" >&2; exec sleep 600')
    recipe = Recipe(world.root / "docker" / "base", PYTHON.stand_in)

    def emit(event: Event | Warned) -> None:
        if isinstance(event, Event) and event.detail == "I: begun":
            recipe.cancel()

    started = time.monotonic()
    with pytest.raises(StockhelperError, match="could not build"):
        recipe.build(world.engine, emit)
    assert time.monotonic() - started < PATIENCE
    with pytest.raises(StockhelperError) as raised:
        recipe.build(world.engine, emit)
    assert raised.value.cause == "it was cancelled"


def test_an_engine_that_reads_no_further_ends_the_recipe(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.recipe("python", "head -c 3000000 /dev/zero; exec sleep 600")

    def import_image(archive: Iterator[bytes], reference: str, changes: object) -> str:
        next(archive)
        raise EngineError("engine.lost", "gone")

    monkeypatch.setattr(world.engine, "import_image", import_image)
    started = time.monotonic()
    with pytest.raises(EngineError, match="gone"):
        Recipe(world.root / "docker" / "base", PYTHON.stand_in).build(world.engine, world.events.append)
    assert time.monotonic() - started < PATIENCE


def test_the_digest_counts_what_the_image_is_made_of(world: World) -> None:
    base = world.root / "docker" / "base"
    (base / "common.sh").write_text("1")
    first = recipe_digest(base, PYTHON.stand_in)
    world.recipe("postgres", "echo other")
    assert recipe_digest(base, PYTHON.stand_in) == first
    assert recipe_digest(base, StandIn("python", "10")) != first
    (base / "common.sh").write_text("2")
    assert recipe_digest(base, PYTHON.stand_in) != first
