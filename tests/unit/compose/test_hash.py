"""Config hashes; the expected ones were written by docker compose 2.40.3."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockhelper_cli.compose import Project, load
from stockhelper_cli.compose.hash import UNHASHED, go_json

FILE = Path(__file__).parent / "projects" / "golden.yaml"


@pytest.fixture(scope="module")
def golden() -> Project:
    return load(FILE.parent, files=[FILE], environ={})


SERVICES = {
    "plain": "d5457d0b2799957b606d2ac4ed52d85a1e75799490e56229948300b9a59e8953",
    "db": "386fd7f737e86f226590359bc01e2d11ce337c415a91833ab809786b7de659cf",
    "app": "34cdd4ac59c0b6ad6ec46438bce292f6653b8369de81a1dd31c95391ee5ba28b",
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_hash_is_composes(name: str, golden: Project) -> None:
    assert golden.services[name].hash == SERVICES[name]


def test_the_hashes_of_networks_and_volumes_are_composes(golden: Project) -> None:
    assert golden.networks["net"].hash == "e1e0e82536699e3801e006e621953cbcb12ad8e39b32211fb8e9c8e254b20bfb"
    assert golden.networks["default"].hash == "4c6068ce60242543620cc66ae2f3d0f41c573a1012f385d0a80882cc11d934c9"
    assert golden.volumes["data"].hash == "fed63a827ee636ec1ba71b16bba1f16532c117ca82bda9a14f30484771b74dc2"


def test_compose_5_leaves_the_default_of_a_bind_out(golden: Project) -> None:
    assert golden.services["db"].config_hash("5.0") == golden.services["db"].hash
    assert golden.services["app"].config_hash("5.0") != golden.services["app"].hash


def test_what_does_not_count_is_said_in_the_table_of_keys() -> None:
    assert {"build", "depends_on", "profiles", "pull_policy"} == UNHASHED


def test_json_is_written_as_go_writes_it() -> None:
    assert go_json({"b": "<é&>\u2028", "a": [1, 0.3, 1e-7, 2.0, None, True, {}]}) == (
        '{"b":"\\u003cé\\u0026\\u003e\\u2028","a":[1,0.3,1e-7,2,null,true,{}]}'
    )
