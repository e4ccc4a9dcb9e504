"""The bodies that create; that they are Compose's is shown in tests/contract/test_compose_model.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from stockhelper_cli import labels
from stockhelper_cli.compose import Project, load
from stockhelper_cli.compose.create import container_spec, endpoint, network_spec, volume_spec
from stockhelper_cli.engine.protocol import Container, Mount
from stockhelper_cli.errors import ConfigError

OLD, NEW = (1, 41), (1, 44)
NAMES = ["a" * 64, "b" * 64, "c" * 64]


def project(folder: Path, text: str) -> Project:
    (folder / "compose.yaml").write_text(text)
    return load(folder, project_name="p", environ={})


TWO_NETWORKS = """
services:
  a:
    image: x
    networks: {back: {aliases: [other]}, front: {priority: 5}, aside: }
networks: {back: , front: , aside: {external: true, name: real}}
"""


def test_older_engine_creates_one_network_and_joins_the_rest(tmp_path: Path) -> None:
    """An older engine gets the primary network at creation, and the others are joined afterwards."""
    found = project(tmp_path, TWO_NETWORKS)
    spec = container_spec(found, found.services["a"], image_id="sha256:1", api_version=OLD)
    assert spec.body["HostConfig"]["NetworkMode"] == "p_front"
    assert list(spec.body["NetworkingConfig"]["EndpointsConfig"]) == ["p_front"]
    assert spec.extra_networks == {
        "real": {"Aliases": ["p-a-1", "a"]},
        "p_back": {"Aliases": ["p-a-1", "a", "other"], "IPAMConfig": {}},
    }


def test_a_newer_engine_gets_them_all(tmp_path: Path) -> None:
    found = project(tmp_path, TWO_NETWORKS)
    spec = container_spec(found, found.services["a"], image_id="sha256:1", api_version=NEW)
    assert sorted(spec.body["NetworkingConfig"]["EndpointsConfig"]) == ["p_back", "p_front", "real"]
    assert not spec.extra_networks


def test_the_ten_labels(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        "services:\n"
        "  a:\n    image: x\n    labels: {mine: y}\n"
        "    depends_on: {b: {condition: service_healthy, restart: true}, c: {condition: service_started}}\n"
        "  b: {image: x}\n  c: {image: x}\n",
    )
    service = found.services["a"]
    spec = container_spec(found, service, number=2, image_id="sha256:1", api_version=OLD)
    assert spec.name == "p-a-2"
    assert spec.body["Labels"] == {
        "mine": "y",
        labels.PROJECT: "p",
        labels.SERVICE: "a",
        labels.CONFIG_HASH: service.hash,
        labels.NUMBER: "2",
        labels.ONEOFF: "False",
        labels.IMAGE: "sha256:1",
        labels.DEPENDS_ON: "b:service_healthy:true,c:service_started:false",
        labels.CONFIG_FILES: str(tmp_path / "compose.yaml"),
        labels.WORKING_DIR: str(tmp_path),
        labels.VERSION: "2.40.3",
    }


def test_env_files_that_were_asked_for_are_a_label_too(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1")
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    found = load(tmp_path, env_files=[Path("one.env")], environ={})
    spec = container_spec(found, found.services["a"], image_id="i", api_version=OLD)
    assert spec.body["Labels"]["com.docker.compose.project.environment_file"] == str(tmp_path / "one.env")


def test_service_with_build_only_uses_its_own_image_name(tmp_path: Path) -> None:
    """A service without `image` uses an image named after the project and the service."""
    found = project(tmp_path, "services: {a: {build: ., platform: linux/arm64}}")
    spec = container_spec(found, found.services["a"], image_id="sha256:1", api_version=OLD)
    assert (spec.body["Image"], spec.platform) == ("p-a", "linux/arm64")


def previous(mounts: Iterable[Mount]) -> Container:
    return Container("id", "p-a-1", "x", "sha256:1", "running", mounts=tuple(mounts))


@pytest.mark.parametrize(
    ("image_volumes", "kept"), [(("/image",), {"/image", "/own"}), (None, {"/image", "/own", "/gone"})]
)
def test_volumes_without_a_name_are_kept(image_volumes: tuple[str, ...] | None, kept: set[str], tmp_path: Path) -> None:
    found = project(tmp_path, "services: {a: {image: x, volumes: [/own, 'data:/data']}}\nvolumes: {data: }")
    before = previous(
        [
            Mount("volume", "/var/a", "/own", NAMES[0]),
            Mount("volume", "/var/b", "/image", NAMES[1]),
            Mount("volume", "/var/c", "/gone", NAMES[2]),
            Mount("volume", "/var/d", "/data", "p_data"),
            Mount("bind", "/host", "/bind"),
            Mount("tmpfs", "", "/tmp"),
        ]
    )
    spec = container_spec(
        found, found.services["a"], image_id="i", image_volumes=image_volumes, api_version=OLD, previous=before
    )
    host = spec.body["HostConfig"]
    assert {mount["Target"] for mount in host["Mounts"]} == kept
    assert {mount["Source"] for mount in host["Mounts"]} <= set(NAMES)
    assert host["Binds"] == ["p_data:/data:rw"]
    assert spec.body["Labels"][labels.REPLACE] == "a-1"


STARTING = "services:\n  a:\n    image: x\n    healthcheck:\n      test: 'true'\n      start_interval: 1s\n"


def test_start_interval_needs_engine_25_and_a_start_period(tmp_path: Path) -> None:
    found = project(tmp_path, STARTING)
    where = r"compose\.yaml:6: services\.a\.healthcheck\.start_interval: needs "
    with pytest.raises(ConfigError, match=where + "Docker Engine 25"):
        container_spec(found, found.services["a"], image_id="i", api_version=OLD)
    with pytest.raises(ConfigError, match=where + "a start_period"):
        container_spec(found, found.services["a"], image_id="i", api_version=NEW)
    found = project(tmp_path, STARTING + "      start_period: 5s\n")
    spec = container_spec(found, found.services["a"], image_id="i", api_version=NEW)
    assert spec.body["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"],
        "StartPeriod": 5_000_000_000,
        "StartInterval": 1_000_000_000,
    }


def test_the_endpoint_carries_aliases_for_every_connect(tmp_path: Path) -> None:
    found = project(tmp_path, "services: {a: {image: x, container_name: own}}")
    assert endpoint(found.services["a"], "default") == {"Aliases": ["own", "a"]}


def test_networks_and_volumes_carry_their_labels(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        "services: {a: {image: x, volumes: ['data:/d'], networks: [n]}}\n"
        "volumes: {data: {labels: [x=y]}}\nnetworks: {n: {internal: true}}",
    )
    name, body = network_spec(found, found.networks["n"])
    assert (name, body["Internal"], body["CheckDuplicate"]) == ("p_n", True, True)
    assert body["Labels"][labels.CONFIG_HASH] == found.networks["n"].hash
    name, body = volume_spec(found, found.volumes["data"])
    assert (name, body["Labels"]["x"], body["Labels"][labels.VOLUME]) == ("p_data", "y", "data")
