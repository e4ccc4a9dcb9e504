"""The recipes' command line: this machine's own mirrors and proxies, for the release that brings the version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

BASE = Path(__file__).parents[3] / "docker" / "base"
CONFIG = """\
APT::Architecture "amd64";
Acquire::http::Proxy "http://user:pass@proxy.example:3128";
Acquire::http::Proxy::direct.example "DIRECT";
Acquire::https::CAInfo "/etc/ssl/certs/own pem.crt";
Acquire::https::Verify-Peer "";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Packages "";
"""


def codename() -> str:
    """Return this machine's Debian release, "" on another distribution."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release["VERSION_CODENAME"].strip('"') if release.get("ID") == "debian" else ""


def arguments(tmp_path: Path, recipe: str, version: str, targets: str, **variables: str) -> list[str]:
    """Return what a recipe gives mmdebstrap on a machine with these apt sources, and variables."""
    for name, script in {
        "mmdebstrap": 'for argument; do printf "%s\\n" "$argument"; done',
        "apt-config": f"cat <<'END'\n{CONFIG}END",
        "apt-get": f"cat <<'END'\n{targets}END",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    command = [str(BASE / recipe / "recipe.sh"), version]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("recipe", "version", "suite"),
    [
        ("python", "3.13", "trixie"),
        ("python", "3.11", "bookworm"),
        ("postgres", "15", "bookworm"),
        ("postgres", "17", "trixie"),
        ("prometheus", "2.53", "trixie"),
        ("alertmanager", "0.28", "trixie"),
    ],
)
def test_the_release_is_taken_from_this_machines_own_mirrors(
    tmp_path: Path, recipe: str, version: str, suite: str
) -> None:
    own = codename() or "none"
    targets = (
        f"http://mirror.example/debian/ {own} main\nhttp://mirror.example/debian/ {own} contrib\n"
        f"http://mirror.example/security/ {own}-security main\nhttps://other.example/repo nodistro main\n"
    )
    given = arguments(tmp_path, recipe, version, targets)
    first = given.index(suite)
    signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example"
    expected = [f"{signed}/debian/ {suite} main", f"{signed}/security/ {suite}-security main"] if codename() else []
    assert given[first:] == [suite, "-", *expected]


def test_without_mirrors_of_its_own_mmdebstrap_takes_the_public_ones(tmp_path: Path) -> None:
    assert arguments(tmp_path, "python", "3.13", "http://ubuntu.example/ubuntu/ noble main\n")[-2:] == ["trixie", "-"]


def test_proxies_and_certificates_of_this_machine_are_used(tmp_path: Path) -> None:
    given = arguments(tmp_path, "python", "3.13", "")
    options = [argument.removeprefix("--aptopt=") for argument in given if argument.startswith("--aptopt=Acquire::")]
    assert options == ['Acquire::Languages "none"', *CONFIG.splitlines()[1:4], CONFIG.splitlines()[5]]


def test_a_version_without_a_recipe_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([BASE / "python" / "recipe.sh", "2.7"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: no recipe for Python 2.7: it must be 3.11 or 3.13\n"


@pytest.mark.parametrize("end", ["", "/"])
def test_a_mirror_that_is_named_stands_for_all_of_this_machines_own(tmp_path: Path, end: str) -> None:
    own = f"http://mirror.example/debian/ {codename() or 'none'} main\n"
    given = arguments(tmp_path, "python", "3.13", own, APT_MIRROR=f"http://named.example/debian{end}")
    lines = [argument.partition("] ")[2] for argument in given if argument.startswith("deb ")]
    assert lines == [
        "http://named.example/debian trixie main",
        "http://named.example/debian trixie-updates main",
        "http://named.example/debian-security trixie-security main",
    ]
