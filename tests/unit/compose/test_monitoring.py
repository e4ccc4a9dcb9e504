"""The profile `monitoring` of the stack's own compose file: what it adds, and what it leaves alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from stockhelper_cli.compose import Project, load
from tests.support import ROOT

ON = {"COMPOSE_PROFILES": "monitoring"}


def project(folder: Path, **environ: str) -> Project:
    """Load a copy of the stack as it is with these variables."""
    shutil.copytree(ROOT / "compose", folder / "compose", dirs_exist_ok=True)
    (folder / ".env").write_text("POSTGRES_PASSWORD=a\nAPP_DB_PASSWORD=b\n")
    return load(folder, environ=environ)


def test_it_is_off_by_default_and_changes_no_other_service(tmp_path: Path) -> None:
    off, on = project(tmp_path), project(tmp_path, **ON)
    assert off.disabled == ("alertmanager", "prometheus")
    assert set(on.services) - set(off.services) == set(off.disabled)
    assert (set(off.volumes), set(on.volumes)) == (
        {"postgres_data"},
        {"postgres_data", "prometheus_data", "alertmanager_data"},
    )
    file = tmp_path / "compose" / "compose.yaml"
    text, cut = re.subn(r"  # --- Only with the profile.*?(?=^networks:)", "", file.read_text(), flags=re.M | re.S)
    assert cut == 1
    file.write_text(text)
    without = load(tmp_path, environ={})
    hashes = [{name: stack.services[name].config_hash("2.40") for name in off.services} for stack in (off, on, without)]
    assert hashes[0] == hashes[1] == hashes[2]


def test_nothing_waits_for_it(tmp_path: Path) -> None:
    services = project(tmp_path, **ON).services
    assert not services["prometheus"].depends_on
    assert not services["alertmanager"].depends_on


@pytest.mark.parametrize(
    ("environ", "configuration", "address"),
    [
        ({}, "compose/monitoring/alertmanager.yml", "/dev/null"),
        ({"ALERT_WEBHOOK_FILE": "/srv/hook"}, "compose/monitoring/alertmanager-webhook.yml", "/srv/hook"),
        ({"ALERTMANAGER_CONFIG": "/srv/own.yml"}, "/srv/own.yml", "/dev/null"),
        ({"ALERTMANAGER_CONFIG": "/srv/own.yml", "ALERT_WEBHOOK_FILE": "/srv/hook"}, "/srv/own.yml", "/srv/hook"),
    ],
    ids=["nobody", "webhook", "own", "both"],
)
def test_the_settings_say_who_is_told(
    tmp_path: Path, environ: dict[str, str], configuration: str, address: str
) -> None:
    mounts = project(tmp_path, **ON, **environ).services["alertmanager"].spec["volumes"]
    sources = {mount["target"]: mount["source"] for mount in mounts}
    assert sources["/etc/stockhelper/alertmanager.yml"] == str(tmp_path / configuration)
    assert sources["/etc/stockhelper/webhook"] == address
    assert (ROOT / configuration).exists() or configuration.startswith("/")
