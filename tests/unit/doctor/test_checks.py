"""Checks that need no engine, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stockhelper_cli.doctor import connections
from stockhelper_cli.doctor.check import Check
from stockhelper_cli.doctor.checks.config_mounts import ConfigMounts
from stockhelper_cli.doctor.checks.config_passwords import ConfigPasswords
from stockhelper_cli.doctor.context import Context
from stockhelper_cli.doctor.judge import judge
from stockhelper_cli.doctor.registry import Objection, objection_of, registry_of
from stockhelper_cli.errors import EngineError
from stockhelper_cli.findings import Finding
from stockhelper_cli.settings import load_settings
from tests.support.fake_engine import FakeEngine

GOOD = {
    "POSTGRES_USER": "u",
    "POSTGRES_DB": "d",
    "POSTGRES_PASSWORD": "Kd83-xPq_92mLw4z",
    "APP_DB_PASSWORD": "b" + "7Q-z" * 4,
}


def examined(check: Check, root: Path, environ: Mapping[str, str], *, yaml: str = "") -> Finding:
    """Examine a project of one compose file with one check alone."""
    from stockhelper_cli import compose

    (root / "compose.yaml").write_text(yaml or "services: {one: {image: x}}\n")
    engine = FakeEngine()
    engine.local = True
    context = Context(
        environ, lambda: root, lambda check: compose.load(root, environ=environ, check=check), engine=engine
    )
    return judge([check], context, assumed=check.needs)[0]


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "has 5 characters"),
        ("aaaaaaaaaaaaaaaaaaaa", "repeats the same few characters"),
        ("password12postgres", "words that everybody tries first"),
        ("Stockhelper123456", "words that everybody tries first"),
        ("name-of-database", "is the same as POSTGRES_DB"),
    ],
)
def test_a_weak_password_is_warned_of_with_the_reason(tmp_path: Path, password: str, why: str) -> None:
    environ = {**GOOD, "POSTGRES_DB": "name-of-database", "POSTGRES_PASSWORD": password}
    finding = examined(ConfigPasswords(), tmp_path, environ)
    assert finding.bad
    assert why in finding.evidence[0]


@pytest.mark.parametrize("password", ["canary-secret", "correct horse battery", "aB3-", "x" * 4 + "-Passw0rd-of-mine"])
def test_only_a_weak_one_is(tmp_path: Path, password: str) -> None:
    finding = examined(ConfigPasswords(), tmp_path, {**GOOD, "POSTGRES_PASSWORD": password})
    assert finding.bad == (len(password) < 12)


def test_one_password_for_both_roles_makes_them_one(tmp_path: Path) -> None:
    environ = {**GOOD, "APP_DB_PASSWORD": GOOD["POSTGRES_PASSWORD"]}
    assert "is the same as POSTGRES_PASSWORD" in examined(ConfigPasswords(), tmp_path, environ).evidence[0]
    load_settings(environ, None)  # which works, and is therefore only warned of


@pytest.mark.parametrize(
    ("user", "mode", "option", "lacks"),
    [
        ("10001:10001", 0o755, "", "write to"),
        ("10001:10001", 0o755, ":ro", ""),
        ("10001:10001", 0o700, ":ro", "read"),
        ("10001:10001", 0o777, "", ""),
        ("0:0", 0o700, "", ""),
        ("postgres", 0o700, "", ""),
    ],
)
def test_mount_is_checked_with_the_rights_of_its_user(
    tmp_path: Path, user: str, mode: int, option: str, lacks: str
) -> None:
    """A mount is checked with the rights of the user in the container."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    yaml = f'services: {{one: {{image: x, user: "{user}", volumes: ["./data:/data{option}"]}}}}\n'
    finding = examined(ConfigMounts(), tmp_path, {}, yaml=yaml)
    assert finding.summary == (f"one cannot {lacks} {folder}" if lacks else f"{folder} (one)")


@pytest.mark.parametrize(
    ("cause", "objection"),
    [
        ("toomanyrequests: You have reached your pull rate limit.", Objection.LIMITED),
        ("pull access denied for x, repository does not exist or may require 'docker login'", Objection.DENIED),
        ('Head "https://r/v2/x/manifests/1": no basic auth credentials', Objection.DENIED),
        ("manifest for x:1 not found: manifest unknown", Objection.UNKNOWN),
        ("dial tcp: lookup r on 192.0.2.1:53: no such host", Objection.UNREACHABLE),
        ("net/http: TLS handshake timeout", Objection.UNREACHABLE),
        ("received unexpected HTTP status: 500 Internal Server Error", Objection.UNREACHABLE),
    ],
)
def test_what_a_registry_said_is_told_from_its_silence(cause: str, objection: Objection) -> None:
    assert objection_of(EngineError("image.registry", "could not", cause=cause)) is objection


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("postgres:15", ""),
        ("library/postgres", ""),
        ("r.example/x:1", "r.example"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000"),
    ],
)
def test_a_registry_is_the_part_of_a_name_that_can_be_a_host(reference: str, registry: str) -> None:
    assert registry_of(reference, "") == registry


def test_connection_reserve_matches_the_service() -> None:
    """The doctor counts the same extra connections of the app as the service."""
    from stockhelper_app import db  # here, as the service's libraries would cost each run of the unit tests a second

    assert connections._BESIDES == db._BESIDES
