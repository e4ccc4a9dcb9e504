"""The app's image: what is in it, when it is built, and when it is not; and a release that cannot migrate."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import tarfile
import tempfile
import time

import pytest

from stockhelper_cli.labels import BUILD_INPUTS, MIGRATION_HEADS
from tests.e2e.listening import listening, own_address
from tests.e2e.release import Release
from tests.e2e.steps import healthy, refused, runs
from tests.support.refusals import explained
from tests.support.revisions import HEAD
from tests.support.sandbox import APP_IMAGE, TIME_LIMIT, Sandbox, base_images, client, interrupt
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.engine


def files_of(image: str) -> dict[str, str]:
    """Return every path of an image's file system with the digest of its content, empty for what is no file."""
    made = client().api.create_container(image, ["true"])
    found: dict[str, str] = {}
    try:
        with tempfile.TemporaryFile() as spool:
            for chunk in client().api.export(made["Id"]):
                spool.write(chunk)
            spool.seek(0)
            with tarfile.open(fileobj=spool) as archive:
                for entry in archive:
                    content = archive.extractfile(entry) if entry.isfile() else None
                    found["/" + entry.name] = hashlib.sha256(content.read()).hexdigest() if content else ""
    finally:
        client().api.remove_container(made["Id"], v=True)
    return found


@pytest.fixture(scope="module")
def files(stack: Sandbox) -> dict[str, str]:
    """The files of the app's image."""
    return files_of(APP_IMAGE)


def test_the_image_trusts_no_certificate_that_its_base_does_not(files: dict[str, str]) -> None:
    base = files_of(base_images()["PYTHON_IMAGE"])
    suspicious = (".crt", ".pem", ".cer")
    certificates = {
        path: digest
        for path, digest in files.items()
        if path.endswith(suspicious) and not path.startswith("/opt/venv/")
    }

    assert {path: digest for path, digest in certificates.items() if base.get(path) != digest} == {}
    assert not [path for path in files if path.startswith("/build") or "95roots" in path]


def test_the_image_has_no_compiler_no_headers_and_no_pip(files: dict[str, str]) -> None:
    names = {os.path.basename(path) for path in files if "/bin/" in path}  # noqa: PTH119
    assert names.isdisjoint({"gcc", "cc", "c++", "g++", "clang", "ld", "as", "make"})
    assert "/usr/include/postgresql/libpq-fe.h" not in files
    assert not [path for path in files if path.startswith("/opt/venv/") and "/pip/" in path]


def test_image_contains_only_the_service_and_migrations(files: dict[str, str]) -> None:
    ours = {path.split("/")[2] for path in files if path.startswith("/app/") and path != "/app/"}
    assert ours == {"stockhelper_app", "migrations"}
    named = {os.path.basename(path) for path in files}  # noqa: PTH119
    assert named.isdisjoint({".env", ".git", ".dockerignore", "Dockerfile", "compose.yaml"})


def test_image_runs_as_its_own_user_with_a_health_check(stack: Sandbox) -> None:
    config = client().images.get(APP_IMAGE).attrs["Config"]

    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "curl"]
    assert config["Cmd"][0] == "uvicorn"
    assert not config["Entrypoint"]


def test_image_labels_name_build_inputs_and_migration_heads(stack: Sandbox) -> None:
    labels = client().images.get(APP_IMAGE).labels

    assert labels[BUILD_INPUTS].startswith("sha256:")
    assert labels[MIGRATION_HEADS] == stack.psql("SELECT version_num FROM alembic_version")


def test_nothing_is_built_when_files_were_only_touched(stack: Sandbox) -> None:
    before, image = runs(stack), client().images.get(APP_IMAGE).id
    for path in (stack.root / "docker" / "app").rglob("*"):
        path.touch()
    for secret_or_text in (".git", "README.md", "backup.dump"):
        (stack.root / secret_or_text).write_text("not an input")

    assert stack.up().plan == []

    assert runs(stack) == before
    assert client().images.get(APP_IMAGE).id == image


def test_a_dry_run_says_that_it_would_build_and_why(release: Release) -> None:
    before = release.image_id()
    release.edit(release.app / "routes.py", '"name": "stockhelper"', '"name": "dry"')

    result = release.project.run("up", "--dry-run")

    assert f"build image {release.image}  (sources changed)" in result.out
    assert f"{release.project.name}-app-1" in result.out
    assert "image is built anew" in result.out
    assert release.image_id() == before


def test_no_build_uses_the_image_that_is_there(release: Release) -> None:
    before = runs(release.project)
    release.edit(release.app / "routes.py", '"name": "stockhelper"', '"name": "not built"')

    assert release.project.up("--no-build").plan == []

    assert runs(release.project) == before


def test_no_build_without_an_image_is_refused(project: Sandbox) -> None:
    project.set("APP_IMAGE", "localhost/shtest-absent:latest")

    refused(project, project.run("up", "--no-build"), 4, "localhost/shtest-absent:latest", "--no-build")


def test_build_builds_what_has_not_changed(release: Release) -> None:
    result = release.project.up("--build")

    assert f"build image {release.image}" in result.plan
    assert healthy(release.project)


