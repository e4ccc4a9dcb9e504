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


def arguments(tmp_path: Path, recipe: str, version: str, targets: str | None, **variables: str) -> list[str]:
    """Return what a recipe gives mmdebstrap with these apt sources (None: the real ones), and variables."""
    programs = {
        "mmdebstrap": 'for argument; do printf "%s\\n" "$argument"; done',
        "apt-config": f"cat <<'END'\n{CONFIG}END",
    }
    if targets is not None:
        programs["apt-get"] = f"cat <<'END'\n{targets}END"
    for name, script in programs.items():
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
        f"https://other.example/debian {own} stable\n"
    )
    given = arguments(tmp_path, recipe, version, targets)
    first = given.index(suite)
    signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example"
    expected = [f"{signed}/debian/ {suite} main", f"{signed}/security/ {suite}-security main"] if codename() else []
    assert given[first:] == [suite, "-", *expected]


def test_mmdebstrap_without_own_mirrors_uses_public_ones(tmp_path: Path) -> None:
    """If this machine has no Debian mirrors of its own, mmdebstrap uses the public ones."""
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
def test_apt_mirror_overrides_the_mirrors_of_this_machine(tmp_path: Path, end: str) -> None:
    """APT_MIRROR replaces all mirrors of this machine, including the one for security updates."""
    own = f"http://mirror.example/debian/ {codename() or 'none'} main\n"
    given = arguments(tmp_path, "python", "3.13", own, APT_MIRROR=f"http://named.example/debian{end}")
    lines = [argument.partition("] ")[2] for argument in given if argument.startswith("deb ")]
    assert lines == [
        "http://named.example/debian trixie main",
        "http://named.example/debian trixie-updates main",
        "http://named.example/debian-security trixie-security main",
    ]


LIST = "deb http://mirror.example/debian/ {own} main contrib\ndeb http://mirror.example/security {own}-security main\n"
RELEASE = """\
Codename: {own}
Date: Fri, 27 Nov 2026 00:00:00 UTC
Components: main contrib
Architectures: amd64
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
"""
SOURCES = """\
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: {own}
Components: main contrib

Types: deb
URIs: http://mirror.example/security
Suites: {own}-security
Components: main
"""


@pytest.mark.skipif(not codename(), reason="only Debian has sources of Debian")
@pytest.mark.parametrize("fetched", ["all", "some", "none"])
@pytest.mark.parametrize(("name", "content"), [("own.list", LIST), ("own.sources", SOURCES)])
def test_sources_do_not_depend_on_what_apt_has_fetched(tmp_path: Path, name: str, content: str, fetched: str) -> None:
    """What is in an image must not depend on what the machine did before."""
    own = codename()
    parts, lists = tmp_path / "sources", tmp_path / "lists"
    for folder in (parts, lists / "partial"):
        folder.mkdir(parents=True)
    (parts / name).write_text(content.format(own=own))
    indexes = {"all": ["debian_dists_" + own, f"security_dists_{own}-security"], "some": ["debian_dists_" + own]}
    for index in indexes.get(fetched, []):
        (lists / f"mirror.example_{index}_Release").write_text(RELEASE.format(own=own))
        (lists / f"mirror.example_{index}_main_binary-amd64_Packages").touch()
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\nDir::State::lists "{lists}";\n'
        'APT::Architecture "amd64";\nAPT::Architectures {"amd64";};\n'
    )
    given = arguments(tmp_path, "python", "3.13", None, APT_CONFIG=str(config))
    lines = [argument.partition("] ")[2] for argument in given if argument.startswith("deb ")]
    assert lines == [
        "http://mirror.example/debian/ trixie main",
        "http://mirror.example/security/ trixie-security main",
    ]


@pytest.mark.skipif(not codename(), reason="only Debian has sources of Debian")
def test_security_suite_without_a_source_is_beside_the_archive(tmp_path: Path) -> None:
    given = arguments(tmp_path, "python", "3.13", f"http://mirror.example/debian/ {codename()} main\n")
    lines = [argument.partition("] ")[2] for argument in given if argument.startswith("deb ")]
    assert lines == [
        "http://mirror.example/debian/ trixie main",
        "http://mirror.example/debian-security trixie-security main",
    ]
