"""REGISTRY_MIRROR: every image of the public registry comes from the mirror, checked by its digest, by its own name."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest

from tests.e2e.diagnosis import diagnose, run_patiently
from tests.support.ports import free_port
from tests.support.refusals import explained
from tests.support.registry import Registry, serving
from tests.support.sandbox import RUN_PREFIX, Sandbox, base_images, client, sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow]

#: A name of the public registry that only these tests' mirror has.
IMAGE = f"{RUN_PREFIX}mirrored"
#: Nothing in it runs: a container of it is made, and that is all.
STACK = """
services:
  one:
    image: ${ONE}
    container_name: ${COMPOSE_PROJECT_NAME}-one-1
  two:
    image: localhost/%s
    build: {context: ../docker/two, args: {BASE: "${ONE}"}}
"""


def names_of(kind: str) -> list[str]:
    """Return the tags or the digests of these tests' images.

    By the plain list: to ask for each image stumbles over those of other tests, which go meanwhile.
    """
    return [name for image in client().api.images() for name in image[kind] or () if IMAGE in name]


@pytest.fixture
def mirror() -> Iterator[Registry]:
    with serving() as registry:
        yield registry
    for kind in ("RepoTags", "RepoDigests"):  # with the last tag of a repository its digests go
        for name in names_of(kind):
            client().images.remove(name, force=True)


@pytest.fixture(scope="module")
def shared(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("mirror")) as made:
        (made.root / "compose" / "compose.yaml").write_text(STACK % f"{IMAGE}-built")
        (made.root / "docker" / "two").mkdir()
        (made.root / "docker" / "two" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nLABEL two=2\n")
        yield made


@pytest.fixture
def project(shared: Sandbox, mirror: Registry) -> Sandbox:
    shared.set("REGISTRY_MIRROR", mirror.host)
    shared.set("ONE", f"{IMAGE}:1")
    return shared


def fresh(mirror: Registry, tag: str = "1") -> str:
    """Put an image there that the engine has never seen: what it knows by its digest it does not ask for again."""
    return mirror.add(f"library/{IMAGE}:{tag}", {"content": uuid.uuid4().hex})


def present(name: str) -> bool:
    try:
        client().images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def test_images_from_the_mirror_keep_their_names(project: Sandbox, mirror: Registry) -> None:
    """Images pulled from the mirror keep their own names, and the output shows the digest."""
    digest = fresh(mirror)
    project.set("PYTHON_IMAGE", f"{IMAGE}:1")

    pulled = project.run("images", "pull")

    assert pulled.code == 0, pulled.err
    assert f"{mirror.host}/library/{IMAGE}@{digest}" in pulled.out
    assert names_of("RepoTags") == [f"{IMAGE}:1"]
    assert mirror.asked[:2] == [f"library/{IMAGE}/1", f"library/{IMAGE}/{digest}"]
    project.set("PYTHON_IMAGE", "localhost/none:1")


def test_build_uses_the_mirror_and_pull_updates_the_base(project: Sandbox, mirror: Registry) -> None:
    """A build gets its base image from the mirror, and `build --pull` gets it again."""
    fresh(mirror)
    assert project.run("build").code == 0
    first = client().images.get(f"{IMAGE}:1").id
    fresh(mirror)
    assert project.run("build").code == 0
    assert client().images.get(f"{IMAGE}:1").id == first

    result = project.run("build", "--pull")

    assert result.code == 0, result.err
    assert client().images.get(f"{IMAGE}:1").id != first
    assert client().images.get(f"localhost/{IMAGE}-built").labels["two"] == "2"
    built, base = (client().images.get(name).attrs["RootFS"] for name in (f"localhost/{IMAGE}-built", f"{IMAGE}:1"))
    assert built == base


def test_an_image_that_is_pinned_is_taken_by_up_and_by_a_build(project: Sandbox, mirror: Registry) -> None:
    digest = fresh(mirror)
    project.set("ONE", f"{IMAGE}:1@{digest}")

    result = project.run("up", "--json")

    # There is nothing in it that could be started.
    assert result.json["error"]["message"].startswith("could not start the container")
    assert client().images.get(f"{IMAGE}:1").attrs["RepoDigests"] == [f"{mirror.host}/library/{IMAGE}@{digest}"]
    assert project.container("one")["Image"] == client().images.get(f"{IMAGE}:1").id
    assert present(f"localhost/{IMAGE}-built")
    project.run("down")


def test_image_other_than_the_pinned_one_is_rejected(project: Sandbox, mirror: Registry) -> None:
    """An image whose digest differs from the pinned one is rejected, and nothing of it is left."""
    digest, other = fresh(mirror), fresh(mirror, "2")
    mirror.manifests[f"library/{IMAGE}/{digest}"] = mirror.manifests[f"library/{IMAGE}/{other}"]
    project.set("ONE", f"{IMAGE}:1@{digest}")

    explained(project.run("images", "pull"), 4, f"from the mirror {mirror.host}", "REGISTRY_MIRROR", digest)

    assert names_of("RepoTags") == []
    assert not [name for name in names_of("RepoDigests") if digest in name]


@pytest.mark.parametrize(("status", "said"), [(401, "wants a login"), (404, "has no such image"), (500, "reached")])
def test_mirror_error_is_reported_by_pull_and_doctor(
    project: Sandbox, mirror: Registry, status: int, said: str
) -> None:
    """If the mirror rejects a request, `images pull` names its setting and `doctor` says why."""
    fresh(mirror)
    mirror.status = status

    explained(project.run("images", "pull"), 4, f"from the mirror {mirror.host}", f"REGISTRY_MIRROR is {mirror.host}")

    told = diagnose(project, "--only", "network").told("network.registry")
    assert f"the mirror {mirror.host}, of which {IMAGE}:1 is to come," in told
    assert said in told
    assert names_of("RepoTags") == []


def test_unreachable_mirror_is_reported_by_pull_and_doctor(project: Sandbox) -> None:
    """`images pull` and `doctor` report an unreachable mirror with its address and the cause."""
    gone = f"127.0.0.1:{free_port()}"
    environment = {"REGISTRY_MIRROR": gone}

    explained(project.run("images", "pull", environment=environment), 4, gone, "connection refused")

    findings = json.dumps(run_patiently(project, "doctor", "--json", "--only", "network", environment=environment).json)
    assert f"dial tcp {gone}: connect: connection refused" in findings


def test_images_of_another_registry_do_not_come_from_the_mirror(project: Sandbox, mirror: Registry) -> None:
    with serving() as registry:
        digest = registry.add(f"{IMAGE}:1", {"content": uuid.uuid4().hex})
        project.set("ONE", f"{registry.host}/{IMAGE}:1")
        assert project.run("build").code == 0
        assert registry.asked
        assert client().images.get(f"{registry.host}/{IMAGE}:1").attrs["RepoDigests"][0].endswith(digest)
    assert mirror.asked == []


SHOWN = "LABEL two=2\nRUN echo told $http_proxy $HTTPS_PROXY $no_proxy"
SECRET = "http://me:canary-secret@proxy.invalid:3128"


def test_build_gets_proxies_and_image_contains_none(project: Sandbox, tmp_path: Path) -> None:
    """A build gets the proxy settings, but the image and its history contain nothing of them."""
    dockerfile = project.root / "docker" / "two" / "Dockerfile"
    before = dockerfile.read_text()
    project.set("ONE", base_images()["PYTHON_IMAGE"])
    project.set("HTTP_PROXY", SECRET)
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"noProxy": "of.config.invalid"}}}))
    dockerfile.write_text(before.replace("LABEL two=2", f"{SHOWN}; exit 7"))
    environment = {"https_proxy": "http://shell.invalid:1", "DOCKER_CONFIG": str(tmp_path)}

    told = project.run("build", environment=environment)

    explained(told, 1, f"told {SECRET} http://shell.invalid:1 of.config.invalid")
    dockerfile.write_text(before.replace("LABEL two=2", SHOWN))
    assert project.run("build", environment=environment).code == 0
    image = client().images.get(f"localhost/{IMAGE}-built")
    assert "canary-secret" not in json.dumps([image.history(), image.attrs])
    assert "shell.invalid" not in json.dumps([image.history(), image.attrs])

    # By which way it comes is no reason to build anew; another proxy costs nothing of the cache.
    project.set("HTTP_PROXY", "http://other.invalid:3128")
    assert "build image" not in project.run("up", "--dry-run").out
    assert project.run("build", environment=environment).code == 0
    assert client().images.get(f"localhost/{IMAGE}-built").id == image.id
    dockerfile.write_text(before)
    project.set("HTTP_PROXY", "")


@pytest.mark.compose
def test_compose_uses_what_came_from_the_mirror(project: Sandbox, mirror: Registry) -> None:
    fresh(mirror)
    assert project.run("build").code == 0
    mirror.asked.clear()

    project.compose("create", "--pull", "missing", "one")

    assert project.container("one")["Image"] == client().images.get(f"{IMAGE}:1").id
    assert mirror.asked == []
    project.run("down")