def test_failed_build_shows_its_last_lines_and_changes_nothing(release: Release) -> None:
    """A failed build shows the last lines of the failed step, and running services continue."""
    before = runs(release.project)
    release.edit(release.dockerfile, "USER 10001:10001", "RUN echo about to fail && exit 7\nUSER 10001:10001")

    result = release.project.run("up")

    explained(result, 1, release.image, "  | about to fail", "returned a non-zero code: 7")
    assert "pip wheel" not in result.err
    assert runs(release.project) == before
    assert healthy(release.project)


@pytest.mark.parametrize(
    ("key", "path", "asked_for"),
    [("APT_MIRROR", "/debian", ("/debian/dists/", "/debian-security/dists/")), ("HTTP_PROXY", "", ("http://",))],
)
def test_a_build_fetches_by_the_way_that_is_named(
    release: Release, key: str, path: str, asked_for: tuple[str, ...]
) -> None:
    asked: list[str] = []

    def answer(connection: socket.socket) -> None:
        if not (request := connection.recv(65536)):  # who only connects
            return
        asked.append(request.decode().split()[1])
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    # By another proxy nothing is fetched anew; by another mirror everything is.
    elsewhere = {"APT_MIRROR": "http://mirror.invalid/debian"} if key == "HTTP_PROXY" else {}
    with listening(own_address(), answer) as port:
        named = {key: f"http://{own_address()}:{port}{path}", **elsewhere}
        result = release.project.run("build", "app", environment=named)

    explained(result, 1, release.image)
    assert [each for each in asked if not each.startswith(asked_for)] == []
    # Each of them, the security suite too: every base image has it.
    assert {start for start in asked_for if any(each.startswith(start) for each in asked)} == set(asked_for)


def test_a_build_takes_the_package_index_that_is_named(release: Release) -> None:
    result = release.project.run("build", "app", environment={"PIP_INDEX_URL": f"http://{own_address()}/simple"})

    # Without TLS pip asks none, and says which it would have.
    explained(result, 1, release.image, f"The repository located at {own_address()} is not a trusted or secure host")


def test_a_build_that_lacks_a_file_names_it(release: Release) -> None:
    before = runs(release.project)
    release.edit(release.dockerfile, "USER 10001:10001", "COPY docker/app/absent.txt /absent\nUSER 10001:10001")

    explained(release.project.run("up"), 1, release.image, "docker/app/absent.txt")

    assert runs(release.project) == before


def test_an_interrupted_build_is_given_up_here_and_by_the_engine(release: Release) -> None:
    project, before = release.project, runs(release.project)
    image = release.image_id()
    silent = f"sleep 6{os.getpid()}"
    release.dockerfile.write_text(release.dockerfile.read_text() + f"RUN {silent}\n")
    process = project.start("up")
    eventually(lambda: any(silent in command for command in commands()))
    began = time.monotonic()
    result = interrupt(process, signal.SIGINT)
    assert time.monotonic() - began < PATIENCE
    explained(result, 130, f"not done: build image {release.image}", "what was started goes on running")
    eventually(lambda: not any(silent in command for command in commands()))
    assert (runs(project), release.image_id()) == (before, image)


def commands() -> list[str]:
    """Return what the engine's containers run, those of its builds too."""
    return [str(container.attrs["Config"]["Cmd"]) for container in client().containers.list(ignore_removed=True)]


def test_a_migration_that_fails_exits_6_and_what_ran_still_runs(release: Release) -> None:
    project = release.project
    before = runs(project, "app", "db")
    release.add_migration('op.execute("create table half (id int)")\nop.execute("select 1/0")')
    result = project.run("up")
    explained(result, 6, "the migration failed", "division by zero", "next: stockhelper logs migrate")
    assert runs(project, "app", "db") == before
    assert healthy(project)
    assert project.psql("select version_num from alembic_version") == HEAD
    assert project.psql("select to_regclass('half') is null") == "t"


# --- what is built and taken: the next test has to build the sources as they were


def test_changed_source_replaces_migrate_and_app_only(release: Release) -> None:
    """Changed source builds an image and replaces `migrate` and `app`, but not the database."""
    project = release.project
    before, image = runs(project), release.image_id()
    release.edit(release.app / "routes.py", '"name": "stockhelper"', '"name": "changed"')

    result = project.up()

    assert f"build image {release.image}" in result.plan
    assert project.get("/api/v1").json()["name"] == "changed"
    after = runs(project)
    assert after["db"] == before["db"]
    assert after["app"][0] != before["app"][0]
    assert after["migrate"][0] != before["migrate"][0]
    assert release.image_id() != image
    assert project.up().plan == []


@pytest.mark.compose
@pytest.mark.slow
def test_image_built_by_compose_is_used_with_a_warning(release: Release) -> None:
    """An image that Compose built is used with a warning until `--build` replaces it."""
    project = release.project
    project.compose("build", seconds=4 * TIME_LIMIT)  # nothing of it is in the builder's cache
    assert BUILD_INPUTS not in client().images.get(release.image).labels

    first = project.up()
    assert f"build image {release.image}" not in first.plan
    (warning,) = first.json["warnings"]
    assert release.image in warning
    assert "--build" in warning
    assert healthy(project)
    assert project.up().plan == []

    project.up("--build")
    assert BUILD_INPUTS in client().images.get(release.image).labels
    assert project.up().json["warnings"] == []
    assert healthy(project)
