"""Which images a Dockerfile is built on."""

from __future__ import annotations

import pytest

from stockhelper_cli.converge.dockerfile import bases_of
from tests.support import ROOT


@pytest.mark.parametrize(
    ("dockerfile", "bases"),
    [
        ("FROM one:1\nRUN true\n", ("one:1",)),
        ("# FROM no\n  from --platform=linux/amd64 one AS x\nFROM x\nFROM scratch\nFROM two", ("one", "two")),
        ("ARG A=one:1\nFROM ${A} AS b\nFROM $A\n", ("one:1",)),
        ('ARG A="one:1"\nARG B\nFROM $A\nFROM ${B:-two}\n', ("one:1", "two")),
        ("ARG GIVEN=one\nFROM hub.example/$GIVEN:1\n", ("hub.example/given:1",)),
        ("FROM one\nARG A=two\nFROM $A\n", ("one",)),
        ("ARG A=1\nFROM one:${A%.*}\n", ()),
        ("FROM one\nRUN psql -c 'SELECT 1 \\\n  FROM two'\n", ("one",)),
        ("FROM one AS b\nCOPY --from=b / /\nCOPY --from=0 / /\nCOPY --chown=1 --from=two:2 /x /\n", ("one", "two:2")),
    ],
)
def test_bases_are_what_is_neither_a_stage_nor_scratch(dockerfile: str, bases: tuple[str, ...]) -> None:
    assert bases_of(dockerfile, {"GIVEN": "given"}) == bases


def test_the_services_image_is_built_on_the_setting() -> None:
    dockerfile = (ROOT / "docker" / "app" / "Dockerfile").read_text()
    assert bases_of(dockerfile, {"PYTHON_IMAGE": "mine:1"}) == ("mine:1",)
